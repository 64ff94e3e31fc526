"""Tables as Markdown and as LaTeX (booktabs). Names are escaped, whatever they contain."""

from __future__ import annotations

import re
from pathlib import Path

from bench.analysis.tables import EPSILON, Entry, PaperTable

_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{sign: f"{{{sign}}}" for sign in "[]*`'"},  # or they join a row's \\ before them, or the next sign
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "…": r"\ldots{}", "–": r"\textendash{}"},
    **{"σ": r"$\sigma$", "ε": r"$\varepsilon$", "≥": r"$\ge$", "·": r"$\cdot$", "†": r"$^\dagger$", "→": r"$\to$"},
}


def _escape_latex(words: str) -> str:
    """Text as LaTeX shows it; line breaks become spaces."""
    shown = "".join(_LATEX.get(sign, sign) for sign in " ".join(words.split()))
    return re.sub("-(?=-)", "-{}", shown)  # two of them would be a dash


def _escape_markdown(words: str) -> str:
    """Text as Markdown shows it, inside a table too; line breaks become spaces."""
    return re.sub(r"([\\`*_{}\[\]<>|~$#&])", r"\\\1", " ".join(words.split()))


def _latex(table: PaperTable) -> str:
    """A float as wide as the page, for `\\input`; needs `\\usepackage{booktabs}`."""

    def entry(e: Entry) -> str:
        words = _escape_latex(e.text)
        return rf"\textbf{{{words}}}" if e.best else words + (r"\rlap{$^\dagger$}" if e.close else "")

    radii = [i for i, title in enumerate(table.head, 1) if title.startswith(EPSILON)]
    over = rf"\multicolumn{{{len(radii)}}}{{c}}{{Certified accuracy (\%) at radius $\varepsilon$}}"
    lines = [
        "% needs \\usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering",
        r"\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{_escape_latex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}",
        rf"\begin{{tabular}}{{l{'r' * (len(table.head) - 1)}}}",
        r"\toprule",
        "& " * (radii[0] - 1) + over + " &" * (len(table.head) - radii[-1]) + r" \\",
        rf"\cmidrule(lr){{{radii[0]}-{radii[-1]}}}",
        " & ".join(_escape_latex(title.removeprefix(EPSILON)) for title in table.head) + r" \\",
        r"\midrule",
        *(" & ".join(entry(e) for e in row) + r" \\" for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par\smallskip{{\footnotesize {_escape_latex(note)}}}" for note in table.notes),
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _markdown(table: PaperTable) -> str:
    """A table of GitHub's Markdown with its caption above and its notes below."""

    def entry(e: Entry) -> str:
        words = _escape_markdown(e.text)
        return f"**{words}**" if e.best else words + (" †" if e.close else "")

    lines = [
        f"**{_escape_markdown(table.caption)}**",
        "",
        "| " + " | ".join(_escape_markdown(title) for title in table.head) + " |",
        "|---|" + "---:|" * (len(table.head) - 1),
        *("| " + " | ".join(entry(e) for e in row) + " |" for row in table.rows),
        *(line for note in table.notes for line in ("", _escape_markdown(note))),
    ]
    return "\n".join(lines) + "\n"


def write(tables: list[PaperTable], folder: Path) -> list[Path]:
    """Write each table as `NAME.md` and `NAME.tex`; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for table in tables:
        for ending, form in ((".md", _markdown), (".tex", _latex)):
            path = folder / f"table-{table.name}{ending}"
            path.write_text(form(table), encoding="utf-8")
            written.append(path)
    return written
