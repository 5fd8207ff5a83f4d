# SPDX-License-Identifier: Apache-2.0
"""Two nodes: what their pods say to each other is on the link as TLS 1.3 to port 15008, and as nothing else."""

import random
import socket
import threading

import labrun
import pytest
from labwire import records, segments, streams

from pairs import listen
from two_nodes import LAB, MANIFESTS, paths  # noqa: F401: the lab of the fixture

SECRET = b"correct horse battery staple, said in the clear"
PORT = 7000
SIZE = 2 << 20
SLICE, EVERY = 16, 8192  # what is looked for: so many bytes at each such place of the payload
families = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])


def exchange(lab, family):
    """Both ends say a secret and a payload at once and end; gives the payloads."""
    said = random.randbytes(SIZE), random.randbytes(SIZE)
    with listen(lab, "server", PORT, family) as listener, lab.socket("client", family) as c:
        c.settimeout(20)
        listener.settimeout(20)
        c.connect((lab.ip("server", 6 if family == socket.AF_INET6 else 4), PORT))
        c.sendall(SECRET)
        s, address = listener.accept()
        assert address[0] == lab.ip("client", 6 if family == socket.AF_INET6 else 4)
        s.settimeout(20)
        got = [None, None]
        ends = [threading.Thread(target=talk, args=args) for args in ((c, said[0], got, 1), (s, said[1], got, 0))]
        for t in ends:
            t.start()
        for t in ends:
            t.join(30)
        assert (got[0], got[1]) == (SECRET + said[0], said[1])
        s.close()
    return said


def talk(s, payload, got, which):
    """Writes all of it and ends, while it reads to the end."""
    def write():
        s.sendall(payload)
        s.shutdown(socket.SHUT_WR)
    writer = threading.Thread(target=write)
    writer.start()
    data = bytearray()
    while more := s.recv(1 << 16):
        data += more
    writer.join(20)
    got[which] = bytes(data)


def plain(pcap, payloads):
    """How many slices of what was said stand in the capture as they are."""
    pieces = [SECRET[at:at + SLICE] for at in range(0, len(SECRET) - SLICE, SLICE)]
    pieces += [p[at:at + SLICE] for p in payloads for at in range(0, SIZE - SLICE, EVERY)]
    return sum(piece in pcap for piece in pieces), len(pieces)


@families
def test_nothing_of_what_pods_say_is_on_the_link(lab, family):
    capture = lab.capture("not arp and not icmp6")
    payloads = exchange(lab, family)
    pcap = capture.stop()
    assert len(pcap) > 2 * SIZE
    assert plain(pcap, payloads)[0] == 0
    assert {15008 in (s.source_port, s.target_port) for s in segments(pcap)} == {True}
    for flow, stream in streams(pcap).items():
        kinds = [(kind, version) for kind, version, _ in records(stream)]
        if kinds[0][0] == 22:  # ClientHello, ServerHello; not of a tunnel that stood before
            kinds.pop(0)
        assert kinds and set(kinds) <= {(20, 0x0303), (23, 0x0303)}, (flow, set(kinds))  # all else is sealed


@families
def test_without_weft_all_of_it_is(make_lab, family):
    """The control: what the test above looks for is found where there is nothing to hide it."""
    lab = make_lab(LAB, name="bare", weft=False)
    capture = lab.capture("tcp")
    payloads = exchange(lab, family)
    found, pieces = plain(capture.stop(), payloads)
    assert found > 0.95 * pieces  # what a frame ends in the middle of is not found


def test_weft_says_so_too(lab):
    with listen(lab, "server", PORT) as listener, lab.socket("client") as c:
        c.settimeout(10)
        listener.settimeout(10)
        c.connect((lab.ip("server"), PORT))
        c.sendall(b"x")
        s, _ = listener.accept()
        for node in ("n1", "n2"):
            assert labrun.wait_for(lambda n=node: paths(lab, n, PORT), 5, "the connection") == {"tunnel"}, node
        s.close()
