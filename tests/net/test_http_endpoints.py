# SPDX-License-Identifier: Apache-2.0
"""Which endpoint a request goes to: the client's own where the Service asks for that, the one already dialled."""

import subprocess

import labrun
import pytest
import routed
from http_peers import client
from routed import backend, origins, origins_are_content, rule  # noqa: F401

SPLICE = ("splice",)
LAB = routed.LAB
WHERE = {"near": "10.244.1.11", "near2": "10.244.1.12", "far": "10.244.2.10", "far2": "10.244.2.11"}
STICKY, FRONT, FREE, SECOND = "10.96.17.1", "10.96.17.2", "10.96.17.3", "10.96.17.4"
BURST, BURST_PORT = "10.96.17.5", 8099
FOUND = {one: f"10.96.17.{n}" for n, one in enumerate(("near", "far", "many", "away"), 20)}


def several(name, vip, *pods, affinity=False, declared="http"):
    """A Service with the endpoints that are named, by a slice of its own."""
    s = routed.service(name, vip, [(declared, 80, 8081, None)])
    s["spec"].pop("selector")
    if affinity:
        s["spec"]["sessionAffinity"] = "ClientIP"
    return [s, {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {"name": f"{name}-1", "namespace": "default",
                             "labels": {"kubernetes.io/service-name": name}},
                "endpoints": [{"addresses": [WHERE[p]], "conditions": {"ready": True}} for p in pods],
                "ports": [{"name": declared, "port": 8081, "protocol": "TCP"}]}]


def sticky(*pods):
    """Asked by its own address, and as the backend of another."""
    return routed.listed(*several("sticky", STICKY, *pods, affinity=True),
                         *several("second", SECOND, *pods, affinity=True), *several("free", FREE, *pods),
                         *(routed.route(n, n, [rule({"name": n, "port": 80})]) for n in ("sticky", "free")),
                         routed.service("front", FRONT, [("http", 80, 8081, None)], "near"),
                         routed.route("front", "front", [rule({"name": "second", "port": 80})]))


def detected(one):
    """Nothing is said of what it speaks; `away` has a route that leads elsewhere."""
    name = f"found-{one}"
    pods = WHERE if one == "many" else ["near2" if one == "away" else one]
    to = backend("far") if one == "away" else {"name": name, "port": 80}
    return [*several(name, FOUND[one], *pods, declared="any"), routed.route(name, name, [rule(to)])]


MANIFESTS = {"pods.json": routed.listed(*routed.of_pods()), "sticky.json": sticky(*WHERE),
             "burst.json": routed.listed(
                 routed.service("burst", BURST, [("http", 80, BURST_PORT, "kubernetes.io/h2c")], "near"),
                 routed.route("burst", "burst", [rule({"name": "burst", "port": 80})])),
             "found.json": routed.listed(*(o for k in FOUND for o in detected(k)))}


@pytest.fixture(scope="module")
def ready(lab, origins):  # noqa: F811
    for vip in (STICKY, FRONT, FREE):
        routed.until_answered(lab, vip)


def asked(lab, vip, version, count=20, pod="client"):
    """Who has answered: half of the requests on one connection, each of the others on its own."""
    found = set()
    with client(lab, pod, (vip, 80), version) as c:
        for n in range(count):
            found.add(c.ask("GET", f"/{n}").seen["who"])
    for n in range(count):
        with client(lab, pod, (vip, 80), version) as c:
            found.add(c.ask("GET", f"/{n}").seen["who"])
    return found


@pytest.mark.parametrize("vip", [STICKY, FRONT], ids=["own", "backend"])
def test_a_client_keeps_its_endpoint(lab, ready, origins, vip):  # noqa: F811
    """Over connections, versions and threads, while others come; when it goes, one other takes its place."""
    assert len(asked(lab, FREE, "h1", 40)) > 1
    first = asked(lab, vip, "h1")
    assert len(first) == 1 and asked(lab, vip, "h2") == first
    others = [p for p in WHERE if p not in first]
    try:
        lab.manifest("sticky.json", sticky(*others))
        labrun.wait_for(lambda: asked(lab, vip, "h1", 2) != first, 20, "another endpoint")
        second = asked(lab, vip, "h1")
        assert len(second) == 1 and second != first
        lab.manifest("sticky.json", sticky(*WHERE))
        labrun.wait_for(lambda: first <= asked(lab, FREE, "h1", 20), 20, "the first one is back")
        assert asked(lab, vip, "h1") == asked(lab, vip, "h2") == second
    finally:
        lab.manifest("sticky.json", sticky(*WHERE))


@pytest.mark.parametrize("one", ["near", "far", "many"])
def test_the_connection_that_waited_carries_the_request(lab, ready, origins, one):  # noqa: F811
    """It was dialled to hear whether the server greets: no second one is made."""
    before = sum(len(o.connections) for o in origins.values())
    with client(lab, "client", (FOUND[one], 80), "h1") as c:
        labrun.wait_for(lambda: sum(len(o.connections) for o in origins.values()) == before + 1, 5, "what is dialled")
        for n in range(1 if one == "many" else 5):  # of many the next request may have another
            assert c.ask("GET", f"/{n}").seen["path"] == f"/{n}"
        assert sum(len(o.connections) for o in origins.values()) == before + 1


def test_what_was_dialled_in_vain_is_closed(lab, ready, origins):  # noqa: F811
    """The route leads elsewhere; no byte was said to who waited."""
    dialled, answers = origins["near2", "h1"], origins["far", "h1"]
    before = len(dialled.connections), len(answers.connections)
    with client(lab, "client", (FOUND["away"], 80), "h1") as c:
        labrun.wait_for(lambda: len(dialled.connections) == before[0] + 1, 5, "what is dialled")
        assert c.ask("GET", "/").seen["who"] == "far"
        last = dialled.connections[-1]
        labrun.wait_for(lambda: last.sock.fileno() == -1, 5, "its end")
        assert len(answers.connections) <= before[1] + 1  # or one of a test before
    assert not dialled.failed


def test_a_detected_port_of_a_pod_whose_policy_asks_for_http(lab, ready, origins):  # noqa: F811
    """It may be dialled before anybody knows that it is HTTP; each request is judged, and other bytes at once."""
    vip, dialled = FOUND["near"], origins["near", "h1"]

    def status(path, silent=True):
        before = len(dialled.connections)
        with client(lab, "client", (vip, 80), "h1") as c:
            if silent:
                labrun.wait_for(lambda: len(dialled.connections) > before, 5, "what is dialled")
            return c.ask("GET", path).status

    policy = {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
              "metadata": {"name": "some", "namespace": "default"},
              "spec": {"selector": {"matchLabels": {"app": "near"}}, "action": "ALLOW",
                       "rules": [{"to": [{"operation": {"methods": ["GET"], "paths": ["/ok"]}}]}]}}
    lab.manifest("policy.json", routed.listed(policy))
    try:
        labrun.wait_for(lambda: status("/no", False) == 403, 20, "the policy")
        assert [status(path, silent) for path in ("/ok", "/no") for silent in (True, False)] == [200, 200, 403, 403]
        with client(lab, "client", (vip, 80), "h1") as c:
            c.send(b"\0\1\2 no HTTP\r\n")
            assert c.closed()
    finally:
        lab.manifest("policy.json", routed.listed())
        labrun.wait_for(lambda: status("/no", False) == 200, 20, "no policy")


def test_the_connections_of_a_burst_are_used_again(lab, ready):  # noqa: ARG001
    """256 requests at once need three connections, or four; whoever was full is asked again when it has room."""
    lab.nginx_of("near", "origin-burst", f"""
        server {{ listen {lab.ip("near")}:{BURST_PORT} http2; http2_max_concurrent_streams 1000;
                  location / {{ return 200 "ok"; }} }}""", BURST_PORT)
    load = lab.start("client", "h2load", "-n", 60000, "-c", 8, "-m", 32, f"http://{BURST}/",
                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said = load.communicate(timeout=120)[0].decode()
    assert "60000 succeeded" in said, said
    stand = lab.run("near", "ss", "-Htn", "state", "established", "sport", "=", f":{BURST_PORT}").stdout.splitlines()
    assert 0 < len(stand) <= 12, len(stand)
