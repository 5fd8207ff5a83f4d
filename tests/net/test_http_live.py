# SPDX-License-Identifier: Apache-2.0
"""
Routes at work: the canary (a tenth of the requests to version 2, and all with x-canary: true), and what requests under
way notice when routes, endpoints and workers change: nothing, but for those whose own end is gone.
"""

import collections
import contextlib
import os
import pathlib
import signal
import socket
import threading
import time

import http_peers
import labrun
import pytest
import routed
from http_peers import Cut, client
from routed import backend, origins, origins_are_content, rule  # noqa: F401

LAB = routed.LAB
PAIRS = {"near": ("near", "near2"), "far": ("far", "far2"), "mixed": ("near", "far2")}
CANARY = {(name, version): f"10.96.15.{n}"
          for n, (name, version) in enumerate(((n, v) for n in PAIRS for v in routed.PORTS), 1)}
LIVE, MANY = "10.96.15.100", "10.96.15.101"


def canary(name, version):
    one, two = PAIRS[name]
    return [rule(backend(two, version), headers=[("x-canary", "true")]),
            rule(backend(one, version, weight=90), backend(two, version, weight=10))]


def many(*pods):
    """A Service with the endpoints that are named, by slices of its own."""
    where = {"near": "10.244.1.11", "near2": "10.244.1.12", "far": "10.244.2.10", "far2": "10.244.2.11"}
    s = routed.service("many", MANY, [("http", 80, 8081, None)])
    s["spec"].pop("selector")
    return [s, {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": "many-1", "namespace": "default",
                             "labels": {"kubernetes.io/service-name": "many"}},
                "endpoints": [{"addresses": [where[p]], "conditions": {"ready": True}} for p in pods],
                "ports": [{"name": "http", "port": 8081, "protocol": "TCP"}]},
            routed.route("many", "many", [{"backendRefs": [{"name": "many", "port": 80}]}])]


def live(who, number=0):
    """A route to one of them; `number` makes it another object."""
    return routed.listed(routed.service("live", LIVE, [("http", 80, 8081, None)], "near"), routed.route(
        "live", "live", [rule(backend(who), path=f"/never/{number}"), rule(backend(who))]))


MANIFESTS = {"pods.json": routed.listed(*routed.of_pods()), "live.json": live("near"),
             "many.json": routed.listed(*many("near", "near2", "far", "far2")), "canary.json": routed.listed(
    *(o for (name, version), vip in CANARY.items() for o in (
        routed.service(f"canary-{name}-{version}", vip, [("http", 80, routed.PORTS[version], None)], "near"),
        routed.route(f"canary-{name}-{version}", f"canary-{name}-{version}", canary(name, version)))))}


@pytest.fixture(scope="module")
def ready(lab, origins):  # noqa: F811
    for vip in (*CANARY.values(), LIVE, MANY):
        routed.until_answered(lab, vip)


# ------------------------------------------------------------------ the canary


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("spoken", routed.PORTS)
@pytest.mark.parametrize("version", routed.PORTS)
def test_the_canary(lab, ready, name, spoken, version):
    one, two = PAIRS[name]
    vip = CANARY[name, spoken]
    with client(lab, "client", (vip, 80), version) as c:
        for n in range(50):
            m = c.ask("GET", f"/{n}", [("X-Canary", "true")])
            assert (m.seen["who"], m.seen["version"]) == (two, spoken)
        for _ in range(10):
            found = collections.Counter(c.ask("GET", f"/{n}").seen["who"] for n in range(500))
            assert set(found) <= {one, two}
            if abs(found[two] / 500 - 0.1) <= 0.05:
                return
    pytest.fail(str(found))


# ------------------------------------------------------------------ under load


class Load:
    """Clients of both versions that ask all the time; each answer is looked at. `may_fail`: what is no loss."""

    def __init__(self, lab, vip, may_fail=lambda m, error: False, count=3, pause=0.0):
        self.lab, self.vip, self.may_fail, self.pause = lab, vip, may_fail, pause
        self.done, self.answers, self.lost, self.forgiven = threading.Event(), collections.Counter(), [], 0
        self.threads = [threading.Thread(target=self.run, args=(v, i)) for v in routed.PORTS for i in range(count)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        labrun.wait_for(lambda: sum(self.answers.values()) > 50, 20, "answers")
        return self

    def __exit__(self, *_):
        self.done.set()
        for t in self.threads:
            t.join(60)
        assert not any(t.is_alive() for t in self.threads), "a client waits for ever"

    def run(self, version, number):
        c, n = None, 0
        while not self.done.wait(self.pause):
            m, n, body = None, n + 1, b"%d-%d" % (number, n)
            try:
                c = c or client(self.lab, "client", (self.vip, 80), version)
                m = c.ask("POST" if n % 2 else "GET", f"/{version}/{number}/{n}", body=body if n % 2 else b"")
                assert m.status == 200 and m.seen["path"] == f"/{version}/{number}/{n}", (m.status, m.body[:200])
                assert m.seen["body"] == (body.decode() if n % 2 else "")
                self.answers[m.seen["who"]] += 1
            except (Cut, AssertionError, OSError) as error:
                if self.may_fail(m, error):
                    self.forgiven += 1
                else:
                    self.lost.append((version, m and m.status, m and m.body[:100], repr(error)[:200]))
                if c:
                    c.close()
                c = None
        if c:
            c.close()

    def more(self, who=None, count=50):
        """Until there are so many answers more, of one or of all."""
        value = (lambda: self.answers[who]) if who else (lambda: sum(self.answers.values()))
        until = value() + count
        labrun.wait_for(lambda: value() >= until, 40, f"answers of {who or 'anybody'}; lost {self.lost[:3]}")


def test_routes_that_change_lose_no_request(lab, ready):
    with Load(lab, LIVE) as load:
        try:
            for n, who in enumerate(("far", "near2", "far2", "near") * 3):
                lab.manifest("live.json", live(who, n))
                load.more(who, 30)
        finally:
            lab.manifest("live.json", live("near"))
            load.more("near", 30)
    assert not load.lost, load.lost[:5]


def test_endpoints_that_are_taken_away_first_lose_no_request(lab, ready):
    """They go from the slice, then they answer what they have, as Kubernetes does it."""
    with Load(lab, MANY) as load:
        for pods in (("near", "near2", "far"), ("far",), ("near2", "far2"), ("near", "near2", "far", "far2")):
            lab.manifest("many.json", routed.listed(*many(*pods)))
            for pod in pods:
                load.more(pod, 10)
    assert not load.lost, load.lost[:5]


def test_an_endpoint_that_dies_costs_only_what_it_had(lab, ready, origins):  # noqa: F811
    """The others serve on; what fails, fails at once as 502 or 503, and not for long. An answer under way is cut."""
    dead = origins["far2", "h1"]
    listener, cuts = dead.listener, []

    def forgiven(m, error):
        if m is None:
            cuts.append(str(error))
        return m.status in (502, 503) if m is not None else "Cut" in repr(error) and len(cuts) <= 3  # one a client

    with Load(lab, MANY, forgiven) as load:
        dead.listener = socket.socket()  # the origin is made anew below
        http_peers.hang_up(listener)
        for c in dead.connections:
            http_peers.abort(c.sock)
        try:
            load.more(None, 400)
            assert not load.lost, load.lost[:5]
            failed = load.forgiven
            load.more(None, 400)
            assert load.forgiven - failed < 60, "requests go on to be lost to it"
        finally:
            origins["far2", "h1"] = http_peers.Origin(lab, "far2", 8081, "h1")
        load.more("far2", 10)
    assert not load.lost, load.lost[:5]


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_worker_that_dies_is_replaced(lab, ready, node):
    """Connections of the moment end, visibly; then all is as before, without anybody doing anything."""

    def workers():
        found = []
        for pid in labrun.pids(lab.daemon_cgroup(node)):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
                if pathlib.Path("/proc", pid, "comm").read_text().startswith("weft-worker"):
                    found.append(int(pid))
        return found

    before = workers()
    assert len(before) == 1
    with Load(lab, LIVE, lambda m, error: True) as load:
        lab.manifest("live.json", live("far"))
        load.more("far", 20)
        os.kill(before[0], signal.SIGKILL)
        labrun.wait_for(lambda: workers() not in (before, []), 10, "the next worker")
        load.more("far", 100)
        at = load.forgiven
        load.more("far", 100)
        assert load.forgiven - at <= 6, "it goes on to fail"
    lab.manifest("live.json", live("near"))
    routed.until_answered(lab, LIVE)


def test_long_answers_outlive_a_change_of_their_route(lab, ready, origins):  # noqa: F811
    held = http_peers.Held()
    origins["near", "h1"].on["/long"] = held
    with client(lab, "client", (LIVE, 80), "h1") as c:
        lab.manifest("live.json", live("near"))
        routed.until_answered(lab, LIVE)
        x = c.begin("GET", "/long")
        o = held.next()
        o.start(200)
        o.write(b"first")
        assert x.read() == b"first"
        lab.manifest("live.json", live("far", 99))
        labrun.wait_for(lambda: asks(lab) == "far", 20, "the other route")
        time.sleep(0.1)  # the threads have let go of the old one
        o.write(b"second")
        assert x.read() == b"second"
        o.end()
        o.released.set()
        assert x.rest() == b""
        assert c.ask("GET", "/next").seen["who"] == "far"
    lab.manifest("live.json", live("near"))


def asks(lab):
    with client(lab, "client", (LIVE, 80), "h1") as c:
        return c.ask("GET", "/").seen["who"]
