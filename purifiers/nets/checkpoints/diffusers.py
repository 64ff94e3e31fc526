"""diffusers repositories: a network on pixels, and a scheduler that defines the meaning of its output."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import DiTTransformer2DModel, UNet2DModel

from bench.files import read_json as read_object
from purifiers.nets.checkpoints.state import PLAIN, Checkpoint, gather
from purifiers.nets.checkpoints.tensor_file import read_safetensors, read_torch
from purifiers.nets.hub.cards import Card, WeightsError
from purifiers.nets.hub.download import refuse_latents
from purifiers.nets.hub.files import lay_out

_WEIGHTS = {"diffusion_pytorch_model.safetensors": read_safetensors, "diffusion_pytorch_model.bin": read_torch}
_BETAS = ("beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
_NETWORKS = {  # class in diffusers -> it, our network, and the name of its only submodule
    "UNet2DModel": (UNet2DModel, "UNet2D", "unet."),
    "DiTTransformer2DModel": (DiTTransformer2DModel, "DiT", "transformer."),
}
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # of attention, before 2023


def read(folder: Path) -> Checkpoint:
    """The network in the folder of a repository; its parts may be in subfolders.

    Raises:
        WeightsError: a part is missing or not supported, or weights and configuration do not fit.
    """
    refuse_latents(_parts(folder))
    model = _part(folder, ("unet", "transformer"), "config.json")
    scheduler = _part(folder, ("scheduler",), "scheduler_config.json")
    config, schedule = read_json(model), read_json(scheduler)
    described = config.get("_class_name", "UNet2DModel")
    if described not in _NETWORKS:
        raise WeightsError(
            f"{model.name} describes a {described}; only {' and '.join(_NETWORKS)} are supported, on pixels and "
            "without a text"
        )
    original, name, prefix = _NETWORKS[described]
    weights = next((model.parent / file for file in _WEIGHTS if (model.parent / file).is_file()), None)
    if weights is None:
        raise WeightsError(f"{model.parent} has none of {', '.join(_WEIGHTS)}")
    known = set(inspect.signature(original).parameters)
    arguments = {key: value for key, value in config.items() if key in known}
    unknown = sorted(key for key in config if key not in known and not key.startswith("_"))
    if unknown:
        raise WeightsError(
            f"{model.name} has arguments that this version of diffusers does not know: {', '.join(unknown)}"
        )
    kind, denoiser = _conditioning(schedule, config)
    card = Card(kind, {"config": arguments}, denoiser, network=name)
    state = {_modern(key): tensor for key, tensor in _WEIGHTS[weights.name](weights).items()}
    network = lay_out(card)
    modules = {ours: (ours.removeprefix(prefix), PLAIN) for ours, _ in network.named_modules()}
    return Checkpoint(card, gather(network, state, modules))


def _parts(folder: Path) -> set[str]:
    """Names of the parts of a repository: its folders, and those that its index lists with a class."""
    index = folder / "model_index.json"
    listed = read_json(index) if index.is_file() else {}
    return {entry.name for entry in folder.iterdir() if entry.is_dir()} | {
        name for name, described in listed.items() if isinstance(described, list) and any(described)
    }


def is_one(folder: Path) -> bool:
    """Whether a folder is a diffusers repository, and not another checkpoint with a config.json."""
    files = ("unet/config.json", "transformer/config.json", "scheduler/scheduler_config.json")
    signs = ("model_index.json", "scheduler_config.json", *files)
    config = folder / "config.json"
    named = config.is_file() and "_class_name" in read_json(config)
    return named or any((folder / sign).is_file() for sign in signs)


def _part(folder: Path, names: tuple[str, ...], file: str) -> Path:
    """Path of the configuration of a part, in a subfolder of one of these names or in the main folder."""
    for path in (*(folder / name / file for name in names), folder / file):
        if path.is_file():
            return path
    raise WeightsError(f"{folder} has no {names[0]}/{file}, nor {file}")


def read_json(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read ({error})") from error


def _modern(name: str) -> str:
    """Name of a parameter in current versions of diffusers."""
    return re.sub(
        r"(attentions\.\d+)\.(query|key|value|proj_attn)\.", lambda m: f"{m[1]}.{_OLD_NAMES[m[2]]}.", name, count=1
    )


def _conditioning(schedule: Mapping[str, Any], config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Kind and arguments of the denoiser for the configuration of a scheduler."""
    name, prediction = schedule.get("_class_name"), schedule.get("prediction_type", "epsilon")
    if name in ("DDPMScheduler", "DDIMScheduler"):
        betas = {key: schedule[key] for key in _BETAS if key in schedule}
        timesteps = schedule.get("num_train_timesteps", 1000)
        return "vp", {"timesteps": timesteps, "schedule": betas, "prediction": prediction}
    if name in ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"):
        return "flow", {
            "timesteps": schedule.get("num_train_timesteps", 1000),
            # Dynamic shifting depends on the size of latents and ignores `shift`.
            "shift": 1.0 if schedule.get("use_dynamic_shifting") else schedule.get("shift", 1.0),
            "inverted": bool(schedule.get("invert_sigmas")),
        }
    if config.get("time_embedding_type") == "fourier":
        raise WeightsError(f"a fourier time embedding takes the logarithm of times that are negative under {name}")
    levels = {"t_min": schedule.get("sigma_min", 0.002), "t_max": schedule.get("sigma_max", 80.0)}
    levels["sigma_data"] = schedule.get("sigma_data", 0.5)
    if name == "CMStochasticIterativeScheduler":
        return "consistency", {**levels, "time_scale": 250.0}
    if name in ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler"):
        if prediction not in ("epsilon", "v_prediction"):
            raise WeightsError(f"prediction_type {prediction!r} is not supported with {name}")
        return "edm", {**levels, "time_scale": 0.25, "out_sign": 1 if prediction == "epsilon" else -1}
    raise WeightsError(
        f"its scheduler is a {name}; supported are DDPMScheduler, DDIMScheduler, EDMEulerScheduler, "
        "EDMDPMSolverMultistepScheduler, CMStochasticIterativeScheduler and FlowMatchEulerDiscreteScheduler"
    )
