# SPDX-License-Identifier: Apache-2.0
"""
Fixtures of the network tests. A module says what it wants in capitals:

	LAB = "[nodes.n1] ..."		its lab (docs/lab.md); one for the whole module
	MANIFESTS = {"a.yaml": "..."}	its folder of manifests; lab.manifest() changes it
	SPLICE = ("splice", "tcp")	the module runs once with splice on, once off; give one to run it so only
	WEFT = False			a plain network

and takes the fixture `lab` (tools/labrun.py: run, start, socket, weftctl, map, manifest ...). At the end of the
module the lab is taken down and looked for: a connection that is still in the kernel's map, a netns that
something holds, a link, a pin, a process fail the module.

Needs root and the programs of `make`; without them the run ends with one sentence, it never skips.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import labrun  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
PATIENCE = 600  # another run of the same module on this machine has the lab
NEEDED = ("ip", "bpftool", "curl", "iperf3", "nginx", "wrk")


def pytest_sessionstart(session):
    missing = [t for t in NEEDED if not shutil.which(t, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")]
    if os.geteuid():
        pytest.exit("the network tests need root: sudo make net", returncode=1)
    if missing:
        pytest.exit(f"not installed: {' '.join(missing)}; sh tools/setup.sh check installs it", returncode=1)
    if not (BUILD / "bench/load").exists() or not (BUILD / "tests/kernels/guest").exists():
        pytest.exit(f"{BUILD} has no programs: run make all bench-programs kernel-programs first", returncode=1)


def pytest_generate_tests(metafunc):
    if "splice" in metafunc.fixturenames:
        how = getattr(metafunc.module, "SPLICE", ("splice", "tcp")) if getattr(metafunc.module, "WEFT", True) \
            else ("plain",)
        metafunc.parametrize("splice", how, scope="module")


@pytest.fixture(scope="module")
def splice(request):
    """"splice", "tcp" (weft with splice off) or "plain" (no weft)."""
    return request.param


def short(module):
    return module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-")


@pytest.fixture(scope="module")
def lab(request, splice):
    module = request.module
    name = short(module)
    running = labrun.Running.from_text(
        module.LAB, name, getattr(module, "MANIFESTS", {}), weft=splice != "plain", build=BUILD,
        prefix=f"{name}-", wait=getattr(module, "WAIT_READY", True), patience=PATIENCE)
    try:
        if splice == "tcp":
            for node in running.nodes:
                running.weftctl("splice", "off", node=node, text=True)
        yield running
        if splice != "plain":
            connections_end(running)
    finally:
        leaks = Leaks(running)
        running.down()
    leaks.check()


@pytest.fixture
def make_lab(request):
    """A factory for tests that need a lab of their own: make_lab(text, manifests, **options of Running)."""
    made = []

    def make(text, manifests=None, name=None, **options):
        name = name or short(request.module)
        options.setdefault("prefix", f"{name}-{len(made)}-")
        options.setdefault("patience", PATIENCE)
        made.append(labrun.Running.from_text(text, name, manifests or {}, build=BUILD, **options))
        return made[-1]

    yield make
    for running in made:
        leaks = Leaks(running)
        running.down()
        leaks.check()


@pytest.fixture(scope="session")
def load():
    """The load program (tools/bench/load.h)."""
    return str(BUILD / "bench/load")


@pytest.fixture(scope="session")
def guest():
    """The program of the virtual machines (tests/kernels/guest.h)."""
    return str(BUILD / "tests/kernels/guest")


@pytest.fixture(scope="session")
def wait_for():
    return labrun.wait_for


@pytest.fixture(scope="session")
def no_connection_left():
    """For labs of make_lab: ends the processes of the pods, then no connection may be left in the kernel's maps."""
    return connections_end


def connections_end(running):
    """Once every process of every pod is gone, no connection may be left in the kernel's maps."""
    for pod in running.pods.values():
        (pathlib.Path(pod["cgroup"]) / "cgroup.kill").write_text("1")
    for p in running.started:
        p.wait()
    for node in running.nodes:
        for name in ("conns", "splices"):
            if os.path.exists(f"/sys/fs/bpf/weft/{running.instance(node)}/{name}"):
                labrun.wait_for(lambda n=node, m=name: not entries(running, m, n), 15,
                                f"map {name} of {node} without entries")


def entries(running, name, node):
    """Number of entries; of a sockhash bpftool cannot print the values, but it lists the keys."""
    path = f"/sys/fs/bpf/weft/{running.instance(node)}/{name}"
    dump = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", path], capture_output=True, text=True,
                          check=False)
    found = json.loads(dump.stdout or "[]")
    return len(found) if isinstance(found, list) else 0


class Leaks:
    """
    What a lab made, to be looked for after it. A netns that something still holds keeps its number
    (nsid) in the first netns although its name is gone: that is how a dead netns shows itself.
    """

    def __init__(self, running):
        self.state = running.state
        there = [n for n in self.state["netns"] if os.path.exists(f"/run/netns/{n}")]
        for name in there:
            subprocess.run(["ip", "netns", "set", name, "auto"], check=False, stderr=subprocess.DEVNULL)
        names = json.loads(subprocess.run(["ip", "-j", "netns", "list"], capture_output=True, text=True,
                                          check=True).stdout or "[]")
        self.nsids = {n["id"]: n["name"] for n in names if n["name"] in there and "id" in n}

    def left(self):
        found = [f"/run/netns/{n}" for n in self.state["netns"] if os.path.exists(f"/run/netns/{n}")]
        for node in self.state["nodes"]:
            found += [p for p in (node["cgroup"], f"/run/weft/{node['instance']}",
                                  f"/sys/fs/bpf/weft/{node['instance']}") if os.path.exists(p)]
        lines = subprocess.run(["ip", "-j", "netns", "list-id"], capture_output=True, text=True, check=True).stdout
        held = {n["nsid"] for n in json.loads(lines or "[]")}
        found += [f"netns {name} is still held by something" for nsid, name in self.nsids.items() if nsid in held]
        return found

    def check(self):
        try:
            labrun.wait_for(lambda: not self.left(), 30)  # the kernel removes the netns of all labs one by one
        except labrun.LabError:
            pytest.fail("the lab left behind: " + ", ".join(self.left()))
