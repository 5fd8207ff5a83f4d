# SPDX-License-Identifier: Apache-2.0
"""
Random services, slices and pods, changed file by file, against a naive oracle: after each change the kernel's
endpoints are those that the oracle names, and every connect reaches one of them, or is refused where there is none.
"""

import random
import socket
import sys

import labrun
import pytest
from mesh import GREETER, Mesh, pod_object, reach

LAB = """
[nodes.n1]
[pods.client]
[pods.a]
[pods.b]
[pods.c]
"""
MANIFESTS = {}
PODS, PORTS = "abc", (8080, 8081, 8082)
SERVICES, ROUNDS, CONNECTS = 5, 30, 2
NAMES = {"web": 8080, "api": 8081, "old": 8082}  # of container ports


@pytest.fixture(scope="module", autouse=True)
def greeters(lab):
    for pod in PODS:
        lab.start(pod, sys.executable, "-S", "-c", GREETER, pod, *PORTS)
    for pod in PODS:
        labrun.wait_for(lambda p=pod: lab.listens(p, PORTS[-1]), 10, f"greeter of {pod}")


# ------------------------------------------------------------------ a random world


def some(rng, items, least=0):
    return rng.sample(list(items), rng.randint(least, len(items)))


def random_pod(rng, lab, name):
    return pod_object(lab, name, ports=[(n, NAMES[n]) for n in some(rng, NAMES)], ready=rng.random() < 0.7,
                      labels={k: rng.choice("xy") for k in some(rng, ("app", "tier"))},
                      **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if rng.random() < 0.2 else {}))


def random_service(rng, mesh, number):
    mesh.vip, mesh.vip6 = f"10.96.7.{number + 1}", f"fd00:96::7:{number + 1}"
    ports = [{"name": f"p{p}", "port": p, "targetPort": rng.choice(list(NAMES) + list(PORTS))}
             for p in some(rng, (80, 81, 82), 1)]
    spec = {"selector": {k: rng.choice("xy") for k in some(rng, ("app", "tier"), 1)}} if rng.random() < 0.7 else {}
    if rng.random() < 0.2:
        spec["publishNotReadyAddresses"] = True
    if rng.random() < 0.3:
        spec["sessionAffinity"] = "ClientIP"
    return mesh.service(ports, vips=rng.choice(([mesh.vip], [mesh.vip6], [mesh.vip, mesh.vip6])), name=f"r{number}",
                        **spec)


def random_conditions(rng):
    return rng.choice(({}, {"ready": True}, {"ready": True}, {"ready": False}, {"ready": False, "serving": True},
                       {"ready": False, "serving": True, "terminating": True},
                       {"ready": False, "serving": False, "terminating": True}))


def random_slice(rng, mesh, number, which):
    ports = [{"name": rng.choice([f"p{p}", *NAMES]), "port": rng.choice(PORTS), "protocol": "TCP"}
             for p in some(rng, (80, 81, 82))]
    ports = list({p["name"]: p for p in ports}.values())
    return mesh.slice(*((p, random_conditions(rng)) for p in some(rng, PODS)), ports=ports or [
        {"name": "p80", "port": 8080}], name=which, weight=rng.choice((None, None, 1, 5, 0)), service=f"r{number}",
                      ipv6=rng.random() < 0.4)


# ------------------------------------------------------------------ the oracle


def of_slices(slices, port, six):
    """{(address, port): [ready, serving, terminating, weight]}: what two slices say of one is united."""
    found = {}
    for s in slices:
        names = {p["name"]: p["port"] for p in s["ports"]}
        at = names.get(port["name"], names.get(port["targetPort"]))
        if at is None or (s["addressType"] == "IPv6") != six:
            continue
        weight = int(s["metadata"]["annotations"].get("weft.io/weight", 1))
        for e in s["endpoints"]:
            ready = e["conditions"].get("ready", True)
            serving, ending = e["conditions"].get("serving", ready), e["conditions"].get("terminating", False)
            old = found.setdefault((e["addresses"][0], at), [False, False, True, 0])
            found[e["addresses"][0], at] = [old[0] or ready, old[1] or serving, old[2] and ending,
                                            max(old[3], weight)]
    return found


def of_pods(pods, selector, port, six):
    found = {}
    for p in pods:
        target = port["targetPort"]
        if isinstance(target, str):
            target = {c["name"]: c["containerPort"] for c in p["spec"]["containers"][0]["ports"]}.get(target)
        if target is None or not selector.items() <= p["metadata"]["labels"].items():
            continue
        ready = p["status"]["conditions"][0]["status"] == "True"
        ending = "deletionTimestamp" in p["metadata"]
        for ip in p["status"]["podIPs"]:
            if (":" in ip["ip"]) == six:
                found[ip["ip"], target] = [ready and not ending, ready, ending, 1]
    return found


def oracle(world):
    """{(vip, port): set of (address, port)} of a list of objects."""
    by = {kind: [o for o in world if o["kind"] == kind] for kind in ("Service", "EndpointSlice", "Pod")}
    found = {}
    for s in by["Service"]:
        slices = [x for x in by["EndpointSlice"]
                  if x["metadata"]["labels"]["kubernetes.io/service-name"] == s["metadata"]["name"]]
        selector = s["spec"].get("selector")
        for vip in s["spec"]["clusterIPs"]:
            for port in s["spec"]["ports"]:
                six = ":" in vip
                e = of_slices(slices, port, six) if slices else of_pods(by["Pod"], selector, port, six) if selector \
                    else {}
                everything = s["spec"].get("publishNotReadyAddresses")
                any_ready = any(ready for ready, *_ in e.values())
                found[vip, port["port"]] = {k for k, (ready, serving, ending, weight) in e.items() if weight and
                                            (everything or (ready if any_ready else serving and ending))}
    return found


# ------------------------------------------------------------------ the comparison


def text(address, port):
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def shown(lab):
    return {(s["vip"], s["port"]): {e["address"] for e in s["endpoints"]}
            for s in lab.weftctl("services")["services"] if s["in_kernel"]}


def check(lab, want):
    """What weftctl shows, and where connects go."""
    names = {k: {text(*e) for e in v} for k, v in want.items()}
    labrun.wait_for(lambda: shown(lab) == names, 5, f"{names}; now {shown(lab)}")
    who = {ip: name for name in PODS for ip in lab.pods[name]["ips"]}
    sockets = {family: iter(lab.sockets("client", CONNECTS * len(want), family))
               for family in (socket.AF_INET, socket.AF_INET6)}
    for (vip, port), endpoints in want.items():
        for _ in range(CONNECTS):
            s = next(sockets[socket.AF_INET6 if ":" in vip else socket.AF_INET])
            if endpoints:
                seen = reach(lab, "client", vip, port, s=s)
                assert seen.who in {f"{who[ip]}:{at}" for ip, at in endpoints}
                assert seen.peer == (vip, port)
            else:
                with pytest.raises(ConnectionRefusedError):
                    s.connect((vip, port))
                s.close()
    return CONNECTS * len(want)


@pytest.mark.parametrize("seed", [1, 2])
def test_random_services(lab, seed):
    rng, mesh, files, connects = random.Random(seed), Mesh(lab), {}, 0
    for _ in range(ROUNDS):
        for _ in range(rng.randint(1, 3)):  # what a person changes at a time
            number = rng.randrange(SERVICES)
            file, objects = rng.choice((
                (f"service-{number}.json", lambda n=number: [random_service(rng, mesh, n)]),
                (f"slice-{number}.json", lambda n=number: [random_slice(rng, mesh, n, f"x{i}")
                                                           for i in range(rng.randint(1, 2))]),
                ("pods.json", lambda: [random_pod(rng, lab, p) for p in PODS])))
            if rng.random() < 0.15 and file in files:
                del files[file]
                (lab.manifests / file).unlink()
                continue
            files[file] = objects()
            mesh.put(file, *files[file])
        world = [o for objects in files.values() for o in objects]
        if "pods.json" not in files:  # then weft knows the enrolled pods only, which have no labels
            world = [o for o in world if o["kind"] != "Pod"]
        connects += check(lab, oracle(world))
    assert connects > 200
    mesh.away()
