"""What may be named as a network, and where it is on this machine."""

from __future__ import annotations

import pytest

from purifiers.nets.hub import known, sources
from purifiers.nets.hub.cards import WeightsError
from purifiers.nets.hub.known import KINDS, NETWORKS
from purifiers.nets.hub.sources import find


@pytest.fixture(autouse=True)
def networks(tmp_path, monkeypatch):
    """A folder of its own for what is downloaded."""
    monkeypatch.setenv("PURIFYBENCH_NETWORKS", str(tmp_path / "networks"))
    return tmp_path / "networks"


def test_a_file_a_folder_and_a_bundled_network_are_found(tmp_path):
    (tmp_path / "weights.pt").touch()
    for path in (tmp_path / "weights.pt", tmp_path):
        assert find(path).path == path and find(path).known is None
    assert find("mnist5k/edm").is_card and find("mnist5k/edm").present


@pytest.mark.parametrize(
    ("text", "name", "kind", "label"),
    [
        ("cd-lpips", "cd-lpips", "jcm-consistency", None),
        ("jcm-edm:cd-lpips", "cd-lpips", "jcm-edm", None),
        ("cd_imagenet64_lpips?label=mean", "cd_imagenet64_lpips", "cm-consistency", "mean"),
        ("consistency:cd_imagenet64_lpips?label=207", "cd_imagenet64_lpips", "consistency", "207"),
        ("google/ddpm-cifar10-32", "google/ddpm-cifar10-32", "diffusers", None),
        ("somebody/their-net@v2", "somebody/their-net@v2", "diffusers", None),
    ],
)
def test_a_name_may_carry_a_kind_and_a_label(text, name, kind, label):
    source = find(text)
    assert (source.name, source.kind, source.label) == (name, kind, label)
    assert not source.present


def test_the_text_of_a_source_finds_it_again(tmp_path, monkeypatch):
    (tmp_path / "w.pt").touch()
    monkeypatch.chdir(tmp_path)
    source = find("cm-edm:w.pt?label=3")
    monkeypatch.chdir("/")
    again = find(str(source))
    assert (again.kind, again.label, again.path) == ("cm-edm", "3", tmp_path / "w.pt")


def test_a_revision_of_the_hub_is_kept_apart(networks):
    source = find("somebody/their-net@v2")
    assert source.known is not None and (source.known.repository, source.known.revision) == ("somebody/their-net", "v2")
    assert source.path == networks / "somebody--their-net@v2"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cd-lpip", "Did you mean 'cd-lpips'"),
        ("nonsense", "or a hub id"),
        ("nowhere/weights.pt", "no file, no folder"),
        ("mnist5k/nothing", "mnist5k/edm"),
        ("nowhere/weights.safetensors", "bench train"),
    ],
)
def test_an_unknown_name_answers_with_what_there_is(text, said):
    with pytest.raises(WeightsError, match=said):
        find(text)


def test_every_known_network_says_what_it_is_and_where():
    places = [sources._place(name, network) for name, network in NETWORKS.items()]
    assert len(set(places)) == len(places)
    for name, network in NETWORKS.items():
        assert network.kind in KINDS and network.about and network.megabytes
        assert network.url.startswith("https://") != bool(network.repository), name
        assert network.sha256 is None  # those that the hub states are asked for; none is made up


def test_the_kinds_that_are_known_are_those_that_can_be_read():
    from purifiers.nets.checkpoints import loading

    assert set(known.KINDS) == {"card", "diffusers", "edm", "edm2", "ffdnet", "iddpm", "cm-edm", "cm-consistency"} | {
        kind for kind in loading._TELLING.values() if kind.startswith("jcm")
    }


def test_the_identity_of_a_network_is_its_content_and_what_it_is_taken_for(tmp_path):
    (tmp_path / "w.pt").write_bytes(b"a")
    first = find(tmp_path / "w.pt").identity()
    assert find(f"cm-edm:{tmp_path}/w.pt").identity() != first
    assert find(f"{tmp_path}/w.pt?label=1").identity() != first
    (tmp_path / "config.json").write_text("{}")
    assert find(tmp_path / "w.pt").identity() != first
    (tmp_path / "config.json").unlink()
    assert find(tmp_path / "w.pt").identity() == first
    (tmp_path / "w.pt").write_bytes(b"b")
    assert find(tmp_path / "w.pt").identity() != first


def test_the_identity_of_a_repository_covers_its_parts(tmp_path):
    for part in ("unet", "scheduler"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text("{}")
    first = find(tmp_path).identity()
    (tmp_path / "scheduler" / "config.json").write_text("{ }")
    assert find(tmp_path).identity() != first


def test_a_repository_that_another_program_fetched_is_used(monkeypatch, tmp_path):
    import huggingface_hub

    snapshot = tmp_path / "snapshots" / "abc"
    (snapshot / "unet").mkdir(parents=True)
    (snapshot / "unet" / "config.json").write_text("{}")

    def cached(repository, file, revision=None):
        return str(snapshot / file) if (snapshot / file).exists() else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    assert not find("somebody/their-net").present  # its weights are missing
    (snapshot / "unet" / "diffusion_pytorch_model.safetensors").touch()
    assert find("somebody/their-net").path == snapshot
