"""PyTorch checkpoints of OpenAI: improved-diffusion, guided-diffusion, consistency_models. Plain state dicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from purifiers.nets.architectures.adm import ADM
from purifiers.nets.checkpoints.state import FORMATS, PLAIN, Checkpoint, Style, fused_attention, gather
from purifiers.nets.hub.cards import Card, WeightsError
from purifiers.nets.hub.files import lay_out

_CLASSES = 1000  # of every class-conditional one: ImageNet
_LAYERS = FORMATS["openai"]
_DEFAULTS: dict[str, Any] = _LAYERS["defaults"]
_RELEASED: dict[str, dict[str, Any]] = _LAYERS["released"]


def convolves_queries(state: Mapping[str, Tensor]) -> bool:
    """Whether attention projects by 2-D convolutions, as only consistency_models does of the three repositories."""
    return any(tensor.ndim == 4 for name, tensor in state.items() if name.endswith(".qkv.weight"))


def _released_flags(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The flags of a released checkpoint, recognised by its tensors; raises WeightsError for another state."""
    rows = {name: len(tensor) for name, tensor in state.items() if tensor.ndim}
    for name, flags in _RELEASED.items():
        multiples = _LAYERS["multiples"][str(flags["image_size"])]
        last = len(multiples) * (flags["num_res_blocks"] + 1) - 1
        matches = (
            rows.get("input_blocks.0.0.weight") == flags["num_channels"]
            and rows.get(f"input_blocks.{last}.0.in_layers.2.weight") == flags["num_channels"] * multiples[-1]
            and rows.get("label_emb.weight") == (_CLASSES if flags.get("class_cond") else None)
            and convolves_queries(state) == name.startswith("consistency_models")
        )
        if matches:
            return flags
    raise WeightsError(
        "it is a network of improved-diffusion, guided-diffusion or consistency_models, but of another architecture "
        f"than the released ones ({'; '.join(_RELEASED)}): put a config.json with its flags beside it"
    )


def _architecture(flags: Mapping[str, Any]) -> ADM:
    """The network of `create_model` of the three repositories for these flags."""
    size, width = flags["image_size"], flags["num_channels"]
    multiples = flags["channel_mult"].split(",") if flags["channel_mult"] else _LAYERS["multiples"].get(str(size))
    if multiples is None:
        raise WeightsError(f"image_size {size} has no default channel multipliers; give channel_mult")
    resolutions = {int(resolution) for resolution in flags["attention_resolutions"].split(",")}
    if flags["num_heads_upsample"] not in (-1, flags["num_heads"]):
        raise WeightsError("num_heads_upsample other than num_heads is not supported")
    each = flags["num_head_channels"]
    return ADM(
        image_size=size,
        in_channels=3,
        out_channels=6 if flags["learn_sigma"] else 3,
        width=width,
        multiples=tuple(map(int, multiples)),
        blocks=flags["num_res_blocks"],
        attends=tuple(size >> level in resolutions for level in range(len(multiples))),
        updown=flags["resblock_updown"],
        classes=_CLASSES if flags["class_cond"] else None,
        heads={"heads": flags["num_heads"]} if each == -1 else {"head_channels": each},
        scale_shift=flags["use_scale_shift_norm"],
    )


def _names(adm: ADM, layout: str) -> dict[str, tuple[str, Style]]:
    """Our modules and their names there; `layout`: of the rows of a fused projection (see `state._projection`)."""
    modules: dict[str, tuple[str, Style]] = {ours: (theirs, PLAIN) for ours, theirs in _LAYERS["outer"].items()}
    inputs, outputs = 0, -1  # numbers of the last blocks; input block 0 is the first convolution
    for slot in adm.slots():
        if slot.role in ("down", "downsample"):
            inputs += 1
            block, attention = f"input_blocks.{inputs}.0", f"input_blocks.{inputs}.1"
        elif slot.role == "middle":
            block, attention = f"middle_block.{2 * slot.number}", "middle_block.1"
        elif slot.role == "up":
            outputs += 1
            block, attention = f"output_blocks.{outputs}.0", f"output_blocks.{outputs}.1"
        else:  # upsampling is the last part of the block before
            block = f"output_blocks.{outputs}.{2 if adm.attends[slot.level] else 1}"
        modules[f"{slot.name}.conv"] = (f"{block}.{'op' if slot.role == 'downsample' else 'conv'}", PLAIN)
        modules |= {f"{slot.name}.{ours}": (f"{block}.{theirs}", PLAIN) for ours, theirs in _LAYERS["block"].items()}
        if slot.attention:
            width = adm.width * adm.multiples[slot.level]
            heads = adm.heads.get("heads") or width // adm.heads["head_channels"]
            modules |= fused_attention(slot.attention, attention, ("norm", "proj_out", "qkv"), layout, heads)
    return modules


def read(kind: str, state: Mapping[str, Tensor], flags: Mapping[str, Any] | None) -> Checkpoint:
    """A checkpoint as an eps-network (`iddpm`), a denoiser (`cm-edm`) or a consistency model (`cm-consistency`).

    Parameters:
        flags: of the repository's `create_model_and_diffusion`; None for a released checkpoint.

    Raises:
        WeightsError: a flag is not supported, or the state has another architecture.
    """
    flags = {**_DEFAULTS, **(_released_flags(state) if flags is None else flags)}
    adm = _architecture(flags)
    if kind == "iddpm":
        denoiser_kind, denoiser, layout = "vp", _chain(flags), "phc" if flags["use_new_attention_order"] else "hpc"
    else:  # consistency_models ignores `use_new_attention_order`
        denoiser_kind, layout = "edm" if kind == "cm-edm" else "consistency", "phc"
        denoiser = {"t_min": flags.get("sigma_min", 0.002), "t_max": flags.get("sigma_max", 80.0), "time_scale": 250.0}
    card = Card(denoiser_kind, adm.architecture(), denoiser, network="UNet2D")
    modules = {f"unet.{ours}": theirs for ours, theirs in _names(adm, layout).items()}
    return Checkpoint(card, gather(lay_out(card), state, modules))


def _chain(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `VPDenoiser`: the schedule, and the scale of timesteps."""
    steps, schedule = flags["diffusion_steps"], flags["noise_schedule"]
    if schedule not in ("cosine", "linear"):
        raise WeightsError(f"noise_schedule {schedule!r} is not supported; cosine and linear are")
    if steps != 1000 and "rescale_timesteps" not in flags:
        raise WeightsError(
            "its flags lack rescale_timesteps, which is true by default in improved-diffusion and false in "
            "guided-diffusion"
        )
    scale = 1000 / steps  # the linear schedule ends at the same noise for any number of steps
    linear = {"beta_schedule": "linear", "beta_start": scale * 1e-4, "beta_end": scale * 0.02}
    return {
        "timesteps": steps,
        "schedule": None if schedule == "cosine" else linear,
        "time_scale": scale if flags.get("rescale_timesteps") else 1.0,
        "prediction": "sample" if flags["predict_xstart"] else "epsilon",
    }
