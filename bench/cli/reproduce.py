"""Reproduce a published protocol by one command, and judge its published figures: `bench reproduce`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.api import runs as api
from bench.cli.shell import FAILED, INTERRUPTED, DataOption, DeviceOption, WorkersOption, announce, app, console, say
from bench.errors import InputError, PurifyBenchError, TimeOver
from classifiers.base import ClassifierError
from purifiers.nets.hub.cards import WeightsError

if TYPE_CHECKING:
    from rich.table import Table

    from bench.doctor.requirements import Need
    from bench.published import Figure, Verdict
    from bench.sweep import Preset
    from bench.sweep.resolved import Resolved

RECORD = "reproduction.json"
_EARLY, _PUBLISHED = "early", "published"  # the rules, and the folders of their runs
_LONG = 10_000  # draws of a published rule, up to which `fast` loses no more accuracy than it (docs/certifiers.md)


@app.command()
def reproduce(
    preset: Annotated[str, typer.Argument(help="A preset of a published protocol, or the path of a .toml file.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the runs (results/runs/NAME-reproduction).")] = None,
    rules: Annotated[
        str, typer.Option(help="early (stops early), published (the preset's own rule), or both in this order.")
    ] = f"{_EARLY},{_PUBLISHED}",
    images: Annotated[int | None, typer.Option(min=1, help="Fewer images than the protocol's, for a trial.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Finish the running batches after this time; the same command goes on.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Published figures: a file, or a folder of them (results/published).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what is needed and how long it takes.")] = False,
    data: DataOption = None,
    device: DeviceOption = None,
    workers: WorkersOption = None,
) -> None:
    """Reproduce a published protocol: check, download, certify, judge its figures. The same command continues.

    Certifies by a rule that stops early, then by the published one. The result is one file to send: reproduction.json.

    The exit status is 75 if --minutes ended the command, and 1 if a cell failed.
    """
    from bench.published import read_figures
    from bench.sweep import load_preset, resolve

    begun = time.monotonic()
    fields = {"images": images, "data": data, "device": device, "workers": workers}
    chosen = load_preset(preset, fields)
    quoted = [figure for figure in read_figures(figures) if figure.preset == chosen.name]
    if not chosen.protocol and not quoted:
        raise InputError(
            f"the preset {chosen.name!r} reproduces no publication: it has no `protocol`, and no published figure "
            "names it; `bench run` certifies it"
        )
    announce(Path(preset), chosen, {name for name, value in fields.items() if value is not None})
    plans = _plans(chosen, rules)
    folder = out or api.RUNS / f"{chosen.name}-reproduction"
    resolved = resolve(chosen)
    required = _examine(plans, resolved)
    if dry_run:
        return
    _download(chosen, resolved, required)
    families = {purifier.name: purifier.family for purifier in resolved.purifiers}
    for rule, plan in plans.items():
        left = None if minutes is None else minutes - (time.monotonic() - begun) / 60
        try:
            if left is not None and left <= 0:
                raise TimeOver(f"the time is over before the {rule} rule; the same command continues")
            say(f"\n{rule} rule: {plan.certifier}, into {folder / rule}")
            _certify(folder / rule, plan, families, left)
        except KeyboardInterrupt:
            _conclude(folder, chosen, quoted)
            say(f"interrupted: the finished counts are stored in {folder}; the same command continues")
            raise typer.Exit(INTERRUPTED) from None
        except TimeOver:
            _conclude(folder, chosen, quoted)
            raise
    if _conclude(folder, chosen, quoted):
        raise typer.Exit(FAILED)


def _plans(preset: Preset, rules: str) -> dict[str, Preset]:
    """The preset under each rule that is asked for; only the published one if that stops early itself.

    Raises:
        InputError: an unknown rule.
    """
    from bench.certify import SEQUENTIAL
    from bench.names import nearest

    asked = [rule.strip() for rule in rules.split(",")]
    if unknown := [rule for rule in asked if rule not in (_EARLY, _PUBLISHED)]:
        raise InputError(nearest("rule", unknown[0], (_EARLY, _PUBLISHED)))
    if preset.certifier in SEQUENTIAL:
        return {_PUBLISHED: preset}
    # Certified accuracy at the preset's radii is all that is judged: the rule may skip wrong images, and its radii have
    # all digits. A published N below that of the papers is a trial, whose early rule draws no more than ten times it.
    most = None if preset.n >= _LONG else 10 * preset.n
    kind = "fast" if preset.n <= _LONG else "tight"
    early = {"certifier": kind, "label_aware": True, "radius_digits": None, "n_max": most}
    made = {_EARLY: preset.model_copy(update=early), _PUBLISHED: preset}
    return {rule: plan for rule, plan in made.items() if rule in asked}


def _examine(plans: dict[str, Preset], resolved: Resolved) -> list[Need]:
    """Print what is needed and how long each rule takes; returns the needs."""
    from bench.doctor.duration import duration
    from bench.doctor.requirements import describe, fits, needs
    from bench.engine.devices import choose_devices

    first = next(iter(plans.values()))
    devices = choose_devices(first.device, first.workers)
    required = list(needs(first, resolved))
    say(f"needs: {describe(required)}")
    say(f"memory: {fits(required, devices)}")
    if _PUBLISHED in plans:
        say(f"{_PUBLISHED} rule: {duration(plans[_PUBLISHED], resolved, required, devices, calls=False)}")
    if _EARLY in plans:
        say(f"{_EARLY} rule: {_early_draws(plans[_EARLY])}")
    return required


def _early_draws(plan: Preset) -> str:
    """The draws of the early rule beside those of the published one, in words."""
    if plan.n >= _LONG:
        return "on published logs a third of the published rule's draws or less (docs/certifiers.md)"
    return f"up to {plan.n_max:,} draws of an image, which may be more than the published rule's {plan.n:,}"


def _download(preset: Preset, resolved: Resolved, required: Sequence[Need]) -> None:
    """Download everything that is not here, whatever fails among it.

    Raises:
        InputError: something must be fetched by hand, which is told before any download; or a download failed. The
            message has the reason and the remedy of each.
    """
    if by_hand := [f"{need.name} {need.by_hand}" for need in required if need.by_hand]:
        raise InputError(
            f"{len(by_hand)} of {len(required)} needs must be met by hand: {'; '.join(by_hand)}. Then give the same "
            "command again"
        )
    failed = []
    for need, fetch in zip(required, _fetches(preset, resolved), strict=True):
        if need.present:
            continue
        say(f"downloads {need.name}")
        try:
            fetch()
        except (PurifyBenchError, WeightsError, ClassifierError, OSError) as error:
            failed.append(f"{need.name}: {error}")
    if failed:
        missing = sum(not need.present for need in required)
        raise InputError(
            f"{len(failed)} of {missing} downloads failed. Whatever has arrived is kept, and the same command goes "
            "on once there is a connection or the files are in their places.\n"
            + "\n".join(f"- {text}" for text in failed)
        )


def _fetches(preset: Preset, resolved: Resolved) -> Iterator[Callable[[], object]]:
    """A download for each need of `bench.doctor.requirements.needs`, in the same order."""
    from bench import data
    from bench.sweep.resolved import classifier_weights
    from purifiers.nets.hub.download import obtain

    yield partial(data.load, preset.dataset, preset.split, preset.data, preset.size)
    for voter in resolved.by_text.values():
        yield partial(classifier_weights, voter)
    for role in sorted({role for purifier in resolved.purifiers for role in purifier.networks}):
        yield partial(obtain, preset.networks[role])


def _certify(folder: Path, plan: Preset, families: dict[str, str], minutes: float | None) -> None:
    """Run a plan into a folder, or continue it, and print its figures."""
    from bench.api.answers import show
    from bench.cli.progress import ProgressDisplay
    from bench.cli.tables import summary_parts

    finished = api.run_into(folder, plan, partial(ProgressDisplay, console, families), say, minutes)
    show(summary_parts(finished.summary), console)


def _conclude(folder: Path, preset: Preset, quoted: Sequence[Figure]) -> bool:
    """Judge the runs that are in the folder, print the verdicts and write the record; returns whether a cell failed."""
    from bench.files import make_folder, write_file
    from bench.provenance import EXTRAS, LIBRARIES, version_record
    from bench.published import verdicts
    from bench.records import as_json
    from bench.store.database import StoreError

    record: dict[str, Any] = {name: getattr(preset, name) for name in ("name", "title", "protocol")}
    record |= {"versions": version_record((*LIBRARIES, *EXTRAS)), "images": preset.images, "rules": {}}
    failed = False
    for rule in (_EARLY, _PUBLISHED):
        try:
            run = api.load(folder / rule)
        except StoreError:  # this rule was not asked for, or was interrupted before its first draw
            continue
        found = verdicts(run.summary, quoted)
        console.print(_table(rule, found) if found else f"{rule} rule: no published figure entered", highlight=False)
        for words in _other_draws(preset, found):
            say(words)
        failed |= bool(run.errors)
        record["rules"][rule] = _of_run(run, found)
    path = write_file(make_folder(folder) / RECORD, as_json(record))
    say(f"the result is {path}: please send it with an issue of the project. It holds figures and versions, no paths")
    return failed


def _of_run(run: api.Run, found: Sequence[Verdict]) -> dict[str, Any]:
    """The part of the record about one rule: facts and figures of each row, and the verdicts."""
    from bench.records import plain

    table = run.summary.table
    facts = ["name", "cell", "sigma", "dataset", "rule", "images", "wanted", "complete", "error", "abstained", "nfe"]
    facts += [name for name in table if str(name).startswith("acc")] + ["ms_purify", "ms_joint", "device"]
    rows = plain(table[facts].astype(object).where(table[facts].notna(), None).to_dict("records"))
    judged = [
        plain(v) | {"accuracy": v.accuracy, "interval": v.interval, "published_interval": v.figure.interval}
        for v in found
    ]
    return {"rows": rows, "verdicts": judged, "notes": list(run.summary.notes)}


def _table(rule: str, found: Sequence[Verdict]) -> Table:
    from rich.box import SIMPLE

    from bench.api.grid import figure_table
    from bench.summary.format import images_text, listed, percent_interval

    words = [v.verdict for v in found]
    total = ", ".join(f"{words.count(word)} {word}" for word in dict.fromkeys(words))
    images = sorted({v.images for v in found if v.images is not None})
    columns = "purifier", "at σ", "radius", "published", "σ here", "here", "verdict"
    missing: dict[tuple[str, str], list[str]] = {}  # purifier and reason -> radii
    for v in found:
        if v.why:
            missing.setdefault((v.figure.purifier or "", v.why), []).append(f"{v.figure.radius:g}")
    reasons = "; ".join(
        f"{name} at radius {listed(dict.fromkeys(radii))}: {why}" for (name, why), radii in missing.items()
    )
    title = f"{rule} rule, {images_text(images)}: {total}"
    table = figure_table(title, columns, reasons or None, no_wrap=True, box=SIMPLE)
    for v in found:
        figure, own = v.figure, v.interval
        value = "–" if figure.value is None else f"{100 * figure.value:.{max(figure.decimals - 2, 0)}f}"
        interval = "" if figure.interval is None else f" {percent_interval(*figure.interval)}"
        here = f"{100 * (v.accuracy or 0):.1f} {percent_interval(*own)}" if own else "–"
        sigma = f"{v.sigma:g}" if v.sigma is not None and math.isfinite(v.sigma) else "–"
        facts = (
            figure.purifier,
            figure.sigma_words.removeprefix("σ ").replace("best σ", "best"),
            f"{figure.radius:g}",
            value + interval,
        )
        table.add_row(*map(str, facts), sigma, here, v.short)
    return table


def _other_draws(preset: Preset, found: Sequence[Verdict]) -> Iterator[str]:
    """A sentence for each N and alpha of judged figures that are not those of the preset, since they limit radii."""
    judged = dict.fromkeys((v.figure.n, v.figure.alpha) for v in found if v.figure.value is not None)
    for n, alpha in judged:
        stated = [f"N = {n:,}"] if n not in (None, preset.n) else []
        stated += [f"alpha = {alpha:g}"] if alpha is not None and not math.isclose(alpha, preset.alpha) else []
        if stated:
            own = f"N = {preset.n:,}, alpha = {preset.alpha:g}"
            yield f"note: figures with {' and '.join(stated)} are compared with a protocol of {own}"
