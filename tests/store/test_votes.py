"""Votes as text: what is written is read, many classes take little room, and damage is noticed."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from stored import closed_run, make_cell, make_counts, make_manifest

from bench.certify.base import Tally
from bench.records import Counts
from bench.store.database import _VOTES, DATABASE, SELECTED, StoreError, checked
from bench.store.repair import repair
from bench.store.run import MANIFEST, PARQUET, export, read_run
from bench.store.store import Store
from bench.store.votes import decode, encode

CLASSES, IMAGES, BLOCKS, DRAWS = 1000, 20, 30, 100
CELL = make_cell()


@st.composite
def votes(draw: st.DrawFn, most: int = 2000) -> list[int]:
    """Votes of few or many classes, of which few, many or all have some."""
    classes = draw(st.integers(0, most))
    voted = draw(st.dictionaries(st.integers(0, most), st.integers(1, 10**6), max_size=draw(st.sampled_from([5, 200]))))
    return [voted.get(k, 0) for k in range(classes)] if draw(st.booleans()) else list(range(classes))


@given(given=votes())
@example(given=[0] * CLASSES)
def test_votes_that_were_written_are_read(given):
    assert decode([encode(given), encode(tuple(given))]) == [given, given]


@given(blocks=st.lists(votes(100)))
def test_votes_of_many_blocks_are_read_at_once(blocks):
    assert decode([encode(block) for block in blocks]) == blocks


@given(given=st.lists(st.integers(0, 10**5), max_size=32))
def test_few_classes_are_written_as_the_list_that_they_always_were(given):
    assert encode(given) == json.dumps(given)


def test_of_many_classes_those_with_votes_are_written():
    given = [0] * CLASSES
    given[17], given[402] = 98, 2
    assert encode(given) == '{"classes":1000,"17":98,"402":2}'
    assert encode([0] * CLASSES) == '{"classes":1000}'


@given(given=votes())
def test_votes_are_never_longer_than_their_list(given):
    assert len(encode(given)) <= len(json.dumps(given))


DAMAGED = [
    *("", "17", "null", '"17"', "[1,2", "[1],[2]", '{"classes":1000', "[" * 100_000, "\x00", "[" + "9" * 5000 + "]"),
    *("{}", '{"17":98}', '{"17":98,"classes":1000}', '{"classes":true}', '{"classes":"1000"}', '{"classes":1000.0}'),
    *('{"classes":-1000}', '{"classes":10,"9":1}', '{"classes":1000000000000}', '{"classes":[1]}', '{"classes":{}}'),
    *('{"classes":1000,"1000":1}', '{"classes":1000,"-1":1}', '{"classes":1000,"x":1}', '{"classes":1000,"":1}'),
    *('{"classes":1000,"1":0}', '{"classes":1000,"1":-1}', '{"classes":1000,"1":1.0}', '{"classes":1000,"1":true}'),
    *('{"classes":1000,"1":null}', '{"classes":1000,"1":1,"1":2}', '{"classes":1000,"2":1,"1":2}'),
    *('{"classes":1000,"1":{"classes":1000}}', '{"classes":1000,"classes":1000}'),
]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_text_that_is_no_votes_is_refused_alone_and_among_others(text):
    for texts in ([text], ["[1, 2]", text, encode([0] * CLASSES)]):
        with pytest.raises(ValueError):  # noqa: PT011 (json's own are among them)
            decode(texts)


@given(given=votes(), where=st.integers(0, 10**6), what=st.characters())
def test_a_text_with_another_letter_is_refused_or_votes_of_another_block(given, where, what):
    text = encode(given)
    at = where % len(text)
    try:
        (found,) = decode([text[:at] + what + text[at + 1 :]])
    except ValueError:
        return
    assert isinstance(found, list)


def block(image: int, first: int) -> Counts:
    """A hundred draws that reach five of a thousand classes."""
    counted, rng = [0] * CLASSES, random.Random(1000 * image + first)
    for k, count in zip(rng.sample(range(CLASSES), 5), (50, 30, 15, 4, 1), strict=True):
        counted[k] = count
    return make_counts(CELL, image, first=first, votes=counted)


def fill(store: Store) -> None:
    store.begin([CELL], make_manifest(CELL))
    store.add([block(image, DRAWS * k) for image in range(IMAGES) for k in range(BLOCKS)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A closed run of 600 blocks of a thousand classes, without exports."""
    return closed_run(tmp_path_factory.mktemp("whole") / "run", fill)


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "run"))


def found(folder: Path) -> dict[tuple[int, int], tuple[int, ...]]:
    blocks = read_run(folder).blocks
    return {(i, f): tuple(v) for i, f, v in blocks[["image", "first", "votes"]].itertuples(index=False)}


EXPECTED = {(i, DRAWS * k): block(i, DRAWS * k).votes for i in range(IMAGES) for k in range(BLOCKS)}


def test_a_block_of_a_thousand_classes_takes_little_room(whole):
    assert (whole / DATABASE).stat().st_size < 300 * IMAGES * BLOCKS


def test_a_thousand_classes_come_back_from_the_store_the_reader_the_exports_and_a_repair(folder):
    with Store(folder) as store:
        estimate = {first: counted for (image, first), counted in EXPECTED.items() if image == 3}
        assert store.tallies(CELL.key)[3] == Tally({}, estimate)
    assert found(folder) == EXPECTED
    assert repair(folder).backup is None
    export(read_run(folder))
    (folder / DATABASE).unlink()
    assert found(folder) == EXPECTED  # of the exports
    assert (folder / PARQUET).stat().st_size < 60 * IMAGES * BLOCKS
    with Store(folder):
        pass  # makes the database anew
    (folder / MANIFEST).unlink()
    assert found(folder) == EXPECTED


@pytest.mark.parametrize("checksum", ["old", "new"])
@pytest.mark.parametrize("text", ['{"classes":1000,"17":99,"402"', '{"classes":1000000000000}', "[" * 100_000])
def test_damaged_votes_are_named_by_readers_and_writers_and_a_repair_keeps_the_others(folder, text, checksum):
    db = sqlite3.connect(folder / DATABASE)
    with db:
        place = "WHERE image = 3 AND first = 100"
        *row, crc = db.execute(f"SELECT {SELECTED} FROM blocks {place}").fetchone()
        if checksum == "new":  # as somebody who edits a file may write it
            crc = checked((*row[:_VOTES], text, *row[_VOTES + 1 :]))[-1]
        db.execute(f"UPDATE blocks SET votes = ?, crc = ? {place}", (text, crc))
    db.close()
    with pytest.raises(StoreError, match="bench doctor --repair"):
        read_run(folder)
    with Store(folder) as store, pytest.raises(StoreError, match="bench doctor --repair"):
        store.tallies(CELL.key)[3]
    assert repair(folder).damaged == 1
    assert found(folder) == {place: counted for place, counted in EXPECTED.items() if place != (3, 100)}


@pytest.mark.parametrize("seed", range(6))
def test_flipped_bits_are_noticed_or_harmless_and_what_is_lost_can_be_counted_again(folder, seed):
    rng = random.Random(seed)
    content = bytearray((folder / DATABASE).read_bytes())
    for _ in range(3):
        content[rng.randrange(8192, len(content))] ^= 1 << rng.randrange(8)
    (folder / DATABASE).write_bytes(content)
    try:
        assert found(folder) == EXPECTED
    except StoreError as error:
        assert "bench doctor --repair" in str(error)  # noqa: PT017 (either is right)
    repair(folder)
    assert found(folder).items() <= EXPECTED.items()
    with Store(folder) as store:
        fill(store)
    assert found(folder) == EXPECTED


def test_what_is_left_of_a_torn_file_is_kept(folder):
    content = (folder / DATABASE).read_bytes()
    (folder / DATABASE).write_bytes(content[: len(content) // 2])
    saved = repair(folder)
    assert saved.unreadable and 0.2 * len(EXPECTED) < saved.kept < len(EXPECTED)
    assert found(folder).items() < EXPECTED.items()
