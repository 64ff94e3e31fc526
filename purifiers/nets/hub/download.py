"""Download published networks: single files with resume and checksum, and hub repositories."""

from __future__ import annotations

import re
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Collection
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from filelock import FileLock

from bench.files import continuing, make_folder, read_text, write_file
from purifiers.nets.hub.cards import WeightsError, fingerprint
from purifiers.nets.hub.known import HUB, Known
from purifiers.nets.hub.sources import Source, find

_CHUNK = 1 << 20
_TIMEOUT = 30  # seconds without an answer
_FILES = ("model_index.json", "config.json", "scheduler_config.json", "diffusion_pytorch_model.safetensors")
_AUTOENCODERS = ("vae", "vqvae", "movq")  # parts of repositories whose networks work on latents
_FOLDERS = ("", "unet/", "transformer/", "scheduler/")


def obtain(text: str | Path) -> Source:
    """The network that `text` names (see `sources.find`), downloaded if it is absent.

    Raises:
        WeightsError: the download fails (the message names the file, its path for a manual download, and its checksum),
            or the file differs from its checksum.
    """
    source = find(text)
    if source.known is None:
        return source
    if not source.present:
        make_folder(source.path.parent)
        with FileLock(f"{source.path}.lock"):
            if not source.present:  # another process may have fetched it meanwhile
                fetch = _fetch_repository if source.known.repository else _fetch_file
                fetch(source.name, source.known, source.path)
    elif not source.known.repository:
        _check(source.path, source.known)
    return source


def refuse_latents(parts: Collection[str]) -> None:
    """Raise WeightsError for a latent model, whose network takes no images; `parts` are those of its repository."""
    if found := [name for name in _AUTOENCODERS if name in parts]:
        raise WeightsError(
            f"it is a latent model (it has a {found[0]}): its network removes noise from the codes of an autoencoder, "
            "and randomized smoothing adds noise to pixels; give a network on pixels"
        )


def _record_of(path: Path) -> Path:
    """Path of the recorded checksum of a download, in the format of `sha256sum`."""
    return path.with_name(f"{path.name}.sha256")


def _check(path: Path, known: Known) -> None:
    """Raise WeightsError if a file differs from the published or the recorded checksum."""
    record = _record_of(path)
    expected = known.sha256 or (read_text(record).split()[0] if record.is_file() else None)
    if expected and (actual := fingerprint(path)) != expected:
        raise WeightsError(
            f"{path} has SHA-256 {actual} instead of {expected}; delete it for a new download (or delete "
            f"{record.name}, if you replaced the file on purpose)"
        )


def _by_hand(name: str, known: Known, path: Path, reason: object) -> WeightsError:
    """The error for a failed download: the file, its path for a manual download, and its checksum."""
    if known.repository:
        address = f"{HUB}/{known.repository}/tree/{known.revision or 'main'}"
        files = ", ".join(_FILES)
        remedy = f"put its files by hand into {path}, with their folders ({files}); {address} shows their SHA-256"
    else:
        unstated = "is not published; it is recorded when the file is first downloaded"
        if known.url.startswith(HUB):
            unstated = f"is on its page, {known.url.replace('/resolve/', '/blob/')}"
        remedy = f"put the file by hand at {path}; its SHA-256 {known.sha256 or unstated}"
        address = known.url
    return WeightsError(f"the network {name!r} is absent and cannot be downloaded from {address} ({reason}): {remedy}")


def _fetch_file(name: str, known: Known, path: Path) -> None:
    """Download a file, or the rest of an interrupted download, and record its checksum."""
    part, tag = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.etag")
    try:
        expected = known.sha256 or _stated(known.url)
        try:
            _stream(known.url, part, tag)
        except urllib.error.HTTPError as error:
            if error.code != 416:  # 416: the partial file is as long as the whole one, so it is wrong
                raise
            part.unlink(missing_ok=True)
            _stream(known.url, part, tag)
    except (HTTPException, OSError) as error:
        raise _by_hand(name, known, path, error) from error
    actual = fingerprint(part)
    if expected and actual != expected:
        part.unlink()
        raise _by_hand(name, known, path, f"the download has SHA-256 {actual}, not {expected}")
    write_file(_record_of(path), f"{actual}  {path.name}\n")
    part.rename(path)
    tag.unlink(missing_ok=True)


def _stated(url: str) -> str | None:
    """The SHA-256 of a large file on the hub, from its metadata; None for files elsewhere.

    Raises:
        OSError: the hub cannot be reached, or does not have the file.
    """
    if not url.startswith(HUB):
        return None
    from huggingface_hub import get_hf_file_metadata

    try:
        tag = get_hf_file_metadata(url, timeout=_TIMEOUT).etag or ""
    except Exception as error:  # the library raises many types of errors, all with the same remedy
        raise OSError(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}") from error
    return tag if re.fullmatch("[0-9a-f]{64}", tag) else None  # small files have another type of tag


def _stream(url: str, part: Path, tag: Path) -> None:
    """Append the missing bytes to `part`; `tag` holds the version (ETag) of its first bytes."""
    version = read_text(tag) if tag.is_file() else ""  # a download without a version cannot be continued
    begun = part.stat().st_size if version and part.is_file() else 0
    headers = {"Range": f"bytes={begun}-", "If-Range": version} if begun else {}
    response: HTTPResponse
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT) as response:
        if response.status != 206:  # the whole file: it has changed, or the server sends no parts
            begun = 0
        left = response.headers.get("Content-Length")
        write_file(tag, response.headers.get("ETag") or "")
        size = f"{int(left) / 2**20:,.0f} MiB" if left else "a file"
        print(f"downloading {size} from {url}", file=sys.stderr)
        with continuing(part, bool(begun)) as file:
            shutil.copyfileobj(response, file, _CHUNK)
    if left is not None and part.stat().st_size != begun + int(left):
        raise ConnectionError(
            f"{part.stat().st_size - begun} of {left} bytes arrived; the same command continues the download"
        )


def _fetch_repository(name: str, known: Known, folder: Path) -> None:
    """Download the files of a hub repository that define its network."""
    try:
        from huggingface_hub import HfApi, hf_hub_download

        info = HfApi().model_info(known.repository, revision=known.revision, files_metadata=True, timeout=_TIMEOUT)
        there = {file.rfilename: file for file in info.siblings or []}
        refuse_latents({file.partition("/")[0] for file in there})  # before gigabytes are fetched
        wanted = [f"{place}{file}" for place in _FOLDERS for file in _FILES if f"{place}{file}" in there]
        if not any(file.endswith(".safetensors") for file in wanted):
            wanted += [f for place in _FOLDERS if (f := f"{place}diffusion_pytorch_model.bin") in there]
        unfinished = folder.with_name(f"{folder.name}.part")
        for file in wanted:
            print(f"downloading {(there[file].size or 0) / 2**20:,.1f} MiB: {known.repository}/{file}", file=sys.stderr)
            fetched = hf_hub_download(known.repository, file, revision=info.sha, local_dir=unfinished)
            lfs = there[file].lfs
            if lfs is not None and fingerprint(Path(fetched)) != lfs.sha256:
                raise OSError(f"{file} differs from its SHA-256 on the hub ({lfs.sha256})")
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from error
    except Exception as error:  # the library raises many types of errors, all with the same remedy
        reason = next(iter(str(error).splitlines()), "")
        raise _by_hand(name, known, folder, f"{type(error).__name__}: {reason}") from error
    unfinished.rename(folder)
