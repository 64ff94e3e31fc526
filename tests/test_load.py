"""One way in for every checkpoint: what is recognised, what is in doubt, what is refused, and how presets name it."""

from __future__ import annotations

import json
import shutil

import foreign
import msgpack
import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from purifiers.nets import convert, load, openai
from purifiers.nets.cards import WeightsError
from purifiers.nets.denoisers import ConsistencyFunction, EDMDenoiser, VPDenoiser

ADM_FLAGS = {**foreign.FLAGS, "sigma_min": 0.002, "sigma_max": 80.0}
CHAIN = {"diffusion_steps": 100, "noise_schedule": "cosine", "learn_sigma": True, "rescale_timesteps": True}


@pytest.fixture
def folder(tmp_path):
    """A factory of folders: tensors (as safetensors or as a torch file) beside a config.json."""

    def write(state, config, weights="weights.safetensors", name="network"):
        path = tmp_path / name
        path.mkdir(exist_ok=True)
        if weights.endswith(".safetensors"):
            save_file(state, path / weights)
        else:
            torch.save(state, path / weights)
        if config is not None:
            (path / "config.json").write_text(json.dumps(config))
        return path

    return write


@pytest.fixture
def edm(folder):
    return folder(foreign.song_state(), {"constructor_kwargs": foreign.SONG})


def pack(array):
    return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))


# --- what is recognised


@pytest.mark.parametrize(
    ("flags", "pointwise", "made"),
    [
        ({**ADM_FLAGS, **CHAIN}, 1, VPDenoiser),
        ({**ADM_FLAGS, "weight_schedule": "karras"}, 2, EDMDenoiser),
        ({**ADM_FLAGS, "weight_schedule": "uniform"}, 2, ConsistencyFunction),
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
    state = foreign.openai_state(ADM_FLAGS, 2)
    path = folder(state, {"flags": ADM_FLAGS})
    with pytest.raises(WeightsError, match=r"does not say.*cm-edm.*cm-consistency"):
        load(path)
    assert type(load(path, "cm-edm")) is type(load(path, "edm")) is type(load(f"edm:{path}")) is EDMDenoiser
    assert type(load(path, kind="consistency")) is ConsistencyFunction
    path = folder(state, {"flags": ADM_FLAGS, "kind": "cm-consistency"}, name="stated")
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


@pytest.mark.parametrize("name", openai.RELEASED)
def test_released_checkpoints_are_recognised_by_their_shapes_alone(name):
    """At full size, without a number: what a bare file of OpenAI's is, follows from its tensors' shapes."""
    consistency = name.startswith("consistency_models")
    state = foreign.openai_state(openai.RELEASED[name], 2 if consistency else 1, numbers=False)
    assert openai.released_flags(state) == openai.RELEASED[name]
    read = openai.read("cm-consistency" if consistency else "iddpm", state, None)
    assert sum(t.numel() for t in read.state.values()) / 1e6 == pytest.approx(RELEASED_SIZES[name], abs=0.1)
    with pytest.raises(WeightsError, match="it lacks out\\.2\\.bias"):
        openai.read("iddpm", without(state, "out.2.bias"), None)


# --- networks without a published fixture, against the architecture written out by hand


def adm_by_hand(s, v, time, y, arguments):
    """EDM's DhariwalUNet as its paper's appendix has it, layer by layer, from its own state dict."""
    width, multiples, blocks = arguments["model_channels"], arguments["channel_mult"], arguments["num_blocks"]
    resolution, attends = arguments["img_resolution"], arguments["attn_resolutions"]

    def norm(x, name):
        return F.group_norm(x, min(32, x.shape[1] // 4), s[f"{name}.weight"], s[f"{name}.bias"], 1e-5)

    def conv(x, name):
        return F.conv2d(x, s[f"{name}.weight"], s[f"{name}.bias"], padding=s[f"{name}.weight"].shape[-1] // 2)

    def block(x, name, resample=lambda x: x):
        h = conv(resample(F.silu(norm(x, f"{name}.norm0"))), f"{name}.conv0")
        scale, shift = F.linear(emb, s[f"{name}.affine.weight"], s[f"{name}.affine.bias"])[..., None, None].chunk(2, 1)
        h = conv(F.silu(norm(h, f"{name}.norm1") * (1 + scale) + shift), f"{name}.conv1")
        x = resample(x)
        x = h + (conv(x, f"{name}.skip") if f"{name}.skip.weight" in s else x)
        if f"{name}.qkv.weight" in s:
            heads = x.shape[1] // 64
            q, k, v = conv(norm(x, f"{name}.norm2"), f"{name}.qkv").reshape(len(x) * heads, 64, 3, -1).unbind(2)
            weights = torch.einsum("ncq,nck->nqk", q, k / 8).softmax(2)
            x = x + conv(torch.einsum("nqk,nck->ncq", weights, v).reshape(x.shape), f"{name}.proj")
        return x

    frequencies = 10_000 ** (-torch.arange(width // 2) / (width // 2))
    phase = time[:, None] * frequencies
    emb = F.linear(torch.cat([phase.cos(), phase.sin()], 1), s["map_layer0.weight"], s["map_layer0.bias"])
    emb = F.linear(F.silu(emb), s["map_layer1.weight"], s["map_layer1.bias"])
    emb = F.silu(emb + F.one_hot(y, arguments["label_dim"]).float() @ s["map_label.weight"].T)
    x = conv(v, f"enc.{resolution}x{resolution}_conv")
    kept = [x]
    for level in range(len(multiples)):
        at = f"{resolution >> level}x{resolution >> level}"
        if level:
            x = block(x, f"enc.{at}_down", lambda x: F.avg_pool2d(x, 2))
            kept.append(x)
        for i in range(blocks):
            x = block(x, f"enc.{at}_block{i}")
            assert (f"enc.{at}_block{i}.qkv.weight" in s) == (resolution >> level in attends)
            kept.append(x)
    x = block(block(x, f"dec.{at}_in0"), f"dec.{at}_in1")
    for level in reversed(range(len(multiples))):
        at = f"{resolution >> level}x{resolution >> level}"
        if level < len(multiples) - 1:
            x = block(x, f"dec.{at}_up", lambda x: F.interpolate(x, scale_factor=2, mode="nearest"))
        for i in range(blocks + 1):
            x = block(torch.cat([x, kept.pop()], 1), f"dec.{at}_block{i}")
    return conv(F.silu(norm(x, "out_norm")), "out_conv")


ADM = {
    **{"img_resolution": 8, "img_channels": 3, "label_dim": 5, "model_type": "DhariwalUNet", "model_channels": 64},
    **{"channel_mult": [1, 2], "num_blocks": 1, "attn_resolutions": [4], "use_fp16": True, "dropout": 0.1},
}


def adm_state():
    from purifiers.nets import edm as edm_nets
    from purifiers.nets.cards import Card
    from purifiers.nets.files import lay_out

    given = {k: v for k, v in ADM.items() if k not in (*edm_nets.UNUSED, "model_type", "img_channels")}
    made = edm_nets.dhariwal({**given, "in_channels": 3, "out_channels": 3}, {})
    network = lay_out(Card("edm", made.architecture, {}, network=made.network))
    state = foreign.random_state(network, made.modules, made.exact, size=2)
    state["map_label.weight"] = state["map_label.weight"].T.contiguous()
    return state


@torch.no_grad()
def test_edms_imagenet_architecture_computes_what_is_written_out_by_hand(folder):
    state = adm_state()
    path = folder({f"model.{name}": tensor for name, tensor in state.items()}, {"constructor_kwargs": ADM})
    network = load(path)
    u, t, y = torch.randn(3, 3, 8, 8), torch.tensor([0.1, 1.0, 3.0]), torch.tensor([0, 4, 2])
    c_in = 1 / (t**2 + 0.25).sqrt().view(-1, 1, 1, 1)
    raw = adm_by_hand(state, c_in * u, t.log() / 4, y, ADM)
    assert torch.allclose(network.network(c_in * u, t.log() / 4, y), raw, atol=1e-4, rtol=1e-4)
    wide = t.view(-1, 1, 1, 1)
    expected = 0.25 / (wide**2 + 0.25) * u + wide * 0.5 / (wide**2 + 0.25).sqrt() * raw
    assert torch.allclose(network.denoise(u, t, labels=y), expected, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_resampling_filter_is_that_of_diffusers(folder):
    """Ours is a depthwise convolution, theirs filters at full resolution; the numbers are the same."""
    from diffusers.models.downsampling import downsample_2d
    from diffusers.models.upsampling import upsample_2d

    from purifiers.nets.songunet import FIR

    x, taps = torch.randn(2, 5, 8, 8), (1, 3, 3, 1)
    assert torch.allclose(FIR(taps, "down")(x), downsample_2d(x, taps), atol=1e-6)
    assert torch.allclose(FIR(taps, "up")(x), upsample_2d(x, taps), atol=1e-6)


# --- labels


@pytest.fixture
def conditional(folder):
    flags = {**ADM_FLAGS, "weight_schedule": "uniform"}
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


# --- what is refused


def without(state, name):
    return {n: t for n, t in state.items() if n != name}


SONG_DAMAGE = {
    "it lacks model.enc.8x8_conv.weight": lambda s: without(s, "model.enc.8x8_conv.weight"),
    "it lacks model.map_noise.freqs": lambda s: without(s, "model.map_noise.freqs"),
    "it lacks model.dec.4x4_in0.qkv.bias": lambda s: without(s, "model.dec.4x4_in0.qkv.bias"),
    "it has no use for enc.8x8_extra.weight": lambda s: {**s, "model.enc.8x8_extra.weight": torch.ones(2)},
    r"enc.8x8_conv.weight \[8, 3, 5, 5\] where \[8, 3, 3, 3\]": lambda s: {
        **s,
        "model.enc.8x8_conv.weight": torch.ones(8, 3, 5, 5),
    },
    "resample_filter is not the filter": lambda s: {
        **s,
        "model.enc.4x4_down.conv0.resample_filter": torch.ones(1, 1, 4, 4),
    },
}


@pytest.mark.parametrize("reason", SONG_DAMAGE)
def test_an_edm_state_with_a_wrong_entry_is_refused_by_its_name(folder, reason):
    path = folder(SONG_DAMAGE[reason](foreign.song_state()), {"constructor_kwargs": foreign.SONG})
    with pytest.raises(WeightsError, match=reason.replace("model.", "")):
        load(path)


@pytest.mark.parametrize("name", ["input_blocks.0.0.weight", "middle_block.1.qkv.weight", "label_emb.weight"])
def test_an_openai_state_with_a_missing_entry_is_refused_by_its_name(folder, name):
    flags = {**ADM_FLAGS, "weight_schedule": "uniform"}
    path = folder(without(foreign.openai_state(flags, 2), name), {"flags": flags})
    with pytest.raises(WeightsError, match=f"it lacks {name}"):
        load(path)


def test_an_openai_state_with_an_extra_entry_is_refused_by_its_name(folder):
    flags = {**ADM_FLAGS, "weight_schedule": "uniform"}
    state = {**foreign.openai_state(flags, 2), "input_blocks.0.0.scale": torch.ones(1)}
    with pytest.raises(WeightsError, match=r"no use for input_blocks\.0\.0\.scale"):
        load(folder(state, {"flags": flags}))


@pytest.mark.parametrize(
    "change",
    [{"model_channels": 16}, {"num_blocks": 2}, {"encoder_type": "standard"}, {"attn_resolutions": []}],
    ids=str,
)
def test_a_checkpoint_of_another_architecture_is_refused(folder, change):
    path = folder(foreign.song_state(), {"constructor_kwargs": {**foreign.SONG, **change}})
    with pytest.raises(WeightsError, match="of another architecture"):
        load(path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "VideoUNet"}, "VideoUNet"),
        ({"decoder_type": "skip"}, "decoder_type"),
        ({"encoder_type": "skip"}, "encoder_type"),
        ({"guidance": 3}, "guidance"),
        ({"img_resolution": "eight"}, "arguments"),
    ],
)
def test_arguments_that_are_not_supported_are_refused_by_name(folder, change, named):
    path = folder(foreign.song_state(), {"constructor_kwargs": {**foreign.SONG, **change}})
    with pytest.raises(WeightsError, match=named):
        load(path)


def test_a_flag_on_which_the_repositories_disagree_must_be_given(folder):
    flags = {**ADM_FLAGS, **without(CHAIN, "rescale_timesteps")}
    path = folder(foreign.openai_state(flags, 1), {"flags": flags})
    with pytest.raises(WeightsError, match="do not say rescale_timesteps"):
        load(path)


def test_arguments_of_another_family_are_refused(folder):
    path = folder(foreign.song_state(), {"flags": foreign.FLAGS})
    with pytest.raises(WeightsError, match=r"another architecture: config\.json has flags.*want constructor_kwargs"):
        load(path)


def test_a_kind_that_the_content_is_not_is_refused(edm):
    with pytest.raises(WeightsError, match="that of edm, not of iddpm"):
        load(edm, "iddpm")


def test_a_kind_that_there_is_none_of_is_refused_with_the_list(edm):
    with pytest.raises(WeightsError, match=r"unknown kind 'flow'.*jcm-consistency: "):
        load(edm, "flow")


def test_a_bare_checkpoint_of_no_released_architecture_asks_for_its_arguments(tmp_path):
    torch.save(foreign.openai_state({**ADM_FLAGS, **CHAIN}, 1), tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"released ones.*put a config\.json"):
        load(tmp_path / "model.pt")
    save_file(foreign.song_state(), tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"config\.json"):
        load(tmp_path / "model.safetensors")


@pytest.mark.parametrize("state", [{"layer1.weight": torch.ones(2)}, {"down_blocks.0.weight": torch.ones(2)}])
def test_a_network_that_nobody_knows_is_refused_with_what_it_holds(tmp_path, state):
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match=r"layer1\.weight|give the folder"):
        load(tmp_path / "model.pt")


@pytest.mark.parametrize("content", [{"step": 3}, [1, 2], {"state_dict": {"a": torch.ones(1)}}, {}])
def test_a_torch_file_that_is_no_state_dict_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="no plain state dict"):
        load(tmp_path / "model.pt")


@pytest.mark.parametrize("weights", ["weights.safetensors", "weights.pt"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_a_file_that_is_cut_off_is_refused(folder, weights, part):
    path = folder(foreign.song_state(), {"constructor_kwargs": foreign.SONG}, weights)
    content = (path / weights).read_bytes()
    (path / weights).write_bytes(content[: int(part * len(content))])
    with pytest.raises(WeightsError, match=r"empty|cut off or damaged"):
        load(path)


@pytest.mark.parametrize(
    ("tree", "reason"),
    [
        ({"step": 1, "params": {}}, "no training state with params_ema: it holds step, params"),
        ([1], "list"),
        ({"params_ema": {"ResnetBlockBigGANpp_0": {"W": 3}}}, "ResnetBlockBigGANpp_0/W is int, not an array"),
        ({"params_ema": {"a": msgpack.ExtType(1, msgpack.packb(((9,), "float32", b"123")))}}, "a is damaged"),
        ({"params_ema": {"a": msgpack.ExtType(1, msgpack.packb(((1,), "O", bytes(8))))}}, "a is damaged"),
        ({"params_ema": {"a": msgpack.ExtType(2, b"")}}, "a is ExtType, not an array"),
        ({"params_ema": {"ResnetBlockBigGANpp_0": {"b": pack(np.ones(3, np.float32))}}}, "it lacks "),
    ],
)
def test_a_flax_file_that_is_no_network_is_refused_with_the_reason(tmp_path, tree, reason):
    path = tmp_path / "checkpoint.msgpack"
    path.write_bytes(msgpack.packb(tree) if isinstance(tree, dict) else b"\x81" + msgpack.packb(tree))
    with pytest.raises(WeightsError, match=reason if isinstance(tree, dict) else "cut off or damaged"):
        load(path, "jcm-edm")


def test_a_flax_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "checkpoint_80"
    path.write_bytes(msgpack.packb({"params_ema": {"a": pack(np.ones(100, np.float32))}})[:-50])
    with pytest.raises(WeightsError, match="cut off or damaged"):
        load(path, "jcm-edm")


def test_a_text_file_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("weights will follow")
    with pytest.raises(WeightsError, match="no safetensors, torch, pickle or msgpack file"):
        load(tmp_path / "notes.txt")


def test_a_folder_with_two_weight_files_is_refused_with_their_names(edm):
    shutil.copy(edm / "weights.safetensors", edm / "older.safetensors")
    with pytest.raises(WeightsError, match=r"one weight file.*older\.safetensors, weights\.safetensors"):
        load(edm)


def test_a_converted_file_ends_in_safetensors(edm, tmp_path):
    with pytest.raises(WeightsError, match=r"must end in \.safetensors"):
        convert(edm, tmp_path / "network.pt")


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
    monkeypatch.setenv("PURIFYBENCH_NETWORKS", str(tmp_path / "networks"))
    preset = tiny_preset(networks={"cm": "checkpoint_120"}, purifiers=["consistency"])
    result = cli("run", preset, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert str(tmp_path / "networks" / "checkpoint_120" / "checkpoint_120") in result.stderr
    assert "SHA-256" in result.stderr
