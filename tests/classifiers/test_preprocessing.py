"""How classifiers of other projects prepare images: as their own libraries do, and as published codes do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from classifiers.base import ClassifierError
from classifiers.nets.pipeline import Pipeline, _as_stored
from classifiers.preprocessing import Preprocessing, from_timm, from_transformers


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1)[None]).float() / 255


@pytest.mark.parametrize(
    "settings",
    [
        {"size": {"height": 48, "width": 40}},
        {
            "size": {"height": 20, "width": 20},
            "resample": 3,
            "image_mean": [0.4, 0.5, 0.6],
            "image_std": [0.2, 0.3, 0.4],
        },
        {"do_resize": False},
        {"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [127.5] * 3},
    ],
    ids=["bilinear", "bicubic, smaller", "as it is", "of 0..255"],
)
def test_preprocessing_is_that_of_transformers(smooth_image, settings):
    transformers = pytest.importorskip("transformers")
    processor = transformers.ViTImageProcessor(**settings)
    wanted = processor(smooth_image, return_tensors="pt")["pixel_values"]
    steps = from_transformers(json.loads(processor.to_json_string()))
    got = Pipeline(nn.Identity(), steps, "round").ready("cpu")(as_tensor(smooth_image))
    step = 1 / 255 / min(steps.std) if settings.get("do_rescale", True) else 1 / 127.5
    assert got.shape == wanted.shape
    assert float((got - wanted).abs().max()) < 1.2 * step  # libraries round what they have resized to 8 bits


def test_a_central_crop_is_that_of_transformers(smooth_image):
    transformers = pytest.importorskip("transformers")
    size = {"size": {"shortest_edge": 40}, "crop_size": {"height": 24, "width": 24}}
    processor = transformers.CLIPImageProcessor(**size)
    wanted = processor(smooth_image, return_tensors="pt")["pixel_values"]
    steps = from_transformers(json.loads(processor.to_json_string()))
    got = Pipeline(nn.Identity(), steps).ready("cpu")(as_tensor(smooth_image))
    assert got.shape == wanted.shape and float((got - wanted).abs().max()) < 1.2 / 255 / min(steps.std)


@pytest.mark.parametrize("shape", [(32, 32), (32, 24)], ids=["square", "upright"])
@pytest.mark.parametrize(
    ("library", "settings"),
    [
        ("ViT", {"size": 48}),
        ("ConvNext", {"size": {"shortest_edge": 48}, "crop_pct": 0.875}),
        ("ConvNext", {"size": {"shortest_edge": 384}, "crop_pct": 0.875}),
    ],
)
def test_a_size_of_one_number_means_what_it_means_to_each_processor(smooth_image, library, settings, shape):
    transformers = pytest.importorskip("transformers")
    image = np.ascontiguousarray(smooth_image[:, : shape[1]])
    processor = getattr(transformers, f"{library}ImageProcessor")(**settings)
    wanted = processor(image, return_tensors="pt")["pixel_values"]
    steps = from_transformers({**json.loads(processor.to_json_string()), **settings})
    got = Pipeline(nn.Identity(), steps).ready("cpu")(as_tensor(image))
    assert got.shape == wanted.shape and float((got - wanted).abs().max()) < 1.5 / 255 / min(steps.std)


@pytest.mark.parametrize("settings", [{}, {"crop_pct": 1.0}, {"crop_mode": "squash", "interpolation": "bilinear"}])
def test_preprocessing_is_that_of_timm(smooth_image, settings):
    pytest.importorskip("timm")
    from PIL import Image
    from timm.data import create_transform, resolve_data_config

    config = resolve_data_config(pretrained_cfg={"input_size": (3, 48, 48), **settings})
    wanted = create_transform(**config)(Image.fromarray(smooth_image))[None]
    steps = from_timm({"input_size": (3, 48, 48), **settings})
    got = Pipeline(nn.Identity(), steps).ready("cpu")(as_tensor(smooth_image))
    assert got.shape == wanted.shape and float((got - wanted).abs().max()) < 1.2 / 255 / min(steps.std)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"resample": 1, "image_mean": [0.5], "image_std": [0.5]}, "resample 1 is not one of"),
        ({"rescale_factor": 1 / 127.5, "image_mean": [0.5], "image_std": [0.5]}, "rescale_factor"),
        ({"image_mean": [0.5, 0.5]}, "image_mean and image_std"),
        ({"size": {"longest_edge": 4}, "image_mean": [0.5], "image_std": [0.5]}, "neither height and width nor"),
    ],
)
def test_a_step_that_is_not_known_is_refused(settings, said):
    with pytest.raises(ClassifierError, match=said):
        from_transformers(settings)


@pytest.mark.parametrize("settings", [{"crop_mode": "border"}, {"interpolation": "lanczos"}])
def test_a_step_of_timm_that_is_not_known_is_refused(settings):
    with pytest.raises(ClassifierError, match="is not one of"):
        from_timm(settings)


def test_an_image_smaller_than_the_crop_is_refused():
    with pytest.raises(ValueError, match="smaller than the model's crop"):
        Pipeline(nn.Identity(), Preprocessing(crop=(40, 40)))(torch.zeros(1, 3, 32, 32))


# -- options


def test_truncation_lowers_63_of_the_256_levels_of_a_clean_image_and_rounding_none():
    levels = torch.arange(256).float() / 255
    through_the_network = ((levels - 0.5) * 2 + 1) * 0.5  # as Consistency Purification's code goes to [-1,1] and back
    truncated = (_as_stored(through_the_network, "truncate") * 255).round()
    assert int((truncated == torch.arange(256) - 1).sum()) == 63
    assert int((truncated == torch.arange(256)).sum()) == 256 - 63
    assert torch.equal((_as_stored(through_the_network, "round") * 255).round(), torch.arange(256).float())
    assert torch.equal(_as_stored(through_the_network, "exact"), through_the_network)


def test_truncation_lets_values_outside_an_image_pass():
    x = torch.tensor([-0.5, -0.001, 1.001, 1.5])
    assert torch.allclose(_as_stored(x, "truncate") * 255, torch.tensor([-127.0, 0.0, 255.0, 382.0]))


def test_the_published_pipeline_of_the_vit_is_reproduced():
    """`(u+1)/2*255`, to int, bilinear to 224, `/255*2-1`: Consistency Purification's code, written out."""
    u = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2.4 - 1.2
    wanted = F.interpolate(((u + 1) * 0.5 * 255).int().float(), size=(224, 224), mode="bilinear") / 255 * 2 - 1
    steps = Preprocessing((0.5,) * 3, (0.5,) * 3, (224, 224), antialias=False)
    got = Pipeline(nn.Identity(), steps, "truncate").ready("cpu")((u + 1) / 2)
    assert torch.allclose(got, wanted, atol=1e-5)


def test_the_published_resizing_of_denoised_smoothing_is_reproduced():
    """Bicubic with a low-pass to 224, nothing quantised (diffusion_denoised_smoothing)."""
    u = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wanted = F.interpolate(u, (224, 224), mode="bicubic", antialias=True)
    steps = Preprocessing((0.5,) * 3, (0.5,) * 3, (224, 224), "bicubic")
    got = Pipeline(nn.Identity(), steps).ready("cpu")((u + 1) / 2)
    assert torch.allclose(got, wanted, atol=1e-5)
