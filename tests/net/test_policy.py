# SPDX-License-Identifier: Apache-2.0
"""
L4 policy through real connects. Random policy sets against an oracle of their own (policy_oracle.py): who gets through,
for which reason, what the kernel counted and what `weftctl explain` says. Then objects that cannot be understood,
rules that need HTTP, services, and what is never refused.

A run draws a seed and says it where it fails; WEFT_SEED=NUMBER repeats it, WEFT_BATCHES=NUMBER makes more sets.
"""

import collections
import ipaddress
import json
import os
import random
import socket
import time

import labrun
import policy_oracle as oracle
import pytest

ROOT = oracle.ROOT
PORTS = (443, 7000, 8080, 9090)
SEED = int(os.environ.get("WEFT_SEED") or time.time_ns() % 1000000)
BATCHES = int(os.environ.get("WEFT_BATCHES") or 6)
EXPLAINED = 12  # connections of a batch that weftctl explains

# `two` has two addresses of each family: what it connects from is known only when its SYN arrives.
LAB = """
[nodes.n1]
[nodes.n2]
[pods.front]
namespace = "shop"
service_account = "web"
labels = { app = "web", tier = "front" }
[pods.api]
namespace = "shop"
service_account = "api"
labels = { app = "api" }
[pods.bank]
namespace = "bank"
service_account = "web"
labels = { app = "web" }
[pods.two]
namespace = "bank"
service_account = "teller"
labels = { app = "teller", tier = "front" }
ips = ["10.244.1.30", "10.244.1.31", "fd00:244:0:1::30", "fd00:244:0:1::31"]
[pods.ops]
namespace = "ops"
[pods.stranger]
enrol = false
[pods.far]
node = "n2"
namespace = "shop"
service_account = "web"
labels = { app = "web" }
"""
PODS = {  # what the lab says, for the oracle
    "front": ("shop", "web", {"app": "web", "tier": "front"}),
    "api": ("shop", "api", {"app": "api"}),
    "bank": ("bank", "web", {"app": "web"}),
    "two": ("bank", "teller", {"app": "teller", "tier": "front"}),
    "ops": ("ops", "default", {}),
    "far": ("shop", "web", {"app": "web"}),
}
LOCAL = ("front", "api", "bank", "two", "ops")  # of n1
VIP = "10.96.1.1"
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api", "namespace": "shop"},
           "spec": {"clusterIPs": [VIP], "selector": {"app": "api"},
                    "ports": [{"name": "a", "port": 80, "targetPort": 8080},
                              {"name": "b", "port": 81, "targetPort": 9090}]}}
FAR = {"apiVersion": "v1", "kind": "Pod",
       "metadata": {"name": "far", "namespace": "shop", "labels": {"app": "web", "istio.io/dataplane-mode": "none"}},
       "spec": {"serviceAccountName": "web", "nodeName": "n2"},
       "status": {"podIPs": [{"ip": "10.244.2.10"}, {"ip": "fd00:244:0:2::a"}]}}
# n1 knows the pod `far`, which is out of the mesh: that proves nothing about who comes from its address.
MANIFESTS = {"service.json": json.dumps(SERVICE), "far.json": json.dumps(FAR)}


# ---------------------------------------------------------------- connects


class Sockets:
    """Sockets of pods, taken many at a time: each taking is a fork."""

    def __init__(self, lab):
        self.lab, self.stock = lab, collections.defaultdict(list)

    def take(self, pod, family):
        stock = self.stock[pod, family]
        if not stock:
            stock += self.lab.sockets(pod, 200, family)
        s = stock.pop()
        s.settimeout(30)
        return s

    def close(self):
        for stock in self.stock.values():
            for s in stock:
                s.close()


class Net:
    """Listeners in every pod, and connects that say how they ended."""

    def __init__(self, lab):
        self.lab, self.sockets, self.listeners = lab, Sockets(lab), []
        for pod in [*PODS, "stranger"]:
            for s, port in zip(lab.sockets(pod, len(PORTS), socket.AF_INET6), PORTS):
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                s.bind(("::", port))
                s.listen(4096)
                s.setblocking(False)
                self.listeners.append(s)

    def connect(self, source, address, port, bind=None):
        """True: connected; False: refused. Anything else is an exception and a fault."""
        with self.sockets.take(source, socket.AF_INET6 if ":" in address else socket.AF_INET) as s:
            if bind:
                s.bind((bind, 0))
            try:
                s.connect((address, port))
            except ConnectionRefusedError:
                return False
        return True

    def drain(self):
        for listener in self.listeners:
            while True:
                try:
                    listener.accept()[0].close()
                except BlockingIOError:
                    break

    def close(self):
        for s in self.listeners:
            s.close()
        self.sockets.close()


@pytest.fixture(scope="module")
def net(lab):
    net = Net(lab)
    yield net
    net.close()


# ---------------------------------------------------------------- manifests


def policy(namespace, name, action="ALLOW", rules=None, selector=None):
    spec = {"action": action}
    if selector:
        spec["selector"] = {"matchLabels": selector}
    if rules is not None:
        spec["rules"] = rules
    return {"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"namespace": namespace, "name": name}, "spec": spec}


def peer(namespace, name, mode, ports=None, selector=None, created="2026-01-01T00:00:00Z"):
    spec = {"mtls": {"mode": mode}}
    if selector:
        spec["selector"] = {"matchLabels": selector}
    if ports:
        spec["portLevelMtls"] = {str(p): {"mode": m} for p, m in ports.items()}
    return {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"namespace": namespace, "name": name, "creationTimestamp": created}, "spec": spec}


NOBODY = [{"from": [{"source": {"principals": ["cluster.local/ns/nobody/sa/nobody"]}}]}]


class World:
    """The folder, and when what it says is in force: a DENY of nobody, with a new name each time, tells."""

    def __init__(self, lab):
        self.lab, self.number = lab, 0

    def write(self, objects, file="policies.yaml"):
        self.number += 1
        marker = policy(ROOT, f"round-{self.number}", "DENY", NOBODY)
        self.lab.manifest(file, "---\n".join(json.dumps(o) + "\n" for o in [*objects, marker]))

    def running(self):
        """Do weftd and its workers answer?"""
        return all(self.lab.weftctl("policy", node=node, check=False, text=True).returncode == 0
                   for node in self.lab.nodes)

    def settled(self):
        for node in self.lab.nodes:
            for p in self.lab.weftctl("policy", node=node)["pods"]:
                if not p["in_kernel"] or f"{ROOT}/round-{self.number}" not in [x["policy"] for x in p["policies"]]:
                    return False
        return True

    def put(self, objects):
        """Writes them, waits until they decide, and insists that none was rejected."""
        self.write(objects)
        labrun.wait_for(self.settled, 10, f"round {self.number} in force")
        for node in self.lab.nodes:
            status = self.lab.weftctl("status", node=node, check=False)
            assert status["ready"], f"seed {SEED}: {status['why']}"


@pytest.fixture(scope="module")
def world(lab):
    return World(lab)


@pytest.fixture
def empty(request, world):
    """Starts and ends without policies; other modules take it from here."""
    world.put([])
    yield world
    for file in world.lab.manifests.iterdir():
        if file.name not in request.module.MANIFESTS and file.name != "policies.yaml":
            file.unlink()
    world.put([])


# ---------------------------------------------------------------- random sets


class Draw:
    """Policies whose values are near to what the lab has, so that every form matches sometimes."""

    def __init__(self, lab, rng):
        self.rng = rng
        self.addresses = [ip for pod in lab.pods.values() for ip in pod["ips"]]
        self.blocks = [a + ("/128" if ":" in a else "/32") for a in self.addresses] + self.addresses
        self.wide = ["10.244.1.0/24", "10.244.0.0/16", "0.0.0.0/0", "::/0", "fd00:244::/32", "fd00:244:0:1::/64",
                     "10.244.1.8/29", "10.244.1.30/31", "192.0.2.0/24"]
        names = [(ns, sa) for ns, sa, _ in PODS.values()]
        self.principals = [f"cluster.local/ns/{ns}/sa/{sa}" for ns, sa in names] + [
            "*", "cluster.local/ns/shop/*", "cluster.local/*", "*/sa/web", "*/sa/default", "other.org/*",
            "cluster.local/ns/bank/sa/web-2", "cluster.local/ns/shop/sa/we*"]
        self.namespaces = ["shop", "bank", "ops", "*", "sh*", "*nk", "*o*", "none"]
        self.accounts = ["web", "api", "default", "shop/web", "bank/teller", "bank/web", "ops/default", "none/web"]

    def some(self, values, most=3):
        return self.rng.sample(values, self.rng.randint(1, most))

    def chance(self, p):
        return self.rng.random() < p

    def ports(self):
        return [str(p) for p in self.some(PORTS + (1, 65535))]

    def ip_blocks(self):
        return self.some(self.blocks) if self.chance(0.6) else self.some(self.wide, 2)

    def pair(self, key, not_key, values, p):
        made = {}
        if self.chance(p):
            made[key] = values()
        if self.chance(p * 0.6):
            made[not_key] = values()
        return made

    def source(self):
        made = {}
        if self.chance(0.25):
            made |= self.pair("serviceAccounts", "notServiceAccounts", lambda: self.some(self.accounts), 0.8)
        else:
            made |= self.pair("principals", "notPrincipals", lambda: self.some(self.principals), 0.35)
            made |= self.pair("namespaces", "notNamespaces", lambda: self.some(self.namespaces, 2), 0.35)
        made |= self.pair("ipBlocks", "notIpBlocks", self.ip_blocks, 0.35)
        return made or {"notNamespaces": self.some(self.namespaces, 2)}

    def operation(self):
        return self.pair("ports", "notPorts", self.ports, 0.6) or {"ports": self.ports()}

    def condition(self):
        key = self.rng.choice(["source.ip", "source.namespace", "source.principal", "destination.ip",
                               "destination.port"])
        values = {"source.ip": self.ip_blocks, "source.namespace": lambda: self.some(self.namespaces, 2),
                  "source.principal": lambda: self.some(self.principals),
                  # of a pod with several addresses all or none: the others need the worker (test_needs_http)
                  "destination.ip": lambda: self.some(self.wide[:6], 2), "destination.port": self.ports}[key]
        return {"key": key, **(self.pair("values", "notValues", values, 0.6) or {"values": values()})}

    def rule(self):
        made = {}
        if self.chance(0.7):
            made["from"] = [{"source": self.source()} for _ in range(self.rng.randint(1, 2))]
        if self.chance(0.5):
            made["to"] = [{"operation": self.operation()} for _ in range(self.rng.randint(1, 2))]
        if self.chance(0.2):
            made["when"] = [self.condition() for _ in range(self.rng.randint(1, 2))]
        return made

    def selector(self):
        return self.rng.choice([None, None, {"app": "web"}, {"app": "api"}, {"tier": "front"}, {"app": "none"},
                                {"app": "teller", "tier": "front"}, {"app": "web", "tier": "front"}])

    def objects(self):
        made = []
        for i in range(self.rng.randint(1, 6)):
            action = self.rng.choice(["ALLOW", "DENY"])
            rules = [self.rule() for _ in range(self.rng.randint(0 if self.chance(0.2) else 1, 3))]
            namespace = self.rng.choice(["shop", "bank", "ops", ROOT])
            # the same name in several namespaces now and then
            made.append(policy(namespace, f"p{i // 2 if namespace != ROOT else i}-{i}", action, rules,
                               self.selector()))
        for i in range(self.rng.randint(0, 4)):
            selector = self.rng.choice([None, {"app": "web"}, {"tier": "front"}])
            modes = ["STRICT", "PERMISSIVE", "UNSET", "DISABLE"]
            ports = {p: self.rng.choice(modes) for p in self.some(PORTS, 2)} if selector and self.chance(0.5) else None
            namespace = self.rng.choice(["shop", "bank", "ops"] + ([] if selector else [ROOT, ROOT]))
            made.append(peer(namespace, f"m{i}", self.rng.choice(modes), ports, selector,
                             f"2026-01-{self.rng.randint(1, 4):02}T00:00:{i:02}Z"))
        self.rng.shuffle(made)
        return made


def mapped(address):
    return f"::ffff:{address}"


def chosen_source(lab, pod, address):
    """The address that the kernel connects from when the pod does not bind."""
    with lab.socket(pod, socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.connect((address, 9))
        return s.getsockname()[0]


def attempts(lab, rng):
    """(source, address asked, port, source address or None, oracle's Peer, oracle's Target or None if never refused)"""
    found = []
    sources = {ip: chosen_source(lab, "two", ip) for pod in PODS for ip in lab.pods[pod]["ips"]}

    def add(source, target, address, port, bind=None, asked=None):
        own = bind or (lab.ip(source, 6 if ":" in address else 4) if source != "two" else sources[address])
        namespace, account, _ = PODS.get(source, ("", "", {}))
        if (source == "far") != (target == "far"):  # another node: nobody vouches for it
            namespace = account = ""
        who = oracle.Peer(own, namespace, account)
        at = oracle.Target(address, port, PODS[target][0], PODS[target][2])
        never = source in lab.nodes or source == target
        found.append((source, asked or address, port, bind, who, target, None if never else at))

    for source in ("front", "api", "bank", "two", "ops", "stranger", "far", "n1"):
        for target in PODS:
            if target == source == "far" or (target == "far" and source in ("n1", "stranger")):
                continue
            for port in PORTS:
                for address in lab.pods[target]["ips"]:
                    add(source, target, address, port)
                if source in LOCAL:
                    add(source, target, lab.ip(target), port, asked=mapped(lab.ip(target)))
    for bind in lab.pods["two"]["ips"]:
        for target in ("front", "api", "ops"):
            for port in PORTS:
                add("two", target, lab.ip(target, 6 if ":" in bind else 4), port, bind=bind)
    rng.shuffle(found)
    return found


def refusals(lab, node):
    """{(source principal, pod, reason): count} as the kernel has counted."""
    found = collections.Counter()
    for r in lab.weftctl("traffic", node=node)["refusals"]:
        found[r["source"], r["pod"], r["reason"]] += r["count"]
    return found


def explained(lab, source, asked, port):
    where = f"[{asked}]:{port}" if ":" in asked else f"{asked}:{port}"
    return lab.weftctl("explain", lab.pods[source]["pod"], where)


def check_explained(lab, attempt, answer, context):
    """weftctl explain gives the same verdict and reason, and names what decided."""
    source, asked, port = attempt[:3]
    said = explained(lab, source, asked, port)
    context = f"{context}\n{json.dumps(said, indent=1)}"
    assert said["verdict"] == ("allowed" if answer.allowed else "refused"), context
    if not answer.allowed:
        assert said["reason"] == answer.reason, context
    named = [s["object"] for s in said["steps"] if s["step"] in ("allow", "deny", "mtls") and s["object"]]
    if answer.reason in ("denied", "none") and answer.objects:
        rules = {n for n in named if " rules[" in n}
        assert rules and rules <= set(answer.objects), context
    elif answer.reason == "not_allowed" and len(answer.objects) == 1:
        assert answer.objects[0] in named, context
    elif answer.reason == "not_allowed":
        text = " ".join(s["text"] for s in said["steps"] if s["step"] == "allow")
        assert all(o.split()[1] in text for o in answer.objects), context


@pytest.mark.parametrize("batch", range(BATCHES))
def test_random_policies(lab, net, world, splice, batch):
    rng = random.Random(f"{SEED} {batch} {splice}")
    objects = Draw(lab, rng).objects()
    world.put(objects)
    before, expected = refusals(lab, "n1"), collections.Counter()
    wrong, known = [], []
    tried = attempts(lab, rng)
    for attempt in tried:
        source, asked, port, bind, who, target, at = attempt
        answer = oracle.decide(objects, who, at) if at else oracle.Answer("none")
        if net.connect(source, asked, port, bind) != answer.allowed:
            wrong.append(f"{source} {bind or ''} -> {target} {asked}:{port}: should be {answer}")
        if not answer.allowed and target != "far":
            expected[who.principal, lab.pods[target]["pod"], answer.reason] += 1
        if source in LOCAL and target in LOCAL and at and source != "two":
            known.append((attempt, answer))
    net.drain()
    context = f"WEFT_SEED={SEED} batch {batch} {splice}: {json.dumps(objects, indent=1)}"
    assert not wrong, f"{len(wrong)} of {len(tried)} wrong:\n" + "\n".join(wrong[:20]) + "\n" + context
    assert len(tried) >= 500
    assert refusals(lab, "n1") - before == expected, context
    for attempt, answer in rng.sample(known, EXPLAINED):
        check_explained(lab, attempt, answer, context)


# ---------------------------------------------------------------- what stands beside the addresses of pods


CLOSED = [policy(ROOT, "nobody", "DENY", [{}]), peer(ROOT, "strict", "STRICT")]


def reasons(lab, node="n1"):
    return {r["name"]: r["count"] for r in lab.weftctl("status", node=node)["control"]["reasons"]}


def link_local(lab, pod):
    """(its address, number of its eth0)"""
    with labrun.lab_module.inside(lab.pods[pod]["netns"]):
        for line in open("/proc/thread-self/net/if_inet6", encoding="ascii"):
            address, index, _, scope, _, name = line.split()
            if scope == "20" and name == "eth0":
                return str(ipaddress.ip_address(bytes.fromhex(address))), int(index, 16)
    raise AssertionError(f"{pod} has no link-local address")


@pytest.mark.parametrize("source", ["front", "stranger"])
def test_no_way_around_by_link_local_addresses(lab, net, empty, source):
    """Every pod has one and no policy knows it: it must not be a way past all policies."""
    empty.put(CLOSED)
    before = reasons(lab).get("link_local", 0)
    with net.sockets.take(source, socket.AF_INET6) as s, pytest.raises(ConnectionRefusedError):
        s.connect((link_local(lab, "api")[0], 8080, 0, link_local(lab, source)[1]))
    assert reasons(lab)["link_local"] == before + 1


def test_a_closed_pod_reaches_itself(lab, net, empty):
    empty.put(CLOSED)
    assert not net.connect("front", lab.ip("api"), 8080)
    own = (lab.ip("api"), lab.ip("api", 6), mapped(lab.ip("api")))
    for address in ("127.0.0.1", "::1", "127.0.0.9", "0.0.0.0", "::", *own):
        assert net.connect("api", address, 8080), address
    address, index = link_local(lab, "api")
    with net.sockets.take("api", socket.AF_INET6) as s:
        s.connect((address, 8080, 0, index))
    net.drain()


def test_the_node_reaches_closed_pods(lab, net, empty):
    """The kubelet's probes: from whatever address of the node."""
    empty.put(CLOSED)
    before = reasons(lab).get("node_itself", 0)
    for bind in (None, lab.nodes["n1"]["addresses"][0], "192.168.244.1"):
        assert net.connect("n1", lab.ip("api"), 8080, bind)
    assert net.connect("n1", lab.ip("api", 6), 8080)
    assert reasons(lab)["node_itself"] == before + 4
    net.drain()


# ---------------------------------------------------------------- services


def test_a_policy_counts_the_port_of_the_pod(lab, net, empty):
    """Port 80 of the service is 8080 of the pod, 81 is 9090: ALLOW 8080 lets 80 through."""
    empty.put([policy("shop", "web-port", "ALLOW", [{"to": [{"operation": {"ports": ["8080"]}}]}], {"app": "api"})])
    before = refusals(lab, "n1")
    assert net.connect("front", VIP, 80) and net.connect("bank", mapped(VIP), 80)
    assert not net.connect("front", VIP, 81)
    assert not net.connect("front", VIP, 82)
    said = explained(lab, "front", VIP, 81)
    assert (said["verdict"], said["reason"]) == ("refused", "not_allowed")
    assert [s["object"] for s in said["steps"] if s["step"] in ("service", "allow")] == [
        "Service shop/api", "AuthorizationPolicy shop/web-port"]
    counted = {k: n - before[k] for k, n in refusals(lab, "n1").items() if n != before[k]}
    assert counted == {("cluster.local/ns/shop/sa/web", "shop/api", "not_allowed"): 1,
                       ("cluster.local/ns/shop/sa/web", "", "no_service_port"): 1}
    net.drain()


def test_explain_knows_of_several_source_addresses(lab, net, empty):
    """The kernel chooses among them, or the app does."""
    empty.put([policy("shop", "one", "DENY", [{"from": [{"source": {"ipBlocks": ["10.244.1.31"]}}]}], {"app": "api"})])
    assert net.connect("two", lab.ip("api"), 8080, "10.244.1.30")
    assert not net.connect("two", lab.ip("api"), 8080, "10.244.1.31")
    said = explained(lab, "two", lab.ip("api"), 8080)
    assert (said["verdict"], said["reason"]) == ("mixed", "denied")
    assert "10.244.1.31" in " ".join(s["text"] for s in said["steps"])
    assert explained(lab, "two", lab.ip("api", 6), 8080)["verdict"] == "allowed"
    net.drain()


# ---------------------------------------------------------------- rules that connections cannot answer


GET = [{"to": [{"operation": {"methods": ["GET"], "ports": ["8080"]}}]}]


@pytest.mark.parametrize("action, refused", [
    ("DENY", {}), ("ALLOW", {9090: "not_allowed", 443: "not_allowed", 7000: "not_allowed"})])
def test_needs_http(lab, net, empty, action, refused):
    """A rule with methods sends what it may concern to the worker, and nothing else."""
    empty.put([policy("shop", "get", action, GET, {"app": "api"})])
    before = refusals(lab, "n1")
    for port in PORTS:
        assert net.connect("front", lab.ip("api"), port) == (port not in refused)
        said = explained(lab, "front", lab.ip("api"), port)
        assert said["reason"] == ("proxied" if port == 8080 else refused.get(port, "none"))
    assert net.connect("front", lab.ip("bank"), 8080)
    counted = collections.Counter(refused.values())
    for reason, n in counted.items():
        key = ("cluster.local/ns/shop/sa/web", "shop/api", reason)
        assert refusals(lab, "n1")[key] - before[key] == n
    said = explained(lab, "front", lab.ip("api"), 8080)
    assert "AuthorizationPolicy shop/get rules[0]" in [s["object"] for s in said["steps"]]
    net.drain()


def test_destination_among_several_addresses_needs_the_worker(lab, net, empty):
    """destination.ip that fits one of two IPv4 addresses: the worker refuses both, IPv6 is not meant."""
    empty.put([policy("bank", "one", "DENY", [{"when": [{"key": "destination.ip", "values": ["10.244.1.30"]}]}],
                      {"app": "teller"})])
    for address in lab.pods["two"]["ips"]:
        said = explained(lab, "front", address, 8080)
        assert said["reason"] == ("none" if ":" in address else "needs_worker")
    net.drain()


# ---------------------------------------------------------------- what cannot be understood


GOOD = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: guard
  namespace: shop
spec:
  selector:
    matchLabels: { app: api }
  action: ALLOW
  rules:
  - from:
    - source:
        namespaces: [bank]
    to:
    - operation:
        ports: ["8080"]
"""
BAD = {  # what is wrong: (good text, bad text, line, field, closes the whole namespace)
    "CIDR": ("namespaces: [bank]", "ipBlocks: [10.0.0.0/99]", 13, "spec.rules[0].from[0].source.ipBlocks[0]", False),
    "host bits": ("namespaces: [bank]", "notIpBlocks: [10.1.2.3/8]", 13, "spec.rules[0].from[0].source.notIpBlocks[0]",
                  False),
    "field": ("namespaces:", "namespacez:", 13, "spec.rules[0].from[0].source.namespacez", False),
    "empty list": ("[bank]", "[]", 13, "spec.rules[0].from[0].source.namespaces", False),
    "port": ('["8080"]', '["http"]', 16, "spec.rules[0].to[0].operation.ports[0]", False),
    "CUSTOM": ("ALLOW", "CUSTOM\n  provider: { name: x }", 9, "spec.action", False),
    "action": ("ALLOW", "ALOW", 9, "spec.action", False),
    "selector": ("matchLabels: { app: api }", "matchLabelz: { app: api }", 8, "spec.selector.matchLabelz", True),
    "YAML": ("[bank]", "[bank", None, "", True),
}


def bad(name):
    good, wrong = BAD[name][:2]
    assert good in GOOD
    return GOOD.replace(good, wrong)


def problem(lab, file):
    status = lab.weftctl("status", check=False)
    found = [p for p in status["control"]["problems"] if p["file"].endswith(file) and not p["warning"]]
    return found[0] if found and not status["ready"] else None


def guarded(lab, net):
    """Exactly what GOOD says for api, and nothing for others."""
    ok = all(net.connect(s, lab.ip("api"), p) == (s == "bank" and p == 8080)
             for s in ("bank", "front", "ops", "stranger") for p in (8080, 9090))
    ok = ok and net.connect("ops", lab.ip("front"), 8080) and net.connect("front", lab.ip("bank"), 8080)
    net.drain()
    return ok


def closed(lab, net, whole_namespace):
    """Nobody reaches api, and front only if it was not meant; bank is of another namespace."""
    ok = not any(net.connect(s, lab.ip("api"), p) for s in ("bank", "front", "ops", "stranger") for p in (8080, 9090))
    ok = ok and net.connect("ops", lab.ip("front"), 8080) == (not whole_namespace)
    ok = ok and net.connect("front", lab.ip("bank"), 8080)
    net.drain()
    return ok


@pytest.mark.parametrize("what", BAD)
def test_a_policy_that_is_not_understood_opens_nothing(lab, net, empty, what):
    _, _, line, field, whole_namespace = BAD[what]
    lab.manifest("guard.yaml", bad(what))  # its first version: closes what it selects
    said = labrun.wait_for(lambda: problem(lab, "guard.yaml"), 10, "the problem in weftctl status")
    assert said["field"] == field and (line is None or said["line"] == line)
    assert line is None or said["object"] == "AuthorizationPolicy shop/guard"
    assert closed(lab, net, whole_namespace)
    assert explained(lab, "bank", lab.ip("api"), 8080)["verdict"] == "refused"
    text = lab.weftctl("status", check=False, text=True)
    assert text.returncode == 1 and "guard.yaml" in text.stdout + text.stderr
    lab.manifest("guard.yaml", GOOD)
    labrun.wait_for(lab.ready, 10, "ready again")
    assert guarded(lab, net)
    lab.manifest("guard.yaml", bad(what))  # after a good one: that stays
    assert labrun.wait_for(lambda: problem(lab, "guard.yaml"), 10, "the problem in weftctl status")["field"] == field
    assert guarded(lab, net)
    (lab.manifests / "guard.yaml").unlink()
    labrun.wait_for(lab.ready, 10, "ready without it")
    assert net.connect("front", lab.ip("api"), 9090)
    net.drain()


def test_a_peer_authentication_that_is_not_understood_is_strict(lab, net, empty):
    text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: { name: p, namespace: shop }\n" \
        "spec: { mtls: { mode: STRIKT } }\n"
    assert net.connect("stranger", lab.ip("api"), 8080)
    lab.manifest("peer.yaml", text)
    assert labrun.wait_for(lambda: problem(lab, "peer.yaml"), 10, "the problem")["field"] == "spec.mtls.mode"
    assert not net.connect("stranger", lab.ip("api"), 8080)
    assert net.connect("front", lab.ip("api"), 8080) and net.connect("stranger", lab.ip("bank"), 8080)
    net.drain()
