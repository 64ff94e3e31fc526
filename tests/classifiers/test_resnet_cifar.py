"""CIFAR ResNets of other projects, from weights that run no code; and the options that all such classifiers have."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bench.plugins.registry import CLASSIFIER, PluginError, create, parameters
from classifiers import hub
from classifiers.base import ClassifierError
from classifiers.nets.resnet import _CIFARResNet, load_resnet


@pytest.fixture(autouse=True)
def an_empty_folder_of_classifiers(monkeypatch, tmp_path):
    monkeypatch.setenv(hub._FOLDER, str(tmp_path / "classifiers"))


@pytest.fixture(scope="module")
def tiny_resnet(tmp_path_factory) -> tuple[_CIFARResNet, dict[str, torch.Tensor]]:
    """A ResNet of 8 layers with random weights and statistics, before any folding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = _CIFARResNet(1, 10)
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


# -- files


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
    model = _CIFARResNet(1, 10, projected=True)
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
        (lambda s: s.update({"head.weight": torch.zeros(1)}), r"also has head\.weight"),
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
