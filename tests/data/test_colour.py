"""End to end on colour images: CIFAR-10 (JPEG) and a published ResNet-56, from a preset to certificates."""

from __future__ import annotations

import pytest
import torch

from bench import data
from bench.engine.devices import choose_precision
from bench.engine.noise import SMOOTHING, RowRng
from bench.plugins.registry import CLASSIFIER, create
from bench.store.run import read_run
from bench.summary.summary import summarise
from bench.sweep import preset
from bench.sweep.plan import make_plan

SIGMA, N = 0.12, 60
FAST = choose_precision("auto", "cpu")  # a plain loop in bf16 takes minutes where torch emulates it
JPEG_ACCURACY = 0.832  # measured on all 10,000 test images; on CIFAR-10 itself the network reaches 93.6 %


@pytest.fixture(scope="module")
def resnet56(shared_data):
    return {"path": str(shared_data / "classifiers" / "cifar10-resnet56.safetensors"), "precision": FAST}


@pytest.fixture(scope="module")
def images(shared_data):
    return data.load("cifar10-jpeg", "test", str(shared_data / "cifar10-jpeg"))


@torch.inference_mode()
def test_the_clean_accuracy_is_that_of_a_network_that_never_saw_jpegs(resnet56, images):
    logits = create(CLASSIFIER, "resnet-cifar", resnet56).load()
    rows = range(0, 2000, 4)
    hits = [
        (logits(torch.from_numpy(images.images[rows[i : i + 50]])).argmax(1).numpy() == images.labels[rows[i : i + 50]])
        for i in range(0, len(rows), 50)
    ]
    accuracy = sum(int(h.sum()) for h in hits) / len(rows)
    assert abs(accuracy - JPEG_ACCURACY) < 0.05  # three standard errors of 500 images


@pytest.fixture(scope="module")
def colour_preset(tmp_path_factory, shared_data, resnet56):
    """Plain smoothing of 50 images, each certified with N = 60."""
    path = tmp_path_factory.mktemp("colour") / "colour.toml"
    path.write_text(
        f"""
title = "Colour"
dataset = "cifar10"
data = "{shared_data / "cifar10-jpeg"}"
images = 50
every = 200
classifier = {{ name = "resnet-cifar", path = "{resnet56["path"]}", precision = "{FAST}" }}
purifiers = ["none"]
sigmas = [{SIGMA}]
n0 = 10
certifier = "cohen"
n = {N}
radii = [0.0, 0.05, 0.1]
device = "cpu"
workers = 1
batch = 100
"""
    )
    return path


def test_a_colour_preset_certifies_plain_smoothing_end_to_end(cli, colour_preset, tmp_path, resnet56, images):
    result = cli("run", colour_preset, "--out", tmp_path / "run", "--no-plots")
    assert result.exit_code == 0, result.output
    assert "CIFAR-10 (JPEG)" in result.stdout  # asked for as cifar10, called what it is
    run = read_run(tmp_path / "run")
    (cell,) = run.cells.values()
    assert cell.dataset == "cifar10-jpeg" and run.manifest["data"] == "CIFAR-10 (JPEG)"
    assert run.manifest["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert sorted(map(int, run.manifest["labels"])) == list(range(0, 10_000, 200))
    summary = summarise([run])
    (row,) = summary.table.to_dict("records")
    assert row["images"] == 50 and row["nfe"] == 0 and row["classifier_rows"] == 1
    assert 0.02 <= row["acc@0"] <= 0.5  # a network trained on clean images, under noise
    assert row["acc@0"] >= row["acc@0.05"] >= row["acc@0.1"]
    assert set(run.blocks.query("stage == 'estimate'").groupby("image")["draws"].sum()) == {N}

    # the votes of an image's first block, by a plain loop
    logits = create(CLASSIFIER, "resnet-cifar", resnet56).load()
    for image in (0, 4000):
        first = run.blocks.query(f"image == {image} and stage == 'estimate' and first == 0").iloc[0]
        draws = torch.arange(int(first["draws"]))
        x = torch.from_numpy(images.images[image]).expand(len(draws), -1, -1, -1)
        noise = RowRng(cell.seed, SMOOTHING, torch.full_like(draws, image), draws).normal(x.contiguous())
        with torch.inference_mode():
            votes = torch.bincount(logits(x + SIGMA * noise).argmax(1), minlength=10)
        assert int((votes - torch.tensor(list(first["votes"]))).abs().sum()) <= 2  # bf16: a batch may tip a draw


def test_the_published_subset_of_cifar10_is_every_twentieth_image(colour_preset):
    fields = {"images": 500, "seed": 1}
    chosen = preset.load_preset(str(colour_preset), fields).model_copy(update={"every": 20})
    found = make_plan(chosen, "cpu")
    assert found.images == list(range(0, 10_000, 20))
    assert found.preset.title == "Colour [CIFAR-10 (JPEG)]"


@pytest.fixture
def own_images(tmp_path):
    """A folder of 10 small colour images, each of a class of its own."""
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (10, 32, 32, 3)).astype(np.uint8)
    for i, image in enumerate(pixels):
        (tmp_path / "own" / f"class {i}").mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "own" / f"class {i}" / "only.png")
    return tmp_path / "own"


@pytest.fixture
def own_preset(own_images, tmp_path):
    """A preset for these images and a random ResNet of 8 layers, with some fields of the classifier replaced."""
    from safetensors.torch import save_file

    from classifiers.nets.resnet import _CIFARResNet

    weights = tmp_path / "resnet.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_file(_CIFARResNet(1, 10).state_dict(), weights)

    def write(stem="own", /, **classifier):
        from conftest import toml

        fields = {"name": "resnet-cifar", "path": str(weights), **classifier}
        path = tmp_path / f"{stem}.toml"
        path.write_text(
            f'title = "Own"\ndataset = "folder"\ndata = "{own_images}"\nimages = 2\nevery = 3\n'
            f'classifier = {toml(fields)}\npurifiers = ["none"]\nsigmas = [0.5]\ncertifier = "cohen"\n'
            'n0 = 4\nn = 20\nblock = 10\nradii = [0.0]\ndevice = "cpu"\nworkers = 1\n'
        )
        return path

    return write


def test_a_folder_of_ones_own_is_certified_and_local_votes_are_counted(cli, own_preset, tmp_path):
    votes = {}
    for name, local in (("plain", {}), ("diffsmooth", {"local_votes": 5, "local_noise": 0.25})):
        result = cli("run", own_preset(name, **local), "--out", tmp_path / name, "--no-plots")
        assert result.exit_code == 0, result.output
        run = read_run(tmp_path / name)
        assert (run.blocks["classifier_rows"] == (5 if local else 1) * run.blocks["draws"]).all()
        assert (run.blocks["nfe"] == 0).all()
        assert run.manifest["labels"] == {"0": 0, "3": 3} and run.manifest["data"] == "a folder of images"
        votes[name] = run.blocks["votes"].map(list).tolist()
    assert votes["plain"] != votes["diffsmooth"]


def test_a_model_of_the_hub_certifies_from_a_local_folder_and_its_preprocessing_is_recorded(cli, own_preset, tmp_path):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**sizes, image_size=40, patch_size=8, num_labels=10)
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path / "vit")
    transformers.ViTImageProcessor(size={"height": 40, "width": 40}).save_pretrained(tmp_path / "vit")
    path = own_preset("vit", name="hf", path=str(tmp_path / "vit"))
    result = cli("run", path, "--out", tmp_path / "run", "--no-plots")
    assert result.exit_code == 0, result.output
    recorded = read_run(tmp_path / "run").manifest["preprocessing"]
    assert (recorded["pixels"], recorded["resize"], recorded["mean"]) == ("round", [40, 40], [0.5] * 3)
