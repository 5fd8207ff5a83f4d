# SPDX-License-Identifier: Apache-2.0
"""
WebSocket through a routed Service: python3-websockets and Node's ws at either end, over HTTP/1; and extended CONNECT
(RFC 8441) for HTTP/2 clients toward HTTP/1 servers and the other ways round.
"""

import base64
import hashlib
import pathlib
import sys

import http_peers
import pytest
import routed
from http_peers import client
from routed import origins, origins_are_content  # noqa: F401

LAB = routed.LAB
VIP = "10.96.16.1"
HERE = pathlib.Path(__file__).parent
LIBRARIES = {"websockets": (8095, (sys.executable, "-B", HERE / "websocket_peer.py")),  # {library: (port, program)}
             "ws": (8096, ("env", "NODE_PATH=/usr/share/nodejs", "node", HERE / "websocket_peer.js"))}
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MANIFESTS = {"ws.json": routed.listed(
    *routed.of_pods(), routed.service("ws", VIP, [("http", 80, 8081, None)], "near"),
    *(routed.service(f"lib-{name}", f"10.96.16.{n}", [(library, port, port, "kubernetes.io/ws")
                                                      for library, (port, _) in LIBRARIES.items()], name)
      for n, name in enumerate(("near", "far"), 2)),
    routed.route("ws", "ws", [routed.rule(routed.backend(place, version), path=f"/{place}/{version}")
                              for place in ("near", "far") for version in routed.PORTS]
                 + [routed.rule({"name": f"lib-{name}", "port": port}, path=f"/{library}/{name}")
                    for library, (port, _) in LIBRARIES.items() for name in ("near", "far")]))}


@pytest.fixture(scope="module")
def ready(lab, origins):  # noqa: F811
    for name in ("near", "far"):
        for port, program in LIBRARIES.values():
            lab.start(name, *program, "server", port, name, ready=port)
        for version in routed.PORTS:
            routed.until_answered(lab, VIP, f"/{name}/{version}")
    for library in LIBRARIES:
        routed.until_answered(lab, VIP, f"/{library}/near", status=426)  # what they say to a request without Upgrade


@pytest.mark.parametrize("place", ["near", "far"])
@pytest.mark.parametrize("server_of", LIBRARIES)
@pytest.mark.parametrize("client_of", LIBRARIES)
def test_libraries_at_both_ends(lab, ready, client_of, server_of, place):
    """Texts, binaries of 1 to 2^20 bytes, fragments, pings, both close handshakes, subprotocol and compression."""
    done = lab.run("client", *LIBRARIES[client_of][1], "client", f"ws://{VIP}/{server_of}/{place}/chat", place,
                   timeout=60)
    assert done.stdout.strip() == "all right"


def server(x):
    """Agrees, then gives back every byte in upper case."""
    m = x.message
    x.seen = m
    if m.version == "h2":
        assert (m.method, m.protocol, m.scheme) == ("CONNECT", "websocket", "http"), m
        assert m.get("sec-websocket-version") == "13" and m.get("sec-websocket-key") is None
        x.silent_end = False
        x.c.head(x.number, [(":status", "200"), ("sec-websocket-protocol", "chat")], False)
    else:
        assert (m.method, m.get("upgrade"), m.get("sec-websocket-version")) == ("GET", "websocket", "13"), m
        accept = hashlib.sha1(m.get("sec-websocket-key").encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        x.start(101, [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Protocol", "chat"),
                      ("Sec-WebSocket-Accept", base64.b64encode(accept).decode())])
    http_peers.say_capitals(x)


def begin(c, path):
    """Asks for a WebSocket as the client's version has it; the answer must agree."""
    if c.version == "h2":
        c.until(lambda: c.settings)
        assert c.settings.get(http_peers.CONNECT_PROTOCOL) == 1, c.settings
        x = c.begin("CONNECT", path, [("sec-websocket-version", "13"), ("sec-websocket-protocol", "chat")],
                    body=http_peers.STREAM, protocol="websocket")
        m = x.head()
        assert m.status == 200 and m.get("sec-websocket-accept") is None, m
    else:
        x = c.begin("GET", path, [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13"),
                                  ("Sec-WebSocket-Key", KEY), ("Sec-WebSocket-Protocol", "chat")])
        m = x.head()
        assert m.status == 101 and m.get("upgrade") == "websocket", m
        assert m.get("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    assert m.get("sec-websocket-protocol") == "chat"
    return x


@pytest.mark.parametrize("place", ["near", "far"])
@pytest.mark.parametrize("spoken", routed.PORTS)
@pytest.mark.parametrize("version", routed.PORTS)
def test_any_to_any(lab, ready, origins, version, spoken, place):  # noqa: F811
    o = origins[place, spoken]
    o.settings = {http_peers.CONNECT_PROTOCOL: 1}
    for c in o.connections:
        if spoken == "h2":
            http_peers.abort(c.sock)  # the setting comes with the next connection
    path = f"/{place}/{spoken}/ws"
    o.on[path] = server
    with client(lab, "client", (VIP, 80), version) as c:
        x = begin(c, path)
        http_peers.hear_capitals(x, b"a", b"bc", b"d" * 100_000)
    o.check()


@pytest.mark.parametrize("version", routed.PORTS)
def test_an_h2_origin_without_the_setting_is_502(lab, ready, origins, version):  # noqa: F811
    o = origins["near", "h2"]
    o.settings = None
    for c in o.connections:
        http_peers.abort(c.sock)
    with client(lab, "client", (VIP, 80), version) as c:
        if version == "h2":
            c.until(lambda: c.settings)
        fields = [("Sec-WebSocket-Version", "13"), ("Sec-WebSocket-Key", KEY)]
        x = c.begin("CONNECT", "/near/h2/ws", fields[:1], body=http_peers.STREAM, protocol="websocket") \
            if version == "h2" else c.begin("GET", "/near/h2/ws",
                                            [("Upgrade", "websocket"), ("Connection", "Upgrade"), *fields])
        assert x.head().status in (501, 502, 503)
