# SPDX-License-Identifier: Apache-2.0
"""
What has brought other proxies down, one row each: the attacked connection ends or is answered as the row says, the
daemon's memory stays bounded, and a bystander's requests go on meanwhile. Odd heads and bodies of HTTP/1, and origins
that misbehave, have tables of their own.
"""

import concurrent.futures
import contextlib
import random
import re
import socket
import threading
import time

import hpack
import http_peers
import labrun
import pytest
import routed
from bystander import beside
from hyperframe import frame as frames
from http_peers import MIB, STREAM, Cut, Held, client
from routed import origins, origins_are_content  # noqa: F401

SPLICE = ("splice",)
LAB = routed.LAB
VIP, BYSTANDER = "10.96.8.1", "10.96.8.2"
REGEX = {"matches": [{"path": {"type": "RegularExpression", "value": "/regex/(a+)+b"}}],
         "backendRefs": [routed.backend("near")]}
MANIFESTS = {"web.json": routed.listed(
    *routed.of_pods(), routed.service("web", VIP, [("http", 80, 8081, None)], "near"),
    routed.service("bystander", BYSTANDER, [("http", 80, 8081, None)], "near2"),
    routed.route("bystander", "bystander", [routed.rule(routed.backend("near2"))]),
    routed.route("web", "web", [REGEX] + [routed.rule(routed.backend(place, version), path=f"/{place}/{version}")
                                          for place in ("near", "far") for version in routed.PORTS]))}
CALM, COMPRESSION = http_peers.CALM, 9
HEAD = [(":method", "GET"), (":scheme", "http"), (":path", "/near/h1/x"), (":authority", "web")]


@pytest.fixture(scope="module")
def ready(lab, origins):  # noqa: F811
    routed.until_answered(lab, BYSTANDER)
    for version in routed.PORTS:
        for place in ("near", "far"):
            routed.until_answered(lab, VIP, f"/{place}/{version}")


class Attack:
    def __init__(self, lab, origins):  # noqa: F811
        self.lab, self.origins = lab, origins

    def client(self, version="h2", **options):
        return client(self.lab, "client", (VIP, 80), version, **options)

    def on(self, path, handler):
        _, place, version, _ = path.split("/", 3)
        self.origins[place, version].on[path] = handler
        return path

    def asked(self, place="near", version="h1"):
        return len(self.origins[place, version].requests)


@pytest.fixture
def attack(lab, ready, origins, request):  # noqa: F811
    with beside(lab, BYSTANDER, getattr(request.function, "bound", 8)):
        yield Attack(lab, origins)


def memory(mib):
    """How much more the daemons of both nodes may have meanwhile."""

    def mark(f):
        f.bound = mib
        return f

    return mark


def ends(c, *codes, seconds=30):
    """The connection is ended by the other side: by GOAWAY with one of these codes, if it is said."""
    c.until(lambda: c.over or c.goaway, seconds)
    if c.goaway:
        assert not codes or c.goaway.error_code in codes, c.goaway.error_code
        with contextlib.suppress(Cut):
            c.until(lambda: c.over, 5)


def flood(c, pieces):
    """Sends them until all are sent, or the connection is over, or nothing more is taken for ten seconds."""
    c.sock.settimeout(10)
    sent = 0
    with contextlib.suppress(OSError, Cut):
        for piece in pieces:
            c.sock.sendall(piece)
            sent += 1
            if c.goaway or c.over:
                break
    return sent


def block(c, fields):
    return c.encoder.encode(fields)


def open_stream(c, number, fields=HEAD, end=True):
    return frames.HeadersFrame(number, block(c, fields), flags=["END_HEADERS"] + (["END_STREAM"] if end else []))


# ------------------------------------------------------------------ HTTP/2: frames


def test_01_rapid_reset(attack):
    before = attack.asked()
    with attack.client() as c:
        rst = (lambda n: frames.RstStreamFrame(n, error_code=8).serialize())
        flood(c, (b"".join(open_stream(c, n).serialize() + rst(n) for n in range(at, at + 200, 2))
                  for at in range(1, 40001, 200)))
        ends(c, CALM)
    assert attack.asked() - before < 4000


@pytest.mark.parametrize("what", ["window", "length", "priority"])
def test_02_made_you_reset(attack, what):
    """Resets of streams that the client provokes count as its own."""
    before = attack.asked()

    def provoke(c, n):
        if what == "length":  # a body that is longer than it says
            return open_stream(c, n, [*fields_but(method="POST"), ("content-length", "1")], end=False).serialize() + \
                frames.DataFrame(n, b"xx").serialize()
        if what == "priority":
            return open_stream(c, n).serialize() + b"\0\0\1\x02\0" + n.to_bytes(4, "big") + b"\0"  # of another size
        return open_stream(c, n).serialize() + frames.WindowUpdateFrame(n, window_increment=2**31 - 1).serialize()

    with attack.client() as c:
        c.until(lambda: c.settings)
        c.sock.sendall(provoke(c, 1))
        c.until(lambda: c.received["RstStreamFrame"] or c.goaway)  # of many at once the resets may not leave any more
        flood(c, (b"".join(provoke(c, n) for n in range(at, at + 200, 2)) for at in range(3, 40003, 200)))
        ends(c, CALM, *([6] if what == "priority" else []))  # or at once: FRAME_SIZE_ERROR
    assert attack.asked() - before < 4000


@pytest.mark.parametrize("crumbs", [False, True], ids=["indexed", "cookies"])
def test_03_and_11_hpack_bombs(attack, crumbs):
    """A byte of HPACK that stands for much, thousands of times on each of a hundred streams, window 0."""
    before = attack.asked()
    with attack.client(settings={http_peers.WINDOW: 0}) as c:
        c.until(lambda: c.settings)
        head = c.encoder.encode([hpack.NeverIndexedHeaderTuple(*f) for f in HEAD])  # the table is the bomb's alone
        field = b"\x40\x01x\x7f" + bytes([0x80 | (4000 - 127) & 0x7f, (4000 - 127) >> 7]) + b"v" * 4000  # indexed
        bomb = (field + b"\xbe" * 4000) if not crumbs else b"\x60\x02a=" + b"\xbe" * 4000
        sent = [http_peers.Exchange2(c, n, 0) for n in range(1, 201, 2)]
        c.streams.update({x.number: x for x in sent})
        for x in sent:
            if not flood(c, [frames.HeadersFrame(x.number, head + bomb, flags=["END_STREAM", "END_HEADERS"])
                             .serialize()]):
                break
        c.sock.settimeout(None)
        for x in sent:
            c.until(lambda x=x: x.came or x.error is not None or c.goaway or c.over)
            assert not x.came or x.message.status == 431, x.message
        if c.goaway:  # who is cut while he sends may not come to read it
            assert c.goaway.error_code == CALM
        assert sent[0].came or sent[0].error is not None or c.goaway or c.over, "it was no bomb"
    assert attack.asked() == before


def test_04_continuation_flood(attack):
    with attack.client() as c:
        first = frames.HeadersFrame(1, block(c, HEAD)).serialize()
        piece = frames.ContinuationFrame(1, b"\x00\x01x\x7f\x81\x06" + b"v" * 896).serialize()
        sent = flood(c, [first] + [piece] * 50000)
        ends(c)
        assert sent < 50000


@pytest.mark.parametrize("what", ["ping", "settings", "settings ack"])
def test_05_control_frames_nobody_reads_the_answers_of(attack, what):
    piece = {"ping": frames.PingFrame(0, opaque_data=b"12345678"),
             "settings": frames.SettingsFrame(0, settings={3: 10}),
             "settings ack": frames.SettingsFrame(0, flags=["ACK"])}[what].serialize() * 1000
    with attack.client(reads=False) as c:
        # far more than the kernel holds of them while the worker waits for a CPU
        assert flood(c, [piece] * 20000) < 20000, "twenty million frames of no use were taken"
        time.sleep(0.2)  # what it holds comes to be seen


@pytest.mark.parametrize("what", ["data", "continuation", "headers"])
def test_06_empty_frames(attack, what):
    with attack.client() as c:
        if what == "data":
            c.send(open_stream(c, 1, [(":method", "POST"), *HEAD[1:]], end=False))
            piece = frames.DataFrame(1, b"").serialize()
        elif what == "continuation":
            c.send(frames.HeadersFrame(1, block(c, HEAD)).serialize())
            piece = frames.ContinuationFrame(1, b"").serialize()
        else:
            c.send(open_stream(c, 1, [(":method", "POST"), *HEAD[1:]], end=False))
            piece = frames.HeadersFrame(1, b"", flags=["END_HEADERS"]).serialize()
        flood(c, [piece * 100] * 1000)
        ends(c) if what != "headers" else c.until(lambda: c.over or c.goaway or c.received["RstStreamFrame"])


@pytest.mark.parametrize("what", ["priority", "unknown", "origin"])
def test_07_frames_without_use(attack, what):
    piece = {"priority": frames.PriorityFrame(1, depends_on=3, stream_weight=16).serialize(),
             "unknown": b"\0\0\4\xee\0\0\0\0\0abcd", "origin": b"\0\0\4\x0c\0\0\0\0\0\0\2ab"}[what] * 1000
    with attack.client() as c:
        sent = flood(c, [piece] * 2000)
        ends(c)
        assert sent < 2000


def test_08_dribbled_data(attack):
    """A body of one-byte frames, each with as much padding as there may be, and windows opened by one."""
    with attack.client() as c:
        c.until(lambda: c.settings)
        x = c.begin("POST", "/near/h1/dribble", body=STREAM)
        piece = frames.DataFrame(x.number, b"x", pad_length=0, flags=["PADDED"]).serialize()
        grow = frames.WindowUpdateFrame(0, window_increment=1).serialize()
        for _ in range(200):
            if c.over or c.goaway or flood(c, [(piece + grow) * 20]) == 0:
                break
        c.sock.settimeout(None)
        if not c.over and not c.goaway and x.error is None:
            x.end()
            assert x.answer().seen["length"] == 4000


@memory(24)
def test_08_and_09_tiny_windows(attack):
    """Fifty answers of 1 MiB for a client whose windows are 1, then 0, then wide."""
    path = attack.on("/far/h1/big", lambda x: x.respond(200, http_peers.pattern(MIB)))
    with attack.client(settings={http_peers.WINDOW: 1}) as c:
        asked = [c.begin("GET", path) for _ in range(50)]
        for x in asked:
            assert x.head().status == 200
        c.send(frames.SettingsFrame(0, settings={http_peers.WINDOW: 0}))
        c.send(frames.SettingsFrame(0, settings={http_peers.WINDOW: 2 * MIB}))
        for x in asked[:5]:
            assert x.answer().body == http_peers.pattern(MIB)


def test_09_table_sizes_in_turn(attack):
    with attack.client() as c:
        for n in range(200):
            c.send(frames.SettingsFrame(0, settings={1: (0, 4096, 100, 65536)[n % 4]}))
            if not n % 20:
                assert c.ask("GET", "/near/h1/table", [("x-n", str(n))]).status == 200


@pytest.mark.parametrize("window", [2**31, 2**32 - 1])
def test_09_a_window_that_is_too_large(attack, window):
    with attack.client() as c:
        c.send(b"\0\0\6\4\0\0\0\0\0\0\4" + window.to_bytes(4, "big"))
        ends(c, 3)


@pytest.mark.parametrize("bytes_", [b"\x80", b"\xff\xff\xff\xff\xff\x0f", b"\xc0", b"\x00\x01x\x81\x00",
                                    b"\x00\x81\xff\x01y", b"\x3f\xff\xff\xff\x0f", b"\x00\x01x\x85\xff\xff\xff\xff\xfc",
                                    b"\x00\x7f\xff\xff\xff\xff\xff\x0f", b"\x7f\x07\x00"],
                         ids=["index 0", "index overflow", "index beyond", "bad padding", "name padding",
                              "table too large", "EOS", "length overflow", "name beyond"])
def test_10_bad_hpack(attack, bytes_):
    before = attack.asked()
    with attack.client() as c:
        c.send(frames.HeadersFrame(1, block(c, HEAD) + bytes_, flags=["END_HEADERS", "END_STREAM"]))
        ends(c, COMPRESSION)
    assert attack.asked() == before


# ------------------------------------------------------------------ HTTP/2: messages


def fields_but(**other):
    return [(n, other.get(n[1:], v)) for n, v in HEAD if other.get(n[1:], v) is not None]


WRONG = {
    "no method": fields_but(method=None), "no path": fields_but(path=None), "no scheme": fields_but(scheme=None),
    "empty path": fields_but(path=""), "path without slash": fields_but(path="near/h1"),
    "two methods": [*HEAD, (":method", "GET")], "two paths": [*HEAD, (":path", "/near/h1/y")],
    "unknown pseudo": [*HEAD, (":x", "y")], "status": [*HEAD, (":status", "200")],
    "pseudo after regular": [("x", "y"), *HEAD], "upper case": [*HEAD, ("X-Upper", "y")],
    "empty name": [*HEAD, ("", "y")], "name with blank": [*HEAD, ("x y", "z")],
    "name with colon": [*HEAD, ("x:y", "z")],
    "name with CR LF": [*HEAD, ("x\r\ny", "z")], "name with LF": [*HEAD, ("x\ny", "z")],
    "name with NUL": [*HEAD, ("x\0", "z")], "value with CR LF": [*HEAD, ("x", "a\r\nSmuggled: b")],
    "value with LF": [*HEAD, ("x", "a\nb")], "value with NUL": [*HEAD, ("x", "a\0b")],
    "value begins with blank": [*HEAD, ("x", " a")], "connection": [*HEAD, ("connection", "close")],
    "keep-alive": [*HEAD, ("keep-alive", "x")], "proxy-connection": [*HEAD, ("proxy-connection", "x")],
    "transfer-encoding": [*HEAD, ("transfer-encoding", "chunked")], "upgrade": [*HEAD, ("upgrade", "h2c")],
    "te gzip": [*HEAD, ("te", "gzip")], "length of a request without body": [*HEAD, ("content-length", "5")],
    "length twice": [*HEAD, ("content-length", "0"), ("content-length", "1")],
    "length junk": [*HEAD, ("content-length", "+0")], "host is another": [*HEAD, ("host", "other")],
    "two hosts": [*fields_but(authority=None), ("host", "a"), ("host", "b")],
    "path with blank": fields_but(path="/near/h1/a b"), "path with CR LF": fields_but(path="/near/h1/a\r\nX: y"),
    "path with fragment": fields_but(path="/near/h1/a#b"), "method with blank": fields_but(method="GET /near/h1/y"),
    "method with CR LF": fields_but(method="GET\r\nX: y"), "authority with user": fields_but(authority="u@web"),
    "authority with slash": fields_but(authority="web/x"), "authority with CR LF": fields_but(authority="web\r\nX: y"),
    "scheme with junk": fields_but(scheme="ht tp"), "connect with path": fields_but(method="CONNECT"),
    "protocol without setting": [*HEAD, (":protocol", "websocket")],
    **{f"protocol {p!r}": [*fields_but(method="CONNECT"), (":protocol", p)] for p in (
        "h2c", "HTTP/2.0", "TLS/1.2", "websocket, h2c", "web socket", "websocket\t", "")},
}


@pytest.mark.parametrize("what", WRONG)
def test_12_and_13_heads_that_are_wrong(attack, what):
    """The stream is refused, by a reset or 400; nothing reaches an origin; the next stream is served, if one may be."""
    before = [o.requests[:] for o in attack.origins.values()]
    paths = {m.path for requests in before for m in requests}
    with attack.client() as c:
        x = http_peers.Exchange2(c, 1, 65535)
        c.streams[1], c.next = x, 3
        fields = [(n.encode("latin-1"), v.encode("latin-1")) for n, v in WRONG[what]]
        c.send(frames.HeadersFrame(1, block(c, fields), flags=["END_HEADERS", "END_STREAM"]))
        c.until(lambda: x.error is not None or x.came or c.over or c.goaway)
        assert not x.came or x.message.status == 400, x.message
        if not c.over and not c.goaway:
            assert c.ask("GET", "/far/h1/next").status == 200
    new = {m.path for o in attack.origins.values() for m in o.requests if m.path.startswith("/near")} - paths
    assert not new, new


@pytest.mark.parametrize("said, length", [(3, 5), (7, 5), (5, 0)])
@pytest.mark.parametrize("spoken", ["h1", "h2"])
def test_14_a_length_that_is_not_so(attack, said, length, spoken):
    """content-length is not what came: the request at the origin is cut, not completed."""
    whole = []
    path = attack.on(f"/near/{spoken}/length", lambda x: (x.rest(), whole.append(x.message), x.respond(200)))
    with attack.client() as c:
        x = c.begin("POST", path, body=STREAM, length=said)
        if length:
            x.write(b"x" * length)
        with contextlib.suppress(Cut):
            x.end()
        c.until(lambda: x.error is not None or x.came or c.over)
        assert not x.came or x.message.status in (400, 502)
    assert not whole


# ------------------------------------------------------------------ HTTP/1


def test_18_chunk_overhead(attack):
    """A byte per chunk with as much extension as there may be, and an extension that does not end."""
    with attack.client("h1") as c:
        c.begin("POST", "/near/h1/overhead", body=STREAM)
        c.sock.settimeout(5)
        sent = 0
        try:
            for _ in range(2000):
                c.sock.sendall((b"1;" + b"e" * 1000 + b"\r\nx\r\n") * 10)
                sent += 10
        except OSError:
            pass
        assert sent < 20000, "20 MB of nothing were taken"
    with attack.client("h1") as c:
        x = c.begin("POST", "/near/h1/overhead", body=STREAM)
        c.sock.settimeout(5)
        with contextlib.suppress(OSError):
            for _ in range(160):
                c.sock.sendall(b"1;" + b"e" * 65536)
            pytest.fail("an extension of 10 MB was taken")
        with contextlib.suppress(Cut):
            assert x.answer().status == 400


LARGE = ("101 fields", "5000 fields", "one of 64 KiB", "cookie", "path", "crumbs")


@pytest.mark.parametrize("version", ["h1", "h2"])
@pytest.mark.parametrize("fields, path, statuses", [
    ([(f"x-{n}", "a") for n in range(101)], "/near/h1/a", {431}),
    ([(f"x-{n}", "a") for n in range(5000)], "/near/h1/a", {431}),
    ([("x", "a" * 65536)], "/near/h1/a", {431}),
    ([("cookie", "a" * MIB)], "/near/h1/a", {431}),
    ([], "/near/h1/" + "a" * 61440, {414, 431}),
    ([("cookie", f"a{n}=b") for n in range(3000)], "/near/h1/a", {431})], ids=LARGE)
def test_20_large_heads(attack, version, fields, path, statuses):
    before = attack.asked()
    with attack.client(version) as c:
        try:
            x = c.begin("GET", path, fields)
            assert x.head().status in statuses
        except Cut as e:
            assert version == "h2" or "eset" in str(e) or "ipe" in str(e), e
    assert attack.asked() == before


def test_20_as_large_as_it_may_be(attack):
    """What is within the limits is served: 90 fields, 40 KiB in all."""
    for version in ("h1", "h2"):
        with attack.client(version) as c:
            m = c.ask("GET", "/near/h1/large", [(f"x-{n}", "a" * 400) for n in range(85)])
            assert m.status == 200 and len([n for n, _ in m.seen["fields"] if n.startswith("x-")]) >= 85


@pytest.mark.parametrize("length", [40, 4000, 5000])
def test_23_a_regex_that_explodes(attack, length):
    """The pattern wants a `b`, and there is one, or it would be given up at a glance; 2^length ways lead to it."""
    with attack.client("h1") as c:
        began = time.monotonic()
        for _ in range(20):
            assert c.ask("GET", "/regex/" + "a" * length + "cb").status == 404
        assert time.monotonic() - began < 10
        assert c.ask("GET", "/regex/" + "a" * 10 + "b").status == 200


def test_24_a_body_that_is_withheld(attack):
    """Expect: 100-continue and then nothing, a hundred times: nobody else waits."""
    held = [attack.client("h1") for _ in range(100)]
    for c in held:
        c.begin("POST", "/far/h1/withheld", [("Expect", "100-continue")], body=STREAM, length=10)
    with attack.client("h1") as c:
        assert c.ask("GET", "/far/h1/x").status == 200
    for c in held:
        c.close()


@pytest.mark.parametrize("status", [200, 404])
def test_25_an_upgrade_that_is_refused(attack, status):
    """What the client says after it is a request of HTTP, or the connection ends: never bytes for the origin."""
    path = attack.on("/near/h1/upgrade", lambda x: x.respond(status, b"no"))
    before = attack.asked()
    with attack.client("h1") as c:
        c.send(f"GET {path} HTTP/1.1\r\nHost: web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
               "GET /near/h1/inner HTTP/1.1\r\nHost: web\r\n\r\n")
        assert c.expect().answer().status == status
        began = time.monotonic()
        with contextlib.suppress(Cut):
            assert c.expect().answer().seen["path"] == "/near/h1/inner"
        assert time.monotonic() - began < 15
    assert attack.asked() - before <= 2


@pytest.mark.parametrize("length", ["", "Content-Length: 44\r\n"], ids=["early data", "a body"])
def test_25_a_connect_that_is_refused(attack, length):
    """What comes behind it may be meant for the tunnel: it is never a request."""
    before = [m.path for o in attack.origins.values() for m in o.requests]
    with attack.client("h1") as c:
        c.send(f"CONNECT web:80 HTTP/1.1\r\nHost: web:80\r\n{length}\r\n"
               "GET /near/h1/inner HTTP/1.1\r\nHost: web\r\n\r\n")
        assert c.expect("CONNECT").answer().status in (400, 404)
        assert c.closed()
    assert [m.path for o in attack.origins.values() for m in o.requests
            if m.path.startswith("/near/h1/inner")] == [p for p in before if p.startswith("/near/h1/inner")]


def test_25_early_data_waits_for_the_answer(attack):
    held = Held()
    path = attack.on("/near/h1/upgrade", held)
    with attack.client("h1") as c:
        c.send(f"GET {path} HTTP/1.1\r\nHost: web\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nearly")
        x = held.next()
        x.c.sock.settimeout(0.5)
        with pytest.raises(http_peers.Silent):
            x.c.reader.some()  # nothing before 101
        x.c.sock.settimeout(http_peers.SECONDS)
        x.start(101, [("Upgrade", "websocket"), ("Connection", "Upgrade")])
        assert x.read() == b"early"
        x.released.set()


def test_26_pipelining_without_reading(attack):
    big = attack.on("/far/h1/64k", lambda x: x.respond(200, bytes(65536)))
    with attack.client("h1") as c:
        c.sock.settimeout(2)
        one = f"GET {big} HTTP/1.1\r\nHost: web\r\n\r\n".encode() * 100
        sent, before = 0, attack.asked("far")
        with contextlib.suppress(OSError):
            for _ in range(2000):
                sent += c.sock.send(one)
        assert attack.asked("far") - before < 5000, "all of it was asked"


def test_27_heads_that_never_end(attack):
    """Fifty heads that come a byte at a time are ended by their timer, not kept alive by their bytes; and so are half
    requests and half prefaces of HTTP/2 behind which nothing comes."""
    held = [attack.client("h1") for _ in range(80)]
    quiet = held[50:]
    for n, c in enumerate(held):
        c.send(b"GET /near/h1/slow HTTP/1.1\r\nHost: web\r\n" if c not in quiet else
               (b"GE", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM")[n % 3])
    until, left = time.monotonic() + 60, list(held)
    while left:
        assert time.monotonic() < until, f"{len(left)} are still open"
        for c in left[:]:
            c.sock.settimeout(0.01)
            try:
                if c not in quiet:
                    c.sock.sendall(b"x")
                c.sock.recv(1000)
                left.remove(c)
            except TimeoutError:
                pass
            except OSError:
                left.remove(c)
    for c in held:
        c.close()


@memory(24)
def test_28_idle_connections(attack):
    """A thousand that have asked once and keep silent; then all go at once, again and again: nothing stays of them."""
    def one(s):
        s.settimeout(http_peers.SECONDS)
        s.connect((VIP, 80))
        c = http_peers.Connection1(s)
        assert c.ask("GET", "/near/h1/idle").status == 200
        return c

    def thousand():
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            idle = list(pool.map(one, attack.lab.sockets("client", 1000)))
        for c in idle[::50]:
            assert c.ask("GET", "/near/h1/idle").status == 200
        for c in idle:
            c.close()
        with attack.client("h1") as c:
            assert c.ask("GET", "/near/h1/idle").status == 200
        return sum(attack.lab.daemon_pss().values())

    first = thousand()
    grown = max(thousand(), thousand()) - first
    assert grown < labrun.meant(MIB), f"{grown / 2000:.0f} bytes for each"


@memory(16)
@pytest.mark.parametrize("version", ["h1", "h2"])
def test_30_resets_at_any_time(attack, version):
    """Both ends let go at random moments of a request's life."""
    r = random.Random(5)

    def answer(x):
        steps = r.randrange(6)
        with contextlib.suppress(Cut):
            for step in (x.read, lambda: x.inform(103), lambda: x.start(200), lambda: x.write(bytes(20000)),
                         x.end)[:steps]:
                step()
        if steps < 5:
            x.reset() if r.random() < 0.5 else x.c.close()

    for spoken in ("h1", "h2"):
        attack.on(f"/near/{spoken}/any", answer)
        attack.on(f"/far/{spoken}/any", answer)
    for n in range(200):
        path = f"/{r.choice(['near', 'far'])}/{r.choice(['h1', 'h2'])}/any"
        with contextlib.suppress(Cut), attack.client(version) as c:
            x = c.begin("POST", path, body=STREAM, length=r.choice([None, 100]))
            for step in (lambda: x.write(b"y" * 50), x.head, lambda: x.write(b"y" * 50), x.end,
                         x.read)[:r.randrange(6)]:
                c.sock.settimeout(5) if version == "h1" else None
                step()
            if r.random() < 0.5:
                x.reset()
    with attack.client(version) as c:
        assert c.ask("GET", "/near/h1/x").status == 200


@memory(32)
def test_31_many_streams_end_at_once(attack):
    """Twenty connections with their hundred streams each, every one with a body under way, vanish together."""
    held, gone = [], threading.Event()
    path = attack.on("/far/h2/waits", lambda x: gone.wait(60))
    for _ in range(20):
        c = attack.client()
        c.until(lambda c=c: c.settings)
        for _ in range(min(90, c.settings.get(http_peers.MAX_STREAMS, 90))):
            c.begin("POST", path, body=STREAM).write(b"x" * 100)
        held.append(c)
    began = time.monotonic()
    for c in held:
        http_peers.abort(c.sock)
    with attack.client("h1") as c:
        assert c.ask("GET", "/far/h1/x").status == 200
    assert time.monotonic() - began < 30
    gone.set()


# ------------------------------------------------------------------ names, logs, gRPC, numbers


LINE = re.compile(r'(?: ?\w+=(?:"(?:[^"\\]|\\["\\]|\\x[0-9a-f]{2})*"|[^\s"=]+))+')  # keys and values, and nothing else


def test_35_values_stay_values(attack):
    """Lines of requests that nobody serves: what was asked for stands in quotes, whatever it is."""
    where = len(attack.lab.log("n1"))
    paths = ['/x"forged="1', "/x\\", '/x\\"forged="1', "/%22forged=%22", "/x'$(id)`", "/" + "a" * 5000]
    for version in routed.PORTS:
        with attack.client(version) as c:
            for n, path in enumerate(paths):
                assert c.ask("GET", f"/nowhere-{version}-{n}{path}").status in (400, 404)
    last = f"/nowhere-h2-{len(paths) - 1}/"
    labrun.wait_for(lambda: last in attack.lab.log("n1")[where:], 10, "the line of the last request")
    lines = [line[line.index("method="):] for line in attack.lab.log("n1")[where:].splitlines() if "/nowhere-" in line]
    assert len(lines) == 2 * len(paths)
    for line in lines:
        assert LINE.fullmatch(line) and not re.search(r"(^| )forged=", line) and len(line) < 2048, line


def test_35_nothing_is_written_raw(attack):
    """What clients say does not break the lines of the log, and none of them is long."""
    where = len(attack.lab.log("n1"))
    for host in ('we"b', "web\\", "{x}", "a" * 5000, "%0d%0a", "<b>"):
        with attack.client("h1") as c, contextlib.suppress(Cut):
            c.ask("GET", "/near/h1/" + "\x80\x9b[31m", [("User-Agent", '"}\x9b[0m'), ("X-Request-Id", 'x"}\t')],
                  host=host)
    said = attack.lab.log("n1")[where:]
    assert all(line.isprintable() and len(line) < 8192 for line in said.splitlines())


@memory(4)
def test_38_names_without_number(attack):
    """Thousands of hosts, paths and ids leave nothing behind: what the first ones needed is all that is needed."""
    grown = 0
    with attack.client("h2") as c:
        for n in range(8000):
            assert c.ask("GET", f"/near/h1/{n:x}?{n}", [("x-request-id", f"{n:032x}")],
                         host=f"h{n}.example").status == 200
            if n == 2000:
                grown = -sum(attack.lab.daemon_pss().values())
    grown += sum(attack.lab.daemon_pss().values())
    assert grown < labrun.meant(MIB // 2), f"{grown / 6000:.0f} bytes for each"


GRPC = [("content-type", "application/grpc"), ("te", "trailers")]


@pytest.mark.parametrize("value", ["", "1", "S", "1x", "-1S", "99999999999H", "123456789S", "1 S", "99999999H",
                                   "2251799813685248H"])  # the last: 0 in 64 bits
def test_40_grpc_timeouts(attack, value):
    """Junk is no timeout; a huge one is none either, whatever it comes to in 64 bits: the answer may take its time."""
    held = Held()
    path = attack.on("/near/h2/grpc", held)
    with attack.client() as c:
        asked = c.begin("POST", path, [*GRPC, ("grpc-timeout", value)], body=b"\0\0\0\0\0")
        x = held.next()
        with pytest.raises(http_peers.Silent):
            c.until(lambda: asked.came or asked.error is not None or c.over, 0.5)
        x.respond(200, b"", [("grpc-status", "0")])
        x.released.set()
        m = asked.answer()
        assert (m.status, m.get("grpc-status")) == (200, "0")
    del attack.origins["near", "h2"].on[path]


def test_40_no_time_at_all(attack):
    """It may be answered before a body is sent."""
    late = threading.Event()
    path = attack.on("/near/h2/late", lambda x: late.wait(60))
    with attack.client() as c:
        m = c.ask("POST", path, [*GRPC, ("grpc-timeout", "0S")])
        assert (m.status, m.get("grpc-status") or dict(m.trailers).get("grpc-status")) == (200, "4")
    late.set()


@pytest.mark.parametrize("body", [b"\0\0\0\0\0" * 1000, b"\0\xff\xff\xff\xff", b"\7\0\0\0\1x", b"\0\0"],
                         ids=["empty ones", "4 GiB", "flags", "cut"])
def test_40_grpc_messages_are_the_ends_business(attack, body):
    with attack.client() as c:
        m = c.ask("POST", "/far/h2/grpc", GRPC, body=body)
        assert m.status == 200 and m.seen["length"] == len(body)


@pytest.mark.parametrize("status", [None, "", "abc", "-1", "17", "99999999999999999999", "0, 0"])
def test_40_statuses_of_others(attack, status):
    """One that is missing, or none: the answer is what its origin made of it, head, trailers and all."""
    said = [] if status is None else [("grpc-status", status)]
    trailed = attack.on("/far/h2/trailed", lambda x: x.respond(200, b"\0\0\0\0\0", GRPC[:1], said))
    alone = attack.on("/far/h2/alone", lambda x: x.respond(200, b"", GRPC[:1] + said))
    with attack.client() as c:
        m = c.ask("POST", trailed, GRPC, body=b"\0\0\0\0\0")
        assert (m.status, len(m.body), list(m.trailers)) == (200, 5, said)
        m = c.ask("POST", alone, GRPC, body=b"\0\0\0\0\0")
        assert (m.status, m.body, m.get("grpc-status")) == (200, b"", status)
        assert c.ask("POST", "/far/h2/next", GRPC, body=b"\0\0\0\0\0").seen["length"] == 5


@pytest.mark.parametrize("fields", [[("Retry-After", "99999999999999999999")], [("Keep-Alive", "timeout=4294967296")],
                                    [("Content-Range", "bytes 0-99999999999999999999/*")], [("Age", "-1")],
                                    [("Expires", "Thu, 01 Jan 99999 00:00:00 GMT")]])
def test_41_numbers_of_others(attack, fields):
    path = attack.on("/near/h1/number", lambda x: x.respond(200, b"fine", fields))
    for version in ("h1", "h2"):
        with attack.client(version) as c:
            for _ in range(3):
                assert c.ask("GET", path).body == b"fine"


@pytest.mark.parametrize("fields", [[("Keep-Alive", "timeout=99999999999")], [("Max-Forwards", "99999999999999")],
                                    [("Range", "bytes=99999999999999999999-")], [("Content-Length", "0")]])
def test_41_numbers_of_the_client(attack, fields):
    with attack.client("h1") as c:
        for _ in range(3):
            assert c.ask("GET", "/near/h1/x", fields).status == 200
        assert isinstance(c.sock, socket.socket)


def test_the_daemon_is_the_one_that_was_started(attack):
    """None of the rows above has brought the worker down."""
    assert "worker" not in [line.split()[0] for line in attack.lab.log("n1").splitlines() if "exited" in line]
    labrun.wait_for(lambda: attack.lab.ready("n1") and attack.lab.ready("n2"), 10, "readiness")
