"""What several test files share: a zoo of tiny random networks, presets that use it, the command line, outside data."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from plugin_texts import CLASSIFIER, PURIFIER

settings.register_profile("no deadline", deadline=None)  # a busy machine makes no test fail
settings.load_profile("no deadline")

ROOT = Path(__file__).parent.parent
ROLES = {"ddpm": "vp", "edm": "edm", "edm-ft": "edm", "cm": "consistency", "cm-ft": "consistency"}
UNET = {"channels": 1, "image_size": 28, "widths": [8, 16], "layers": 1, "unshuffle": 2, "groups": 4}
CNN = {"channels": 1, "classes": 10, "widths": [8, 16], "depths": [1, 1]}
# Folders of `--quick`: about two minutes on two cores. `tests/perf` is only run by `nox -s perf`, with its own meaning.
QUICK = ("analysis", "certify", "plugins", "summary", "perf")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help=f"only {', '.join(QUICK)}, and a run from end to end")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With `--quick`, keep the tests of pure code, and one run of the command line with its pictures and tables."""
    if not config.getoption("--quick"):
        return
    kept = [
        i
        for i in items
        if i.path.parent.name in QUICK or i.originalname == "test_a_run_from_a_preset_is_the_one_of_the_command"
    ]
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


@pytest.fixture(autouse=True)
def float_arithmetic() -> Iterator[None]:
    """A run in this process flushes denormal numbers, for speed; the next test gets them back."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)


@pytest.fixture(scope="module", autouse=True)
def small_heap() -> None:
    """The collector no longer looks at what is loaded by now: with all libraries, each of its rounds takes a second."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def own_speed_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests measure of speed is not kept for the user, nor taken from there."""
    os.environ["PURIFYBENCH_SPEED"] = str(tmp_path_factory.mktemp("speed"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of data that lives beside the project; skips where it is absent."""
    folder = Path(os.environ.get("PURIFYBENCH_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent; set PURIFYBENCH_SHARED_DATA to the folder of the shared data")
    return folder


@pytest.fixture(scope="session")
def smooth_image() -> np.ndarray:
    """An 8-bit image [H,W,3] without edges, on which filters differ little from their rounded selves."""
    y, x = np.mgrid[0:32, 0:32] / 31
    return (255 * np.stack([x, y, (x + y) / 2], 2)).round().astype(np.uint8)


@pytest.fixture(scope="session")
def tiny_zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of random networks for mnist5k: `ROLE.safetensors` for every role and `classifier.safetensors`.

    They cost next to nothing and know nothing. The classifier's last layer is blind to the mean features of noisy
    and of purified images, so that its votes differ from image to image and from draw to draw.
    """
    import torch

    from bench.data import load as load_images
    from classifiers.nets.cnn import CNN as Classifier
    from classifiers.nets.files import save_cnn
    from purifiers.nets.architectures.unet import PixelUNet
    from purifiers.nets.hub.cards import Card
    from purifiers.nets.hub.files import load, save

    folder = tmp_path_factory.mktemp("zoo")
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for role, kind in ROLES.items():
            levels = {"timesteps": 1000, "t_max": 6.0} if kind == "vp" else {"t_min": 0.002, "t_max": 6.0}
            save(folder / f"{role}.safetensors", PixelUNet(**UNET), Card(kind, UNET, levels))
        digits = torch.from_numpy(load_images("mnist5k", "val").images)
        noisy = digits + 0.5 * torch.randn_like(digits)
        purified = (load(folder / "edm.safetensors")(2 * noisy - 1, 1.0).clamp(-1, 1) + 1) / 2
        classifier = Classifier(**CNN).eval()
        features, others = (classifier.features(x)[-1].mean((2, 3)) for x in (noisy, purified))
        between = torch.nn.functional.normalize(others.mean(0) - features.mean(0), dim=0)
        weight = classifier.linear.weight / (features.std(0) + 1e-3)
        classifier.linear.weight.copy_(weight - torch.outer(weight @ between, between))
        classifier.linear.bias.copy_(-classifier.linear.weight @ features.mean(0))
        save_cnn(folder / "classifier.safetensors", classifier, CNN, {})
    return folder


@pytest.fixture
def tiny_preset(tiny_zoo: Path, tmp_path: Path) -> Callable[..., Path]:
    """A factory of presets for mnist5k on the tiny zoo: `tiny_preset(n=40, sigmas=[0.25])` writes a file.

    Keywords replace fields or add them; a field that is given as None is left out.
    """

    def write(stem: str = "tiny", /, **fields: Any) -> Path:
        preset = {
            "title": "Tiny",
            "dataset": "mnist5k",
            "images": 3,
            "classifier": {"name": "cnn", "path": str(tiny_zoo / "classifier.safetensors")},
            "purifiers": ["none", "onestep-edm"],
            "sigmas": [0.5],
            "certifier": "cohen",
            "n0": 4,
            "n": 20,
            "block": 10,
            "rows": 8,  # networks see few rows here: padding to the default takes the time of 100
            "radii": [0.0, 0.25],
            "device": "cpu",
            "workers": 1,
            "networks": {role: str(tiny_zoo / f"{role}.safetensors") for role in ROLES},
            **fields,
        }
        path = tmp_path / f"{stem}.toml"
        path.write_text("".join(f"{key} = {toml(value)}\n" for key, value in preset.items() if value is not None))
        return path

    return write


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A Ray cluster with room for four workers; skips where Ray is not installed."""
    ray = pytest.importorskip("ray", reason="ray is not installed; pip install 'purifybench[ray]'")
    from bench.executors.ray_connection import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_worker_niceness", "0")  # 15 otherwise: beside other tests its workers would hardly run
        cluster = Cluster(workers=4)
    yield ray.get_runtime_context().gcs_address
    cluster.close()


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A small run in a store, and its exports; see `stored.make_run`."""
    from stored import make_run

    return make_run(tmp_path / "run")


def toml(value: Any) -> str:
    """A value as TOML writes it inline."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """`python -m bench ARGUMENTS` in this process: `cli("list")` has `exit_code`, `stdout`, `stderr` and `output`.

    What is printed is made of whole lines, as on a wide terminal; an error that no command expected is raised.
    """
    from typer.testing import CliRunner

    from bench.__main__ import app

    monkeypatch.setenv("COLUMNS", "400")
    handler = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Any:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    yield run
    signal.signal(signal.SIGTERM, handler)


FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def own_chromium(engine) -> str | None:
    """Of Playwright, where it has been installed."""
    path = engine.chromium.executable_path
    return path if Path(path).is_file() else None


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser` (Playwright)")
    with playwright.sync_playwright() as engine:
        found = os.environ.get("PURIFYBENCH_CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUMS)), None)
        found = found or own_chromium(engine)
        if found is None:
            pytest.skip("there is no Chromium: install the system's, or `playwright install chromium`")
        browser = engine.chromium.launch(executable_path=found, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser):
    """A factory of pages: `visit(path)` opens a report; complaints and requests are checked when the test ends."""
    opened, complaints = [], []

    def visit(path: Path, **options):
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text) if message.type != "log" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda r: complaints.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        page.goto(path.as_uri())
        opened.append(context)
        return page

    yield visit
    for context in opened:
        context.close()
    assert complaints == []


@pytest.fixture
def purifier_file(tmp_path):
    """A factory of files with a purifier whose `purify(x, sigma, networks, rng)` is the given line."""

    def write(body: str, name: str = "broken", file: str = "plugin.py", fields: str = ""):
        path = tmp_path / file
        path.write_text(PURIFIER.format(name=name, body=body, fields=fields))
        return path

    return write


@pytest.fixture
def classifier_file(tmp_path):
    """A factory of files with a classifier whose `load(device)` is the given line."""

    def write(body: str, name: str = "broken", file: str = "classifier_plugin.py"):
        path = tmp_path / file
        path.write_text(CLASSIFIER.format(name=name, body=body))
        return path

    return write
