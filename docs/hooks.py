"""What the site needs beside its pages: files of the repository that pages show, and the help of every command."""

from __future__ import annotations

import re
from pathlib import Path

import click
import typer
from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
_OUTSIDE = re.compile(r"\]\(\.\./([^)#\s]+)")  # a link out of docs/
_HELP = "<!-- the help of every command -->"


def on_files(files, config):
    """Copy the files of the repository to which a page links, to the same path within the site."""
    texts = [f.content_string for f in files.documentation_pages() if f.src_uri.endswith(".md")]
    for path in sorted({path for text in texts for path in _OUTSIDE.findall(text)}):
        if (ROOT / path).is_file() and files.get_file_from_path(path) is None:
            files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Links out of docs/ lead to the copies; the page of commands gets their help."""
    markdown = _OUTSIDE.sub(r"](\1", markdown)
    if page.file.src_uri == "CONTRIBUTING.md":  # its links start at the repository
        markdown = re.sub(r"\]\(README\.md[^)]*", "](index.md", markdown.replace("](docs/", "]("))
    if _HELP not in markdown:
        return markdown
    from bench.__main__ import app

    group = typer.main.get_command(app)
    context = click.Context(group, info_name="python -m bench")
    return markdown.replace(
        _HELP, "\n\n".join(_command_page(name, group, context) for name in group.list_commands(context))
    )


def _command_page(name, group, context):
    """The help of a command: its purpose, its usage and a table of its options."""
    command = group.get_command(context, name)
    inner = click.Context(command, parent=context, info_name=name)
    if hasattr(command, "list_commands"):  # a group
        return "\n\n".join(_command_page(sub, command, inner) for sub in command.list_commands(inner))
    usage = command.get_usage(inner).partition("Usage: ")[2]
    lines = [
        f"## {inner.command_path.removeprefix('python -m ')}",
        "",
        command.help or "",
        "",
        f"```\n{usage}\n```",
        "",
    ]
    if command.epilog:
        lines += [f"```\n{command.epilog.removeprefix('Example: ')}\n```", ""]
    rows = [_row(parameter, inner) for parameter in command.params if not getattr(parameter, "hidden", False)]
    return "\n".join([*lines, "| argument or option | meaning |", "|---|---|", *rows])


def _row(parameter, context):
    words = getattr(parameter, "help", None) or ""
    default = parameter.get_default(context, call=False)
    if parameter.param_type_name == "option" and isinstance(default, str | int | float) and default is not False:
        words += f" (default: {default})"
    named = ", ".join(parameter.opts) if parameter.param_type_name == "option" else parameter.name
    return f"| `{named}` | {words.replace('|', chr(92) + '|')} |"
