# SPDX-License-Identifier: Apache-2.0
"""
Readers by splice(2) under pressure. Such a reader does not see bytes that were redirected to it, and would take later
ones that came by TCP before them. A relay sits between a writer and a slow reader: they converse, so that weft splices
what it may; then comes a burst, and the relay turns to splice(2). Each byte must be right, or the connection is ended
with its reason; and when the pod is known to read so, nothing may be ended any more.
"""

import itertools
import os
import re
import socket
import time

import labrun
import pytest

from burst import Burst
from place import MIB, find

TRIES = int(os.environ.get("READER_TRIES") or 2)  # relays that weft has never seen, each a pod
LAB = "[nodes.node]\n[pods.writer]\n[pods.reader]\n" + "".join(f"[pods.relay-{n}]\n" for n in range(TRIES))
SIZE = 16 * MIB
PORT, BEHIND = 7001, 7002
ENDED = "reader_splices"
HAPROXY = """
global
	maxconn 100
	tune.sndbuf.client {buffer}
	tune.sndbuf.server {buffer}
	maxpipes 50
	stats socket {stats}
	log stderr format raw local0
defaults
	mode tcp
	log global
	option tcplog
	timeout connect 5s
	timeout client 1500ms
	timeout server 1500ms
	option {option}
frontend front
	bind :{port}
	default_backend back
backend back
	server reader {server}:{behind}
"""
numbers = itertools.count()


class Middle:
    """Where relays sit, and connections through them whose both ends are in the test's hands."""

    def __init__(self, lab, weft):
        self.lab, self.weft, self.size = lab, weft, None
        self.listener = lab.socket("reader")
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("0.0.0.0", BEHIND))
        self.listener.listen(16)
        self.listener.settimeout(60)

    def buffers(self, size):
        """Of those who read from now on."""
        self.size = size
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)

    def connect(self, pod):
        c = self.lab.socket("writer")
        if self.size:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.size)
        c.settimeout(60)
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        c.connect((self.lab.ip(pod), PORT))
        return c

    def accept(self):
        try:
            s = self.listener.accept()[0]
        except socket.timeout:
            raise ConnectionError("the relay did not connect") from None
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        s.settimeout(60)
        return s

    def shown(self, port):
        """
        What weft says of the connection from that port, whose other end the relay has: (path, reason); (None, None) on
        a plain network or at its end.
        """
        if not self.weft:
            return None, None
        return next(((x["path"], x["reason"]) for x in self.lab.weftctl("connections")["connections"]
                     if x["source"]["port"] == port), (None, None))

    def ended(self):
        """How many connections weft has ended because their reader spliced, as its log says."""
        return self.lab.log().count(f"was ended ({ENDED})") if self.weft else 0

    def converse(self, port, exchange):
        """
        Small messages until that connection is spliced, or weft says that its reader is known to splice.
        A plain network has nothing to wait for.
        """
        until = time.monotonic() + 60
        while True:
            for _ in range(50):
                exchange()
            path, reason = self.shown(port)
            if path in (None, "splice") or reason == ENDED:
                return path
            assert time.monotonic() < until, f"after a minute of conversation weft says {path}, {reason}"


def expect(s, text):
    """The next bytes of a socket."""
    got = b""
    try:
        while len(got) < len(text):
            piece = s.recv(len(text) - len(got))
            if not piece:
                raise ConnectionError("end of stream")
            got += piece
    except socket.timeout:
        raise AssertionError(f"a hang: {got} came in place of {text}") from None
    assert got == text


def line(c, n):
    """One line that the relay itself answers."""
    c.sendall(b"line %d\n" % n)
    expect(c, b"line %d\n" % n)


def exchange(c, s):
    """One message through the relay, and the answer."""
    for one, other in ((c, s), (s, c)):
        one.sendall(b"a message")
        expect(other, b"a message")


class GoAfterItsHead:
    """Reads by read(2) and answers, then turns to io.Copy: nobody could know before."""

    title, options, rate = "Go, `Read` and then `io.Copy`", ("-head",), 40e6
    bursts = 2
    back = False  # does the server write the bursts?
    early = 0  # bytes that are written before the relay has turned to the reader

    def __init__(self, middle, pod, go_relay):
        self.middle, self.pod = middle, pod
        middle.lab.start(pod, go_relay(), *self.options, PORT, f"{middle.lab.ip('reader')}:{BEHIND}", ready=PORT)

    def open(self, seed):
        c = self.middle.connect(self.pod)
        numbers = iter(range(10**9))
        path = self.middle.converse(c.getsockname()[1], lambda: line(c, next(numbers)))
        c.sendall(b"GO\n")
        expect(c, b"GO\n")
        return c, path

    def log(self):
        """What the relay has to say about the end of a connection."""
        return "the relay says: " + "".join(p.read_text() for p in self.middle.lab.scratch.glob(f"{self.pod}-*.err"))

    def spliced(self):
        return True  # io.Copy between two TCP connections does


class GoLate(GoAfterItsHead):
    """
    The same, but redirected bytes wait for its first splice(2). So few that all of them fit in a grant (decide.h): what
    went by TCP behind them such a reader would take at once, before anybody can end the connection.
    """

    title, options, early = "Go, `Read`, a pause, then `io.Copy`", ("-late",), 500_000


class Go(GoAfterItsHead):
    """io.Copy from the first byte."""

    title, options = "Go, `io.Copy`", ()

    def open(self, seed):
        return self.middle.connect(self.pod), None


class Haproxy(Go):
    """
    Reads by recv(2) until `option splice-auto` finds that it is a stream. HAProxy asks itself that only when
    its stream task runs, which is once in a timeout while bytes flow: so the timeout is short and the reader slow. And
    the buffers behind it are small: a burst that fits in them has passed HAProxy long before its reader has it, and
    then HAProxy sees nothing until its timeout ends the connection.
    """

    title, option, rate = "HAProxy, `option splice-auto`", "splice-auto", 8e6
    bursts = 1
    buffer = 1 << 18

    def __init__(self, middle, pod, _):  # pylint: disable=super-init-not-called
        self.middle, self.pod = middle, pod
        self.stats = middle.lab.scratch / f"{pod}.sock"
        conf = middle.lab.scratch / f"{pod}.cfg"
        middle.buffers(self.buffer)
        conf.write_text(HAPROXY.format(stats=self.stats, port=PORT, option=self.option, buffer=self.buffer,
                                       server=middle.lab.ip("reader"), behind=BEHIND))
        middle.lab.start(pod, find("haproxy"), "-db", "-f", conf, ready=PORT)

    def spliced(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.stats))
            s.sendall(b"show info\n")
            said = s.makefile().read()
        return int(re.search(r"^TotalSpl\w*BytesOut: *(\d+)", said, re.M)[1]) > 0


class HaproxyAlways(Haproxy):
    """`option splice-request`: by splice(2) as soon as the connection behind it stands."""

    title, option, rate = "HAProxy, `option splice-request`", "splice-request", 40e6
    bursts = 2


class HaproxyAnswers(Haproxy):
    """The burst is an answer: HAProxy splices from the connection that it has opened itself."""

    title, back = "HAProxy, `option splice-auto`, an answer", True


def one(middle, relay, bursts, seed):
    """
    A connection through the relay: conversation, burst, conversation, burst ... Gives (everything came, or it was
    ended; the path it had).
    """
    c, path = relay.open(seed)
    burst, s = Burst(relay.rate, seed), None
    if relay.early:
        burst.begin(c, relay.early)
    try:
        s = middle.accept()
        writer, reader = (s, c) if relay.back else (c, s)
        port = s.getpeername()[1] if relay.back else c.getsockname()[1]
        if relay.early:
            if not burst.end(reader, relay.early):
                return False, path
        elif not path:
            path = middle.converse(port, lambda: exchange(c, s))
        for _ in range(bursts):
            burst.begin(writer, SIZE)
            if not burst.end(reader, SIZE):
                return False, path
            until = time.monotonic() + 0.2
            while time.monotonic() < until:
                exchange(c, s)
        writer.shutdown(socket.SHUT_WR)
        assert not reader.recv(1)
        return True, path
    except ConnectionError:
        return False, path
    finally:
        c.close()
        if s:
            s.close()


@pytest.fixture(params=[False, True], ids=["plain", "weft"])
def middle(request, make_lab):
    made = Middle(make_lab(LAB, name=f"reads-{next(numbers)}", weft=request.param), request.param)
    yield made
    made.listener.close()


@pytest.mark.parametrize("relay", [Haproxy, HaproxyAnswers, HaproxyAlways, Go, GoAfterItsHead, GoLate])
def test_a_slow_reader_behind_a_relay(middle, no_connection_left, go_relay, told_of_readers, relay):
    for n in range(TRIES if middle.weft else 1):
        sitting = relay(middle, f"relay-{n}", go_relay)
        ends = middle.ended()
        first, before = one(middle, sitting, sitting.bursts, 3 * n + 3)
        assert not first or sitting.spliced(), "the relay has not spliced: this is no test"
        if not middle.weft:
            assert first, sitting.log()
            return
        if not first:
            assert before == "splice", f"ended, although it was on {before}; {sitting.log()}"
            labrun.wait_for(lambda: middle.ended() > ends, 5,  # pylint: disable=cell-var-from-loop
                            f"a word of weftd that it ended the connection ({ENDED}); {sitting.log()};")
        done, path = one(middle, sitting, 1, 2)
        assert done, f"a connection of a known reader was ended; weft had it on {path}; {sitting.log()}"
        assert path == "tcp", f"a known reader by splice(2) was on {path}"
        told_of_readers(sitting.title, before, first)
    no_connection_left(middle.lab)
