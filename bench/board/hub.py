"""A run as a data set in the layout of the Hugging Face Hub: a card with configurations, parquet files, the bundle."""

from __future__ import annotations

import json
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from bench import __version__
from bench.analysis import markup
from bench.analysis import tables as paper
from bench.board.submission import BoardError
from bench.files import copy_file, make_folder, make_subfolder, write_file, writing
from bench.store import MANIFEST, read_run
from bench.store.run import PARQUET
from bench.summary import Summary, summarise
from bench.verify import opened, write_bundle
from bench.verify.figures import claim_of

_CARD, _DATA, _EVIDENCE = "README.md", "data", "evidence"
_CONFIGS = {"summary": "a row for each purifier and sigma", "certificates": "a row for each image of each of them"}
_CONFIGS["counts"] = "votes per class of every block of draws, from which all others follow"


def export_hub(folder: Path, out: Path) -> list[Path]:
    """Write a run as a data set that can be uploaded as it is; returns the files, the card first. Sends nothing.

    Parameters:
        out: the folder of the data set, made if it is missing.

    Raises:
        BoardError: `out` is the folder of a run.
        BundleError, StoreError: the run has not ended, contradicts its counts, or cannot be read.
        OSError: a file cannot be written.
    """
    if (out / MANIFEST).exists() or out.resolve() == folder.resolve():
        raise BoardError(f"{out} is the folder of a run; give another --out")
    name = folder.resolve().name
    bundle = make_subfolder(make_folder(out), _EVIDENCE) / f"{name}.zip"
    digest = write_bundle(folder, bundle)
    data = make_subfolder(out, _DATA)
    files = {config: data / f"{config}.parquet" for config in _CONFIGS}
    with opened(bundle) as (unpacked, _):
        run = read_run(unpacked)
        if not run.cells:
            raise BoardError(f"{folder} has imported logs only; a data set of counts needs a run of `bench run`")
        summary = summarise([run])
        copy_file(unpacked / PARQUET, files["counts"])
    names = summary.table[["run", "cell", "name", "sigma"]]
    _write_table(summary.table, files["summary"])
    _write_table(summary.certificates.merge(names, on=["run", "cell"], how="left"), files["certificates"])
    card = write_file(out / _CARD, _card(summary, name, claim_of(run), bundle.relative_to(out).as_posix(), digest))
    return [card, *files.values(), bundle]


def _write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as parquet; columns of texts stay such if all are missing, and of truth values if all are known."""
    objects = [column for column in table if table[column].dtype == object]
    kinds = {c: "bool" if table[c].map(type).eq(bool).all() and len(table) else "string" for c in objects}
    with writing(path) as file:
        table.astype(kinds).to_parquet(file, compression="zstd", index=False)


def _card(summary: Summary, name: str, claim: str, bundle: str, digest: str) -> str:
    """The card. Texts of the run are quoted as JSON in its header, which YAML reads, and escaped in its body."""
    loader = jinja2.PackageLoader("bench.board", "static")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    # Escaped for Markdown, so jinja does not escape it for HTML.
    environment.filters["words"] = lambda text: Markup(markup.escape_markdown(text))
    return environment.get_template("card.md").render(
        quoted_title=Markup(json.dumps(summary.title)),
        title=summary.title,
        configs={config: f"{_DATA}/{config}.parquet" for config in _CONFIGS},
        meanings=_CONFIGS,
        claim=claim,
        notes=summary.notes,
        tables=[Markup(markup.text_of(table, "md")) for table in paper.tables(summary)[:1]],
        name=name,
        bundle=bundle,
        digest=digest,
        version=__version__,
    )
