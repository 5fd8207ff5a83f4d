# SPDX-License-Identifier: Apache-2.0
"""
A lab for HTTP: `client` with `near` and `near2` on node n1, `far` and `far2` on n2. Each of these four is a Service of
its own name as well, port 8081 HTTP/1 and port 8082 HTTP/2; tests put routes in front of them.
"""

import json

import http_peers
import labrun
import pytest
from two_nodes import pod_object

PLACES = {"client": ("n1", 1, 10), "near": ("n1", 1, 11), "near2": ("n1", 1, 12), "other": ("n1", 1, 13),
          "far": ("n2", 2, 10), "far2": ("n2", 2, 11)}
LAB = "[nodes.n1]\n[nodes.n2]\n" + "".join(f"""
[pods.{name}]
node = "{node}"
service_account = "{name}"
labels = {{ app = "{name}" }}
{'namespace = "elsewhere"' if name == "other" else ""}
""" for name, (node, _, _) in PLACES.items())
PORTS = {"h1": 8081, "h2": 8082}
BACKENDS = ("near", "near2", "far", "far2")
NAMESPACES = {"other": "elsewhere"}
GATEWAY = "gateway.networking.k8s.io"


def service(name, vip, ports, selector=None, namespace="default", **annotations):
    """`ports` = [(name, port, target port, appProtocol or None)]"""
    return {"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": name, "namespace": namespace, "annotations": annotations},
            "spec": {"clusterIPs": [vip], "selector": {"app": selector or name},
                     "ports": [{"name": n, "port": p, "targetPort": t} | ({"appProtocol": a} if a else {})
                               for n, p, t, a in ports]}}


def route(name, parent, rules, kind="HTTPRoute", namespace="default", port=None, version="v1", parent_namespace=None,
          **spec):
    ref = {"group": "", "kind": "Service", "name": parent} | ({"port": port} if port else {})
    if parent_namespace:
        ref["namespace"] = parent_namespace
    return {"apiVersion": f"{GATEWAY}/{version}", "kind": kind, "metadata": {"name": name, "namespace": namespace},
            "spec": {"parentRefs": [ref], "rules": rules} | spec}


def backend(name, version="h1", weight=None, **more):
    return {"name": name, "port": PORTS[version]} | ({} if weight is None else {"weight": weight}) | more


def rule(*backends, path=None, kind="PathPrefix", headers=(), method=None, query=(), filters=None, **more):
    match = {}
    if path:
        match["path"] = {"type": kind, "value": path}
    if headers:
        match["headers"] = [{"name": n, "value": v} for n, v in headers]
    if query:
        match["queryParams"] = [{"name": n, "value": v} for n, v in query]
    if method:
        match["method"] = method
    made = {"backendRefs": list(backends)} if backends else {}
    return made | ({"matches": [match]} if match else {}) | ({"filters": filters} if filters else {}) | more


def listed(*objects):
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


def pod(name, labels=None):
    made = pod_object(name, *PLACES[name])
    made["metadata"] |= {"labels": labels or {"app": name}, "namespace": NAMESPACES.get(name, "default")}
    return made


def of_pods():
    """The pods, and a Service of each that answers."""
    behind = [service(name, f"10.96.20.{i + 1}", [("http", 8081, 8081, None), ("h2c", 8082, 8082, "kubernetes.io/h2c")])
              for i, name in enumerate(BACKENDS)]
    return [*map(pod, PLACES), *behind]


def until_answered(lab, vip, path="/", pod="client", port=80, version="h1", status=200):
    """What is in the folder is in force: the first answer with that status."""

    def answered():
        try:
            with http_peers.client(lab, pod, (vip, port), version) as c:
                return c.ask("GET", path).status == status
        except (http_peers.Cut, OSError):
            return False

    labrun.wait_for(answered, 30, f"status {status} of {vip}:{port}{path}", 0.05)


@pytest.fixture(scope="module")
def origins(lab):
    """{(pod, version): Origin}, echoing; what a test hangs into `on` is taken away after it."""
    made = {(pod, version): http_peers.Origin(lab, pod, port, version)
            for pod in BACKENDS for version, port in PORTS.items()}
    yield made
    for origin in made.values():
        origin.close()


@pytest.fixture(autouse=True)
def origins_are_content(request):
    """No origin of the test saw what a strict reader does not take."""
    yield
    if "origins" in request.fixturenames:
        for origin in request.getfixturevalue("origins").values():
            origin.on.clear()
            origin.check()
