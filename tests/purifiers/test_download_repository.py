"""Of a hub repository only the network is fetched, and held to the hub's checksums."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest

from purifiers.nets.hub.cards import WeightsError
from purifiers.nets.hub.download import obtain


@pytest.fixture(autouse=True)
def networks(tmp_path, monkeypatch):
    """A folder of its own for what is downloaded."""
    monkeypatch.setenv("PURIFYBENCH_NETWORKS", str(tmp_path / "networks"))
    return tmp_path / "networks"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub of one repository, whose files are `there`; what is fetched is kept in `fetched`."""
    import huggingface_hub

    state = SimpleNamespace(there={}, fetched=[], false_checksum=False)

    class HfApi:
        def model_info(self, repository, revision=None, files_metadata=False, timeout=None):
            def described(name, content):
                sha256 = "0" * 64 if state.false_checksum else hashlib.sha256(content).hexdigest()
                lfs = SimpleNamespace(sha256=sha256) if not name.endswith(".json") else None
                return SimpleNamespace(rfilename=name, size=len(content), lfs=lfs)

            return SimpleNamespace(sha="abc", siblings=[described(*item) for item in state.there.items()])

    def hf_hub_download(repository, name, revision, local_dir):
        state.fetched.append(name)
        (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (local_dir / name).write_bytes(state.there[name])
        return str(local_dir / name)

    monkeypatch.setattr(huggingface_hub, "HfApi", HfApi)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    return state


WEIGHTS = "diffusion_pytorch_model"


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        (
            ["README.md", "model_index.json", f"unet/{WEIGHTS}.safetensors", f"unet/{WEIGHTS}.bin", "unet/config.json"],
            {"model_index.json", f"unet/{WEIGHTS}.safetensors", "unet/config.json"},
        ),
        (
            ["transformer/config.json", f"transformer/{WEIGHTS}.safetensors", "scheduler/scheduler_config.json"],
            {"transformer/config.json", f"transformer/{WEIGHTS}.safetensors", "scheduler/scheduler_config.json"},
        ),
        (
            ["config.json", "scheduler_config.json", f"{WEIGHTS}.bin", "samples.png"],
            {"config.json", "scheduler_config.json", f"{WEIGHTS}.bin"},
        ),
    ],
)
def test_of_a_repository_only_what_makes_the_network_is_fetched(hub, networks, there, wanted):
    hub.there = {name: name.encode() for name in there}
    source = obtain("somebody/their-net")
    assert set(hub.fetched) == wanted
    assert source.path == networks / "somebody--their-net"
    assert all((source.path / name).is_file() for name in wanted)
    obtain("somebody/their-net")
    assert len(hub.fetched) == len(wanted)


def test_a_latent_model_is_refused_before_anything_is_fetched(hub, networks):
    hub.there = {"transformer/config.json": b"{}", "vae/config.json": b"{}"}
    with pytest.raises(WeightsError, match=r"somebody/their-net: it is a latent model .it has a vae"):
        obtain("somebody/their-net")
    assert hub.fetched == []


def test_a_repository_whose_file_is_not_what_the_hub_says_is_refused(hub, networks):
    hub.there, hub.false_checksum = {"config.json": b"{}", f"{WEIGHTS}.safetensors": b"x"}, True
    with pytest.raises(WeightsError, match="differs from its SHA-256 on the hub"):
        obtain("somebody/their-net")
    assert not (networks / "somebody--their-net").exists()


def test_offline_a_repositorys_files_their_place_and_their_page_are_named(monkeypatch, networks):
    import huggingface_hub

    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", refuse)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(WeightsError) as refused:
        obtain("google/ddpm-cifar10-32")
    said = str(refused.value)
    assert "no route to host" in said and "https://huggingface.co/google/ddpm-cifar10-32/tree/main" in said
    assert f"by hand into {networks / 'google--ddpm-cifar10-32'}" in said
    assert "scheduler_config.json" in said and "SHA-256" in said
