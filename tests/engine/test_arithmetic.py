"""The arithmetic of a precision: products of bf16 without instructions for it, and tf32 only where it is asked for."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.engine import arithmetic, devices
from bench.engine.arithmetic import Widened
from bench.engine.compute import prepare_network

CPU = torch.device("cpu")
PRODUCTS = {
    "conv2d": lambda x, w: F.conv2d(x.view(4, 4, 4, 4), w.view(16, 4, 2, 2)),
    "conv_transpose2d": lambda x, w: F.conv_transpose2d(x.view(4, 4, 4, 4), w.view(4, 16, 2, 2)),
    "operands by name": lambda x, w: F.linear(input=x[:, :16], weight=w),
    "linear": lambda x, w: F.linear(x[:, :16], w),
    "matmul": lambda x, w: x @ x.T,
    "bmm": lambda x, w: torch.bmm(x.view(4, 8, 8), x.view(4, 8, 8)),
    "einsum": lambda x, w: torch.einsum("ij,kj->ik", x, x),
    "attention": lambda x, w: F.scaled_dot_product_attention(*(x.view(4, 1, 8, 8),) * 3),
}


class Function(nn.Module):
    def __init__(self, function, *weights):
        super().__init__()
        self.function, self.weights = function, nn.ParameterList(weights)

    def forward(self, x):
        return self.function(x, *self.weights)


@pytest.fixture
def without_instructions(monkeypatch):
    monkeypatch.setattr(devices, "_processor_line", lambda name: "fma avx2")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", PRODUCTS)
def test_a_product_is_that_of_float32_rounded(name, dtype):
    torch.manual_seed(0)
    x, weights = torch.randn(4, 64).to(dtype), torch.randn(16, 16).to(dtype)
    with torch.inference_mode():
        product = Function(PRODUCTS[name], weights)
        got = Widened(product)(x)
        assert got.dtype == dtype
        assert torch.equal(got, product.float()(x.float()).to(dtype))
        # torch's own product in this type adds in another order and may keep fewer digits of attention's weights
        own = Function(PRODUCTS[name], weights.to(dtype))(x).float()
        assert (got.float() - own).abs().max() <= 4 * torch.finfo(dtype).eps * own.abs().max()


def test_other_functions_keep_their_type_and_float32_products_their_digits():
    x = torch.randn(4, 64)
    network = Function(lambda x, w: F.silu(x), torch.zeros(1))
    with torch.inference_mode():
        assert torch.equal(Widened(network)(x.bfloat16()), F.silu(x.bfloat16()))
        assert torch.equal(Widened(Function(lambda x, w: x @ x.T, torch.zeros(1)))(x), x @ x.T)


def test_a_compiled_network_rounds_the_operands_and_results_of_its_products(without_instructions):
    torch.manual_seed(0)
    layers = [nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64)]
    network = nn.Sequential(*layers).to(torch.bfloat16)
    x = torch.randn(64, 64).bfloat16()
    with torch.inference_mode():
        exact = nn.Sequential(*layers).float()(x.float()).bfloat16()
        network.to(torch.bfloat16)
        eager, fused = (prepare_network(network, {"rows": 64, **way}, CPU)(x) for way in ({}, {"compile": "default"}))
    differing = (fused != eager).float().mean()
    assert differing < 0.1 * (exact != eager).float().mean()  # without roundings in between it would be as `exact`


@pytest.mark.parametrize(
    ("flags", "dtype", "wanted"),
    [
        ("fma avx2", torch.bfloat16, True),
        ("avx512_bf16", torch.bfloat16, False),
        ("avx512f amx_bf16", torch.bfloat16, False),
        ("avx512_bf16", torch.float16, True),
        ("avx512_fp16", torch.float16, False),
        ("fma avx2", torch.float32, False),
        ("", torch.bfloat16, True),  # a system that does not tell
    ],
)
def test_only_types_without_instructions_are_widened(monkeypatch, flags, dtype, wanted):
    monkeypatch.setattr(devices, "_processor_line", lambda name: flags)
    prepared = prepare_network(nn.Linear(2, 2).to(dtype), {"rows": 2}, CPU)
    assert isinstance(prepared.network, Widened) is wanted
    assert not arithmetic.is_emulated(dtype, torch.device("cuda"))


def test_float32_means_float32_but_where_tf32_is_asked_for(monkeypatch):
    gpu = torch.device("cuda")
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with arithmetic.float32_arithmetic("tf32", gpu):
        assert torch.get_float32_matmul_precision() == "high" and torch.backends.cudnn.allow_tf32
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before
    with arithmetic.float32_arithmetic("bf16", gpu):
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before
