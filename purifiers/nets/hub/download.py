"""Fetch published networks: plain addresses with resume and checksum, hub repositories; offline, say what to do."""

from __future__ import annotations

import re
import shutil
import sys
import urllib.error
import urllib.request
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from filelock import FileLock

from purifiers.nets.hub.cards import WeightsError, fingerprint
from purifiers.nets.hub.known import HUB, Known
from purifiers.nets.hub.sources import Source, find

CHUNK = 1 << 20
TIMEOUT = 30  # seconds without an answer
FILES = ("model_index.json", "config.json", "scheduler_config.json", "diffusion_pytorch_model.safetensors")
FOLDERS = ("", "unet/", "scheduler/")


def obtain(text: str | Path) -> Source:
    """The network that `text` names (see `sources.find`), downloaded first where it is not here.

    Raises:
        WeightsError: it cannot be had (the message names the file, where to put it by hand, and its checksum), or it is
            not the file that it was.
    """
    source = find(text)
    if source.known is None:
        return source
    if not source.present:
        source.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{source.path}.lock"):
            if not source.present:  # another process may have fetched it meanwhile
                fetch = fetch_repository if source.known.repository else fetch_file
                fetch(source.name, source.known, source.path)
    elif not source.known.repository:
        check(source.path, source.known)
    return source


def record_of(path: Path) -> Path:
    """Where a download's checksum is kept, as `sha256sum` writes it."""
    return path.with_name(f"{path.name}.sha256")


def check(path: Path, known: Known) -> None:
    """Raise WeightsError where a file is not the published one, or not the one that was downloaded."""
    record = record_of(path)
    expected = known.sha256 or (record.read_text().split()[0] if record.is_file() else None)
    if expected and (found := fingerprint(path)) != expected:
        raise WeightsError(
            f"{path} has SHA-256 {found}, and should have {expected}; delete it, and it is downloaded again (or delete "
            f"{record.name}, where you put another file there knowingly)"
        )


def by_hand(name: str, known: Known, path: Path, reason: object) -> WeightsError:
    """The error for a network that cannot be downloaded: which file, where to put it, and its checksum."""
    if known.repository:
        address = f"https://huggingface.co/{known.repository}/tree/{known.revision or 'main'}"
        what = (
            f"put its files by hand into {path}, with their folders ({', '.join(FILES)}); {address} shows their SHA-256"
        )
    else:
        unstated = "is not published; it is recorded when the file is first downloaded"
        if known.url.startswith(HUB):
            unstated = f"is on its page, {known.url.replace('/resolve/', '/blob/')}"
        what = f"put the file by hand at {path}; its SHA-256 {known.sha256 or unstated}"
        address = known.url
    return WeightsError(f"the network {name!r} is not here and cannot be fetched from {address} ({reason}): {what}")


def fetch_file(name: str, known: Known, path: Path) -> None:
    """Download a file, going on where an earlier attempt was broken off, and record its checksum."""
    part, tag = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.etag")
    try:
        expected = known.sha256 or stated(known.url)
        try:
            stream(known.url, part, tag)
        except urllib.error.HTTPError as error:
            if error.code != 416:  # 416: there is nothing beyond what an earlier attempt has, so that cannot be right
                raise
            part.unlink(missing_ok=True)
            stream(known.url, part, tag)
    except (urllib.error.URLError, HTTPException, OSError) as error:
        raise by_hand(name, known, path, error) from error
    found = fingerprint(part)
    if expected and found != expected:
        part.unlink()
        raise by_hand(name, known, path, f"what came has SHA-256 {found}, not {expected}")
    record_of(path).write_text(f"{found}  {path.name}\n")
    part.rename(path)
    tag.unlink(missing_ok=True)


def stated(url: str) -> str | None:
    """The SHA-256 that the hub states of a large file of its own; None for files elsewhere.

    Raises:
        OSError: the hub cannot be asked, or does not have the file.
    """
    if not url.startswith(HUB):
        return None
    from huggingface_hub import get_hf_file_metadata

    try:
        tag = get_hf_file_metadata(url, timeout=TIMEOUT).etag or ""
    except Exception as error:  # the library's own errors are of many kinds; all mean the same here
        raise OSError(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}") from error
    return tag if re.fullmatch("[0-9a-f]{64}", tag) else None  # small files have another kind of tag


def stream(url: str, part: Path, tag: Path) -> None:
    """Append what is missing to `part`; `tag` holds the version of the file that it began with."""
    begun = part.stat().st_size if part.is_file() and tag.is_file() else 0
    headers = {"Range": f"bytes={begun}-", "If-Range": tag.read_text()} if begun else {}
    response: HTTPResponse
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        if response.status != 206:  # the whole file, because it is another one now, or because no part can be had
            begun = 0
        left = response.headers.get("Content-Length")
        tag.write_text(response.headers.get("ETag") or "")
        if not tag.read_text():
            tag.unlink()  # without a version nothing can be continued
        size = f"{int(left) / 2**20:,.0f} MiB" if left else "a file"
        print(f"downloading {size} from {url}", file=sys.stderr)
        with part.open("ab" if begun else "wb") as file:
            shutil.copyfileobj(response, file, CHUNK)
    if left is not None and part.stat().st_size != begun + int(left):
        raise ConnectionError(f"{part.stat().st_size - begun} of {left} bytes came; the same command goes on")


def fetch_repository(name: str, known: Known, folder: Path) -> None:
    """Download the files of a hub repository that make its network, and nothing else of it."""
    try:
        from huggingface_hub import HfApi, hf_hub_download

        info = HfApi().model_info(known.repository, revision=known.revision, files_metadata=True, timeout=TIMEOUT)
        there = {file.rfilename: file for file in info.siblings or []}
        wanted = [f"{place}{file}" for place in FOLDERS for file in FILES if f"{place}{file}" in there]
        if not any(file.endswith(".safetensors") for file in wanted):
            wanted += [f for place in FOLDERS if (f := f"{place}diffusion_pytorch_model.bin") in there]
        unfinished = folder.with_name(f"{folder.name}.part")
        for file in wanted:
            print(f"downloading {(there[file].size or 0) / 2**20:,.1f} MiB: {known.repository}/{file}", file=sys.stderr)
            fetched = hf_hub_download(known.repository, file, revision=info.sha, local_dir=unfinished)
            lfs = there[file].lfs
            if lfs is not None and fingerprint(Path(fetched)) != lfs.sha256:
                raise OSError(f"{file} is not what the hub says it is (SHA-256 {lfs.sha256})")
    except Exception as error:  # the library's own errors are of many kinds; all mean the same here
        reason = next(iter(str(error).splitlines()), "")
        raise by_hand(name, known, folder, f"{type(error).__name__}: {reason}") from error
    unfinished.rename(folder)
