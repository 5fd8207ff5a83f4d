# SPDX-License-Identifier: Apache-2.0
"""
Random policies while pods come and go and the worker dies, against the oracle of test_policy.py; what connects in an
unusual way; and sets that are very large.
"""

import json
import os
import random
import signal
import socket
import time

import labrun
import policy_oracle as oracle
import pytest
from stopwatch import Stopwatch
from test_policy import (LAB, MANIFESTS, PODS, PORTS, SEED, VIP, Draw, Net, empty, explained, mapped, policy,
                         problem, world)
from test_policy_live import worker_pid

__all__ = ["LAB", "MANIFESTS", "empty", "world"]  # what the fixture `lab` makes, and fixtures
ROUNDS = 4
ONE_ADDRESS = ("front", "api", "bank", "ops")
NEWCOMERS = [("shop", "web", {"app": "web"}), ("shop", "we-9", {"tier": "front"}), ("none", "web", {"app": "api"}),
             ("bank", "teller", {}), ("new", "new", {"app": "web", "tier": "front"}), ("ops", "default", {})]


@pytest.fixture(scope="module")
def net(lab):
    net = Net(lab)
    yield net
    net.close()


def wrong_answers(lab, net, objects, known, pairs=None):
    """
    Connects between pods of `known` = {pod: (namespace, service account, labels)} that are not as the oracle says.
    `stranger` without an entry is nobody, and reached without a policy.
    """
    found = []
    for source, target in pairs or [(a, b) for a in ONE_ADDRESS for b in ONE_ADDRESS if a != b]:
        for family in (4, 6):
            for port in PORTS:
                namespace, account, _ = known.get(source, ("", "", None))
                who = oracle.Peer(lab.ip(source, family), namespace, account)
                answer = oracle.Answer("none")
                if target in known:
                    at = oracle.Target(lab.ip(target, family), port, known[target][0], known[target][2])
                    answer = oracle.decide(objects, who, at)
                if net.connect(source, lab.ip(target, family), port) != answer.allowed:
                    found.append(f"{source} -> {target} IPv{family} port {port}: should be {answer}")
    net.drain()
    return found


def both_ways(pod):
    return [(pod, b) for b in ONE_ADDRESS] + [(b, pod) for b in ONE_ADDRESS]


@pytest.mark.parametrize("batch", range(ROUNDS))
def test_a_pod_comes_and_goes(lab, net, world, splice, batch):
    """From the moment at which `pod add` returns it is who it is, and until then it was nobody."""
    rng = random.Random(f"pods {SEED} {batch} {splice}")
    objects = Draw(lab, rng).objects()
    world.put(objects)
    context = f"WEFT_SEED={SEED} {objects}"
    assert not wrong_answers(lab, net, objects, PODS, both_ways("stranger")), context
    for i, (namespace, account, labels) in enumerate(rng.sample(NEWCOMERS, 3)):
        name = f"{namespace}/new-{batch}-{i}"
        argv = [x for k, v in labels.items() for x in ("--label", f"{k}={v}")]
        lab.weftctl("pod", "add", name, "--netns", f"/run/netns/{lab.pods['stranger']['netns']}", "--ip",
                    ",".join(lab.pods["stranger"]["ips"]), "--service-account", account, *argv, text=True)
        known = PODS | {"stranger": (namespace, account, labels)}
        try:
            assert not wrong_answers(lab, net, objects, known, both_ways("stranger")), f"{known['stranger']} {context}"
        finally:
            lab.weftctl("pod", "del", name, text=True)
        assert not wrong_answers(lab, net, objects, PODS, both_ways("stranger")), context


def restarted(lab, worker):
    """Is another worker there, and does it answer?"""
    if lab.weftctl("policy", node="n1", check=False, text=True).returncode:
        return False
    return worker_pid(lab) != worker


@pytest.mark.parametrize("batch", range(1))  # weftd waits longer for each that dies soon
def test_the_worker_dies_among_random_policies(lab, net, world, splice, batch):
    """The same answers before, while the next worker starts and afterwards; then it can change them."""
    rng = random.Random(f"dies {SEED} {batch} {splice}")
    draw = Draw(lab, rng)
    objects, others = draw.objects(), draw.objects()
    world.put(objects)
    context = f"WEFT_SEED={SEED} {objects} {others}"
    some = rng.sample([(a, b) for a in ONE_ADDRESS for b in ONE_ADDRESS if a != b], 2)
    worker = worker_pid(lab)
    os.kill(worker, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while not restarted(lab, worker):
        assert not wrong_answers(lab, net, objects, PODS, some), context
        assert time.monotonic() < deadline, "no new worker within 60 s"
    assert not wrong_answers(lab, net, objects, PODS), context
    # Killed while it writes: whatever it had written is put right.
    worker = worker_pid(lab)
    world.write(others)
    os.kill(worker, signal.SIGKILL)
    labrun.wait_for(lambda: restarted(lab, worker) and world.settled(), 10, "the new worker")
    assert not wrong_answers(lab, net, others, PODS), context


def used(lab):
    return {m["name"]: m["used"] for m in lab.weftctl("status", node="n1")["control"]["maps"]}


def test_nothing_is_left_of_old_sets(lab, world):
    """After all of them: one set that says nothing, for all pods."""
    world.put([])
    status = lab.weftctl("status", node="n1")["control"]
    assert status["counts"]["policy_sets"] == 1
    # What it has in each map: the marker names one principal, which no pod has.
    rows = used(lab)
    assert (rows["policies"], rows["blocks"], rows["ports"]) == (1, 0, 0)
    for name in ("policies", "sources", "blocks", "ports"):
        dump = lab.map(name, "n1")
        assert len(dump) == rows[name], (name, dump)


# ---------------------------------------------------------------- objects that want what a pod has


def pod_object(namespace, name, ips, status=None, **spec):
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": namespace,
                                                           "labels": PODS.get(name, (0, 0, {}))[2]},
            "spec": {"serviceAccountName": PODS.get(name, (0, "x"))[1], **spec},
            "status": {"podIPs": [{"ip": ip} for ip in ips], **(status or {})}}


def rivals(api, front):
    """Objects that say something else of the addresses of two enrolled pods."""
    yield pod_object("ops", "evil", api, nodeName="n2")
    yield pod_object("ops", "evil", api, nodeName="n1", hostNetwork=True)
    yield pod_object("bank", "evil", front, nodeName="n2")
    yield pod_object("shop", "api", ["10.244.1.99"], nodeName="n1")
    yield pod_object("shop", "api", api, nodeName="n2")
    yield pod_object("shop", "api", api, {"phase": "Succeeded"}, nodeName="n1")
    yield pod_object("shop", "api", api, nodeName="n1", hostNetwork=True)
    yield pod_object("shop", "front", front + api, nodeName="n1")
    for ips in (api, front):
        yield {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "evil", "namespace": "ops"},
               "spec": {"clusterIPs": ips, "selector": {"app": "web"}, "ports": [{"port": 8080}]}}
    yield {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
           "status": {"addresses": [{"type": "InternalIP", "address": ip} for ip in api + front]}}


@pytest.mark.parametrize("number", range(11))
def test_no_object_takes_the_address_of_an_enrolled_pod(lab, net, empty, number):
    deny = [policy("shop", "bank-only", "DENY", [{"from": [{"source": {"notNamespaces": ["bank"]}}]}], {"app": "api"})]
    rival = list(rivals(lab.pods["api"]["ips"], lab.pods["front"]["ips"]))[number]
    lab.manifest("rival.json", json.dumps(rival))
    empty.write(deny)
    labrun.wait_for(empty.settled, 10, "in force")
    assert not wrong_answers(lab, net, deny, PODS)
    assert not wrong_answers(lab, net, deny, PODS, [("stranger", "api"), ("stranger", "bank")])


# ---------------------------------------------------------------- unusual ways to connect


CLOSED_TO_FRONT = [policy("shop", "no-front", "DENY", [{"from": [{"source": {"serviceAccounts": ["web"]}}]}],
                          {"app": "api"})]


@pytest.mark.parametrize("address, port", [("pod", 8080), ("vip", 80)])
def test_fast_open_is_asked_too(lab, net, empty, address, port):
    """sendto(MSG_FASTOPEN) connects without connect()."""
    where = (VIP if address == "vip" else lab.ip("api"), port)
    with net.sockets.take("front", socket.AF_INET) as s:
        s.settimeout(None)  # with a timeout, Python's socket is one that does not block
        s.sendto(b"hello", socket.MSG_FASTOPEN, where)
        assert s.getpeername() == where
    empty.put(CLOSED_TO_FRONT)
    with net.sockets.take("front", socket.AF_INET) as s, pytest.raises(ConnectionRefusedError):
        s.settimeout(None)
        s.sendto(b"hello", socket.MSG_FASTOPEN, where)
    with net.sockets.take("ops", socket.AF_INET) as s:
        s.settimeout(None)
        s.sendto(b"hello", socket.MSG_FASTOPEN, where)
    net.drain()


def disconnect(s):
    """connect() to AF_UNSPEC: the socket may connect again."""
    labrun.lab_module.LIBC.connect(s.fileno(), b"\0" * 16, 16)


def test_a_socket_that_connects_again_is_asked_again(lab, net, empty):
    empty.put(CLOSED_TO_FRONT)
    with net.sockets.take("front", socket.AF_INET) as s:
        s.connect((lab.ip("bank"), 8080))
        disconnect(s)
        with pytest.raises(ConnectionRefusedError):
            s.connect((lab.ip("api"), 8080))
        disconnect(s)
        s.connect((lab.ip("ops"), 8080))
    net.drain()


@pytest.mark.parametrize("target", ["api", "bank"])
def test_connects_that_do_not_block(lab, net, empty, target):
    empty.put(CLOSED_TO_FRONT)
    with net.sockets.take("front", socket.AF_INET6) as s:
        s.setblocking(False)
        said = s.connect_ex((mapped(lab.ip(target)), 8080, 0, 0))
        if target == "api":
            assert said == 111
        else:
            assert said in (0, 115)
            labrun.wait_for(lambda: s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b"\1", 5, "connected")
    net.drain()


def test_another_trust_domain(make_lab):
    """Principals are of the mesh's trust domain; cluster.local is no other name of it."""
    lab = make_lab(TWO, {"p.yaml": json.dumps(policy("default", "only", rules=[{"from": [{"source": {
        "principals": ["example.org/ns/default/sa/a", "cluster.local/ns/default/sa/b"]}}]}], selector={"app": "s"}))})
    with lab.socket("s") as listener, lab.socket("a") as a, lab.socket("b") as b:
        listener.bind(("", 80))
        listener.listen()
        a.connect((lab.ip("s"), 80))
        with pytest.raises(ConnectionRefusedError):
            b.connect((lab.ip("s"), 80))
        listener.accept()[0].close()


TWO = """
args = ["--trust-domain", "example.org"]
[nodes.td]
[pods.s]
labels = { app = "s" }
[pods.a]
service_account = "a"
[pods.b]
service_account = "b"
"""


# ---------------------------------------------------------------- large sets


def test_thousands_of_blocks(lab, net, empty):
    """20 000 address blocks, one of which is a pod: in force at once, and live connections end in time."""
    blocks = [f"172.{16 + i // 65536}.{i // 256 % 256}.{i % 256}/32" for i in range(10000)]
    blocks += [f"fd12:{i:x}::/32" for i in range(10000)] + [lab.ip("front") + "/32"]
    random.Random(SEED).shuffle(blocks)
    deny = policy("shop", "blocks", "DENY", [{"from": [{"source": {"ipBlocks": blocks}}]}], {"app": "api"})
    with net.sockets.take("front", socket.AF_INET) as s:
        s.connect((lab.ip("api"), 8080))
        watch = Stopwatch(lab)
        empty.write([deny])
        with pytest.raises(OSError):
            s.recv(1)
        took = watch.seconds()
    labrun.wait_for(empty.settled, 10, "in force")
    assert took < 1, took
    assert not net.connect("front", lab.ip("api"), 8080)
    assert net.connect("front", lab.ip("api", 6), 8080) and net.connect("bank", lab.ip("api"), 8080)
    net.drain()


def test_more_terms_than_bits_close(lab, net, empty):
    """300 rules that differ in every dimension cannot be held: what they select is closed, and says so."""
    rules = [{"from": [{"source": {"principals": [f"cluster.local/ns/x/sa/s{i}"],
                                   "ipBlocks": [f"192.0.2.{i % 250}/32"]}}],
              "to": [{"operation": {"ports": [str(10000 + i)]}}]} for i in range(300)]
    empty.write([policy("shop", "many", "DENY", rules, {"app": "api"})])
    assert labrun.wait_for(lambda: problem(lab, "policies.yaml"), 10, "the problem")["object"] == \
        "AuthorizationPolicy shop/many"
    assert not net.connect("front", lab.ip("api"), 8080)
    assert net.connect("front", lab.ip("bank"), 8080) and net.connect("n1", lab.ip("api"), 8080)
    said = explained(lab, "front", lab.ip("api"), 8080)
    assert (said["verdict"], said["reason"]) == ("refused", "needs_worker")
    net.drain()
