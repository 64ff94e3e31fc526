"""Find the plugins and the networks that a preset names. Loads no network and imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench import data
from bench.errors import PurifyBenchError
from bench.files import without_advice
from bench.names import nearest
from bench.plugins import registry as plugins
from bench.records import label_of, parameters_text
from bench.sweep.preset import Plugin, Preset
from classifiers.base import ClassifierError
from purifiers.nets.hub.cards import WeightsError
from purifiers.nets.hub.download import obtain
from purifiers.nets.hub.sources import find


class PlanError(PurifyBenchError):
    """A plugin, network or data set of a preset is missing; the message names it and the remedy."""


class Resolved(NamedTuple):
    """The plugins and networks of a preset.

    Attributes:
        purifiers: in their order.
        classifier: of the preset.
        voters: the classifier behind each purifier, by sigma.
        networks: role -> network as the engine loads it.
    """

    purifiers: list[Any]
    classifier: Any
    voters: list[dict[float, Any]]
    networks: dict[str, str]

    @property
    def by_text(self) -> dict[str, Any]:
        """All classifiers by name and parameters, that of the preset first."""
        own = (voter for voters in self.voters for voter in voters.values())
        return {text_of(voter): voter for voter in (self.classifier, *own)}


def resolve(preset: Preset) -> Resolved:
    """The plugins and the networks of a preset, without downloads; imports no torch.

    Raises:
        PlanError, PluginError: as `make_plan`.
    """
    purifiers = [plugins.create(plugins.PURIFIER, p.name, p.parameters) for p in preset.purifiers]
    by_name: dict[str, type] = {}
    for purifier in purifiers:
        plugins.refuse_namesake(by_name, plugins.PURIFIER, type(purifier))
    classifier = plugins.create(plugins.CLASSIFIER, preset.classifier.name, preset.classifier.parameters)
    voters = [_voters(purifier.classifier, preset.sigmas, classifier) for purifier in preset.purifiers]
    resolved = Resolved(purifiers, classifier, voters, {})
    by_name = {}
    for voter in resolved.by_text.values():
        plugins.refuse_namesake(by_name, plugins.CLASSIFIER, type(voter))
    if preset.dataset not in data.DATASETS:
        raise PlanError(nearest("dataset", preset.dataset, data.DATASETS))
    for text, voter in resolved.by_text.items():
        try:
            classifier_weights(voter, download=False)
        except PlanError as error:
            raise PlanError(f"{error}{_of_its_sigma(preset, resolved, text)}") from error
    return resolved._replace(networks=networks_of(preset, purifiers))


def _of_its_sigma(preset: Preset, resolved: Resolved, text: str) -> str:
    """The end of a message about a classifier: its sigma, if a row names one for each; else nothing."""
    for entry, of in zip(preset.purifiers, resolved.voters, strict=True):
        for sigma, voter in of.items():
            if entry.classifier and entry.classifier.by_sigma and text_of(voter) == text:
                of_sigma = f". A row of {entry.name} has a classifier for each sigma, here {sigma:g}"
                return f"{of_sigma}: leave out one or the other"
    return ""


def _voters(own: Plugin | None, sigmas: Sequence[float], shared: Any) -> dict[float, Any]:
    """The classifier behind a purifier by sigma: its own, or the `shared` one; equal ones are one object."""
    if own is None:
        return dict.fromkeys(sigmas, shared)
    if not own.by_sigma:
        return dict.fromkeys(sigmas, plugins.create(plugins.CLASSIFIER, own.name, own.parameters))
    return {sigma: plugins.create(plugins.CLASSIFIER, own.name, own.at(sigma).parameters) for sigma in sigmas}


def text_of(voter: Any) -> str:
    """A classifier with its parameters, as `Cell.classifier_text`."""
    return label_of(voter.name, parameters_text(plugins.parameters(voter)))


def preprocessing_of(resolved: Resolved) -> dict[str, Any]:
    """See `Plan.preprocessing`."""
    _, *others = resolved.by_text.items()
    own = {text: voter.preprocessing() for text, voter in others}
    return {**resolved.classifier.preprocessing(), **({"own": own} if own else {})}


def classifier_weights(classifier: Any, download: bool = True) -> str:
    """Check the files of a classifier; returns their fingerprint, or nothing if `download` is False and some may lack.

    Raises:
        PlanError: a file is damaged, or is missing and cannot be downloaded.
    """
    try:
        for file in classifier.files(download):
            if not file.is_file():
                raise ClassifierError(f"{file} is missing{_from_here(str(file))}; make it with `bench train`")
        classifier.preprocessing()
        return classifier.identity() if download else ""
    except ClassifierError as error:
        if download or not error.obtainable:
            raise PlanError(f"classifier {classifier.name!r}: {without_advice(str(error))}") from error
        return ""
    except RecursionError:  # in files of other projects' models, which those classifiers read by themselves
        raise PlanError(f"classifier {classifier.name!r}: one of its files is nested too deeply; restore it") from None


def networks_of(preset: Preset, purifiers: Sequence[Any], download: bool = False) -> dict[str, str]:
    """Role -> network as the engine loads it, for every role of the purifiers.

    A published network that is missing is downloaded, or stays a name if `download` is False.

    Raises:
        PlanError: a role has no network, or a network is damaged or cannot be downloaded.
    """
    weights = {}
    for role, purifier in {role: purifier for purifier in purifiers for role in purifier.networks}.items():
        if role not in preset.networks:
            raise PlanError(
                f"purifier {purifier.name!r} asks for the network {role!r}, which the preset does not name; add "
                f"it under [networks]. {nearest('role', role, preset.networks) if preset.networks else ''}"
            )
        network = preset.networks[role]
        try:
            source = obtain(network) if download else find(network)
            if source.is_card:
                source.identity()  # refuses a damaged file
        except WeightsError as error:
            raise PlanError(f"network {role!r}: {error}{_from_here(network)}") from error
        weights[role] = str(source) if source.present else network
    return weights


def _from_here(path: str) -> str:
    """For a relative path to a file that is not there, the folder from which it starts, in brackets."""
    named = Path(path)
    if not named.suffix or named.is_absolute() or named.exists():
        return ""
    return f" ({path} is searched from the current folder, {Path.cwd()})"
