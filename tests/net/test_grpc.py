# SPDX-License-Identifier: Apache-2.0
"""
gRPC between grpcio programs through a Service with a GRPCRoute, same node and another one: the cases of gRPC's interop
suite, GRPCRoute's matching and filters, and the errors that are weft's as a gRPC client sees them.
"""

import json
import pathlib
import sys

import labrun
import pytest
import routed
from grpc_peer import CASES, SERVICE
from routed import route, service

SPLICE = ("splice",)
LAB = routed.LAB
PEER = pathlib.Path(__file__).parent / "grpc_peer.py"
PORT = 8090
VIPS = {"near": "10.96.11.1", "far": "10.96.11.2"}
CANARY, MATCH, PLAIN = "10.96.11.3", "10.96.11.4", "10.96.11.5"
VERSIONS = {"near": ("near", "near2"), "far": ("far", "far2"), "mixed": ("near", "far2")}


def of(name, **more):
    return {"name": f"grpc-{name}", "port": PORT} | more


def method(service_name=None, name=None, kind="Exact", **more):
    return {"method": {"type": kind} | ({"service": service_name} if service_name else {})
            | ({"method": name} if name else {})} | more


def header(name, value):
    return {"headers": [{"name": name, "value": value}]}


def canary(name):
    one, two = VERSIONS[name]
    return [{"matches": [header("x-canary", "true")], "backendRefs": [of(two)]},
            {"backendRefs": [of(one, weight=90), of(two, weight=10)]}]


FRONTS = [(f"front-{name}", vip) for name, vip in VIPS.items()] + [("match", MATCH), ("plain", PLAIN)] + [
    (f"canary-{name}", f"10.96.12.{n}") for n, name in enumerate(VERSIONS, 1)]
SET = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": [{"name": "x-set", "value": "by-route"}]}}
MANIFESTS = {"grpc.json": routed.listed(
    *routed.of_pods(),
    *(service(f"grpc-{name}", f"10.96.13.{n}", [("grpc", PORT, PORT, None)], name)
      for n, name in enumerate(routed.BACKENDS, 1)),
    *(service(name, vip, [("grpc", 80, PORT, None)], "near") for name, vip in FRONTS),
    *(route(f"front-{name}", f"front-{name}", [{"backendRefs": [of(name)]}], "GRPCRoute") for name in VIPS),
    *(route(f"canary-{name}", f"canary-{name}", canary(name), "GRPCRoute") for name in VERSIONS),
    route("match", "match", [
        {"matches": [method(SERVICE, "WhoAmI") | header("version", "two")], "backendRefs": [of("far2")]},
        {"matches": [method(SERVICE, "WhoAmI")], "backendRefs": [of("near")], "filters": [SET]},
        {"matches": [method("grpc.testing.Other")], "backendRefs": [of("near2")]},
        {"matches": [method("grpc\\.testing\\.T.*", "Empty.*", "RegularExpression")], "backendRefs": [of("no-such")]},
        {"matches": [method(None, "StreamingInputCall")], "backendRefs": [of("far")]}], "GRPCRoute"))}


def peer(lab, *args, timeout=120):
    return json.loads(lab.run("client", sys.executable, "-B", PEER, *args, timeout=timeout).stdout)


@pytest.fixture(scope="module")
def servers(lab):
    for name in routed.BACKENDS:
        lab.start(name, sys.executable, "-B", PEER, "server", PORT, name, ready=PORT)

    def answers():
        return [vip for _, vip in FRONTS if "who" not in peer(lab, "one", f"{vip}:80", "WhoAmI")] == []

    labrun.wait_for(answers, 30, "answers of every Service")


@pytest.fixture(scope="module")
def played(lab, servers):
    """What became of each case, by node."""
    found = {}

    def of_place(place):
        if place not in found:
            found[place] = peer(lab, "client", f"{VIPS[place]}:80", timeout=300)
        return found[place]

    return of_place


@pytest.mark.parametrize("place", VIPS)
@pytest.mark.parametrize("case", CASES)
def test_interop(played, case, place):
    assert played(place)[case] == "passed"


@pytest.mark.parametrize("name", VERSIONS)
def test_the_canary(lab, servers, name):
    """A tenth of the calls, and all with x-canary: true, go to version 2."""
    one, two = VERSIONS[name]
    to = f"10.96.12.{list(VERSIONS).index(name) + 1}:80"
    assert peer(lab, "who", to, 50, "x-canary=true") == {two: 50}
    for _ in range(10):
        got = peer(lab, "who", to, 500)
        assert set(got) <= {one, two} and sum(got.values()) == 500, got
        if abs(got.get(two, 0) / 500 - 0.1) <= 0.05:
            return
    pytest.fail(str(got))


@pytest.mark.parametrize("called, metadata, want", [
    ("WhoAmI", (), {"who": "near"}), ("WhoAmI", ("version=two",), {"who": "far2"}),
    ("grpc.testing.Other/WhoAmI", (), {"who": "near2"}), ("EmptyCall", (), {"status": "UNAVAILABLE"}),
    ("UnaryCall", (), {"status": "UNIMPLEMENTED"}), ("no.such.Service/Call", (), {"status": "UNIMPLEMENTED"})])
def test_matching(lab, servers, called, metadata, want):
    got = peer(lab, "one", f"{MATCH}:80", called, *metadata)
    assert want.items() <= got.items(), got
    assert "status" not in want or got["message"], "a status without words"


def test_a_filter_sets_metadata(lab, servers):
    assert peer(lab, "one", f"{MATCH}:80", "WhoAmI", "x-set=by-client")["metadata"]["x-set"] == "by-route"


def test_without_a_route_it_is_as_ever(lab, servers):
    assert peer(lab, "one", f"{PLAIN}:80", "WhoAmI")["who"] == "near"


def test_a_backend_that_is_gone_is_unavailable(lab, servers):
    """Nobody listens there: the client is told by gRPC, in words."""
    vip = "10.96.11.9"
    try:
        lab.manifest("gone.json", routed.listed(
            service("gone", vip, [("grpc", 80, PORT + 1, None)], "far"),
            route("gone", "gone", [{"backendRefs": [{"name": "gone", "port": 80}]}], "GRPCRoute")))
        labrun.wait_for(lambda: peer(lab, "one", f"{vip}:80", "WhoAmI").get("status") == "UNAVAILABLE", 20,
                        "UNAVAILABLE")
    finally:
        (lab.manifests / "gone.json").unlink()
