"""A Ray cluster of several machines counts what one process counts, though they share no files and one is lost.

The machines are namespaces of this one: each has a network interface, a host name, processes, shared memory, home and
temporary folder of its own, and they reach each other by a bridge that leads nowhere else. All of a machine ends with
its shell, and its shell with this process, so that nothing stays behind however the test ends.
"""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from test_ray_workers import counts_of, stored

KINDS = ("--net", "--mount", "--uts", "--ipc", "--pid")
END = "that was it:"
PATIENCE = 150.0  # seconds, for a machine that is slow; it takes far less
MARKED = """
import platform, time
from dataclasses import dataclass
from pathlib import Path
from purifiers.base import Purifier

@dataclass(frozen=True)
class Marked(Purifier):
    name = "marked"

    def purify(self, x, sigma, networks, rng):
        here = Path({folder!r}) / platform.node()
        here.touch()
        while here.name.startswith("machine") and len(list(here.parent.glob("machine-*"))) < 3:
            time.sleep(0.05)  # until every machine counts
        return x.clamp(0, 1) + 0.01 * rng.normal(x)
"""


def what_is_missing() -> str:
    """Why this machine cannot hold others; empty where it can."""
    if not sys.platform.startswith("linux"):
        return "namespaces are Linux'"
    if os.geteuid():
        return "namespaces need root"
    if absent := [tool for tool in ("ip", "unshare", "setpriv", "mount", "hostname") if shutil.which(tool) is None]:
        return f"{absent[0]} is not installed (packages iproute2, util-linux, mount, hostname)"
    tried = subprocess.run(
        ["unshare", *KINDS, "--fork", "sh", "-c", "ip link add lan type bridge && mount -t tmpfs none /tmp"],
        capture_output=True,
        text=True,
    )
    return f"no namespaces here: {tried.stderr.strip()}" if tried.returncode else ""


class Machine:
    """A machine of its own: commands run in its shell, one after another. `own` is empty there, and on it alone."""

    def __init__(self, name: str, own: Path, environment: dict[str, str]):
        dying = ["setpriv", "--pdeathsig", "KILL"]  # with this process
        command = [*dying, "unshare", *KINDS, "--fork", "--kill-child", "--mount-proc", "sh"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.shell = subprocess.Popen(command, **pipes, cwd=ROOT, env=environment)
        self.own = own
        self.run(f"hostname {name} && mount -t tmpfs none {own} && mount -t tmpfs none /dev/shm && ip link set lo up")
        (self.number,) = Path(f"/proc/{self.shell.pid}/task/{self.shell.pid}/children").read_text().split()

    def begin(self, command: str) -> Callable[[], str]:
        """Start a command; the result waits for its end, and gives what it printed."""
        assert self.shell.stdin is not None and self.shell.stdout is not None
        watch = threading.Timer(PATIENCE, self.shell.kill)
        watch.daemon = True
        watch.start()
        self.shell.stdin.write(f"{{ {command}; }} 2>&1 </dev/null; echo {shlex.quote(END)} $?\n")
        self.shell.stdin.flush()
        output = self.shell.stdout

        def ended() -> str:
            said = []
            while (line := output.readline()) and not line.startswith(END):
                said.append(line)
            watch.cancel()
            assert line == f"{END} 0\n", f"{command}: {line or 'did not end'}\n{''.join(said)}"
            return "".join(said)

        return ended

    def run(self, command: str) -> str:
        return self.begin(command)()

    def end(self) -> None:
        self.shell.kill()  # and the kernel all that runs there
        self.shell.wait()


@pytest.fixture
def machines() -> Iterator[list[Machine]]:
    """Three machines on one network, `10.77.0.1` and so on; each lets in Ray's nodes that know one token."""
    pytest.importorskip("ray", reason="ray is not installed; pip install 'purifybench[ray]'")
    if missing := what_is_missing():
        pytest.skip(missing)
    own = Path(tempfile.mkdtemp(prefix="pb-"))  # a short name: sockets lie below it
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    environment |= {"HOME": str(own), "TMPDIR": str(own), "RAY_TMPDIR": str(own), "RAY_USAGE_STATS_ENABLED": "0"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "OMP_NUM_THREADS": "1"}
    started: list[Machine] = []
    try:
        for k in (1, 2, 3):
            started.append(Machine(f"machine-{k}", own, environment))
        head, *others = started
        head.run("ip link add lan type bridge && ip addr add 10.77.0.1/24 dev lan && ip link set lan up")
        for k, machine in enumerate(others, 2):
            ends = f"port{k} netns {head.number} type veth peer name lan netns {machine.number}"
            subprocess.run(["ip", "link", "add", *ends.split()], check=True)
            head.run(f"ip link set port{k} master lan up")
            machine.run(f"ip addr add 10.77.0.{k}/24 dev lan && ip link set lan up")
        yield started
    finally:
        for machine in started:
            machine.end()
        shutil.rmtree(own)


def start_ray(machines: list[Machine]) -> None:
    """A node with one CPU on every machine, the first one the head."""
    ray = f"{sys.executable} -m ray.scripts.scripts start --num-cpus 1 --object-store-memory 100000000"
    head, *others = machines
    head.run(f"{ray} --head --node-ip-address 10.77.0.1 --include-dashboard false")
    join = f"{ray} --address 10.77.0.1:6379 --node-ip-address 10.77.0."
    for joined in [machine.begin(f"{join}{k}") for k, machine in enumerate(others, 2)]:
        joined()


@pytest.mark.slow
def test_three_machines_count_what_one_process_counts_and_so_do_two_when_one_is_lost(
    machines, cli, tiny_zoo, tiny_preset, tmp_path
):
    """Only the first one has the networks, the classifier and the plugin."""
    head, *others = machines
    far = shutil.copytree(tiny_zoo, tmp_path / "far")
    counting = tmp_path / "counting"
    counting.mkdir()
    (far / "marked.py").write_text(MARKED.format(folder=str(counting)))
    networks = {role: str(far / f"{role}.safetensors") for role in ("ddpm", "cm")}
    classifier = {"name": "cnn", "path": str(far / "classifier.safetensors")}
    purifiers = ["consistency", str(far / "marked.py"), "ddpm:steps=4"]
    path = tiny_preset(
        purifiers=purifiers, networks=networks, classifier=classifier, images=20, n=100, rows=20, workers=0
    )
    assert cli("run", path, "--no-plots", "--out", tmp_path / "one", "--workers", "1").exit_code == 0
    expected = counts_of(tmp_path / "one")
    for machine in others:
        machine.run(f"mount -t tmpfs none {far}")
        assert not machine.run(f"ls {far}")
    start_ray(machines)
    command = (
        f"{sys.executable} -m bench run {path} --no-plots --batch 20 --executor ray --address 10.77.0.1:6379 --out "
    )

    said = head.run(command + str(tmp_path / "three"))
    assert counts_of(tmp_path / "three") == expected and "a worker" not in said
    for k in (1, 2, 3):
        (counting / f"machine-{k}").unlink()  # so it did count
    shipped = [machine.run(f"ls {machine.own}/purifybench-*/* 2>&1 || true") for machine in machines]
    assert "marked.py" not in shipped[0]
    for name in ("marked.py", "cm.safetensors", "ddpm.safetensors", "classifier.safetensors"):
        assert [listing.count(name) for listing in shipped[1:]] == [1, 1]

    ended = head.begin(command + str(tmp_path / "lost"))
    deadline = time.monotonic() + PATIENCE
    while not (counting / "machine-3").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    before = stored(tmp_path / "lost")
    others[1].end()
    said = ended()
    assert 0 < before < len(expected) and said.count("a worker died; another one repeats its batches") == 1
    assert counts_of(tmp_path / "lost") == expected


def test_a_cluster_whose_token_is_not_here_is_refused_with_the_remedy(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed; pip install 'purifybench[ray]'")
    environment = {name: value for name, value in os.environ.items() if name != "RAY_AUTH_TOKEN"}
    environment |= {"RAY_AUTH_MODE": "token", "HOME": str(tmp_path)}
    connect = "from bench.executors.ray_connection import Cluster; Cluster('127.0.0.1:1')"
    tried = subprocess.run([sys.executable, "-c", connect], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "RunError: there is no Ray cluster at 127.0.0.1:1" in tried.stderr
    assert "needs RAY_AUTH_MODE=token and its token here" in tried.stderr
