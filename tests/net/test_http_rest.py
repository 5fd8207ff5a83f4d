# SPDX-License-Identifier: Apache-2.0
"""
Connections of HTTP/1.1 at rest: a second without a request, and the worker keeps little of them. Nobody notices: not
who asks again, nor who looks at them, nor who ends them: the client, a policy, the worker, the pod.
"""

import contextlib
import json
import os
import pathlib
import signal
import time

import http_peers
import labrun
import pytest
import routed
from http_peers import Cut, client
from routed import origins, origins_are_content  # noqa: F401

LAB = routed.LAB
VIP = "10.96.18.1"
COUNT = 40
PLACES = ("near", "far")
MANIFESTS = {"web.json": routed.listed(
    *routed.of_pods(), routed.service("web", VIP, [("http", 80, 8081, None)], "near"),
    routed.route("web", "web", [routed.rule(routed.backend(place), path=f"/{place}") for place in PLACES]))}


@pytest.fixture(scope="module")
def ready(lab, origins):  # noqa: F811
    for place in PLACES:
        routed.until_answered(lab, VIP, f"/{place}")


def threads(lab, what):
    return sum(t[what] for t in lab.weftctl("status", node="n1", check=False)["control"]["threads"])


def until_resting(lab, count):
    labrun.wait_for(lambda: threads(lab, "resting") == count, 30, f"{count} connections at rest", 0.1)


@pytest.fixture
def resting(lab, ready):
    """Clients that were answered once, all of them at rest."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(client(lab, "client", (VIP, 80))) for _ in range(COUNT)]
        for n, c in enumerate(clients):
            assert c.ask("GET", f"/{PLACES[n % 2]}/{n}").status == 200
        until_resting(lab, COUNT)
        yield clients
    labrun.wait_for(lambda: not threads(lab, "connections"), 20, "the end of all of them", 0.1)
    assert threads(lab, "resting") == 0


def rows(lab):
    return {c["source"]["address"] + ":" + str(c["source"]["port"]): c
            for c in lab.weftctl("connections", node="n1")["connections"]
            if c["source"]["pod"] == "default/client" and c["path"] == "proxy"}


def test_asked_again(lab, resting):
    """Whole requests, in pieces, several at once; bodies; what is listed says what it said."""
    before = rows(lab)
    assert len(before) >= COUNT and {c["requests"] for c in before.values()} == {1}
    for n, c in enumerate(resting):
        path = f"/{PLACES[n % 2]}/again/{n}"
        request = f"GET {path} HTTP/1.1\r\nHost: web\r\n\r\n"
        if n % 4 == 0:
            m = c.ask("POST", path, body=b"x" * 100000)
        elif n % 4 == 1:
            m = c.ask("GET", path)
        elif n % 4 == 2:
            c.send(request[:n])
            time.sleep(0.02)  # they are two segments
            c.send(request[n:])
            m = c.expect().answer()
        else:
            c.send(request * 3)
            assert [c.expect().answer().seen["path"] for _ in range(2)] == [path] * 2
            m = c.expect().answer()
        assert m.status == 200 and m.seen["path"] == path
    until_resting(lab, COUNT)
    after = rows(lab)
    assert before.keys() == after.keys()
    assert {c["requests"] for c in after.values()} == {2, 4}
    assert all(after[k]["bytes_sent"] > before[k]["bytes_sent"] for k in before)


@pytest.mark.parametrize("how", ["fin", "reset"])
def test_the_client_ends(lab, resting, how):
    for c in resting[:COUNT // 2]:
        if how == "reset":
            http_peers.abort(c.sock)
        else:
            c.sock.shutdown(1)
            assert c.closed()
    labrun.wait_for(lambda: threads(lab, "connections") == COUNT // 2, 20, "their ends", 0.1)
    assert threads(lab, "resting") == COUNT // 2
    assert all(c.ask("GET", "/near/x").status == 200 for c in resting[COUNT // 2:])


def test_a_policy(lab, resting):
    """What a request hears is what one hears on a new connection, before, while and after it is forbidden."""
    def heard_new():
        with client(lab, "client", (VIP, 80)) as c:
            return c.ask("GET", "/near/x").status

    deny = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "deny", "namespace": "default"},
            "spec": {"selector": {"matchLabels": {"app": "near"}}, "action": "DENY", "rules": [{}]}}
    lab.manifest("deny.json", json.dumps(deny))
    labrun.wait_for(lambda: heard_new() != 200, 20, "a refusal", 0.1)
    status = heard_new()
    assert [c.ask("GET", "/near/x").status for c in resting[:10]] == [status] * 10
    (lab.manifests / "deny.json").unlink()
    labrun.wait_for(lambda: heard_new() == 200, 20, "an answer", 0.1)
    until_resting(lab, COUNT)
    assert [c.ask("GET", "/near/x").status for c in resting] == [200] * COUNT


def told_to_go(c):
    """Asks until it is: the first request may be faster than the signal. False: it was let go before it asked."""
    while True:
        try:
            m = c.ask("GET", "/near/x")
        except Cut:
            return False
        assert m.status == 200
        if "close" in m.get("connection", ""):
            return True


def test_the_worker_drains(lab, resting):
    """Who says nothing is let go in order; whose request crosses it is answered, and told to go."""
    [pid] = [int(p) for p in labrun.pids(lab.daemon_cgroup("n1"))
             if pathlib.Path("/proc", p, "comm").read_text().startswith("weft-worker")]
    os.kill(pid, signal.SIGTERM)
    assert any([told_to_go(c) for c in resting[:COUNT // 2]])
    assert all(c.reader.some() == b"" for c in resting[COUNT // 2:])  # FIN, not a reset
    labrun.wait_for(lambda: lab.weftctl("status", node="n1", check=False).get("control"), 20, "the next worker")
    routed.until_answered(lab, VIP, "/near")


def test_the_pod_goes(lab, resting):
    lab.weftctl("pod", "del", "default/client", node="n1", text=True)
    for c in resting:
        with pytest.raises(Cut):
            c.ask("GET", "/near/x")
    lab.weftctl("pod", "add", "default/client", "--netns", f"/run/netns/{lab.pods['client']['netns']}", "--ip",
                lab.ip("client"), "--service-account", "client", "--label", "app=client", node="n1", text=True)
    routed.until_answered(lab, VIP, "/near")
