# SPDX-License-Identifier: Apache-2.0
"""
What Istio's documents say about AuthorizationPolicy and PeerAuthentication at L4, in the plainest form: no index, no
compilation, one connection at a time. Written from
	https://istio.io/latest/docs/reference/config/security/authorization-policy/
	https://istio.io/latest/docs/reference/config/security/authorization-policy-conditions/
	https://istio.io/latest/docs/reference/config/security/peer_authentication/
and not from weft's code. Objects are the dicts of the manifests.
"""

import ipaddress
from dataclasses import dataclass, field

ROOT = "istio-system"
TRUST_DOMAIN = "cluster.local"


@dataclass
class Peer:
    """Who connects. No service account: nobody proved anything."""

    address: str
    namespace: str = ""
    account: str = ""

    @property
    def principal(self):
        return f"{TRUST_DOMAIN}/ns/{self.namespace}/sa/{self.account}" if self.account else ""


@dataclass
class Target:
    """Which pod is reached, and where."""

    address: str
    port: int
    namespace: str
    labels: dict


@dataclass
class Answer:
    reason: str  # "none" = allowed; else the name of the reason
    objects: list = field(default_factory=list)  # what decided; of not_allowed: the ALLOW policies that do not match

    @property
    def allowed(self):
        return self.reason == "none"


def name_of(o):
    return f"{o['kind']} {o['metadata']['namespace']}/{o['metadata']['name']}"


# ---------------------------------------------------------------- one attribute


def fits(pattern, value):
    """Exact, "abc*" prefix, "*abc" suffix, "*" presence; what is not there fits nothing."""
    if not value:
        return False
    if pattern == "*":
        return True
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return pattern == value


def in_block(block, address):
    a, net = ipaddress.ip_address(address), ipaddress.ip_network(block)
    return a.version == net.version and a in net


def pair(table, key, not_key, holds):
    """`key` must hold for one of its values if it is there, `not_key` for none of its values."""
    if key in table and not any(holds(v) for v in table[key]):
        return False
    return not any(holds(v) for v in table.get(not_key, []))


# ---------------------------------------------------------------- a rule


def account_fits(value, peer, policy_namespace):
    """"name" is of the policy's own namespace, "namespace/name" of that one."""
    namespace, _, name = value.rpartition("/")
    return bool(peer.account) and (namespace or policy_namespace, name) == (peer.namespace, peer.account)


def source_holds(s, peer, policy_namespace):
    return (pair(s, "principals", "notPrincipals", lambda v: fits(v, peer.principal))
            and pair(s, "namespaces", "notNamespaces", lambda v: fits(v, peer.namespace))
            and pair(s, "serviceAccounts", "notServiceAccounts", lambda v: account_fits(v, peer, policy_namespace))
            and pair(s, "ipBlocks", "notIpBlocks", lambda v: in_block(v, peer.address)))


def operation_holds(o, target):
    return pair(o, "ports", "notPorts", lambda v: int(v) == target.port)


def condition_holds(c, peer, target):
    holds = {
        "source.ip": lambda v: in_block(v, peer.address),
        "source.namespace": lambda v: fits(v, peer.namespace),
        "source.principal": lambda v: fits(v, peer.principal),
        "destination.ip": lambda v: in_block(v, target.address),
        "destination.port": lambda v: int(v) == target.port,
    }[c["key"]]
    return pair(c, "values", "notValues", holds)


def rule_holds(rule, peer, target, policy_namespace):
    if "from" in rule and not any(source_holds(f["source"], peer, policy_namespace) for f in rule["from"]):
        return False
    if "to" in rule and not any(operation_holds(t["operation"], target) for t in rule["to"]):
        return False
    return all(condition_holds(c, peer, target) for c in rule.get("when", []))


# ---------------------------------------------------------------- policies


def selector_of(o):
    return o.get("spec", {}).get("selector", {}).get("matchLabels", {})


def selects(o, target):
    """A policy of the root namespace is for pods of every namespace."""
    return (o["metadata"]["namespace"] in (ROOT, target.namespace)
            and all(target.labels.get(k) == v for k, v in selector_of(o).items()))


def mtls(objects, target):
    """(mode, who said so): the port's, the workload's, the namespace's, the mesh's; of two alike the oldest counts."""
    peers = sorted((o for o in objects if o["kind"] == "PeerAuthentication"),
                   key=lambda o: o["metadata"]["creationTimestamp"])

    def first(namespace, with_selector):
        for o in peers:
            selector = selector_of(o)
            if (o["metadata"]["namespace"] == namespace and bool(selector) == with_selector
                    and all(target.labels.get(k) == v for k, v in selector.items())):
                return o
        return None

    workload = first(target.namespace, True)
    if workload:
        mode = workload["spec"].get("portLevelMtls", {}).get(str(target.port), {}).get("mode", "UNSET")
        if mode != "UNSET":
            return mode, workload
    for o in (workload, first(target.namespace, False), first(ROOT, False)):
        mode = o["spec"].get("mtls", {}).get("mode", "UNSET") if o else "UNSET"
        if mode != "UNSET":
            return mode, o
    return "PERMISSIVE", None


def decide(objects, peer, target):
    """DENY before ALLOW; without an ALLOW policy that selects the pod everything is allowed."""
    mode, said = mtls(objects, target)
    if mode == "STRICT" and not peer.account:
        return Answer("mtls_required", [name_of(said)])
    matched, policies = {"DENY": [], "ALLOW": []}, {"DENY": [], "ALLOW": []}
    for o in objects:
        if o["kind"] != "AuthorizationPolicy" or not selects(o, target):
            continue
        spec = o.get("spec", {})
        action = spec.get("action", "ALLOW")
        policies[action].append(name_of(o))
        for i, rule in enumerate(spec.get("rules", [])):
            if rule_holds(rule, peer, target, o["metadata"]["namespace"]):
                matched[action].append(f"{name_of(o)} rules[{i}]")
    if matched["DENY"]:
        return Answer("denied", matched["DENY"])
    if not policies["ALLOW"] or matched["ALLOW"]:
        return Answer("none", matched["ALLOW"])
    return Answer("not_allowed", policies["ALLOW"])
