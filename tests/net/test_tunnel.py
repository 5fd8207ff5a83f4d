# SPDX-License-Identifier: Apache-2.0
"""
Pods of two nodes talk through their workers and mutual TLS and do not know it: what a socket shows, in which order
ends come, what is refused and how, what happens when something dies.
"""

import errno
import hashlib
import itertools
import json
import os
import random
import select
import signal
import socket
import threading

import labrun
import pytest

from stopwatch import Stopwatch

PLACES = (("near", "n1", 1, 10), ("second", "n1", 1, 11), ("far", "n2", 2, 10), ("other", "n2", 2, 11))
LAB = "[nodes.n1]\n[nodes.n2]\n" + "".join(
    f'[pods.{name}]\nnode = "{node}"\nservice_account = "{name}"\nlabels = {{ app = "{name}" }}\n'
    for name, node, _, _ in PLACES) + """
[pods.proxied]
node = "n2"
service_account = "proxied"
annotations = { "weft.io/proxy" = "always" }
[pods.outsider]
node = "n2"
enrol = false
"""
VIP, VIP6 = "10.96.7.1", "fd00:96::7"


def pod(name, node, n, host):
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": {"app": name}},
            "spec": {"nodeName": node, "serviceAccountName": name, "containers": [{"name": "c"}]},
            "status": {"phase": "Running",
                       "podIPs": [{"ip": f"10.244.{n}.{host}"}, {"ip": f"fd00:244:0:{n}::{host:x}"}]}}


def policy(action, principal, name="rule", target="far"):
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"action": action, "selector": {"matchLabels": {"app": target}},
                     "rules": [{"from": [{"source": {"principals": [principal]}}]}]}}


def folder(*objects):
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "far", "namespace": "default"},
           "spec": {"clusterIPs": [VIP, VIP6], "selector": {"app": "far"},
                    "ports": [{"name": "tcp", "port": 80, "targetPort": 7000}]}}
MANIFESTS = {"pods.json": folder(SERVICE, *(pod(*p) for p in PLACES))}
PORTS = itertools.count(7100)
families = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
MIB = 1 << 20


def number(family):
    return 6 if family == socket.AF_INET6 else 4


def listen(lab, name, port, family=socket.AF_INET, backlog=512):
    s = lab.socket(name, family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((lab.ip(name, number(family)), port))
    s.listen(backlog)
    s.settimeout(60)
    return s


def dial(lab, name, to, family=socket.AF_INET, source=None):
    s = lab.socket(name, family)
    if source:
        s.bind((source, 0))
    s.settimeout(60)
    s.connect(to)
    return s


def is_reset(lab, name, to, family=socket.AF_INET):
    """The worker takes the connection, then resets it; that may be seen by connect() already."""
    with pytest.raises(ConnectionResetError):
        with dial(lab, name, to, family) as s:
            s.recv(1)


class Pair:
    """A connection through the tunnel: .client and .server"""

    def __init__(self, lab, family=socket.AF_INET, source="near", target="far"):
        self.port = next(PORTS)
        with listen(lab, target, self.port, family) as listener:
            self.client = dial(lab, source, (lab.ip(target, number(family)), self.port), family)
            self.server, self.seen = listener.accept()
        self.server.settimeout(60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()
        self.server.close()


def reset(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    s.close()


def read_all(s):
    data = bytearray()
    while more := s.recv(1 << 18):
        data += more
    return bytes(data)


def of_port(lab, node, port):
    return [c for c in lab.weftctl("connections", node=node)["connections"] if c["destination"]["port"] == port]


def reason(lab, node, name):
    found = lab.map("reasons", node=node)
    numbers = {r["name"]: r["number"] for r in lab.weftctl("reasons", node=node)["reasons"]}
    for e in found:
        f = e["formatted"]
        if f["key"] == numbers[name]:
            return sum(v["value"] for v in f["values"])
    return 0


# ------------------------------------------------------------------ what the ends see


@families
def test_both_ends_see_who_they_talk_with(lab, family):
    with Pair(lab, family) as p:
        assert p.seen[0] == lab.ip("near", number(family))
        assert p.client.getpeername()[:2] == (lab.ip("far", number(family)), p.port)
        assert p.client.getsockname()[0] == lab.ip("near", number(family))
        assert p.server.getsockname()[:2] == (lab.ip("far", number(family)), p.port)
        p.client.sendall(b"to")
        assert p.server.recv(10) == b"to"
        p.server.sendall(b"fro")
        assert p.client.recv(10) == b"fro"
        here, there = of_port(lab, "n1", p.port), of_port(lab, "n2", p.port)
        assert [c["path"] for c in here] == [c["path"] for c in there] == ["tunnel"]
        assert here[0]["source"]["pod"] == there[0]["source"]["pod"] == "default/near"
        assert here[0]["destination"]["pod"] == there[0]["destination"]["pod"] == "default/far"
        assert here[0]["peer"] == "cluster.local/ns/default/sa/far"
        assert there[0]["identity"] == "cluster.local/ns/default/sa/near"
        for c in here + there:
            assert (c["bytes_sent"], c["bytes_received"]) == (2, 3), c


def test_from_another_address_of_the_pod(lab):
    """It is not the one that the connection was sent to, so the record is not where the worker looks first."""
    port, own = next(PORTS), "10.244.1.210"
    lab.run("near", "ip", "address", "add", f"{own}/32", "dev", "lo")
    try:
        with listen(lab, "far", port) as listener, dial(lab, "near", (lab.ip("far"), port), source=own) as c:
            assert c.getsockname()[0] == own
            server, _ = listener.accept()
            c.sendall(b"to")
            assert server.recv(10) == b"to"
            server.sendall(b"fro")
            assert c.recv(10) == b"fro"
            assert [r["path"] for r in of_port(lab, "n1", port)] == ["tunnel"]
            server.close()
    finally:
        lab.run("near", "ip", "address", "del", f"{own}/32", "dev", "lo")


def test_a_server_that_speaks_first(lab):
    with Pair(lab) as p:
        p.server.sendall(b"220 ready")
        assert p.client.recv(20) == b"220 ready"


@pytest.mark.parametrize("vip", [VIP, VIP6])
def test_by_a_service(lab, vip):
    family = socket.AF_INET6 if ":" in vip else socket.AF_INET
    with listen(lab, "far", 7000, family) as listener, dial(lab, "near", (vip, 80), family) as c:
        s, seen = listener.accept()
        assert seen[0] == lab.ip("near", number(family))
        assert c.getpeername()[:2] == (vip, 80)
        c.sendall(b"x")
        assert s.recv(1) == b"x"
        row = [r for r in of_port(lab, "n1", 7000) if r["service"]]
        assert row[0]["service"] == "default/far" and row[0]["asked_address"] == vip
        s.close()


def test_weftctl_shows_the_tunnel(lab):
    with Pair(lab):
        out = [t for t in lab.weftctl("tunnels", node="n1")["tunnels"] if t["streams"]]
        into = [t for t in lab.weftctl("tunnels", node="n2")["tunnels"] if t["streams"]]
        assert [(t["direction"], t["pod"], t["peer"]) for t in out] == [
            ("out", "default/near", "cluster.local/ns/default/sa/far")]
        assert [(t["direction"], t["pod"], t["peer"]) for t in into] == [
            ("in", "default/far", "cluster.local/ns/default/sa/near")]
        for t in out + into:
            assert t["alpn"] == "h2" and t["cipher"].startswith("TLS_AES_") and t["state"] == "open"
            assert t["bytes_sent"] and t["bytes_received"] and t["send_window"] > 0 and t["receive_window"] > 0
            assert t["key_exchange"].lower() in ("x25519", "x25519mlkem768") and t["waits"] == "nothing"
            assert t["streams"] == 1 and t["streams_opened"] >= 1 and t["age_ms"] >= 0 and t["round_trip_us"] >= 0
        assert out[0]["identity"] == into[0]["peer"] and into[0]["identity"] == out[0]["peer"]


# ------------------------------------------------------------------ bytes


def pour(s, size, seed, digest):
    """Random bytes in pieces of random size, then the end."""
    r = random.Random(seed)
    block = r.randbytes(MIB + 4096)
    while size:
        n = min(size, r.choice((1, 7, 1000, 16384, 65536, 300000)))
        at = r.randrange(len(block) - n + 1) if n < len(block) else 0
        piece = block[at:at + n]
        s.sendall(piece)
        digest.update(piece)
        size -= len(piece)
    s.shutdown(socket.SHUT_WR)


def drain(s, digest):
    size = 0
    while more := s.recv(1 << 18):
        digest.update(more)
        size += len(more)
    return size


def both_ways(p, size, seed):
    """`size` bytes each way at once; what came is what was sent."""
    sums = [hashlib.sha256() for _ in range(4)]
    got = {}
    threads = [threading.Thread(target=pour, args=(p.client, size, seed, sums[0])),
               threading.Thread(target=pour, args=(p.server, size, seed + 1, sums[1])),
               threading.Thread(target=lambda: got.update(server=drain(p.server, sums[2]))),
               threading.Thread(target=lambda: got.update(client=drain(p.client, sums[3])))]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120)
    assert got == {"server": size, "client": size}
    assert sums[0].digest() == sums[2].digest() and sums[1].digest() == sums[3].digest()


@families
def test_bytes_both_ways_at_once(lab, family):
    with Pair(lab, family) as p:
        p.client.settimeout(60)
        p.server.settimeout(60)
        both_ways(p, 64 * MIB, 1)


def test_a_hundred_at_once(lab):
    pairs = [Pair(lab, source=("near", "second")[i % 2], target=("far", "other")[i // 2 % 2]) for i in range(100)]
    threads = [threading.Thread(target=both_ways, args=(p, 200000, 10 * i)) for i, p in enumerate(pairs)]
    failed = []
    hook, threading.excepthook = threading.excepthook, failed.append
    try:
        for t in threads:
            t.start()
        for t in threads:
            t.join(120)
    finally:
        threading.excepthook = hook
    assert not failed
    for p in pairs:
        p.client.close()
        p.server.close()


def connections(lab, port, count):
    """From near to far: the sockets of both ends."""
    servers = []
    with listen(lab, "far", port) as listener:
        clients = lab.sockets("near", count)
        for c in clients:
            c.settimeout(60)
            c.connect((lab.ip("far"), port))
            servers.append(listener.accept()[0])
    return clients, servers


def test_more_streams_than_one_connection_carries(lab):
    port = next(PORTS)
    clients, servers = connections(lab, port, 260)
    rows = [t for t in lab.weftctl("tunnels", node="n1")["tunnels"] if t["streams"]]
    assert sum(t["streams"] for t in rows) == 260
    assert len(rows) >= 3 and max(t["streams"] for t in rows) <= 100
    for i, c in enumerate(clients):
        c.sendall(b"%d" % i)
    assert sorted(int(s.recv(10)) for s in servers) == list(range(260))
    for s in clients + servers:
        s.close()


@pytest.fixture
def one_core():
    """What we dial comes from one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield len(before)
    os.sched_setaffinity(0, before)


def test_connections_of_one_core_stay_on_it_until_they_are_many(lab, one_core):
    """`threads_near` and who hands on: the first have one thread, and not all of 200 have."""
    port = next(PORTS)
    clients, servers = connections(lab, port, 200)
    of = {c["source"]["port"]: c["thread"] for c in of_port(lab, "n1", port)}
    threads = [of[c.getsockname()[1]] for c in clients]
    assert len(set(threads[:20])) == 1
    if one_core > 1:
        assert max(threads.count(t) for t in threads) <= 150
    for i, (c, s) in enumerate(zip(clients, servers)):
        c.sendall(b"%d" % i)
        assert int(s.recv(10)) == i
        c.close()
        s.close()


def test_a_reader_that_sleeps_stops_its_sender_and_nobody_else(lab):
    with Pair(lab) as slow, Pair(lab) as quick:
        slow.client.setblocking(False)
        sent = 0
        piece = bytes(65536)
        while select.select([], [slow.client], [], 1)[1]:  # for a second nothing is taken: it is stopped
            sent += slow.client.send(piece)
            assert sent < 128 * MIB
        quick.client.settimeout(30)
        quick.server.settimeout(30)
        both_ways(quick, 8 * MIB, 5)
        row = of_port(lab, "n1", slow.port)[0]
        assert row["waits"] != "nothing", row
        slow.server.settimeout(30)
        slow.client.setblocking(True)
        threading.Thread(target=slow.client.shutdown, args=(socket.SHUT_WR,)).start()
        assert drain(slow.server, hashlib.sha256()) == sent


# ------------------------------------------------------------------ how it ends


@pytest.mark.parametrize("first", ["client", "server"])
def test_half_close(lab, first):
    with Pair(lab) as p:
        one, two = (p.client, p.server) if first == "client" else (p.server, p.client)
        one.sendall(b"question")
        one.shutdown(socket.SHUT_WR)
        assert read_all(two) == b"question"
        two.sendall(b"answer" * 1000)
        two.shutdown(socket.SHUT_WR)
        assert read_all(one) == b"answer" * 1000
        port = p.port
    labrun.wait_for(lambda: not of_port(lab, "n1", port) and not of_port(lab, "n2", port), 5, "no record of it")


@pytest.mark.parametrize("who", ["client", "server"])
def test_a_reset_reaches_the_other_end(lab, who):
    with Pair(lab) as p:
        one, two = (p.client, p.server) if who == "client" else (p.server, p.client)
        one.sendall(b"x")
        assert two.recv(1) == b"x"
        reset(one)
        with pytest.raises(ConnectionResetError):
            two.recv(1)


def test_close_with_bytes_under_way(lab):
    """What was written before close() arrives, all of it, however slowly it is read."""
    with Pair(lab) as p:
        payload = random.randbytes(4 * MIB)
        writer = threading.Thread(target=lambda: (p.client.sendall(payload), p.client.close()))
        writer.start()
        labrun.wait_for(lambda: of_port(lab, "n2", p.port)[0]["bytes_sent"] > 100000, 5, "bytes under way")
        assert read_all(p.server) == payload
        writer.join(10)


@families
def test_nobody_listens(lab, family):
    """The app sees a reset, never an orderly end."""
    is_reset(lab, "near", (lab.ip("far", number(family)), next(PORTS)), family)


def test_nobody_is_there(lab):
    """A Pod object whose pod does not answer."""
    address = "10.244.2.77"
    lab.manifest("ghost.json", folder(pod("ghost", "n2", 2, 77)))
    known(lab, "n1", address)
    with dial(lab, "near", (address, 80)) as s:
        with pytest.raises(OSError) as e:
            s.recv(1)
        assert e.value.errno in (errno.ECONNRESET, errno.ETIMEDOUT)
    (lab.manifests / "ghost.json").unlink()


def known(lab, node, address, there=True):
    want = list(socket.inet_pton(socket.AF_INET, address))

    def found():
        rows = [r["formatted"] for r in lab.map("addresses", node=node)]
        return any(r["key"]["byte"][12:] == want and r["key"]["byte"][10] == 255 for r in rows) == there
    labrun.wait_for(found, 5, f"{address} in the kernel of {node}: {there}")


# ------------------------------------------------------------------ policy


@pytest.fixture
def rules(lab):
    """Sets the policies of n2; takes them away in the end."""
    def put(*objects):
        before = lab.weftctl("policy", node="n2")
        lab.manifest("rules.json", folder(*objects))
        labrun.wait_for(lambda: lab.weftctl("policy", node="n2") != before, 5, "the policy in force")
    yield put
    (lab.manifests / "rules.json").unlink(missing_ok=True)
    labrun.wait_for(lambda: not any(p["policies"] for p in lab.weftctl("policy", node="n2")["pods"]), 5, "no policy")


def test_a_principal_is_denied(lab, rules):
    refused = reason(lab, "n1", "peer_refused"), reason(lab, "n2", "denied")
    rules(policy("DENY", "cluster.local/ns/default/sa/near"))
    with listen(lab, "far", next(PORTS)) as listener:
        port = listener.getsockname()[1]
        is_reset(lab, "near", (lab.ip("far"), port))
        with dial(lab, "second", (lab.ip("far"), port)) as s:
            c, _ = listener.accept()
            c.close()
            assert s.recv(1) == b""
    labrun.wait_for(lambda: (reason(lab, "n1", "peer_refused"), reason(lab, "n2", "denied"))
                    == (refused[0] + 1, refused[1] + 1), 5, "the reasons counted")


def test_only_a_principal_is_allowed(lab, rules):
    rules(policy("ALLOW", "cluster.local/ns/default/sa/second"))
    with listen(lab, "far", next(PORTS)) as listener:
        port = listener.getsockname()[1]
        is_reset(lab, "near", (lab.ip("far"), port))
        with dial(lab, "second", (lab.ip("far"), port)) as s:
            c, _ = listener.accept()
            c.close()
            assert s.recv(1) == b""


def test_strict_is_kept_by_the_tunnel(lab, rules):
    rules({"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
           "metadata": {"name": "strict", "namespace": "default"}, "spec": {"mtls": {"mode": "STRICT"}}},
          policy("ALLOW", "cluster.local/ns/default/sa/*"))
    with Pair(lab) as p:
        p.client.sendall(b"x")
        assert p.server.recv(1) == b"x"


def test_a_policy_ends_what_it_forbids(lab, rules):
    with Pair(lab) as p, Pair(lab, source="second") as q:
        for one in (p, q):
            one.client.sendall(b"x")
            assert one.server.recv(1) == b"x"
        rules(policy("DENY", "cluster.local/ns/default/sa/near"))
        for end in (p.client, p.server):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        q.client.sendall(b"y")
        assert q.server.recv(1) == b"y"


# ------------------------------------------------------------------ through the worker without a tunnel


@families
def test_a_pod_of_the_same_node_that_wants_the_worker(lab, family):
    with Pair(lab, family, source="far", target="proxied") as p:
        assert p.seen[0] == lab.ip("far", number(family))
        row, = of_port(lab, "n2", p.port)
        assert (row["path"], row["reason"]) == ("proxy", "proxied")
        assert row["source"]["pod"] == "default/far" and row["destination"]["pod"] == "default/proxied"
        both_ways(p, 2 * MIB, 7)


@families
def test_plaintext_from_outside_to_a_pod_that_wants_the_worker(lab, family):
    with Pair(lab, family, source="outsider", target="proxied") as p:
        assert p.seen[0] == lab.ip("outsider", number(family))
        assert p.client.getpeername()[:2] == (lab.ip("proxied", number(family)), p.port)
        both_ways(p, 2 * MIB, 8)


def test_its_policy_is_asked(lab, rules):
    rules(policy("DENY", "cluster.local/ns/default/sa/far", target="proxied"),
          {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "proxied", "namespace": "default",
                                                          "labels": {"app": "proxied"},
                                                          "annotations": {"weft.io/proxy": "always"}},
           "spec": {"nodeName": "n2", "serviceAccountName": "proxied", "containers": [{"name": "c"}]}})
    with listen(lab, "proxied", next(PORTS)) as listener:
        with pytest.raises(OSError) as e, dial(lab, "far", (lab.ip("proxied"), listener.getsockname()[1])) as s:
            if not s.recv(1):
                pytest.fail("an orderly end")
        assert e.value.errno in (errno.ECONNREFUSED, errno.ECONNRESET)


def test_what_has_no_certificate_does_not_get_in(lab):
    """A plain client at port 15008, one that talks nonsense, and weft's other ports from outside."""
    for port, hello in ((15008, b"GET / HTTP/1.1\r\n\r\n"), (15008, b""), (15001, b"x"), (15006, b"x")):
        with pytest.raises(OSError), dial(lab, "outsider", (lab.ip("far"), port)) as s:
            s.sendall(hello)
            s.shutdown(socket.SHUT_WR)
            while s.recv(100):
                pass
            raise ConnectionResetError


# ------------------------------------------------------------------ what dies


def test_a_killed_worker_is_followed_by_another(lab):
    with Pair(lab) as p:
        p.client.sendall(b"x")
        assert p.server.recv(1) == b"x"
        status = lab.weftctl("status", node="n1")
        os.kill(status["worker"]["pid"], signal.SIGKILL)
        watch = Stopwatch(lab)
        with Pair(lab) as q:
            took = watch.seconds()
            q.client.sendall(b"again")
            assert q.server.recv(10) == b"again"
        assert took < 1, took
        for end in (p.client, p.server):  # never an orderly end: half of a message would look like all of it
            with pytest.raises(ConnectionResetError):
                end.recv(1)
    lab.ready("n1")


def test_a_pod_that_leaves_takes_its_connections_along(lab):
    with Pair(lab, target="other") as p, Pair(lab) as q:
        p.client.sendall(b"x")
        assert p.server.recv(1) == b"x"
        lab.weftctl("pod", "del", "default/other", node="n2", text=True)
        with pytest.raises(ConnectionResetError):
            p.client.recv(1)
        q.client.sendall(b"y")
        assert q.server.recv(1) == b"y"
        lab.weftctl("pod", "add", "default/other", "--netns", f"/run/netns/{lab.pods['other']['netns']}", "--ip",
                    ",".join(lab.pods["other"]["ips"]), "--service-account", "other", node="n2", text=True)
    with Pair(lab, target="other") as p:
        p.client.sendall(b"x")
        assert p.server.recv(1) == b"x"


def test_a_pod_speaks_as_soon_as_it_is_there(lab):
    """Its certificate need not be there yet."""
    for account in ("fresh-1", "fresh-2"):
        lab.weftctl("pod", "del", "default/second", node="n1", text=True)
        lab.weftctl("pod", "add", "default/second", "--netns", f"/run/netns/{lab.pods['second']['netns']}", "--ip",
                    ",".join(lab.pods["second"]["ips"]), "--service-account", account, node="n1", text=True)
        with Pair(lab, source="second") as p:
            p.client.sendall(b"x")
            assert p.server.recv(1) == b"x"


def test_an_address_that_is_another_pods_now(lab):
    """Connections end with the pod that had the address; the next one is spoken with as what it is."""
    with Pair(lab, target="other") as p:
        p.client.sendall(b"x")
        assert p.server.recv(1) == b"x"
        lab.manifest("pods.json", folder(SERVICE, *(pod(*place) for place in PLACES[:3]),
                                         pod("heir", *PLACES[3][1:])))
        for end in (p.client, p.server):
            with pytest.raises(ConnectionResetError):
                end.recv(1)
    try:
        # who is there shows the certificate of `other` still, not that of `heir`
        is_reset(lab, "near", (lab.ip("other"), next(PORTS)))
        labrun.wait_for(lambda: "not of the identity" in lab.log("n1"), 5, "the reason in the log")
    finally:
        lab.manifest("pods.json", MANIFESTS["pods.json"])
        known(lab, "n1", lab.ip("other"))


def reaches(lab, name, target):
    with listen(lab, target, next(PORTS)) as listener:
        listener.settimeout(2)
        try:
            with dial(lab, name, listener.getsockname()) as c, listener.accept()[0] as s:
                s.settimeout(2)
                c.sendall(b"x")
                return s.recv(1) == b"x"
        except OSError:
            return False


@pytest.mark.parametrize("who", ["near", "far"])
def test_an_account_that_changes(lab, who):
    """What stands was proved as whom the pod is no more: it ends, at either side; what comes is proved as who it is."""
    def to(account):
        objects = [pod(*place) for place in PLACES]
        next(o for o in objects if o["metadata"]["name"] == who)["spec"]["serviceAccountName"] = account
        names = tuple(f"cluster.local/ns/default/sa/{account if n == who else n}" for n in ("near", "far"))
        with Pair(lab) as p:
            p.client.sendall(b"x")
            assert p.server.recv(1) == b"x"
            lab.manifest("pods.json", folder(SERVICE, *objects))
            for end in (p.client, p.server):
                with pytest.raises(ConnectionResetError):
                    end.recv(1)

        def proved():
            return reaches(lab, "near", "far") and names in [
                (t["identity"], t["peer"]) for t in lab.weftctl("tunnels", node="n1")["tunnels"]]
        labrun.wait_for(proved, 20, f"a tunnel of {names}")

    to("changed")
    to(who)


def test_another_trust_domain(make_lab):
    lab = make_lab(LAB.replace("[nodes.n2]", '[nodes.n2]\nargs = ["--trust-domain", "elsewhere.org"]'), MANIFESTS,
                   name="td")
    is_reset(lab, "near", (lab.ip("far"), next(PORTS)))
    is_reset(lab, "far", (lab.ip("near"), next(PORTS)))
    for node in ("n1", "n2"):
        text = lab.log(node)
        assert "another trust domain" in text or "not of the identity" in text, text


def test_weftd_that_ends_lets_streams_end_first(make_lab):
    """SIGTERM: no new connections, what is under way goes on until it has ended or its time is over."""
    lab = make_lab(LAB, MANIFESTS, name="drain")
    with Pair(lab) as p:
        p.client.sendall(b"x")
        assert p.server.recv(1) == b"x"
        pid = lab.weftctl("status", node="n2")["worker"]["pid"]
        os.kill(pid, signal.SIGTERM)
        labrun.wait_for(lambda: "draining" in {t["state"] for t in lab.weftctl("tunnels", node="n1")["tunnels"]}, 5,
                        "GOAWAY")
        p.client.sendall(b"last")
        assert p.server.recv(10) == b"last"
        p.server.sendall(b"words")
        p.server.close()
        assert read_all(p.client) == b"words"
