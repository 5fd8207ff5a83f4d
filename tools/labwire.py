# SPDX-License-Identifier: Apache-2.0
"""What a capture of the link between nodes holds (labrun.Capture): TCP segments, and streams of bytes out of them."""

import collections
import ipaddress
import struct

Segment = collections.namedtuple("Segment", "source source_port target target_port sequence payload")
FRAME = struct.Struct("<IIII")  # of a pcap of this machine: seconds, microseconds, bytes kept, bytes there were


def segments(pcap):
    """Every TCP segment, IPv4 and IPv6."""
    magic, _, _, _, _, _, link = struct.unpack_from("<IHHiIII", pcap)
    assert (magic, link) == (0xa1b2c3d4, 1), "not a pcap of Ethernet frames"
    at = 24
    while at < len(pcap):
        _, _, kept, there = FRAME.unpack_from(pcap, at)
        assert kept == there, "a frame was cut"
        frame = pcap[at + FRAME.size:at + FRAME.size + kept]
        at += FRAME.size + kept
        if segment := tcp(frame):
            yield segment


def tcp(frame):
    """A frame's TCP segment; None: it has none."""
    kind, packet = frame[12:14], frame[14:]
    if kind == b"\x08\x00" and packet[9] == 6:
        head, length = (packet[0] & 15) * 4, int.from_bytes(packet[2:4])
        source, target = packet[12:16], packet[16:20]
    elif kind == b"\x86\xdd" and packet[6] == 6:
        head, length = 40, 40 + int.from_bytes(packet[4:6])
        source, target = packet[8:24], packet[24:40]
    else:
        return None
    # a length of 0: a packet of more than 64 KB, which veth carries whole
    segment = packet[head:length if length > head else len(packet)]
    source_port, target_port, sequence = struct.unpack_from("!HHI", segment)
    return Segment(str(ipaddress.ip_address(source)), source_port, str(ipaddress.ip_address(target)), target_port,
                   sequence, segment[(segment[12] >> 4) * 4:])


def streams(pcap):
    """{(source, port, target, port): all bytes in the order of their numbers}, without what was sent twice."""
    parts = collections.defaultdict(dict)
    for s in segments(pcap):
        if s.payload:
            parts[s[:4]].setdefault(s.sequence, s.payload)
    found = {}
    for flow, pieces in parts.items():
        first = min(pieces)
        if max(pieces) - first > 1 << 31:  # the numbers went round
            pieces = {(n - (1 << 31)) % (1 << 32): p for n, p in pieces.items()}
            first = min(pieces)
        stream = bytearray()
        for number in sorted(pieces):
            stream += pieces[number][max(0, len(stream) - (number - first)):]
        found[flow] = bytes(stream)
    return found


def records(stream):
    """The TLS records of a stream: (content type, version, length) of each."""
    at, found = 0, []
    while at + 5 <= len(stream):
        kind, version, length = struct.unpack_from("!BHH", stream, at)
        found.append((kind, version, length))
        at += 5 + length
    return found
