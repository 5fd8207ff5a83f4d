# SPDX-License-Identifier: Apache-2.0
"""Connections between two pods with both ends in the test's own hands."""

import hashlib
import itertools
import random
import socket
import threading
import time

numbers = itertools.count(7200)


def behind_a_service(vip, port):
    """Manifests: Service `web`, port 80, in front of pods with app: web; only account `client` may speak with them."""
    return {
        "service.yaml": f"""
apiVersion: v1
kind: Service
metadata: {{ name: web, namespace: default }}
spec: {{ clusterIP: {vip}, selector: {{ app: web }}, ports: [{{ port: 80, targetPort: {port} }}] }}
""",
        "policy.yaml": """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: clients, namespace: default }
spec:
  selector: { matchLabels: { app: web } }
  rules: [{ from: [{ source: { principals: [cluster.local/ns/default/sa/client] } }] }]
"""}


def listen(lab, pod, port=None, family=socket.AF_INET, any_family=False, backlog=4096):
    """A listener of a pod, as if an app there had made it."""
    listener = lab.socket(pod, socket.AF_INET6 if any_family else family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if any_family:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind(("::" if listener.family == socket.AF_INET6 else "0.0.0.0", port or next(numbers)))
    listener.listen(backlog)
    return listener


def pair(lab, client="client", server="server", family=socket.AF_INET, to=None, any_family=False, port=None):
    """(client's socket, server's socket), connected."""
    listener = listen(lab, server, port, family, any_family)
    c = lab.socket(client, family)
    c.settimeout(60)
    port = listener.getsockname()[1]
    c.connect(to or (lab.ip(server, 6 if family == socket.AF_INET6 else 4), port))
    s, _ = listener.accept()
    s.settimeout(60)
    listener.close()
    return c, s


def talk(c, s, rounds=50):
    """A conversation in which every answer is looked at."""
    for n in range(rounds):
        c.sendall(b"ping %d" % n)
        assert s.recv(100) == b"ping %d" % n
        s.sendall(b"pong %d" % n)
        assert c.recv(100) == b"pong %d" % n


def shown(lab, c):
    """The connection of a client's socket as `weftctl connections` has it."""
    port = c.getsockname()[1]
    found = [x for x in lab.weftctl("connections")["connections"] if x["source"]["port"] == port]
    assert len(found) == 1, found
    return found[0]


def settle(lab, c, s, reason="spliced", seconds=60):
    """Talks until weft has judged the connection like that; what `weftctl connections` then shows of it."""
    until = time.monotonic() + seconds
    while True:
        talk(c, s, 20)
        seen = shown(lab, c)
        if seen["reason"] == reason:
            return seen
        assert time.monotonic() < until, seen


def record(lab, c):
    """The kernel's record of it."""
    port = c.getsockname()[1]
    return next(e["formatted"]["value"] for e in lab.map("conns") if e["formatted"]["key"]["src_port"] == port)


def close(*sockets):
    for s in sockets:
        s.close()


class Stream(threading.Thread):
    """Writes random pieces to one socket and reads random pieces at the other; both sides hash what they saw."""

    def __init__(self, writer, reader, until, seed):
        super().__init__()
        self.writer, self.reader, self.until, self.random = writer, reader, until, random.Random(seed)
        self.sent, self.got, self.bytes = hashlib.sha256(), hashlib.sha256(), 0
        self.failed = None
        self.receiver = threading.Thread(target=self.receive, args=(random.Random(seed + 1),))

    def run(self):
        self.receiver.start()
        block = self.random.randbytes(1 << 20)
        try:
            while not self.until.is_set():
                size = self.random.choice([1, 17, 1000, 4096, 16384, 65536, 200000])
                at = self.random.randrange(len(block) - size)
                self.writer.sendall(block[at:at + size])
                self.sent.update(block[at:at + size])
                self.bytes += size
                if self.random.random() < 0.02:
                    time.sleep(0.003)  # a pause of the app: turns of both kinds
            self.writer.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.failed = error
        self.receiver.join()

    def receive(self, rnd):
        try:
            while True:
                data = self.reader.recv(rnd.choice([1, 100, 5000, 65536, 1 << 20]))
                if not data:
                    return
                self.got.update(data)
                if rnd.random() < 0.01:
                    time.sleep(0.005)  # a reader that stops and goes
        except OSError as error:
            self.failed = error

    def intact(self):
        """Ended in order, and the reader saw what was written."""
        self.join(120)
        assert not self.failed and not self.is_alive(), self.failed
        assert self.sent.digest() == self.got.digest()
        return self.bytes


class Streams:
    """A Stream in each direction, while the block runs."""

    def __init__(self, c, s):
        self.done = threading.Event()
        self.both = [Stream(c, s, self.done, 1), Stream(s, c, self.done, 2)]

    def __enter__(self):
        for stream in self.both:
            stream.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        for stream in self.both:
            stream.join(120)

    def intact(self):
        return [stream.intact() for stream in self.both]
