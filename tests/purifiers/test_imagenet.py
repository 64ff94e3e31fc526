"""The judge that has seen none of our data: it names photographs, and its distance is the documented formula.

The tests need the extra `judge`. `PURIFYBENCH_JUDGE` may name a folder into which `pip install --target` put it.
"""

from __future__ import annotations

import os
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from purifiers.training import imagenet
from purifiers.training.perceptual import choose_distance

SENSIBLE = {"china.jpg": {663, 698, 832}, "flower.jpg": {985}}  # monastery, palace, stupa; daisy
CHELSEA, COFFEE = {281, 282, 285}, {504, 967, 968}  # tabby, tiger cat, Egyptian cat; mug, espresso, cup


@pytest.fixture(scope="module")
def judge():
    if folder := os.environ.get("PURIFYBENCH_JUDGE"):
        sys.path.append(folder)
    pytest.importorskip("timm", reason="timm is not installed: pip install purifybench[judge]")
    try:
        return imagenet.load_judge()
    except imagenet.JudgeUnavailable as error:
        pytest.skip(str(error))


def cropped(photograph, side: int = 224) -> Tensor:
    """The usual evaluation crop of an 8-bit image `[H,W,3]`: shorter edge to 8/7 of the side, then the centre."""
    x = torch.tensor(photograph).permute(2, 0, 1)[None] / 255
    scale = side * 8 / 7 / min(x.shape[2:])
    size = [round(edge * scale) for edge in x.shape[2:]]
    x = F.interpolate(x, size, mode="bicubic", antialias=True).clamp(0, 1)
    top, left = ((edge - side) // 2 for edge in size)
    return x[:, :, top : top + side, left : left + side]


@pytest.mark.parametrize("name", SENSIBLE)
def test_photographs_of_scikit_learn_get_sensible_classes(judge, name):
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn, which carries the photographs, is absent")
    assert int(judge(cropped(datasets.load_sample_image(name))).argmax()) in SENSIBLE[name]


def test_photographs_of_scikit_image_get_sensible_classes(judge):
    images = pytest.importorskip("skimage.data", reason="scikit-image, which carries the photographs, is absent")
    for photograph, classes in ((images.chelsea(), CHELSEA), (images.coffee(), COFFEE)):
        assert int(judge(cropped(photograph)).argmax()) in classes


def test_small_images_of_cifar_are_told_apart_at_the_size_of_the_distance(judge, shared_data):
    """ImageNet has 118 breeds of dogs and two aeroplanes; the images are scaled up from 32 pixels."""
    from bench import data

    split = data.load("cifar10-jpeg", "val", str(shared_data / "cifar10-jpeg"))
    x = torch.from_numpy(split.images[:100])
    probabilities = judge(F.interpolate(x, 128, mode="bilinear")).softmax(1)
    dogs, planes = probabilities[:, 151:269].sum(1), probabilities[:, [404, 895]].sum(1)
    labels = torch.from_numpy(split.labels[:100])
    for group, label in ((dogs, 5), (planes, 0)):
        assert group[labels == label].mean() > 4 * group[labels != label].mean()


def test_the_distance_is_the_documented_formula(judge):
    """Written out, with hooks on timm's own modules instead of the judge's loop."""
    draw = torch.Generator().manual_seed(0)
    a, b = (2 * torch.rand(3, 1, 28, 28, generator=draw) - 1 for _ in range(2))
    found: list[Tensor] = []
    hooks = [judge.network.blocks[i].register_forward_hook(lambda *x: found.append(x[2])) for i in (0, 1, 2, 4, 6)]
    for u in (a, b):
        x = F.interpolate(u.repeat(1, 3, 1, 1), 128, mode="bilinear")
        judge.network((255 * (x + 1) / 2 - 127) / 128)
    for hook in hooks:
        hook.remove()
    assert [len(m[0, 0]) for m in found[:5]] == [64, 32, 16, 8, 4]
    unit = [m / m.square().sum(1, keepdim=True).sqrt() for m in found]
    layers = [(unit[i] - unit[i + 5]).square().sum(1).mean((1, 2)) for i in range(5)]
    distance = imagenet.imagenet_distance()
    assert torch.allclose(distance(a, b), sum(layers) / 5, rtol=1e-4)
    assert torch.allclose(distance(a[1:2], b[1:2]), distance(a, b)[1:2], rtol=1e-4)
    assert bool((distance(a, a) == 0).all())


def test_the_distance_grows_with_noise_and_blur_and_has_a_gradient(judge, shared_data):
    from bench import data

    split = data.load("cifar10-jpeg", "val", str(shared_data / "cifar10-jpeg"))
    u = 2 * torch.from_numpy(split.images[:8]) - 1
    name, distance = choose_distance("imagenet", lambda x: [x], "nothing")
    assert name == imagenet.JUDGE
    noise = torch.randn(u.shape, generator=torch.Generator().manual_seed(0))
    by_noise = [distance(u + level * noise, u).mean() for level in (0.05, 0.2, 0.8)]
    assert by_noise == sorted(by_noise) and by_noise[0] > 0
    blurred = [F.interpolate(F.avg_pool2d(u, k), 32, mode="bilinear") for k in (2, 4)]
    assert distance(blurred[0], u).mean() < distance(blurred[1], u).mean() <= 4
    moving = (u + 0.2 * noise).requires_grad_()
    distance(moving, u).sum().backward()
    assert moving.grad is not None and torch.isfinite(moving.grad).all()
    nearer = moving.detach() - 0.05 * F.normalize(moving.grad.flatten(1)).view_as(u)
    assert bool((distance(nearer, u) < distance(moving, u)).all())


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setattr(imagenet, "_PACKAGE", "no-such-package-of-weights")
    with pytest.raises(imagenet.JudgeUnavailable, match=r"purifybench\[judge\]"):
        choose_distance("imagenet", lambda x: [x], "nothing")


@pytest.mark.parametrize("content", [b"", b"another file"])
def test_other_weights_than_those_that_were_checked_are_refused(monkeypatch, tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    monkeypatch.setattr(imagenet, "_weight_file", lambda: tmp_path / "weights.pth")
    with pytest.raises(imagenet.JudgeUnavailable, match="SHA-256"):
        imagenet.load_judge()
