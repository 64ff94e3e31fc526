"""Classifiers of other projects: preprocessed as their own libraries do, from weights that run no code."""

from __future__ import annotations

import dataclasses
import json
import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bench.plugins import CLASSIFIER, PluginError, create, parameters
from classifiers import hub
from classifiers.base import ClassifierError
from classifiers.nets.pipeline import Pipeline, as_stored
from classifiers.nets.resnet import CIFARResNet, load_resnet
from classifiers.preprocessing import Preprocessing, from_timm, from_transformers

MODEL_FILES = ["model.safetensors", "config.json", "preprocessor_config.json"]


@pytest.fixture(autouse=True)
def an_empty_folder_of_classifiers(monkeypatch, tmp_path):
    monkeypatch.setenv(hub.FOLDER, str(tmp_path / "classifiers"))


@pytest.fixture(scope="module")
def smooth_image() -> np.ndarray:
    """An 8-bit image [H,W,3] without edges, on which filters differ little from their rounded selves."""
    y, x = np.mgrid[0:32, 0:32] / 31
    return (255 * np.stack([x, y, (x + y) / 2], 2)).round().astype(np.uint8)


def as_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.transpose(2, 0, 1)[None]).float() / 255


# -- preprocessing ------------------------------------------------------------------------------------------------


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


# -- options ------------------------------------------------------------------------------------------------------


def test_truncation_lowers_63_of_the_256_levels_of_a_clean_image_and_rounding_none():
    levels = torch.arange(256).float() / 255
    through_the_network = ((levels - 0.5) * 2 + 1) * 0.5  # as Consistency Purification's code goes to [-1,1] and back
    truncated = (as_stored(through_the_network, "truncate") * 255).round()
    assert int((truncated == torch.arange(256) - 1).sum()) == 63
    assert int((truncated == torch.arange(256)).sum()) == 256 - 63
    assert torch.equal((as_stored(through_the_network, "round") * 255).round(), torch.arange(256).float())
    assert torch.equal(as_stored(through_the_network, "exact"), through_the_network)


def test_truncation_lets_values_outside_an_image_pass():
    x = torch.tensor([-0.5, -0.001, 1.001, 1.5])
    assert torch.allclose(as_stored(x, "truncate") * 255, torch.tensor([-127.0, 0.0, 255.0, 382.0]))


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


@pytest.fixture(scope="module")
def tiny_resnet(tmp_path_factory) -> tuple[CIFARResNet, dict[str, torch.Tensor]]:
    """A ResNet of 8 layers with random weights and statistics, before any folding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = CIFARResNet(1, 10)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 2)
                module.weight.data.uniform_(0.5, 1.5)
                module.bias.data.normal_(0, 0.1)
    return model.eval(), {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.fixture
def resnet_file(tiny_resnet, tmp_path):
    from safetensors.torch import save_file

    save_file(tiny_resnet[1], tmp_path / "resnet.safetensors")
    return tmp_path / "resnet.safetensors"


@torch.inference_mode()
def test_local_votes_are_the_mean_confidence_over_fixed_noise_and_are_counted(resnet_file):
    """DiffSmooth's classifier, written out from its code: seed 42, one noise for all images, softmax averaged."""
    x = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    plain = create(CLASSIFIER, "resnet-cifar", {"path": str(resnet_file)}).load()
    local = {"path": str(resnet_file), "local_votes": 5, "local_noise": 0.25}
    voting = create(CLASSIFIER, "resnet-cifar", local).load()
    noise = torch.randn(5, 3, 32, 32, generator=torch.Generator().manual_seed(42)) * 0.25
    wanted = sum(plain(x + noise[i]).softmax(1) for i in range(5)) / 5
    assert torch.allclose(voting(x), wanted, atol=1e-6)
    assert voting.rows == 5 * 4 and plain.rows == 5 * 4
    assert torch.allclose(voting(x[2:3]), wanted[2:3], atol=1e-5)  # a row's result is its own


@pytest.mark.parametrize("options", [{"local_votes": 5}, {"local_votes": 0}, {"local_noise": -1}, {"pixels": "floor"}])
def test_options_that_make_no_sense_are_refused_by_name(options):
    with pytest.raises(PluginError, match=next(iter(options))):
        create(CLASSIFIER, "resnet-cifar", {"path": "x", **options})


def test_options_that_are_off_are_no_part_of_a_cell_and_those_that_are_on_are():
    off = create(CLASSIFIER, "resnet-cifar", {"path": "x"})
    assert parameters(off) == {"path": "x", "normalisation": "imagenet"}
    on = create(CLASSIFIER, "resnet-cifar", {"path": "x", "pixels": "truncate"})
    assert parameters(on) == {"path": "x", "normalisation": "imagenet", "pixels": "truncate"}
    assert parameters(create(CLASSIFIER, "cnn", {})) == {"path": "mnist5k/classifier"}


# -- CIFAR ResNets --------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_folding_the_normalisations_keeps_the_function(tiny_resnet, resnet_file):
    x = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(load_resnet(resnet_file)(x), tiny_resnet[0](x), atol=1e-4)


@torch.inference_mode()
def test_the_shared_resnets_load_with_the_depths_in_their_names(shared_data):
    for depth in (20, 56):
        model = load_resnet(shared_data / "classifiers" / f"cifar10-resnet{depth}.safetensors")
        assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) + 1 == depth


def test_a_checkpoint_of_locuslab_smoothing_loads(tiny_resnet, tmp_path):
    """Its names have a wrapper, `fc` and `downsample`, and the file holds an optimiser's state as well."""
    model = CIFARResNet(1, 10, projected=True)
    names = {"linear.": "fc.", ".shortcut.": ".downsample."}
    state = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        state[f"1.{name}"] = tensor
    content = {"epoch": 90, "arch": "cifar_resnet8", "state_dict": state, "optimizer": {"param_groups": [{"lr": 0.1}]}}
    torch.save(content, tmp_path / "checkpoint.pth.tar")
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        assert torch.allclose(load_resnet(tmp_path / "checkpoint.pth.tar")(x), model.eval()(x), atol=1e-4)


class Code:
    """What a hostile checkpoint would hold."""

    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


@pytest.mark.parametrize(
    "content", [{"state_dict": Code()}, Code(), [1, 2], {"state_dict": {"conv1.weight": "text"}}, {"conv1.weight": 1}]
)
def test_a_checkpoint_that_holds_more_than_tensors_is_refused_and_nothing_is_run(tmp_path, content):
    torch.save(content, tmp_path / "evil.pth")
    with pytest.raises(ClassifierError, match=r"evil\.pth"):
        load_resnet(tmp_path / "evil.pth")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.pop("layer2.0.bn2.weight"), r"lacks layer2\.0\.bn2\.weight"),
        (lambda s: s.update({"head.weight": torch.zeros(1)}), r"besides head\.weight"),
        (lambda s: s.pop("linear.weight"), r"lacks linear\.weight"),
        (lambda s: s.update({"layer3.0.conv2.weight": torch.zeros(64, 64, 1, 1)}), "size mismatch"),
    ],
)
def test_weights_of_another_architecture_are_refused_by_the_names_of_their_keys(tiny_resnet, tmp_path, change, said):
    from safetensors.torch import save_file

    state = dict(tiny_resnet[1])
    change(state)
    save_file(state, tmp_path / "other.safetensors")
    with pytest.raises(ClassifierError, match=said):
        load_resnet(tmp_path / "other.safetensors")


def test_a_truncated_or_missing_file_is_named(resnet_file, tmp_path):
    resnet_file.write_bytes(resnet_file.read_bytes()[:-50])
    with pytest.raises(ClassifierError, match=r"resnet\.safetensors cannot be read"):
        load_resnet(resnet_file)
    with pytest.raises(ClassifierError, match=r"absent\.safetensors is missing"):
        create(CLASSIFIER, "resnet-cifar", {"path": str(tmp_path / "absent.safetensors")}).files()


def test_a_known_resnet_is_read_from_the_place_where_it_is_put_by_hand(tiny_resnet):
    classifier = create(CLASSIFIER, "resnet-cifar", {"path": "cohen2019/resnet110-noise_0.25"})
    place = hub.by_hand("cohen2019/resnet110-noise_0.25")
    with pytest.raises(ClassifierError, match=rf"{place} is missing; get models/.*checkpoint\.pth\.tar of .*smoothing"):
        classifier.files()
    place.parent.mkdir(parents=True)
    torch.save({"state_dict": tiny_resnet[1]}, place)
    assert classifier.files() == (place,)
    assert classifier.load()(torch.zeros(1, 3, 32, 32)).shape == (1, 10)


# -- Hugging Face ---------------------------------------------------------------------------------------------------


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


# -- timm -----------------------------------------------------------------------------------------------------------


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


# -- RobustBench ----------------------------------------------------------------------------------------------------


@pytest.fixture
def fake_robustbench(monkeypatch):
    """The one function of RobustBench that is called, as its version 1.1.1 behaves: it writes, then reads, a file."""
    import os
    from pathlib import Path

    def load_model(model_name, model_dir, dataset, threat_model):
        assert os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] == "1"
        if model_name == "Unknown":
            raise KeyError(model_name)
        file = Path(model_dir) / dataset / threat_model / f"{model_name}.pt"
        file.parent.mkdir(parents=True, exist_ok=True)
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
        if not file.is_file():
            torch.save(model.state_dict(), file)
        model.load_state_dict(torch.load(file))
        return model

    module = types.ModuleType("robustbench.utils")
    module.load_model = load_model
    monkeypatch.setitem(sys.modules, "robustbench", types.ModuleType("robustbench"))
    monkeypatch.setitem(sys.modules, "robustbench.utils", module)
    monkeypatch.setattr(hub, "find_spec", lambda _: True)
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)


def test_a_model_of_robustbench_takes_images_as_they_are_and_is_read_as_tensors_only(fake_robustbench, tmp_path):
    import os

    classifier = create(CLASSIFIER, "robustbench", {"path": "Standard", "folder": str(tmp_path)})
    with pytest.raises(ClassifierError, match=r"cifar10/L2/Standard\.pt is missing"):
        classifier.files(download=False)
    (file,) = classifier.files()
    assert file == tmp_path / "cifar10" / "L2" / "Standard.pt" and file.is_file()
    x = torch.rand(2, 3, 2, 2)
    state = torch.load(file)
    assert torch.allclose(classifier.load()(x), F.linear(x.flatten(1), state["1.weight"], state["1.bias"]), atol=1e-6)
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ


def test_a_model_that_robustbench_does_not_have_says_where_to_put_it(fake_robustbench, tmp_path):
    with pytest.raises(ClassifierError, match=r"no model 'Unknown' for cifar10, L2.*cifar10/L2/Unknown\.pt"):
        create(CLASSIFIER, "robustbench", {"path": "Unknown", "folder": str(tmp_path)}).files()
