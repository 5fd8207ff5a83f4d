# SPDX-License-Identifier: Apache-2.0
"""
docs/http.md, sentence by sentence, with curl: what a request has when it comes to its backend, and what weft answers by
itself, over HTTP/1.1 and HTTP/2.
"""

import json
import re
import sys

import labrun
import pytest

from two_nodes import LAB, MANIFESTS, PLACES  # noqa: F401

SPLICE = ("splice",)
VIP, PORT = "10.96.7.2", 8080
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
VERSIONS = {"h1": ["--http1.1"], "h2": ["--http2-prior-knowledge"]}
ORIGIN = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "origin", ""
    def do_GET(self):
        if self.path == "/late":
            self.rfile.read(1)  # until nobody waits for the answer any more
            return
        said = json.dumps({"path": self.path, "headers": self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)
    do_POST = do_GET
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", int(sys.argv[1])), Handler).serve_forever()
"""


def route(rules):
    return {"apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {"parentRefs": [{"group": "", "kind": "Service", "name": "web"}], "rules": rules}}


def matching(path, **more):
    return {"matches": [{"path": {"type": "PathPrefix", "value": path}}]} | more


BACKEND = {"backendRefs": [{"name": "web", "port": 80}]}
OBJECTS = [
    {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
     "spec": {"clusterIPs": [VIP], "ports": [{"name": "http", "port": 80, "targetPort": PORT}]}},
    route([matching("/app", **BACKEND),
           matching("/missing", backendRefs=[{"name": "nobody", "port": 80}]),
           matching("/moved", filters=[{"type": "RequestRedirect", "requestRedirect": {"hostname": "example.org"}}]),
           matching("/late", **BACKEND, timeouts={"request": "50ms"})])]


@pytest.fixture(scope="module", autouse=True)
def web(lab):
    lab.start("local", sys.executable, "-S", "-c", ORIGIN, PORT)
    labrun.wait_for(lambda: lab.listens("local", PORT), 10, "the origin")
    slices = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
              "metadata": {"name": "web-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
              "addressType": "IPv4", "ports": [{"name": "http", "port": PORT, "protocol": "TCP"}],
              "endpoints": [{"addresses": [lab.ip("local")], "conditions": {"ready": True}}]}
    lab.manifest("web.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": [*OBJECTS, slices]}))
    labrun.wait_for(lambda: ask(lab, "h1", "/app")[0] == 200 and ask(lab, "h1", "/missing")[0] == 500, 20, "the route")


def ask(lab, version, path, *fields, options=()):
    """Status, fields in lower case, body."""
    done = lab.run("client", "curl", "-sS", "-i", "--max-time", "30", "--path-as-is", *VERSIONS[version],
                   "--request-target", path, *(w for f in fields for w in ("-H", f)), *options, f"http://{VIP}{path}",
                   check=False)
    head, _, body = done.stdout.partition("\n\n")
    found = re.match(r"HTTP/\S+ (\d{3})", head)
    assert found, (done.stdout, done.stderr)
    lines = head.replace("\r", "").split("\n")[1:]
    return int(found[1]), {n.lower(): v for n, _, v in (line.partition(": ") for line in lines if line)}, body


def seen(lab, version, path, *fields):
    """What the backend saw: its path, and its fields in lower case."""
    status, _, body = ask(lab, version, path, *fields)
    assert status == 200, body
    said = json.loads(body)
    return said["path"], [(n.lower(), v) for n, v in said["headers"]]


@pytest.mark.parametrize("version", VERSIONS)
def test_ids(lab, version):
    def ids(*fields):
        return [v for n, v in seen(lab, version, "/app", *fields)[1] if n == "x-request-id"]

    made = [ids()[0] for _ in range(5)]
    assert all(UUID.fullmatch(i) for i in made) and len(set(made)) == 5
    assert ids("X-Request-Id: abc-1:2/3") == ["abc-1:2/3"]
    assert UUID.fullmatch(ids("X-Request-Id: no good")[0])
    assert ids("X-Request-Id: first", "X-Request-Id: second") == ["first"]
    assert UUID.fullmatch(ids("X-Request-Id: " + "x" * 129)[0])


@pytest.mark.parametrize("version", VERSIONS)
def test_nobody_says_who_he_is(lab, version):
    _, fields = seen(lab, version, "/app", "X-Forwarded-Client-Cert: URI=spiffe://a", "L5d-Client-Id: a",
                     "X-Weft-Source: a", "X-Forwarded-For: 1.2.3.4", "Forwarded: for=1.2.3.4", "X-Envoy-Retries: 1",
                     "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    names = {n for n, _ in fields}
    assert not names & {"x-forwarded-client-cert", "l5d-client-id", "x-weft-source", "via", "x-forwarded-proto"}
    assert {("x-forwarded-for", "1.2.3.4"), ("forwarded", "for=1.2.3.4"), ("x-envoy-retries", "1"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")} <= set(fields)


@pytest.mark.parametrize("version", VERSIONS)
def test_one_form_of_a_path(lab, version):
    for path, want in {"/app/%61%7e%2d": "/app/a~-", "/app/./a/../b": "/app/b", "/%61pp/%c3%bc": "/app/%C3%BC",
                       "/app//a?%2F=%5c//..": "/app//a?%2F=%5c//..", "/x/../app/": "/app/", "/app?": "/app?"}.items():
        assert seen(lab, version, path)[0] == want, path
    for path in ("/app/%2f", "/app/%5C", "/app/%00", "/app/%0a", "/app/%zz", "/app/%2", "/../app", "/app/..;/x"):
        status, fields, body = ask(lab, version, path)
        assert (status, fields["server"]) == (400, "weft") and body.startswith("weft: malformed: "), (path, body)


@pytest.mark.parametrize("version", VERSIONS)
def test_answers_of_wefts_own(lab, version):
    for path, status, reason in (("/nowhere", 404, "no_route"), ("/missing", 500, "bad_backend")):
        got, fields, body = ask(lab, version, path)
        assert got == status and body.startswith(f"weft: {reason}: ") and body.endswith("\n")
        assert fields["content-type"] == "text/plain" and int(fields["content-length"]) == len(body)
        assert re.fullmatch(rf'weft; error=[a-z_]+; details="{reason}"', fields["proxy-status"])
        assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", fields["date"])
        assert fields["server"] == "weft"
        got, without, none = ask(lab, version, path, options=("--head",))
        assert (got, none) == (status, "") and without["content-length"] == fields["content-length"]
    status, fields, body = ask(lab, version, "/moved/x?y")
    assert (status, fields["location"], body) == (302, "http://example.org/moved/x?y", "")
    assert ask(lab, version, "/app")[1]["server"].startswith("origin")


def test_grpc_hears_of_it_in_its_own_way(lab):
    for path, grpc in (("/no.Service/Method", "12"), ("/missing", "14")):
        status, fields, body = ask(lab, "h2", path, "content-type: application/grpc", options=("--data-binary", ""))
        assert (status, fields["grpc-status"], fields["content-type"], body) == (200, grpc, "application/grpc", "")
        assert fields["grpc-message"].startswith("weft: ")


def test_the_log(lab):
    since = len(lab.log())
    ask(lab, "h1", "/nowhere/\"%41'\"?a=\"b", "X-Request-Id: of-the-log")
    labrun.wait_for(lambda: "of-the-log" in lab.log()[since:], 10, "the line")
    line, = (line for line in lab.log()[since:].splitlines() if "of-the-log" in line)
    assert re.search(r'method="GET" authority="\S+" path="\S+" version=1\.1 status=\d+ reason=\w+ ', line), line
    assert re.search(r'request_bytes=0 answer_bytes=\d+ ms=\d+\.\d{3} source="spiffe://\S+/sa/client" '
                     rf'client={lab.ip("client")}:\d+ .*id="of-the-log"$', line), line


@pytest.mark.parametrize("version", VERSIONS)
def test_time_is_up(lab, version):
    status, _, body = ask(lab, version, "/late")
    assert status == 504 and body.startswith("weft: timeout: "), body
