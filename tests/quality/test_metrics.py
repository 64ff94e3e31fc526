"""Distances of purified to clean images agree with independent computations, and name who judged."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from bench.data import load as load_images
from bench.quality import metrics as quality_metrics
from bench.quality.distances import frechet_distance, l2, transport_cost
from bench.quality.metrics import Reference, Unavailable, load_metrics
from bench.store.quality import Network
from classifiers.own import OwnCNN
from purifiers.nets.hub.cards import BUNDLED, read_card
from purifiers.training import imagenet, perceptual
from purifiers.training.perceptual import TrunkUnavailable

FEW = 6


@pytest.fixture(scope="module")
def setting():
    """What judges know of the embedded benchmark, on a few digits."""
    images = load_images("mnist5k", "test").images[:FEW]
    classifier = OwnCNN()
    return Reference(
        np.ascontiguousarray(images), "mnist5k", classifier.load(), "cnn", tuple(classifier.files()), "features"
    )


@pytest.fixture
def offline(monkeypatch):
    """A machine without any of the networks that are downloaded."""

    import torchvision.models  # noqa: F401  # they take the function that is patched when they are first imported

    with contextlib.suppress(ImportError):
        import torch_fidelity  # noqa: F401

    def unreachable(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", unreachable)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", unreachable)


def noisy(setting: Reference, level: float = 0.3) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=setting.clean.shape)
    return (setting.clean + level * noise).clip(0, 1).astype(np.float32)


def reference_frechet(a: np.ndarray, b: np.ndarray) -> float:
    """As the formula stands in Heusel et al. 2017, by scipy's matrix square root."""
    first, second = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(first @ second)
    apart = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return float(apart + np.trace(first) + np.trace(second) - 2 * np.trace(root).real)


@pytest.mark.parametrize(("n", "m", "d"), [(50, 50, 5), (40, 90, 8), (300, 200, 20)])
def test_the_frechet_distance_is_the_one_by_a_matrix_square_root(n, m, d):
    rng = np.random.default_rng(n)
    a = rng.normal(size=(n, d)) @ rng.normal(size=(d, d))
    b = rng.normal(size=(m, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)
    assert frechet_distance(a, b) == pytest.approx(reference_frechet(a, b), rel=1e-6)


def test_the_frechet_distance_holds_where_features_outnumber_images():
    """Then covariances are singular, where a matrix square root fails; on a line it is known by hand."""
    rng = np.random.default_rng(0)
    direction = np.zeros(200)
    direction[7] = 1.0
    a, b = rng.normal(size=30), 3 * rng.normal(size=30) + 2
    known = (a.mean() - b.mean()) ** 2 + (a.std(ddof=1) - b.std(ddof=1)) ** 2
    assert frechet_distance(np.outer(a, direction), np.outer(b, direction)) == pytest.approx(known)


def test_the_frechet_distance_of_large_samples_is_that_of_their_gaussians():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(200_000, 3)) * [1.0, 2.0, 0.5], rng.normal(size=(200_000, 3)) * [2.0, 2.0, 1.5] + [1, 0, -2]
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + 1**2 + 0 + 1**2, abs=0.05)


@given(st.integers(2, 40), st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=30)
def test_the_frechet_distance_is_symmetric_and_of_a_set_to_itself_nothing(n, d, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, d)), rng.normal(size=(n + 1, d)) + 1
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), abs=1e-8)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-8)


def test_one_image_has_no_frechet_distance():
    with pytest.raises(ValueError, match="two images at least"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))


@given(st.integers(1, 6), st.integers(0, 2**31))
@settings(max_examples=30)
def test_the_transport_cost_is_the_least_of_all_pairings(n, seed):
    rng = np.random.default_rng(seed)
    a, b = rng.random((2, n, 1, 2, 3))
    flat = a.reshape(n, -1), b.reshape(n, -1)
    by_force = min(
        np.mean([np.sqrt(((flat[0][i] - flat[1][j]) ** 2).sum()) for i, j in enumerate(order)])
        for order in itertools.permutations(range(n))
    )
    assert transport_cost(a, b) == pytest.approx(by_force)
    assert transport_cost(a, b) <= l2(a, b).mean() + 1e-12


def test_transport_does_not_care_who_came_from_where():
    rng = np.random.default_rng(2)
    clean = rng.random((20, 1, 4, 4))
    assert transport_cost(clean[::-1], clean) == 0 < l2(clean[::-1], clean).mean()


def test_the_distance_on_features_is_what_lpips_computes_with_unit_weights(setting):
    """Its own steps: `normalize_tensor`, squared difference, sum over channels, mean over space, on the same maps."""
    import lpips

    found, _ = load_metrics(setting, ["perceptual"])
    purified = noisy(setting)
    network = quality_metrics.classifier_files.load_cnn(
        quality_metrics.classifier_files.BUNDLED / "mnist5k" / "features.safetensors"
    )
    maps = [network.features(torch.from_numpy(x)) for x in (purified, setting.clean)]
    expected = sum(
        lpips.spatial_average((lpips.normalize_tensor(a) - lpips.normalize_tensor(b)).square().sum(1, keepdim=True))
        for a, b in zip(*maps, strict=True)
    )
    assert found["perceptual"].measure(purified) == pytest.approx(expected.flatten().numpy(), rel=1e-4)
    assert found["perceptual"].measure(setting.clean) == pytest.approx(np.zeros(FEW), abs=1e-6)


def test_lpips_judges_where_its_trunk_can_be_had(setting, monkeypatch):
    """With a trunk of random weights: the judge gives what the lpips package gives on images resized to 224."""
    import lpips

    torch.manual_seed(0)
    metric = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False).eval()
    monkeypatch.setattr("lpips.LPIPS", lambda **_: metric)
    found, missing = load_metrics(replace(setting, perceptual="auto"), ["perceptual"])
    purified = noisy(setting)
    pair = [
        torch.nn.functional.interpolate(torch.from_numpy(2 * x - 1).expand(-1, 3, -1, -1), 224, mode="bilinear")
        for x in (setting.clean, purified)
    ]
    assert found["perceptual"].measure(purified) == pytest.approx(metric(*pair).flatten().numpy(), rel=1e-4)
    assert found["perceptual"].network.name == "LPIPS (AlexNet, at 224)" and not missing


def test_without_a_trunk_the_second_classifier_judges_and_says_so(setting, offline):
    found, missing = load_metrics(replace(setting, perceptual="auto"), ["perceptual", "l2", "fid"])
    assert found["perceptual"].network.name.startswith("LPIPS' arithmetic on the features of mnist5k/features")
    assert len(found["perceptual"].network.hash) == 16
    assert set(missing) == {"fid"} and "could not be fetched" in missing["fid"]


def test_cifar10_from_jpegs_is_judged_by_the_second_classifier_of_cifar10(setting, offline):
    colour = setting.clean.repeat(3, axis=1)
    found, _ = load_metrics(
        replace(setting, perceptual="features", dataset="cifar10-jpeg", clean=colour), ["perceptual"]
    )
    judge = found["perceptual"].network.name
    assert judge == "LPIPS' arithmetic on the features of cifar10/features, a second classifier that is never evaluated"
    assert judge in str(read_card(BUNDLED / "cifar10" / "edm-ft.safetensors").training["distance"])


def test_what_cannot_judge_is_missing_with_the_reason_and_no_folder(setting, offline, monkeypatch):
    monkeypatch.setattr(imagenet, "_PACKAGE", "purifybench-absent")
    asked = replace(setting, perceptual="auto", dataset="cifar100")
    found, missing = load_metrics(asked)
    assert set(found) == {"l2", "transport", "frechet"}
    for name in ("alexnet-owt", "vgg16", "no second classifier of cifar100"):
        assert name in missing["perceptual"]
    assert "purifybench-absent is not installed" in missing["imagenet"]
    assert "/" not in missing["perceptual"] and "/" not in missing["fid"]


def test_the_trunk_of_a_training_run_has_its_own_remedy(offline):
    with pytest.raises(TrunkUnavailable, match=r"put vgg16-397923af\.pth"):
        perceptual.lpips_distance()


def test_the_classifier_that_votes_gives_features_or_logits(setting):
    purified = noisy(setting)
    features = [
        setting.classifier.features(torch.from_numpy(x))[-1].mean((2, 3)).numpy() for x in (purified, setting.clean)
    ]
    found, _ = load_metrics(setting, ["frechet"])
    assert found["frechet"].measure(purified) == pytest.approx(frechet_distance(*features), rel=1e-4)
    assert f"{features[0].shape[1]} features" in found["frechet"].network.name

    def logits(x):
        return setting.classifier(x)

    found, _ = load_metrics(replace(setting, classifier=logits), ["frechet"])
    assert "10 logits" in found["frechet"].network.name
    expected = frechet_distance(*(logits(torch.from_numpy(x)).numpy() for x in (purified, setting.clean)))
    assert found["frechet"].measure(purified) == pytest.approx(expected, rel=1e-4)


def test_the_imagenet_distance_is_a_metric_of_a_named_and_hashed_network(setting, monkeypatch):
    monkeypatch.setattr("bench.quality.metrics.imagenet.imagenet_distance", lambda device: perceptual.l1)
    found, missing = load_metrics(setting, ["imagenet", "l2"])
    assert set(found) == {"imagenet", "l2"} and not missing
    assert found["imagenet"].network == Network(imagenet.JUDGE, imagenet.SHA256)
    assert found["imagenet"].measure(setting.clean / 2) == pytest.approx(setting.clean.mean((1, 2, 3)), rel=1e-5)


def test_without_the_extra_the_imagenet_distance_is_missing_and_the_reason_names_it(setting, monkeypatch):
    monkeypatch.setattr(imagenet, "_PACKAGE", "no-such-package-of-weights")
    found, missing = load_metrics(setting, ["imagenet", "l2"])
    assert set(found) == {"l2"} and "purifybench[judge]" in missing["imagenet"] and "/" not in missing["imagenet"]


@pytest.mark.parametrize(("wanted", "perceptual"), [(["lpip"], "auto"), (["l2"], "features2")])
def test_unknown_metrics_and_distances_are_refused_with_the_list(setting, wanted, perceptual):
    with pytest.raises(ValueError, match=r"(?s)unknown .* Known: "):
        load_metrics(replace(setting, perceptual=perceptual), wanted)


@pytest.fixture
def inception(monkeypatch, tmp_path):
    """torch.hub's cache in a folder of the test's; gives the library, and the file that its weights would lie in."""
    library = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", reason="needs the extra `metrics`")
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))  # set by whichever library asked for it first
    # the library keeps the function that it found when it was imported, perhaps another test's refusal
    monkeypatch.setattr(library, "load_state_dict_from_url", torch.hub.load_state_dict_from_url)
    path = tmp_path / "hub" / "checkpoints" / library.URL_INCEPTION_V3.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    return library, path


def test_fid_is_the_frechet_distance_of_inceptions_features(setting, inception, monkeypatch):
    library, path = inception
    with monkeypatch.context() as patched:  # random weights of the right shapes
        patched.setattr(library, "load_state_dict_from_url", lambda *_, **__: {})
        patched.setattr(library.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        torch.manual_seed(0)
        network = library.FeatureExtractorInceptionV3("inception", ["2048"])
    torch.save(network.state_dict(), path)
    found, missing = load_metrics(setting, ["fid"])
    assert not missing and found["fid"].network.hash == path.name
    purified = noisy(setting)
    pixels = [
        torch.from_numpy((x * 255).round().astype(np.uint8)).expand(-1, 3, -1, -1) for x in (purified, setting.clean)
    ]
    expected = frechet_distance(*(network(x)[0].numpy() for x in pixels))
    assert found["fid"].measure(purified) == pytest.approx(expected, rel=1e-4)


class Evil:
    def __reduce__(self):
        return (print, ("this ran",))


def test_an_inception_file_that_would_run_code_is_refused(setting, inception, capsys):
    torch.save(Evil(), inception[1])
    with pytest.raises(Unavailable, match="is not what torch-fidelity published"):
        quality_metrics._inception(setting)
    assert "this ran" not in capsys.readouterr().out
