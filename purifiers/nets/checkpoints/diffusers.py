"""diffusers repositories: a UNet2DModel, and a scheduler that defines the meaning of its output."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import UNet2DModel

from bench.files import read_json as read_object
from purifiers.nets.checkpoints.state import PLAIN, Checkpoint, gather
from purifiers.nets.checkpoints.tensor_file import read_safetensors, read_torch
from purifiers.nets.hub.cards import Card, WeightsError
from purifiers.nets.hub.files import lay_out

_WEIGHTS = {"diffusion_pytorch_model.safetensors": read_safetensors, "diffusion_pytorch_model.bin": read_torch}
_BETAS = ("beta_start", "beta_end", "beta_schedule", "trained_betas", "rescale_betas_zero_snr")
_OLD_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # of attention, before 2023


def read(folder: Path) -> Checkpoint:
    """The network in the folder of a repository; its parts may be in subfolders.

    Raises:
        WeightsError: a part is missing or not supported, or weights and configuration do not fit.
    """
    model, scheduler = _part(folder, "unet", "config.json"), _part(folder, "scheduler", "scheduler_config.json")
    config, schedule = read_json(model), read_json(scheduler)
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise WeightsError(f"{model.name} describes a {config['_class_name']}; only UNet2DModel is supported")
    weights = next((model.parent / name for name in _WEIGHTS if (model.parent / name).is_file()), None)
    if weights is None:
        raise WeightsError(f"{model.parent} has none of {', '.join(_WEIGHTS)}")
    known = set(inspect.signature(UNet2DModel).parameters)
    arguments = {name: value for name, value in config.items() if name in known}
    unknown = sorted(name for name in config if name not in known and not name.startswith("_"))
    if unknown:
        raise WeightsError(
            f"{model.name} has arguments that this version of diffusers does not know: {', '.join(unknown)}"
        )
    kind, denoiser = _conditioning(schedule, config)
    card = Card(kind, {"config": arguments}, denoiser, network="UNet2D")
    state = {_modern(name): tensor for name, tensor in _WEIGHTS[weights.name](weights).items()}
    network = lay_out(card)
    modules = {ours: (ours.removeprefix("unet."), PLAIN) for ours, _ in network.named_modules()}
    return Checkpoint(card, gather(network, state, modules))


def is_one(folder: Path) -> bool:
    """Whether a folder is a diffusers repository, and not another checkpoint with a config.json."""
    signs = ("model_index.json", "unet/config.json", "scheduler_config.json", "scheduler/scheduler_config.json")
    config = folder / "config.json"
    named = config.is_file() and "_class_name" in read_json(config)
    return named or any((folder / sign).is_file() for sign in signs)


def _part(folder: Path, name: str, file: str) -> Path:
    """Path of the configuration of a part, in its subfolder or in the main folder."""
    for path in (folder / name / file, folder / file):
        if path.is_file():
            return path
    raise WeightsError(f"{folder} has no {name}/{file}, nor {file}")


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
        "EDMDPMSolverMultistepScheduler and CMStochasticIterativeScheduler"
    )
