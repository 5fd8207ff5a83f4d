# SPDX-License-Identifier: Apache-2.0
"""
nodes: the labs of part three. Two nodes with a pod each, once for each arm: two bare relays, two HAProxys (TCP over
mTLS), two Envoys (HBONE), two weft nodes. The daemons of an arm stand in the netns of the pods, where weft's sockets
are too, and run in the cgroup of the node's daemon, so that their CPU is told from that of the applications.

With one thread a node is one core: node `near` on CPU 0, `far` on CPU 1, with all that runs there. With two threads
both nodes have both.
"""

import os
import pathlib
import resource
import shutil
import subprocess

import certificates
import envoy
import labrun
from sides import Machine

ARMS = ("relay", "haproxy", "envoy", "weft")
NAMES = {"relay": "bare relays", "haproxy": "HAProxy", "envoy": "Envoy", "weft": "weft"}
PORTS = {"echo": 7011, "crowd": 7012, "answer": 7013}
NEAR, FAR = 10000, 20000  # the daemons of an arm listen at that distance from the application's port
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # open files of a daemon: as many as it may have
IDS = {name: f"spiffe://cluster.local/ns/default/sa/{name}" for name in ("client", "server")}
CIPHER = "TLS_AES_128_GCM_SHA256"
LAB = """
[nodes.near]
cpus = {near}
args = ["--threads", "{threads}"]
[nodes.far]
cpus = {far}
args = ["--threads", "{threads}"]
[pods.client]
node = "near"
service_account = "client"
[pods.server]
node = "far"
service_account = "server"
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {{ name: {name}, namespace: default }}
spec: {{ nodeName: {node}, serviceAccountName: {name}, containers: [{{ name: c }}] }}
status: {{ phase: Running, podIPs: [{{ ip: "{ip}" }}], conditions: [{{ type: Ready, status: "True" }}] }}
"""
MANIFESTS = {"pods.yaml": "---".join(POD.format(name=name, node=node, ip=ip) for name, node, ip in (
    ("client", "near", "10.244.1.10"), ("server", "far", "10.244.2.10")))}
HAPROXY = """
global
	nbthread {threads}
	maxconn 9500
	ssl-default-bind-options ssl-min-ver TLSv1.3 ssl-max-ver TLSv1.3
	ssl-default-bind-ciphersuites {cipher}
	ssl-default-server-options ssl-min-ver TLSv1.3 ssl-max-ver TLSv1.3
	ssl-default-server-ciphersuites {cipher}
defaults
	mode tcp
	timeout connect 5s
	timeout client 1h
	timeout server 1h
"""


class Nodes:
    """The labs of the arms, and what runs in them."""

    client = "client"  # where clients run: a pod, or the node itself

    def __init__(self, build, name, patience, arms=ARMS):
        self.build, self.name, self.patience = build, name, patience
        self.arms = [arm for arm in ARMS if arm in arms]
        self.load = str(build / "bench/load")
        self.threads, self.labs, self.servers = 0, {}, {}
        self.machine, self.look = Machine(), None

    def prepare(self, spec):
        """Before a row: labs with as many threads as it wants."""
        if spec.threads != self.threads:
            self.down()
            self.threads = spec.threads
        for arm in self.arms:
            if arm not in self.labs:
                self.up(arm)

    def up(self, arm):
        apart = self.threads == 1 and os.cpu_count() > 1
        text = LAB.format(threads=self.threads, near=[0] if apart else [], far=[1] if apart else [])
        weft = arm == "weft"
        lab = self.labs[arm] = labrun.Running.from_text(
            text, self.name, MANIFESTS if weft else None, weft=weft, build=self.build, prefix=f"{self.name}-{arm}-",
            patience=self.patience)
        for pod in lab.pods:
            if lab.congestion(pod) != "cubic":
                raise labrun.LabError(f"{arm}: {pod} uses {lab.congestion(pod)}: this bench compares with cubic only")
        if not weft:
            getattr(self, f"start_{arm}")(lab)

    def down(self):
        for lab in self.labs.values():
            lab.down()
        self.labs, self.servers = {}, {}

    def fresh(self, arm):
        """New daemons, which have not yet taken memory for anything."""
        self.labs.pop(arm).down()
        self.servers = {key: server for key, server in self.servers.items() if key[0] != arm}
        self.up(arm)

    # ---- the daemons

    def start_daemon(self, lab, pod, command, ready):
        lab.start(pod, *command, daemon=True, ready=ready, limits={resource.RLIMIT_NOFILE: FILES})

    def start_relay(self, lab):
        """A pair for each port; threads of a pair that has nothing to do sleep."""
        for port in PORTS.values():
            hops = (("server", f"{lab.ip('server')}:{FAR + port}", f"{lab.ip('server')}:{port}"),
                    ("client", f"127.0.0.1:{NEAR + port}", f"{lab.ip('server')}:{FAR + port}"))
            for pod, here, to in hops:
                self.start_daemon(lab, pod, [self.load, "relay", here, "--to", to, "--threads", self.threads],
                                  int(here.rpartition(":")[2]))

    def certificates(self, lab):
        authority = certificates.Authority.new(lab.scratch / "certs")
        for name, spiffe in IDS.items():
            authority.leaf(name, spiffe)
        return authority.folder

    def start_haproxy(self, lab):
        """Buffers of 16 KB, its default: with 64 KB its bulk costs more CPU. TLS sessions are resumed, its default."""
        certs, head = self.certificates(lab), HAPROXY.format(threads=self.threads, cipher=CIPHER)
        parts = {"client": head, "server": head}
        for name, port in PORTS.items():
            parts["client"] += f"""
listen {name}
	bind 127.0.0.1:{NEAR + port}
	server far {lab.ip('server')}:{FAR + port} ssl crt {certs}/client.both ca-file {certs}/ca.pem verify required
"""
            parts["server"] += f"""
listen {name}
	bind {lab.ip('server')}:{FAR + port} ssl crt {certs}/server.both ca-file {certs}/ca.pem verify required
	server app {lab.ip('server')}:{port}
"""
        for pod in ("server", "client"):
            path = lab.scratch / f"haproxy-{pod}.cfg"
            path.write_text(parts[pod])
            binary = shutil.which("haproxy") or "/usr/sbin/haproxy"
            self.start_daemon(lab, pod, [binary, "-db", "-f", path],
                              (FAR if pod == "server" else NEAR) + PORTS["answer"])

    def start_envoy(self, lab):
        certs, far = self.certificates(lab), lab.ip("server")
        ways = {NEAR + port: f"{far}:{port}" for port in PORTS.values()}
        for pod, config, ready in (("server", envoy.server(certs, "server", ip=far), envoy.HBONE),
                                   ("client", envoy.client(ways, far, certs, "client", IDS["server"]),
                                    NEAR + PORTS["answer"])):
            self.start_daemon(lab, pod, envoy.command(self.build, lab.scratch, pod, config, self.threads), ready)

    # ---- runs

    def lab(self, arm):
        return self.labs[arm]

    def target(self, arm, port):
        """What a client dials: the pod, where its connections are captured; else the daemon beside it."""
        return f"{self.lab(arm).ip('server')}:{port}" if arm == "weft" else f"127.0.0.1:{NEAR + port}"

    def listen(self, arm, role, *options):
        """A load server in the far pod; gives what the client dials."""
        port = PORTS[role]
        if (arm, role) not in self.servers:
            lab = self.lab(arm)
            self.servers[arm, role] = lab.start("server", self.load, role, f"{lab.ip('server')}:{port}", *options,
                                                ready=port, limits={resource.RLIMIT_NOFILE: FILES})
        return self.target(arm, port)

    def end_row(self):
        for (arm, _), server in self.servers.items():
            self.lab(arm).stop(server)
        self.servers, self.machine = {}, Machine()

    def start(self, arm, *command, **options):
        return self.lab(arm).start(self.client, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                   limits={resource.RLIMIT_NOFILE: FILES}, **options)

    def apps(self, lab):
        """CPU seconds of who asks and who answers."""
        return lab.cpu(self.client, "server")

    def measure(self, arm, *command, seconds):
        """Runs a client; gives its output and the CPU seconds of both daemons."""
        lab = self.lab(arm)
        machine, apps, daemons = Machine.read(), self.apps(lab), lab.daemon_cpu()
        client = self.start(arm, *command)
        if self.look and arm == "weft":
            self.look(lab, client)
        try:
            out, err = (text.decode(errors="replace") for text in client.communicate(timeout=seconds * 5 + 30))
        except subprocess.TimeoutExpired:
            lab.stop(client)
            raise
        if client.returncode:
            raise labrun.LabError(f"{arm}: {' '.join(map(str, command))}: exit code {client.returncode}: "
                                  f"{err.strip() or out.strip()}")
        used = lab.daemon_cpu() - daemons
        self.machine.add(machine, Machine.read(), used + self.apps(lab) - apps)
        return out, used

    def witness(self):
        return Witness(self)


class Witness:
    """Only a tunnel is compared with tunnels: the paths that weft says its connections have."""

    def __init__(self, nodes):
        self.weft, self.seen = "weft" in nodes.arms, {}

    def look(self, lab, client):
        def found():
            for c in lab.weftctl("connections", node="near")["connections"]:
                if c["source"]["pod"] == "default/client" and c["path"] != "tunnel":
                    raise labrun.LabError(f"weft: {c['destination']} goes by path {c['path']} ({c['reason']}), not by "
                                          "tunnel: nothing to compare")
                key = c["path"], c["reason"]
                self.seen[key] = self.seen.get(key, 0) + 1
            return self.seen or client.poll() is not None
        labrun.wait_for(found, 10, "a connection in weftctl connections", 0.05)

    def path(self):
        if not self.weft:
            return None
        return {"seen": {"/".join(k): v for k, v in self.seen.items()},
                "text": ", ".join(sorted({path for path, _ in self.seen})) or "-"}


def aes_bytes_per_second(seconds=1):
    """What one core does in AES-128-GCM with OpenSSL, records of 16 KB: a tunnel seals and opens each byte once."""
    done = subprocess.run(["openssl", "speed", "-evp", "aes-128-gcm", "-seconds", str(seconds), "-bytes", "16384",
                           "-mr"], capture_output=True, text=True, check=True, timeout=60)
    line = next(line for line in done.stdout.splitlines() if line.startswith("+F:"))
    return float(line.rpartition(":")[2])
