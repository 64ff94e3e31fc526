"""Train one stage of a zoo in this process: data and recipe in, weights and card out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench import data
from bench.errors import PurifyBenchError, TimeOver
from bench.training.checkpoint import Checkpoint
from bench.training.curves import write_curve
from bench.training.derived import derive
from bench.training.images import TrainingImages, read_images
from bench.training.initial import initial_weights
from bench.training.interrupts import end_of_steps
from bench.training.jobs import CLASSIFIERS, Job, for_job, read_recipe
from classifiers.nets import files as classifier_files
from classifiers.nets.cnn import CNN
from classifiers.training import fit as classifier_training
from classifiers.training.noise import noised_at, noisy_accuracy
from purifiers.nets.denoisers import LevelledDenoiser
from purifiers.nets.hub import files as network_files
from purifiers.nets.hub.cards import Card, read_card
from purifiers.training import imagenet
from purifiers.training.losses import Distance, l2, purified_at
from purifiers.training.perceptual import choose_distance
from purifiers.training.stages import STAGES, train_stage
from purifiers.training.validation import denoising_mse, ode_ratio, purified_accuracy, self_consistency

_CURVE_IMAGES = 500  # validation images for each point of a curve
_FIGURE = "accuracy_of_one_draw"
_RATIO = "ode_ratio"  # its mean over noise levels decides between the methods of a stage
_RATIOS = {  # of a consistency model: figure -> function, meaning
    _RATIO: (ode_ratio, "its distance to the end of the denoiser's ODE"),
    "self_consistency": (self_consistency, "the distance between its results at t and t/2 of one path"),
}
_LARGEST_RATIO = 0.4  # of a consistency model at any level; the denoiser itself has 1
_RATIO_IMAGES = 250  # validation images of the ratio, each of which takes some 300 evaluations
_WORSE = (
    "its single draws are classified correctly less often than those of {start}; shipped because the comparison "
    "needs it"
)
_LEAST_ROWS = 1000  # of a validation figure; a smaller validation set gets several noise draws per image


class Refused(PurifyBenchError):
    """A training whose network is not what its stage promises; the network is kept aside."""


def _recipe_of(job: Job, stage: str, images: TrainingImages) -> dict[str, Any]:
    """The recipe of the package of a stage: that of the data set, or one that is derived from own images."""
    package = "classifiers" if stage in CLASSIFIERS else "purifiers"
    return derive(package, images.facts) if job.dataset in data.OWN else read_recipe(package, job.dataset)


def train_one(job: Job, stage: str, threads: int = 1) -> tuple[Path, str]:
    """Train one stage; returns the weight file and a summary line.

    Raises:
        TimeOver: the job's `stop` paused the training; its checkpoint is saved.
        Refused: a consistency model is none; it is kept aside.
    """
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    images = read_images(job)
    device = torch.cuda.get_device_name() if job.device.startswith("cuda") else f"CPU, {threads} thread"
    origin = {"dataset": images.dataset, "device": device, **images.identity}
    return (_train_classifier if stage in CLASSIFIERS else _train_network)(job, stage, images, origin)


def _checkpoint_of(job: Job, name: str, recipe: Mapping[str, Any], batch: int) -> Checkpoint:
    """The checkpoint of one training, which also writes its curves at every save."""
    path = job.work() / f"{name}.pt"
    if job.fresh:
        path.unlink(missing_ok=True)
    curve = path.with_suffix(".csv")
    return Checkpoint(path, recipe, job.minutes, lambda state: write_curve(curve, state, batch), stop=job.stop)


def _refuse_paused(job: Job, name: str) -> None:
    """Raise TimeOver if the training that has just returned may have been paused before its end."""
    if job.stop and job.stop():
        raise TimeOver(f"{name} is paused, and continues from its checkpoint")
    end_of_steps()


def _printed(name: str) -> Callable[[str], None]:
    return lambda progress: print(f"{name}: {progress}", flush=True)


def _train_classifier(job: Job, name: str, images: TrainingImages, origin: Mapping[str, str]) -> tuple[Path, str]:
    recipe = _recipe_of(job, name, images)[name]
    recipe["epochs"] = max(1, round(recipe["epochs"] * job.scale))
    recipe["seed"] = recipe["seed"] if job.seed is None else job.seed + CLASSIFIERS.index(name)
    if job.unpurified:
        recipe["levels"] = []
    if job.sigmas and "sigmas" in recipe:
        recipe["sigmas"] = list(job.sigmas)
    elif job.sigmas:
        recipe["levels"] = [2 * sigma for sigma in job.sigmas]  # of the networks, for images in [-1,1]

    before, denoiser, transform, identity = None, None, None, {**recipe, **images.identity}
    if start := recipe.get("start"):
        before = classifier_files.read_cnn(job.source(start))
        recipe["architecture"] = before[1]["architecture"]
        identity["starts_from"] = before[1]["sha256"]
    if "levels" in recipe:  # on images that the denoiser has purified
        denoiser = network_files.load(job.source("edm"), job.device)
        identity["purified by"] = read_card(job.source("edm")).sha256
        transform = purified_at(denoiser, recipe["levels"]) if recipe["levels"] else None
    elif "sigmas" in recipe:  # on noisy images
        transform = noised_at(recipe["sigmas"])
    if job.onward:
        before = classifier_files.read_cnn(initial_weights(job, job.path(name), job.name(name)))
        identity["continues"] = before[1]["sha256"]

    def validate(model: CNN) -> dict[str, float]:
        few, labels = images.val[:1000], images.val_labels[:1000]
        accuracies = noisy_accuracy(model, few, labels, recipe.get("sigmas", ()))
        errors = {f"val error, sigma = {sigma}": 1 - share for sigma, share in accuracies.items()}
        return errors or {"val error": 1 - classifier_training.accuracy(model, few, labels)}

    model, architecture, record = classifier_training.train_classifier(
        recipe,
        images.train,
        images.train_labels,
        images.classes,
        job.autocast,
        _printed(name),
        validate,
        _checkpoint_of(job, job.name(name), identity, recipe["batch"]),
        before,
        transform,
    )
    _refuse_paused(job, name)
    record["validation"] = {"accuracy": classifier_training.accuracy(model, images.val, images.val_labels)}
    record |= {"starts_from": start} if start else {}
    if denoiser:
        record["validation"]["purified"] = purified_accuracy(denoiser, model, images.val, images.val_labels)
    if "sigmas" in recipe:
        draws = math.ceil(5 * _LEAST_ROWS / len(images.val))
        record["validation"]["noisy"] = noisy_accuracy(model, images.val, images.val_labels, recipe["sigmas"], draws)
    path = classifier_files.save_cnn(job.path(name), model, architecture, {**record, **origin})
    return path, f"{record['seconds']:.0f} s, validation accuracy {record['validation']['accuracy']:.3f}"


def _train_network(job: Job, stage: str, images: TrainingImages, origin: Mapping[str, str]) -> tuple[Path, str]:
    """Train a denoiser or a consistency model; of several methods, keep the best consistency model.

    Raises:
        Refused: what was trained is not a consistency model; it is kept aside.
    """
    recipe = for_job(_recipe_of(job, stage, images), job, stage)
    trained = {
        method: _one_method(job, stage, recipe, images, method) for method in recipe[stage].get("methods", (None,))
    }
    best = min(trained, key=lambda method: sum(trained[method][1].training["validation"].get(_RATIO, {}).values()))
    denoiser, card = trained[best]
    record = {**card.training, **origin, "method": best}
    if len(trained) > 1:
        record["not_kept"] = {str(m): c.training["validation"] for m, (_, c) in trained.items() if m != best}
    if start := STAGES[stage].start:
        before = read_card(job.source(start)).training.get("validation", {})
        record["against_start"] = _gains(record["validation"], before)
        if sum(record["against_start"].get(_FIGURE, {}).values()) < 0:
            record["why_shipped"] = _WORSE.format(start=start)
    if refusal := _refusal_of(record["validation"]):
        record["not_a_consistency_model"] = refusal
    kept = not refusal or job.unchecked
    path = job.path(stage) if kept else job.work() / f"{stage}-refused.safetensors"
    path = network_files.save(path, denoiser.network, replace(card, training=record))
    if not kept:
        raise Refused(
            f"{stage} was trained, but is not a consistency model: {refusal}. It is kept in {path}. Train it longer "
            "(--scale, --minutes), with --fresh to begin again, or keep it as it is with --unchecked"
        )
    return path, f"{record['seconds']:.0f} s, validation {record['validation']}"


def _refusal_of(validation: Mapping[str, Mapping[str, float]]) -> str:
    """Why a network is not a consistency model; empty if it is one, or was not trained to be one."""
    for name, (_, meaning) in _RATIOS.items():
        far = {t: ratio for t, ratio in validation.get(name, {}).items() if not ratio <= _LARGEST_RATIO}
        if far:
            found = ", ".join(f"{ratio:.2f} at t = {t}" for t, ratio in far.items())
            return f"{meaning} is {found}, and may be at most {_LARGEST_RATIO:g} of the denoiser's own"
    return ""


def _one_method(
    job: Job, stage: str, recipe: dict, images: TrainingImages, method: str | None
) -> tuple[LevelledDenoiser, Card]:
    """Train a stage by one method; returns the network and its card, which has the validation figures."""
    name = f"{stage}-{method}" if method else stage
    settings = recipe[stage]
    start_name = STAGES[stage].start
    start = network_files.load(job.source(start_name), job.device) if start_name else None
    classifier = classifier_files.load_cnn(job.source("classifier"), job.device)

    def validate(denoiser: LevelledDenoiser) -> dict[str, float]:
        errors = denoising_mse(denoiser, images.val[:_CURVE_IMAGES])
        return {f"val MSE, t = {level}": value for level, value in errors.items()}

    # With a plateau the schedule does not depend on the number of steps: a longer training continues a shorter one.
    resumable = {key: value for key, value in settings.items() if key != "steps" or not settings.get("plateau")}
    identity = {"stage": name, "seed": recipe["seed"], "dataset": job.dataset, "autocast": job.autocast, **resumable}
    identity |= {"architecture": recipe["architecture"], "t_max": recipe["t_max"], **images.identity}
    before = None
    if job.onward:
        initial = initial_weights(job, job.path(stage), name)
        before = network_files.load(initial, job.device), read_card(initial)
        identity["continues"] = before[1].sha256
    if start_name:
        identity["starts_from"] = read_card(job.source(start_name)).sha256
    denoiser, card = train_stage(
        stage,
        recipe,
        images.train,
        start,
        _distance_of(job, settings) if "distance" in settings else ("L2", l2),
        method,
        classifier_files.load_cnn(job.source("features"), job.device) if stage == "edm-cal" else None,
        job.autocast,
        job.compiled,
        _printed(name),
        validate,
        _checkpoint_of(job, name, identity, settings["batch"]),
        before,
    )
    _refuse_paused(job, name)
    draws = math.ceil(_LEAST_ROWS / len(images.val))
    with torch.autocast(images.val.device.type, torch.bfloat16, enabled=job.autocast):
        validation = {
            "denoising_mse": denoising_mse(denoiser, images.val, draws),
            _FIGURE: purified_accuracy(denoiser, classifier, images.val, images.val_labels, draws),
        }
    if stage == "cm":  # fine-tuning leaves the ODE by design; in float32, because its end takes many steps
        assert start is not None
        for name, (ratio, _) in _RATIOS.items():
            validation[name] = ratio(denoiser, start, images.val[:_RATIO_IMAGES])
    judge = {"distance_sha256": imagenet.SHA256} if settings.get("distance") == "imagenet" else {}
    return denoiser, replace(card, training={**card.training, **judge, "validation": validation})


def _distance_of(job: Job, settings: Mapping[str, Any]) -> tuple[str, Distance]:
    features = classifier_files.load_cnn(job.source("features"), job.device)
    description = f"{job.dataset}/features, a second classifier that is never evaluated"
    return choose_distance(settings["distance"], features.features, description, job.device)


def _gains(after: Mapping[str, Mapping[str, float]], before: Mapping[str, Mapping[str, float]]) -> dict:
    """Validation figures minus those of the initial network, by figure and noise level."""
    return {
        figure: {level: round(value - before[figure][level], 5) for level, value in levels.items()}
        for figure, levels in after.items()
        if figure in before
    }
