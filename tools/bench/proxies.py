# SPDX-License-Identifier: Apache-2.0
"""
proxies: the labs of part four. One node with a client's pod and an origin's, once for each arm: nobody between them, a
bare relay, nginx, HAProxy, Envoy, weft. The proxy has core 0 for itself; who asks and who answers have core 1. All
proxies stand in the netns of the client, as weft's sockets do, and are asked there: the ways are the same.

They are set up as their manuals say for a reverse proxy that keeps its connections: one worker, no access log,
upstream connections reused, no limits or timeouts that the load could meet.
"""

import os
import resource
import shutil
import subprocess

import envoy
import labrun
from nodes import FILES, NAMES, Nodes
from sides import Machine

ARMS = ("direct", "relay", "nginx", "haproxy", "envoy", "weft")
NAMES = NAMES | {"direct": "no proxy", "relay": "bare relay", "nginx": "nginx"}
WORKERS = 1
ORIGIN = {"h1": 8080, "h2": 8082, "grpc": 7041}  # what the origin speaks, by port
NEAR = 10000  # a proxy listens at that distance from the origin's port
VIP = "10.96.0.20"
FILES_SERVED = {"8k": 8 << 10, "64k": 64 << 10}
LOAD_CPU = "1" if (os.cpu_count() or 1) > 1 else "0"
LAB = """
[nodes.node]
cpus = [0]
args = ["--threads", "1"]
[pods.client]
service_account = "client"
[pods.server]
service_account = "server"
labels = { app = "server" }
"""
ROUTE = """---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{ name: {what}, namespace: default }}
spec:
  parentRefs: [{{ group: "", kind: Service, name: web, port: {port} }}]
  rules:
  - matches: [{{ path: {{ type: PathPrefix, value: / }} }}]
    backendRefs: [{{ name: web, port: {port} }}]
"""
MANIFESTS = {"web.yaml": f"""
apiVersion: v1
kind: Service
metadata: {{ name: web, namespace: default }}
spec:
  clusterIP: {VIP}
  selector: {{ app: server }}
  ports:
  - {{ name: http, port: {ORIGIN['h1']}, targetPort: {ORIGIN['h1']} }}
  - {{ name: h2, appProtocol: kubernetes.io/h2c, port: {ORIGIN['h2']}, targetPort: {ORIGIN['h2']} }}
  - {{ name: grpc, port: {ORIGIN['grpc']}, targetPort: {ORIGIN['grpc']} }}
---
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata: {{ name: grpc, namespace: default }}
spec:
  parentRefs: [{{ group: "", kind: Service, name: web, port: {ORIGIN['grpc']} }}]
  rules:
  - backendRefs: [{{ name: web, port: {ORIGIN['grpc']} }}]
""" + "".join(ROUTE.format(what=what, port=ORIGIN[what]) for what in ("h1", "h2"))}
HAPROXY = """
global
	nbthread 1
	maxconn 9500
defaults
	mode http
	option http-keep-alive
	http-reuse always
	timeout connect 5s
	timeout client 1h
	timeout server 1h
frontend h1
	bind 127.0.0.1:{h1}
	default_backend h1
frontend h1c
	bind 127.0.0.1:{h1c} proto h2
	default_backend h1
frontend h2
	bind 127.0.0.1:{h2} proto h2
	default_backend h2
frontend grpc
	bind 127.0.0.1:{grpc} proto h2
	default_backend grpc
backend h1
	server origin {ip}:{o_h1}
backend h2
	server origin {ip}:{o_h2} proto h2
backend grpc
	server origin {ip}:{o_grpc} proto h2
"""
NGINX = """
	upstream h1 {{ server {ip}:{o_h1}; keepalive 256; keepalive_requests 100000000; }}
	upstream grpc {{ server {ip}:{o_grpc}; keepalive 256; keepalive_requests 100000000; }}
	proxy_http_version 1.1;
	proxy_buffers 16 8k;
	proxy_max_temp_file_size 0;
	proxy_set_header Connection "";
	server {{ listen 127.0.0.1:{h1}; location / {{ proxy_pass http://h1; }} }}
	server {{ listen 127.0.0.1:{h1c} http2; location / {{ proxy_pass http://h1; }} }}
	server {{ listen 127.0.0.1:{grpc} http2; location / {{ grpc_pass grpc://grpc; }} }}
"""
NGINX_CONNECTIONS = 9500
ORIGIN_H2 = """
	server {{ listen {ip}:{port} http2; http2_max_concurrent_streams 1000; location / {{ return 200 "weft\\n"; }} }}
"""


def spoken(what):
    """By the origin, where clients are to speak `what`."""
    return "h1" if what == "h1c" else what


def listeners():
    """Where a proxy listens, by what it is asked for: h1c is HTTP/2 for an origin that speaks HTTP/1.1."""
    return {what: NEAR + port for what, port in ORIGIN.items()} | {"h1c": NEAR + ORIGIN["h1"] + 1}


class Proxies(Nodes):
    """The labs of the arms, and what runs in them."""

    scheme, manifests = "http", MANIFESTS

    def __init__(self, build, name, patience, arms=ARMS):
        super().__init__(build, name, patience, ())
        self.arms, self.grpc = [arm for arm in ARMS if arm in arms], str(build / "bench/grpc")
        self.spliced = None

    def prepare(self, spec):
        """Before a row: the labs of its arms, weft's hops spliced or not. Spliced, by pods of which weft remembers
        nothing: one whose client has asked FIONREAD in a row before is kept out of the splice for good."""
        if spec.spliced and self.spliced is False:
            self.fresh("weft")
        for arm in [arm for arm in self.arms if arm in spec.arms]:
            if arm not in self.labs:
                self.up(arm)
        if "weft" in self.labs and spec.spliced != self.spliced:
            self.labs["weft"].weftctl("splice", "on" if spec.spliced else "off", text=True)
            self.spliced = spec.spliced

    def up(self, arm):
        weft = arm == "weft"
        lab = self.labs[arm] = labrun.Running.from_text(
            LAB, self.name, self.manifests if weft else None, weft=weft, build=self.build, prefix=f"{self.name}-{arm}-",
            patience=self.patience)
        for pod in lab.pods:
            if lab.congestion(pod) != "cubic":
                raise labrun.LabError(f"{arm}: {pod} uses {lab.congestion(pod)}: this bench compares with cubic only")
        getattr(self, f"start_{arm}")(lab)

    def fresh(self, arm):
        super().fresh(arm)
        if arm == "weft":
            self.spliced = None

    # ---- the proxies

    def start_direct(self, lab):
        pass

    def start_weft(self, lab):
        labrun.wait_for(lambda: [p["accepted"] and p["resolved"] for r in lab.weftctl("routes")["routes"]
                                for p in r["parents"]] == [True] * len(ORIGIN), 10, "the routes")

    def start_relay(self, lab):
        for what, port in ORIGIN.items():
            self.start_daemon(lab, "client", [self.load, "relay", f"127.0.0.1:{NEAR + port}", "--to",
                                              f"{lab.ip('server')}:{port}", "--threads", 1], NEAR + port)

    def places(self, lab):
        return listeners() | {f"o_{what}": port for what, port in ORIGIN.items()} | {"ip": lab.ip("server")}

    def start_haproxy(self, lab):
        self.run_haproxy(lab, HAPROXY.format(**self.places(lab)), listeners()["grpc"])

    def run_haproxy(self, lab, config, ready):
        path = lab.scratch / "haproxy.cfg"
        path.write_text(config)
        binary = shutil.which("haproxy") or "/usr/sbin/haproxy"
        self.start_daemon(lab, self.client, [binary, "-db", "-f", path], ready)

    def start_nginx(self, lab):
        lab.nginx_of("client", "proxy", NGINX.format(**self.places(lab)), listeners()["grpc"],
                     connections=NGINX_CONNECTIONS, daemon=True, limits={resource.RLIMIT_NOFILE: FILES})

    def start_envoy(self, lab):
        at = listeners()
        ways = {at["h1"]: ("h1", False), at["h1c"]: ("h1c", False), at["h2"]: ("h2", True), at["grpc"]: ("grpc", True)}
        config = envoy.proxy({port: (name, lab.ip("server"), ORIGIN[spoken(name)], h2)
                              for port, (name, h2) in ways.items()})
        self.start_daemon(lab, "client", envoy.command(self.build, lab.scratch, "proxy", config, WORKERS), at["grpc"])

    # ---- runs

    def target(self, arm, what):
        """What a client dials: the Service, whose connections are captured; the origin; else the proxy beside it."""
        if arm in ("weft", "direct"):
            host = VIP if arm == "weft" else self.lab(arm).ip("server")
            return f"{host}:{ORIGIN[spoken(what)]}"
        return f"127.0.0.1:{listeners()['h1' if arm == 'relay' and what == 'h1c' else what]}"

    def origin(self, arm, what):
        """The origin of an arm, started when a row first needs it; gives what the client dials."""
        what = spoken(what)
        key, lab, port, pin = (arm, what), self.lab(arm), ORIGIN[what], ("taskset", "-c", LOAD_CPU)
        if key in self.servers:
            return
        if what == "h1":
            self.servers[key] = lab.nginx("server", port, cpus=LOAD_CPU, files=FILES_SERVED)
        elif what == "h2":
            self.servers[key] = lab.nginx_of("server", "origin-h2", ORIGIN_H2.format(ip=lab.ip("server"), port=port),
                                             port, pin=pin)
        else:
            self.servers[key] = lab.start("server", *pin, self.grpc, "server", f"{lab.ip('server')}:{port}", ready=port)

    def end_row(self):
        """Origins stay: a row has no state of its own in them."""
        self.machine = Machine()

    def measure(self, arm, *command, seconds):
        """Runs a client on the load's core; gives its output, the proxy's CPU seconds and those of all."""
        lab = self.lab(arm)
        apps = self.apps(lab)
        out, used = super().measure(arm, "taskset", "-c", LOAD_CPU, *command, seconds=seconds)
        return out, used, used + self.apps(lab) - apps

    def witness(self):
        return Witness(self)


class Witness:
    """That weft stands between: what it says of the client's connections."""

    def __init__(self, proxies):
        self.weft, self.seen = "weft" in proxies.arms, set()

    def look(self, lab, client):
        def found():
            for c in lab.weftctl("connections")["connections"]:
                if c["source"]["pod"] == "default/client" and c["path"] != "none":  # that one is being opened
                    if c["path"] != "proxy":
                        raise labrun.LabError(f"weft: {c['destination']} goes by path {c['path']} ({c['reason']}), not "
                                              "through the worker: nothing to compare")
                    self.seen.add(f"proxy ({c['reason']}; hops {c.get('hop', '?')})")
            return self.seen or client.poll() is not None
        labrun.wait_for(found, 10, "a connection in weftctl connections", 0.05)

    def path(self):
        return {"seen": sorted(self.seen), "text": ", ".join(sorted(self.seen)) or "-"} if self.weft else None
