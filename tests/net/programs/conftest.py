# SPDX-License-Identifier: Apache-2.0
"""
Real programs, each with a small job: the same outcome without weft and through it.

A test names its program and its job and gives the job's function; fixture `job` does the rest. At the end of the
run there is a table; with PROGRAMS_TABLE=docs/programs.md in the environment it is written there.
"""

import os
import pathlib
import re
import subprocess
import time

import pytest

from place import Missing, Place, Watch, find, spliced

PODS = "[nodes.node]\n[pods.client]\n[pods.server]\n"
HERE = pathlib.Path(__file__).parent
OUT = pathlib.Path(os.environ.get("BUILD") or HERE.parents[2] / "build").resolve() / "programs"
ROWS, READERS = [], []


@pytest.fixture
def job(make_lab, no_connection_left, request):
    """job(program, what, function, pods=..., path=...): runs it twice and compares. `path`: what weft must give it."""

    def run(program, what, function, pods=PODS, path=None):
        name = "prog-" + re.sub("[^a-z0-9]+", "-", program.lower())[:16].strip("-")
        outcome, took = {}, {}
        for weft in (False, True):
            try:
                outcome[weft], took[weft], watch, moved = once(weft, function, make_lab, no_connection_left, pods, name)
            except Missing as missing:
                pytest.fail(str(missing))
        assert outcome[True] == outcome[False], f"{program}: another outcome through weft"
        if path and watch.auto:
            assert path in watch.paths(), f"{program}: weft gave {watch.seen}"
        ROWS.append({"program": program, "job": what, "watch": watch, "bytes": moved, "seconds": took})

    return run


def once(weft, function, make_lab, no_connection_left, pods, name):
    """The job in a lab of its own: what it saw, how long it took, and how weft carried it."""
    lab = make_lab(pods, name=name, weft=weft)
    place = Place(lab, weft)
    start = time.monotonic()
    if not weft:
        saw = function(place)
        place.end()
        return saw, time.monotonic() - start, None, None
    with Watch(lab) as watch:
        saw = function(place)
    took = time.monotonic() - start
    place.end()
    assert not watch.failed, watch.failed
    no_connection_left(lab)
    return saw, took, watch, spliced(lab)


# ------------------------------------------------------------------ the table

HEAD = """<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- made by `make net NET=tests/net/programs PROGRAMS_TABLE=docs/programs.md` -->
# Real programs through weft

Each program does a small job between pods of one node, on a plain network and through weft with splice `auto`
({kernel}); every byte is checked. The outcome must be the same: exit codes, digests, output.
`make net NET=tests/net/programs` does it again, with `PYTEST_ARGS="-v -k redis"` one of them.

*Path* is `splice` if a connection was spliced while the job ran; *spliced* says how many of those that were seen
(twenty looks a second) and how much of the bytes: files are bulk, which TCP carries better. *Reasons* are those that
`weftctl connections` gave for TCP, before, after or instead ([reasons.md](reasons.md)); every connection begins
as `watched`.

| program | job | plain network | through weft | path | spliced | reasons for TCP |
|---|---|---|---|---|---|---|
"""


def line(row):
    watch, (some, total) = row["watch"], row["bytes"]
    times = [c for c in watch.seen.values() if "splice" in (path for path, _ in c["ways"])]
    path = "splice" if times else "splice, too short to be seen" if some else "tcp"
    cells = [row["program"], row["job"], "done", "the same", path,
             f"{len(times)} of {len(watch.seen)}; {some / 1e6:.1f} of {total / 1e6:.1f} MB",
             " ".join(f"`{r}`" for r in watch.reasons()) or "-"]
    return "| " + " | ".join(cells) + " |"


READERS_HEAD = """
## Readers by splice(2), with a slow reader behind them

Such a reader does not see spliced bytes. Between a writer and a slow reader sits a relay that weft has never seen:
they converse, then comes a burst that the relay reads by splice(2). Each byte must be right, or the connection ends
with reason `reader_splices`, which `weftctl status` counts; from then on weft knows the pod, and every byte comes.

| relay | while they conversed | the burst, pod unknown | the burst, pod known |
|---|---|---|---|
"""


@pytest.fixture
def told_of_readers():
    """Notes the fate of one relay for the table: its name, the path of its conversation, whether all came."""
    return lambda *row: READERS.append(row)


def reader_lines():
    return [f"| {title} | {path} | {'every byte' if whole else 'ended: `reader_splices`'} | every byte, by TCP |"
            for title, path, whole in sorted(set(READERS))]


def pytest_terminal_summary(terminalreporter, config):
    if not ROWS and not READERS or config.getoption("verbose") < 0:
        return
    terminalreporter.section("real programs through weft")
    for row in ROWS:
        plain, weft = row["seconds"][False], row["seconds"][True]
        terminalreporter.write_line(f"{plain:5.1f} s, weft {weft:5.1f} s  {line(row)}")
    for row in sorted(set(READERS)):
        terminalreporter.write_line(f"{READERS.count(row):6} x  {row}")


def pytest_sessionfinish(session, exitstatus):
    file = os.environ.get("PROGRAMS_TABLE")
    if file and ROWS and not exitstatus:
        kernel = "Linux " + pathlib.Path("/proc/sys/kernel/osrelease").read_text(encoding="ascii").partition("-")[0]
        pathlib.Path(file).write_text(HEAD.format(kernel=kernel) + "\n".join(
            [*map(line, ROWS), READERS_HEAD.rstrip("\n"), *reader_lines(), ""]), encoding="ascii")


# ------------------------------------------------------------------ what has to be compiled


def compiled(target, source, command, **environment):
    """Runs the compiler if the source is newer than what it made; gives the path of that."""
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        target.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([str(c) for c in command], env={**os.environ, **environment}, capture_output=True,
                              text=True, check=False, cwd=target.parent)
        assert not done.returncode, f"{source.name}: {done.stderr}"
    return target


@pytest.fixture(scope="session")
def go_relay():
    """Compiles relay.go; gives the program."""
    target = OUT / "relay"
    return lambda: compiled(target, HERE / "relay.go", [find("go"), "build", "-o", target, HERE / "relay.go"],
                            GOCACHE=str(OUT / "go-cache"), GOPATH=str(OUT / "go"), GO111MODULE="off",
                            CGO_ENABLED="0", GOTOOLCHAIN="local", GOFLAGS="")


@pytest.fixture(scope="session")
def java_classes():
    """Compiles Nio.java; gives the folder of its classes."""
    return lambda: compiled(OUT / "Nio.class", HERE / "Nio.java", [find("javac"), "-d", OUT, HERE / "Nio.java"]).parent
