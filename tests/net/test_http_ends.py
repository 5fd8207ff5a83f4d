# SPDX-License-Identifier: Apache-2.0
"""
How requests end that do not end by themselves: with a worker that drains, with a reader who takes nothing, with an
origin that dies behind its head. Nobody gets an empty answer, or half of one that looks like all of it.
"""

import collections
import contextlib
import itertools
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
from http_peers import MIB, Cut, Held, client
from routed import origins, origins_are_content  # noqa: F401

LAB = routed.LAB
VIP, SHORT = "10.96.16.1", "10.96.16.2"
VERSIONS = ("h1", "h2")


def routes(name):
    return routed.route(name, name, [routed.rule(routed.backend(place, version), path=f"/{place}/{version}")
                                     for place in ("near", "far") for version in VERSIONS])


MANIFESTS = {"web.json": routed.listed(
    *routed.of_pods(), routed.service("web", VIP, [("http", 80, 8081, None)], "near"), routes("web"),
    routed.service("short", SHORT, [("http", 80, 8081, None)], "near", **{"weft.io/stall-timeout": "1s"}),
    routes("short"))}


@pytest.fixture(scope="module")
def ready(lab, origins):  # noqa: F811
    for vip in (VIP, SHORT):
        for place in ("near", "far"):
            for version in VERSIONS:
                routed.until_answered(lab, vip, f"/{place}/{version}")


def log_has(lab, *words, node="n1"):
    labrun.wait_for(lambda: any(all(w in line for w in words) for line in lab.log(node).splitlines()), 20,
                    f"a line with {words}")


# ------------------------------------------------------------------ an origin that dies


HEADS = {"length": "Content-Length: 10\r\n\r\n", "chunked": "Transfer-Encoding: chunked\r\n\r\n"}


@pytest.mark.parametrize("ends", ["fin", "reset"])
@pytest.mark.parametrize("framing", HEADS)
@pytest.mark.parametrize("place", ["near", "far"])
@pytest.mark.parametrize("version", VERSIONS)
def test_an_origin_that_dies_behind_its_head(lab, ready, origins, version, place, framing, ends):  # noqa: F811
    """The client has the head, or weft's own 502, and never an empty answer."""

    def answer(x):
        x.rest()
        x.c.send("HTTP/1.1 200 OK\r\n" + HEADS[framing])
        if ends == "reset":
            http_peers.abort(x.c.sock)
        else:
            x.c.close()

    path = f"/{place}/h1/dies"
    origins[place, "h1"].on[path] = answer
    for _ in range(20):
        with client(lab, "client", (VIP, 80), version) as c:
            x = c.begin("GET", path)
            if version == "h1" or ends == "fin":
                status = x.head().status
            else:
                try:
                    status = x.head().status
                except Cut:
                    continue  # a stream that is reset need not tell what came before
            if status == 200:
                with pytest.raises(Cut):
                    x.rest()
            else:
                assert status == 502 and ends == "reset", status
                assert x.rest().startswith(b"weft: ")


# ------------------------------------------------------------------ a worker that drains


def worker(lab, node):
    found = []
    for pid in labrun.pids(lab.daemon_cgroup(node)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            if pathlib.Path("/proc", pid, "comm").read_text().startswith("weft-worker"):
                found.append(int(pid))
    return found


class Polite:
    """
    A client as HTTP wants it: it goes when it is told to (Connection: close, GOAWAY), and asks again by itself where
    the server has certainly not acted: it was not connected yet, or the request was refused by GOAWAY. What it may only
    guess at (an old connection of HTTP/1 that ends without a byte of the answer) is counted apart, in `raced`.
    """

    def __init__(self, lab, vip, path, version):
        self.lab, self.vip, self.path, self.version = lab, vip, path, version
        self.answers, self.told, self.lost, self.raced = 0, 0, [], 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        c, used, n = None, 0, 0
        while not self.over.is_set():
            if c is None:
                try:
                    c, used = client(self.lab, "client", (self.vip, 80), self.version), 0
                except OSError:
                    time.sleep(0.01)  # nobody listens: nothing was said
                    continue
            n += 1
            x = None
            try:
                x = c.begin("POST" if n % 2 else "GET", f"{self.path}/{n}", body=b"%d" % n if n % 2 else b"")
                m = x.answer()
                assert m.status == 200 and m.seen["path"] == f"{self.path}/{n}", (m.status, m.body[:200])
                self.answers, used = self.answers + 1, used + 1
                goes = "close" in m.get("connection", "") or self.version == "h2" and c.goaway
                self.told += bool(goes)
            except (Cut, AssertionError, OSError) as error:
                goes = True
                self.told += bool(self.version == "h2" and c.goaway)
                if self.version == "h2" and x and x.error == http_peers.REFUSED_STREAM:
                    pass
                elif self.version == "h2" and not x and c.goaway:
                    pass  # it was not sent any more
                elif self.version == "h1" and used and not (x and x.came):
                    self.raced += 1
                else:
                    self.lost.append((self.version, self.path, n, used, repr(error)[:200]))
            if self.version == "h2" and x:
                c.streams.pop(x.number, None)
            if goes:
                c.close()
                c = None
        if c:
            c.close()

    def more(self, count):
        until = self.answers + count
        labrun.wait_for(lambda: self.answers >= until, 60, f"answers of {self.path}; lost {self.lost[:3]}")


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_a_worker_that_drains_loses_no_request(lab, ready, origins, node):  # noqa: F811
    """
    SIGTERM to the clients' worker, and to the one at the other end of the tunnel: who is told to go goes, and what is
    under way, a long answer too, is done before it ends.
    """
    held = Held()
    origins["far", "h1"].on["/far/h1/long"] = held
    all_of_them = [Polite(lab, VIP, f"/{place}/{spoken}", version)
                   for place in ("near", "far") for spoken in VERSIONS for version in VERSIONS]
    try:
        for p in all_of_them:
            p.more(20)
        before = worker(lab, node)
        assert len(before) == 1
        with client(lab, "client", (VIP, 80), "h1") as c:
            x = c.begin("GET", "/far/h1/long")
            o = held.next()
            o.start(200)
            o.write(b"first")
            assert x.read() == b"first"
            os.kill(before[0], signal.SIGTERM)
            time.sleep(0.5)  # it drains
            o.write(b"second")
            assert x.read() == b"second"
            o.end()
            o.released.set()
            assert x.rest() == b""
        labrun.wait_for(lambda: worker(lab, node) not in (before, []), 20, "the next worker")
        for p in all_of_them:
            p.more(20)
    finally:
        for p in all_of_them:
            p.over.set()
        for p in all_of_them:
            p.thread.join(60)
    assert not [lost for p in all_of_them for lost in p.lost]
    assert sum(p.raced for p in all_of_them) <= 1, collections.Counter(p.path for p in all_of_them if p.raced)
    if node == "n1":
        assert all(p.told for p in all_of_them), [(p.path, p.version) for p in all_of_them if not p.told]


def test_an_idle_client_of_a_worker_that_drains(lab, ready):
    """It is told in order: FIN, GOAWAY; never by a reset."""
    with client(lab, "client", (VIP, 80), "h1") as one, client(lab, "client", (VIP, 80), "h2") as two, \
            client(lab, "client", (VIP, 80), "h1") as late:
        for c in (one, two, late):
            assert c.ask("GET", "/near/h1/x").status == 200
        before = worker(lab, "n1")
        os.kill(before[0], signal.SIGTERM)
        two.until(lambda: two.goaway)
        m = late.ask("GET", "/near/h1/y")
        assert m.status == 200 and m.get("connection") == "close"
        assert one.sock.recv(1) == b"" and late.sock.recv(1) == b""
        two.until(lambda: two.over)
        assert two.over == "closed" and two.goaway.error_code == http_peers.NO_ERROR
    labrun.wait_for(lambda: worker(lab, "n1") not in (before, []), 20, "the next worker")
    routed.until_answered(lab, VIP, "/near/h1")


# ------------------------------------------------------------------ who takes nothing


@pytest.mark.parametrize("spoken", VERSIONS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_client_that_takes_nothing(lab, ready, origins, version, spoken):  # noqa: F811
    """The request ends after the time of the Service, and the origin hears of it; a neighbour goes on."""
    told = threading.Event()

    def answer(x):
        x.start(200)
        try:
            while True:
                x.write(bytes(65536))
        except Cut:
            told.set()
            raise

    path = f"/near/{spoken}/shut-{version}"
    origins["near", spoken].on[path] = answer
    options = {"settings": {http_peers.WINDOW: 0}} if version == "h2" else {}
    with client(lab, "client", (SHORT, 80), version, **options) as c, client(lab, "client", (SHORT, 80), "h1") as other:
        x = c.begin("GET", path)
        while not told.wait(0.1):
            assert other.ask("GET", "/near/h1/other").status == 200
        if version == "h2":
            c.until(lambda: x.error == http_peers.CANCEL)
            assert x.head().status == 200
    log_has(lab, "reason=stalled", path)


@pytest.mark.parametrize("spoken", VERSIONS)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_backend_that_takes_nothing(lab, ready, origins, version, spoken):  # noqa: F811
    held = Held()
    path = f"/far/{spoken}/deaf-{version}"
    origins["far", spoken].on[path] = held
    with client(lab, "client", (SHORT, 80), version) as c:
        x = c.begin("POST", path, body=http_peers.STREAM, length=256 * MIB)
        done = threading.Event()

        def send():
            with contextlib.suppress(Cut, OSError):
                while not done.is_set():
                    x.write(bytes(65536))

        sender = threading.Thread(target=send)
        sender.start()
        try:
            m = x.head()
            assert m.status == 504 and "stalled" in m.get("proxy-status"), m
        finally:
            done.set()
            with contextlib.suppress(OSError):
                c.sock.shutdown(socket.SHUT_RDWR)
            sender.join(60)
            held.next().released.set()


def test_who_is_quiet_stalls_nothing(lab, ready, origins):  # noqa: F811
    """Neither an origin that thinks, nor a stream without a message, though it is far longer than the time."""
    ways = []  # of all versions at once: the client's end, the origin's
    with contextlib.ExitStack() as clients:
        for version, spoken in itertools.product(VERSIONS, VERSIONS):
            held = Held()
            path = f"/near/{spoken}/quiet-{version}"
            origins["near", spoken].on[path] = held
            c = clients.enter_context(client(lab, "client", (SHORT, 80), version))
            ways.append((c.begin("POST", path, body=http_peers.STREAM), held.next()))
        time.sleep(2.5)  # longer than the time of a stall
        for _, o in ways:
            o.start(200)
        for word in (b"one", b"two"):
            time.sleep(2.5)  # the same
            for x, o in ways:
                x.write(word)
                assert o.read() == word
                o.write(word)
                assert x.read() == word
        for x, o in ways:
            x.end()
            assert o.read() == b""
            o.end()
            o.released.set()
            assert x.rest() == b""


def test_a_slow_reader_is_no_stalled_one(lab, ready, origins):  # noqa: F811
    """It takes something in each of those times, for longer than one of them."""
    body = http_peers.pattern(12 * MIB)
    origins["near", "h1"].on["/near/h1/slow"] = lambda x: x.respond(200, body)
    with client(lab, "client", (SHORT, 80), "h1") as c:
        x = c.begin("GET", "/near/h1/slow")
        got = bytearray()
        while len(got) < 8 * MIB:
            got += x.read(MIB)
            time.sleep(0.02)  # slow
        got += x.rest()
    assert bytes(got) == body
