# SPDX-License-Identifier: Apache-2.0
"""
Both ends of HTTP in the test's own hands, 1.1 (http1_peer.py) and 2 (http2_peer.py) with one face, so that a test is
written once for any to any.

	origin = Origin(lab, "near", 8081, "h1")	answers what it saw, but for origin.on["/x"] = f(exchange)
	c = client(lab, "client", (vip, 80), "h2")
	x = c.begin("POST", "/x", body=STREAM); x.write(b"..."); x.end(trailers=[...]); x.answer().body

An exchange has the same methods at both ends: read() a piece (b"": the end), body(), write(), end(), reset(). A message
that was cut raises Cut: it is never an end; nor is one that just does not go on, which is Silent. Names and values are
str of latin-1, in order, as they came.
"""

import hashlib
import json
import queue
import socket
import threading
import time

from http1_peer import Connection1, Exchange1
from http2_peer import (CALM, CONNECT_PROTOCOL, FRAME_SIZE, INTERNAL_ERROR, MAX_STREAMS, NO_ERROR,  # noqa: F401
                        PROTOCOL_ERROR, REFUSED_STREAM, WINDOW, Connection2, Exchange2)
from http_message import (CANCEL, MIB, SECONDS, STREAM, Cut, Message, Silent, abort, hang_up,  # noqa: F401
                          text)


def client(lab, pod, to, version="h1", **options):
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    sock = lab.socket(pod, family)
    sock.settimeout(SECONDS)
    sock.connect(to)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection1(sock) if version == "h1" else Connection2(sock, **options)


# ------------------------------------------------------------------ origins


def echo(x):
    """Answers what it saw: who, by which version, every field in order, the body and the trailers."""
    m, body = x.message, x.rest()
    seen = {"who": x.c.origin.who, "version": x.c.version, "connection": x.c.number, "client": x.c.peer,
            "method": m.method, "path": m.path, "authority": m.authority, "scheme": m.scheme, "fields": m.fields,
            "raw": text(m.raw), "length": len(body), "sha256": hashlib.sha256(body).hexdigest(),
            "body": text(body[:4096]), "trailers": m.trailers}
    x.respond(200, json.dumps(seen), [("Content-Type", "application/json"), ("X-Who", x.c.origin.who)])


class Origin:
    """
    A server of one version in a pod. `on` {path without query: what answers}, `otherwise` for the rest. What fails in
    a handler other than by Cut is kept in `failed`, which check() raises.
    """

    def __init__(self, lab, pod, port, version="h1", who=None, otherwise=echo, settings=None):
        self.who, self.version, self.otherwise, self.on = who or pod, version, otherwise, {}
        self.settings, self.failed, self.requests, self.connections = settings, [], [], []
        self.listener = lab.socket(pod, socket.AF_INET6)
        self.listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("::", port))
        self.listener.listen(1024)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, peer = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            where = (sock, self, len(self.connections), peer[0].removeprefix("::ffff:"))
            if self.version == "h1":
                c = Connection1(*where)
                threading.Thread(target=self.serve, args=(c,), daemon=True).start()
            else:
                c = Connection2(*where, settings=self.settings)
            self.connections.append(c)

    def serve(self, c):
        while not c.last:
            x = Exchange1(c, True)
            try:
                if not x.take():
                    break
            except (Cut, AssertionError, ValueError) as e:
                self.failed.append(e)
                break
            if not self.one(x):
                break
        c.close()

    def one(self, x):
        self.requests.append(x.message)
        try:
            self.on.get(x.message.path.partition("?")[0], self.otherwise)(x)
            return True if self.version == "h2" else x.over or not x.rest()
        except Cut:
            return False
        except Exception as e:
            self.failed.append(e)
            abort(x.c.sock)
            return False

    def close(self):
        hang_up(self.listener)
        for c in self.connections:
            c.close()

    def check(self):
        failed, self.failed = self.failed, []
        if failed:
            raise failed[0]


class Held:
    """A handler that keeps each exchange for the test: x = held.next()."""

    def __init__(self):
        self.came, self.done = queue.Queue(), threading.Event()

    def __call__(self, x):
        x.released = threading.Event()
        self.came.put(x)
        x.released.wait(4 * SECONDS)

    def next(self):
        return self.came.get(timeout=SECONDS)


def pattern(size, seed=7):
    """`size` bytes that tell where a piece of them was left out."""
    block = b"".join(hashlib.sha256(b"%d %d" % (seed, i)).digest() for i in range(min(size, MIB) // 32 + 1))
    return (block * (size // len(block) + 1))[:size]


def say_capitals(x):
    """A tunnel's far end: what it hears, in capitals, until the other end has finished."""
    while piece := x.read():
        x.write(piece.upper())
    x.end()


def hear_capitals(x, *words):
    """Its near end: word by word, then the end."""
    for word in words:
        x.write(word)
        got = b""
        while len(got) < len(word):
            got += x.read()
        assert got == word.upper()
    x.end()
    assert x.rest() == b""


def digest_of(x, pause=0):
    """Reads a body to its end: (bytes, digest)."""
    size, digest = 0, hashlib.sha256()
    for piece in x:
        size += len(piece)
        digest.update(piece)
        if pause:
            time.sleep(pause)  # a slow reader
    return size, digest.hexdigest()
