"""The only door to tests, lint, types, sweeps and pictures: `nox -s NAME -- ARGUMENTS`.

All sessions but lint share one environment, because torch alone takes gigabytes.
"""

import nox

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["tests", "lint", "types"]
SHARED = ".nox/purifybench"


def install(session: nox.Session) -> None:
    session.install("-e", ".[hub,tests]", "mypy>=1.11", "pandas-stubs")


def bench(session: nox.Session, *arguments: str) -> None:
    session.run("python", "-m", "bench", *arguments)


@nox.session(name="bench", venv_location=SHARED)
def bench_session(session: nox.Session) -> None:
    """The full sweep of the embedded benchmark, or any command of `python -m bench`."""
    install(session)
    words = session.posargs or ["run", "embedded"]
    bench(session, *(["run"] if words[0].startswith("-") and words[0] != "--help" else []), *words)


@nox.session(venv_location=SHARED)
def plots(session: nox.Session) -> None:
    """Pictures of the committed reference runs, or of the results folders that are given."""
    install(session)
    bench(session, "plot", *(session.posargs or ["results/embedded"]))


@nox.session(venv_location=SHARED)
def train(session: nox.Session) -> None:
    """Train the embedded networks again."""
    install(session)
    bench(session, "train", *session.posargs)


@nox.session(venv_location=SHARED)
def tests(session: nox.Session) -> None:
    """All tests."""
    install(session)
    session.run("pytest", *session.posargs)


@nox.session(venv_location=SHARED)
def perf(session: nox.Session) -> None:
    """Speed, side by side with a plain loop: pytest-benchmark."""
    install(session)
    session.run("pytest", "-o", "addopts=-ra", "tests/perf", "-s", *session.posargs)


@nox.session(venv_location=SHARED)
def types(session: nox.Session) -> None:
    """Static types."""
    install(session)
    session.run("mypy", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and layout."""
    session.install("ruff>=0.8")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
