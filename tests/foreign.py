"""Checkpoints as others write them, made here: names of their layers, random numbers, and EDM's way of pickling."""

from __future__ import annotations

import json
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from purifiers.nets.checkpoints import edm, jcm, openai
from purifiers.nets.checkpoints.state import _rule
from purifiers.nets.hub.cards import Card
from purifiers.nets.hub.files import lay_out

SONG = {
    "img_resolution": 8,
    "img_channels": 3,
    "model_type": "SongUNet",
    "model_channels": 8,
    "channel_mult": [1, 2],
    "num_blocks": 1,
    "attn_resolutions": [4],
    "resample_filter": [1, 3, 3, 1],
    "encoder_type": "residual",
    "embedding_type": "fourier",
    "channel_mult_noise": 2,
    "augment_dim": 9,
    "dropout": 0.13,
}
FLAGS = {
    "image_size": 8,
    "num_channels": 32,
    "num_res_blocks": 1,
    "channel_mult": "1,2",
    "attention_resolutions": "4",
    "num_head_channels": 32,
    "resblock_updown": True,
    "class_cond": True,
}
ADM_FLAGS = {**FLAGS, "sigma_min": 0.002, "sigma_max": 80.0}
CHAIN = {"diffusion_steps": 100, "noise_schedule": "cosine", "learn_sigma": True, "rescale_timesteps": True}


def folder(
    root: Path, state: dict, config: dict | None, weights: str = "weights.safetensors", name: str = "network"
) -> Path:
    """A folder in `root` with tensors, as safetensors or as a torch file, beside a config.json."""
    path = root / name
    path.mkdir(exist_ok=True)
    save = save_file if weights.endswith(".safetensors") else torch.save
    save(state, path / weights)
    if config is not None:
        (path / "config.json").write_text(json.dumps(config))
    return path


def without(state: dict, name: str) -> dict:
    return {n: t for n, t in state.items() if n != name}


def pack(array: np.ndarray) -> msgpack.ExtType:
    """An array as flax packs it."""
    return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))


def random_state(network: nn.Module, modules: dict, exact: dict, separator: str = ".", size: int = 1) -> dict:
    """Random tensors under the names that `gather` looks for; projections are fused, of `size` trailing ones."""
    generator = None if torch.get_default_device().type == "meta" else torch.Generator().manual_seed(0)
    state: dict[str, torch.Tensor] = {}
    for name, slot in network.state_dict().items():
        module, _, leaf = name.rpartition(".")
        if name in exact:
            for theirs in exact[name].names:
                taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
                filter_ = torch.outer(taps, taps)[None, None] / 64
                state[theirs] = filter_ if "filter" in theirs else torch.randn(slot.shape, generator=generator)
            continue
        theirs = f"{modules[module][0]}{separator}{leaf}"
        rows = 3 * slot.shape[0] if ".qkv" in theirs else slot.shape[0]
        trailing = [1] * size if slot.ndim == 2 and (".qkv" in theirs or ".proj" in theirs) else []
        shape = (rows, *slot.shape[1:], *trailing)
        state[theirs] = 0.3 * torch.randn(shape, generator=generator) + (leaf == "weight" and slot.ndim == 1)
    return state


def song_state() -> dict[str, torch.Tensor]:
    """What `EDMPrecond.state_dict()` would give for SONG."""
    given = {k: v for k, v in SONG.items() if k not in (*edm._UNUSED, "model_type", "img_channels")}
    made = edm._song({**given, "in_channels": 3, "out_channels": 3}, {})
    network = lay_out(Card("edm", made.architecture, {}, network="SongUNet"))
    state = random_state(network, made.modules, made.exact, size=2)
    skips = {n.replace("conv0", "skip"): t.clone() for n, t in state.items() if n.endswith("conv0.resample_filter")}
    state |= {**skips, "map_augment.weight": torch.ones(16, 9)}
    return {f"model.{name}": tensor for name, tensor in state.items()}


def openai_state(flags: dict[str, Any], pointwise: int, numbers: bool = True) -> dict[str, torch.Tensor]:
    """A state dict of guided-diffusion (`pointwise` 1) or consistency_models (2); its shapes only without `numbers`."""
    adm = openai._architecture({**openai._DEFAULTS, **flags})
    network = lay_out(Card("edm", adm.architecture(), {}, network="UNet2D"))
    modules = {f"unet.{ours}": theirs for ours, theirs in openai._names(adm, "phc").items()}
    with torch.device("cpu" if numbers else "meta"):
        return random_state(network, modules, {}, size=pointwise)


JCM = {"nf": 8, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [16], "fir_kernel": [1, 3, 3, 1]}


def jcm_params() -> dict[str, np.ndarray]:
    """Random parameters of a JAX checkpoint with the arguments JCM, by path: channels last, inputs before outputs."""
    song = {"img_resolution": 32, "model_channels": 8, "channel_mult": [1, 2], "num_blocks": 1}
    song |= {"attn_resolutions": [16], "embedding_type": "fourier", "channel_mult_noise": 2}
    song |= {"encoder_type": "residual", "resample_filter": [1, 3, 3, 1]}
    network = lay_out(Card("consistency", song, {}, network="SongUNet"))
    modules, exact = jcm._names(network, [1, 3, 3, 1])
    rng, params = np.random.default_rng(0), {}
    for name, slot in network.state_dict().items():
        origin = exact.get(name) or _rule(name, modules)
        order = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[slot.ndim]
        for theirs in origin.names:
            params[theirs] = 0.3 * rng.standard_normal([slot.shape[axis] for axis in order]).astype(np.float32)
    return params


def jcm_file(path: Path, params: dict[str, np.ndarray]) -> Path:
    """A training state as flax writes it, beside a config.json; its `params` and moments hold other numbers."""
    trees: list[dict] = [{}, {}]
    for name, array in params.items():
        *parents, leaf = name.split("/")
        for tree, numbers in zip(trees, (array, -array), strict=True):
            for parent in parents:
                tree = tree.setdefault(parent, {})
            tree[leaf] = pack(numbers)
    averaged, other = trees
    moments = {"0": {"mu": other, "nu": other, "count": pack(np.ones((), np.int32))}}
    content = {"step": 240_000, "params": other, "params_ema": averaged, "opt_state": moments, "model_state": {}}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(msgpack.packb(content))
    (path.parent / "config.json").write_text(json.dumps({"model_config": JCM}))
    return path


EXECUTED: list[str] = []  # what a file made of this module's pickles has run


def run(*words: object) -> None:
    EXECUTED.append(" ".join(map(str, words)))


class Runs:
    """An object whose unpickling calls something."""

    def __init__(self, *arguments: object, function: Any = run):
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


class Persistent(nn.Module):
    """A module that pickles as EDM's do: by a function that would execute the source beside it."""

    def __init__(self, called: str, **attributes: object):
        super().__init__()
        self.called = called
        self.__dict__.update(attributes)

    def __reduce__(self) -> tuple:
        from torch_utils import persistence

        source = "import foreign; foreign.run('the embedded source')"
        state = {k: v for k, v in self.__dict__.items() if k != "called"}
        meta = {"type": "class", "version": 6, "module_src": source, "class_name": self.called, "state": state}
        return persistence._reconstruct_persistent_obj, (meta,)


def edm_modules(monkeypatch: Any) -> None:
    """Stand-ins for EDM's modules, whose functions tell when they are called."""
    for name in ("torch_utils", "torch_utils.persistence", "dnnlib", "dnnlib.util"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    persistence, util = sys.modules["torch_utils.persistence"], sys.modules["dnnlib.util"]
    sys.modules["torch_utils"].persistence = persistence  # type: ignore[attr-defined]

    def _reconstruct_persistent_obj(meta: dict) -> None:
        run("_reconstruct_persistent_obj")

    class EasyDict(dict):
        pass

    for module, thing in ((persistence, _reconstruct_persistent_obj), (util, EasyDict)):
        thing.__module__, thing.__qualname__ = module.__name__, thing.__name__
        setattr(module, thing.__name__, thing)


def edm_pickle(path: Path, state: dict, arguments: dict, protocol: int = 4, called: str = "EDMPrecond") -> Path:
    """A file as EDM's training loop writes it: `ema` and what else it keeps."""
    from dnnlib.util import EasyDict
    from numpy import sqrt

    root = Persistent(called, _init_args=(), _init_kwargs=EasyDict(arguments), sigma_data=0.5, scale=sqrt(0.5))
    for name, tensor in state.items():
        *parents, leaf = name.split(".")
        module: nn.Module = root
        for depth, part in enumerate(parents):
            if part not in module._modules:
                container = depth == 1 and part in ("enc", "dec")
                module.add_module(part, nn.ModuleDict() if container else Persistent("UNetBlock"))
            module = module._modules[part]  # type: ignore[assignment]
        if "filter" in leaf or "freqs" in leaf:
            module.register_buffer(leaf, tensor)
        else:
            module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
    content = {"ema": root, "loss_fn": Persistent("EDMLoss", P_mean=-1.2), "dataset_kwargs": {"path": "x.zip"}}
    path.write_bytes(pickle.dumps(content, protocol))
    return path
