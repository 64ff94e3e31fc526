"""The evidence bundle: one zip with everything that a reviewer needs to check a run, and its bounded reader."""

from __future__ import annotations

import re
import shutil
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench import __version__
from bench.errors import InputError, PurifyBenchError
from bench.files import copy_file, make_subfolder, open_file, refuse_large_table, write_file, writing
from bench.report import write_report
from bench.store import MANIFEST, Run, attacks, export, read_run
from bench.store.checksums import SUMS, list_files
from bench.store.run import PARQUET, PUBLISHED
from bench.summary import summarise
from bench.verify.figures import REPORT, SUMMARY, check_figures, claim_of
from purifiers.nets.hub.cards import fingerprint

_STATEMENT = "EVIDENCE.md"
_FILES = (MANIFEST, PARQUET, SUMMARY, PUBLISHED, REPORT, attacks.FILE, _STATEMENT, SUMS)
# No path leads out of a folder, because names hold no other separator and begin with no dot.
_NAME = re.compile(rf"(?P<run>\w[\w.() -]{{0,99}})/(?P<file>{'|'.join(map(re.escape, _FILES))})", re.ASCII)
_MOST_BYTES = 2 << 30  # of a bundle; a run of a million blocks takes about 100 MB
_CHUNK = 1 << 20
_DATE = (1980, 1, 1, 0, 0, 0)  # of every file: the bundle of a run is the same whenever it is written

_TEXT = """# Evidence of a certification run

{claim}.

This bundle holds the counts of one run of PurifyBench {version}, and the figures that follow from them. It is evidence
about this run. It is no statement of compliance with any law, standard or policy, and none about other inputs.

## Check it

    python -m bench verify {file}.zip --no-counts    # figures against counts: seconds, without torch
    python -m bench verify {file}.zip --share 0.01   # counts again a random share of the blocks, on a CPU, too
    sha256sum -c SHA256SUMS                          # in the unpacked folder

A seed that the checker chooses (`--seed`) selects the blocks. `--share 1` counts all of them. Counting needs the
networks and the data, which are not part of the bundle: `manifest.json` names the networks with their hashes, the data
set, and a hash of each image. The code is revision {git}; where it lacks a network, ask those who made the run.

## What it holds

| file | content |
|---|---|
{files}

## Limits

- A certificate is about perturbations of bounded **L2 norm**, in [0,1] pixel units, up to its radius. It says nothing
  about others: larger ones, other norms, rotations, patches, other inputs.
- It is about the **smoothed classifier** (purifier, classifier and noise of the stated sigma), not about the
  classifier alone.
- Accuracies are those of the **images of the run**. Their intervals are about images that are drawn as these were.
  They say nothing about data of another kind.
- Each certificate is wrong with a probability of at most **alpha**, as stated above. Of many, some may be wrong.
- Certificates assume that purifier and classifier treat each image by itself, and real-valued noise.
- Times, memory and names of devices are as the run states them. Results of attacks are as their files state them.
"""


class BundleError(PurifyBenchError):
    """A bundle cannot be written or read; the message gives the reason and the remedy."""


def write_bundle(folder: Path, path: Path) -> str:
    """Write the evidence bundle of a results folder; returns its SHA-256. The same run gives the same bytes.

    Raises:
        BundleError: the run has not ended, its files contradict its counts, or its name is none for a folder.
        StoreError: it cannot be read.
        OSError: the file cannot be written.
    """
    run = read_run(folder)
    findings = check_figures(run)
    if wrong := [*findings.problems, *findings.missing]:
        raise BundleError(f"{folder} is no evidence yet: {wrong[0]}; see `bench verify {folder} --no-counts`")
    name = folder.resolve().name
    if not _NAME.fullmatch(f"{name}/{MANIFEST}"):
        raise BundleError(f"the folder's name {name!r} is none for a bundle; rename it (letters, digits, . - _)")
    with tempfile.TemporaryDirectory(prefix="purifybench-") as temporary:
        made = make_subfolder(Path(temporary), name)
        _collect(replace(run, folder=folder.resolve()), made, path.stem)
        # Compressed bytes would depend on zlib's version.
        with writing(path) as whole, zipfile.ZipFile(whole, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(made.iterdir()):
                entry = zipfile.ZipInfo(f"{name}/{file.name}", _DATE)
                entry.create_system, entry.external_attr = 3, (stat.S_IFREG | 0o644) << 16
                with open_file(file) as source, archive.open(entry, "w", force_zip64=False) as target:
                    shutil.copyfileobj(source, target, _CHUNK)
    return fingerprint(path)


def _collect(run: Run, made: Path, file: str) -> None:
    """Copy or write every file of a bundle into a folder."""
    copied = [MANIFEST, PARQUET] if all((run.folder / name).is_file() for name in (MANIFEST, PARQUET)) else []
    copied += [name for name in (SUMMARY, PUBLISHED, attacks.FILE) if (run.folder / name).is_file()]
    for name in copied:
        copy_file(run.folder / name, made / name)
    if run.cells and MANIFEST not in copied:
        export(replace(run, folder=made))
    list_files(made)
    here = read_run(made)  # as the reviewer reads it: exports round the seconds
    summary = summarise([here])
    if SUMMARY not in copied:
        write_file(made / SUMMARY, summary.table.to_csv(index=False))
    # Without example pictures and metrics: then the whole page follows from files of the bundle and can be checked.
    attacked = attacks.attacks_of({made.name: made})
    write_report(summary, {made.name: here.manifest}, {}, made / REPORT, attacks=attacked)
    contents = {
        MANIFEST: "preset, cells with hashes of code and networks, labels, hashes of the images, versions",
        PARQUET: "the counts: votes per class of every block of draws",
        SUMMARY: "the figures of each purifier and sigma",
        PUBLISHED: "imported logs, which hold no counts",
        REPORT: "the same figures as one page for a browser",
        attacks.FILE: "result of an attack on the certificates",
        SUMS: "SHA-256 of every other file",
    }
    present = {name: words for name, words in contents.items() if (made / name).is_file() or name == SUMS}
    text = _TEXT.format(
        claim=claim_of(run),
        version=__version__,
        git=run.manifest.get("git"),
        file=file,
        files="\n".join(f"| `{name}` | {words} |" for name, words in present.items()),
    )
    write_file(made / _STATEMENT, text)
    list_files(made)


@contextmanager
def opened(path: Path) -> Iterator[tuple[Path, list[str]]]:
    """A results folder, or the unpacked content of a bundle, and in words whether that lacks its list of checksums.

    Raises:
        BundleError: the file is no bundle, is damaged, or holds more than a bundle may.
    """
    if not path.is_file():
        yield path, []
        return
    with tempfile.TemporaryDirectory(prefix="purifybench-") as temporary:
        try:
            with zipfile.ZipFile(path) as archive:
                folder = _unpack(archive, Path(temporary), path)
        except (
            OSError,
            ValueError,
            EOFError,
            RuntimeError,
            NotImplementedError,
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise BundleError(
                f"{path} is no bundle that can be read ({error}); make it again with `bench bundle`"
            ) from error
        _refuse_huge_counts(folder / PARQUET, path)
        yield folder, [] if (folder / SUMS).is_file() else [f"the bundle has no {SUMS}"]


def _unpack(archive: zipfile.ZipFile, into: Path, path: Path) -> Path:
    """Write the files of a bundle into a folder, under names that this module knows; returns their folder.

    Sizes in the archive are a stranger's claims, so the bytes that come out are counted.
    """
    entries = archive.infolist()
    names = [_NAME.fullmatch(entry.filename) for entry in entries]
    if strange := [entry.filename for entry, name in zip(entries, names, strict=True) if name is None]:
        raise BundleError(f"{path} holds {strange[0][:200]!r}, which no bundle has; ask for one made by `bench bundle`")
    found = [name for name in names if name is not None]
    if len({n.string for n in found}) < len(found) or len({n["run"] for n in found}) != 1:
        raise BundleError(f"{path} holds the files of no run, or of several; ask for one made by `bench bundle`")
    folder, left = make_subfolder(into, found[0]["run"]), _MOST_BYTES
    for entry, name in zip(entries, found, strict=True):
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise BundleError(f"{path} is compressed by a method that bundles do not use")
        with archive.open(entry) as source, writing(folder / name["file"]) as target:
            while part := source.read(_CHUNK):
                if (left := left - len(part)) < 0:
                    raise BundleError(
                        f"{path} unpacks to more than {_MOST_BYTES >> 30} GiB, more than a bundle may hold"
                    )
                target.write(part)
    return folder


def _refuse_huge_counts(counts: Path, path: Path) -> None:
    """Raise BundleError if the counts would take more memory than those of any run."""
    import pyarrow

    if not counts.is_file():
        return
    try:
        refuse_large_table(counts)
    except InputError as error:
        raise BundleError(f"{path}: {PARQUET}: {error}") from error
    except (OSError, pyarrow.ArrowException) as error:
        raise BundleError(f"{path}: {PARQUET} is damaged ({error}); make it again with `bench bundle`") from error
