# SPDX-License-Identifier: Apache-2.0
"""
A worker that may not open more files: who has most of them waits, or is refused, who is there goes on, others find
room, and when there are some again all is as it was.
"""

import contextlib
import os
import pathlib
import resource
import signal
import threading

import labrun
import pytest
import routed
from http_peers import Cut, client
from routed import origins, origins_are_content  # noqa: F401

SPLICE = ("splice",)
LAB = routed.LAB
VIP = "10.96.23.1"
MORE = 600  # files of the worker than it has at rest, which are more where there are more cores
MANIFESTS = {"web.json": routed.listed(
    *routed.of_pods(), routed.service("web", VIP, [("http", 80, 8081, None)], "near2"),
    routed.route("web", "web", [routed.rule(routed.backend(place, version), path=f"/{place}/{version}")
                                for place in ("near", "far") for version in routed.PORTS]))}


def worker(lab):
    """Its pid; None: there is none now."""
    for pid in labrun.pids(lab.daemon_cgroup("n1")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if pathlib.Path(f"/proc/{pid}/comm").read_text() == "weft-worker\n":
                return int(pid)
    return None


@pytest.fixture(scope="module")
def few(lab, origins):  # noqa: F811
    """The worker of n1 has few; its limit comes from weftd, and counts from the next one on."""
    before, weftd = worker(lab), lab.supervisor("n1")
    limit = MORE + max(len(os.listdir(f"/proc/{pid}/fd")) for pid in (before, weftd))
    resource.prlimit(weftd, resource.RLIMIT_NOFILE, (limit, limit))
    os.kill(before, signal.SIGKILL)
    labrun.wait_for(lambda: worker(lab) not in (before, None), 20, "the next worker")
    for place in ("near", "far"):
        routed.until_answered(lab, VIP, f"/{place}/h1")


def newcomer(lab):
    """A connection more of that pod; None: not now."""
    c = None
    with contextlib.suppress(Cut, OSError):
        c = client(lab, "client", (VIP, 80))
        if c.ask("GET", "/far/h1/x").status == 200:
            return c
    if c:
        c.close()
    return None


def without_end(lab, where):
    """More connections of one pod than there is room for."""
    sockets = lab.sockets("client", 2 * MORE)
    for s in sockets:
        s.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            s.connect((VIP, 80))
    labrun.wait_for(lambda: "and who asks holds most" in lab.log("n1")[where:], 20, "the end of its share")
    return sockets


def test_connections_without_end(lab, few, origins):  # noqa: F811
    pid, where, go_on = worker(lab), len(lab.log("n1")), threading.Event()
    origins["near", "h1"].on["/near/h1/held"] = lambda x: go_on.wait(60) and x.respond(200)
    known = [client(lab, "client", (VIP, 80)) for _ in range(40)]
    for c in known:
        assert c.ask("GET", "/near/h1/x").status == 200
    waiting = without_end(lab, where)
    held = [c.begin("GET", "/near/h1/held") for c in known[10:]]  # each by a socket that weftd is asked for
    for n in range(20):
        for c in known[:10]:
            assert c.ask("GET", f"/far/h1/{n}").status in (200, 503)
    go_on.set()
    assert {x.answer().status for x in held} <= {200, 503}
    assert worker(lab) == pid, lab.log("n1")[where:]
    for s in waiting:
        s.close()
    more = [labrun.wait_for(lambda: newcomer(lab), 20, "room for one more") for _ in range(40)]
    for c in known:
        labrun.wait_for(lambda c=c: c.ask("GET", "/far/h1/x").status == 200, 20, "room for its request")
        c.close()
    for c in more:
        c.close()
    assert worker(lab) == pid, lab.log("n1")[where:]


def test_others_find_room(lab, few, origins):  # noqa: F811
    """One pod opens connections without end: others, of this node and of another one, find room for each of theirs."""
    pid, where, kept = worker(lab), len(lab.log("n1")), []
    waiting = without_end(lab, where)
    near = (lab.ip("near"), routed.PORTS["h1"])
    for n in range(10):
        for who, to, path in (("other", (VIP, 80), "/near/h1"), ("other", (VIP, 80), "/far/h1"), ("far2", near, "")):
            c = client(lab, who, to)
            assert c.ask("GET", f"{path}/{n}").status == 200
            kept.append(c)
    for c in kept:
        assert c.ask("GET", "/near/h1/x").status == 200
    assert worker(lab) == pid, lab.log("n1")[where:]
    for s in [*waiting, *kept]:
        s.close()
