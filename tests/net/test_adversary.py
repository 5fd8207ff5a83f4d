# SPDX-License-Identifier: Apache-2.0
"""
A pod that does all to get past the policy of another: with addresses that it was not given, of other families, of
the node; with sockets that connect in unusual ways. What it is known by is its socket, whatever it does.
"""

import collections
import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import time

import labrun
import pairs
import pytest
from test_policy import World, policy

LAB = """
[nodes.n1]
[pods.evil]
namespace = "evil"
service_account = "evil"
ips = ["10.244.1.66"]
[pods.good]
namespace = "good"
service_account = "good"
[pods.server]
namespace = "shop"
service_account = "server"
labels = { app = "api" }
annotations = { "weft.io/splice" = "always" }
[pods.second]
namespace = "shop"
service_account = "second"
annotations = { "weft.io/splice" = "always" }
[pods.stranger]
enrol = false
"""
SPLICE = ("splice",)
PORT = 8080
MSG_FASTOPEN = 0x20000000
TCP_FASTOPEN, TCP_FASTOPEN_CONNECT = 23, 30
IPPROTO_MPTCP = 262

DENY_EVIL = policy("shop", "no-evil", "DENY", [{"from": [{"source": {"namespaces": ["evil"]}}]}])
ALLOW_GOOD = policy("shop", "only-good", "ALLOW", [{"from": [{"source": {"namespaces": ["good"]}}]}])


@pytest.fixture(scope="module")
def world(lab):
    return World(lab)


@pytest.fixture
def empty(world):
    world.put([])
    yield world
    world.put([])


@pytest.fixture(scope="module")
def listener(lab):
    s = pairs.listen(lab, "server", PORT, socket.AF_INET6, any_family=True)
    s.settimeout(30)
    yield s
    s.close()


def attempt(lab, pod, address, bind=None, family=None, seconds=30):
    """How a connect ends: "connected" or the name of its errno."""
    family = family or (socket.AF_INET6 if ":" in address else socket.AF_INET)
    with lab.socket(pod, family) as s:
        s.settimeout(seconds)
        try:
            if bind:
                s.bind((bind, 0))
            s.connect((address, PORT))
        except TimeoutError:
            return "ETIMEDOUT"
        except OSError as e:
            return errno.errorcode[e.errno]
    return "connected"


class Address:
    """An address that a pod gives to itself."""

    def __init__(self, lab, pod, address):
        self.lab, self.pod, self.address = lab, pod, address

    def __enter__(self):
        flags = ["nodad"] if ":" in self.address else []
        self.lab.run(self.pod, "ip", "addr", "add", self.address, "dev", "eth0", *flags)

    def __exit__(self, *_):
        self.lab.run(self.pod, "ip", "addr", "del", self.address, "dev", "eth0")


class Neighbour:
    """`pod` sends what is for `address` to another pod, as if that one had won the race to answer."""

    def __init__(self, lab, pod, address, other):
        self.lab, self.pod, self.address = lab, pod, address
        self.mac = json.loads(lab.run(other, "ip", "-j", "link", "show", "eth0").stdout)[0]["address"]

    def __enter__(self):
        self.lab.run(self.pod, "ip", "neigh", "replace", self.address, "lladdr", self.mac, "dev", "eth0", "nud",
                     "permanent")

    def __exit__(self, *_):
        self.lab.run(self.pod, "ip", "neigh", "del", self.address, "dev", "eth0")


# ---------------------------------------------------------------- the source


@pytest.mark.parametrize("bind", [None, "::ffff:0.0.0.0", "::"])
def test_bind_to_nothing_in_another_notation(lab, empty, listener, bind):
    """The mapped form of 0.0.0.0 is no address to be judged by."""
    target = "::ffff:" + lab.ip("server")
    empty.put([policy("shop", "block", "DENY", [{"from": [{"source": {"ipBlocks": [lab.ip("evil")]}}]}])])
    assert attempt(lab, "evil", target, bind) == "ECONNREFUSED"
    empty.put([policy("shop", "block", "ALLOW", [{"from": [{"source": {"ipBlocks": [lab.ip("evil")]}}]}])])
    assert attempt(lab, "evil", target, bind) == "connected"


@pytest.mark.parametrize("what", [DENY_EVIL, ALLOW_GOOD], ids=["deny", "allow"])
def test_address_of_a_family_that_the_pod_was_not_given(lab, empty, listener, what):
    """weft knows evil's IPv4 alone: with an IPv6 address of its own making it is evil all the same."""
    empty.put([what])
    prefix = lab.ip("server", 6).rpartition(":")[0]
    with Address(lab, "evil", f"{prefix}:6666/64"):
        assert attempt(lab, "evil", lab.ip("server", 6)) == "ECONNREFUSED"
        empty.put([])
        assert attempt(lab, "evil", lab.ip("server", 6)) == "connected"


def test_address_of_the_node(lab, empty, listener):
    """The node passes, a pod that gives itself the node's address does not."""
    empty.put([ALLOW_GOOD])
    node = lab.ip("n1", 6)
    with Address(lab, "evil", f"{node}/64"):
        with Neighbour(lab, "server", node, "evil"):
            assert attempt(lab, "evil", lab.ip("server", 6)) == "ECONNREFUSED"
            assert attempt(lab, "evil", lab.ip("server", 6), bind=node) == "ECONNREFUSED"
            empty.put([])
            assert attempt(lab, "evil", lab.ip("server", 6)) == "connected"  # nothing else was in the way
            empty.put([ALLOW_GOOD])
    assert attempt(lab, "n1", lab.ip("server", 6)) == "connected"


@pytest.mark.parametrize("family", [4, 6])
def test_address_of_another_pod(lab, empty, listener, family):
    empty.put([ALLOW_GOOD])
    other = lab.ip("good", family)
    with Address(lab, "evil", other + ("/64" if family == 6 else "/24")):
        with Neighbour(lab, "server", other, "evil"):
            assert attempt(lab, "evil", lab.ip("server", family), bind=other) == "ECONNREFUSED"
            assert attempt(lab, "evil", lab.ip("server", family)) == "ECONNREFUSED"
    assert attempt(lab, "good", lab.ip("server", family)) == "connected"


# ---------------------------------------------------------------- ways to connect


@pytest.mark.parametrize("what", [DENY_EVIL, ALLOW_GOOD], ids=["deny", "allow"])
def test_unusual_connects_are_asked_too(lab, empty, listener, what):
    empty.put([what])
    target = (lab.ip("server"), PORT)
    with lab.socket("evil") as s:  # the SYN carries data
        s.settimeout(30)
        with pytest.raises(ConnectionRefusedError):
            s.sendto(b"x", MSG_FASTOPEN, target)
            s.recv(1)
    with lab.socket("evil") as s:  # connect() sends nothing
        s.settimeout(30)
        s.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
        with pytest.raises(ConnectionRefusedError):
            s.connect(target)
            s.send(b"x")
            s.recv(1)
    with lab.socket("evil", protocol=IPPROTO_MPTCP) as s:
        s.settimeout(30)
        with pytest.raises(ConnectionRefusedError):
            s.connect(target)


def test_socket_that_goes_elsewhere(lab, empty, listener):
    """connect(AF_UNSPEC): what was decided for the first destination is not good for the second."""
    empty.put([policy("shop", "no-evil", "DENY", [{"from": [{"source": {"namespaces": ["evil"]}}]}],
                      {"app": "api"})])
    with pairs.listen(lab, "second", PORT) as other, lab.socket("evil") as s:
        s.settimeout(30)
        s.connect((lab.ip("second"), PORT))
        other.accept()[0].close()
        unconnect(s)
        with pytest.raises(ConnectionRefusedError):
            s.connect((lab.ip("server"), PORT))


def unconnect(s):
    """Python has no connect(AF_UNSPEC)."""
    libc = ctypes.CDLL(None, use_errno=True)
    name = struct.pack("=H14x", socket.AF_UNSPEC)
    if libc.connect(s.fileno(), name, len(name)):
        raise OSError(ctypes.get_errno(), "connect(AF_UNSPEC)")


# ---------------------------------------------------------------- in time


def test_handshake_that_outlives_a_policy(lab, empty):
    """A handshake that ends seconds after the policy began to forbid it: the connection ends too."""
    with pairs.listen(lab, "server", 8082) as deferred, lab.socket("stranger") as s:
        deferred.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 60)
        deferred.settimeout(30)
        s.settimeout(30)
        s.connect((lab.ip("server"), 8082))  # the server waits for data before it takes it for established
        empty.put([ALLOW_GOOD])
        time.sleep(2.5)  # what was under way when the policy changed is looked at for a while
        s.send(b"let me in")
        with pytest.raises((ConnectionResetError, ConnectionAbortedError)):
            got = deferred.accept()[0]
            got.settimeout(30)
            while got.recv(100):
                pass
            got.recv(1)
            raise AssertionError("served")


# ---------------------------------------------------------------- the splice


def test_socket_that_connects_again_gets_no_old_bytes(lab, empty):
    """Bytes of the first server that nobody has read are gone with its connection."""
    with pairs.listen(lab, "second", PORT) as other:
        other.settimeout(30)
        c, s = pairs.pair(lab, "good", "server")
        pairs.settle(lab, c, s)
        for _ in range(5):
            s.send(b"old secret")
        unconnect(c)
        c.connect((lab.ip("second"), PORT))
        t, _ = other.accept()
        t.settimeout(30)
        t.send(b"new")
        assert c.recv(100) == b"new"
        pairs.talk(c, t)
        pairs.close(c, s, t)


def test_data_in_the_syn(lab, empty):
    """TCP Fast Open: the server stands before its client does. Bytes in order, and a reason that says something."""
    with pairs.listen(lab, "second", 8083) as quick:
        quick.settimeout(30)
        lab.run("second", "sysctl", "-qw", "net.ipv4.tcp_fastopen=0x603")  # no cookie is asked for
        lab.run("good", "sysctl", "-qw", "net.ipv4.tcp_fastopen=0x5")
        quick.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN, 16)
        c = lab.socket("good")
        c.settimeout(30)
        c.sendto(b"first", MSG_FASTOPEN, (lab.ip("second"), 8083))
        s, _ = quick.accept()
        s.settimeout(30)
        assert s.recv(100) == b"first"
        pairs.talk(c, s, 100)
        shown = pairs.shown(lab, c)
        assert (shown["path"], shown["reason"]) in (("splice", "spliced"), ("tcp", "watched")), shown
        pairs.close(c, s)


# Several processes share one socket, as a pre-forking server or fork() without exec make it: each sends whole records.
# Not more of them are under way than the socket has room for: who waits for some within a record lets others send, with
# plain TCP too (of 400 000 such records it tore one in the first half, twice of twice, behind a reader that slept).
SENDERS, RECORDS, RECORD, UNDER_WAY = 4, 4000, struct.Struct("=II56s"), 200


def send_records(s, who, room):
    for n in range(RECORDS):
        os.read(room, 1)
        s.sendall(RECORD.pack(who, n, bytes([who]) * 56))


def test_processes_that_share_a_socket(lab, empty):
    """Each record whole, those of one sender in order, through switches of the splice."""
    c, s = pairs.pair(lab, "good", "second")
    room, more = os.pipe()
    os.write(more, bytes(UNDER_WAY))
    children = []
    for who in range(SENDERS):
        pid = os.fork()
        if not pid:
            try:
                send_records(c, who, room)
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    next_of, data, seen = [0] * SENDERS, b"", 0
    try:
        while seen < SENDERS * RECORDS:
            data += s.recv(1 << 16)
            whole = len(data) // RECORD.size * RECORD.size
            for who, n, body in RECORD.iter_unpack(data[:whole]):
                assert who < SENDERS and n == next_of[who] and body == bytes([who]) * 56, (who, n, next_of)
                next_of[who] += 1
                seen += 1
                if seen % 1500 == 0:
                    lab.weftctl("splice", ("off", "on")[seen // 1500 % 2], text=True)
            data = data[whole:]
            os.write(more, bytes(whole // RECORD.size))
    finally:
        for fd in (room, more):
            os.close(fd)
        for pid in children:
            if seen < SENDERS * RECORDS:
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        lab.weftctl("splice", "on", text=True)
    pairs.close(c, s)


# ---------------------------------------------------------------- rows that are replaced while they are read

# Writes the rows of two keys of a map again and again, as they are: each frees the memory that the next one takes.
CHURN = """
import ctypes, os, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def bpf(command, attr):
    return libc.syscall({"x86_64": 321, "aarch64": 280}[os.uname().machine], command, attr, len(attr))
path = ctypes.create_string_buffer(sys.argv[1].encode())
fd = bpf(7, ctypes.create_string_buffer(struct.pack("=QIIQ", ctypes.addressof(path), 0, 0, 0)))
assert fd >= 0
keys, values = b"", b""
for key in map(bytes.fromhex, sys.argv[3:]):
    k, v = ctypes.create_string_buffer(key), ctypes.create_string_buffer(int(sys.argv[2]))
    assert not bpf(1, ctypes.create_string_buffer(struct.pack("=IIQQQ", fd, 0, ctypes.addressof(k),
                                                              ctypes.addressof(v), 0)))
    keys, values = keys + key, values + v.raw[:int(sys.argv[2])]
n = 100
keys, values = ctypes.create_string_buffer(keys * n), ctypes.create_string_buffer(values * n)
batch = struct.pack("=QQQQIIQQ", 0, 0, ctypes.addressof(keys), ctypes.addressof(values), n * len(sys.argv[3:]), fd,
                    0, 0)
assert not bpf(26, ctypes.create_string_buffer(batch))
print("ready", flush=True)
while True:
    bpf(26, ctypes.create_string_buffer(batch))
"""


@contextlib.contextmanager
def churn(lab, name, keys):
    """The rows of two keys of a map are replaced without a pause."""
    found = {tuple(r["key"]): len(r["value"]) for r in lab.map(name)}
    keys = [next(k for k in found if bytes(int(b, 16) for b in k).startswith(key)) for key in keys]
    path = f"/sys/fs/bpf/weft/{lab.instance()}/{name}"
    churner = subprocess.Popen([sys.executable, "-c", CHURN, path, str(found[keys[0]]),
                                *("".join(b.removeprefix("0x") for b in k) for k in keys)], stdout=subprocess.PIPE)
    try:
        assert churner.stdout.readline() == b"ready\n"
        yield
    finally:
        churner.kill()
        churner.wait()


def told(lab, pod, where, seconds=3):
    """What connect() says at once, of tens of thousands: a Counter of errno."""
    until, said = time.monotonic() + seconds, collections.Counter()
    with lab.socket(pod) as s:
        s.setblocking(False)
        while time.monotonic() < until:
            e = s.connect_ex(where)
            said[errno.errorcode.get(e, e)] += 1
            if e != errno.ECONNREFUSED:
                unconnect(s)
    return said


def test_pod_rows_that_are_replaced_while_they_are_read(lab, empty, listener):
    """evil is never taken for good, whose row has got the memory of evil's."""
    empty.put([DENY_EVIL])
    rows = {r["formatted"]["value"]["name"]: r for r in lab.map("pods")}
    keys = [bytes(int(b, 16) for b in rows[name]["key"]) for name in ("evil/evil", "good/good")]
    with churn(lab, "pods", keys):
        said = told(lab, "evil", (lab.ip("server"), PORT))
    assert set(said) == {"ECONNREFUSED"}, said


def mapped(ip):
    return bytes(10) + b"\xff\xff" + socket.inet_aton(ip)


def test_address_rows_that_are_replaced_while_they_are_read(lab, empty, listener):
    """The server is never taken for an address of nobody."""
    empty.put([DENY_EVIL])
    with churn(lab, "addresses", [mapped(lab.ip("server")), mapped(lab.ip("second"))]):
        said = told(lab, "evil", (lab.ip("server"), PORT))
    assert set(said) == {"ECONNREFUSED"}, said


def test_service_rows_that_are_replaced_while_they_are_read(lab, empty):
    """Nobody is refused whose service is being written again. Its endpoint does not answer: only connect() is asked."""
    vips, endpoint = ("10.96.9.1", "10.96.9.2"), "10.244.1.250"
    items = [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"s{i}", "namespace": "shop"},
              "spec": {"clusterIPs": [vip], "ports": [{"port": 80}]}} for i, vip in enumerate(vips)]
    items += [{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
               "metadata": {"name": f"s{i}", "namespace": "shop", "labels": {"kubernetes.io/service-name": f"s{i}"}},
               "addressType": "IPv4", "ports": [{"port": 80}], "endpoints": [{"addresses": [endpoint]}]}
              for i in range(2)]
    lab.manifest("services.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    labrun.wait_for(lambda: len(lab.map("services")) == 2 and len(lab.map("endpoints")) == 2, 5, "both services")
    with churn(lab, "services", [mapped(vip) for vip in vips]):
        said = told(lab, "good", (vips[0], 80))
    (lab.manifests / "services.json").unlink()
    assert set(said) == {"EINPROGRESS"}, said
