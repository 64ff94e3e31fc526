"""What a board takes from outside: runs as bundles that follow from their counts, and records of verifications."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import PurifyBenchError
from bench.files import copy_file, make_subfolder, open_file
from bench.store import MANIFEST, Run, read_run
from bench.store.attacks import Attacks, read_attacks
from bench.store.checksums import digests
from bench.store.database import StoreError
from bench.store.run import PARQUET
from bench.verify import VERIFIED, VerificationRecord, opened, verify, write_bundle

BUNDLES = "bundles"
_Files = Mapping[str, str]  # name -> SHA-256


class BoardError(PurifyBenchError):
    """A run cannot stand on a board; the message gives the reason and the remedy."""


@dataclass(frozen=True)
class Submission:
    """A run on the board, as its bundle holds it.

    Attributes:
        run: read from the bundle.
        attacks: on its certificates, as the bundle states them; None if there are none.
        bundle: name of the zip within the folder `bundles` of the site.
        digest, size: SHA-256 and bytes of the zip.
        records: of verifications of these counts, those that counted the most blocks again first.
    """

    run: Run
    attacks: Attacks | None
    bundle: str
    digest: str
    size: int
    records: tuple[VerificationRecord, ...] = ()

    @property
    def recounted(self) -> float:
        """Largest share of the blocks that somebody counted again and found as stated; 0 if nobody did."""
        return max(map(_confirmed_share, self.records), default=0.0)


def submissions(
    paths: Sequence[Path], site: Path, records: Mapping[Path, VerificationRecord] | None = None
) -> list[Submission]:
    """Put a bundle of each run into the site, and read it from there; the most verified ones first.

    Every figure that a run states must follow from its counts. Verifications count only as given here: what the maker
    of a run says about its verification is not read.

    Parameters:
        paths: results folders and bundles.
        records: of verifications, by the files that hold them.

    Raises:
        BoardError: a run is given twice, has no counts, or is contradicted by its figures; a record is of no run here.
        BundleError, StoreError: a run has not ended, or cannot be read.
        OSError: the site cannot be written.
    """
    bundles = make_subfolder(site, BUNDLES)
    found: list[Submission] = []
    seen: dict[tuple[tuple[str, str], ...], Path] = {}
    used: set[Path] = set()
    for path in paths:
        names = {submission.bundle for submission in found}
        submission, files = _submitted(path, bundles, names, records or {})
        key = tuple(sorted(files.items()))
        if key in seen:
            raise BoardError(f"{path} and {seen[key]} are the same run; give each run once")
        seen[key] = path
        used |= {file for file, record in (records or {}).items() if record.verification.files == files}
        found.append(submission)
    if lost := [file for file in records or {} if file not in used]:
        raise BoardError(f"{lost[0]} is the record of other counts than those of these runs; verify the run again")
    return sorted(found, key=lambda submission: -submission.recounted)


def _submitted(
    path: Path, bundles: Path, taken: set[str], records: Mapping[Path, VerificationRecord]
) -> tuple[Submission, _Files]:
    """One run with the hashes of its files."""
    if path.is_file():
        try:
            checked = verify(path, counts=False)
        except StoreError as error:  # which names a file of the unpacked bundle
            raise BoardError(f"{path} cannot be read: {error}") from error
        if checked.status != VERIFIED:
            problem = next(iter([*checked.problems, *checked.missing]))
            raise BoardError(f"{path} is no evidence: {problem}; see `bench verify {path} --no-counts`")
        target = bundles / _free(checked.run, taken)
        if target.resolve() != path.resolve():
            copy_file(path, target)
    else:
        target = bundles / _free(path.resolve().name, taken)
        write_bundle(path, target)
    with opened(target) as (folder, _):
        run, attacks, files = read_run(folder), read_attacks(folder), digests(folder, (MANIFEST, PARQUET))
    if not run.cells:
        raise BoardError(f"{path} has imported logs only; a board takes counts, which can be counted again")
    own = [record for record in records.values() if record.verification.files == files]
    own.sort(key=lambda record: (-_confirmed_share(record), record.date))
    with open_file(target) as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Submission(run, attacks, target.name, digest, target.stat().st_size, tuple(own)), files


def _confirmed_share(record: VerificationRecord) -> float:
    """The share of a run's blocks that a verification counted again and found as stated."""
    recount = record.verification.recount
    if recount is None or record.verification.status != VERIFIED:
        return 0.0
    return recount.blocks / max(1, recount.of_blocks)


def _free(run: str, taken: set[str]) -> str:
    """`RUN.zip`, numbered if another run of the board has that name; it holds only what a bundle's folder may."""
    return next(name for name in _candidates(run) if name not in taken)


def _candidates(run: str) -> Iterator[str]:
    yield f"{run}.zip"
    yield from (f"{run}-{number}.zip" for number in range(2, 10_000))
