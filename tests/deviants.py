"""Purifiers and classifiers that break the contract, each in its own way, and the layers that catch them.

`purify` and `load` are the bodies of the plugins, as `conftest` writes them to files. `tests/engine/test_deviants.py`
runs them through the layers, and holds the table of docs/trust.md to this list.
"""

from __future__ import annotations

from typing import NamedTuple

SUITE, CHECK, AUDIT = "suite", "check", "audit"


class Deviant(NamedTuple):
    """A plugin that breaks the contract.

    Attributes:
        title: of its row in the table.
        body: of `purify(x, sigma, networks, rng)`, or of `load(device)` of a classifier.
        caught: layers that must catch it.
        fields: lines of the class.
    """

    title: str
    body: str
    caught: tuple[str, ...]
    fields: str = ""


_ALL = (SUITE, CHECK, AUDIT)
_SILENT = (SUITE, CHECK)  # breaks the contract without a vote that differs
_COUNT = "calls = []"
_FLIP = "return (x + 3 * {0} * (torch.arange(28) % 2)[: x.shape[-1]]).clamp(0, 1)"
PURIFIERS = (
    Deviant("mean over the batch", "return (x - x.mean((0, 1), keepdim=True)).clamp(0, 1)", _ALL),
    Deviant("quantile over the batch", "return (x / x.flatten()[:5000].quantile(0.9)).clamp(0, 1)", _ALL),
    Deviant("maximum of the batch as a scale", "return (x / x.max()).clamp(0, 1)", _ALL),
    Deviant(
        "standardisation as by BatchNorm in training mode",
        "return (x - x.mean(0)) .div(x.std(0, correction=0) + 1e-3).clamp(0, 1)",
        _ALL,
    ),
    Deviant(
        "softmax attention between rows",
        "f = x.flatten(1); return (f @ f.T / 99).softmax(1).matmul(f).view_as(x).clamp(0, 1)",
        _ALL,
    ),
    Deviant("previous row of the batch mixed in", "return (0.5 * x + 0.5 * x.roll(1, 0)).clamp(0, 1)", _ALL),
    Deviant("position in the batch", _FLIP.format("(torch.arange(len(x)) % 2).view(-1, 1, 1, 1)"), _ALL),
    Deviant(
        "loop that the batch's maximum ends",
        "while x.abs().max() > 1:\n            x = 0.9 * x\n        return x.clamp(0, 1)",
        _ALL,
    ),
    Deviant(
        "dependence that begins with more than 16 rows", "return (x - x.mean(0) * (len(x) > 16)).clamp(0, 1)", _ALL
    ),
    Deviant(
        "dependence that begins with more than 60 rows", "return (x - x.mean(0) * (len(x) > 60)).clamp(0, 1)", _ALL
    ),
    Deviant(
        "lower precision for large batches",
        "y = x.to(torch.float8_e4m3fn).float() if len(x) > 64 else x; return y.clamp(0, 1)",
        _ALL,
    ),
    Deviant("parity of the number of rows", _FLIP.format("(len(x) % 2)"), _SILENT),
    Deviant(
        "output cached by shape",
        "y = self.cache.setdefault(x.shape, x.clamp(0, 1).clone()); return y",
        _ALL,
        "cache = {}",
    ),
    Deviant(
        "last output mixed in",
        "last = self.cache.get(0, x[:1]); self.cache[0] = x[:1].clone(); return (0.5 * x + 0.5 * last).clamp(0, 1)",
        _ALL,
        "cache = {}",
    ),
    Deviant("counter of calls", "self.calls.append(1); " + _FLIP.format("(len(self.calls) % 2)"), _ALL, _COUNT),
    Deviant(
        "counter that begins to count after 20 calls",
        "self.calls.append(1); " + _FLIP.format("(len(self.calls) > 20)"),
        (AUDIT,),
        _COUNT,
    ),
    Deviant(
        "number of rows so far",
        "self.calls.append(len(x)); " + _FLIP.format("(sum(self.calls) // 150 % 2)"),
        _ALL,
        _COUNT,
    ),
    Deviant("wall clock", "import time; " + _FLIP.format("(time.time() * 50 % 1)"), _ALL),
    Deviant(
        "hour of the day", "import time; " + _FLIP.format("(time.localtime(time.time()).tm_hour % 3 == 0)"), _SILENT
    ),
    Deviant("performance counter", "import time; " + _FLIP.format("(time.perf_counter_ns() % 1009 / 1009)"), _ALL),
    Deviant("torch.manual_seed(0)", "torch.manual_seed(0); return (x + 0.1 * torch.randn_like(x)).clamp(0, 1)", _ALL),
    Deviant("torch's global generator", "return (x + torch.randn_like(x)).clamp(0, 1)", _ALL),
    Deviant("NumPy's global generator", "import numpy; return (x + numpy.random.rand()).clamp(0, 1)", _ALL),
    Deviant("Python's global generator", "import random; return (x + random.random()).clamp(0, 1)", _ALL),
    Deviant(
        "generator with a seed of the system",
        "import numpy; return (x + float(numpy.random.default_rng().random())).clamp(0, 1)",
        _ALL,
    ),
    Deviant("write into the input", "return x.clamp_(0, 1)", _SILENT),
    Deviant(
        "gradients switched on", "torch.set_grad_enabled(not torch.is_grad_enabled()); return x.clamp(0, 1)", _SILENT
    ),
    Deviant(
        "cuDNN chooses its algorithms by trial",
        "torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark; return x.clamp(0, 1)",
        _SILENT,
    ),
    Deviant("default type changed", "torch.set_default_dtype(torch.float64); return x.clamp(0, 1)", _SILENT),
    Deviant(
        "network evaluated for the whole batch once more",
        "networks['edm'](x[:1], 1.0); return networks['edm'](2 * x - 1, 2 * sigma).clamp(0, 1)",
        _SILENT,
        "networks = ('edm',)",
    ),
    Deviant(
        "network called past the counter",
        "return networks['edm']._denoiser(2 * x - 1, 2 * sigma).clamp(0, 1)",
        _SILENT,
        "networks = ('edm',)",
    ),
)
_BN = "norm = torch.nn.BatchNorm2d(1, affine=False); "
_NET = "torch.manual_seed(0); return torch.nn.Sequential({0}, torch.nn.Linear(784, 10)).requires_grad_(False)"
CLASSIFIERS = (
    Deviant(
        "classifier with BatchNorm in training mode",
        _BN + _NET.format("norm, torch.nn.Flatten()"),
        _ALL,
    ),
    Deviant(
        "the same inside a function",
        _BN + "torch.manual_seed(0); w = torch.randn(784, 10); return lambda x: norm(x).flatten(1) @ w",
        _ALL,
    ),
    Deviant(
        "classifier with dropout in training mode",
        _NET.format("torch.nn.Flatten(), torch.nn.Dropout(0.5)"),
        _ALL,
    ),
    Deviant(
        "logits centred over the batch",
        "torch.manual_seed(0); w = torch.randn(784, 10)\n        def f(x):\n            y = x.flatten(1) @ w\n"
        "            return y - y.mean(0)\n        return f",
        _ALL,
    ),
    Deviant(
        "classifier that writes into its input",
        "torch.manual_seed(0); w = torch.randn(784, 10); return lambda x: x.mul_(2).flatten(1) @ w",
        _SILENT,
    ),
    Deviant(
        "classifier that draws",
        "torch.manual_seed(0); w = torch.randn(784, 10); return lambda x: (x + torch.randn_like(x)).flatten(1) @ w",
        _ALL,
    ),
)
ESCAPES = (
    (
        "memorises the test images",
        "It answers by their pixels alone, so it is a function of the image and repeats itself.",
    ),
    (
        "looks at the date, a file, a server or the process id",
        "It repeats itself within a run on one worker. "
        "Clocks of `time` are shifted; other sources of the date are not. `bench verify` on another day can show it.",
    ),
    (
        "begins to deviate after the audit's last recount of a cell",
        "Only a recount of every block is certain: `bench run --audit 1`.",
    ),
    ("deviates on few draws", "The audit of a share s finds one deviating block with probability s."),
    (
        "recognises the check",
        "Code that means to deceive can behave while it is observed. Read the code of a plugin that you do not trust.",
    ),
)


def table() -> str:
    """The table of docs/trust.md: each deviant with the layers that catch it."""
    rows = [
        f"| {d.title} | " + " | ".join("x" if layer in d.caught else "" for layer in (SUITE, CHECK, AUDIT)) + " |"
        for d in (*PURIFIERS, *CLASSIFIERS)
    ]
    return "\n".join(["| deviant | suite | check before the run | audit in it |", "|---|---|---|---|", *rows])
