# SPDX-License-Identifier: Apache-2.0
"""
Origins that misbehave, of both versions, and what the client makes of it: 502 or a message that is visibly cut, never a
whole one; and the next request is right.
"""

import contextlib
import queue
import socket
import time

import http_peers
import labrun
import pytest
import routed
from bystander import beside
from hyperframe import frame as frames
from http_peers import Cut, Held, client
from routed import origins, origins_are_content  # noqa: F401

SPLICE = ("splice",)
LAB = routed.LAB
VIP, BYSTANDER = "10.96.8.1", "10.96.8.2"
MANIFESTS = {"web.json": routed.listed(
    *routed.of_pods(), routed.service("web", VIP, [("http", 80, 8081, None)], "near"),
    routed.service("bystander", BYSTANDER, [("http", 80, 8081, None)], "near2"),
    routed.route("bystander", "bystander", [routed.rule(routed.backend("near2"))]),
    routed.route("web", "web", [routed.rule(routed.backend(place, version), path=f"/{place}/{version}")
                                for place in ("near", "far") for version in routed.PORTS]))}
VERSIONS = ("h1", "h2")
GOOD, CUT = 200, "cut"
MIB = http_peers.MIB


@pytest.fixture(scope="module")
def ready(lab, origins):  # noqa: F811
    for version in VERSIONS:
        for place in ("near", "far"):
            routed.until_answered(lab, VIP, f"/{place}/{version}")
    routed.until_answered(lab, BYSTANDER)
    with beside(lab, BYSTANDER, 24):  # all that the tests of this file do
        yield


def outcome(lab, path, version, method="GET", body=b""):
    """Status and body of the answer, or CUT, and when in that: what came before."""
    with client(lab, "client", (VIP, 80), version) as c:
        x = c.begin(method, path, body=body)
        try:
            x.head()
        except Cut:
            return CUT, b""
        got = bytearray()
        try:
            for piece in x:
                got += piece
        except Cut:
            return CUT, bytes(got)
        return x.message.status, bytes(got)


def still_right(lab, path, version):
    """Ten requests, each with its own answer."""
    with client(lab, "client", (VIP, 80), version) as c:
        for n in range(10):
            assert c.ask("GET", f"{path}/after-{n}").seen["path"] == f"{path}/after-{n}"


OK = "HTTP/1.1 200 OK\r\n"
# name: (what is sent, does the connection end then, what the client may make of it)
BAD = {
    "status line of another protocol": ("SSH-2.0-OpenSSH_9.2\r\n\r\n", True, {502}),
    "status line without number": ("HTTP/1.1 abc\r\n\r\n", True, {502}),
    "status 99": ("HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n", True, {502}),
    "status 1000": ("HTTP/1.1 1000 High\r\nContent-Length: 0\r\n\r\n", True, {502}),
    "status of two digits": ("HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n", True, {502}),
    "version 2.0": ("HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n", True, {502}),
    "version 0.9": ("<html>hello</html>", True, {502}),
    "nothing": ("", True, {502}),
    "half a head": (OK + "X: y\r\n", True, {502}),
    "length too large": (OK + "Content-Length: 10\r\n\r\nhello", True, {CUT}),
    "length twice": (OK + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", True, {502}),
    "length of 2^64": (OK + "Content-Length: 18446744073709551616\r\n\r\nhello", True, {502}),
    "length negative": (OK + "Content-Length: -1\r\n\r\nhello", True, {502}),
    "length and coding": (OK + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", True,
                          {502}),
    "coding unknown": (OK + "Transfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", True, {502}),
    "coding twice": (OK + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", True, {502}),
    "cut before the first chunk": (OK + "Transfer-Encoding: chunked\r\n\r\n", True, {CUT}),
    "cut in a chunk": (OK + "Transfer-Encoding: chunked\r\n\r\n5\r\nhel", True, {CUT}),
    "cut after a chunk": (OK + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", True, {CUT}),
    "cut in the last chunk": (OK + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", True, {CUT}),
    "chunk size wrong": (OK + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n", False, {CUT}),
    "chunk without its end": (OK + "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloworld\r\n0\r\n\r\n", False, {CUT}),
    "bare LF": (OK.replace("\r", "") + "Content-Length: 5\n\nhello", True, {502}),
    "obs-fold": (OK + "X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello", True, {502}),
    "blank before colon": (OK + "Content-Length : 5\r\n\r\nhello", True, {502}),
    "NUL in a value": (OK + "X: a\0b\r\nContent-Length: 5\r\n\r\nhello", True, {502}),
    "no colon": (OK + "Nonsense\r\nContent-Length: 5\r\n\r\nhello", True, {502}),
    "a field of 1 MiB": (OK + "X: " + "a" * MIB + "\r\nContent-Length: 5\r\n\r\nhello", False, {502}),
    "5000 fields": (OK + "".join(f"X-{n}: a\r\n" for n in range(5000)) + "Content-Length: 5\r\n\r\nhello", False,
                    {502}),
    "101 unasked": ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbytes", False,
                    {502}),
    "1xx without end": ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000, False, {502}),
    "100 unasked, then the answer": ("HTTP/1.1 100 Continue\r\n\r\n" + OK + "Content-Length: 5\r\n\r\nhello", False,
                                     {GOOD}),
    "204 with a body": ("HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\nhello", True, {204, 502}),
    "304 with a body": ("HTTP/1.1 304 Same\r\n\r\nhello", True, {304}),
    "bytes after the answer": (OK + "Content-Length: 5\r\n\r\nhello" + OK + "Content-Length: 3\r\n\r\nbad", False,
                               {GOOD}),
    "another answer after the last chunk": (OK + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + OK
                                            + "Content-Length: 3\r\n\r\nbad", False, {GOOD}),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", BAD)
def test_an_h1_origin_that_says_it_wrong(lab, ready, origins, what, version):  # noqa: F811
    said, ends, want = BAD[what]

    def answer(x):
        x.c.send(said)
        if ends:
            x.c.close()
        else:
            x.c.reader.some()  # until weft ends it, or asks again
            x.c.close()

    path = f"/near/h1/bad/{list(BAD).index(what)}"
    origins["near", "h1"].on[path] = answer
    status, body = outcome(lab, path, version)
    assert status in want, (status, body[:200])
    assert body in (b"hello", b"") or status == 502 or status == CUT and b"hello".startswith(body[:5]), body[:100]
    still_right(lab, "/near/h1", version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("said, whole", [(OK + "Content-Length: 5\r\nX-A: b\r\n\r\nhello", True),
                                         (OK + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n",
                                          True),
                                         (OK + "Content-Length: 6\r\n\r\nhello", False)])
def test_byte_by_byte(lab, ready, origins, version, said, whole):  # noqa: F811
    def answer(x):
        for byte in said:
            x.c.send(byte)
            time.sleep(0.001)  # each in a segment of its own
        x.c.close()

    origins["near", "h1"].on["/near/h1/slow"] = answer
    status, body = outcome(lab, "/near/h1/slow", version)
    if whole:
        assert (status, body) == (200, b"hello")
    else:  # the last bytes before a cut may be lost with it
        assert status == CUT and b"hello".startswith(body), (status, body)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("spoken", VERSIONS)
def test_a_body_without_end(lab, ready, origins, version, spoken):  # noqa: F811
    """The origin hears of it when the client has had enough."""
    told = []

    def answer(x):
        x.start(200)
        try:
            while True:
                x.write(bytes(65536))
        except Cut:
            told.append(True)
            raise

    path = f"/far/{spoken}/endless"
    origins["far", spoken].on[path] = answer
    with client(lab, "client", (VIP, 80), version) as c:
        x = c.begin("GET", path)
        got = 0
        while got < 4 * MIB:
            got += len(x.read())
        x.reset()
    labrun.wait_for(lambda: told, 60, "the end at the origin")


@pytest.mark.parametrize("version", VERSIONS)
def test_what_comes_unasked_is_nobodys_answer(lab, ready, origins, version):  # noqa: F811
    """An origin that writes an answer into its idle connection: that connection is left."""
    left = queue.Queue()

    def answer(x):
        x.rest()
        x.respond(200, b"right")
        x.c.send(OK + "Content-Length: 6\r\n\r\npoison")
        try:
            left.put(x.c.reader.some())
        except (Cut, OSError):
            left.put(b"")
        x.c.close()

    origins["near", "h1"].on["/near/h1/poison"] = answer
    with client(lab, "client", (VIP, 80), version) as c:
        for _ in range(20):
            m = c.ask("GET", "/near/h1/poison")
            assert (m.status, m.body) == (200, b"right"), m
            assert left.get(timeout=60) == b""  # bytes behind a request that was sent before could not be told apart
        still_right(lab, "/near/h1", version)


@pytest.mark.parametrize("version", VERSIONS)
def test_an_answer_before_the_request_is_all_there(lab, ready, origins, version):  # noqa: F811
    """It is the answer, but no other request goes by that connection, whose request was never ended."""
    left = queue.Queue()

    def answer(x):
        x.respond(200, b"early")
        try:
            left.put(x.rest())
        except Cut:
            left.put(None)
            raise

    origins["near", "h1"].on["/near/h1/early"] = answer
    with client(lab, "client", (VIP, 80), version) as c:
        x = c.begin("POST", "/near/h1/early", body=http_peers.STREAM, length=100)
        x.write(b"part")
        assert x.answer().body == b"early"
    still_right(lab, "/near/h1", version)
    assert left.get(timeout=60) is None, "another request has become the rest of the body"


# ------------------------------------------------------------------ HTTP/2


def block(x, *fields):
    with x.c.writing:
        return x.c.encoder.encode(list(fields))


def heads(x, *fields, flags=("END_HEADERS",)):
    x.c.send(frames.HeadersFrame(x.number, block(x, *fields), flags=list(flags)))


ALL = ("END_HEADERS", "END_STREAM")
STATUS = (":status", "200")


def data(x, what=b"hello", end=True):
    x.c.send(frames.DataFrame(x.number, what, flags=["END_STREAM"] if end else []))


def many(x):
    for n in range(10000):
        x.c.send(frames.SettingsFrame(0, settings={MAX: n % 100 + 1 for MAX in (3,)}))


BAD2 = {
    "data before the head": lambda x: data(x),
    "no status": lambda x: heads(x, ("x", "y"), flags=ALL),
    "two statuses": lambda x: heads(x, STATUS, STATUS, flags=ALL),
    "status of letters": lambda x: heads(x, (":status", "abc"), flags=ALL),
    "status of four digits": lambda x: heads(x, (":status", "2000"), flags=ALL),
    "request's pseudo field": lambda x: heads(x, STATUS, (":path", "/"), flags=ALL),
    "unknown pseudo field": lambda x: heads(x, STATUS, (":x", "/"), flags=ALL),
    "pseudo field late": lambda x: heads(x, ("x", "y"), STATUS, flags=ALL),
    "upper case": lambda x: heads(x, STATUS, ("X-Upper", "y"), flags=ALL),
    "connection": lambda x: heads(x, STATUS, ("connection", "close"), flags=ALL),
    "transfer-encoding": lambda x: heads(x, STATUS, ("transfer-encoding", "chunked"), flags=ALL),
    "CR LF in a value": lambda x: heads(x, STATUS, ("x", "a\r\nSet-Cookie: b"), flags=ALL),
    "NUL in a value": lambda x: heads(x, STATUS, ("x", "a\0b"), flags=ALL),
    "length with no body": lambda x: heads(x, STATUS, ("content-length", "5"), flags=ALL),
    "101": lambda x: heads(x, (":status", "101")),
    "100 that ends": lambda x: heads(x, (":status", "100"), flags=ALL),
    "1xx without end": lambda x: [heads(x, (":status", "103"), ("link", "</a>")) for _ in range(1000)],
    "reset": lambda x: x.reset(http_peers.INTERNAL_ERROR),
    "refused": lambda x: x.reset(http_peers.REFUSED_STREAM),
    "5000 fields": lambda x: x.c.head(x.number, [STATUS] + [(f"x-{n}", "a") for n in range(5000)], True),
    "a field of 128 KiB": lambda x: x.c.head(x.number, [STATUS, ("x", "a" * (MIB // 8))], True),
    "goaway 0": lambda x: x.c.send(frames.GoAwayFrame(0, last_stream_id=0, error_code=0)),
    "push": lambda x: x.c.send(frames.PushPromiseFrame(x.number, promised_stream_id=2, flags=["END_HEADERS"],
                                                       data=block(x, (":method", "GET"), (":path", "/"),
                                                                  (":scheme", "http"), (":authority", "web")))),
    "answer on another stream": lambda x: x.c.send(frames.HeadersFrame(x.number + 100, block(x, STATUS), flags=ALL)),
    "bad HPACK": lambda x: x.c.send(frames.HeadersFrame(x.number, b"\xff\xff\xff\xff\xff\xff", flags=ALL)),
    "a frame of 1 MiB": lambda x: x.c.send(b"\x10\x00\x00\x00\x00" + x.number.to_bytes(4, "big") + bytes(1000)),
    "window overflow": lambda x: x.c.send(frames.WindowUpdateFrame(x.number, window_increment=2**31 - 1),
                                          frames.WindowUpdateFrame(x.number, window_increment=2**31 - 1)),
}
# These come after a head: the client has seen 200, so that all that is left is a cut.
LATE2 = {
    "length too large": lambda x: (heads(x, STATUS, ("content-length", "10")), data(x)),
    "length too small": lambda x: (heads(x, STATUS, ("content-length", "3")), data(x)),
    "reset": lambda x: (heads(x, STATUS), data(x, end=False), x.reset(http_peers.INTERNAL_ERROR)),
    "reset without error": lambda x: (heads(x, STATUS), data(x, end=False), x.reset(http_peers.NO_ERROR)),
    "trailers with a pseudo field": lambda x: (heads(x, STATUS), data(x, end=False), heads(x, STATUS, flags=ALL)),
    "trailers that do not end it": lambda x: (heads(x, STATUS), data(x, end=False), heads(x, ("x", "y"))),
    "the connection is gone": lambda x: (heads(x, STATUS), data(x, end=False), x.c.close()),
    "the connection is reset": lambda x: (heads(x, STATUS), data(x, end=False), http_peers.abort(x.c.sock)),
}


def misbehaves(x, how):
    with contextlib.suppress(Cut):
        x.rest()
        how(x)
        time.sleep(0.2)  # a pause: what it said is there
        if x.error is None and how in (BAD2["push"], BAD2["answer on another stream"]):
            x.reset(http_peers.INTERNAL_ERROR)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", BAD2)
def test_an_h2_origin_that_says_it_wrong(lab, ready, origins, what, version):  # noqa: F811
    path = f"/near/h2/bad/{list(BAD2).index(what)}"
    origins["near", "h2"].on[path] = lambda x: misbehaves(x, BAD2[what])
    status, body = outcome(lab, path, version, "POST", b"once")
    assert status in (502, 503) or status == CUT and not body, (status, body[:200])
    still_right(lab, "/near/h2", version)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", LATE2)
def test_an_h2_origin_that_goes_wrong_late(lab, ready, origins, what, version):  # noqa: F811
    path = f"/near/h2/late/{list(LATE2).index(what)}"
    origins["near", "h2"].on[path] = lambda x: misbehaves(x, LATE2[what])
    status, body = outcome(lab, path, version)
    assert status in (CUT, 502) and body in (b"hello", b"", b"hel") or status == 502, (status, body)
    still_right(lab, "/near/h2", version)


def test_goaway_moves_the_next_request_to_another_connection(lab, ready, origins):  # noqa: F811
    """In order: those under way are answered, none is lost, no client is told."""
    held = Held()
    o = origins["near", "h2"]
    o.on["/near/h2/leaves"] = held
    with client(lab, "client", (VIP, 80), "h2") as c:
        first = c.begin("GET", "/near/h2/leaves")
        x = held.next()
        x.c.send(frames.GoAwayFrame(0, last_stream_id=x.number, error_code=0))
        second = c.ask("GET", "/near/h2/next")
        assert second.seen["connection"] != x.c.number
        x.respond(200, b"late")
        x.released.set()
        assert first.answer().body == b"late"


def test_an_origin_with_few_streams(lab, ready, origins):  # noqa: F811
    """SETTINGS_MAX_CONCURRENT_STREAMS of an origin is kept; more requests wait or go by other connections."""
    o = origins["far", "h2"]
    held = Held()
    o.on["/far/h2/few"] = held
    with client(lab, "client", (VIP, 80), "h2") as c:
        c.ask("GET", "/far/h2/warm")
        for one in o.connections:
            with contextlib.suppress(Cut):
                one.send(frames.SettingsFrame(0, settings={http_peers.MAX_STREAMS: 2}))
        o.settings = {http_peers.MAX_STREAMS: 2}
        try:
            c.ask("GET", "/far/h2/warm")
            asked = [c.begin("GET", "/far/h2/few") for _ in range(12)]
            for _ in asked:
                x = held.next()
                assert x.c.active() <= 2
                x.respond(200, b"ok")
                x.released.set()
            assert [x.answer().body for x in asked] == [b"ok"] * 12
        finally:
            o.settings = None


@pytest.mark.parametrize("version", VERSIONS)
def test_an_origin_that_does_not_read_is_waited_for_in_peace(lab, ready, origins, version):  # noqa: F811
    """Its request waits, with bounded memory; others go on."""
    held = Held()
    origins["far", "h1"].on["/far/h1/deaf"] = held
    before = lab.daemon_pss()
    with client(lab, "client", (VIP, 80), version) as c:
        x = c.begin("POST", "/far/h1/deaf", body=http_peers.STREAM, length=1 << 30)
        c.sock.settimeout(1)
        if version == "h1":
            with pytest.raises(http_peers.Silent):
                for _ in range(1024):
                    x.write(bytes(65536))
        else:
            # as much as its windows allow
            for _ in range(20):
                room = min(x.window, c.window)
                if room > 0:
                    x.write(bytes(room))
                else:
                    time.sleep(0.05)  # for more room
        still_right(lab, "/far/h1", version)
        for node, pss in before.items():
            assert lab.daemon_pss()[node] - pss < labrun.meant(8 * MIB)
        held.next().released.set()
        with contextlib.suppress(OSError):
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
