"""Search for the fastest way to compute of each network, within a time budget.

A way qualifies only if the network's output stays within a tolerance of that in float32. Compilation qualifies only if
it saves more of the sweep's time than it takes.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

from bench.engine.checks import out_of_memory
from bench.engine.compute import CLASSIFIER, ComputeConfig
from bench.engine.devices import choose_precision
from bench.engine.loader import LoadError
from bench.engine.tuning import cache as tuning_cache
from bench.engine.tuning.trials import Trials, knee_of
from bench.engine.versions import DEFAULT_ROWS

AUTO = "auto"
_TOLERANCE = 0.01  # root mean square of a purified image, in [0,1]: 2.5 levels of an 8-bit image
_LOGIT_TOLERANCE = 0.05  # of a classifier's logits, as a share of their standard deviation
_MARGIN = 1.1  # a way must be so many times faster to replace the default of the device type
_TRIAL_S = {
    "cpu": 0.3,
    "cuda": 0.1,
}  # a timed call of an eager network has as many rows as take about so long, at most the batch
_FEW = 4  # rows of the shortest timed call
_BUDGET_S = {"cpu": 30.0, "cuda": 60.0}  # of all measurements; the best way so far is taken when they are over
_COMPILE_S = {"cpu": 20.0, "cuda": 40.0}  # that one compilation is expected to take
_HOPE = 0.5  # share of the eager time that a compiled network may save; less than this was measured on most
_SHORT_CALL = 0.02  # seconds of a call below which a GPU may wait for the host, so that CUDA graphs are tried
_Notify = Callable[[str], object]


class Search:
    """One search. Ways of a network are measured on the first role of its architecture.

    Attributes:
        made: what the cache keeps: `rates` of batches by size, and `ways`: network -> list of measured ways, each with
            `precision`, `channels_last`, `compile`, `rows`, its `gain` over the default way `beside` it in the same
            turns, `row_s` of the default way, `compile_s`, and `distances` from float32 by role.
        skipped: compilations that were not tried, and why.
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        draws: Mapping[str, float],
        trials: Trials,
        notify: _Notify,
        keep: Callable[[dict[str, Any]], object],
        known: Mapping[str, Any],
    ):
        self.trials, self.options, self.notify, self.keep = trials, options, notify, keep
        self.device = trials.loader.device.type
        self.made: dict[str, Any] = {"measured": tuning_cache.now(), "rates": [], "ways": {}, **known}
        self.deadline = time.monotonic() + _BUDGET_S[self.device]
        self.skipped: list[str] = []
        self.groups = [*self.trials.alike(), [CLASSIFIER]]
        self.draws = {group[0]: sum(draws.get(role, math.inf) for role in group) for group in self.groups}

    def choose(self) -> dict[str, Any]:
        """See `tune`."""
        batch, rows = self._sizes()
        names = [name for name in self.draws if self._is_open(name)]
        for name in names:
            self._measure_eager(name, rows)
        for name in sorted(names, key=self._eager_s, reverse=True):
            for config in self._compiled_configs(name, rows):
                self._measure_compiled(name, config)
        chosen = {role: self._best(group[0], role, rows) for group in self.groups for role in group}
        config = self._joined(chosen, rows)
        record = {"tolerance": _TOLERANCE, "logit_tolerance": _LOGIT_TOLERANCE, **self.made}
        skipped = {"skipped": self.skipped} if self.skipped else {}
        return {"chosen": config.as_json(), "batch": batch, **record, **skipped}

    def _keep(self, name: str, way: Mapping[str, Any]) -> None:
        self.made["ways"].setdefault(name, []).append(dict(way))
        self.keep(self.made)

    def _is_open(self, name: str) -> bool:
        """Whether the options leave something of a network open."""
        own = self._own(name)
        return AUTO in (own["precision"], own["channels_last"], own["compile"])

    def _sizes(self) -> tuple[int, int]:
        """The batch, and the rows of compiled networks: as the options say, or at the knee of the rate."""
        batch, rows = self.options["batch"], self.options["rows"]
        if AUTO in (batch, rows):
            if not self.made["rates"]:
                self.notify("tuning: rates of batches of several sizes")
                _, self.made["rates"] = self.trials.knee({name: self._eager_configs(name)[0] for name in self.draws})
                self.keep(self.made)
            knee = knee_of(self.made["rates"])
            batch, rows = (knee if asked == AUTO else asked for asked in (batch, rows))
        return batch, rows

    def _own(self, name: str) -> dict[str, Any]:
        """The options of one network; `precision` is that of the classifier for the classifier."""
        own = {**self.options, **self.options.get("compute", {}).get(name, {})}
        return own | {"precision": own["classifier"] or "fp32"} if name == CLASSIFIER else own

    def _config(self, name: str, precision: str, channels_last: bool, mode: str, rows: int) -> ComputeConfig:
        if name != CLASSIFIER:
            return ComputeConfig(precision, channels_last, mode, rows)
        return ComputeConfig("fp32", channels_last, mode, rows, precision if self.options["classifier"] else None)

    def _eager_configs(self, name: str) -> list[ComputeConfig]:
        """The eager ways that the options allow, the default first; only precisions that the device is fast in."""
        own, fast = self._own(name), choose_precision(AUTO, self.device)
        precisions, layouts = [own["precision"]], [own["channels_last"]]
        if own["precision"] == AUTO:
            # A GPU is not faster in fp32 than in its fast type, so only the more exact tf32 is tried beside it.
            beside = "bf16" if name == CLASSIFIER else "tf32" if self.device == "cuda" else "fp32"
            precisions = list(dict.fromkeys(["fp32" if name == CLASSIFIER else fast, beside]))
        if own["channels_last"] == AUTO:
            layouts = [False, True]
        rows = DEFAULT_ROWS[self.device]
        return [self._config(name, precision, layout, "no", rows) for precision in precisions for layout in layouts]

    def _measure_eager(self, name: str, rows: int) -> None:
        configs = self._eager_configs(name)
        missing = [config for config in configs if self._way(name, config) is None]
        if not missing:
            return
        self.notify(f"tuning: {_subject(name)} in {', '.join(map(_text, configs))}")
        (few,) = self.trials.seconds(name, configs[:1], _FEW)
        timed = max(_FEW, min(rows, int(_FEW * _TRIAL_S[self.device] / few)))
        default, *others = self.trials.seconds(name, [configs[0], *missing], timed)
        for config, seconds in zip(missing, others, strict=True):
            gain = 1.0 if config == configs[0] else default / seconds
            self._keep(name, {**self._facts(name, config), "gain": gain, "row_s": default / timed, "distances": {}})

    def _facts(self, name: str, config: ComputeConfig) -> dict[str, Any]:
        """A way as it is kept, with the default way of the options, to which its gain refers."""
        precision = config.classifier or "fp32" if name == CLASSIFIER else config.precision
        layout = {"channels_last": config.channels_last, "compile": config.compile, "rows": config.rows}
        return {"precision": precision, **layout, "beside": _text(self._eager_configs(name)[0])}

    def _way(self, name: str, config: ComputeConfig) -> dict[str, Any] | None:
        """The measurement of a way; the rows of an eager one do not matter."""
        facts = self._facts(name, config)
        ignored = () if config.compile != "no" else ("rows",)
        known = self.made["ways"].get(name, [])
        return next((w for w in known if all(w[k] == v for k, v in facts.items() if k not in ignored)), None)

    def _fastest_eager(self, name: str) -> tuple[ComputeConfig, dict[str, Any]]:
        """The fastest eager way, faithful or not."""
        ways = [(config, way) for config in self._eager_configs(name) if (way := self._way(name, config))]
        return max(ways, key=lambda pair: pair[1]["gain"])

    def _eager_s(self, name: str) -> float:
        """Seconds of the sweep in this network, eager, on one worker."""
        _, way = self._fastest_eager(name)
        return self.draws[name] * way["row_s"] / way["gain"]

    def _compiled_configs(self, name: str, rows: int) -> list[ComputeConfig]:
        """The compiled ways that the options allow, the likeliest first."""
        own, (fastest, way) = self._own(name), self._fastest_eager(name)
        if own["compile"] == "no":
            return []
        modes, layout = [own["compile"]], fastest.channels_last
        if own["compile"] == AUTO:
            short = self.device == "cuda" and way["row_s"] / way["gain"] * rows < _SHORT_CALL
            modes = ["default", *(["reduce-overhead"] if short else [])]
        if own["channels_last"] == AUTO and self.device == "cpu":
            layout = True  # compiled loops of a CPU need channels innermost, whichever layout suits its eager kernels
        precision = fastest.classifier or "fp32" if name == CLASSIFIER else fastest.precision
        likely = choose_precision(AUTO, self.device) if own["precision"] == AUTO else own["precision"]
        both = dict.fromkeys([likely, precision])  # eager speed does not predict that of a compiled network
        return [self._config(name, p, layout, mode, rows) for mode in modes for p in both]

    def _measure_compiled(self, name: str, config: ComputeConfig) -> None:
        """Compile a network and time it beside its fastest eager way, if that can be earned back in time."""
        forced = self._own(name)["compile"] != AUTO
        if self._way(name, config) is not None:
            return
        eager_s, expected = self._eager_s(name), _COMPILE_S[self.device]
        if not forced and _HOPE * eager_s < expected:
            self.skipped.append(f"{_subject(name)}, compiled: this sweep needs {eager_s:.0f} s of it on each worker")
            return
        if not forced and self.deadline - time.monotonic() < expected:
            self.skipped.append(f"{_subject(name)} in {_text(config)}: the time for tuning was over")
            return
        self.notify(f"tuning: compiling {_subject(name)} in {_text(config)}")
        facts = self._facts(name, config)
        try:
            first = self.trials.first_call(name, config)
            fastest, way = self._fastest_eager(name)
            before, after = self.trials.seconds(name, [fastest, config], config.rows)
        except Exception as error:  # torch cannot compile it here, or it does not fit, and `auto` does not need it
            if forced or not (isinstance(error, LoadError) or out_of_memory(error)):
                raise
            self.skipped.append(f"{_subject(name)} in {_text(config)}: {str(error).partition(chr(10))[0]}")
            return
        gain = way["gain"] * before / after
        self._keep(name, {**facts, "gain": gain, "row_s": way["row_s"], "compile_s": first, "distances": {}})

    def _is_faithful(self, role: str, config: ComputeConfig, way: dict[str, Any]) -> bool:
        """Whether the network of a role stays within the tolerance; measured on first use."""
        exact = config.classifier in (None, "fp32") and config.precision == "fp32"
        if config.compile == "no" and (exact or self._own(role)["precision"] != AUTO):
            return True
        if role not in way["distances"]:
            way["distances"][role] = self.trials.distance(role, config)
            self.keep(self.made)
        return way["distances"][role] <= (_LOGIT_TOLERANCE if role == CLASSIFIER else _TOLERANCE)

    def _best(self, name: str, role: str, rows: int) -> ComputeConfig:
        """The way of a role: the default unless another faithful one is clearly faster, despite timing noise."""
        own = self._own(role)
        if not self._is_open(name):
            return self._config(name, own["precision"], own["channels_last"], own["compile"], rows)
        eager, compiled = self._eager_configs(name), self._compiled_configs(name, rows)
        forced = own["compile"] not in ("no", AUTO)
        first, *others = self._faithful(role, name, eager) or [(1.0, self._config(name, "fp32", False, "no", rows))]
        gain, best = max([(first[0] * _MARGIN, first[1]), *others], key=itemgetter(0))
        gain = first[0] if best == first[1] else gain
        if forced:
            return max(self._faithful(role, name, compiled), key=itemgetter(0), default=(0.0, compiled[0]))[1]
        worth = self._faithful(role, name, [c for c in compiled if self._pays(name, c, gain)])
        return max([(gain * _MARGIN, best), *worth], key=itemgetter(0))[1]

    def _faithful(self, role: str, name: str, configs: Sequence[ComputeConfig]) -> list[tuple[float, ComputeConfig]]:
        """The measured ways in which the network of a role is faithful, with their gains."""
        ways = [(config, way) for config in configs if (way := self._way(name, config))]
        return [(way["gain"], config) for config, way in ways if self._is_faithful(role, config, way)]

    def _pays(self, name: str, config: ComputeConfig, gain: float) -> bool:
        """Whether compilation saves more of this sweep's time than it takes, against a way with this gain."""
        way = self._way(name, config)
        return way is not None and self.draws[name] * way["row_s"] * (1 / gain - 1 / way["gain"]) > way["compile_s"]

    def _joined(self, chosen: Mapping[str, ComputeConfig], rows: int) -> ComputeConfig:
        """One configuration of all networks; those that are not like most of the purifiers' add options."""
        classifier = chosen[CLASSIFIER]
        networks = [config for name, config in chosen.items() if name != CLASSIFIER]
        plain = self._eager_configs(CLASSIFIER)[0]
        most = Counter((c.precision, c.channels_last, c.compile) for c in networks).most_common(1)
        common = (
            most[0][0]
            if most
            else (choose_precision(self.options["precision"], self.device), plain.channels_last, plain.compile)
        )
        if self.options["rows"] == AUTO and self.device == "cpu" and all(c.compile == "no" for c in chosen.values()):
            rows = DEFAULT_ROWS[self.device]
        joined = ComputeConfig(*common, rows, classifier.classifier)
        differing = {}
        for name, config in chosen.items():
            way = {"channels_last": config.channels_last, "compile": config.compile}
            way |= {} if name == CLASSIFIER else {"precision": config.precision}
            differing[name] = {k: v for k, v in way.items() if v != getattr(joined, k)}
        return replace(joined, differing={name: own for name, own in differing.items() if own})


def _text(config: ComputeConfig) -> str:
    """A way in words, such as `bf16 channels_last compiled`."""
    layout = " channels_last" if config.channels_last else ""
    mode = {"no": "", "default": " compiled"}.get(config.compile, f" {config.compile}")
    return (config.classifier or config.precision) + layout + mode


def _subject(name: str) -> str:
    return "the classifier" if name == CLASSIFIER else f"network {name!r}"
