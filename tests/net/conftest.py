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

import faulthandler
import os
import pathlib
import shutil
import signal
import sys
import threading
import traceback

import pytest

from leaks import BUILD, PATIENCE, Leaks, connections_end

import labrun

LONGEST = 900 + 60 * float(os.environ.get("WEFT_SOAK_GB") or 0)  # seconds of a test: then the run ends and says where
NEEDED = ("ip", "bpftool", "curl", "iperf3", "nginx", "wrk")


def pytest_sessionstart(session):
    # a shell that starts us in the background has SIGINT ignored, and what we start would inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    missing = [t for t in NEEDED if not shutil.which(t, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")]
    if os.geteuid():
        pytest.exit("the network tests need root: sudo make net", returncode=1)
    if missing:
        pytest.exit(f"not installed: {' '.join(missing)}; sh tools/setup.sh check installs it", returncode=1)
    labrun.MAKER.start()  # while this process is small
    if not (BUILD / "bench/load").exists() or not (BUILD / "tests/kernels/guest").exists():
        pytest.exit(f"{BUILD} has no programs: run make all bench-programs kernel-programs first", returncode=1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item):
    with item.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        shown = os.dup(2)
    faulthandler.dump_traceback_later(LONGEST, exit=True, file=shown)
    yield
    faulthandler.cancel_dump_traceback_later()
    os.close(shown)


def pytest_generate_tests(metafunc):
    if "splice" in metafunc.fixturenames:
        how = getattr(metafunc.module, "SPLICE", ("splice", "tcp")) if getattr(metafunc.module, "WEFT", True) \
            else ("plain",)
        metafunc.parametrize("splice", how, scope="module")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """All of a module with splice on, then all of it with splice off: pytest's own order changes labs in between."""
    modules = list(dict.fromkeys(item.path for item in items))

    def place(item):
        call = getattr(item, "callspec", None)
        return modules.index(item.path), str(call.params.get("splice", "")) if call else ""

    items.sort(key=place)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """What weft says of a test that failed: its refusals and the end of its log, node by node."""
    report = (yield).get_result()
    running = getattr(item, "funcargs", {}).get("lab")
    if report.failed and isinstance(running, labrun.Running):
        for node in running.nodes:
            said = [f"{r['count']:6} {r['reason']}: {r['source']} -> {r['pod']}" for r in refusals(running, node)]
            report.sections += [(f"refused on {node}", "\n".join(said)),
                                (f"end of the log of {node}", end(running, node))]


def threads():
    """Those that the end of the run would wait for."""
    return [t for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]


@pytest.fixture(scope="module", autouse=True)
def threads_end():
    """A thread that waits for ever fails the module that began it."""
    yield
    try:
        labrun.wait_for(lambda: not threads(), 60, grace=1)
    except labrun.LabError:
        frames = sys._current_frames()
        where = ["".join(traceback.format_stack(frames[t.ident])) for t in threads() if t.ident in frames]
        pytest.fail("threads that have not ended:\n" + "\n".join(where))


@pytest.hookimpl(trylast=True)
def pytest_unconfigure():
    """What has failed is said by now: a thread that goes on does not keep the run."""
    if threads():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def end(running, node):
    try:
        return "\n".join(running.log(node).splitlines()[-20:])
    except OSError:  # a fixture has failed behind the end of its lab
        return ""


def refusals(running, node):
    try:
        return running.weftctl("traffic", node=node)["refusals"]
    except (labrun.LabError, ValueError, OSError):  # weftd may be what failed
        return []


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
