# SPDX-License-Identifier: Apache-2.0
"""
What others check of a proxy that nobody shall notice, as far as test_http.py does not have it yet: docs/transparency.md
says which test has which of their cases.
"""

import contextlib
import re
import threading

import http_peers
import pytest
import routed
import test_http
from hyperframe import frame as frames
from http_peers import MIB, STREAM, Cut, client, digest_of
from routed import origins, origins_are_content  # noqa: F401
from test_http import LAB, VIP, ready, way, way_of  # noqa: F401

SPLICE = ("splice",)
UNROUTED = {"h1": "10.96.8.3", "h2": "10.96.8.4"}  # without a route: all of the worker's HTTP, and every request passes
MANIFESTS = test_http.MANIFESTS | {"unrouted.json": routed.listed(*(
    routed.service(f"unrouted-{v}", vip, [("http", 80, routed.PORTS[v], "kubernetes.io/h2c" if v == "h2" else None)],
                   "near", **{"weft.io/proxy": "always"}) for v, vip in UNROUTED.items()))}
H1 = way_of(version="h1", spoken="h1")


def said(way, *lines, method="GET", version="1.1", path=None, host="Host: web", body=b""):
    """A request as it is written here, to the byte."""
    head = "\r\n".join([f"{method} {path or way.prefix} HTTP/{version}", *([host] if host else []), *lines])
    return head.encode("latin-1") + b"\r\n\r\n" + body


def names(m):
    return {n.lower() for n, _ in m.fields}


def raw(text):
    """A handler that answers with exactly these bytes, and ends its connection if they say so."""

    def answer(x):
        x.rest()
        x.c.send(text)
        x.c.last = "content-length" not in text.lower() or "connection: close" in text.lower()
        if x.c.last:
            x.over = True

    return answer


# ------------------------------------------------------------------ fields


@way_of(spoken="h1")
def test_fields_of_an_answers_connection_end_with_it(way):  # noqa: F811
    path = way.on(raw("HTTP/1.1 200 OK\r\nConnection: close, X-Server-Quux\r\nX-Server-Quux: lorem\r\n"
                      "Keep-Alive: 500\r\nProxy-Connection: a\r\nX-End: kept\r\nContent-Length: 2\r\n\r\nok"))
    with way.client() as c:
        for _ in range(2):  # the client's connection is its own: it goes on
            m = c.ask("GET", path)
            assert (m.status, m.body, m.get("x-end")) == (200, b"ok", "kept")
            assert not names(m) & {"connection", "x-server-quux", "keep-alive", "proxy-connection"}, m.fields


@way_of(version="h1")
def test_fields_of_a_requests_connection_end_with_it(way):  # noqa: F811
    with way.client() as c:
        c.send(said(way, "X-Foo-Bar: baz", "Connection: x-foo-bar, keep-alive", "Keep-Alive: 500", "TE: gzip, deflate",
                    "Proxy-Connection: a", "X-End: kept"))
        got = {n.lower() for n, _ in c.expect().answer().seen["fields"]}
        assert "x-end" in got
        assert not got & {"connection", "x-foo-bar", "keep-alive", "proxy-connection", "te"}, got


def test_nothing_is_added_to_an_answer(way):  # noqa: F811
    """No server, date, via, cookie or anything else that the origin did not say."""
    path = way.on(lambda x: x.respond(200, b"ok", [("X-Own", "1")]))
    with way.client() as c:
        m = c.ask("GET", path)
    assert sorted((n.lower(), v) for n, v in m.fields) == [("content-length", "2"), ("x-own", "1")]


def test_cookies_are_neither_joined_nor_lost(way):  # noqa: F811
    """Crumbs of a client's cookie are one field of HTTP/1; each set-cookie of an answer stays its own field."""
    path = way.on(lambda x: x.respond(200, "; ".join(x.message.all("cookie")) + f" in {len(x.message.all('cookie'))}",
                                      [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2, c"), ("Set-Cookie", "d=4")]))
    with way.client() as c:
        m = c.ask("GET", path, [("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "c=3")] if way.version == "h2" else
                  [("Cookie", "a=1; b=2; c=3")])
    assert m.all("set-cookie") == ["a=1; Path=/", "b=2, c", "d=4"]
    text, _, count = m.body.decode().partition(" in ")
    assert text == "a=1; b=2; c=3" and (count == "1" or way.origin.version == "h2")


@H1
def test_the_reason_of_a_status_is_kept(way):  # noqa: F811
    for line, status in (("299 Miscellaneous warning", 299), ("404 Nobody is here", 404), ("599 ", 599),
                         ("451 \xe9", 451)):
        path = way.on(raw(f"HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n"))
        with way.client() as c:
            m = c.ask("GET", path)
            assert (m.status, m.reason) == (status, line.partition(" ")[2])


# ------------------------------------------------------------------ targets


@way_of(version="h1")
@pytest.mark.parametrize("host", ["web", "web:80", "Web.Default.SVC.cluster.local", "web.default.svc:8080",
                                  "[fd00::1]:80"])
def test_the_host_is_the_clients(way, host):  # noqa: F811
    with way.client() as c:
        assert c.ask("GET", f"{way.prefix}/x", host=host).seen["authority"] == host


@way_of(version="h1")
def test_an_absolute_target_wins_over_host(way):  # noqa: F811
    """RFC 9112 section 3.2.2: what Host says is replaced; the origin is asked in origin-form."""
    with way.client() as c:
        c.send(said(way, path=f"http://other.example{way.prefix}/a?b=c", host="Host: foo.bar"))
        seen = c.expect().answer().seen
        assert (seen["authority"], seen["path"]) == ("other.example", f"{way.prefix}/a?b=c")
        c.send(said(way, path=f"http://other.example:80{way.prefix}", host="Host: other.example:80"))
        seen = c.expect().answer().seen
        assert (seen["authority"], seen["path"]) == ("other.example:80", way.prefix)


@way_of(version="h1")
def test_http_1_0_has_the_host_that_it_says_or_dialled(way):  # noqa: F811
    for host, want in (("Host: transparency.test", "transparency.test"), (None, f"{VIP}:80")):
        with way.client() as c:
            c.send(said(way, version="1.0", host=host))
            m = c.expect().answer()
            assert m.seen["authority"] == want and c.closed()


@way_of(version="h1")
def test_an_empty_host(way):  # noqa: F811
    """RFC 9112 section 3.2: right where the target has no host; nobody makes one up for it but as for HTTP/1.0."""
    with way.client() as c:
        c.send(said(way, host="Host:"))
        m = c.expect().answer()
        assert m.status == 200 and m.seen["authority"] in ("", f"{VIP}:80"), m


@way_of(version="h2")
def test_http_2_without_authority(way):  # noqa: F811
    """By host, which RFC 9113 section 8.3.1 allows; with neither it is nobody's request, and weft makes none of it."""
    with way.client() as c:
        m = c.ask("GET", way.prefix, [("host", "by-host")], host=None)
        assert m.seen["authority"] == "by-host"
        x = c.begin("GET", way.prefix, host=None)
        with contextlib.suppress(Cut):
            m = x.answer()
            assert m.status == 400 or m.seen["authority"] == f"{VIP}:80", m
        assert c.ask("GET", way.prefix).status == 200


@pytest.mark.parametrize("version", UNROUTED)
@pytest.mark.parametrize("spoken", UNROUTED)
def test_options_of_all(lab, ready, origins, version, spoken):  # noqa: F811
    """`OPTIONS *` asks the origin itself; it has no path that a route could match, and passes where there is none."""
    before = len(origins["near", spoken].requests)
    with client(lab, "client", (UNROUTED[spoken], 80), version) as c:
        m = c.ask("OPTIONS", "*")
        assert m.status == 400 or m.seen["path"] == "*", m
    assert [m.path for m in origins["near", spoken].requests[before:]] in ([], ["*"])


# ------------------------------------------------------------------ framing


@H1
@pytest.mark.parametrize("how", ["length", "chunked"])
def test_the_framing_is_the_senders(way, how):  # noqa: F811
    """A length stays a length and chunks stay chunks, both ways."""
    seen = []

    def answer(x):
        seen.append(x.message)
        x.start(200, length=len(x.rest()) if how == "length" else None)
        x.write(b"world")
        x.end()

    path = way.on(answer)
    with way.client() as c:
        x = c.begin("POST", path, body=STREAM, length=5 if how == "length" else None)
        x.write(b"hello")
        x.end()
        m = x.answer()
    assert m.body == b"world"
    for message in (*seen, m):
        assert (message.get("content-length"), message.get("transfer-encoding")) == (
            ("5", None) if how == "length" else (None, "chunked"))


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"])
def test_no_framing_is_made_for_what_has_no_body(way, method):  # noqa: F811
    """RFC 9110 section 8.6: a length of 0 is right where the method would have a body; chunks never are."""
    seen = []
    path = way.on(lambda x: (seen.append((x.message, x.rest())), x.respond(200)))
    with way.client() as c:
        if way.version == "h1":
            c.send(said(way, method=method, path=path))
            assert c.expect(method).answer().status == 200
        else:
            assert c.ask(method, path).status == 200
    (m, body), = seen
    assert not body and m.get("transfer-encoding") is None
    assert m.get("content-length") in ((None, "0") if method in ("POST", "PUT", "PATCH") else (None,)), m.fields


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH"])
def test_a_length_of_zero_is_kept(way, method):  # noqa: F811
    seen = []
    path = way.on(lambda x: (seen.append(x.message), x.respond(200)))
    with way.client() as c:
        if way.version == "h1":
            c.send(said(way, "Content-Length: 0", method=method, path=path))
            m = c.expect(method).answer()
        else:
            m = c.ask(method, path, length=0)
    assert [s.get("content-length") for s in seen] == ["0"] and m.get("content-length") == "0"


@way_of(spoken="h1")
@pytest.mark.parametrize("method, head", [
    ("HEAD", "200 OK\r\nContent-Length: 55"), ("HEAD", "200 OK"), ("HEAD", "200 OK\r\nTransfer-Encoding: chunked"),
    ("GET", "204 No Content"), ("GET", "304 Not Modified"), ("GET", "304 Not Modified\r\nContent-Length: 55")])
def test_answers_without_a_body_get_none(way, method, head):  # noqa: F811
    path = way.on(lambda x: (x.rest(), x.c.send(f"HTTP/1.1 {head}\r\nETag: x\r\n\r\n")))
    with way.client() as c:
        for _ in range(2):
            if way.version == "h1":
                c.send(said(way, method=method, path=path))
                m = c.expect(method).answer()
            else:
                m = c.ask(method, path)
            assert (str(m.status), m.body, m.get("etag")) == (head[:3], b"", "x")
            assert m.get("content-length") == ("55" if "55" in head else None), m.fields
            assert method == "HEAD" or m.get("transfer-encoding") is None, m.fields


@way_of(spoken="h1")
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_answer_until_the_end(way, version):  # noqa: F811
    """To HTTP/1.0 it ends with the connection; the others see that it is whole by its framing."""
    path = way.on(raw(f"HTTP/{version} 200 OK\r\n\r\nbody till eof"))
    with way.client() as c:
        assert c.ask("GET", path).body == b"body till eof"
        assert c.ask("GET", way.prefix).status == 200
    if way.version == "h1":
        with way.client() as c:
            c.send(said(way, path=path, version="1.0"))
            m = c.expect().answer()
            assert m.body == b"body till eof"
            assert m.get("transfer-encoding") is None and m.get("content-length") is None


# ------------------------------------------------------------------ tunnels


@H1
def test_any_protocol_may_be_switched_to(way):  # noqa: F811
    def answer(x):
        assert x.message.get("upgrade") == "chatproto/2"
        x.start(101, [("Upgrade", "chatproto/2"), ("Connection", "upgrade")])
        http_peers.say_capitals(x)

    path = way.on(answer)
    with way.client() as c:
        x = c.begin("GET", path, [("Connection", "upgrade"), ("Upgrade", "chatproto/2")])
        m = x.head()
        assert (m.status, m.get("upgrade")) == (101, "chatproto/2")
        x.write(b"hi all\n")
        assert x.read() == b"HI ALL\n"
        x.end()
        assert x.rest() == b""


@way_of(version="h1")
def test_an_upgrade_to_http_2_is_not_passed_on(way):  # noqa: F811
    """Nobody would see the requests of such a connection any more; the answer is that of HTTP/1."""
    with way.client() as c:
        for _ in range(2):
            c.send(said(way, "Upgrade: h2c", "HTTP2-Settings: AAMAAABk", "Connection: Upgrade, HTTP2-Settings"))
            seen = c.expect().answer().seen
            assert not {n.lower() for n, _ in seen["fields"]} & {"connection", "upgrade", "http2-settings"}


@pytest.mark.parametrize("more", ["", "Content-Length: 0\r\n", "Content-Length: 7\r\n",
                                  "Transfer-Encoding: chunked\r\n"])
@pytest.mark.parametrize("version", UNROUTED)
def test_connect(lab, ready, origins, version, more):  # noqa: F811
    """Bytes both ways behind a 2xx; what frames a body in such an answer means nothing (RFC 9110 section 9.3.6)."""

    def answer(x):
        assert (x.message.method, x.message.path) == ("CONNECT", "web.test:443")
        x.c.send(f"HTTP/1.1 200 OK\r\n{more}X-Own: 1\r\n\r\n")
        x.left, x.over = "end", False
        http_peers.say_capitals(x)

    origins["near", "h1"].on["web.test:443"] = answer
    with client(lab, "client", (UNROUTED["h1"], 80), version) as c:
        x = c.begin("CONNECT", "web.test:443", host="web.test:443", body=STREAM) if version == "h2" else None
        if not x:
            c.send("CONNECT web.test:443 HTTP/1.1\r\nHost: web.test:443\r\n\r\n")
            x = c.expect("CONNECT")
        m = x.head()
        assert (m.status, m.get("x-own")) == (200, "1")
        assert not names(m) & {"content-length", "transfer-encoding"}
        if version == "h1":
            x.chunked_out = False
        http_peers.hear_capitals(x, b"hi all", b"x" * 100_000)


@pytest.mark.parametrize("target", ["/origin-form", "/", "http://test/bar", "http://test", "*", "test", "test:",
                                    "u@test:1"])
def test_a_connect_to_what_is_no_authority(lab, ready, origins, target):  # noqa: F811
    before = len(origins["near", "h1"].requests)
    with client(lab, "client", (UNROUTED["h1"], 80)) as c:
        c.send(f"CONNECT {target} HTTP/1.1\r\nHost: test\r\n\r\n")
        assert c.expect("CONNECT").answer().status == 400
        assert c.closed()
    for line in ("GET test HTTP/1.1", "GET test:80 HTTP/1.1"):
        with client(lab, "client", (UNROUTED["h1"], 80)) as c:
            c.send(f"{line}\r\nHost: test\r\n\r\n")
            assert c.expect().answer().status == 400
            assert c.closed()
    assert len(origins["near", "h1"].requests) == before


# ------------------------------------------------------------------ ends


@way_of(spoken="h2")
@pytest.mark.parametrize("code", [1, 2, 5, 8, 11, 13])
def test_the_code_of_a_reset_is_passed_on(way, code):  # noqa: F811
    """
    A client of HTTP/2 sees its stream end with the origin's code, but for PROTOCOL_ERROR, of which it would think that
    it were its own; a client of HTTP/1 gets 502.
    """
    path, held = way.held()
    with way.client() as c:
        c1 = c.begin("POST", path, body=b"x")
        x = held.next()
        x.reset(code)
        x.released.set()
        if way.version == "h2" and code != 1:
            with pytest.raises(Cut, match=f"RST_STREAM {code}$"):
                c1.answer()
        else:
            assert c1.answer().status == 502
        assert c.ask("GET", way.prefix).status == 200


@way_of(version="h2", spoken="h2")
@pytest.mark.parametrize("code", [2, 8, 11])
def test_the_code_of_a_clients_reset_is_passed_on(way, code):  # noqa: F811
    path, held = way.held()
    with way.client() as c:
        c1 = c.begin("POST", path, body=STREAM)
        x = held.next()
        c1.reset(code)
        with pytest.raises(Cut, match=re.compile(r"RST_STREAM (8|%d)$" % code)):
            x.rest()
        x.released.set()


@way_of(version="h1")
def test_who_has_ended_its_side_still_gets_its_answer(way):  # noqa: F811
    """As nc and shell scripts do it: a request, FIN, and wait."""
    path, held = way.held()
    with way.client() as c:
        c.send(said(way, path=path))
        c.sock.shutdown(http_peers.socket.SHUT_WR)
        x = held.next()
        x.start(200, length=5)
        x.write(b"he")
        reader = c.expect()
        assert reader.read() == b"he"
        x.write(b"llo")
        x.end()
        x.released.set()
        assert reader.rest() == b"llo"
        assert c.closed()


@way_of(version="h2")
@pytest.mark.parametrize("name, value", [(":path", "/x"), (":status", "200"), ("connection", "close"), ("X-Upper", "a"),
                                         ("x", "a\r\nb")])
def test_trailers_that_are_wrong(way, name, value):  # noqa: F811
    """Those of a request: its stream is reset, and the origin takes it for no whole one."""
    path, held = way.held()
    with way.client() as c:
        asked = c.begin("POST", path, body=STREAM)
        asked.write(b"part")
        x = held.next()
        assert x.read() == b"part"
        block = c.encoder.encode([(name.encode(), value.encode())])
        c.send(frames.HeadersFrame(asked.number, block, flags=["END_HEADERS", "END_STREAM"]))
        c.until(lambda: asked.error is not None or c.over or c.goaway)
        with pytest.raises(Cut):
            x.rest()
        x.released.set()


@way_of(version="h2")
def test_windows_are_not_lost_with_what_failed(way):  # noqa: F811
    """
    Bodies whose streams were reset, by the origin or the client, in the middle: their bytes count as taken, or the
    connection's window is gone in the end, for all others too.
    """
    refused = way.on(lambda x: (x.read(), x.reset(http_peers.INTERNAL_ERROR)))
    endless, stop = way.on(lambda x: flood(x)), threading.Event()

    def flood(x):
        x.start(200)
        while not stop.is_set():
            x.write(bytes(16384))

    with way.client() as c:
        for _ in range(60):
            x = c.begin("POST", refused, body=STREAM)
            with contextlib.suppress(Cut):
                for _ in range(64):
                    x.write(bytes(16384))
            with contextlib.suppress(Cut):
                x.answer()
        for _ in range(60):
            x = c.begin("GET", endless)
            x.head()
            x.read()
            x.reset()
            c.streams.pop(x.number)
        stop.set()
        body = http_peers.pattern(8 * MIB)
        path = way.on(lambda x: x.respond(200, x.rest()))
        assert c.ask("POST", path, body=body).body == body


@way_of(version="h2", spoken="h2")
def test_a_stream_that_nobody_reads_does_not_stop_its_neighbours(way):  # noqa: F811
    """Of one connection to the origin, too: its window is not the sleeping stream's."""
    gate = threading.Event()
    sleeps = way.on(lambda x: (gate.wait(60), x.respond(200, b"%d" % digest_of(x)[0])))
    with way.client() as c:
        x = c.begin("POST", sleeps, body=STREAM)
        writer = threading.Thread(target=lambda: (x.write(bytes(4 * MIB)), x.end()), daemon=True)
        writer.start()
        for n in range(20):
            assert c.ask("POST", f"{way.prefix}/{n}", body=bytes(100_000)).seen["length"] == 100_000
        gate.set()
        assert x.answer().body == b"%d" % (4 * MIB)
