"""Tests, lint, types, sweeps and pictures: `nox -s NAME -- ARGUMENTS`.

All sessions but lint share one environment, because torch alone takes gigabytes. It is made once, and again when
pyproject.toml changes.
"""

import os
import shutil
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint", "types"]

ENVIRONMENT = Path(".nox") / "purifybench"
PYTHON = ENVIRONMENT / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
NEEDS = ("-e", ".[hub,transformers,timm,judge,tests,browser,types,docs]")


def python(session: nox.Session, *arguments: str, env: dict[str, str] | None = None, success: tuple = (0,)) -> None:
    """Run Python in the shared environment, made first where it is missing or out of date."""
    stamp, wanted = ENVIRONMENT / "made-from.toml", f"# {NEEDS}\n" + Path("pyproject.toml").read_text()
    if not stamp.is_file() or stamp.read_text() != wanted:
        if shutil.which("uv"):
            if not PYTHON.exists():
                session.run("uv", "venv", "--python", sys.executable, str(ENVIRONMENT), external=True)
            session.run("uv", "pip", "install", "--compile-bytecode", "--python", str(PYTHON), *NEEDS, external=True)
        else:
            if not PYTHON.exists():
                session.run(sys.executable, "-m", "venv", str(ENVIRONMENT), external=True)
            session.run(str(PYTHON), "-m", "pip", "install", *NEEDS, external=True)
        stamp.write_text(wanted)
    session.run(str(PYTHON), *arguments, env=env, external=True, success_codes=success)


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """The full sweep of the embedded benchmark, or any command of `python -m bench`."""
    words = session.posargs or ["run", "embedded"]
    command = ["run"] if words[0].startswith("-") and words[0] != "--help" else []
    python(session, "-m", "bench", *command, *words)


@nox.session(venv_backend="none")
def plots(session: nox.Session) -> None:
    """Pictures of the committed reference run, or of the results folders that are given."""
    python(session, "-m", "bench", "plot", *(session.posargs or ["results/embedded"]))


@nox.session(venv_backend="none")
def board(session: nox.Session) -> None:
    """The leaderboard of the project's own runs and their verifications, into site/board."""
    runs = [f"results/{name}" for name in ("embedded", "cifar10-fair")]
    verified = [f"--verified={path}" for path in sorted(Path("results", "verified").glob("*.json"))]
    python(session, "-m", "bench", "board", *runs, *verified, "--out", "site/board", *session.posargs)


@nox.session(venv_backend="none")
def train(session: nox.Session) -> None:
    """Train the embedded networks again."""
    python(session, "-m", "bench", "train", *session.posargs)


@nox.session(venv_backend="none")
def gpu(session: nox.Session) -> None:
    """Long work on a borrowed GPU, in commands of minutes: `-- zoo --minutes M`, `-- sweep PRESET --minutes M`."""
    python(session, "-m", "bench", "gpu", *session.posargs, success=(0, 75))  # 75: the same command continues


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """All tests, in a process per core of one thread each."""
    python(session, "-m", "pytest", "-n", "auto", "--dist", "worksteal", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(venv_backend="none")
def slow(session: nox.Session) -> None:
    """The tests that take minutes: several machines, long runs, killed clusters."""
    python(session, "-m", "pytest", "-m", "slow", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(venv_backend="none")
def fuzz(session: nox.Session) -> None:
    """Damage every kind of file that is read, and tell what becomes of it: `-- --minutes 5 --seed 1`."""
    python(session, "tests/fuzz", *session.posargs, env={"OMP_NUM_THREADS": "1"})


@nox.session(venv_backend="none")
def perf(session: nox.Session) -> None:
    """Speed beside a plain loop, into perf.json (`--quick`: 3 minutes); each run is kept and compared to the last."""
    kept = ("--benchmark-autosave", "--benchmark-storage=results/runs/perf", "--benchmark-columns=median,rounds")
    kept += ("--benchmark-compare",)
    python(session, "-m", "pytest", "-o", "addopts=-ra", "tests/perf", "-s", *kept, *session.posargs)


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """The documentation as a site, into site/: `-- serve` shows it and follows changes."""
    python(session, "-m", "mkdocs", *(session.posargs or ["build", "--strict"]))


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """Static types."""
    python(session, "-m", "mypy", *session.posargs)


@nox.session
def audit(session: nox.Session) -> None:
    """Known vulnerabilities of what this project installs: pip-audit, which asks an advisory service."""
    session.install("pip-audit>=2.7")
    python(session, "-c", "")  # makes the environment that is audited
    show = "import sysconfig; print(sysconfig.get_path('purelib'))"
    installed = session.run(str(PYTHON), "-c", show, external=True, silent=True).strip()
    report = Path(session.create_tmp()).absolute() / "audit.json"
    report.unlink(missing_ok=True)
    written = ("--format", "json", "--output", str(report), "--progress-spinner", "off")
    asked = ("--path", installed, "--skip-editable", *written, *session.posargs)
    session.run("pip-audit", *asked, success_codes=[0, 1])  # what it found, tests/audit.py tells
    session.run("python", "tests/audit.py", str(report))


@nox.session
def lock(session: nox.Session) -> None:
    """Write requirements.lock: one version of everything that is installed, for all Pythons and systems."""
    session.install("uv")
    options = ("--universal", "--all-extras", "--python-version", "3.11", "--no-annotate", "--no-header", "--upgrade")
    session.run("uv", "pip", "compile", *options, "pyproject.toml", "--output-file", "requirements.lock", silent=True)


@nox.session
def wheel(session: nox.Session) -> None:
    """The sdist and the wheel, into dist/, checked as the index would."""
    session.install("build>=1.2", "twine>=5")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", *map(str, Path("dist").iterdir()))


@nox.session
def lint(session: nox.Session) -> None:
    """Style and layout."""
    session.install("ruff>=0.8")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
