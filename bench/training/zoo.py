"""Train the networks of a data set: each stage starts as soon as the stages that it needs are done."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

from bench.engine.devices import cores
from bench.errors import InputError, TimeOver
from bench.executors.worker import WorkerContext
from bench.names import nearest
from bench.training.curves import BEFORE, draw_curves
from bench.training.derived import LONG, described, images_of
from bench.training.interrupts import begin_worker, stage_of_worker, stop_by_interrupt
from bench.training.jobs import NEEDS, OF_SIGMAS, Job
from bench.training.stage import train_one


def train(job: Job, stages: list[str] | None = None, jobs: int | None = None, say=print) -> list[Path]:
    """Train the named stages and save each network with its card; returns the written files.

    Stages run in parallel processes, as many as `jobs` (default: one per core, or one on a GPU), because small networks
    gain little from more threads and lose much when another program occupies a core. After an interruption the same
    call resumes from the checkpoints, at the step of the interruption.

    Parameters:
        stages: None: all, or of own images all but `LONG`.
        say: called with a progress message.

    Raises:
        InputError: before anything is trained: an unknown stage, weights that a stage reads and nothing makes, own
            images of a size for which no network can be made, or a control of another stage than `classifier-ft`.
        DataError: own images are missing.
        KeyboardInterrupt: Ctrl-C; the message says what is saved, and how to go on.
        Refused, FloatingPointError, OSError, ValueError: of the first stage that failed, after the stages that do not
            need it are done.
    """
    selected = list(NEEDS) if stages is None else stages
    for stage in selected:
        if stage not in NEEDS:
            raise InputError(nearest("stage", stage, NEEDS))
    if job.unpurified and selected != ["classifier-ft"]:
        raise InputError("--unpurified trains the control of classifier-ft: add --stages classifier-ft")
    if job.sigmas and not (len(selected) == 1 and selected[0] in OF_SIGMAS):
        raise InputError(f"--sigmas are the noise levels of one stage: add --stages {' or '.join(OF_SIGMAS)}")
    if job.sigmas and job.unpurified:
        raise InputError("--unpurified trains on images without noise: leave out --sigmas")
    if job.sigmas and not all(0 < sigma < math.inf for sigma in job.sigmas):
        raise InputError("--sigmas must be positive")
    if (job.unpurified or len(job.sigmas or ()) > 1) and not job.out:
        raise InputError("this training would replace the bundled network by another kind: add --out FOLDER")
    if missing := [*_missing(job, selected)]:
        raise InputError("; ".join(missing))
    if images := images_of(job):
        say(described(images, job))
        if stages is None:
            selected = [stage for stage in selected if stage not in LONG]
            say(f"without {', '.join(LONG)}, which take longer than all others: --stages {','.join(LONG)} trains them")
    workers = jobs or (cores() if job.device == "cpu" else 1)
    threads = max(1, cores() // workers) if job.device == "cpu" else 1
    waiting, running, written = list(selected), dict[Future, str](), list[Path]()
    failure: BaseException | None = None
    context = WorkerContext()
    wanted = context.Event()
    with (
        stop_by_interrupt(wanted, say) as stopped,
        ProcessPoolExecutor(workers, context, begin_worker, (wanted,)) as pool,
    ):
        while running or (waiting and not stopped()):
            ready = [] if stopped() else [s for s in waiting if not set(NEEDS[s]) & {*waiting, *running.values()}]
            for stage in ready[: workers - len(running)]:
                waiting.remove(stage)
                running[pool.submit(_train_in_worker, job, stage, threads)] = stage
                say(f"{stage}: started")
            if not running:
                break
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                stage = running.pop(future)
                if isinstance(error := future.exception(), TimeOver):
                    waiting.append(stage)
                    continue
                if error:
                    failure = failure or error
                    skipped = [s for s in waiting if _needs(s, stage)]
                    waiting = [s for s in waiting if s not in skipped]
                    without = f"; not trained without it: {', '.join(skipped)}" if skipped else ""
                    say(f"{stage}: failed: {error}{without}")
                    continue
                path, summary = future.result()
                written.append(path)
                say(f"{stage}: {summary} -> {path}")
                if picture := draw_curves(job.work()):
                    say(f"{stage}: curves -> {picture}")
    if stopped() and waiting:
        raise KeyboardInterrupt(
            f"interrupted; not done: {', '.join(stage for stage in selected if stage in waiting)}. Their states are "
            f"saved in {job.work()}: the same command continues, unless it says --fresh, which begins again"
        )
    if failure:
        raise failure
    return written


def _train_in_worker(job: Job, stage: str, threads: int) -> tuple[Path, str]:
    """As `train_one`; raises TimeOver after Ctrl-C."""
    with stage_of_worker(stage) as stop:
        return train_one(replace(job, stop=stop), stage, threads)


def _missing(job: Job, selected: Collection[str]) -> Iterator[str]:
    """A message for every weight file that a stage reads, and that is neither there nor made by another stage."""
    for stage in selected:
        absent = [need for need in NEEDS[stage] if need not in selected and not job.source(need).is_file()]
        if absent:
            yield (
                f"{stage} reads the networks of {', '.join(absent)}, and {job.path(absent[0])} is missing: add the "
                f"stages (--stages {','.join(s for s in NEEDS if s in {*absent, *selected})})"
            )
        copy = job.work() / f"{job.name(stage)}{BEFORE}.safetensors"
        if job.onward and not (job.path(stage).is_file() or copy.is_file()):
            yield f"{stage} has no weights in {job.path(stage)} to start from: leave out --from-weights"


def _needs(stage: str, other: str) -> bool:
    """Whether a stage reads the weights of another one, directly or through a third."""
    return other in NEEDS[stage] or any(_needs(needed, other) for needed in NEEDS[stage])
