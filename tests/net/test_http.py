# SPDX-License-Identifier: Apache-2.0
"""
HTTP through a routed Service, any version to any, same node and another one: what each end says arrives, and nothing
else; bodies, trailers, early answers, ends and cuts, each way.

WEFT_HTTP_DIRECT=1 plays the same against the origins themselves, which shows that it is not the tests that fail.
"""

import contextlib
import hashlib
import itertools
import os
import threading
import time

import http_peers
import labrun
import pytest
import routed
from http_peers import MIB, STREAM, Cut, Held, client, digest_of, pattern
from routed import origins, origins_are_content  # noqa: F401

DIRECT = bool(os.environ.get("WEFT_HTTP_DIRECT"))
WEFT = not DIRECT
LAB = routed.LAB
VIP = "10.96.8.1"
MANIFESTS = {"web.json": routed.listed(
    *routed.of_pods(), routed.service("web", VIP, [("http", 80, 8081, None)], "near"),
    routed.route("web", "web", [routed.rule(routed.backend(place, version), path=f"/{place}/{version}")
                                for place in routed.BACKENDS for version in routed.PORTS]))}
WAYS = [pytest.param(way, id=f"{way[0]}-{way[1]}-{way[2]}") for way in itertools.product(
    ("h1", "h2"), ("h1", "h2"), ("near", "far")) if not DIRECT or way[0] == way[1]]


def through_weft(test):
    """A test of what weft says, where there is none."""
    return None if DIRECT else test


class Way:
    """From the client to one origin: `version` is spoken here, `origin.version` there."""

    numbers = itertools.count()

    def __init__(self, lab, origins, version, spoken, place):
        self.lab, self.version, self.origin = lab, version, origins[place, spoken]
        self.prefix = f"/{place}/{spoken}"
        self.to = (lab.ip(place), routed.PORTS[spoken]) if DIRECT else (VIP, 80)

    def client(self, **options):
        return client(self.lab, "client", self.to, self.version, **options)

    def on(self, handler):
        """A path that `handler` answers."""
        path = f"{self.prefix}/of-{next(self.numbers)}"
        self.origin.on[path] = handler
        return path

    def held(self):
        h = Held()
        return self.on(h), h


@pytest.fixture(scope="module")
def ready(lab, origins):  # noqa: F811
    """Every route is in force, and each origin answers."""
    if not DIRECT:
        for place, version in origins:
            routed.until_answered(lab, VIP, f"/{place}/{version}/ready")


@pytest.fixture(params=WAYS)
def way(request, lab, origins, ready):  # noqa: F811
    return Way(lab, origins, *request.param)


def way_of(**wanted):
    """Parametrises with the ways of which this is so: version=, spoken=, place=."""
    names = ("version", "spoken", "place")
    found = [w for w in WAYS if all(w.values[0][names.index(n)] == v for n, v in wanted.items())]
    return pytest.mark.parametrize("way", found, indirect=True)


# ------------------------------------------------------------------ what arrives


def test_what_is_asked_arrives(way):
    with way.client() as c:
        m = c.ask("GET", f"{way.prefix}/a%20b?q=1&q=2;%C3%A9", [("X-Own", "one"), ("x-two", "a"), ("x-two", "b"),
                                                             ("Cookie", "a=1; b=2"), ("Te", "trailers")])
    seen = m.seen
    assert (seen["who"], seen["version"], seen["method"]) == (way.origin.who, way.origin.version, "GET")
    assert seen["path"] == f"{way.prefix}/a%20b?q=1&q=2;%C3%A9"
    assert (seen["authority"], seen["client"], seen["length"]) == ("web", way.lab.ip("client"), 0)
    fields = [(n.lower(), v) for n, v in seen["fields"]]
    assert ("x-own", "one") in fields
    assert ", ".join(v for n, v in fields if n == "x-two") == "a, b"
    assert "; ".join(v for n, v in fields if n == "cookie") == "a=1; b=2"
    assert m.get("content-type") == "application/json" and m.get("x-who") == way.origin.who
    names = [n for n, _ in fields]
    for hop in ("keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "content-length"):
        assert hop not in names, fields
    assert names.count("host") == (way.origin.version == "h1")
    if not DIRECT:
        assert names.count("x-request-id") == 1


@way_of(version="h1", spoken="h1")
def test_the_case_and_order_of_names_are_kept(way):
    own = [("X-oDD-Case", "1"), ("ACCEPT", "*/*"), ("x-lower", "2"), ("X-oDD-Case", "3")]
    path = way.on(lambda x: x.respond(200, x.message.raw, [("X-wEIRD", "a"), ("ETag", '"x"'), ("X-wEIRD", "b")]))
    with way.client() as c:
        m = c.ask("GET", path, own)
    lines = m.body.decode().split("\r\n")
    assert [n for n in lines if n.partition(":")[0] in {n for n, _ in own}] == [f"{n}: {v}" for n, v in own]
    assert [(n, v) for n, v in m.fields if n in ("X-wEIRD", "ETag")] == [
        ("X-wEIRD", "a"), ("ETag", '"x"'), ("X-wEIRD", "b")]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"])
def test_methods_with_a_body(way, method):
    with way.client() as c:
        seen = c.ask(method, f"{way.prefix}/m", body=b"x" * 1000).seen
    assert (seen["method"], seen["length"]) == (method, 1000)
    assert ["content-length", "1000"] in [[n.lower(), v] for n, v in seen["fields"]]


@pytest.mark.parametrize("size", [0, 1, 16384, 300_001])
def test_a_body_whose_length_is_known(way, size):
    body = pattern(size)
    path = way.on(lambda x: x.respond(200, x.rest()))
    with way.client() as c:
        m = c.ask("POST", path, body=body)
    assert m.body == body and m.get("content-length") == str(size)


@pytest.mark.parametrize("size", [0, 1, 300_001])
def test_a_body_that_ends_by_itself(way, size):
    path = way.on(lambda x: x.respond(200, x.rest(), trailers=[("x-end", "done")]))
    body = pattern(size)
    with way.client() as c:
        x = c.begin("POST", path, body=STREAM)
        for at in range(0, size, 70_000):
            x.write(body[at:at + 70_000])
        x.end()
        m = x.answer()
    assert m.body == body and ("x-end", "done") in m.trailers


def test_trailers_of_both(way):
    def answer(x):
        x.rest()
        got = dict(x.message.trailers)
        x.respond(200, b"body", [("Trailer", "x-sum")], trailers=[("x-sum", got.get("x-in", "none")), ("x-2", "b")])

    path = way.on(answer)
    with way.client() as c:
        x = c.begin("POST", path, [("TE", "trailers"), ("Trailer", "x-in")], body=STREAM)
        x.write(b"hello")
        x.end([("x-in", "17")])
        m = x.answer()
    assert m.body == b"body"
    assert [(n.lower(), v) for n, v in m.trailers] == [("x-sum", "17"), ("x-2", "b")]


@through_weft
def test_nobody_says_in_trailers_who_he_is(way):
    def answer(x):
        x.rest()
        x.respond(200, repr([n.lower() for n, _ in x.message.trailers]).encode())

    path = way.on(answer)
    who = [("x-forwarded-client-cert", "URI=spiffe://a"), ("l5d_client_id", "a")]
    with way.client() as c:
        for trailers, left in ((who[:1] + [("x-in", "17")] + who[1:], b"['x-in']"), (who, b"[]")):
            x = c.begin("POST", path, [("TE", "trailers")], body=STREAM)
            x.write(b"hello")
            x.end(trailers)
            assert x.answer().body == left


@pytest.mark.parametrize("status, body", [(200, True), (204, False), (304, False), (404, True), (500, True)])
def test_statuses(way, status, body):
    path = way.on(lambda x: x.respond(status, b"some" if body else b"", [("etag", '"e"')]))
    with way.client() as c:
        for _ in range(3):  # on one connection: no answer is taken for the rest of another
            m = c.ask("GET", path)
            assert (m.status, m.body, m.get("etag")) == (status, b"some" if body else b"", '"e"')


def test_head_has_the_length_and_no_body(way):
    def answer(x):
        x.start(200, [], length=5000)
        if x.message.method != "HEAD":
            x.write(b"y" * 5000)
        x.end()

    path = way.on(answer)
    with way.client() as c:
        for method, size in (("HEAD", 0), ("GET", 5000), ("HEAD", 0), ("GET", 5000)):
            m = c.ask(method, path)
            assert (m.status, m.get("content-length"), len(m.body)) == (200, "5000", size)


# ------------------------------------------------------------------ in which order


def test_100_continue_is_the_origins_word(way):
    path, held = way.held()
    with way.client() as c:
        c1 = c.begin("POST", path, [("Expect", "100-continue")], body=STREAM, length=4)
        x = held.next()
        assert x.message.get("expect") == "100-continue"
        x.inform(100)
        if way.version == "h1":
            assert c1.read_head().status == 100
        else:
            c.until(lambda: c1.message.informational)
            assert c1.message.informational[0].status == 100
        c1.write(b"body")
        c1.end()
        assert x.rest() == b"body"
        x.respond(200, b"thanks")
        x.released.set()
        assert c1.answer().body == b"thanks"


def test_100_continue_may_be_refused(way):
    path, held = way.held()
    with way.client() as c:
        c1 = c.begin("POST", path, [("Expect", "100-continue")], body=STREAM, length=4)
        x = held.next()
        x.respond(417, b"no")
        x.c.last = True
        m = c1.answer()
        assert (m.status, m.body, m.informational) == (417, b"no", [])
        x.reset() if way.origin.version == "h1" else x.reset(http_peers.NO_ERROR)
        x.released.set()


def test_early_hints_come_before_the_answer(way):
    path, held = way.held()
    with way.client() as c:
        c1 = c.begin("GET", path)
        x = held.next()
        x.inform(103, [("Link", "</a.css>; rel=preload")])
        x.inform(103, [("Link", "</b.css>; rel=preload")])
        if way.version == "h1":
            c1.message.informational = [c1.read_head(), c1.read_head()]
        else:
            c.until(lambda: len(c1.message.informational) == 2)
        x.respond(200, b"page")
        x.released.set()
        m = c1.answer()
    assert [(i.status, i.get("link")) for i in m.informational] == [
        (103, "</a.css>; rel=preload"), (103, "</b.css>; rel=preload")]
    assert (m.status, m.body) == (200, b"page")


def test_the_head_of_an_answer_does_not_wait_for_its_body(way):
    path, held = way.held()
    with way.client() as c:
        c1 = c.begin("GET", path)
        x = held.next()
        x.start(200)
        assert c1.head().status == 200
        for piece in (b"one", b"two"):
            x.write(piece)
            assert c1.read() == piece
        x.end()
        x.released.set()
        assert c1.rest() == b""


@way_of(version="h2", spoken="h2")
@pytest.mark.parametrize("trailers", [[], [("grpc-status", "0")]], ids=["none", "some"])
def test_the_end_of_an_answer_needs_no_window(way, trailers):
    """The body has used up all of it: RFC 9113 section 6.9.1."""
    path, held = way.held()
    with way.client(settings={http_peers.WINDOW: 10}) as c:
        c1 = c.begin("GET", path)
        x = held.next()
        x.start(200)
        x.write(b"0123456789")
        c.until(lambda: sum(len(data) for data, _ in c1.data) == 10)
        x.end(trailers)
        x.released.set()
        c.until(lambda: c1.ended)
        assert (c1.rest(), c1.message.trailers) == (b"0123456789", trailers)


def test_a_request_and_its_answer_flow_at_once(way):
    """Full duplex: each piece is answered before the next is sent."""
    path, held = way.held()
    with way.client() as c:
        c1 = c.begin("POST", path, body=STREAM)
        x = held.next()
        x.start(200)
        c1.head()
        for n in range(20):
            c1.write(b"ping %d" % n)
            assert x.read() == b"ping %d" % n
            x.write(b"pong %d" % n)
            assert c1.read() == b"pong %d" % n
        c1.end()
        assert x.rest() == b""
        x.end()
        x.released.set()
        assert c1.rest() == b""


def test_an_answer_while_the_request_still_flows(way):
    """413 at the head of a body of which the origin reads nothing: the client has the whole answer, and no more."""
    path, held = way.held()
    with way.client() as c:
        c1 = c.begin("POST", path, body=STREAM, length=64 * MIB)
        x = held.next()
        x.respond(413, b"too much")
        if way.origin.version == "h2":
            x.reset(http_peers.NO_ERROR)
        m = c1.answer()
        assert (m.status, m.body) == (413, b"too much")
        x.c.close()
        x.released.set()
        with contextlib.suppress(Cut):  # it may be told so at any byte, but is not kept for ever
            for _ in range(16):
                c1.write(bytes(65536))
    with way.client() as c:
        assert c.ask("GET", way.prefix).status == 200


def test_bodies_both_ways_at_once(way):
    size = 16 * MIB
    body, back = pattern(size, 1), pattern(size, 2)
    got = {}

    def answer(x):
        reader = threading.Thread(target=lambda: got.update(origin=digest_of(x)))
        reader.start()
        x.start(200, [], length=size)
        x.write(back)
        x.end()
        reader.join()

    path = way.on(answer)
    with way.client() as c:
        c1 = c.begin("POST", path, body=STREAM, length=size)
        writer = threading.Thread(target=lambda: (c1.write(body), c1.end()))
        writer.start()
        got["client"] = digest_of(c1)
        writer.join(60)
        labrun.wait_for(lambda: "origin" in got, 30, "the end of the request at the origin")
    assert got["client"] == (size, hashlib.sha256(back).hexdigest())
    assert got["origin"] == (size, hashlib.sha256(body).hexdigest())


def test_a_slow_reader_stops_its_writer(way):
    """Of an answer that nobody reads little is taken from the origin; then it comes, whole."""
    size, sent = 64 * MIB, [0]
    piece = pattern(65536)

    def answer(x):
        x.start(200, [], length=size)
        while sent[0] < size:
            x.write(piece)
            sent[0] += len(piece)
        x.end()

    path = way.on(answer)
    before = {} if DIRECT else way.lab.daemon_pss()
    with way.client() as c:
        c1 = c.begin("GET", path)
        c1.head()
        still, last = 0, -1
        until = time.monotonic() + 60
        while still < 10:  # for half a second nothing more is taken
            still = still + 1 if sent[0] == last else 0
            last = sent[0]
            assert time.monotonic() < until and (way.version == "h2" or last < size), "nothing stops the origin"
            if way.version == "h2" and last == size:
                break
            time.sleep(0.05)  # between two looks
        for node, pss in before.items():
            assert way.lab.daemon_pss()[node] - pss < labrun.meant(8 * MIB), (node, last)
        assert digest_of(c1)[0] == size


# ------------------------------------------------------------------ ends and cuts


def test_a_client_that_goes_is_heard_of(way):
    path, held = way.held()
    c = way.client()
    c1 = c.begin("POST", path, body=STREAM)
    c1.write(b"part")
    x = held.next()
    assert x.read() == b"part"
    c1.reset()
    with pytest.raises(Cut):
        x.rest()
    x.released.set()
    c.close()


@pytest.mark.parametrize("length", [1000, None], ids=["length", "stream"])
def test_an_upload_that_is_cut_is_not_an_upload(way, length):
    """An end of the connection, not a reset, in the middle of a body."""
    path, held = way.held()
    c = way.client()
    c1 = c.begin("POST", path, body=STREAM, length=length)
    c1.write(b"x" * 500)
    x = held.next()
    got = x.read()
    c.close()
    with pytest.raises(Cut):
        while True:
            more = x.read()
            assert more, "the origin was told that this is all"
            got += more
    assert len(got) == 500
    x.released.set()


@pytest.mark.parametrize("length", [1000, None], ids=["length", "stream"])
def test_an_answer_that_is_cut_is_not_an_answer(way, length):
    path, held = way.held()
    with way.client() as c:
        c1 = c.begin("GET", path)
        x = held.next()
        x.start(200, [], length=length)
        x.write(b"x" * 500)
        assert c1.read() == b"x" * 500
        if way.origin.version == "h1":
            x.c.close()
        else:
            x.reset(http_peers.INTERNAL_ERROR)
        x.released.set()
        with pytest.raises(Cut):
            c1.rest()
    with way.client() as c:
        assert c.ask("GET", way.prefix).status == 200


@pytest.mark.parametrize("body", [b"x", b""])
@pytest.mark.parametrize("how", ["reset", "close"])
@through_weft
def test_no_answer_at_all_is_502(way, how, body):
    path, held = way.held()
    with way.client() as c:
        c1 = c.begin("POST", path, body=body)
        x = held.next()
        x.reset() if how == "reset" else x.c.close()
        x.released.set()
        if way.version == way.origin.version == "h2":
            with contextlib.suppress(Cut):  # a reset of the stream is passed on as one
                assert c1.answer().status == 502
        else:
            assert c1.answer().status == 502
        assert len([m for m in way.origin.requests if m.path == path]) == 1, "asked again, which was not its to do"


@way_of(version="h2")
def test_one_stream_of_many_is_cut(way):
    path, held = way.held()
    with way.client() as c:
        streams = [c.begin("POST", path, [("n", str(n))], body=STREAM) for n in range(10)]
        ends = {x.message.get("n"): x for x in (held.next() for _ in range(10))}
        streams[3].reset()
        with pytest.raises(Cut):
            ends["3"].rest()
        for n, x in ends.items():
            if n != "3":
                streams[int(n)].end()
                x.rest()
                x.respond(200, n)
                assert streams[int(n)].answer().body.decode() == n
            x.released.set()


# ------------------------------------------------------------------ connections


def test_many_requests_on_one_connection(way):
    before = len(way.origin.connections)
    with way.client() as c:
        numbers = {c.ask("GET", f"{way.prefix}/{n}").seen["connection"] for n in range(200)}
    assert len(numbers) <= 2 and len(way.origin.connections) - before <= 2, numbers


@way_of(version="h1")
def test_pipelining(way):
    with way.client() as c:
        c.send("".join(f"GET {way.prefix}/{n} HTTP/1.1\r\nHost: web\r\n\r\n" for n in range(100)))
        assert [c.expect().answer().seen["path"] for _ in range(100)] == [f"{way.prefix}/{n}" for n in range(100)]


@way_of(version="h1")
def test_a_pipelined_body_is_not_a_request(way):
    inner = f"GET {way.prefix}/inner HTTP/1.1\r\nHost: web\r\n\r\n"
    with way.client() as c:
        c.send(f"POST {way.prefix}/outer HTTP/1.1\r\nHost: web\r\nContent-Length: {len(inner)}\r\n\r\n{inner}"
               f"GET {way.prefix}/next HTTP/1.1\r\nHost: web\r\n\r\n")
        assert c.expect("POST").answer().seen["body"] == inner
        assert c.expect().answer().seen["path"] == f"{way.prefix}/next"


@way_of(version="h1")
def test_http_1_0(way):
    def answer(x):
        if not DIRECT:
            x.inform(103)
        x.start(200)
        x.write(b"a")
        x.write(b"b")
        x.end()

    path = way.on(answer)
    with way.client() as c:
        c.send(f"GET {path} HTTP/1.0\r\nHost: web\r\n\r\n")
        m = c.expect().answer()
        assert not m.informational  # 1.0 knows of none
        assert m.body == b"ab" and m.get("transfer-encoding") is None
        assert c.closed()
    with way.client() as c:
        c.send(f"GET {way.prefix}/x HTTP/1.0\r\n\r\n")  # no Host: 1.0 need not
        assert c.expect().answer().status == 200
        assert c.closed()


@way_of(version="h1")
def test_connection_close(way):
    with way.client() as c:
        m = c.ask("GET", f"{way.prefix}/x", [("Connection", "close, X-Hop"), ("X-Hop", "1")])
        assert "close" in m.get("connection", "").lower()
        if not DIRECT:
            assert "x-hop" not in [n.lower() for n, _ in m.seen["fields"]]
        assert c.closed()


@way_of(spoken="h1")
def test_the_origin_may_close_after_each_answer(way):
    def answer(x):
        x.rest()
        x.respond(200, b"bye", [("Connection", "close")])
        x.c.last = True

    path = way.on(answer)
    with way.client() as c:
        for _ in range(1 if DIRECT else 20):
            assert c.ask("GET", path).body == b"bye"


@way_of(spoken="h1")
def test_an_answer_that_ends_with_its_connection(way):
    def answer(x):
        x.rest()
        x.c.send("HTTP/1.0 200 OK\r\nX-Old: yes\r\n\r\nall of it")
        x.c.last = True

    path = way.on(answer)
    with way.client() as c:
        m = c.ask("GET", path)
        assert (m.body, m.get("x-old")) == (b"all of it", "yes")


@way_of(version="h1", spoken="h1")
def test_upgrade(way):
    """A switch of protocols, and bytes both ways after it."""

    def answer(x):
        assert (x.message.method, x.message.get("upgrade")) == ("GET", "websocket")
        x.start(101, [("Upgrade", "websocket"), ("Connection", "Upgrade")])
        http_peers.say_capitals(x)

    path = way.on(answer)
    with way.client() as c:
        x = c.begin("GET", path, [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
                                  ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")])
        m = x.head()
        assert (m.status, m.get("upgrade")) == (101, "websocket")
        http_peers.hear_capitals(x, b"one", b"two", b"three" * 10000)


@through_weft
def test_an_origin_that_is_not_there(way):
    """A Service whose pod has no listener."""
    vip = "10.96.8.9"
    place = way.prefix.split("/")[1]
    try:
        way.lab.manifest("gone.json", routed.listed(
            routed.service("gone", vip, [("http", 80, 8083, None)], place),
            routed.route("gone", "gone", [routed.rule({"name": "gone", "port": 80}, path="/")])))
        routed.until_answered(way.lab, vip, status=503, version=way.version)
    finally:
        (way.lab.manifests / "gone.json").unlink()
