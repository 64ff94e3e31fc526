"""Tables as Markdown and as LaTeX (booktabs). Names are escaped, whatever they contain."""

from __future__ import annotations

import re
from pathlib import Path

import jinja2
from markupsafe import Markup

from bench.analysis.tables import EPSILON, Entry, PaperTable
from bench.files import make_folder, write_file

_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]*`'"},  # or they join a row's \\ before them, or the next sign
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "…": r"\ldots{}", "–": r"\textendash{}"},
    **{"σ": r"$\sigma$", "ε": r"$\varepsilon$", "≥": r"$\ge$", "·": r"$\cdot$", "→": r"$\to$"},
    **{"†": r"$^\dagger$", "↓": r"$^\downarrow$"},
}


def _escape_latex(words: str) -> str:
    """Text as LaTeX shows it; line breaks become spaces."""
    shown = "".join(_LATEX.get(sign, sign) for sign in " ".join(words.split()))
    return re.sub("-(?=-)", "-{}", shown)  # two of them would be a dash


def escape_markdown(words: str) -> str:
    """Text as Markdown shows it, inside a table too; line breaks become spaces."""
    return re.sub(r"([\\`*_{}\[\]<>|~$#&])", r"\\\1", " ".join(words.split()))


# Ending of a file -> how it escapes text, the highest entry, and the signs of one close to it and of a lower one.
_FORMS = {
    "md": (escape_markdown, "**{}**", " †", " ↓"),
    "tex": (_escape_latex, r"\textbf{{{}}}", r"\rlap{$^\dagger$}", r"\rlap{$^\downarrow$}"),
}


def text_of(table: PaperTable, ending: str) -> str:
    """A table as GitHub's Markdown (`md`), or as a LaTeX float as wide as the page (`tex`), for `\\input`."""
    escape, best, close, lower = _FORMS[ending]

    def entry(e: Entry) -> str:
        words = escape(e.text)
        return best.format(words) if e.best else words + (close if e.close else lower if e.lower else "")

    loader = jinja2.PackageLoader("bench.analysis")
    # Signs of blocks, variables and comments: LaTeX needs the usual braces.
    signs = ("<%", "%>", "<<", ">>", "<#", "#>")
    environment = jinja2.Environment(
        *signs, loader=loader, trim_blocks=True, keep_trailing_newline=True, autoescape=True
    )
    # Escaped for Markdown or LaTeX, so jinja does not escape it for HTML.
    environment.filters |= {"escape": lambda text: Markup(escape(text)), "entry": lambda e: Markup(entry(e))}
    radii = [i for i, title in enumerate(table.head, 1) if title.startswith(EPSILON)]
    titles = [title.removeprefix(EPSILON) for title in table.head]
    template = environment.get_template(f"table.{ending}")
    return template.render(table=table, titles=titles, first=min(radii, default=0), last=max(radii, default=0))


def write(tables: list[PaperTable], folder: Path) -> list[Path]:
    """Write each table as `NAME.md` and `NAME.tex`; returns the files."""
    written = {
        make_folder(folder) / f"table-{table.name}.{ending}": text_of(table, ending)
        for table in tables
        for ending in _FORMS
    }
    return [write_file(path, text) for path, text in written.items()]
