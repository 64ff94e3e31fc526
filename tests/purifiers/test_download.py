"""Downloads of one file that go on where they broke off, checksums, and what to do offline."""

from __future__ import annotations

import hashlib
import http.server
import threading
from types import SimpleNamespace

import pytest

from purifiers.nets.hub import download
from purifiers.nets.hub.cards import WeightsError
from purifiers.nets.hub.download import obtain
from purifiers.nets.hub.known import NETWORKS, Known

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
    state = SimpleNamespace(breaks_after=None, asked=[], tag='"one"', status=None, content=CONTENT, linked="")

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

        def do_HEAD(self):
            self.send_response(200)
            self.send_header("X-Linked-Etag", f'"{state.linked}"')
            self.end_headers()

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
    with pytest.raises(WeightsError, match="bytes arrived"):
        obtain("published")
    with pytest.raises(WeightsError, match="bytes arrived"):
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
    with pytest.raises(WeightsError, match=f"instead of {SHA256}"):
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


def test_the_papers_fine_tuned_network_has_the_address_that_its_readme_links():
    network = NETWORKS["checkpoint_120"]
    assert (
        network.url == "https://huggingface.co/datasets/YiquanLi/Consistency_Purification/resolve/main/checkpoint_120"
    )
    assert network.megabytes == round(4 * 4 * 56_395_651 / 1e6) == 902  # as its page says


def test_offline_a_file_of_the_hub_names_its_place_and_the_page_that_shows_its_checksum(monkeypatch, networks):
    def offline(url, timeout):
        raise ConnectionError(f"no route to {url}")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", offline)
    with pytest.raises(WeightsError) as refused:
        obtain("checkpoint_120")
    said = str(refused.value)
    page = "https://huggingface.co/datasets/YiquanLi/Consistency_Purification"
    assert f"no route to {page}/resolve/main/checkpoint_120" in said
    assert f"put the file by hand at {networks / 'checkpoint_120' / 'checkpoint_120'}" in said
    assert f"its SHA-256 is on its page, {page}/blob/main/checkpoint_120" in said


@pytest.mark.parametrize(("tag", "kept"), [(SHA256, True), ("0" * 64, False), ("of a small file", True)])
def test_a_file_of_the_hub_is_held_to_the_checksum_that_the_hub_states(
    server, published, networks, monkeypatch, tag, kept
):
    """Asked by the hub's own library, of a server that answers as the hub does."""
    monkeypatch.setattr(download, "HUB", server.url.removesuffix("/nets/weights.pt"))
    server.linked = tag
    published()
    if kept:
        assert obtain("published").path.read_bytes() == CONTENT
    else:
        with pytest.raises(WeightsError, match=f"the download has SHA-256 {SHA256}, not {tag}"):
            obtain("published")
        assert not (networks / "published" / "weights.pt").exists()
