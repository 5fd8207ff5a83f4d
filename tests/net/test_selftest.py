# SPDX-License-Identifier: Apache-2.0
"""
The self-test of the running kernel at the start of weftd: every row in `weftd --probe` and `weftctl status`, in time;
nothing of it stays, whoever is killed while it runs; what it does not finish counts as failed. Which rows pass is the
kernel's business: the rule from rows to `auto` has a unit test with every combination.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from labrun import wait_for  # noqa: E402
from stopwatch import pace  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
WEFTD, WEFTCTL = str(BUILD / "weftd"), str(BUILD / "weftctl")
INSTANCE = "st-test"
NAME = "weftd-selftest"
SOCKET = f"/run/weft/{INSTANCE}/weftd.sock"
ROWS = ["enter", "leave", "looks", "FIONREAD spliced", "FIONREAD TCP", "MSG_PEEK", "epoll", "order", "alternation",
        "back-pressure", "close", "reset", "peer gone", "options", "owners", "IPv6", "splice(2)"]
OFF_HERE = {"FIONREAD TCP", "splice(2)", "IPv6"}  # what a good kernel may lack
TRIES = 40  # the process lives for 40 ms: it may be over before it is seen


def bpf_left():
    """Programs and maps of a self-test, of whatever weftd: they go with its process."""
    found = []
    for kind in ("prog", "map"):
        listed = subprocess.run(["bpftool", "-j", kind, "list"], capture_output=True, text=True, check=True).stdout
        found += [x["name"] for x in json.loads(listed or "[]") if x.get("name", "").startswith("selftest_")]
    return found


def state(pid):
    """The letter of /proc/PID/stat; Z if it is gone."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def netns_of(pid):
    try:
        return os.stat(f"/proc/{pid}/ns/net").st_ino
    except OSError:
        return None


def children(process):
    """Those of them that are a self-test: it has its name before it makes anything."""
    try:
        pids = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        return [int(n) for n in pids if pathlib.Path(f"/proc/{n}/comm").read_text().strip() == NAME]
    except OSError:
        return []


def held(begin, over, give_up):
    """A weftd and the pid of its self-test, which is stopped in the middle."""
    for _ in range(TRIES):
        process = begin()
        found = []
        while not found and process.poll() is None and not over():
            found = children(process)
        if found:
            os.kill(found[0], signal.SIGSTOP)
            wait_for(lambda: state(found[0]) in "TZ", 5)  # pylint: disable=cell-var-from-loop
            if state(found[0]) == "T":
                return process, found[0]
        give_up(process)
    raise AssertionError(f"of {TRIES} self-tests none was seen while it ran")


def probe():
    return subprocess.Popen([WEFTD, "--probe"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rows_of(text):
    head, _, table = text.partition("\nself-test of the kernel, ")
    took, _, table = table.partition(" ms\n")
    rows = {line[:16].rstrip(): line[17:].split(None, 1) for line in table.splitlines()}
    return head, int(took), rows


@pytest.fixture(name="cgroup")
def fixture_cgroup():
    mounted = next(line.split()[1] for line in pathlib.Path("/proc/mounts").read_text().splitlines()
                   if line.split()[2] == "cgroup2")
    folder = pathlib.Path(mounted) / INSTANCE
    folder.mkdir(exist_ok=True)
    subprocess.run([WEFTD, "--uninstall", "--instance", INSTANCE], check=True)
    yield folder
    subprocess.run([WEFTD, "--uninstall", "--instance", INSTANCE], check=True)
    folder.rmdir()


def start(cgroup, log):
    with open(log, "w", encoding="utf-8") as out:
        return subprocess.Popen([WEFTD, "--instance", INSTANCE, "--cgroup", str(cgroup)], stderr=out)


def ctl(*argv):
    return subprocess.run([WEFTCTL, "--instance", INSTANCE, *argv], capture_output=True, text=True, check=False)


def status():
    return json.loads(ctl("-o", "json", "status", "--wait", "20s").stdout)


def serves():
    return os.path.exists(SOCKET)


def held_daemon(cgroup, log):
    return held(lambda: start(cgroup, log), serves, end)


def end(process):
    process.terminate()
    assert process.wait(20) == 0


def test_rows_of_this_kernel():
    """A kernel without the faults that a splice cannot live with passes; what only some readers see may be off."""
    done = probe()
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    head, took, rows = rows_of(out)
    assert list(rows) == ROWS
    assert {name: said for name, said in rows.items() if said[0] == "FAILED"} == {}
    assert {name for name, said in rows.items() if said[0] == "off"} <= OFF_HERE
    assert took < 1000 * pace()
    auto, fixes = (next(line[15:].split()[0] for line in head.splitlines() if line.startswith(name))
                   for name in ("splice auto", "known fixes"))
    assert auto == fixes
    wait_for(lambda: not bpf_left(), 10)


def test_status_has_it_row_by_row(cgroup, tmp_path):
    weftd = start(cgroup, tmp_path / "log")
    try:
        wait_for(serves, 20)
        said = status()
        assert [r["name"] for r in said["selftest"]["rows"]] == ROWS
        assert said["selftest"]["took_ms"] < 1000 * pace()
        failed = [r["name"] for r in said["selftest"]["rows"] if r["state"] == "failed"]
        assert said["selftest"]["passed"] == (not failed)
        fixes = next(p["state"] for p in said["probes"] if p["name"] == "known fixes")
        assert said["splice"]["kernel_safe"] == (not failed and fixes == "ok")
        text = ctl("status").stdout
        table = text[text.index("SELF-TEST"):].splitlines()
        at = table[0].index("STATE")
        assert [line[:at].rstrip() for line in table[1:1 + len(ROWS)]] == ROWS
        assert {line[at:].split()[0] for line in table[1:1 + len(ROWS)]} <= {"ok", "off", "failed"}
        wait_for(lambda: not bpf_left(), 10)
    finally:
        end(weftd)


def test_one_that_hangs_is_killed_in_time():
    begun = {}

    def begin():
        begun["at"] = time.monotonic()
        return probe()

    done, child = held(begin, lambda: False, lambda process: process.communicate(timeout=60))
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    head, took, rows = rows_of(out)
    assert 900 < took < 5000
    assert time.monotonic() - begun["at"] < 60  # the rest is loading weft's programs
    assert rows[list(rows)[-1]] == ["FAILED", "it did not end in time"]
    assert list(rows)[:-1] == ROWS[:len(rows) - 1]
    assert "splice auto    off" in head
    assert state(child) == "Z"
    wait_for(lambda: not bpf_left(), 10)


def test_one_that_is_killed_leaves_weftd_alive(cgroup, tmp_path):
    """As a kernel kills the process in which it finds a fault; and a splice that is forced says what is at stake."""
    log, pod = tmp_path / "log", "st-pod"
    subprocess.run(["ip", "netns", "del", pod], check=False, stderr=subprocess.DEVNULL)
    subprocess.run(["ip", "netns", "add", pod], check=True)
    weftd, child = held_daemon(cgroup, log)
    try:
        os.kill(child, signal.SIGKILL)
        wait_for(serves, 20)
        said = status()
        assert said["ready"] and not said["selftest"]["passed"] and not said["splice"]["kernel_safe"]
        assert "killed by signal 9" in said["selftest"]["rows"][-1]["detail"]
        assert said["control"]["problems"] == []
        done = ctl("pod", "add", "shop/web", "--netns", pod, "--ip", "10.251.0.1",
                   "--annotation", "weft.io/splice=always")
        assert done.returncode == 0, done.stderr
        said = status()
        [problem] = said["control"]["problems"]
        assert said["ready"] and problem["warning"]
        assert (problem["object"], problem["field"]) == ("Pod shop/web", "weft.io/splice")
        assert problem["reason"].startswith("always, on a kernel that is not safe: ")
        wait_for(lambda: "Pod shop/web: weft.io/splice: always" in log.read_text(encoding="utf-8"), 10)
        assert "warning: Pod shop/web: weft.io/splice: always" in ctl("status").stdout
        wait_for(lambda: not bpf_left(), 10)
    finally:
        end(weftd)
        subprocess.run(["ip", "netns", "del", pod], check=True)


def test_weftd_killed_in_the_middle_leaves_nothing(cgroup, tmp_path):
    weftd, child = held_daemon(cgroup, tmp_path / "log")
    netns = netns_of(child)
    weftd.kill()
    weftd.wait()
    wait_for(lambda: state(child) == "Z", 10)
    wait_for(lambda: not bpf_left(), 10)
    if netns != netns_of("self"):  # it had its own already
        assert netns not in {netns_of(p.name) for p in pathlib.Path("/proc").glob("[0-9]*")}
    weftd = start(cgroup, tmp_path / "log")
    try:
        wait_for(serves, 20)
        assert [r["name"] for r in status()["selftest"]["rows"]] == ROWS
        assert not [p for p in cgroup.iterdir() if p.is_dir()]
    finally:
        end(weftd)
