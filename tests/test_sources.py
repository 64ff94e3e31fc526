"""Where networks come from: names, downloads that go on where they broke off, checksums, and what to do offline."""

from __future__ import annotations

import hashlib
import http.server
import threading
from types import SimpleNamespace

import pytest

from purifiers.nets import download, known, sources
from purifiers.nets.cards import WeightsError
from purifiers.nets.download import obtain
from purifiers.nets.known import KINDS, NETWORKS, Known
from purifiers.nets.sources import find

CONTENT = bytes(range(256)) * 512  # 128 KiB
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def networks(tmp_path, monkeypatch):
    """A folder of its own for what is downloaded."""
    monkeypatch.setenv("PURIFYBENCH_NETWORKS", str(tmp_path / "networks"))
    return tmp_path / "networks"


@pytest.fixture
def server():
    """A web server for CONTENT: `breaks_after` bytes it hangs up; it tells which ranges were asked for."""
    state = SimpleNamespace(breaks_after=None, asked=[], tag='"one"', status=None, content=CONTENT)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if state.status:
                self.send_error(state.status)
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
            start = start if self.headers.get("If-Range") == state.tag else 0
            body = state.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            if state.tag:
                self.send_header("ETag", state.tag)
            self.end_headers()
            self.wfile.write(body[: state.breaks_after])

        def log_message(self, *_):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{web.server_port}/nets/weights.pt"
    yield state
    web.shutdown()
    web.server_close()


@pytest.fixture
def published(server, monkeypatch):
    """Make a network known by the name `published`."""

    def publish(**fields):
        monkeypatch.setitem(NETWORKS, "published", Known("iddpm", **{"url": server.url, **fields}))

    return publish


# --- names


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
    places = [sources.place(name, network) for name, network in NETWORKS.items()]
    assert len(set(places)) == len(places)
    for name, network in NETWORKS.items():
        assert network.kind in KINDS and network.about and network.megabytes
        assert network.url.startswith("https://") or network.repository or name == "checkpoint_120"
        assert network.sha256 is None  # no publisher states one; none is made up


def test_the_kinds_that_are_known_are_those_that_can_be_read():
    from purifiers.nets import loading

    assert set(known.KINDS) == {"card", "diffusers", "edm", "iddpm", "cm-edm", "cm-consistency"} | {
        kind for kind in loading.TELLING.values() if kind.startswith("jcm")
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


# --- downloads


def test_a_download_is_kept_with_its_checksum_and_not_repeated(server, published, networks):
    published()
    path = obtain("published").path
    assert path == networks / "published" / "weights.pt" and path.read_bytes() == CONTENT
    assert (path.parent / "weights.pt.sha256").read_text() == f"{SHA256}  weights.pt\n"
    assert obtain("published").path == path
    assert server.asked == [None]
    assert sorted(p.name for p in path.parent.iterdir() if not p.name.endswith(".lock")) == [
        "weights.pt",
        "weights.pt.sha256",
    ]


def test_a_download_goes_on_where_it_broke_off(server, published):
    published(sha256=SHA256)
    server.breaks_after = 50_000
    with pytest.raises(WeightsError, match="bytes came"):
        obtain("published")
    with pytest.raises(WeightsError, match="bytes came"):
        obtain("published")
    server.breaks_after = None
    assert obtain("published").path.read_bytes() == CONTENT
    assert server.asked == [None, "bytes=50000-", "bytes=100000-"]


def test_a_download_of_a_file_that_changed_meanwhile_begins_anew(server, published):
    published()
    server.breaks_after = 50_000
    with pytest.raises(WeightsError):
        obtain("published")
    server.breaks_after, server.tag, server.content = None, '"two"', CONTENT[::-1]
    assert obtain("published").path.read_bytes() == CONTENT[::-1]


def test_a_server_that_tells_no_version_is_not_continued(server, published):
    published()
    server.breaks_after, server.tag = 50_000, None
    with pytest.raises(WeightsError):
        obtain("published")
    server.breaks_after = None
    assert obtain("published").path.read_bytes() == CONTENT
    assert server.asked == [None, None]


def test_a_part_that_is_already_whole_is_fetched_again(server, published, networks):
    published()
    (networks / "published").mkdir(parents=True)
    (networks / "published" / "weights.pt.part").write_bytes(CONTENT + b"more")
    (networks / "published" / "weights.pt.etag").write_text(server.tag)
    original = download.urllib.request.urlopen

    def urlopen(request, timeout):
        if request.headers.get("Range"):
            raise download.urllib.error.HTTPError(request.full_url, 416, "beyond the end", request.headers, None)
        return original(request, timeout=timeout)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(download.urllib.request, "urlopen", urlopen)
        assert obtain("published").path.read_bytes() == CONTENT


def test_what_comes_with_another_checksum_is_refused_and_not_kept(published, networks):
    published(sha256="0" * 64)
    with pytest.raises(WeightsError, match=f"{SHA256}.*put the file by hand at .*weights.pt.*{'0' * 64}"):
        obtain("published")
    assert not (networks / "published" / "weights.pt").exists()


@pytest.mark.parametrize("sha256", [None, SHA256])
def test_a_file_that_changed_since_is_refused(published, sha256):
    published(sha256=sha256)
    path = obtain("published").path
    path.write_bytes(CONTENT[:-1])
    with pytest.raises(WeightsError, match=f"should have {SHA256}"):
        obtain("published")


def test_a_file_that_is_put_by_hand_is_taken(server, published, networks):
    published()
    (networks / "published").mkdir(parents=True)
    (networks / "published" / "weights.pt").write_bytes(b"by hand")
    assert obtain("published").path.read_bytes() == b"by hand"
    assert server.asked == []


@pytest.mark.parametrize("sha256", [None, "ab" * 32])
def test_offline_the_file_its_place_and_its_checksum_are_named(monkeypatch, networks, sha256):
    monkeypatch.setitem(NETWORKS, "published", Known("iddpm", url="http://127.0.0.1:9/weights.pt", sha256=sha256))
    with pytest.raises(WeightsError) as refused:
        obtain("published")
    said = str(refused.value)
    assert "http://127.0.0.1:9/weights.pt" in said
    assert f"put the file by hand at {networks / 'published' / 'weights.pt'}" in said
    assert f"SHA-256 {sha256 or 'is not published'}" in said


def test_a_server_that_refuses_is_quoted(server, published):
    published()
    server.status = 404
    with pytest.raises(WeightsError, match="404"):
        obtain("published")


def test_a_network_without_an_address_says_to_ask_its_authors(networks):
    with pytest.raises(WeightsError, match=r"no public address.*ask its authors.*checkpoint_120/checkpoint_120"):
        obtain("checkpoint_120")


# --- hub repositories


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


def test_a_repository_whose_file_is_not_what_the_hub_says_is_refused(hub, networks):
    hub.there, hub.false_checksum = {"config.json": b"{}", f"{WEIGHTS}.safetensors": b"x"}, True
    with pytest.raises(WeightsError, match="not what the hub says it is"):
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


def test_a_repository_that_another_program_fetched_is_used(monkeypatch, tmp_path):
    import huggingface_hub

    snapshot = tmp_path / "snapshots" / "abc"
    (snapshot / "unet").mkdir(parents=True)
    (snapshot / "unet" / "config.json").write_text("{}")

    def cached(repository, file, revision=None):
        return str(snapshot / file) if (snapshot / file).exists() else None

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
    assert not find("somebody/their-net").present  # its weights are missing
    (snapshot / "unet" / f"{WEIGHTS}.safetensors").touch()
    assert find("somebody/their-net").path == snapshot
