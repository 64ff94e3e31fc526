"""One way in for every checkpoint: what is recognised, and how presets name it."""

from __future__ import annotations

from functools import partial

import foreign
import pandas as pd
import pytest
import torch

from purifiers.nets import convert, load
from purifiers.nets.checkpoints import openai
from purifiers.nets.denoisers import ConsistencyFunction, EDMDenoiser, VPDenoiser
from purifiers.nets.hub.cards import WeightsError


@pytest.fixture
def folder(tmp_path):
    """A factory of folders: tensors (as safetensors or as a torch file) beside a config.json."""
    return partial(foreign.folder, tmp_path)


@pytest.fixture
def edm(folder):
    return folder(foreign.song_state(), {"constructor_kwargs": foreign.SONG})


# --- what is recognised


@pytest.mark.parametrize(
    ("flags", "pointwise", "made"),
    [
        ({**foreign.ADM_FLAGS, **foreign.CHAIN}, 1, VPDenoiser),
        ({**foreign.ADM_FLAGS, "weight_schedule": "karras"}, 2, EDMDenoiser),
        ({**foreign.ADM_FLAGS, "weight_schedule": "uniform"}, 2, ConsistencyFunction),
    ],
)
def test_openais_networks_are_told_apart_by_content_and_flags(folder, flags, pointwise, made):
    state = foreign.openai_state(flags, pointwise)
    for weights in ("weights.pt", "weights.safetensors"):
        path = folder(state, {"flags": flags}, weights, name=weights)
        for source in (path, path / weights):
            network = load(source)
            assert type(network) is made and network.classes == 1000
            assert not any(p.requires_grad for p in network.parameters()) and not network.training


def test_a_kind_may_be_stated_by_the_configuration_or_by_the_caller(folder):
    state = foreign.openai_state(foreign.ADM_FLAGS, 2)
    path = folder(state, {"flags": foreign.ADM_FLAGS})
    with pytest.raises(WeightsError, match=r"is ambiguous.*cm-edm.*cm-consistency"):
        load(path)
    assert type(load(path, "cm-edm")) is type(load(path, "edm")) is type(load(f"edm:{path}")) is EDMDenoiser
    assert type(load(path, kind="consistency")) is ConsistencyFunction
    path = folder(state, {"flags": foreign.ADM_FLAGS, "kind": "cm-consistency"}, name="stated")
    assert type(load(path)) is ConsistencyFunction
    assert type(load(path, "cm-edm")) is EDMDenoiser  # who asks knows better


def test_a_configuration_may_be_the_arguments_themselves(folder, edm):
    plain = folder(foreign.song_state(), foreign.SONG, name="plain")
    u = torch.randn(1, 3, 8, 8)
    assert torch.equal(load(plain)(u, 1.0), load(edm)(u, 1.0))


def test_torch_files_of_before_2020_are_read_too(tmp_path, folder):
    path = folder(foreign.song_state(), {"constructor_kwargs": foreign.SONG}, "weights.pt")
    expected = load(path)(torch.ones(1, 3, 8, 8), 1.0)
    torch.save(foreign.song_state(), path / "weights.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(load(path)(torch.ones(1, 3, 8, 8), 1.0), expected)


def test_our_own_networks_load_by_name_file_and_kind():
    by_name = load("mnist5k/edm")
    u = torch.randn(1, 1, 28, 28)
    assert torch.equal(load("card:mnist5k/edm")(u, 1.0), by_name(u, 1.0))
    assert type(load("mnist5k/cm")) is ConsistencyFunction and type(load("mnist5k/ddpm")) is VPDenoiser


def test_loading_draws_no_random_number(edm):
    before = torch.get_rng_state()
    load(edm)
    assert torch.equal(torch.get_rng_state(), before)


RELEASED_SIZES = {  # millions of parameters, as their papers and READMEs round them
    "improved-diffusion, CIFAR-10": 52.5,
    "improved-diffusion, ImageNet-64": 121.1,
    "guided-diffusion, ImageNet-64": 295.9,
    "consistency_models, ImageNet-64": 295.9,
}


@pytest.mark.parametrize("name", openai._RELEASED)
def test_released_checkpoints_are_recognised_by_their_shapes_alone(name):
    """At full size, without a number: what a bare file of OpenAI's is, follows from its tensors' shapes."""
    consistency = name.startswith("consistency_models")
    state = foreign.openai_state(openai._RELEASED[name], 2 if consistency else 1, numbers=False)
    assert openai._released_flags(state) == openai._RELEASED[name]
    read = openai.read("cm-consistency" if consistency else "iddpm", state, None)
    assert sum(t.numel() for t in read.state.values()) / 1e6 == pytest.approx(RELEASED_SIZES[name], abs=0.1)
    with pytest.raises(WeightsError, match="it lacks out\\.2\\.bias"):
        openai.read("iddpm", foreign.without(state, "out.2.bias"), None)


@torch.no_grad()
def test_the_papers_fine_tuned_network_is_taken_from_its_place_as_a_consistency_model(tmp_path, monkeypatch):
    """A training state as the authors' code writes it, under the name of the published file: its average is used."""
    monkeypatch.setenv("PURIFYBENCH_NETWORKS", str(tmp_path))
    params = foreign.jcm_params()
    path = foreign.jcm_file(tmp_path / "checkpoint_120" / "checkpoint_120", params)
    network = load("checkpoint_120")
    assert type(network) is ConsistencyFunction
    stem = torch.from_numpy(params["Conv_0/kernel"]).permute(3, 2, 0, 1)
    assert torch.equal(network.network.stem.weight, stem)
    u = torch.randn(2, 3, 32, 32)
    assert torch.allclose(network.consistency(u, 0.002), u, atol=1e-5)  # the boundary condition
    converted = load(convert("checkpoint_120", tmp_path / "converted.safetensors"))
    assert torch.equal(converted(u, 1.0), network(u, 1.0))
    assert (
        converted(u, 1.0).std() > 0.1 and path.stat().st_size > 3 * (tmp_path / "converted.safetensors").stat().st_size
    )


# --- labels


@pytest.fixture
def conditional(folder):
    flags = {**foreign.ADM_FLAGS, "weight_schedule": "uniform"}
    return folder(foreign.openai_state(flags, 2), {"flags": flags})


@torch.no_grad()
def test_a_conditional_network_takes_a_label_for_each_row(conditional):
    network = load(conditional)
    u, labels = torch.randn(3, 3, 8, 8), torch.tensor([0, 7, 999])
    rows = [network.consistency(u[i : i + 1], 1.0, int(labels[i])) for i in range(3)]
    assert torch.allclose(network.consistency(u, 1.0, labels), torch.cat(rows), atol=1e-5)
    assert not torch.allclose(rows[0], network.consistency(u[:1], 1.0, 1), atol=1e-3)


def test_a_conditional_network_without_a_label_asks_for_one(conditional):
    with pytest.raises(ValueError, match=r"class-conditional \(1000 classes\).*label=mean"):
        load(conditional)(torch.zeros(1, 3, 8, 8), 1.0)


@torch.no_grad()
@pytest.mark.parametrize("label", ["7", "mean"])
def test_a_label_may_be_fixed_where_the_network_is_named(conditional, label):
    network, u = load(conditional), torch.randn(2, 3, 8, 8)
    fixed = load(f"{conditional}?label={label}")
    if label == "mean":
        embedding = network.network.unet.class_embedding
        embedding.weight.copy_(embedding.weight.mean(0).expand_as(embedding.weight))
    assert torch.allclose(fixed(u, 1.0), network(u, 1.0, 7), atol=1e-6)
    assert torch.equal(load(conditional, label=label)(u, 1.0), fixed(u, 1.0))


@pytest.mark.parametrize("labels", [-1, 1000, torch.tensor([0, 1000])])
def test_labels_out_of_range_are_refused(conditional, labels):
    with pytest.raises(ValueError, match="between 0 and 999"):
        load(conditional)(torch.zeros(2, 3, 8, 8), 1.0, labels)


def test_labels_of_an_unconditional_network_are_refused(edm):
    with pytest.raises(ValueError, match="unconditional"):
        load(edm)(torch.zeros(1, 3, 8, 8), 1.0, 3)
    with pytest.raises(WeightsError, match="unconditional"):
        load(f"{edm}?label=3")


def test_a_fixed_label_out_of_range_is_refused(conditional):
    with pytest.raises(WeightsError, match="between 0 and 999"):
        load(f"{conditional}?label=1000")


# --- presets


def test_a_preset_runs_a_published_network_and_its_content_is_the_cells_identity(cli, tiny_preset, tmp_path):
    """From a diffusers folder and from a converted file, the same counts; other weights are other cells."""
    from diffusers import DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=28, in_channels=1, out_channels=1, block_out_channels=(8, 16), layers_per_block=1,
        norm_num_groups=4, down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=False,
    )  # fmt: skip
    unet.save_pretrained(tmp_path / "ddpm" / "unet")
    DDPMScheduler().save_pretrained(tmp_path / "ddpm" / "scheduler")
    converted = convert(tmp_path / "ddpm", tmp_path / "converted.safetensors")

    def counts(name, network):
        preset = tiny_preset(name, networks={"ddpm": str(network)}, purifiers=["onestep-ddpm"])
        result = cli("run", preset, "--out", tmp_path / name, "--no-plots")
        assert result.exit_code == 0, result.output
        table = pd.read_parquet(tmp_path / name / "counts.parquet").sort_values(["stage", "image", "first"])
        return set(table["cell"]), [list(votes) for votes in table["votes"]]

    first = counts("folder", tmp_path / "ddpm")
    assert counts("again", f"diffusers:{tmp_path / 'ddpm'}")[1] == counts("converted", converted)[1] == first[1]
    with torch.no_grad():
        unet.conv_in.weight.mul_(2)
    unet.save_pretrained(tmp_path / "ddpm" / "unet")
    assert counts("changed", tmp_path / "ddpm")[0] != first[0]


def test_a_preset_whose_network_cannot_be_had_is_refused_with_the_place_to_put_it(
    cli, tiny_preset, tmp_path, monkeypatch
):
    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", offline)
    monkeypatch.setenv("PURIFYBENCH_NETWORKS", str(tmp_path / "networks"))
    preset = tiny_preset(networks={"cm": "checkpoint_120"}, purifiers=["consistency"])
    result = cli("run", preset, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert str(tmp_path / "networks" / "checkpoint_120" / "checkpoint_120") in result.stderr
    assert "SHA-256" in result.stderr
