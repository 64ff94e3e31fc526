"""CLIP as a zero-shot classifier gives the logits of transformers, from files that run no code."""

from __future__ import annotations

import json
import shutil

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError

from bench.data import load as load_images
from bench.plugins.registry import CLASSIFIER, PluginError, create
from bench.sweep.plan import PlanError, make_plan
from bench.sweep.preset import load_preset
from bench.testing import CLASSIFIER_CHECKS
from classifiers import hub
from classifiers.base import ClassifierError
from classifiers.zeroshot.clip import CLASSES

FILES = ["model.safetensors", "config.json", "tokenizer.json", "preprocessor_config.json"]
PROMPTS = "a photo of a {}.|a drawing of a {}."
WORDS = ["[S]", "[E]", "a", "photo", "drawing", "of", ".", *CLASSES["cifar10"].split("|")]


@pytest.fixture(autouse=True)
def an_empty_folder_of_classifiers(monkeypatch, tmp_path):
    monkeypatch.setenv(hub._FOLDER, str(tmp_path / "classifiers"))


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """A folder as `save_pretrained` writes it: two towers of one layer with random weights, and a tokenizer."""
    transformers = pytest.importorskip("transformers")
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder = tmp_path_factory.mktemp("hub") / "tiny-clip"
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    text = {**sizes, "vocab_size": len(WORDS), "max_position_embeddings": 12, "bos_token_id": 0, "eos_token_id": 1}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.CLIPConfig(
            text_config=text, vision_config={**sizes, "image_size": 40, "patch_size": 8}, projection_dim=16
        )
        transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 40, "width": 40}).save_pretrained(
        folder
    )
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[E]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[S] $A [E]", special_tokens=[("[S]", 0), ("[E]", 1)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def made(folder, **parameters):
    return create(CLASSIFIER, "clip", {"path": str(folder), "names": "cifar10", **parameters})


def reference(folder, image, prompts):
    """The logits of transformers' own model and processor: mean and normalisation over prompts as in CLIP's paper."""
    import transformers

    model = transformers.CLIPModel.from_pretrained(folder).eval()
    pixels = transformers.AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt")["pixel_values"]
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    embeddings = []
    for prompt in prompts.split("|"):
        texts = [prompt.format(name) for name in CLASSES["cifar10"].split("|")]
        output = model(input_ids=torch.tensor([tokenizer(text)["input_ids"] for text in texts]), pixel_values=pixels)
        embeddings.append(output.text_embeds)
    if len(embeddings) == 1:
        return output.logits_per_image
    mean = torch.stack(embeddings).mean(0)
    return model.logit_scale.exp() * output.image_embeds @ (mean / mean.norm(dim=-1, keepdim=True)).T


@torch.inference_mode()
@pytest.mark.parametrize("prompts", ["a photo of a {}.", PROMPTS])
def test_clip_gives_the_logits_that_transformers_gives(tiny_clip, smooth_image, prompts):
    wanted = reference(tiny_clip, smooth_image, prompts)
    x = torch.from_numpy(smooth_image.transpose(2, 0, 1)[None]).float() / 255
    got = made(tiny_clip, prompts=prompts).load()(x)
    assert got.shape == (1, 10) and torch.allclose(got, wanted, atol=2e-2 * float(wanted.std()))
    assert float(wanted.std()) > 0.05  # the agreement says something


@pytest.mark.parametrize("check", CLASSIFIER_CHECKS, ids=lambda check: check.__name__)
def test_clip_conforms(tiny_clip, check):
    check(made(tiny_clip), (3, 32, 32))


def test_the_names_of_a_data_set_are_in_its_order(shared_data):
    assert tuple(CLASSES["mnist5k"].split("|")) == load_images("mnist5k", "test").classes
    cifar10 = load_images("cifar10", "test", folder=str(shared_data / "cifar10-jpeg"))
    assert tuple(CLASSES["cifar10"].split("|")) == cifar10.classes


@torch.inference_mode()
def test_given_names_are_the_classes_in_their_order(tiny_clip):
    x = torch.rand(2, 3, 32, 32)
    logits = made(tiny_clip).load()(x)
    assert torch.allclose(made(tiny_clip, names="dog|cat").load()(x), logits[:, [5, 3]], atol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"names": ""}, "one of cifar10, mnist5k, or two or more classes"),
        ({"names": "cat"}, "two or more classes in the order of the data set's"),
        ({"names": "cat|dog|cat"}, "a class twice"),
        ({"prompts": "a photo"}, "must have one {} for the name"),
        ({"prompts": "a {} of a {}"}, "must have one {} for the name"),
        ({"prompts": "a {0.real}"}, "must have one {} for the name"),
    ],
)
def test_names_and_prompts_that_mean_nothing_are_refused(tiny_clip, parameters, said):
    with pytest.raises(PluginError, match=said):
        made(tiny_clip, **parameters)


def test_a_data_set_of_other_classes_is_refused_before_anything_is_counted(tiny_clip):
    """Both have ten classes, so the number of votes could not tell."""
    chosen = load_preset("embedded", {"classifier": f"clip:path={tiny_clip}:names=cifar10", "purifiers": ["none"]})
    with pytest.raises(PlanError, match=r"classes airplane, automobile, bird, \.\.\., and MNIST has 0, 1, 2"):
        make_plan(chosen, "cpu")
    for names in ("mnist5k", "null|one|two|three|four|five|six|seven|eight|nine"):
        classifier = f"clip:path={tiny_clip}:names={names}"
        make_plan(load_preset("embedded", {"classifier": classifier, "purifiers": ["none"]}), "cpu")


def test_a_text_that_is_too_long_is_refused(tiny_clip):
    with pytest.raises(ClassifierError, match="14 tokens, the model takes at most 12"):
        made(tiny_clip, prompts="a a a a a a a a a a a {}").load()


@pytest.mark.parametrize("name", FILES)
def test_a_folder_that_lacks_a_file_names_it(tiny_clip, tmp_path, name):
    folder = shutil.copytree(tiny_clip, tmp_path / "copy")
    (folder / name).unlink()
    with pytest.raises(ClassifierError, match=f"copy lacks {name}"):
        made(folder).files()


def test_every_file_is_part_of_the_identity(tiny_clip, tmp_path):
    folder = shutil.copytree(tiny_clip, tmp_path / "copy")
    before = made(folder).identity()
    for name in FILES:
        with (folder / name).open("ab") as file:
            file.write(b" ")
        assert made(folder).identity() != before, name
        before = made(folder).identity()


def test_weights_of_another_model_are_refused(tiny_clip, tmp_path):
    folder = shutil.copytree(tiny_clip, tmp_path / "copy")
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 2
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ClassifierError, match=r"not of the model in its config\.json.*missing_keys"):
        made(folder).load()


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_refused(tiny_clip, tmp_path, name):
    folder = shutil.copytree(tiny_clip, tmp_path / "copy")
    (folder / name).write_bytes((folder / name).read_bytes()[:40])
    with pytest.raises(ClassifierError, match="copy cannot be loaded by transformers as a CLIPModel"):
        made(folder).load()


def test_a_tokenizer_of_another_model_is_refused(tiny_clip, tmp_path):
    folder = shutil.copytree(tiny_clip, tmp_path / "copy")
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["ship"] = 99
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(ClassifierError, match="of another model"):
        made(folder).load()


def test_offline_a_model_of_the_hub_names_its_files_its_size_and_the_place_to_put_them(monkeypatch, tmp_path):
    def absent(*_, local_files_only=False, **__):
        raise LocalEntryNotFoundError("nothing cached") if local_files_only else ConnectionError("no route to host")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)
    with pytest.raises(ClassifierError) as refusal:
        made("openai/clip-vit-base-patch32").files()
    for part in ("about 605 MB", *FILES, "no route to host", str(tmp_path / "classifiers")):
        assert part in str(refusal.value)
