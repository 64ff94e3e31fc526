"""How fast loaded networks are, beside the plain diffusers modules of the same numbers, in one run on one thread."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping
from functools import partial

import pytest
import torch
from diffusers.models.downsampling import FirDownsample2D, downsample_2d
from diffusers.models.upsampling import upsample_2d
from torch import nn

from bench.engine.arithmetic import Widened, is_emulated
from purifiers.nets import load
from purifiers.nets.architectures.songunet import FIR, SongUNet
from purifiers.nets.checkpoints import openai
from purifiers.nets.hub.cards import Card
from purifiers.nets.hub.files import build, save

ROWS, SIZE, ROUNDS, LEVEL = 8, 32, 9, 1.0
TAPS = (1, 3, 3, 1)
SONG = {"img_resolution": SIZE, "model_channels": 64, "channel_mult": [2, 2, 2]}
NCSN = {**SONG, "embedding_type": "fourier", "channel_mult_noise": 2, "encoder_type": "residual"}
FLAGS = {**openai._DEFAULTS, **openai._RELEASED["improved-diffusion, CIFAR-10"], "num_channels": 64}
CM = {"image_size": SIZE, "channel_mult": "1,2,3", "num_channels": 64, "class_cond": False, "learn_sigma": False}
CM_FLAGS = {**openai._DEFAULTS, **openai._RELEASED["consistency_models, ImageNet-64"], **CM}
EDM = {"t_min": 0.002, "t_max": 80.0, "time_scale": 0.25}
CARDS = {
    "DDPM++ (EDM)": Card("edm", SONG, EDM, network="SongUNet"),
    "NCSN++ (EDM, jcm)": Card("edm", {**NCSN, "resample_filter": list(TAPS)}, EDM, network="SongUNet"),
    "iDDPM": Card("vp", openai._architecture(FLAGS).architecture(), openai._chain(FLAGS), network="UNet2D"),
    "ADM (consistency_models)": Card(
        "consistency", openai._architecture(CM_FLAGS).architecture(), EDM, network="UNet2D"
    ),
}


def plain(network: nn.Module) -> nn.Module:
    """The same network of nothing but diffusers' modules: its own resampling by filters, or the bare UNet2DModel."""
    network = copy.deepcopy(network)
    if not isinstance(network, SongUNet):
        return network.unet
    for module in network.modules():
        for mode, function in (("upsample", upsample_2d), ("downsample", downsample_2d)):
            if isinstance(getattr(module, mode, None), FIR):
                delattr(module, mode)
                setattr(module, mode, partial(function, kernel=TAPS))
    for i, (_, conv) in enumerate(network.pyramid):
        fir = FirDownsample2D(conv.in_channels, conv.out_channels, use_conv=True, fir_kernel=TAPS)
        fir.Conv2d_0.load_state_dict(conv.state_dict())
        network.pyramid[i] = fir.requires_grad_(False)
    return network


def fastest(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the least disturbed round of each."""
    seconds: dict[str, list[float]] = {contender: [] for contender in contenders}
    for _ in range(rounds + 1):  # in turn, so that a machine that slows down slows all; the first warms up
        for contender, run in contenders.items():
            started = time.perf_counter()
            run()
            seconds[contender].append(time.perf_counter() - started)
    return {contender: min(values[1:]) for contender, values in seconds.items()}


@pytest.mark.parametrize("name", CARDS)
@torch.inference_mode()
def test_rows_per_second(benchmark, tmp_path, name, quick):
    if quick:
        pytest.skip("not in --quick")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    card = CARDS[name]
    loaded = load(save(tmp_path / "network.safetensors", build(card).network, card, torch.float32))
    module = plain(loaded.network)
    u, time_input = torch.randn(ROWS, 3, SIZE, SIZE), torch.full((ROWS,), 0.1)
    raw = module(u, time_input)
    raw = getattr(raw, "sample", raw)
    assert torch.allclose(loaded.network(u, time_input), raw, atol=1e-4)
    contenders = {"loaded": lambda: loaded(u, LEVEL), "plain": lambda: module(u, time_input)}
    rates = {contender: ROWS / seconds for contender, seconds in fastest(contenders, ROUNDS).items()}
    ratio = rates["loaded"] / rates["plain"]
    benchmark.extra_info.update(rates, loaded_to_plain=ratio)
    benchmark.pedantic(contenders["loaded"], rounds=1)
    print(f"\n{name:26} loaded {rates['loaded']:7.1f}/s   plain diffusers {rates['plain']:7.1f}/s   ratio {ratio:.2f}")
    assert ratio > 0.9  # no slower, within what a busy machine adds


@pytest.mark.skipif(not is_emulated(torch.bfloat16, torch.device("cpu")), reason="this CPU has instructions for bf16")
@pytest.mark.parametrize(("name", "shape"), [("mnist5k/edm", (1, 28, 28)), ("cifar10/edm", (3, 32, 32))])
@torch.inference_mode()
def test_bf16_without_instructions_for_it(benchmark, name, shape):
    torch.set_num_threads(1)
    u = torch.randn(4 * ROWS, *shape)
    plain, emulated, wide = load(name), *(load(name).compute_in(torch.bfloat16) for _ in range(2))
    wide.network = Widened(wide.network)
    contenders = {"fp32": plain, "bf16 by products of fp32": wide, "bf16 by torch": emulated}
    seconds = fastest({what: partial(network, u, LEVEL) for what, network in contenders.items()}, rounds=2)
    slower = {what: value / seconds["fp32"] for what, value in seconds.items()}
    benchmark.extra_info.update(slower)
    benchmark.pedantic(partial(wide, u, LEVEL), rounds=1)
    print(f"\n{name:12} times slower than fp32: " + "   ".join(f"{what} {value:.2f}" for what, value in slower.items()))
