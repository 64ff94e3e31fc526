"""Make the zoo of a data set: classifiers first, then each stage as soon as the one it starts from is there."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from bench import data
from bench.executors.local import cores
from bench.names import nearest
from classifiers.nets import files as classifier_files
from classifiers.training import fit as classifier_training
from purifiers.nets import cards
from purifiers.nets import files as network_files
from purifiers.training.losses import Distance, l2
from purifiers.training.perceptual import choose_distance
from purifiers.training.stages import STAGES, denoising_mse, read_recipe, train_stage

CLASSIFIERS = ("classifier", "features")
NEEDS = {
    **dict.fromkeys(CLASSIFIERS, ()),
    "ddpm": ("classifier",),
    "edm": ("classifier",),
    "cm": ("classifier", "features", "edm"),
    "cm-ft": ("classifier", "features", "cm"),
    "edm-ft": ("classifier", "features", "edm"),
}


@dataclass(frozen=True)
class Job:
    """What a training run is asked for.

    Attributes:
        out: folder of the weights (None: the bundled ones, `purifiers/weights` and `classifiers/weights`).
        data: folder of local data files, or None.
        loss: distance of fine-tuning, or None for the recipe's.
        scale: factor on every recipe's length, for short trials.
        seed: replaces the recipes' seeds where it is given.
    """

    dataset: str
    out: str | None = None
    data: str | None = None
    loss: str | None = None
    scale: float = 1.0
    seed: int | None = None
    device: str = "cpu"
    autocast: bool = False

    def network_path(self, stage: str) -> Path:
        root = Path(self.out) / "purifiers" if self.out else cards.BUNDLED
        return root / self.dataset / f"{stage}.safetensors"

    def classifier_path(self, name: str) -> Path:
        root = Path(self.out) / "classifiers" if self.out else classifier_files.BUNDLED
        return root / self.dataset / f"{name}.safetensors"


def train(job: Job, stages: list[str] | None = None, jobs: int | None = None, say=print) -> list[Path]:
    """Train the named stages (all by default) and save each network with its card; returns the files written.

    Stages run side by side in processes of one thread each: small networks gain little from a second thread, and
    lose much where another program holds a core.
    """
    wanted = list(NEEDS) if stages is None else stages
    for stage in wanted:
        if stage not in NEEDS:
            raise KeyError(nearest("stage", stage, NEEDS))
    workers = jobs or (cores() if job.device == "cpu" else 1)
    threads = max(1, (os.cpu_count() or 1) // workers) if job.device == "cpu" else 1
    waiting, running, written = list(wanted), dict[Future, str](), list[Path]()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        while waiting or running:
            ready = [s for s in waiting if not set(NEEDS[s]) & {*waiting, *running.values()}]
            for stage in ready[: workers - len(running)]:
                waiting.remove(stage)
                running[pool.submit(train_one, job, stage, threads)] = stage
                say(f"{stage}: started")
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                stage = running.pop(future)
                path, summary = future.result()
                written.append(path)
                say(f"{stage}: {summary} -> {path}")
    return written


def train_one(job: Job, stage: str, threads: int = 1) -> tuple[Path, str]:
    """Train one stage in this process; returns the weight file and a line that says how it went."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    train_set, val_set = (data.load(job.dataset, split, job.data) for split in ("train", "val"))
    images, val_images = (torch.from_numpy(s.images).to(job.device) for s in (train_set, val_set))
    labels, val_labels = (torch.from_numpy(s.labels).to(job.device) for s in (train_set, val_set))
    device_name = torch.cuda.get_device_name() if job.device.startswith("cuda") else f"CPU, {threads} thread"

    def report(step: int, loss: float) -> None:
        print(f"{stage}: step {step}, loss {loss:.5f}", flush=True)

    if stage in CLASSIFIERS:
        recipe = dict(classifier_training.read_recipe(job.dataset)[stage])
        recipe["epochs"] = max(1, round(recipe["epochs"] * job.scale))
        recipe["seed"] = recipe["seed"] if job.seed is None else job.seed + CLASSIFIERS.index(stage)
        classes = len(train_set.classes)
        model, architecture, record = classifier_training.train_classifier(recipe, images, labels, classes, report)
        record["validation"] = {"accuracy": classifier_training.accuracy(model, val_images, val_labels)}
        record.update(dataset=job.dataset, device=device_name)
        path = classifier_files.save_cnn(job.classifier_path(stage), model, architecture, record)
        return path, f"{record['seconds']:.0f} s, validation accuracy {record['validation']['accuracy']:.3f}"

    recipe = read_recipe(job.dataset)
    recipe["seed"] = recipe["seed"] if job.seed is None else job.seed
    settings = recipe[stage]
    settings["steps"] = max(1, round(settings["steps"] * job.scale))
    settings["warmup"] = min(settings["warmup"], settings["steps"] // 10)
    if job.loss and stage.endswith("-ft"):
        settings["distance"] = job.loss
    start_name = STAGES[stage].start
    start = network_files.load(job.network_path(start_name), job.device) if start_name else None
    distance: tuple[str, Distance] = ("L2", l2)
    if "distance" in settings:
        features = classifier_files.load_cnn(job.classifier_path("features"), job.device)
        which = f"{job.dataset}/features, a second classifier that is never evaluated"
        distance = choose_distance(settings["distance"], features.features, which, job.device)
    denoiser, card = train_stage(stage, recipe, images, start, distance, job.autocast, report)
    classifier = classifier_files.load_cnn(job.classifier_path("classifier"), job.device)
    validation = {
        "denoising_mse": denoising_mse(denoiser, val_images),
        "accuracy_of_one_draw": purified_accuracy(denoiser, classifier, val_images, val_labels),
    }
    training = {**card.training, "dataset": job.dataset, "device": device_name, "validation": validation}
    path = network_files.save(job.network_path(stage), denoiser.network, replace(card, training=training))
    return path, f"{training['seconds']:.0f} s, validation {validation}"


@torch.inference_mode()
def purified_accuracy(denoiser, classifier, images, labels, draws: int = 4) -> dict[str, float]:
    """Accuracy of the classifier behind one evaluation, by level `t = 2 sigma`, on noisy validation images."""
    generator = torch.Generator(images.device).manual_seed(1)
    shares = {}
    for t in (0.5, 1.0, 2.0):
        hits = []
        for _ in range(draws):
            u = 2 * images - 1 + t * torch.randn(images.shape, generator=generator, device=images.device)
            for part, y in zip(u.split(250), labels.split(250), strict=True):
                x = ((denoiser(part, t) + 1) / 2).clamp(0, 1)
                hits.append((classifier(x).argmax(1) == y).float())
        shares[f"{t:g}"] = round(float(torch.cat(hits).mean()), 4)
    return shares
