# SPDX-License-Identifier: Apache-2.0
"""
A pod whose AuthorizationPolicy asks for what HTTP says, whoever comes and by whatever way: a pod of its node, of
another node, one outside of the mesh, through a route, as a mirror's copy; by HTTP/1, HTTP/2, gRPC and WebSocket.
"""

import contextlib
import json
import os
import pathlib
import signal

import http_peers
import labrun
import pytest
import routed
from bystander import beside
from http_peers import STREAM, Cut, client
from routed import origins, origins_are_content  # noqa: F401
from test_websocket import begin, server

SPLICE = ("splice",)
LAB = routed.LAB + """
[pods.outside]
node = "n1"
enrol = false
"""
VIP = "10.96.21.1"
MIRROR = {"type": "RequestMirror", "requestMirror": {"backendRef": {"name": "near", "port": 8081}}}
MANIFESTS = {"web.json": routed.listed(
    *routed.of_pods(), routed.service("web", VIP, [("http", 80, 8081, None)], "near2"),
    routed.route("web", "web", [
        routed.rule(routed.backend("near2"), path="/copied", filters=[MIRROR]),
        *(routed.rule(routed.backend(place, version), path=f"/{place}/{version}")
          for place in ("near", "far") for version in routed.PORTS),
        routed.rule(routed.backend("near2"), path="/")]))}
OPEN = {"to": [{"operation": {"methods": ["GET", "CONNECT"], "notPaths": ["*/secret"]}},
               {"operation": {"paths": ["/open.Service/*"]}}]}
BAD = {"when": [{"key": "request.headers[x-bad]", "values": ["1"]}]}
PLACES = ("near", "far")


def policy(lab, **rules):
    """ALLOW=[rule], DENY=[rule] of `near` and `far`, and no others: in force when both say so."""
    objects = [{"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": {"name": f"{action.lower()}-{place}", "namespace": "default"},
                "spec": {"selector": {"matchLabels": {"app": place}}, "action": action, "rules": r}}
               for action, r in rules.items() for place in PLACES]
    lab.manifest("policy.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def there():
        for node, place in (("n1", "near"), ("n2", "far")):
            pods = {p["pod"]: p for p in lab.weftctl("policy", node=node)["pods"]}
            p = pods[f"default/{place}"]
            if not p["in_kernel"] or sorted(k["policy"] for k in p["policies"]) != sorted(
                    f"default/{action.lower()}-{place}" for action in rules):
                return False
        return True
    labrun.wait_for(there, 20, f"policies {sorted(rules)}")


@pytest.fixture
def guarded(lab, origins):  # noqa: F811
    policy(lab)
    for place in PLACES:
        for version in routed.PORTS:
            routed.until_answered(lab, VIP, f"/{place}/{version}")
    policy(lab, ALLOW=[OPEN], DENY=[BAD])
    yield origins
    policy(lab)


def asked(origins, place, version):  # noqa: F811
    return [(m.method, m.path) for m in origins[place, version].requests]


def direct(lab, place, version, pod="client"):
    return client(lab, pod, (lab.ip(place), routed.PORTS[version]), version)


GRPC = [("content-type", "application/grpc"), ("te", "trailers")]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("version", routed.PORTS)
def test_each_request(lab, guarded, place, version):
    """
    One connection: what is denied does not end it, and reaches nobody. A denied request of HTTP/2 has no body here: its
    answer, and the reset behind it, may come before the body is sent.
    """
    before = len(asked(guarded, place, version))
    with direct(lab, place, version) as c:
        assert c.ask("GET", "/one").status == 200
        m = c.ask("POST", "/two")
        assert m.status == 403 and b"not_allowed" in m.body
        assert c.ask("GET", "/x/%2e%2e/secret").status == 403
        m = c.ask("POST", "/shut.Service/Call", GRPC)
        assert (m.status, m.get("grpc-status")) == (200, "7") and "not_allowed" in m.get("grpc-message")
        m = c.ask("POST", "/open.Service/Call", GRPC, body=b"\0\0\0\0\0")
        assert m.status == 200 and m.seen["length"] == 5
        assert c.ask("GET", "/three").status == 200
    assert asked(guarded, place, version)[before:] == [("GET", "/one"), ("POST", "/open.Service/Call"),
                                                       ("GET", "/three")]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("version", routed.PORTS)
def test_22_a_field_that_comes_twice(lab, guarded, place, version):
    """Value by value: DENY if one of them matches, in any order; joined by the client it is another value."""
    before = len(asked(guarded, place, version))
    with beside(lab, VIP), direct(lab, place, version) as c:
        for values, status in ((["1"], 403), (["2", "1"], 403), (["1", "2"], 403), (["2", "3"], 200), (["2, 1"], 200),
                               (["2"] * 60 + ["1"], 403)):
            assert c.ask("GET", "/a", [("X-Bad", v) for v in values]).status == status, values
    assert len(asked(guarded, place, version)) - before == 2


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("version", routed.PORTS)
def test_websocket(lab, guarded, place, version):
    o = guarded[place, version]
    o.settings = {http_peers.CONNECT_PROTOCOL: 1}
    o.on["/chat"] = o.on["/secret"] = server
    with direct(lab, place, version) as c:
        x = begin(c, "/chat")
        x.write(b"hello")
        assert x.read() == b"HELLO"
        x.end()
        assert x.rest() == b""
    with direct(lab, place, version) as c, pytest.raises(AssertionError, match="403"):
        begin(c, "/secret")
    assert "/secret" not in [path for _, path in asked(guarded, place, version)]
    o.settings = None


@pytest.mark.parametrize("place", PLACES)
def test_a_policy_changes_under_a_live_connection(lab, guarded, place):
    """What comes after it on the same connection is denied; what is under way goes on."""
    held = http_peers.Held()
    guarded[place, "h2"].on["/held"] = held
    with direct(lab, place, "h2") as c:
        under_way = c.begin("GET", "/held")
        x = held.next()
        policy(lab, ALLOW=[OPEN], DENY=[{"to": [{"operation": {"paths": ["/held", "/new"]}}]}])
        labrun.wait_for(lambda: c.ask("GET", "/new").status == 403, 20, "403")
        x.respond(200, b"late")
        x.released.set()
        assert under_way.answer().body == b"late"
        assert c.ask("GET", "/other").status == 200
        policy(lab, DENY=[{"to": [{"operation": {"ports": ["8082"]}}]}])
        c.until(lambda: c.over)


@pytest.mark.parametrize("version", routed.PORTS)
def test_from_outside_of_the_mesh(lab, guarded, version):
    """Plaintext of a client that nobody knows (port 15006 of the pod): judged as well, as nobody."""
    with direct(lab, "near", version, "outside") as c:
        assert c.ask("GET", "/a").status == 200
        assert c.ask("POST", "/a").status == 403
        assert c.ask("GET", "/a", [("x-bad", "1")]).status == 403
        rows = lab.weftctl("connections", node="n1")["connections"]
        assert [r for r in rows if "denied" in r], repr(rows)
        row, = [r for r in rows if "denied" in r]
        assert (row["requests"], row["denied"], row["destination"]["pod"]) == (3, 2, "default/near")
    policy(lab, ALLOW=[{"from": [{"source": {"namespaces": ["default"]}}]} | OPEN])
    with contextlib.suppress(Cut, OSError), direct(lab, "near", version, "outside") as c:
        assert c.ask("GET", "/a").status == 403
    with direct(lab, "near", version) as c:
        assert c.ask("GET", "/a").status == 200


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("version", routed.PORTS)
def test_through_a_routed_service(lab, guarded, place, version):
    before = len(asked(guarded, place, version))
    with client(lab, "client", (VIP, 80), version) as c:
        assert c.ask("GET", f"/{place}/{version}/a").status == 200
        assert c.ask("POST", f"/{place}/{version}/a").status == 403
        assert c.ask("GET", f"/{place}/{version}/a", [("X-Bad", "2"), ("x-bad", "1")]).status == 403
        assert c.ask("GET", f"/{place}/{version}/secret").status == 403
        m = c.ask("POST", f"/{place}/{version}/shut", GRPC)
        assert (m.status, m.get("grpc-status") or dict(m.trailers).get("grpc-status")) == (200, "7")
        assert c.ask("POST", "/elsewhere", body=b"x").status == 200  # of a pod without a policy
    assert asked(guarded, place, version)[before:] == [("GET", f"/{place}/{version}/a")]


def test_a_copy_is_judged_too(lab, guarded):
    """What the pod denies never gets there as a mirror's copy; the request itself goes on."""
    before = len(asked(guarded, "near", "h1"))
    with client(lab, "client", (VIP, 80), "h1") as c:
        assert c.ask("POST", "/copied/no", body=b"x").seen["who"] == "near2"
        assert c.ask("GET", "/copied/bad", [("X-Bad", "1")]).seen["who"] == "near2"
        assert c.ask("GET", "/copied/yes").seen["who"] == "near2"
    labrun.wait_for(lambda: ("GET", "/copied/yes") in asked(guarded, "near", "h1"), 20, "the copy that is allowed")
    assert asked(guarded, "near", "h1")[before:] == [("GET", "/copied/yes")]


def worker(lab):
    pid, = (p for p in labrun.pids(lab.daemon_cgroup("n1"))
            if pathlib.Path("/proc", p, "comm").read_text().startswith("weft-worker"))
    return int(pid)


def test_the_worker_is_killed_meanwhile(lab, guarded):
    """Nothing passes unjudged: what was open ends, and who comes next is judged by the new worker."""
    def denied(pod):
        try:
            with direct(lab, "near", "h1", pod) as c:
                return c.ask("POST", "/never", body=b"x").status
        except (Cut, OSError):
            return 0

    with direct(lab, "near", "h1") as c, direct(lab, "near", "h2", "outside") as other:
        assert c.ask("GET", "/a").status == 200
        assert other.ask("GET", "/a").status == 200
        x = c.begin("POST", "/never", body=STREAM, length=10)
        with contextlib.suppress(Cut):
            x.write(b"01234")
        os.kill(worker(lab), signal.SIGKILL)
        assert all(denied(pod) in (0, 403) for _ in range(5) for pod in ("client", "outside"))
        other.until(lambda: other.over)
        with pytest.raises((Cut, OSError)):
            while True:
                c.ask("GET", "/after")
    labrun.wait_for(lambda: denied("client") == denied("outside") == 403, 30, "a new worker that judges")
    assert "/never" not in [path for _, path in asked(guarded, "near", "h1") + asked(guarded, "near", "h2")]
