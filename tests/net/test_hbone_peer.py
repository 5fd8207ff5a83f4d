# SPDX-License-Identifier: Apache-2.0
"""
HBONE with a peer that is not weft and does not behave (tests/net/h2peer.py): as a client toward weft on 15008, as a
server behind it. Each ends as facts of the protocol or weft's limits say, the worker's memory is bounded, and two
bystanders who talk through the same worker notice nothing.
"""

import contextlib
import hashlib
import json
import os
import pathlib
import random
import re
import select
import socket
import ssl
import struct
import sys
import threading
import time

import labrun
import pytest

from leaks import ROOT

sys.path.insert(0, str(ROOT / "tools/bench"))

import certificates  # noqa: E402
from h2peer import (CANCEL, CONNECT_ERROR, ENHANCE_YOUR_CALM, FRAME_SIZE, MAX_STREAMS, MIB, NO_ERROR, REFUSED_STREAM,
                    WINDOW, Ended, Peer, Tls, context, frames)  # noqa: E402
from pairs import listen, pair, talk  # noqa: E402

HBONE, PORT, NOBODY = 15008, 7000, 7005
PODS = {"near": ("n1", 1, 10), "far": ("n2", 2, 10), "peer": ("n2", 2, 11)}
LAB = "[nodes.n1]\n[nodes.n2]\n" + "".join(f"""
[pods.{name}]
node = "{node}"
service_account = "{name}"
enrol = {"false" if name == "peer" else "true"}
""" for name, (node, _, _) in PODS.items())
MANIFESTS = {"pods.json": json.dumps({"apiVersion": "v1", "kind": "List", "items": [{
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
    "spec": {"nodeName": node, "serviceAccountName": name, "containers": [{"name": "app"}]},
    "status": {"phase": "Running",
               "podIPs": [{"ip": f"10.244.{number}.{last}"}, {"ip": f"fd00:244:0:{number}::{last:x}"}],
               "conditions": [{"type": "Ready", "status": "True"}]},
} for name, (node, number, last) in PODS.items()]})}
SPLICE = ("splice",)  # it changes local hops only; tests/net has them
BOUND = 24 * MIB  # that the worker may grow by, whatever a peer does
RESET = struct.pack("ii", 1, 0)


@pytest.fixture(scope="module")
def certs(lab):
    authority = certificates.Authority.embedded(lab.scratch / "certs", lab.ca_dir())
    authority.leaf("peer", "spiffe://cluster.local/ns/default/sa/peer")
    return authority.folder


def worker_memory(lab, node="n1"):
    """Resident bytes of the node's worker."""
    for pid in labrun.pids(lab.daemon_cgroup(node)):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        if status.startswith("Name:\tweft-worker"):
            return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) * 1024
    raise AssertionError(f"no worker on {node}")


@pytest.fixture(scope="module")
def bystanders(lab):
    c, s = pair(lab, "far", "near")
    yield c, s
    c.close()
    s.close()


@pytest.fixture(autouse=True)
def nobody_is_harmed(lab, bystanders):
    """Before and after each test the bystanders talk, and the same worker is there, not much larger."""
    talk(*bystanders)
    before = worker_memory(lab)
    yield
    talk(*bystanders)
    assert worker_memory(lab) - before < BOUND


class Echo:
    """An app in a pod that says everything back, until its clients end."""

    def __init__(self, lab, pod, port=PORT):
        self.listener = listen(lab, pod, port)
        self.peers = []
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                s, address = self.listener.accept()
            except OSError:
                return
            self.peers.append(address)
            threading.Thread(target=self.say, args=(s,), daemon=True).start()

    def say(self, s):
        with s:
            try:
                while data := s.recv(1 << 16):
                    s.sendall(data)
                s.shutdown(socket.SHUT_WR)
            except OSError:
                return

    def close(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def echo(lab):
    app = Echo(lab, "near")
    yield app
    app.close()


def tcp(lab, pod, to):
    s = lab.socket(pod)
    s.settimeout(60)
    s.connect(to)
    return s


def secure(lab, certs, leaf="peer", alpn=("h2",)):
    return Tls(context(certs, leaf, False, alpn), tcp(lab, "peer", (lab.ip("near"), HBONE)))


# ---------------------------------------------------------------- who does not go on

PATIENCE = {"silent": 30, "half": 30, "bare": 50, "preface": 50, "mute": 90}  # seconds: thrice weft's, or about


@pytest.fixture(scope="module", autouse=True)
def stalling(lab, certs):
    """TCP alone, half a hello, TLS alone, a preface alone, no answer to PING, while all else goes on: {name: when}."""
    to = (lab.ip("near"), HBONE)
    silent, half = tcp(lab, "peer", to), tcp(lab, "peer", to)
    half.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
    bare, preface = secure(lab, certs), secure(lab, certs)
    preface.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    mute = Peer(secure(lab, certs), True, answers_pings=False)
    sockets = {"silent": silent, "half": half, "bare": bare, "preface": preface, "mute": mute.sock}
    start, ends = time.monotonic(), {}

    def wait(name, s):
        s.settimeout(2 * PATIENCE[name])
        try:
            while s.recv(1 << 16):
                pass
        except (ConnectionError, ssl.SSLError):
            pass
        except OSError as e:
            ends[name] = e
            return
        ends[name] = time.monotonic() - start

    waits = [threading.Thread(target=wait, args=what, daemon=True) for what in sockets.items()]
    for t in waits:
        t.start()
    yield ends
    for s in sockets.values():  # closed under who waits, its number would be the next file's, for which he waits then
        with contextlib.suppress(OSError):  # weft has ended it
            s.shutdown(socket.SHUT_RDWR)
    for t in waits:
        t.join(60)
    for s in sockets.values():
        s.close()


# ---------------------------------------------------------------- a client toward weft


@pytest.fixture
def client(lab, certs):
    """Peers that have said hello to pod `near`; keywords are those of Peer."""
    made = []

    def make(**options):
        made.append(Peer(secure(lab, certs), True, **options))
        made[-1].until(lambda: made[-1].settings is not None)
        return made[-1]

    yield make
    for p in made:
        p.close()


def authority(lab, port=PORT, pod="near"):
    return f"{lab.ip(pod)}:{port}"


def echoes(p, i, data=b"what?"):
    p.data(i, data)
    return p.read(i, len(data)) == data


def connected(p, lab, port=PORT):
    i = p.ask(authority(lab, port))
    assert p.status(i) == 200
    return i


def test_a_client_is_served(lab, client, echo):
    p = client()
    assert p.settings[MAX_STREAMS] == 200 and p.settings[FRAME_SIZE] == MIB
    i = connected(p, lab)
    assert "k8s.namespace.name=default" in p.streams[i].headers["baggage"]
    assert echoes(p, i)
    assert echo.peers[-1][0] == lab.ip("peer")  # the app sees who it was
    p.data(i, end=True)
    p.until(lambda: p.streams[i].ended)
    assert p.streams[i].reset is None


def test_what_is_asked_wrongly(lab, client, echo):
    p = client()
    stands = connected(p, lab)
    ip = lab.ip("near")
    wrong = {"": (400, -1), "near": (400,), ip: (400,), f"{ip}:": (400,), f"{ip}:0": (400,), f"{ip}:70000": (400,),
             f"{ip}:{PORT}/": (400, -1), f"[{ip}]:{PORT}": (400,), f"near.default:{PORT}": (400, 503),
             authority(lab, pod="far"): (400,), "127.0.0.1:7000": (400,), "[::1]:7000": (400,),
             authority(lab, NOBODY): (503,)}
    wrong.update({authority(lab, own): (503,) for own in (15001, 15006, HBONE)})
    for text, expected in wrong.items():
        assert p.status(p.ask(text)) in expected, text
    assert p.status(p.ask(None)) in (400, -1)
    assert p.status(p.ask(authority(lab), "GET", _scheme="https", _path="/")) == 400
    assert p.status(p.ask(authority(lab), _path="/", _scheme="https")) in (400, -1)
    assert echoes(p, stands)


def test_200_streams_and_one_more(lab, client, echo):
    p = client()
    streams = [connected(p, lab) for _ in range(200)]
    assert p.status(p.ask(authority(lab))) == -REFUSED_STREAM
    for i in streams:
        p.data(i, b"%d" % i)
    for i in streams:
        assert p.read(i, len(b"%d" % i)) == b"%d" % i
    p.reset(streams[0], CANCEL)
    connected(p, lab)


@pytest.mark.parametrize("code", [NO_ERROR, CANCEL, CONNECT_ERROR, 2])
def test_reset_by_the_client(lab, client, code):
    p = client()
    with listen(lab, "near", PORT) as listener:
        i, other = p.ask(authority(lab)), p.ask(authority(lab))
        apps = [listener.accept()[0] for _ in range(2)]
    for app in apps:
        app.settimeout(60)
    assert (p.status(i), p.status(other)) == (200, 200)
    p.data(i, b"first")
    p.data(other, b"other")
    said = {app.recv(5): app for app in apps}
    p.reset(i, code)
    if code in (NO_ERROR, CANCEL):
        assert said[b"first"].recv(1) == b""
    else:
        with pytest.raises(ConnectionResetError):
            said[b"first"].recv(1)
    said[b"other"].sendall(b"still here")
    assert p.read(other, 10) == b"still here"
    for app in apps:
        app.close()


def blocked_after(s, seconds=20):
    """Sends until nothing goes for a second: how many bytes went."""
    sent, s_timeout, end = 0, s.gettimeout(), time.monotonic() + seconds
    s.settimeout(1)
    try:
        while time.monotonic() < end:
            sent += s.send(bytes(1 << 16))
    except (TimeoutError, socket.timeout):
        return sent
    finally:
        s.settimeout(s_timeout)
    raise AssertionError(f"it still takes bytes after {sent}")


def test_window_never_opened(lab, client):
    p = client(opens_windows=False)
    p.open_window(0, 64 * MIB)
    before = worker_memory(lab)
    with listen(lab, "near", PORT) as listener:
        streams = [p.ask(authority(lab)) for _ in range(21)]
        apps = [listener.accept()[0] for _ in streams]
    assert {p.status(i) for i in streams} == {200}
    writers = [threading.Thread(target=blocked_after, args=(app,), daemon=True) for app in apps[:20]]
    for w in writers:
        w.start()
    for w in writers:
        w.join(60)
    assert worker_memory(lab) - before < 8 * MIB
    p.until(lambda: sum(len(s.data) == 65535 for s in p.streams.values()) == 20)
    quiet = next(i for i in streams if not p.streams[i].data)
    apps[20].sendall(b"!")
    assert p.read(quiet, 1) == b"!"
    for app in apps:
        app.close()


def test_readers_that_sleep(lab, client, echo):
    """100 apps that read nothing, and clients who say all that they may."""
    p = client()
    awake = connected(p, lab)
    before = worker_memory(lab)
    with listen(lab, "near", NOBODY) as listener:
        listener.settimeout(60)
        streams = [p.ask(authority(lab, NOBODY)) for _ in range(100)]
        apps = [listener.accept()[0] for _ in streams]
    assert {p.status(i) for i in streams} == {200}
    for i in streams:
        with pytest.raises(TimeoutError):
            p.data(i, bytes(64 * MIB), seconds=0.05)
    assert worker_memory(lab) - before < BOUND
    data = random.randbytes(8 * MIB)
    writer = hashlib.sha256()
    for at in range(0, len(data), 1 << 15):
        p.data(awake, data[at:at + (1 << 15)])
        writer.update(p.read(awake, min(1 << 15, len(data) - at)))
    assert writer.digest() == hashlib.sha256(data).digest()
    for app in apps:
        app.close()


def test_client_leaves_with_streams_in_flight(lab, client, echo):
    p = client()
    streams = [connected(p, lab) for _ in range(3)]
    p.leave(0)
    for i in streams:
        assert echoes(p, i)
        p.data(i, end=True)
        p.until(lambda s=p.streams[i]: s.ended)
    assert p.until_ended() == "closed"


FLOODS = {
    "ping": lambda i: frames.PingFrame(0, opaque_data=b"%08d" % i),
    "settings": lambda i: frames.SettingsFrame(0),
    "priority": lambda i: frames.PriorityFrame(1001 + 2 * i, depends_on=0, stream_weight=1),
    "empty-data": lambda i: frames.DataFrame(1, b""),
    "updates": lambda i: frames.WindowUpdateFrame(0, window_increment=1),
    "unknown": lambda i: b"\0\0\4\xbb\0\0\0\0\0what",
}


@pytest.mark.parametrize("kind", FLOODS)
def test_flood(lab, client, echo, kind):
    p, other = client(), client()
    connected(p, lab)
    stands, before = connected(other, lab), worker_memory(lab)
    try:
        for block in range(20):
            p.send(*(FLOODS[kind](block * 1000 + i) for i in range(1000)))
    except Ended:
        pass  # it was cut while we spoke
    p.until_ended()
    assert p.goaway is None or p.goaway.error_code == ENHANCE_YOUR_CALM
    assert echoes(other, stands)
    assert worker_memory(lab) - before < 8 * MIB
    again = client()
    assert echoes(again, connected(again, lab))


def test_rapid_reset(lab, client, echo):
    p, other = client(), client()
    stands, memory = connected(other, lab), worker_memory(lab)
    try:
        for _ in range(5000):
            p.reset(p.ask(authority(lab)), CANCEL)
    except Ended:
        pass
    assert echoes(other, stands)
    assert worker_memory(lab) - memory < 8 * MIB
    before = len(echo.peers)
    again = client()
    assert echoes(again, connected(again, lab))
    assert len(echo.peers) - before < 1000


def test_frames_of_a_mebibyte(lab, client):
    p = client(settings={FRAME_SIZE: MIB, WINDOW: 16 * MIB})
    p.open_window(0, 64 * MIB)
    got = hashlib.sha256()
    with listen(lab, "near", PORT) as listener:
        i = p.ask(authority(lab))
        app, _ = listener.accept()
    app.settimeout(60)
    data = random.randbytes(24 * MIB)

    def read():
        left = len(data)
        while left:
            more = app.recv(min(left, MIB))
            got.update(more)
            left -= len(more)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert p.status(i) == 200
    stream, at, largest = p.streams[i], 0, 0
    while at < len(data):
        n = min(MIB, len(data) - at)
        p.until(lambda: stream.window > 0)
        if stream.window < n:  # it grows while the app reads
            n = min(stream.window, 16384)
        p.data(i, data[at:at + n], most=MIB)
        at, largest = at + n, max(largest, n)
    reader.join(60)
    assert largest == MIB and got.digest() == hashlib.sha256(data).digest()
    back = threading.Thread(target=app.sendall, args=(data,), daemon=True)
    back.start()
    assert p.read(i, len(data)) == data
    assert p.largest <= MIB
    app.close()


def test_frame_larger_than_allowed(lab, client, echo):
    p, other = client(), client()
    connected(p, lab)
    stands = connected(other, lab)
    with pytest.raises(Ended):
        p.send(frames.DataFrame(1, bytes(MIB + 1)))
        p.until(lambda: False)
    assert p.goaway is None or p.goaway.error_code == 6  # FRAME_SIZE_ERROR
    assert echoes(other, stands)


def test_who_is_let_in(lab, certs, echo):
    """No certificate, no h2, no TLS: not let in, and nothing reaches an app."""
    for leaf, alpn in ((None, ("h2",)), ("peer", ("http/1.1",)), ("peer", ())):
        with pytest.raises((OSError, ssl.SSLError, Ended)):
            s = secure(lab, certs, leaf, alpn)
            p = Peer(s, True)
            p.status(p.ask(authority(lab)))
    s = tcp(lab, "peer", (lab.ip("near"), HBONE))
    s.sendall(b"GET / HTTP/1.1\r\n\r\n")
    try:
        assert s.recv(100)[:1] in (b"", b"\x15")  # an alert of TLS at most
    except ConnectionResetError:
        pass
    assert not echo.peers


# ---------------------------------------------------------------- a server behind weft


class Server:
    """
    Port 15008 of the pod `peer`. weft makes as many connections as it likes (one for each of its threads, at least):
    `options` are those of each Peer. asked() finds the CONNECT of an app by what `forwarded` says.
    """

    def __init__(self, lab, certs):
        self.context = context(certs, "peer", True)
        self.listener = listen(lab, "peer", HBONE)
        self.listener.settimeout(60)
        self.peers, self.options = [], {}

    def accept(self):
        s, _ = self.listener.accept()
        s.settimeout(60)
        self.peers.append(Peer(Tls(self.context, s, server=True), False, **self.options))

    def asked(self, c, seconds=60):
        """(Peer, stream id) of what the app with socket `c` dials."""
        want, end = 'for="{}:{}"'.format(*c.getsockname()), time.monotonic() + seconds
        while time.monotonic() < end:
            for p in self.peers:
                for i in p.asked:
                    if p.streams[i].headers.get("forwarded", "").startswith(want):
                        p.asked.remove(i)
                        return p, i
            live = {p.sock: p for p in self.peers if not p.over}
            for ready in select.select([self.listener, *live], [], [], 1)[0]:
                if ready is self.listener:
                    self.accept()
                else:
                    live[ready].listen(0.01)
        raise TimeoutError(f"no CONNECT with forwarded {want}")

    def serves(self, c, **more):
        """The same, answered 200 and spoken with."""
        p, i = self.asked(c)
        p.answer(i, **more)
        assert stands(p, i, c)
        return p, i

    def close(self):
        for p in self.peers:
            p.close()
        self.listener.close()


@pytest.fixture
def server(lab, certs):
    s = Server(lab, certs)
    yield s
    s.close()


@pytest.fixture
def app(lab):
    """Apps in pod `near` that dial the peer."""
    made = []

    def dial(port=PORT):
        made.append(tcp(lab, "near", (lab.ip("peer"), port)))
        return made[-1]

    yield dial
    for s in made:
        s.close()


def is_reset(s, seconds=60):
    s.settimeout(seconds)
    try:
        return s.recv(1) == b"never"
    except ConnectionResetError:
        return True


def stands(p, i, c, text=b"hello"):
    c.sendall(text)
    assert p.read(i, len(text)) == text
    p.data(i, text[::-1])
    assert c.recv(len(text)) == text[::-1]
    return True


def test_a_server_is_asked(lab, server, app):
    c = app()
    p, i = server.asked(c)
    headers = p.streams[i].headers
    assert headers[":method"] == "CONNECT" and headers[":authority"] == authority(lab, pod="peer")
    assert not {":path", ":scheme", ":protocol"} & set(headers)
    assert headers["forwarded"].startswith(f'for="{lab.ip("near")}:{c.getsockname()[1]}"')
    assert "k8s.namespace.name=default" in headers["baggage"]
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", headers["traceparent"])
    p.answer(i, baggage="k8s.namespace.name=elsewhere")
    assert stands(p, i, c)
    p.data(i, b"last words", end=True)
    assert c.recv(100) == b"last words" and c.recv(1) == b""
    c.sendall(b"mine")
    c.shutdown(socket.SHUT_WR)
    assert p.read(i, 4) == b"mine"
    p.until(lambda: p.streams[i].ended)
    assert p.streams[i].reset is None


@pytest.mark.parametrize("status", [400, 401, 403, 404, 502, 503, 302])
def test_refused_by_the_server(server, app, status):
    c = app()
    p, i = server.asked(c)
    p.answer(i, status, end=True)
    assert is_reset(c)


@pytest.mark.parametrize("code", [NO_ERROR, CANCEL, CONNECT_ERROR, 2])
def test_reset_by_the_server(server, app, code):
    c, other = app(), app()
    (p, i), (q, j) = server.serves(c), server.serves(other)
    p.data(i, b"bytes before it")
    p.reset(i, code)
    if code in (NO_ERROR, CANCEL):
        assert c.recv(100) == b"bytes before it" and c.recv(1) == b""
    else:
        c.settimeout(60)
        with pytest.raises(ConnectionResetError):
            while c.recv(100):
                pass
    assert stands(q, j, other)


def test_app_resets(server, app):
    c, other = app(), app()
    (p, i), (q, j) = server.serves(c), server.serves(other)
    c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    c.close()
    p.until(lambda: p.streams[i].reset is not None)
    assert p.streams[i].reset not in (NO_ERROR, CANCEL)  # a failure, not an end
    assert stands(q, j, other)


def test_server_opens_no_window(lab, server, app):
    c, other = app(), app()
    server.options = {"opens_windows": False}
    (p, _), (q, j) = server.serves(c), server.serves(other)
    p.open_window(0, 64 * MIB)
    before = worker_memory(lab)
    blocked_after(c)
    assert worker_memory(lab) - before < 8 * MIB
    assert stands(q, j, other)
    shown = [t for t in lab.weftctl("connections", node="n1")["connections"]
             if t["source"]["port"] == c.getsockname()[1]]
    assert len(shown) == 1 and shown[0]["path"] == "tunnel" and shown[0]["waits"] == "window of the peer"


def test_server_leaves_with_streams_in_flight(server, app):
    apps = [app() for _ in range(4)]
    served = [server.serves(c) for c in apps]
    p = served[0][0]
    p.leave(max(p.streams))
    for c in [app() for _ in range(4)]:  # whoever comes later goes elsewhere
        assert server.serves(c)[0] is not p
    for (q, i), c in zip(served, apps):
        assert stands(q, i, c)


def test_server_takes_back_what_it_was_asked(server, app):
    """GOAWAY below a CONNECT that it has not answered: it never saw it, another connection has it."""
    c = app()
    p, i = server.asked(c)
    p.leave(i - 2 if i > 1 else 0)
    q, j = server.serves(c)
    assert q is not p
    assert server.serves(app())[0] is not p


def test_server_of_few_streams(server, app):
    """MAX_CONCURRENT_STREAMS 2: the others get connections of their own."""
    server.options = {"settings": {MAX_STREAMS: 2}}
    for _ in range(7):
        server.serves(app())
    assert len(server.peers) >= 4
    assert all(len(p.streams) <= 2 for p in server.peers)


def test_many_at_once_to_a_server_of_few_streams(server, app):
    """What is more than it takes comes back, and goes by further connections: nobody is refused."""
    server.options = {"settings": {MAX_STREAMS: 2}, "takes": 2}
    apps = [app() for _ in range(40)]
    for c in apps:
        server.serves(c)
    assert all(p.live() <= 2 for p in server.peers)


def test_server_of_no_streams(server, app):
    """MAX_CONCURRENT_STREAMS 0: who comes waits, and one connection for each thread is all that is tried."""
    server.options = {"settings": {MAX_STREAMS: 0}, "takes": 0}
    apps = [app() for _ in range(40)]
    with pytest.raises(TimeoutError):
        server.asked(apps[-1], 3)
    assert len(server.peers) <= os.cpu_count(), len(server.peers)
    for p in server.peers:
        p.allow(100)
    for c in apps:
        server.serves(c)


def test_server_that_stalls(server, app):
    """No handshake; no answer: the app hears of it in time, and the next one is served."""
    start = time.monotonic()
    c = app()
    stalled, _ = server.listener.accept()
    assert is_reset(c)
    assert 8 < time.monotonic() - start < 30
    stalled.close()
    d = app()
    start = time.monotonic()
    p, i = server.asked(d)
    assert is_reset(d)
    assert 8 < time.monotonic() - start < 30
    p.until(lambda: p.streams[i].reset is not None)
    server.serves(app())


def test_server_that_dies(server, app):
    c = app()
    p, _ = server.serves(c)
    p.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    server.peers.remove(p)
    p.close()
    assert is_reset(c)
    server.serves(app())


@pytest.mark.parametrize("kind", FLOODS)
def test_flood_of_the_server(server, app, kind):
    c = app()
    p, _ = server.serves(c)
    try:
        for block in range(20):
            p.send(*(FLOODS[kind](block * 1000 + i) for i in range(1000)))
    except Ended:
        pass
    p.until_ended()
    assert p.goaway is None or p.goaway.error_code == ENHANCE_YOUR_CALM
    assert is_reset(c)
    assert server.serves(app())[0] is not p


def test_large_frames_of_the_server(server, app):
    c = app()
    server.options = {"settings": {FRAME_SIZE: MIB, WINDOW: 16 * MIB}}
    p, i = server.serves(c)
    data = random.randbytes(16 * MIB)
    got = bytearray()

    def read():
        while len(got) < len(data) and (more := c.recv(MIB)):
            got.extend(more)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    stream, at, largest = p.streams[i], 0, 0
    while at < len(data):
        p.until(lambda: stream.window > 0)
        n = min(MIB, len(data) - at)
        if stream.window < n:
            n = min(stream.window, 16384, n)
        p.data(i, data[at:at + n], most=MIB)
        at, largest = at + n, max(largest, n)
    reader.join(60)
    assert bytes(got) == data and largest == MIB


def test_who_does_not_go_on_is_let_go(stalling):
    """At the end: that has taken half a minute."""
    labrun.wait_for(lambda: set(stalling) == set(PATIENCE), 60, "the end of those who stall")
    assert all(8 < stalling[name] < most for name, most in PATIENCE.items()), stalling
