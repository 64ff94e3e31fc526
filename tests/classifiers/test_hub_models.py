"""Classifiers of the Hugging Face hub: prepared as their own libraries do, from weights that run no code."""

from __future__ import annotations

import dataclasses
import json

import foreign
import numpy as np
import pytest
import torch

from bench.plugins.registry import CLASSIFIER, create
from classifiers import hub
from classifiers.base import ClassifierError
from classifiers.preprocessing import Preprocessing

MODEL_FILES = ["model.safetensors", "config.json", "preprocessor_config.json"]


@pytest.fixture(autouse=True)
def an_empty_folder_of_classifiers(monkeypatch, tmp_path):
    monkeypatch.setenv(hub._FOLDER, str(tmp_path / "classifiers"))


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1)[None]).float() / 255


# -- transformers


@pytest.fixture(scope="module")
def tiny_vit(tmp_path_factory):
    """A folder as `save_pretrained` writes it: a ViT of one layer with random weights, for 40x40 pixels."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("hub") / "tiny-vit"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.ViTConfig(**sizes, image_size=40, patch_size=8, num_labels=10)
        transformers.ViTForImageClassification(config).save_pretrained(folder)
    transformers.ViTImageProcessor(size={"height": 40, "width": 40}).save_pretrained(folder)
    return folder


@torch.inference_mode()
def test_a_model_of_transformers_gives_the_logits_that_transformers_gives(tiny_vit, smooth_image):
    import transformers

    classifier = create(CLASSIFIER, "hf", {"path": str(tiny_vit)})
    model = transformers.AutoModelForImageClassification.from_pretrained(tiny_vit).eval()
    pixels = transformers.AutoImageProcessor.from_pretrained(tiny_vit)(smooth_image, return_tensors="pt")
    wanted = model(**pixels).logits
    got = classifier.load()(as_tensor(smooth_image))
    assert got.shape == (1, 10) and torch.allclose(got, wanted, atol=2e-3)
    assert float(wanted.std()) > 0.05  # the agreement says something


def test_preprocessing_is_recorded_and_its_file_is_part_of_the_identity(tiny_vit):
    classifier = create(CLASSIFIER, "hf", {"path": str(tiny_vit), "interpolation": "bicubic", "pixels": "exact"})
    assert [file.name for file in classifier.files()] == [
        "model.safetensors",
        "config.json",
        "preprocessor_config.json",
    ]
    assert classifier.preprocessing() == {
        "pixels": "exact",
        **dataclasses.asdict(Preprocessing((0.5,) * 3, (0.5,) * 3, (40, 40), "bicubic")),
    }


def copy_of(folder, tmp_path):
    import shutil

    return shutil.copytree(folder, tmp_path / folder.name)


@pytest.mark.parametrize("name", MODEL_FILES)
def test_a_folder_that_lacks_a_file_names_it(tiny_vit, tmp_path, name):
    folder = copy_of(tiny_vit, tmp_path)
    (folder / name).unlink()
    with pytest.raises(ClassifierError, match=f"tiny-vit lacks {name}"):
        create(CLASSIFIER, "hf", {"path": str(folder)}).files()


def test_weights_that_are_not_of_the_configuration_are_refused(tiny_vit, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = copy_of(tiny_vit, tmp_path)
    state = load_file(folder / "model.safetensors")
    save_file(
        {n: t for n, t in state.items() if n != "classifier.weight"}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(ClassifierError, match=r"missing_keys.*classifier\.weight"):
        create(CLASSIFIER, "hf", {"path": str(folder)}).load()


@pytest.mark.parametrize("name", ["extra.weight", "vit.pooler.dense.weight"])
def test_weights_that_the_model_has_no_use_for_are_refused_but_for_those_of_a_pooler(tiny_vit, tmp_path, name):
    """Many models are published with a pooler, which makes no difference to their logits."""
    from safetensors.torch import load_file, save_file

    folder = copy_of(tiny_vit, tmp_path)
    state = load_file(folder / "model.safetensors")
    save_file({**state, name: torch.ones(2, 2)}, folder / "model.safetensors", {"format": "pt"})
    classifier = create(CLASSIFIER, "hf", {"path": str(folder)})
    if "pooler" in name:
        x = torch.rand(2, 3, 40, 40)
        assert torch.equal(classifier.load()(x), create(CLASSIFIER, "hf", {"path": str(tiny_vit)}).load()(x))
    else:
        with pytest.raises(ClassifierError, match=r"unexpected_keys.*extra\.weight"):
            classifier.load()


@pytest.mark.parametrize(
    "processor",
    [
        {"image_processor_type": "MobileViTImageProcessor", "do_flip_channel_order": True},
        {"image_processor_type": "LevitImageProcessor", "size": {"shortest_edge": 40}},
        {"image_processor_type": "EfficientNetImageProcessor", "include_top": True},
    ],
    ids=lambda processor: processor["image_processor_type"],
)
def test_a_processor_that_does_more_than_its_configuration_says_is_refused(tiny_vit, tmp_path, processor):
    """Channels in another order, a size of its own making, a second normalisation."""
    folder = copy_of(tiny_vit, tmp_path)
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    (folder / "preprocessor_config.json").write_text(json.dumps({**settings, **processor}))
    with pytest.raises(ClassifierError, match=f"its {processor['image_processor_type']}.* does more to an image"):
        create(CLASSIFIER, "hf", {"path": str(folder)}).load()


@pytest.mark.parametrize("name", ["hf", "timm"])
def test_weights_that_would_run_code_are_refused_and_nothing_is_run(tiny_vit, tiny_timm, tmp_path, name):
    folder = copy_of({"hf": tiny_vit, "timm": tiny_timm[0]}[name], tmp_path)
    (folder / "model.safetensors").unlink()
    torch.save({"weight": foreign.Runs("ran")}, folder / "pytorch_model.bin")
    with pytest.raises(ClassifierError, match=r"cannot be (loaded|read)"):
        create(CLASSIFIER, name, {"path": str(folder)}).load()
    assert foreign.EXECUTED == []
    torch.load(folder / "pytorch_model.bin", weights_only=False)
    assert foreign.EXECUTED.pop() == "ran"  # it would have


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_damaged_file_of_a_model_is_refused(tiny_vit, tmp_path, name):
    folder = copy_of(tiny_vit, tmp_path)
    (folder / name).write_bytes((folder / name).read_bytes()[:40])
    with pytest.raises(ClassifierError, match="tiny-vit cannot be loaded by transformers"):
        create(CLASSIFIER, "hf", {"path": str(folder)}).load()


def test_a_damaged_preprocessing_is_named(tiny_vit, tmp_path):
    folder = copy_of(tiny_vit, tmp_path)
    (folder / "preprocessor_config.json").write_text('{"resample": 1}')
    with pytest.raises(ClassifierError, match=r"preprocessor_config\.json: "):
        create(CLASSIFIER, "hf", {"path": str(folder)}).preprocessing()
    (folder / "preprocessor_config.json").write_text("[")
    with pytest.raises(ClassifierError, match=r"preprocessor_config\.json cannot be read"):
        create(CLASSIFIER, "hf", {"path": str(folder)}).preprocessing()


PAPER_VIT = "aaraki/vit-base-patch16-224-in21k-finetuned-cifar10"


@pytest.fixture
def offline(monkeypatch):
    """The hub cannot be reached, and its cache is empty."""
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def absent(*_, local_files_only=False, **__):
        if local_files_only:
            raise LocalEntryNotFoundError("nothing cached")
        raise ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)


@pytest.mark.parametrize("download", [True, False])
def test_offline_a_model_of_the_hub_names_its_files_its_size_and_the_place_to_put_them(offline, tmp_path, download):
    pytest.importorskip("transformers")
    with pytest.raises(ClassifierError) as refusal:
        create(CLASSIFIER, "hf", {"path": PAPER_VIT}).files(download)
    for part in ("about 343 MB", "model.safetensors", "config.json", "preprocessor_config.json", "SHA-256"):
        assert part in str(refusal.value)
    assert str(tmp_path / "classifiers" / PAPER_VIT.replace("/", "--")) in str(refusal.value)
    assert ("no route to host" in str(refusal.value)) == download
    assert (refusal.value.obtainable, refusal.value.size) == (True, 4 * 85_806_346)


def test_offline_a_model_that_was_put_there_by_hand_is_found(offline, tiny_vit):
    import shutil

    place = hub.by_hand(PAPER_VIT)
    shutil.copytree(tiny_vit, place)
    assert {file.parent for file in create(CLASSIFIER, "hf", {"path": PAPER_VIT}).files()} == {place}


def test_what_the_hub_has_is_downloaded_once_and_safetensors_are_preferred(tiny_vit, tmp_path, monkeypatch):
    import shutil

    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    cache, asked = tmp_path / "cache", []

    def snapshot(repository, revision, allow_patterns, local_files_only):
        if local_files_only and not cache.is_dir():
            raise LocalEntryNotFoundError("nothing cached")
        if not local_files_only:
            asked.append((repository, revision, tuple(allow_patterns)))
            cache.mkdir(exist_ok=True)
            for name in allow_patterns:
                if (tiny_vit / name).is_file():
                    shutil.copy(tiny_vit / name, cache)
        return str(cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    for _ in range(2):
        files = create(CLASSIFIER, "hf", {"path": "someone/model@abc"}).files()
        assert [file.name for file in files] == MODEL_FILES
    assert asked == [("someone/model", "abc", tuple(MODEL_FILES))]


def test_a_path_that_is_no_folder_is_not_looked_for_on_the_hub(offline, tmp_path):
    pytest.importorskip("transformers")
    with pytest.raises(ClassifierError, match="is not a folder; give one that holds"):
        create(CLASSIFIER, "hf", {"path": str(tmp_path / "absent")}).files()


@pytest.mark.parametrize(
    ("name", "library"), [("hf", "transformers"), ("timm", "timm"), ("robustbench", "robustbench")]
)
def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch, name, library):
    monkeypatch.setattr(hub, "find_spec", lambda _: None)
    with pytest.raises(ClassifierError, match=rf"{library} is not installed; pip install purifybench\[{library}\]"):
        create(CLASSIFIER, name, {"path": "x"}).files()


# -- timm


@pytest.fixture(scope="module")
def tiny_timm(tmp_path_factory):
    timm = pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("timm") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = timm.create_model("test_resnet", pretrained=False, num_classes=10)
        timm.models.save_for_hf(model, folder, safe_serialization=True)
    return folder, model.eval()


@torch.inference_mode()
def test_a_model_of_timm_gives_the_logits_that_timm_gives(tiny_timm, smooth_image):
    from PIL import Image
    from timm.data import create_transform, resolve_model_data_config

    folder, model = tiny_timm
    transform = create_transform(**resolve_model_data_config(model))
    wanted = model(transform(Image.fromarray(smooth_image))[None])
    got = create(CLASSIFIER, "timm", {"path": str(folder)}).load()(as_tensor(smooth_image))
    assert got.shape == (1, 10) and torch.allclose(got, wanted, atol=0.02 * float(wanted.abs().max()))


def test_weights_of_timm_that_are_not_of_the_architecture_are_refused(tiny_timm, tmp_path):
    folder = copy_of(tiny_timm[0], tmp_path)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "architecture": "test_vit"}))
    with pytest.raises(ClassifierError, match=r"is not the model of the config\.json beside it"):
        create(CLASSIFIER, "timm", {"path": str(folder)}).load()


def test_a_plain_name_of_timm_means_its_repository_on_the_hub(offline):
    pytest.importorskip("timm")
    with pytest.raises(ClassifierError, match=r"hf download timm/resnet18\.a1_in1k"):
        create(CLASSIFIER, "timm", {"path": "resnet18.a1_in1k"}).files()
