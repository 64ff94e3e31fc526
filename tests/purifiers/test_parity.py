"""Published checkpoints give their reference's numbers, through the public loader (`parity/README.md` of the data)."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from torch import Tensor

from purifiers.nets import convert, load
from purifiers.nets.denoisers import _cosine_alphas_cumprod
from purifiers.pf_ode import HeunPFODE

FOLDERS = ("edm_ncsnpp", "edm_ddpmpp", "iddpm_cifar10_uncond", "cm_imagenet64", "jcm_cifar10")
TOLERANCE, TRAJECTORY = 1e-4, 2e-4


@pytest.fixture(scope="module")
def parity(shared_data):
    """A factory: the network of a folder (loaded once), and its arrays with channels first."""
    loaded: dict[str, tuple] = {}

    def fixture(name):
        if name not in loaded:
            folder = shared_data / "parity" / name
            if not folder.is_dir():
                pytest.skip(f"{folder} is absent")
            arrays = {key: torch.from_numpy(value) for key, value in np.load(folder / "arrays.npz").items()}
            if name == "jcm_cifar10":
                arrays = {key: a.permute(0, 1, 4, 2, 3) if a.ndim == 5 else a for key, a in arrays.items()}
            loaded[name] = load(folder), arrays
        return loaded[name]

    return fixture


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


@torch.no_grad()
@pytest.mark.parametrize("name", ["edm_ncsnpp", "edm_ddpmpp"])
def test_an_edm_network_gives_the_outputs_and_the_denoiser_of_nvidia(parity, name):
    network, arrays = parity(name)
    for x, sigma, c_noise, raw, denoised in zip(*(arrays[k] for k in ("x", "sigma", "c_noise", "F", "D")), strict=True):
        c_in = 1 / (sigma**2 + 0.25).sqrt()
        assert float(network.time_scale * sigma.log()) == pytest.approx(float(c_noise), rel=1e-5)
        assert error(network.network(c_in * x, c_noise.expand(len(x))), raw) < TOLERANCE
        assert error(network.denoise(x, float(sigma)), denoised) < TOLERANCE
        assert error(network.denoise(x, sigma.expand(len(x))), denoised) < TOLERANCE
    assert not hasattr(network, "consistency")


@torch.no_grad()
@pytest.mark.parametrize("name", ["edm_ncsnpp", "edm_ddpmpp"])
def test_heuns_method_follows_the_trajectory_of_nvidias_sampler(parity, name):
    """Every state, every Euler predictor and every denoised image, through the purifier that the harness runs."""
    network, arrays = parity(name)
    asked = []

    class Recorded:
        t_min, levels = network.t_min, network.levels

        def __call__(self, u, t):
            asked.append((u, t, network.denoise(u, t)))
            return asked[-1][-1]

    final = HeunPFODE(steps=8, t_end=network.t_min).restore(arrays["traj_x_init"], 1.0, {"edm": Recorded()}, None)
    states, predictors = asked[::2], asked[1::2]
    assert (len(states), len(predictors)) == (8, 7)
    assert [t for _, t, _ in states] == pytest.approx(arrays["traj_sigmas"][:-1].tolist(), rel=1e-5)
    for i, (u, _, denoised) in enumerate(states):
        assert error(u, arrays["traj_x"][i]) < TRAJECTORY
        assert error(denoised, arrays["traj_denoised"][i]) < TRAJECTORY
    for i, (u, _, _) in enumerate(predictors):
        assert error(u, arrays["traj_x_euler"][i]) < TRAJECTORY
    assert error(final, arrays["traj_x"][-1]) < TRAJECTORY


@torch.no_grad()
def test_an_improved_ddpm_gives_the_outputs_and_pred_xstart_of_openai(parity):
    network, arrays = parity("iddpm_cifar10_uncond")
    assert error(_cosine_alphas_cumprod(4000), arrays["alphas_cumprod"]) < 1e-10
    keys = "t", "sigma", "x", "t_model", "model_output", "pred_xstart", "pred_xstart_clipped"
    for t, sigma, x, t_model, raw, start, clipped in zip(*(arrays[key] for key in keys), strict=True):
        time = network.time_scale * network.timestep(sigma[None].double())
        assert float(time) == pytest.approx(float(t_model), rel=1e-5)
        assert error(network.network(x, t_model.expand(len(x))), raw) < TOLERANCE
        u = x / arrays["alphas_cumprod"][t].sqrt().float()
        bound = TOLERANCE * max(1.0, float(sigma))
        assert error(network.denoise(u, float(sigma)), start) < bound
        assert error(network(u, float(sigma)), clipped) < bound


@torch.no_grad()
def test_a_consistency_model_of_imagenet_gives_the_outputs_of_openai(parity):
    network, arrays = parity("cm_imagenet64")
    y = arrays["y"]
    for sigma, x, t_model, raw, f in zip(
        *(arrays[key] for key in ("sigma", "x", "t_model", "model_output", "distiller")), strict=True
    ):
        c_in = 1 / (sigma**2 + 0.25).sqrt()
        assert float(network.time_scale * sigma.log()) == pytest.approx(float(t_model), rel=1e-5)
        assert error(network.network(c_in * x, t_model.expand(len(x)), y), raw) < TOLERANCE
        assert error(network.consistency(x, float(sigma), labels=y), f) < TOLERANCE
        assert error(network(x, sigma.expand(len(x)), y), f) < TOLERANCE


@torch.no_grad()
def test_a_jax_checkpoint_gives_the_denoiser_and_the_consistency_function_of_openai(parity):
    network, arrays = parity("jcm_cifar10")
    for t, x, raw, denoised, f in zip(
        *(arrays[key] for key in ("t", "x", "model_output", "denoiser", "distiller")), strict=True
    ):
        c_in = 1 / (t**2 + 0.25).sqrt()
        assert error(network.network(c_in * x, (t.log() / 4).expand(len(x))), raw) < TOLERANCE
        assert error(network.denoise(x, float(t)), denoised) < TOLERANCE
        assert error(network.consistency(x, t.expand(len(x))), f) < TOLERANCE
        assert error(denoised, f) > 10 * TOLERANCE  # the two scalings are told apart


@torch.no_grad()
@pytest.mark.parametrize("name", FOLDERS)
def test_converted_weights_reload_to_the_same_numbers(parity, shared_data, tmp_path, name):
    network, arrays = parity(name)
    path = convert(shared_data / "parity" / name, tmp_path / "converted.safetensors")
    again = load(path)
    x = arrays["x"][1]
    labels = arrays["y"] if network.classes else None
    assert type(again) is type(network)
    assert torch.equal(again(x, 0.5, labels), network(x, 0.5, labels))
    assert torch.equal(again.denoise(x, 0.5, labels), network.denoise(x, 0.5, labels))
    origin = json.loads(path.with_suffix(".json").read_text())["training"]["converted from"]
    assert origin["name"].endswith(name) and len(origin["sha256"]) >= 2


@torch.no_grad()
@pytest.mark.parametrize("kind", ["jcm-edm", "jcm-consistency"])
def test_a_bare_jax_checkpoint_is_what_it_is_said_to_be(parity, shared_data, tmp_path, kind):
    """An EDM denoiser and a consistency model have the same tensors, so the content alone cannot tell."""
    network, arrays = parity("jcm_cifar10")
    shutil.copy(shared_data / "parity" / "jcm_cifar10" / "weights.msgpack", tmp_path / "checkpoint_80")
    with pytest.raises(Exception, match=r"jcm-edm.*jcm-consistency"):
        load(tmp_path / "checkpoint_80")
    config = json.loads((shared_data / "parity" / "jcm_cifar10" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"nf": config["model_config"]["nf"]}))
    x, t = arrays["x"][0], float(arrays["t"][0])
    expected = network.denoise(x, t) if kind == "jcm-edm" else network.consistency(x, t)
    for found in (load(tmp_path / "checkpoint_80", kind), load(f"{kind}:{tmp_path / 'checkpoint_80'}")):
        assert torch.equal(found(x, t), expected)
        assert hasattr(found, "consistency") == (kind == "jcm-consistency")
