# SPDX-License-Identifier: Apache-2.0
"""
edge: the labs of those rows of part four where TLS ends at the proxy: nginx, HAProxy, Envoy, and weft with a Gateway.
All stand in the netns of the node, as weft's listeners do, on one address and port, and are asked from there, by
clients that are in no pod; the origin is a pod.

All show the same certificate, ECDSA P-256, made for the bench. Clients offer TLS 1.3 with TLS_AES_128_GCM_SHA256 and
X25519 and nothing else (their OPENSSL_CONF), so nothing else can be spoken; before a proxy is measured one request
looks that it is, and that the answer is the origin's.
"""

import base64
import pathlib
import resource
import shutil
import ssl
import tempfile

import certificates
import envoy
import labrun
import proxies
from nodes import CIPHER, FILES

ARMS = ("nginx", "haproxy", "envoy", "weft")
PORT = 8443
TLS = "TLSv1.3"
MANIFEST = f"""
apiVersion: v1
kind: Service
metadata: {{{{ name: web, namespace: default }}}}
spec:
  selector: {{{{ app: server }}}}
  ports: [{{{{ name: http, port: {proxies.ORIGIN['h1']}, targetPort: {proxies.ORIGIN['h1']} }}}}]
---
apiVersion: v1
kind: Secret
metadata: {{{{ name: edge, namespace: default }}}}
type: kubernetes.io/tls
data: {{{{ tls.crt: {{chain}}, tls.key: {{key}} }}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{{{ name: edge, namespace: default }}}}
spec:
  gatewayClassName: weft
  listeners:
  - {{{{ name: https, port: {PORT}, protocol: HTTPS, tls: {{{{ certificateRefs: [{{{{ name: edge }}}}] }}}} }}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{{{ name: edge, namespace: default }}}}
spec:
  parentRefs: [{{{{ name: edge }}}}]
  rules:
  - backendRefs: [{{{{ name: web, port: {proxies.ORIGIN['h1']} }}}}]
"""
HAPROXY = """
global
	nbthread 1
	maxconn 9500
	ssl-default-bind-options ssl-min-ver {tls} ssl-max-ver {tls}
	ssl-default-bind-ciphersuites {cipher}
defaults
	mode http
	option http-keep-alive
	http-reuse always
	timeout connect 5s
	timeout client 1h
	timeout server 1h
frontend edge
	bind {at} ssl crt {certs}/edge.both alpn h2,http/1.1
	default_backend origin
backend origin
	server origin {origin}
"""
NGINX = """
	upstream origin {{ server {origin}; keepalive 256; keepalive_requests 100000000; }}
	proxy_http_version 1.1;
	proxy_set_header Connection "";
	ssl_certificate {certs}/edge.pem;
	ssl_certificate_key {certs}/edge.key;
	ssl_protocols {tls};
	ssl_conf_command Ciphersuites {cipher};
	server {{ listen {at} ssl http2; location / {{ proxy_pass http://origin; }} }}
"""
CLIENT = f"""
openssl_conf = all
[all]
ssl_conf = of_ssl
[of_ssl]
system_default = only
[only]
MinProtocol = {TLS}
MaxProtocol = {TLS}
Ciphersuites = {CIPHER}
Groups = X25519
"""


class Edge(proxies.Proxies):
    """The labs of the arms, and what runs in them."""

    client, scheme = "node", "https"

    def __init__(self, build, name, patience, arms=ARMS):
        super().__init__(build, name, patience, [arm for arm in arms if arm in ARMS])
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weft-bench-"))
        self.folder.chmod(0o755)
        certificates.Authority.new(self.folder).leaf("edge", None, san="DNS:edge.example", usage="serverAuth")
        self.only = self.folder / "client.cnf"
        self.only.write_text(CLIENT)
        chain, key = (base64.b64encode((self.folder / f"edge.{kind}").read_bytes()).decode() for kind in ("pem", "key"))
        self.manifests = {"edge.yaml": MANIFEST.format(chain=chain, key=key)}

    def up(self, arm):
        super().up(arm)
        self.origin(arm, "h1")
        for alpn in ("http/1.1", "h2"):
            labrun.wait_for(lambda at=alpn: self.speaks(arm, at), 10, f"{arm}: an answer over {alpn}", 0.1)

    def down(self):
        super().down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def speaks(self, arm, alpn):
        """Does it take a connection, as it shall? Over HTTP/1.1, does the answer come from the origin?"""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols([alpn])
        host, port = self.target(arm, "h1").split(":")
        try:
            raw = self.lab(arm).socket(self.client)
            raw.settimeout(10)
            raw.connect((host, int(port)))
            with context.wrap_socket(raw) as s:
                self.must_be_alike(arm, s, alpn)
                return alpn != "http/1.1" or answers(s, host)
        except (OSError, ssl.SSLError):
            return False  # not yet

    def must_be_alike(self, arm, s, alpn):
        leaf = ssl.PEM_cert_to_DER_cert((self.folder / "edge.pem").read_text())
        if s.selected_alpn_protocol() != alpn or s.version() != TLS or s.getpeercert(True) != leaf:
            raise labrun.LabError(f"{arm}: {s.version()}, {s.selected_alpn_protocol()}: not what this bench compares")

    # ---- the proxies

    def places(self, lab):
        return {"at": f"{lab.ip('node')}:{PORT}", "origin": f"{lab.ip('server')}:{proxies.ORIGIN['h1']}",
                "certs": self.folder, "cipher": CIPHER, "tls": TLS}

    def start_weft(self, lab):
        labrun.wait_for(lambda: [listener["programmed"] for g in lab.weftctl("gateways")["gateways"]
                                 for listener in g["listeners"]] == [True], 10, "the Gateway's listener")

    def start_haproxy(self, lab):
        self.run_haproxy(lab, HAPROXY.format(**self.places(lab)), PORT)

    def start_nginx(self, lab):
        lab.nginx_of(self.client, "proxy", NGINX.format(**self.places(lab)), PORT,
                     connections=proxies.NGINX_CONNECTIONS, daemon=True, limits={resource.RLIMIT_NOFILE: FILES})

    def start_envoy(self, lab):
        """ab asks by HTTP/1.0 and waits for the end of the connection: neither is Envoy's default."""
        config = envoy.proxy({PORT: ("edge", lab.ip("server"), proxies.ORIGIN["h1"], False)}, lab.ip("node"),
                             envoy.front(self.folder, "edge"), http_protocol_options={"accept_http_10": True},
                             delayed_close_timeout="0s")
        self.start_daemon(lab, self.client, envoy.command(self.build, lab.scratch, "proxy", config, proxies.WORKERS),
                          PORT)

    # ---- runs

    def target(self, arm, what):
        """ALPN says what is spoken."""
        return f"{self.lab(arm).ip('node')}:{PORT}"

    def start(self, arm, *command, **options):
        return super().start(arm, "env", f"OPENSSL_CONF={self.only}", *command, **options)

    def witness(self):
        return Witness(self)


class Witness:
    """What weft is measured by, which up() has looked at."""

    def __init__(self, edge):
        self.weft = "weft" in edge.arms

    def look(self, lab, client):
        pass

    def path(self):
        text = f"gateway ({TLS}, {CIPHER})"
        return {"seen": [text], "text": text} if self.weft else None


def answers(s, host):
    s.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    got = b""
    while b"weft\n" not in got:
        piece = s.recv(65536)
        if not piece or not got.startswith(b"HTTP/1.1 200 "[:len(got)]):
            return False
        got += piece
    return got.startswith(b"HTTP/1.1 200 ")
