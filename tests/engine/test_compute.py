"""ComputeConfig networks compute: in batches of one shape, compiled once, the same counts whatever the batch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch._dynamo.testing import CompileCounter

from bench.engine.compute import ComputeConfig, FixedRows, compute_of, eager, prepare_network
from bench.engine.engine import Engine, LoadError
from bench.records import Block, Cell, Task
from bench.sweep import preset
from bench.sweep.plan import make_plan

CPU = torch.device("cpu")


class Strict(nn.Module):
    """Takes batches of one size only, and adds each row's numbers."""

    def __init__(self, rows):
        super().__init__()
        self.rows, self.calls = rows, 0

    def forward(self, x, t):
        assert len(x) == len(t) == self.rows
        self.calls += 1
        return x.sum((1, 2), keepdim=True) + t[:, None, None]


@given(batch=st.integers(1, 40), rows=st.integers(1, 13), reused=st.booleans())
def test_a_network_of_fixed_rows_gives_every_row_what_it_gives_alone(batch, rows, reused):
    x, t = torch.arange(batch * 6.0).view(batch, 2, 3), torch.arange(batch) * 0.5
    strict = Strict(rows)
    fixed = FixedRows(strict, rows, reused)
    assert torch.equal(fixed(x, t), x.sum((1, 2), keepdim=True) + t[:, None, None])
    assert strict.calls == -(-batch // rows)


def test_an_output_that_the_next_call_overwrites_is_copied():
    memory = torch.zeros(3, 1)
    fixed = FixedRows(lambda x: memory.copy_(x), 3, reused=True)
    first = fixed(torch.ones(3, 1))
    fixed(torch.full((3, 1), 7.0))
    assert torch.equal(first, torch.ones(3, 1))


def test_channels_last_changes_the_layout_and_not_the_function():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8), nn.SiLU())
    x = torch.randn(4, 3, 8, 8)
    before = network(x)
    after = prepare_network(network, {"channels_last": True}, CPU)(x)
    assert torch.allclose(before, after, atol=1e-5)


@pytest.fixture
def shapes(monkeypatch):
    """torch.compile leaves networks as they are, and notes the shapes that each is called with."""
    seen: dict[int, set] = {}

    def watched(network, dynamic, mode):
        assert not dynamic and mode == "default"
        noted = seen.setdefault(len(seen), set())

        def call(*inputs):
            noted.add(tuple(tuple(x.shape) for x in inputs))
            return network(*inputs)

        return call

    monkeypatch.setattr(torch, "compile", watched)
    return seen


def engine_of(path, **overrides):
    planned = make_plan(preset.load_preset(str(path), overrides), "cpu")
    images = {i: planned.split.images[i] for i in planned.images}
    return Engine(images, planned.weights, CPU, planned.plugin_files), planned


def votes_of(engine, cell, images, draws, together):
    blocks = [Block(cell.key, image, "estimate", 0, draws) for image in images]
    tasks = [Task(cell, tuple(blocks[k : k + together])) for k in range(0, len(blocks), together)]
    return [counts.votes for task in tasks for counts in engine.run(task)]


def test_a_compiled_cell_counts_the_same_for_any_batch_and_nothing_is_compiled_twice(tiny_preset, shapes):
    path = tiny_preset(purifiers=["pf-ode:steps=2"], images=4)
    engine, planned = engine_of(path)
    cell = ComputeConfig(compile="default", rows=7).apply(planned.cells[0])
    one = votes_of(engine, cell, planned.images, 10, 1)
    assert votes_of(engine, cell, planned.images, 10, 4) == one == votes_of(engine, cell, planned.images, 10, 3)
    network, classifier = shapes.values()
    assert network == {((7, 1, 28, 28), (7,))} and classifier == {((7, 1, 28, 28),)}
    plain, _ = engine_of(path)
    assert votes_of(plain, planned.cells[0], planned.images, 10, 2) == one  # nothing was compiled in truth


@pytest.mark.parametrize("purifier", ["onestep-edm", "pf-ode:steps=3"])
def test_batches_of_any_size_compile_nothing_anew(tiny_preset, monkeypatch, purifier):
    counting, real = CompileCounter(), torch.compile
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", lambda m, dynamic, mode: real(m, dynamic=dynamic, backend=counting))
    engine, planned = engine_of(tiny_preset(purifiers=[purifier], images=2))
    cell = ComputeConfig(compile="default", rows=10, channels_last=True).apply(planned.cells[0])
    votes_of(engine, cell, planned.images, 10, 1)
    compiled = counting.frame_count
    assert compiled > 0
    for draws in (20, 7, 30, 1):
        votes_of(engine, cell, planned.images, draws, 2)
    assert counting.frame_count == compiled
    torch._dynamo.reset()


def test_networks_of_one_architecture_keep_their_own_weights_when_compiled(tiny_preset, monkeypatch):
    """torch shares what it compiled between modules of a class; this is its own tracing, which generates no code."""
    counting, real = CompileCounter(), torch.compile
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", lambda m, dynamic, mode: real(m, dynamic=dynamic, backend=counting))
    engine, planned = engine_of(tiny_preset(purifiers=["onestep-edm", "onestep-edm-ft"], images=2))
    shown = {}
    for cell in planned.cells:
        fast, plain = (
            engine.show(c, planned.images)[1] for c in (ComputeConfig(compile="default", rows=4).apply(cell), cell)
        )
        assert abs(fast - plain).max() < 1e-5
        shown[cell.purifier] = fast
    assert abs(shown["onestep-edm"] - shown["onestep-edm-ft"]).max() > 1e-3
    assert counting.frame_count > 0
    torch._dynamo.reset()


def test_compiling_is_reported_apart_from_the_cost_of_blocks(tiny_preset, shapes):
    engine, planned = engine_of(tiny_preset(purifiers=["onestep-edm"], images=2))
    cell = ComputeConfig(compile="default", rows=4).apply(planned.cells[0])
    block = Block(cell.key, planned.images[0], "estimate", 0, 4)
    (first,), (second,) = engine.run(Task(cell, (block,))), engine.run(Task(cell, (block,)))
    assert set(first.start_s) == {"load_s", "compile_s", "warm_up_s"} and min(first.start_s.values()) > 0
    assert not second.start_s
    assert first.votes == second.votes


def test_a_network_that_cannot_be_compiled_is_refused_with_the_remedy(tiny_preset, monkeypatch):
    def broken(*_, **__):
        def call(*_):
            raise RuntimeError("no C++ compiler")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    engine, planned = engine_of(tiny_preset(purifiers=["onestep-edm"]))
    cell = ComputeConfig(compile="default", rows=4).apply(planned.cells[0])
    with pytest.raises(LoadError, match=r"network 'edm'.*no C\+\+ compiler.*--compile no"):
        engine.run(Task(cell, (Block(cell.key, planned.images[0], "estimate", 0, 4),)))


@pytest.mark.parametrize(
    ("options", "said"), [(("--precision", "tf32"), "fp32 or bf16"), (("--compile", "reduce-overhead"), "'default'")]
)
def test_what_the_device_cannot_do_is_refused_before_anything_is_counted(cli, tiny_preset, tmp_path, options, said):
    result = cli("run", tiny_preset(), "--no-plots", "--out", tmp_path / "out", *options)
    assert result.exit_code != 0 and said in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_way_to_compute_is_part_of_a_cells_identity():
    fields = {"purifier": "p", "parameters": {}, "classifier": "c", "classifier_parameters": {}, "dataset": "d"}
    fields |= {"data_hash": "", "sigma": 0.5, "seed": 0, "precision": "fp32", "device_type": "cpu", "hashes": {}}
    plain = Cell(**fields)
    assert plain.key == Cell(**fields, compute={}).key == Cell.from_json(plain.to_json()).key
    ways = [{}, {"rows": 8}, {"compile": "default"}, {"channels_last": True}, {"precision": "bf16"}]
    keys = {ComputeConfig(**way).apply(plain).key for way in [*ways, {"classifier": "bf16"}]}
    assert len(keys) == len(ways) + 1
    assert ComputeConfig(classifier="fp32").apply(plain).key == ComputeConfig().apply(plain).key


def test_only_networks_that_compute_differently_add_facts_to_a_cell():
    fields = {"purifier": "p", "parameters": {}, "classifier": "c", "classifier_parameters": {}, "dataset": "d"}
    fields |= {"data_hash": "", "sigma": 0.5, "seed": 0, "precision": "fp32", "device_type": "cpu"}
    both = Cell(**fields, hashes={"network a": "1", "network b": "2"})
    alike = ComputeConfig(precision="bf16", compile="default", differing={"classifier": {"compile": "default"}})
    assert alike.apply(both) == ComputeConfig(precision="bf16", compile="default").apply(both)
    one = replace(alike, differing={"a": {"precision": "fp32", "compile": "no"}, "classifier": {"compile": "no"}})
    cell = one.apply(both)
    assert cell.compute["networks"] == {"a": {"precision": "fp32", "compile": "no"}} and cell.precision == "bf16"
    assert compute_of(cell, "a") == {"precision": "fp32", "rows": 100}
    assert compute_of(cell, "b") == {"precision": "bf16", "rows": 100, "compile": "default"}
    assert compute_of(cell, "classifier") == {"precision": "bf16", "rows": 100}
    assert Cell.from_json(cell.to_json()).key == cell.key != alike.apply(both).key
    lone = Cell(**fields, hashes={"network a": "1"})  # all of its networks compute alike: no exception is recorded
    assert one.apply(lone) == ComputeConfig().apply(lone)
    assert compute_of(eager(cell, 7), "b") == {"precision": "bf16", "rows": 7}


def test_a_preset_and_the_command_line_write_out_how_one_network_computes(tiny_preset):
    path = tiny_preset(compile="default", compute={"classifier": {"compile": "no"}})
    given = preset.load_preset(str(path), {"compute": ["edm.precision=bf16"]})
    assert given.compute == {"classifier": {"compile": "no"}, "edm": {"precision": "bf16"}}
    for wrong, said in (("edm=bf16", "NETWORK.OPTION=VALUE"), ("edm.speed=2", "speed"), ("edm.precision=bf17", "bf16")):
        with pytest.raises(preset.PresetError, match=said):
            preset.load_preset(str(path), {"compute": [wrong]})
    with pytest.raises(preset.PresetError, match="its own parameter"):
        preset.load_preset(str(path), {"compute": ["classifier.precision=bf16"]})
