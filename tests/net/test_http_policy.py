# SPDX-License-Identifier: Apache-2.0
"""
AuthorizationPolicies with fields of HTTP, judged where the pod is: of what comes from a pod of its own node, and from
one of another node by mutual TLS.
"""

import json
import sys

import labrun
import pytest

from test_http_proxied import ORIGIN, PORT
from two_nodes import LAB, MANIFESTS, PLACES  # noqa: F401

READ = {"to": [{"operation": {"methods": ["GET"], "paths": ["/a", "/public/*"]}}]}


@pytest.fixture(scope="module", autouse=True)
def origins(lab):
    for pod in ("local", "server"):
        lab.start(pod, sys.executable, "-S", "-c", ORIGIN, pod, str(PORT))
    for pod in ("local", "server"):
        labrun.wait_for(lambda p=pod: lab.listens(p, PORT), 10, f"origin of {pod}")


def policy(lab, **rules):
    """ALLOW=rules, DENY=rules: one policy each, and no others."""
    objects = [{"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": {"name": action.lower(), "namespace": "default"},
                "spec": {"action": action, "rules": r}} for action, r in rules.items()]
    lab.manifest("policy.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    want = sorted(f"default/{action.lower()}" for action in rules)

    def there():
        for node, pod in (("n1", "local"), ("n2", "server")):
            pods = {p["pod"]: p for p in lab.weftctl("policy", node=node)["pods"]}
            p = pods[f"default/{pod}"]
            if sorted(k["policy"] for k in p["policies"]) != want or not p["in_kernel"]:
                return False
        return True
    labrun.wait_for(there, 10, f"policies {want}")


class Client:
    def __init__(self, lab, pod):
        self.socket = lab.socket("client")
        self.socket.settimeout(20)
        self.socket.connect((lab.ip(pod), PORT))
        self.file = self.socket.makefile("rb")

    def ask(self, method, path, *fields):
        """(status, body), or None: it ended."""
        head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: web", *fields])
        try:
            self.socket.sendall(head.encode() + b"\r\n\r\n")
            line = self.file.readline()
            length = 0
            while (field := self.file.readline().strip()):
                if field.lower().startswith(b"content-length:"):
                    length = int(field.split(b":")[1])
            return (int(line.split()[1]), self.file.read(length)) if line else None
        except ConnectionError:
            return None

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture(params=("local", "server"))
def client(lab, request):
    """A function that opens a connection; of the pod of this node, and of the one of the other."""
    made = []

    def connect():
        made.append(Client(lab, request.param))
        return made[-1]
    yield connect
    for c in made:
        c.close()
    policy(lab)


def test_each_request_is_judged(lab, client):
    policy(lab, ALLOW=[READ])
    c = client()
    assert c.ask("GET", "/a")[0] == 200
    status, body = c.ask("POST", "/a")
    assert status == 403 and b"not_allowed" in body
    assert c.ask("GET", "/public/x?y=/a")[0] == 200
    assert c.ask("GET", "/public/../secret")[0] == 403
    assert c.ask("GET", "/x/../a")[0] == 200
    assert json.loads(c.ask("GET", "/x/%2e%2e/%61")[1])["path"] == "/a"
    policy(lab, ALLOW=[READ], DENY=[{"when": [{"key": "request.headers[x-bad]", "values": ["1"]}]}])
    c = client()
    assert c.ask("GET", "/a", "x-bad: 2")[0] == 200
    status, body = c.ask("GET", "/a", "x-bad: 2", "X-Bad: 1")
    assert status == 403 and b"denied" in body
    assert c.ask("GET", "/a")[0] == 200


def test_a_new_policy_counts_from_the_next_request_on(lab, client):
    policy(lab, ALLOW=[READ])
    c = client()
    assert c.ask("GET", "/a")[0] == 200
    policy(lab, ALLOW=[READ], DENY=[{"to": [{"operation": {"paths": ["/a"]}}]}])
    assert c.ask("GET", "/a")[0] == 403
    assert c.ask("GET", "/public/")[0] == 200
    policy(lab, ALLOW=[READ], DENY=[{"to": [{"operation": {"ports": [str(PORT)]}}]}])
    assert c.ask("GET", "/public/") is None  # nothing on it can be allowed any more


def test_what_is_no_http_is_closed(lab, client):
    policy(lab, DENY=[{"to": [{"operation": {"methods": ["DELETE"]}}]}])
    c = client()
    assert c.ask("GET", "/a")[0] == 200
    c = client()
    c.socket.sendall(b"\x00\x01\x02 not http\r\n")
    try:
        assert c.socket.recv(100) == b""
    except ConnectionError:
        pass
