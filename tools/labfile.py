# SPDX-License-Identifier: Apache-2.0
"""labfile: the file that describes a lab, read and checked (docs/lab.md)."""

import ipaddress
import os
import pathlib
import re
import tomllib

NODE_KEYS = {"ipv4", "ipv6", "manifests", "args", "cpus"}
POD_KEYS = {"node", "name", "namespace", "service_account", "labels", "annotations", "ips", "enrol"}
TOP_KEYS = {"prefix", "manifests", "args", "nodes", "pods"}
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")
HAVE_IPV6 = os.path.exists("/proc/sys/net/ipv6")  # not on a kernel booted with ipv6.disable=1


class LabError(Exception):
    """What went wrong and what to do, in one line."""


class Node:
    """A node: netns, bridge, cgroup, weftd instance."""

    def __init__(self, number, name, spec, prefix):
        self.number, self.name = number, name
        self.instance = prefix + name
        self.netns = f"weft-{prefix}{name}"
        self.ipv4 = ipaddress.ip_network(spec.get("ipv4", f"10.244.{number}.0/24"))
        self.ipv6 = ipaddress.ip_network(spec.get("ipv6", f"fd00:244:0:{number}::/64"))
        self.manifests = spec.get("manifests")
        self.args = list(spec.get("args", []))
        self.cpus = spec.get("cpus", [])
        self.pods = []

    @property
    def networks(self):
        return (self.ipv4, self.ipv6) if HAVE_IPV6 else (self.ipv4,)

    @property
    def addresses(self):
        return [f"{net[1]}" for net in self.networks]

    @property
    def wire(self):
        return (f"192.168.244.{self.number}/24", f"fd00:245::{self.number}/64")[:len(self.networks)]


class Pod:
    """A pod: netns, veth, addresses and what weft is told about it."""

    def __init__(self, key, spec, node, prefix):
        self.key, self.node = key, node
        self.name = spec.get("name", key)
        self.namespace = spec.get("namespace", "default")
        self.service_account = spec.get("service_account", "default")
        self.labels = spec.get("labels", {})
        self.annotations = spec.get("annotations", {})
        self.enrol = spec.get("enrol", True)
        self.netns = prefix + key
        self.number = len(node.pods)
        taken = [net[10 + self.number] for net in node.networks]
        if not isinstance(self.labels, dict) or not isinstance(self.annotations, dict):
            raise ValueError('labels and annotations are tables: { key = "value" }')
        if not isinstance(spec.get("ips", []), list):
            raise ValueError('ips is a list: ["10.244.1.77"]')
        self.ips = [ipaddress.ip_address(ip) for ip in spec.get("ips", taken)]
        for ip in self.ips:
            if not any(ip in net for net in node.networks):
                raise LabError(f"pod {key}: address {ip} is not in a network of node {node.name} "
                               f"({node.ipv4}, {node.ipv6})")

    @property
    def veth(self):
        return self.key if len(self.key) <= 15 else f"pod{self.number}"


class Lab:
    """A lab file, read and checked."""

    def __init__(self, path, prefix=None):
        self.path = pathlib.Path(path).resolve()
        self.name = self.path.stem
        if not NAME.match(self.name):
            raise LabError(f"{path}: a lab is named by its file: a-z, 0-9 and -, at most 40 characters")
        try:
            doc = tomllib.loads(self.path.read_text())
        except OSError as e:
            raise LabError(f"{path}: {e.strerror}") from e
        except tomllib.TOMLDecodeError as e:
            raise LabError(f"{path}: {e}") from e
        self.prefix = doc.get("prefix", "") if prefix is None else prefix
        if not isinstance(self.prefix, str):
            raise LabError(f"{path}: prefix is a text: prefix = \"demo-\"")
        if self.prefix:
            self.name = f"{self.prefix}{self.name}"
        known(doc, TOP_KEYS, f"{path}")
        for key in ("nodes", "pods"):
            if not isinstance(doc.get(key, {}), dict):
                raise LabError(f"{path}: {key} are tables: [{key}.NAME]")
        self.nodes = [self.node(i + 1, n, s, doc) for i, (n, s) in enumerate(doc.get("nodes", {}).items())]
        if not self.nodes:
            raise LabError(f"{path}: no node: add a table [nodes.NAME]")
        self.pods = [self.pod(key, spec) for key, spec in doc.get("pods", {}).items()]

    def node(self, number, name, spec, doc):
        known(spec, NODE_KEYS, f"{self.path}: node {name}")
        if not NAME.match(name):
            raise LabError(f"{self.path}: node {name}: a name is a-z, 0-9 and -, at most 40 characters")
        try:
            node = Node(number, name, spec, self.prefix)
        except (ValueError, TypeError) as e:
            raise LabError(f"{self.path}: node {name}: {e}") from e
        if not isinstance(node.cpus, list) or not set(node.cpus) <= set(range(os.cpu_count())):
            raise LabError(f"{self.path}: node {name}: cpus is a list of numbers of CPUs that are there: "
                           f"0 to {os.cpu_count() - 1}")
        node.args = list(doc.get("args", [])) + node.args
        folder = node.manifests or doc.get("manifests")
        node.manifests = str((self.path.parent / folder).resolve()) if folder else None
        return node

    def pod(self, key, spec):
        known(spec, POD_KEYS, f"{self.path}: pod {key}")
        if not NAME.match(key):
            raise LabError(f"{self.path}: pod {key}: a name is a-z, 0-9 and -, at most 40 characters")
        name = spec.get("node", self.nodes[0].name)
        node = next((n for n in self.nodes if n.name == name), None)
        if not node:
            raise LabError(f"{self.path}: pod {key}: no node {name}: add [nodes.{name}]")
        try:
            pod = Pod(key, spec, node, self.prefix)
        except (ValueError, TypeError) as e:
            raise LabError(f"{self.path}: pod {key}: {e}") from e
        node.pods.append(pod)
        return pod

    def refuse_missing(self):
        """Asked before it comes up: who takes it down may have removed its folders."""
        for node in self.nodes:
            if node.manifests and not os.path.isdir(node.manifests):
                raise LabError(f"{self.path}: node {node.name}: there is no folder {node.manifests}: make it, or "
                               "give manifests another one")

    @property
    def wire_netns(self):
        return f"weft-wire-{self.name}"

    def namespaces(self):
        names = [n.netns for n in self.nodes] + [p.netns for p in self.pods]
        return names + ([self.wire_netns] if len(self.nodes) > 1 else [])


def known(table, keys, where):
    """Refuses a key that nobody reads: a typing error must not pass in silence."""
    if not isinstance(table, dict):
        raise LabError(f"{where}: it is a table, in which keys stand")
    for key in table:
        if key not in keys:
            raise LabError(f"{where}: unknown key {key!r}; known: {', '.join(sorted(keys))}")
