"""Networks of which there is no published fixture, against their architecture written out by hand."""

from __future__ import annotations

from functools import partial

import foreign
import pytest
import torch
import torch.nn.functional as F

from purifiers.nets import load


@pytest.fixture
def folder(tmp_path):
    """A factory of folders: tensors (as safetensors or as a torch file) beside a config.json."""
    return partial(foreign.folder, tmp_path)


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
    from purifiers.nets.checkpoints import edm as edm_nets
    from purifiers.nets.hub.cards import Card
    from purifiers.nets.hub.files import lay_out

    given = {k: v for k, v in ADM.items() if k not in (*edm_nets._UNUSED, "model_type", "img_channels")}
    made = edm_nets._dhariwal({**given, "in_channels": 3, "out_channels": 3}, {})
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

    from purifiers.nets.architectures.songunet import FIR

    x, taps = torch.randn(2, 5, 8, 8), (1, 3, 3, 1)
    assert torch.allclose(FIR(taps, "down")(x), downsample_2d(x, taps), atol=1e-6)
    assert torch.allclose(FIR(taps, "up")(x), upsample_2d(x, taps), atol=1e-6)
