# SPDX-License-Identifier: Apache-2.0
"""
Mesh: services, slices and pods as objects in a lab's folder, and what the kernel makes of them; with clients that
tell who was reached. For tests of labs whose file names the pods a, b, c and a client.
"""

import collections
import itertools
import json
import socket
import sys

import labrun
import pytest

from stopwatch import Stopwatch

AT_ONCE = 0.5  # seconds in which a refusal must be there; a SYN that nobody answers goes again after one
CLOSED = 8099  # nobody listens there

# Greets with "NAME:PORT client-address own-address" and closes.
GREETER = """
import selectors, socket, sys
select = selectors.DefaultSelector()
for port in sys.argv[2:]:
    s = socket.create_server(("::", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
    s.setblocking(False)
    select.register(s, selectors.EVENT_READ, port)
while True:
    for key, _ in select.select():
        try:
            while True:
                c, peer = key.fileobj.accept()
                try:
                    c.send(f"{sys.argv[1]}:{key.data} {peer[0]} {c.getsockname()[0]}".encode())
                except OSError:
                    pass  # the client has gone already
                c.close()
        except BlockingIOError:
            pass
"""
# Connects as often as told; prints who answered how often.
COUNTER = """
import collections, json, socket, sys
where, count, reached = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), collections.Counter()
for _ in range(count):
    s = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET)
    s.connect(where)
    reached[s.recv(100).decode().split()[0]] += 1
    s.close()
print(json.dumps(reached))
"""

Reached = collections.namedtuple("Reached", "who source target peer")


class Mesh:
    """Objects in the folder, and what the kernel makes of them. Every test starts with none and leaves none."""

    numbers = itertools.count(10)

    def __init__(self, lab):
        self.lab, self.files = lab, set()
        self.number = next(Mesh.numbers)
        self.name = f"s{self.number}"
        self.vip = f"10.96.{self.number // 200}.{self.number % 200 + 1}"
        self.vip6 = f"fd00:96::1:{self.number}"

    def put(self, file, *objects):
        self.files.add(file)
        self.lab.manifest(file, json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def service(self, ports=None, vips=None, name=None, annotations=None, **spec):
        ports = [{"name": "http", "port": 80, "targetPort": 8080}] if ports is None else ports
        return {"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": name or self.name, "namespace": "default", "annotations": annotations or {}},
                "spec": {"clusterIPs": vips or [self.vip], "ports": ports} | spec}

    def slice(self, *endpoints, ports=None, name="x", weight=None, service=None, ipv6=False):
        """Endpoints are pods, addresses, or (one of them, conditions)."""
        found = []
        for e in endpoints:
            e, conditions = e if isinstance(e, tuple) else (e, {})
            address = self.lab.ip(e, 6 if ipv6 else 4) if e in self.lab.pods else e
            found.append({"addresses": [address], "conditions": conditions})
        service = service or self.name
        return {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": f"{service}-{name}", "namespace": "default",
                             "labels": {"kubernetes.io/service-name": service},
                             "annotations": {} if weight is None else {"weft.io/weight": str(weight)}},
                "addressType": "IPv6" if ipv6 else "IPv4", "endpoints": found,
                "ports": ports or [{"name": "http", "port": 8080, "protocol": "TCP"}]}

    def endpoints(self, port=80, vip=None, node=None):
        """Addresses behind a VIP in the kernel, or None where there is no such service."""
        for s in self.lab.weftctl("services", node=node)["services"]:
            if (s["vip"], s["port"]) == (vip or self.vip, port) and s["in_kernel"]:
                return {e["address"] for e in s["endpoints"]}
        return None

    def wait(self, *expected, port=80, vip=None, at=8080):
        """Until the kernel has just these endpoints: pods (at port `at`) or address:port."""
        want = {f"{self.lab.ip(e)}:{at}" if e in self.lab.pods else e for e in expected}
        labrun.wait_for(lambda: self.endpoints(port, vip) == want, 5, f"endpoints {want} of {self.name}")

    def run(self, *objects):
        self.put(f"{self.name}.json", *objects)

    def away(self):
        for file in self.files:
            (self.lab.manifests / file).unlink(missing_ok=True)
        for node in self.lab.nodes:
            for name in ("services", "endpoints"):
                labrun.wait_for(lambda m=name, n=node: not self.lab.map(m, n), 5, f"map {name} without entries")


@pytest.fixture
def mesh(lab):
    made = Mesh(lab)
    yield made
    made.away()


def pod_object(lab, name, ports=(), ready=True, labels=None, node="n1", **metadata):
    return {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "default", "labels": labels or {"app": "named"}} | metadata,
            "spec": {"nodeName": node, "containers": [
                {"name": "c", "ports": [{"name": n, "containerPort": p} for n, p in ports]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": ip} for ip in lab.pods[name]["ips"]],
                       "conditions": [{"type": "Ready", "status": str(ready)}]}}


def short(address):
    return address.removeprefix("::ffff:")


def reach(lab, pod, host, port=80, family=None, s=None):
    """Connects and gives who answered, and what each side sees of the other."""
    s = s or lab.socket(pod, family or (socket.AF_INET6 if ":" in host else socket.AF_INET))
    s.settimeout(30)
    s.connect((host, port))
    peer = s.getpeername()[:2]
    who, source, target = read_all(s).decode().split()
    s.close()
    return Reached(who, short(source), short(target), peer)


def read_all(s):
    data = b""
    while more := s.recv(65536):
        data += more
    return data


def reached(lab, pod, host, count, port=80):
    """Who answers `count` connects, by the client's own loop: a Counter of NAME:PORT."""
    out = lab.run(pod, sys.executable, "-S", "-c", COUNTER, host, port, count, timeout=60).stdout
    return collections.Counter(json.loads(out))


def pods(counter):
    return {who.split(":")[0] for who in counter}


def refused(lab, pod, host, port=80, family=socket.AF_INET):
    """ECONNREFUSED, at once."""
    s = lab.socket(pod, family)
    s.settimeout(30)
    watch = Stopwatch()
    with pytest.raises(ConnectionRefusedError):
        s.connect((host, port))
    assert watch.seconds() < AT_ONCE
    s.close()


def refusals(lab, reason):
    return sum(r["count"] for r in lab.weftctl("traffic")["refusals"] if r["reason"] == reason)
