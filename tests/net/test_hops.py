# SPDX-License-Identifier: Apache-2.0
"""
The hops between an app and the worker are spliced as other connections of the node are, and nobody can tell: through a
tunnel between two nodes, and through the worker of one.
"""

import json
import random
import socket
import time

import labrun
import pytest

from mesh import pod_object
from pairs import Streams, listen, talk
from stopwatch import Stopwatch
from test_capture import CAPTURED, DELIVERED, conns

LAB = """
[nodes.n1]
[nodes.n2]
[pods.near]
service_account = "near"
[pods.wants]
service_account = "wants"
[pods.quiet]
[pods.far]
node = "n2"
service_account = "far"
"""
MANIFESTS = {}
SPLICE = ("splice",)
families = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])


def pod(lab, name, **annotations):
    made = pod_object(lab, name, node="n2" if name == "far" else "n1",
                      annotations={f"weft.io/{k}": v for k, v in annotations.items()})
    made["spec"]["serviceAccountName"] = name if name != "quiet" else "default"
    return made


@pytest.fixture(scope="module", autouse=True)
def objects(lab):
    """Both nodes know all pods, and their workers are there."""
    items = [pod(lab, "near"), pod(lab, "wants", proxy="always"), pod(lab, "quiet", splice="off"), pod(lab, "far")]
    lab.manifest("pods.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    for client in ("near", "quiet"):
        for server in ("far", "wants"):
            labrun.wait_for(lambda c=client, s=server: reaches(lab, c, s), 10, f"the way from {client} to {server}")


def reaches(lab, client, server):
    try:
        c, s = pair(lab, client, server)
    except OSError:
        return False
    c.close()
    s.close()
    return True


def pair(lab, client="near", server="far", family=socket.AF_INET):
    """(client's socket, server's socket), connected through the worker."""
    with listen(lab, server, family=family) as listener:
        listener.settimeout(20)
        c = lab.socket(client, family)
        c.settimeout(20)
        c.connect((lab.ip(server, 6 if family == socket.AF_INET6 else 4), listener.getsockname()[1]))
        s, _ = listener.accept()
    s.settimeout(20)
    return c, s


def hops(lab, c, s):
    """The records of the hop that leaves the client and of the one that arrives at the server."""
    def there(node, flag, key, end):
        found = [r for r in conns(lab, node) if r["flags"] == flag and r[key][1] == end]
        assert len(found) == 1
        return found[0]
    node = "n2" if s.getsockname()[0] in (lab.ip("far"), lab.ip("far", 6)) else "n1"
    return there("n1", CAPTURED, "src", c.getsockname()[1]), there(node, DELIVERED, "dst", s.getsockname()[1])


def settle(lab, c, s, first, second, seconds=60):
    """Talks until both hops are judged so; their records."""
    until = time.monotonic() + seconds
    while True:
        talk(c, s, 20)
        seen = hops(lab, c, s)
        if (seen[0]["hop"], seen[1]["hop"]) == (first, second):
            return seen
        assert time.monotonic() < until, seen


def end(lab, *sockets):
    for s in sockets:
        s.close()
    labrun.wait_for(lambda: not conns(lab, "n1") and not conns(lab, "n2"), 5, "the end of the records")


@families
@pytest.mark.parametrize("server, path", [("far", "tunnel"), ("wants", "proxy")])
def test_both_hops(lab, family, server, path):
    c, s = pair(lab, server=server, family=family)
    seen = settle(lab, c, s, "spliced", "spliced")
    assert {r["path"] for r in seen} == {path}
    talk(c, s, 300)
    shown = [x for x in lab.weftctl("connections")["connections"] if x["source"]["port"] == c.getsockname()[1]]
    assert [(x["path"], x["hop"]) for x in shown] == [(path, "spliced")]
    assert shown[0]["bytes_spliced"] > 0
    assert shown[0]["destination"]["pod"] == f"default/{server}"
    end(lab, c, s)


@pytest.mark.parametrize("server", ["far", "wants"])
def test_counted_once(lab, server):
    """By each node, at its end; what goes through the worker of one node is counted where it starts."""
    def rows(node):
        return {(r["source"], r["pod"]): (r["opened"], r["closed"], r["sent_bytes"], r["received_bytes"])
                for r in lab.weftctl("traffic", node=node)["traffic"]}

    def more(node, source, target):
        old = before[node].get((source, target), (0, 0, 0, 0))
        new = rows(node).get((source, target), (0, 0, 0, 0))
        return tuple(n - o for n, o in zip(new, old))
    before = {node: rows(node) for node in ("n1", "n2")}
    account = "cluster.local/ns/default/sa/near"
    c, s = pair(lab, server=server)
    settle(lab, c, s, "spliced", "spliced")
    c.sendall(b"x" * 100000)
    got = 0
    while got < 100000:
        got += len(s.recv(1 << 16))
    end(lab, c, s)
    if server == "wants":
        opened, closed, sent, received = more("n1", account, "default/wants")
        assert sum(sum(more("n1", *key)) for key in rows("n1") if key[1] == "default/wants" and key[0] != account) == 0
    else:
        opened, closed, sent, received = more("n1", account, "")
        there = [more("n2", *key) for key in rows("n2") if key[1] == "default/far"]
        assert (opened, closed, sent, received) in there and len([t for t in there if any(t)]) == 1
    assert (opened, closed) == (1, 1) and sent > 100000 > received > 100


def test_a_policy_ends_it(lab):
    """A proxied connection that a new policy forbids is destroyed, spliced hops and all; a new one is refused."""
    c, s = pair(lab, server="wants")
    settle(lab, c, s, "spliced", "spliced")
    lab.manifest("deny.json", json.dumps({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "no-near", "namespace": "default"},
        "spec": {"action": "DENY", "rules": [
            {"from": [{"source": {"principals": ["cluster.local/ns/default/sa/near"]}}]}]}}))
    watch = Stopwatch(lab)
    with pytest.raises(ConnectionResetError):
        if not c.recv(1):
            raise ConnectionResetError("ended in order")
    assert watch.seconds() < 1
    with pytest.raises(ConnectionRefusedError):
        pair(lab, server="wants")
    (lab.manifests / "deny.json").unlink()
    labrun.wait_for(lambda: reaches(lab, "near", "wants"), 5, "the way without the policy")
    end(lab, c, s)


def test_a_pod_that_does_not_want_it(lab):
    """The one hop is not spliced, the other is."""
    c, s = pair(lab, "quiet")
    settle(lab, c, s, "pod_off", "spliced")
    end(lab, c, s)


def test_a_blocking_reader(lab):
    c, s = pair(lab)
    s.setblocking(True)
    seen = settle(lab, c, s, "spliced", "blocking")
    assert seen[1]["path"] == "tunnel"
    end(lab, c, s)


@pytest.mark.parametrize("server", ["far", "wants"])
def test_switched_under_load(lab, server):
    """Random writes and reads both ways while the splice of both nodes comes and goes: no byte is lost or moved."""
    c, s = pair(lab, server=server)
    settle(lab, c, s, "spliced", "spliced")
    chance, until = random.Random(7), time.monotonic() + 4
    with Streams(c, s) as streams:
        while time.monotonic() < until:
            lab.weftctl("splice", chance.choice(("on", "off")), node=chance.choice(("n1", "n2")), text=True)
            time.sleep(chance.random() * 0.1)  # the length of a stay
        for node in ("n1", "n2"):
            lab.weftctl("splice", "on", node=node, text=True)
    assert min(streams.intact()) > 1 << 20
    end(lab, c, s)


def test_a_reader_that_sleeps(lab):
    """What waits in a hop is bounded, as anywhere in the splice, and all of it arrives."""
    c, s = pair(lab)
    settle(lab, c, s, "spliced", "spliced")
    c.setblocking(False)
    sent, small = 0, b"x" * 1000
    still = time.monotonic() + 1
    while time.monotonic() < still:
        try:
            sent += c.send(small)
            still = time.monotonic() + 1
        except BlockingIOError:
            time.sleep(0.01)  # until the sender has been blocked for a second
    for record in hops(lab, c, s):
        assert max(e["queue_bytes"] for e in record["end"]) <= 1 << 20
        assert max(e["queue_msgs"] for e in record["end"]) <= 1000
    got = 0
    while got < sent:
        got += len(s.recv(1 << 20))
    assert got == sent < 64 << 20
    c.settimeout(20)
    talk(c, s)
    end(lab, c, s)
