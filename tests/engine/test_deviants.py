"""Plugins that break the contract are caught by the layers that docs/trust.md names, and sound ones by none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import ROOT
from deviants import AUDIT, CHECK, CLASSIFIERS, ESCAPES, PURIFIERS, SUITE, table
from plugin_texts import CLASSIFIER, PURIFIER
from summaries import CELL

from bench.api.memory import _MemoryLoader
from bench.certify.fixed import FixedN
from bench.engine import Engine
from bench.executors import InProcess
from bench.plugins import registry as plugins
from bench.records import Cell
from bench.store import Store
from bench.sweep import Observer, sweep
from bench.sweep.trust import Trust
from bench.testing import GaussianDenoiser, examine_classifier, examine_purifier

IMAGES, BATCH, ROWS = 100, 100, 50
PAIRS = [(PURIFIER, deviant) for deviant in PURIFIERS] + [(CLASSIFIER, deviant) for deviant in CLASSIFIERS]
LABELS = [f"{layer}: {deviant.title}" for _, deviant in PAIRS for layer in deviant.caught]
CASES = [(template, deviant, layer) for template, deviant in PAIRS for layer in deviant.caught]
SOUND = "return x.clamp(0, 1)"
LINEAR = (
    "w = torch.randn(784, 10, generator=torch.Generator().manual_seed(0)); return lambda x: (x - 0.5).flatten(1) @ w"
)


class _Loader(_MemoryLoader):
    """Takes the classifier as its plugin loaded it, not in eval mode."""

    def _read_classifier(self, cell):
        return self._networks["classifier"]


def plugin(template, body, folder, fields=""):
    """A plugin with this body, of `PURIFIER` or `CLASSIFIER`."""
    path = folder / f"{abs(hash((template, body)))}.py"
    path.write_text(template.format(name="deviant", body=body, fields=fields))
    return plugins.from_path(plugins.PURIFIER if template is PURIFIER else plugins.CLASSIFIER, path)()


def engine_of(purifier, classifier):
    """An engine on random images, and a cell of both plugins."""
    pixels = np.random.default_rng(0).random((IMAGES, 1, 28, 28), dtype=np.float32)
    facts = {"purifier": purifier.name, "parameters": {}, "sigma": 0.5, "hashes": {}, "compute": {"rows": ROWS}}
    cell = Cell(**{**CELL, **facts})
    device = torch.device("cpu")
    networks = {"edm": GaussianDenoiser(), "classifier": classifier.load()}
    return Engine(dict(enumerate(pixels)), {}, device, loader=_Loader(device, (1, 28, 28), purifier, networks)), cell


def by_suite(kind, purifier, classifier, folder):
    found = examine_purifier(purifier) if kind is PURIFIER else examine_classifier(classifier, (1, 28, 28))
    return [finding.problem for finding in found]


def by_check(kind, purifier, classifier, folder):
    engine, cell = engine_of(purifier, classifier)
    result = engine.examine(cell, "purifier" if kind is PURIFIER else "classifier", 200)
    return [finding.problem for finding in result.findings]


def by_audit(kind, purifier, classifier, folder):
    engine, cell = engine_of(purifier, classifier)
    labels, rule, trust = dict.fromkeys(range(IMAGES), 0), FixedN(0.5, 5, 20, 0.001), Trust(share=0.01)
    with Store(folder / "run") as store:
        store.begin([cell], {})
        executor = InProcess(engine)
        outcome = sweep([cell], lambda _: rule, labels, store, executor, BATCH, Observer(), trust=trust)
        assert store.draws(cell.key) == IMAGES * 25
    (audit,) = trust.record["audits"].values()
    assert (audit["of"], audit["blocks"]) == (IMAGES * 25, 20)
    assert list(outcome.errors.values()) == ([audit["error"]] if "error" in audit else [])
    return list(outcome.errors.values())


LAYERS = {SUITE: by_suite, CHECK: by_check, AUDIT: by_audit}


@pytest.fixture(autouse=True)
def _own_generators():
    """Deviants seed and use the global generators and settings."""
    dtype = torch.get_default_dtype()
    with torch.random.fork_rng():
        yield
    torch.set_default_dtype(dtype)


@pytest.mark.parametrize(("template", "deviant", "layer"), CASES, ids=LABELS)
def test_a_deviant_is_caught_by_the_layers_that_the_table_names(template, deviant, layer, tmp_path):
    own = plugin(template, deviant.body, tmp_path, deviant.fields)
    other = plugin(CLASSIFIER, LINEAR, tmp_path) if template is PURIFIER else plugin(PURIFIER, SOUND, tmp_path)
    purifier, classifier = (own, other) if template is PURIFIER else (other, own)
    with torch.no_grad():
        assert LAYERS[layer](template, purifier, classifier, tmp_path)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("template", [PURIFIER, CLASSIFIER], ids=["purifier", "classifier"])
def test_no_layer_finds_anything_in_a_sound_plugin(template, layer, tmp_path):
    sound = plugin(PURIFIER, SOUND, tmp_path), plugin(CLASSIFIER, LINEAR, tmp_path)
    assert LAYERS[layer](template, *sound, tmp_path) == []


def test_the_page_on_trust_has_the_table_and_the_escapes():
    page = (ROOT / "docs" / "trust.md").read_text()
    assert table() in page
    assert all(f"**{title}**: {text}" in " ".join(page.split()) for title, text in ESCAPES)
    assert len({deviant.title for _, deviant in PAIRS}) == len(PAIRS) >= 20
    assert all(deviant.caught for _, deviant in PAIRS)
