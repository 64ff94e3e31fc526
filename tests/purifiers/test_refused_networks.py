"""Checkpoints that are not what they should be are refused with the reason; nothing of them is half-loaded."""

from __future__ import annotations

import shutil
from functools import partial

import foreign
import msgpack
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from purifiers.nets import convert, load
from purifiers.nets.hub.cards import WeightsError


@pytest.fixture
def folder(tmp_path):
    """A factory of folders: tensors (as safetensors or as a torch file) beside a config.json."""
    return partial(foreign.folder, tmp_path)


@pytest.fixture
def edm(folder):
    return folder(foreign.song_state(), {"constructor_kwargs": foreign.SONG})


SONG_DAMAGE = {
    "it lacks model.enc.8x8_conv.weight": lambda s: foreign.without(s, "model.enc.8x8_conv.weight"),
    "it lacks model.map_noise.freqs": lambda s: foreign.without(s, "model.map_noise.freqs"),
    "it lacks model.dec.4x4_in0.qkv.bias": lambda s: foreign.without(s, "model.dec.4x4_in0.qkv.bias"),
    "it has unknown entries enc.8x8_extra.weight": lambda s: {**s, "model.enc.8x8_extra.weight": torch.ones(2)},
    r"enc.8x8_conv.weight \[8, 3, 5, 5\] instead of \[8, 3, 3, 3\]": lambda s: {
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
    flags = {**foreign.ADM_FLAGS, "weight_schedule": "uniform"}
    path = folder(foreign.without(foreign.openai_state(flags, 2), name), {"flags": flags})
    with pytest.raises(WeightsError, match=f"it lacks {name}"):
        load(path)


def test_an_openai_state_with_an_extra_entry_is_refused_by_its_name(folder):
    flags = {**foreign.ADM_FLAGS, "weight_schedule": "uniform"}
    state = {**foreign.openai_state(flags, 2), "input_blocks.0.0.scale": torch.ones(1)}
    with pytest.raises(WeightsError, match=r"unknown entries input_blocks\.0\.0\.scale"):
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
    flags = {**foreign.ADM_FLAGS, **foreign.without(foreign.CHAIN, "rescale_timesteps")}
    path = folder(foreign.openai_state(flags, 1), {"flags": flags})
    with pytest.raises(WeightsError, match="lack rescale_timesteps"):
        load(path)


def test_arguments_of_another_family_are_refused(folder):
    path = folder(foreign.song_state(), {"flags": foreign.FLAGS})
    with pytest.raises(WeightsError, match=r"another architecture: config\.json has flags.*need constructor_kwargs"):
        load(path)


def test_a_kind_that_the_content_is_not_is_refused(edm):
    with pytest.raises(WeightsError, match="that of edm, not of iddpm"):
        load(edm, "iddpm")


def test_a_kind_that_there_is_none_of_is_refused_with_the_list(edm):
    with pytest.raises(WeightsError, match=r"unknown kind 'flow'.*jcm-consistency: "):
        load(edm, "flow")


def test_a_bare_checkpoint_of_no_released_architecture_asks_for_its_arguments(tmp_path):
    torch.save(foreign.openai_state({**foreign.ADM_FLAGS, **foreign.CHAIN}, 1), tmp_path / "model.pt")
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
        ({"params_ema": {"ResnetBlockBigGANpp_0": {"b": foreign.pack(np.ones(3, np.float32))}}}, "it lacks "),
    ],
)
def test_a_flax_file_that_is_no_network_is_refused_with_the_reason(tmp_path, tree, reason):
    path = tmp_path / "checkpoint.msgpack"
    path.write_bytes(msgpack.packb(tree) if isinstance(tree, dict) else b"\x81" + msgpack.packb(tree))
    with pytest.raises(WeightsError, match=reason if isinstance(tree, dict) else "cut off or damaged"):
        load(path, "jcm-edm")


JCM_DAMAGE = {
    "it lacks Conv_0/kernel": lambda p: foreign.without(p, "Conv_0/kernel"),
    "it lacks GaussianFourierProjection_0/W": lambda p: foreign.without(p, "GaussianFourierProjection_0/W"),
    "it has unknown entries Conv_9/kernel": lambda p: {**p, "Conv_9/kernel": np.ones((3, 3, 8, 8), np.float32)},
    r"Conv_0/kernel \[5, 5, 3, 8\] instead of \[8, 3, 3, 3\]": lambda p: {
        **p,
        "Conv_0/kernel": np.ones((5, 5, 3, 8), np.float32),
    },
}


@pytest.mark.parametrize("reason", JCM_DAMAGE)
def test_a_jax_state_with_a_wrong_entry_is_refused_by_its_name(tmp_path, reason):
    path = foreign.jcm_file(tmp_path / "checkpoint_80", JCM_DAMAGE[reason](foreign.jcm_params()))
    with pytest.raises(WeightsError, match=f"of another architecture: .*{reason}"):
        load(path, "jcm-consistency")


def test_a_flax_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "checkpoint_80"
    path.write_bytes(msgpack.packb({"params_ema": {"a": foreign.pack(np.ones(100, np.float32))}})[:-50])
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


def test_a_transformer_of_sit_or_dit_is_refused_as_a_latent_model(tmp_path):
    state = {"x_embedder.proj.weight": torch.zeros(8, 4, 2, 2), "blocks.0.attn.qkv.weight": torch.zeros(24, 8)}
    with pytest.raises(WeightsError, match=r"DiT or SiT.*codes of an autoencoder"):
        load(foreign.folder(tmp_path, state, None, "weights.pt"))
