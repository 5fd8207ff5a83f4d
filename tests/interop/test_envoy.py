# SPDX-License-Identifier: Apache-2.0
"""
weft and Envoy on either side of a tunnel. Every scenario runs with each pair; Envoy and Envoy is the control that shows
what the scenario itself asks for.
"""

import hashlib
import random
import socket
import subprocess
import time

import labrun
import pytest

from foreign import FAR, LAB, MANIFESTS, NEAR, soak  # noqa: F401: the lab of the fixture
from leaks import BUILD
from pairs import listen

PAIRS = [(near, far) for near in NEAR for far in FAR]
pairs = pytest.mark.parametrize("near, far", PAIRS, ids=["-".join(n.split("-")[0] for n in pair) for pair in PAIRS])
PORT, SHUT = 7000, 7005  # nobody ever listens on the second


def tunnelled(lab, near, far):
    """weft says of each of its ends what carried it."""
    for pod, node in ((near, "n1"), (far, "n2")):
        if pod.startswith("weft"):
            seen = {c["path"] for c in lab.weftctl("connections", node=node)["connections"]
                    if f"default/{pod}" in (c["source"]["pod"], c["destination"]["pod"])}
            assert seen == {"tunnel"}, (pod, seen)


def both_ends(foreign, near, far, port=PORT):
    with listen(foreign.lab, far, port) as listener:
        c = foreign.connect(near, far, port)
        c.sendall(b"!")  # Envoy opens its stream when there is something to say
        listener.settimeout(10)
        while True:
            s, address = listener.accept()
            s.settimeout(10)
            if said := s.recv(1):
                break
            s.close()  # a stream of the test before that ended before Envoy had dialled for it
    assert said == b"!"
    return c, s, address[0]


def read_all(s):
    data = hashlib.sha256()
    while more := s.recv(1 << 16):
        data.update(more)
    return data.digest()


@pairs
def test_every_byte(lab, foreign, near, far, tmp_path):
    done = soak(foreign, near, far, PORT, 40, 16, random.randrange(1 << 30), tmp_path)
    assert done["sent"] > 10**7 and done["checked"] > 10**7


# Envoy's server resets the stream once its application has ended: there only a client can end first.
HALVES = [(*pair, "client") for pair in PAIRS] + [(*pair, "server") for pair in PAIRS if pair[1] != "envoy-far"]


@pytest.mark.parametrize("near, far, first", HALVES, ids=["-".join(n.split("-")[0] for n in h) for h in HALVES])
def test_half_close(lab, foreign, near, far, first):
    """One side ends and still gets everything that the other one says, for as long as it speaks."""
    c, s, _ = both_ends(foreign, near, far)
    tunnelled(lab, near, far)
    early, late = (c, s) if first == "client" else (s, c)
    early.sendall(b"last words")
    early.shutdown(socket.SHUT_WR)
    assert read_all(late) == hashlib.sha256(b"last words").digest()
    block = random.randbytes(1 << 20)
    for at in range(0, len(block), 1 << 18):
        late.sendall(block[at:at + (1 << 18)])
        time.sleep(0.02)  # so that it lives for a while in this state
    late.shutdown(socket.SHUT_WR)
    assert read_all(early) == hashlib.sha256(block).digest()
    c.close()
    s.close()


@pairs
def test_many_streams_at_once(lab, foreign, near, far, load):
    """More than one HTTP/2 connection may carry (weft allows 200, Envoy 1024)."""
    server = lab.start(far, load, "crowd", f"{lab.ip(far)}:{PORT}", ready=PORT)
    host, port = foreign.target(near, far, PORT)
    client = lab.start(near, load, "idle", f"{host}:{port}", "--clients", 500, stdin=subprocess.PIPE,
                       stdout=subprocess.PIPE)
    assert b'"clients":500' in client.stdout.readline()
    tunnelled(lab, near, far)
    c = foreign.connect(near, far, PORT)
    c.close()
    client.stdin.close()
    assert client.wait(10) == 0
    lab.stop(server)


@pairs
def test_a_reader_that_sleeps_stops_its_writer_and_nobody_else(lab, foreign, near, far):
    c, s, _ = both_ends(foreign, near, far)
    c.setblocking(False)
    block, sent, quiet = random.randbytes(1 << 16), 0, time.monotonic()
    while time.monotonic() - quiet < 1:
        try:
            sent += c.send(block[sent % len(block):])
            quiet = time.monotonic()
        except BlockingIOError:
            time.sleep(0.01)  # until it has stood still for a second
        assert sent < 256 << 20, "nobody stops the writer"
    other = both_ends(foreign, near, far, PORT + 1)
    for _ in range(100):
        other[0].sendall(b"ping")
        assert other[1].recv(100) == b"ping"
    got = 0
    while got < sent:
        data = s.recv(1 << 16)
        assert data == (block * 2)[got % len(block):][:len(data)]
        got += len(data)
    for e in (c, s, *other[:2]):
        e.close()


@pairs
def test_the_application_sees_its_real_client(lab, foreign, near, far):
    c, s, address = both_ends(foreign, near, far)
    # Envoy dials by itself; weft by the client's address
    assert address == lab.ip(near if far.startswith("weft") else far)
    c.close()
    s.close()


@pairs
def test_nobody_listens(lab, foreign, near, far):
    """The far node could not deliver: the client's connection ends at once, and not as if all were said."""
    began = time.monotonic()
    with pytest.raises((ConnectionResetError, BrokenPipeError)), foreign.connect(near, far, SHUT) as c:
        while c.send(b"is there anybody"):
            assert not c.recv(100)
            assert near == "envoy-near", "an orderly end, as if that were the answer"  # Envoy does so, now and then
    assert time.monotonic() - began < 8  # its socket waits for 10


def test_connections_that_come_and_go(lab, foreign, load):
    """A thousand of each pair, request, answer, end; none fails, and nothing of them stays."""
    for near, far in PAIRS:
        server = lab.start(far, load, "answer", f"{lab.ip(far)}:{PORT}", ready=PORT)
        host, port = foreign.target(near, far, PORT)
        out = lab.run(near, BUILD / "bench/load", "crr", f"{host}:{port}", "--seconds", 1, "--clients", 16).stdout
        assert labrun.json_lines(out)[0]["count"] > 100
        lab.stop(server)
