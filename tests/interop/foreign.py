# SPDX-License-Identifier: Apache-2.0
"""Two nodes with a pod of weft and one of Envoy each, and the Envoys in them."""

import json
import pathlib
import resource
import socket

import certificates
import envoy
import labrun
from leaks import BUILD
from two_nodes import pod_list

NEAR, FAR, ODD = ("weft-near", "envoy-near"), ("weft-far", "envoy-far"), "odd-far"
PLACES = {"weft-near": ("n1", 1, 10), "envoy-near": ("n1", 1, 11),
          "weft-far": ("n2", 2, 10), "envoy-far": ("n2", 2, 11), ODD: ("n2", 2, 12)}
LAB = "[nodes.n1]\n[nodes.n2]\n" + "".join(f"""
[pods.{name}]
node = "{node}"
service_account = "{name}"
enrol = {"true" if name.startswith("weft") else "false"}
""" for name, (node, _, _) in PLACES.items())
MANIFESTS = pod_list(PLACES)
PORTS = range(7000, 7006)  # of applications
WAYS = {far: 10000 * i for i, far in enumerate((*FAR, ODD), 1)}  # an Envoy's port for an application's, by far pod
OPEN_FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def spiffe(account, trust_domain="cluster.local"):
    return f"spiffe://{trust_domain}/ns/default/sa/{account}"


def live(admin):
    """Does this Envoy serve? It listens before that, and on a busy machine a handshake may wait its 10 s meanwhile."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(10)
        s.connect(str(admin))
        s.sendall(b"GET /ready HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
        reply = b""
        while more := s.recv(4096):
            reply += more
    return reply.startswith(b"HTTP/1.1 200")


class Foreign:
    """The Envoys: a server beside the far application, and beside the near one a client for each far pod."""

    def __init__(self, lab):
        self.lab = lab
        self.authority = certificates.Authority.embedded(lab.scratch / "certs", lab.ca_dir())
        for name in ("envoy-near", "envoy-far"):
            self.authority.leaf(name, spiffe(name))
        self.server("envoy-far", "envoy-far")
        for far in FAR:
            self.client(far, "envoy-near")

    def start(self, pod, name, config, port):
        command = envoy.command(BUILD, self.lab.scratch, name, config)
        process = self.lab.start(pod, *command, ready=port, limits={resource.RLIMIT_NOFILE: OPEN_FILES})
        labrun.wait_for(lambda: live(self.lab.scratch / f"{name}.admin"), 20, f"{name} serving")
        return process

    def server(self, pod, leaf, certs=None):
        config = envoy.server(certs or self.authority.folder, leaf, ip=self.lab.ip(pod))
        return self.start(pod, f"server-{leaf}", config, envoy.HBONE)

    def client(self, far, leaf, certs=None, shift=0, server_id=None):
        """An Envoy in pod envoy-near whose ports WAYS[far] + shift + PORTS lead to `far`."""
        ways = {WAYS[far] + shift + port: f"{self.lab.ip(far)}:{port}" for port in PORTS}
        config = envoy.client(ways, self.lab.ip(far), certs or self.authority.folder, leaf, server_id or spiffe(far))
        return self.start("envoy-near", f"client-{far}-{leaf}-{shift}", config, min(ways))

    def target(self, near, far, port, shift=0):
        """(host, port) that an application in pod `near` dials to reach `far`."""
        if near == "envoy-near":
            return "127.0.0.1", WAYS[far] + shift + port
        return self.lab.ip(far), port

    def connect(self, near, far, port, shift=0, seconds=10):
        s = self.lab.socket(near)
        s.settimeout(seconds)
        s.connect(self.target(near, far, port, shift))
        return s

    def stop(self, process):
        self.lab.stop(process)


def soak(foreign, near, far, port, megabytes, connections, seed, tmp_path):
    """Random traffic both ways, every byte checked at both ends (tests/net/soak): what the ends say at last."""
    lab, program = foreign.lab, BUILD / "tests/net/soak"
    out = {pod: tmp_path / f"{pod}.out" for pod in (near, far)}
    host, to = foreign.target(near, far, port)
    with open(out[far], "wb") as file:
        server = lab.start(far, program, "server", f"{lab.ip(far)}:{port}", ready=port, stdout=file, stderr=file)
    with open(out[near], "wb") as file:
        client = lab.start(near, program, "client", f"{host}:{to}", "--bytes", megabytes * 10**6, "--connections",
                           connections, "--seed", seed, stdout=file, stderr=file)
    code = client.wait(120)
    said = f"seed {seed}: " + "".join(f"{pod}: {pathlib.Path(path).read_text()}" for pod, path in out.items())
    assert (code, lab.stop(server)) == (0, 0), said
    there, here = (json.loads(out[pod].read_text()) for pod in (near, far))
    assert (there["sent"], there["checked"]) == (here["checked"], here["sent"]), said
    return there


def until_logged(lab, node, *words, since=0):
    """The lines of a node's log, from line `since` on, that have all these words."""
    def found():
        return [line for line in lab.log(node).splitlines()[since:] if all(word in line for word in words)]
    try:
        return labrun.wait_for(found, 10, f"a line of {node}'s log with {', '.join(words)}")
    except labrun.LabError as error:
        raise AssertionError(f"{error}\n{lab.log(node)}") from error
