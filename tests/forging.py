"""A finished tiny run, and edits of it that keep every file of its folder in agreement with the others."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

import purifybench as pb
from bench.records import Cell
from bench.store.database import COLUMNS
from bench.store.run import export, read_run
from bench.store.store import Store
from bench.store.votes import encode

SIGMA = 0.5


@dataclass
class Forged:
    """The content of a run while it is edited."""

    manifest: dict[str, Any]
    cells: list[Cell]
    errors: dict[str, str]
    blocks: pd.DataFrame

    def rows(self, cell: int = 1, image: int = 0, stage: str = "estimate") -> list[int]:
        """Positions of the blocks of an image, in the order of their draws."""
        b = self.blocks
        own = (b["cell"] == self.cells[cell].key) & (b["image"] == image) & (b["stage"] == stage)
        return b[own].sort_values("first").index.tolist()

    def set(self, row: int, column: str, value: Any) -> None:
        self.blocks.at[row, column] = value

    def rekey(self, changed: Callable[[Cell], Cell]) -> None:
        """Change every cell, and give its blocks and the manifest its new key."""
        cells = [changed(cell) for cell in self.cells]
        keys = {old.key: new.key for old, new in zip(self.cells, cells, strict=True)}
        self.cells, self.manifest["sweep"] = cells, [cell.key for cell in cells]
        self.blocks["cell"] = [keys[key] for key in self.blocks["cell"]]


def loaded(folder: Path) -> Forged:
    run = read_run(folder)
    return Forged(json.loads(json.dumps(run.manifest)), list(run.cells.values()), dict(run.errors), run.blocks.copy())


def write(forged: Forged, folder: Path) -> Path:
    """Database with new checksums, exports, summary: as a run writes them."""
    rows = forged.blocks.assign(votes=forged.blocks["votes"].map(encode))[list(COLUMNS)]
    with Store(folder) as store:
        store.begin(forged.cells, forged.manifest)
        store.fill([], rows.astype(object).itertuples(index=False, name=None))
        for key, message in forged.errors.items():
            store.fail(key, message)
    export(read_run(folder))
    with suppress(ValueError):  # counts that no rule reads
        pb.load(folder).table.to_csv(folder / "summary.csv", index=False)
    return folder


def forge(run: Path, out: Path, edit: Callable[[Forged], object]) -> Path:
    """A copy of a run with an edit of which no file of the folder tells."""
    forged = loaded(run)
    edit(forged)
    return write(forged, out)


def moved(votes: list[int], to: int, count: int = 3) -> list[int]:
    """Votes with some of them moved to a class."""
    changed = list(votes)
    for _ in range(count):
        donor = max((k for k in range(len(changed)) if k != to), key=changed.__getitem__)
        if changed[donor]:
            changed[donor], changed[to] = changed[donor] - 1, changed[to] + 1
    return changed


def votes_to_the_true_class(f: Forged) -> None:
    row = f.rows()[0]
    f.set(row, "votes", moved(f.blocks.at[row, "votes"], f.manifest["labels"]["0"]))


def one_vote(f: Forged) -> None:
    row = f.rows(cell=0, image=2)[1]
    votes = f.blocks.at[row, "votes"]
    f.set(row, "votes", moved(votes, min(range(len(votes)), key=votes.__getitem__), 1))


def selection_votes(f: Forged) -> None:
    row = f.rows(stage="select")[0]
    votes = f.blocks.at[row, "votes"]
    f.set(row, "votes", moved(votes, min(range(len(votes)), key=votes.__getitem__), 4))


def two_images_swapped(f: Forged) -> None:
    of = {image: [f.blocks.at[row, "votes"] for row in f.rows(image=image)] for image in range(6)}
    first, second = next((i, j) for i in of for j in of if of[i] != of[j])
    for image, other in ((first, second), (second, first)):
        for row, votes in zip(f.rows(image=image), of[other], strict=True):
            f.set(row, "votes", votes)


def two_cells_swapped(f: Forged) -> None:
    first, second = (cell.key for cell in f.cells)
    f.blocks["cell"] = f.blocks["cell"].map({first: second, second: first})


def label_changed(f: Forged) -> None:
    f.manifest["labels"]["1"] = (f.manifest["labels"]["1"] + 1) % 10


def pixels_changed(f: Forged) -> None:
    f.manifest["pixels"]["1"] = "0" * 16


def classes_renamed(f: Forged) -> None:
    f.manifest["classes"] = f.manifest["classes"][::-1]


def sigma_of_the_preset(f: Forged) -> None:
    f.manifest["preset"]["sigmas"] = [0.25]


def noise_of_the_preset(f: Forged) -> None:
    f.manifest["preset"]["noise"] = "discrete"


def sigma_everywhere(f: Forged) -> None:
    f.manifest["preset"]["sigmas"] = [1.0]
    f.rekey(lambda cell: replace(cell, sigma=1.0))


def seed_everywhere(f: Forged) -> None:
    """The counts of a run with another seed."""
    f.manifest["preset"]["seed"] = 1
    f.rekey(lambda cell: replace(cell, seed=1))


def purifier_renamed(f: Forged) -> None:
    """The counts of one purifier under the name of another."""
    f.manifest["preset"]["purifiers"] = [{"name": "none"}, {"name": "consistency", "steps": 1}]
    cell = f.cells[1]
    other = {"network cm": cell.hashes["network edm"]}
    kept = {name: value for name, value in cell.hashes.items() if name != "network edm"}
    f.rekey(
        lambda c: (
            replace(c, purifier="consistency", parameters={"steps": 1}, hashes=kept | other)
            if c.purifier == cell.purifier
            else c
        )
    )


def parameter_of_the_preset(f: Forged) -> None:
    f.manifest["preset"]["classifier"]["path"] = "mnist5k/classifier"


def network_exchanged(f: Forged) -> None:
    f.rekey(lambda c: replace(c, hashes={k: "f" * 16 if k == "network edm" else v for k, v in c.hashes.items()}))


def image_left_out(f: Forged) -> None:
    f.manifest["preset"]["images"] = 5
    for facts in (f.manifest["labels"], f.manifest["pixels"]):
        del facts["2"]
    f.blocks = f.blocks[f.blocks["image"] != 2].reset_index(drop=True)


def block_left_out(f: Forged) -> None:
    f.blocks = f.blocks.drop(f.rows()[1]).reset_index(drop=True)


def cell_left_out(f: Forged) -> None:
    f.manifest["sweep"] = f.manifest["sweep"][:1]


def cell_marked_as_failed(f: Forged) -> None:
    f.errors[f.cells[0].key] = "purifier 'none' returned values that are not finite"


def draws_counted_twice(f: Forged) -> None:
    row = f.blocks.loc[f.rows()[0]].copy()
    row["first"] = 5
    f.blocks = pd.concat([f.blocks, row.to_frame().T], ignore_index=True)


def votes_doubled(f: Forged) -> None:
    """Twice the votes for the same draws: narrower bounds."""
    for row in range(len(f.blocks)):
        f.set(row, "votes", [2 * n for n in f.blocks.at[row, "votes"]])


def evaluations_lowered(f: Forged) -> None:
    for row in range(len(f.blocks)):
        f.set(row, "nfe", f.blocks.at[row, "nfe"] // 2)


def classifier_rows_lowered(f: Forged) -> None:
    row = f.rows()[0]
    f.set(row, "classifier_rows", f.blocks.at[row, "classifier_rows"] - 1)


def cheap_draws_added(f: Forged) -> None:
    """Blocks of an image that enters no accuracy, only the costs."""
    added = f.blocks.loc[f.rows()].assign(image=400, nfe=0)
    f.blocks = pd.concat([f.blocks, added], ignore_index=True)


# Edit -> status, and words of the answer. All files of the folder agree with the edit.
CONSISTENT: dict[Callable[[Forged], object], tuple[str, str]] = {
    votes_to_the_true_class: ("not reproduced", "votes differ"),
    one_vote: ("not reproduced", "1 of 288 votes differ"),
    selection_votes: ("not reproduced", "select draws 0 to 3"),
    two_images_swapped: ("not reproduced", "votes differ"),
    two_cells_swapped: ("not reproduced", "votes differ"),
    label_changed: ("not reproduced", "image 1 has the label"),
    pixels_changed: ("cannot be checked", "image 1 of"),
    classes_renamed: ("not reproduced", "names of the classes"),
    sigma_of_the_preset: ("not reproduced", "the preset says sigma = 0.25"),
    noise_of_the_preset: ("not reproduced", "the preset says noise = discrete"),
    sigma_everywhere: ("not reproduced", "votes differ"),
    seed_everywhere: ("not reproduced", "votes differ"),
    purifier_renamed: ("cannot be checked", "network cm has the hash"),
    parameter_of_the_preset: ("not reproduced", "the preset says classifier"),
    network_exchanged: ("cannot be checked", "network edm has the hash"),
    image_left_out: ("not reproduced", "images were left out"),
    block_left_out: ("not reproduced", "counts of 1 images are missing"),
    cell_left_out: ("not reproduced", "the preset makes 2 cells"),
    cell_marked_as_failed: ("not reproduced", "is marked as failed, and has every count"),
    draws_counted_twice: ("not reproduced", "holds draws that another block holds"),
    votes_doubled: ("not reproduced", "do not add up to its draws"),
    evaluations_lowered: ("not reproduced", "nfe is 0.5 per draw in the run, 1 again"),
    cheap_draws_added: ("cannot be checked", "2 blocks are of images that the preset does not certify"),
    classifier_rows_lowered: ("not reproduced", "classifier_rows is"),
}
