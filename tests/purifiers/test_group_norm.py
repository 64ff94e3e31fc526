"""The group normalisation of compiled networks on a CPU: the same function, parameters and names as torch's."""

import copy

import pytest
import torch
from torch import nn

from bench.engine.compute import prepare_network
from purifiers.nets.architectures.group_norm import _ChannelsLastGroupNorm, with_channels_last_norms
from purifiers.nets.architectures.unet import PixelUNet

CPU = torch.device("cpu")


def random_norm(groups, channels):
    norm = nn.GroupNorm(groups, channels, eps=1e-3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


@pytest.mark.parametrize(
    ("groups", "shape"), [(6, (3, 24, 5, 7)), (8, (2, 144, 4, 4)), (1, (2, 6, 9)), (2, (2, 4, 1, 2))]
)
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_it_computes_what_torch_computes(groups, shape, offset):
    torch.manual_seed(0)
    norm, x = random_norm(groups, shape[1]), torch.randn(shape) + offset
    assert torch.allclose(_ChannelsLastGroupNorm(norm)(x), norm(x), atol=1e-4)


def test_in_bf16_it_is_as_near_to_fp32_as_torch_is():
    torch.manual_seed(0)
    norm, x = random_norm(4, 40), torch.randn(8, 40, 6, 6) + 1
    exact = norm(x)
    rough = copy.deepcopy(norm).bfloat16()
    theirs = (rough(x.bfloat16()).float() - exact).abs().max()
    assert (_ChannelsLastGroupNorm(rough)(x.bfloat16()).float() - exact).abs().max() < 2 * theirs


def test_a_constant_group_does_not_divide_by_zero():
    x = torch.full((2, 8, 3, 3), 7.0)
    assert _ChannelsLastGroupNorm(nn.GroupNorm(2, 8))(x).abs().max() < 1e-2


def test_gradients_are_those_of_torch():
    torch.manual_seed(0)
    norm = random_norm(4, 8)
    ours = _ChannelsLastGroupNorm(copy.deepcopy(norm))
    x, ours_x = (torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in range(2))
    norm(x).square().sum().backward()
    ours(ours_x).square().sum().backward()
    assert torch.allclose(x.grad, ours_x.grad, atol=1e-3)
    assert torch.allclose(norm.weight.grad, ours.weight.grad, rtol=1e-3)


def test_a_network_keeps_its_parameters_and_their_names():
    network = PixelUNet(1, 28, [8, 16], groups=4)
    before = dict(network.state_dict())
    x, time = torch.randn(2, 1, 28, 28), torch.ones(2)
    expected = network(x, time)
    changed = with_channels_last_norms(network)
    assert not [m for m in changed.modules() if type(m) is nn.GroupNorm]
    assert before.keys() == changed.state_dict().keys()
    assert all(before[name].data_ptr() == value.data_ptr() for name, value in changed.state_dict().items())
    assert torch.allclose(changed(x, time), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "device", "ours"),
    [
        ({"channels_last": True, "compile": "default", "rows": 4}, "cpu", True),
        ({"channels_last": True, "compile": "default", "rows": 4}, "cuda", False),
        ({"channels_last": True}, "cpu", False),
        ({"compile": "default", "rows": 4}, "cpu", False),
    ],
)
def test_only_compiled_networks_with_channels_innermost_on_a_cpu_have_it(monkeypatch, options, device, ours):
    monkeypatch.setattr(torch, "compile", lambda module, **_: module)
    prepared = prepare_network(nn.Sequential(nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8)), options, torch.device(device))
    assert any(isinstance(module, _ChannelsLastGroupNorm) for module in prepared.modules()) == ours
