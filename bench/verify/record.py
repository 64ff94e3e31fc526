"""The record of a verification: who checked which files, when and with what result, as one JSON file."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic.dataclasses import dataclass

from bench import __version__
from bench.errors import InputError
from bench.store.record import read_record, write_record
from bench.verify.verdict import CHECKED, FAILED, VERIFIED, Verification

_FORMAT = 1


@dataclass(frozen=True, config={"extra": "forbid"})
class VerificationRecord:
    """A verification and its circumstances. It is a statement of those who verified, and no signature.

    Attributes:
        by: who verified, in their own words; may be empty.
        date: of the check, in UTC, as ISO 8601 writes it.
        purifybench: version that checked.
        verification: the answer; its `files` say of which run.
    """

    by: str
    date: str
    purifybench: str
    verification: Verification


def write_verification(path: Path, found: Verification, by: str = "") -> Path:
    """Write the record of a verification that was made now; returns its path.

    Raises:
        InputError: the run has no exports, whose hashes a record needs.
        OSError: the file cannot be written.
    """
    if not found.files:
        raise InputError(f"{found.run} has no exports yet, so a record cannot name them; the same `bench run` ends it")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return write_record(path, VerificationRecord(by, now, __version__, found), _FORMAT, indent=1)


def read_verification(path: Path) -> VerificationRecord:
    """Read a record; raises InputError if there is none in the file, or it is damaged."""
    record = read_record(path, VerificationRecord, _FORMAT, "bench verify RUN --record FILE", _refuse_senseless)
    if record is None:
        raise InputError(f"there is no file {path}; `bench verify RUN --record FILE` writes one")
    return record


def _refuse_senseless(record: VerificationRecord) -> None:
    if record.verification.status not in (VERIFIED, FAILED, CHECKED):
        raise InputError(f"{record.verification.status[:80]!r} is no result of a verification")
    datetime.fromisoformat(record.date)
