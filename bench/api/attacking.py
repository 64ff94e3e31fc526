"""Attack the certificates of a run, for the public API and the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from bench.api.runs import Run

if TYPE_CHECKING:
    from bench.store.attacks import Attacks

IMAGES, RESTARTS, ROUNDS, DRAWS, LEVEL = 100, 2, 6, 500, 0.001


def attack(
    run: Run,
    *,
    images: int = IMAGES,
    method: str = "pgd",
    restarts: int = RESTARTS,
    rounds: int = ROUNDS,
    draws: int = DRAWS,
    level: float = LEVEL,
    only: Sequence[str] | None = None,
    sigmas: Sequence[float] | None = None,
    device: str | None = None,
    workers: int | None = None,
    data: str | None = None,
    purifiers: str | None = None,
    classifier: str | None = None,
    notify: Callable[[str], object] = lambda message: None,
    progress: Callable[[Attacks], object] = lambda attacks: None,
) -> Attacks:
    """Try to break the certificates of a run, and find the smallest perturbation that changes each prediction.

    The result is stored in the run's folder (`attack.json`) after every cell, where `report` and `plot` find it. Cells
    that were attacked in the same way before are kept. See docs/trust.md, "Attack".

    Parameters:
        images: number of images, balanced over the classes.
        method: an attack with its parameters, such as `pgd:steps=40:draws=16`; a name, or the path of a Python file.
        restarts: attempts within the certified radius.
        rounds: steps of the search for the smallest radius at which the attack succeeds.
        draws: fresh draws of a verdict.
        level: probability that any certificate of a cell is called broken although it holds.
        only: names of purifiers (all): as tables show them, with all parameters, or of a plugin.
        sigmas: noise levels (all).
        device, workers, data: instead of the run's.
        purifiers, classifier: comma-separated Python files of the run's plugins: results run no code by themselves.
        notify: called with messages.
        progress: called with the results so far after every cell.

    Raises:
        PurifyBenchError: the run is in memory only, its networks or data are missing or have changed, or a name is
            unknown. A cell that cannot be attacked does not raise: see `Attacks.missing`.

    Examples:
        >>> pb.attack(pb.load("results/runs/mine"), only=["onestep-edm"]).table
    """
    from bench.attack import ATTACK, Search, attack_run, choose
    from bench.engine.devices import choose_devices
    from bench.errors import InputError
    from bench.plugins.registry import create
    from bench.store.attacks import read_attacks, write_attacks
    from bench.summary.names import display_names
    from bench.sweep import Plugin, planned, preset_of

    if run.folder is None:
        raise InputError("a run in memory holds no networks to attack; certify with out=FOLDER or `bench run`")
    if min(images, restarts, draws) < 1 or rounds < 0 or not 0 < level < 1:
        raise InputError("images, restarts and draws must be at least 1, rounds at least 0, level between 0 and 1")
    plugin = Plugin.model_validate(method)
    search = Search(create(ATTACK, plugin.name, plugin.parameters), restarts, rounds, draws, level)
    before = read_attacks(run.folder)
    preset = preset_of(
        run.stored, {"purifiers": purifiers, "classifier": classifier}, device=device, workers=workers, data=data
    )
    devices = choose_devices(preset.device, preset.workers)
    plan, pairs = planned(run.stored, preset, devices[0].split(":")[0])
    displayed = display_names((pair.stored for pair in pairs), run.stored.manifest.get("families", {}))
    pairs = choose(pairs, only, sigmas, displayed)
    found = None
    certificates = run.summary.certificates
    for found in attack_run(run.stored, certificates, plan, pairs, search, images, devices, before, notify):
        write_attacks(run.folder, found)
        progress(found)
    assert found is not None, "attack_run yields at its end"
    return found
