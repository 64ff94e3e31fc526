"""Train the networks of a data set: each stage starts as soon as the stages that it needs are done."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from bench.engine.devices import cores
from bench.errors import InputError
from bench.executors.worker import end_with_parent
from bench.names import nearest
from bench.training.curves import draw_curves
from bench.training.jobs import NEEDS, Job
from bench.training.stage import train_one


def train(job: Job, stages: list[str] | None = None, jobs: int | None = None, say=print) -> list[Path]:
    """Train the named stages (default: all) and save each network with its card; returns the written files.

    Stages run in parallel processes, as many as `jobs` (default: one per core, or one on a GPU), because small networks
    gain little from more threads and lose much when another program occupies a core. After an interruption the same
    call resumes from the checkpoints.

    Parameters:
        say: called with a progress message.

    Raises:
        InputError: unknown stage; the message has the nearest name and the list.
        Refused, FloatingPointError, OSError, ValueError: of the first stage that failed, after the stages that do not
            need it are done.
    """
    selected = list(NEEDS) if stages is None else stages
    for stage in selected:
        if stage not in NEEDS:
            raise InputError(nearest("stage", stage, NEEDS))
    workers = jobs or (cores() if job.device == "cpu" else 1)
    threads = max(1, (os.cpu_count() or 1) // workers) if job.device == "cpu" else 1
    waiting, running, written = list(selected), dict[Future, str](), list[Path]()
    failure: BaseException | None = None
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), end_with_parent) as pool:
        while waiting or running:
            ready = [s for s in waiting if not set(NEEDS[s]) & {*waiting, *running.values()}]
            for stage in ready[: workers - len(running)]:
                waiting.remove(stage)
                running[pool.submit(train_one, job, stage, threads)] = stage
                say(f"{stage}: started")
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                stage = running.pop(future)
                if error := future.exception():
                    reason = f": {error}" if failure else ""  # the first one is raised at the end
                    failure = failure or error
                    skipped = [s for s in waiting if _needs(s, stage)]
                    waiting = [s for s in waiting if s not in skipped]
                    without = f"; not trained without it: {', '.join(skipped)}" if skipped else ""
                    say(f"{stage}: failed{reason}{without}")
                    continue
                path, summary = future.result()
                written.append(path)
                say(f"{stage}: {summary} -> {path}")
                if picture := draw_curves(job.work()):
                    say(f"{stage}: curves -> {picture}")
    if failure:
        raise failure
    return written


def _needs(stage: str, other: str) -> bool:
    """Whether a stage reads the weights of another one, directly or through a third."""
    return other in NEEDS[stage] or any(_needs(needed, other) for needed in NEEDS[stage])
