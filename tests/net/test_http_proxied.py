# SPDX-License-Identifier: Apache-2.0
"""
HTTP/1.1 through the worker: a Service that wants it is looked into, each request goes its own way, to pods of this node
and of another one; what does not speak HTTP passes as it is.
"""

import collections
import json
import re
import socket
import sys

import labrun
import pytest

from two_nodes import LAB, MANIFESTS, PLACES  # noqa: F401

PORT = 8080
VIP = "10.96.7.1"
# Answers every request with its pod's name, the request as it came, and the body's length; "/close" cuts it.
ORIGIN = """
import hashlib, http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            data = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                data += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return data
        return self.rfile.read(int(self.headers.get("content-length", 0)))
    def do_GET(self):
        data = self.body()
        if self.path.startswith("/cut"):
            self.wfile.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 100\\r\\n\\r\\nonly this")
            self.wfile.flush()
            self.connection.shutdown(2)
            self.close_connection = True
            return
        answer = json.dumps({"pod": sys.argv[1], "path": self.path, "method": self.command,
                             "headers": self.headers.items(), "bytes": len(data),
                             "sha": hashlib.sha256(data).hexdigest(), "client": self.client_address}).encode()
        if self.path.startswith("/big"):
            answer += b" " * (8 << 20)
        self.send_response(200)
        self.send_header("X-Case", "Kept")
        if self.path.startswith("/chunked"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for part in (answer[:10], answer[10:]):
                self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(part), part))
            self.wfile.write(b"0\\r\\n\\r\\n")
            return
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)
    do_POST = do_PUT = do_HEAD = do_DELETE = do_GET
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
Server(("", int(sys.argv[2])), Handler).serve_forever()
"""

GREETING = """
import socket
s = socket.create_server(("", 8090))
while True:
    c, _ = s.accept()
    c.sendall(b"220 ready\\r\\n")
    c.sendall(c.recv(100)[::-1])
    c.close()
"""


@pytest.fixture(scope="module", autouse=True)
def origins(lab):
    for pod in ("local", "server"):
        lab.start(pod, sys.executable, "-S", "-c", ORIGIN, pod, str(PORT))
    for pod in ("local", "server"):
        labrun.wait_for(lambda p=pod: lab.listens(p, PORT), 10, f"origin of {pod}")


def service(lab, *pods, port_name="http", port=PORT, **annotations):
    """The Service, with these pods behind it."""
    objects = [{"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": "web", "namespace": "default",
                             "annotations": {"weft.io/proxy": "always"} | annotations},
                "spec": {"clusterIPs": [VIP], "ports": [{"name": port_name, "port": 80, "targetPort": port}]}},
               {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {"name": "web-1", "namespace": "default",
                             "labels": {"kubernetes.io/service-name": "web"}},
                "addressType": "IPv4", "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
                "endpoints": [{"addresses": [lab.ip(p)], "conditions": {"ready": True}} for p in pods]}]
    lab.manifest("web.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))
    want = {f"{lab.ip(p)}:{port}" for p in pods}
    labrun.wait_for(lambda: endpoints(lab) == (want, True), 10, f"endpoints {want}")


def endpoints(lab):
    for s in lab.weftctl("services", node="n1")["services"]:
        if s["vip"] == VIP and s["in_kernel"]:
            return {e["address"] for e in s["endpoints"]}, s["ports"][0]["name"] == "" if "ports" in s else True
    return None


class Client:
    """One connection of the client's pod, and answers read off it byte by byte as HTTP/1.1 frames them."""

    def __init__(self, lab, timeout=20):
        self.socket = lab.socket("client")
        self.socket.settimeout(timeout)
        self.socket.connect((VIP, 80))
        self.file = self.socket.makefile("rb")

    def send(self, method, path, *fields, body=b""):
        head = [f"{method} {path} HTTP/1.1", "Host: web.default", *fields]
        if body:
            head.append(f"Content-Length: {len(body)}")
        self.socket.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)

    def head(self):
        line = self.file.readline().decode()
        found = re.fullmatch(r"HTTP/1\.1 (\d{3}) .*\r\n", line)
        assert found, line
        fields = []
        while (line := self.file.readline().decode()) != "\r\n":
            assert line.endswith("\r\n"), line
            fields.append(tuple(line[:-2].split(": ", 1)))
        return int(found[1]), fields

    def answer(self, bodiless=False):
        status, fields = self.head()
        names = {k.lower(): v for k, v in fields}
        if bodiless or status in (204, 304):
            body = b""
        elif names.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.file.readline(), 16):
                body += self.file.read(size)
                assert self.file.readline() == b"\r\n"
            assert self.file.readline() == b"\r\n"
        else:
            body = self.file.read(int(names["content-length"]))
            assert len(body) == int(names["content-length"])
        return status, fields, body

    def ask(self, method, path, *fields, body=b""):
        self.send(method, path, *fields, body=body)
        status, fields, body = self.answer(method == "HEAD")
        return status, fields, json.loads(body) if status == 200 and body else body

    def close(self):
        self.file.close()
        self.socket.close()


@pytest.fixture
def client(lab):
    made = []

    def connect(**options):
        made.append(Client(lab, **options))
        return made[-1]
    yield connect
    for c in made:
        c.close()


def test_each_request_by_itself(lab, client):
    """Two pods, one of them on another node: requests of one connection reach both; the client's address is seen."""
    service(lab, "local", "server")
    c = client()
    reached = collections.Counter()
    for i in range(60):
        status, fields, said = c.ask("GET", f"/a/{i}?x=%20y")
        assert status == 200 and said["path"] == f"/a/{i}?x=%20y"
        assert said["client"][0] == lab.ip("client")
        assert ("X-Case", "Kept") in fields
        assert ["Host", "web.default"] in said["headers"]
        reached[said["pod"]] += 1
    assert set(reached) == {"local", "server"} and min(reached.values()) > 8
    rows = [r for r in lab.weftctl("connections", node="n1")["connections"] if "requests" in r]
    assert [(r["source"]["pod"], r["asked_port"], r["requests"]) for r in rows] == [("default/client", 80, 60)]


@pytest.mark.parametrize("pod", ["local", "server"])
def test_bodies(lab, client, pod):
    service(lab, pod)
    c = client()
    for size in (0, 1, 1000, 70_000, 5_000_000):
        status, _, said = c.ask("POST", "/", body=b"x" * size)
        assert (status, said["bytes"]) == (200, size)
    status, _, said = c.ask("GET", "/chunked")
    assert (status, said["pod"]) == (200, pod)
    status, _, body = c.ask("HEAD", "/")
    assert (status, body) == (200, b"")
    c.send("GET", "/big")
    status, _, body = c.answer()
    assert status == 200 and len(body) > 8 << 20
    c.send("POST", "/", "Transfer-Encoding: chunked")
    c.socket.sendall(b"5\r\nhello\r\n0\r\n\r\n")
    status, _, body = c.answer()
    assert (status, json.loads(body)["bytes"]) == (200, 5)


def test_pipelined(lab, client):
    service(lab, "local", "server")
    c = client()
    c.socket.sendall(b"".join(f"GET /{i} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for i in range(50)))
    for i in range(50):
        status, _, body = c.answer()
        assert status == 200 and json.loads(body)["path"] == f"/{i}"


def test_a_cut_answer_is_seen_as_one(lab, client):
    service(lab, "server")
    c = client()
    c.send("GET", "/cut")
    try:
        assert c.head()[0] == 200
        assert len(c.file.read()) < 100
    except ConnectionResetError:
        pass


def test_nobody_is_there(lab, client):
    """No endpoint is ready, or nobody listens: 503, and the connection goes on."""
    service(lab, "local", port=8099)
    c = client()
    status, _, body = c.ask("GET", "/")
    assert status == 503 and b"unreachable" in body
    assert c.ask("GET", "/")[0] == 503


def test_one_of_two_does_not_listen(lab, client):
    """A request that could not be sent is sent to the other one."""
    service(lab, "local", "server")
    stopped = lab.start("local", "sleep", "1000")
    lab.stop(stopped)
    c = client()
    assert all(c.ask("GET", "/")[0] == 200 for _ in range(20))


def test_what_is_refused(lab, client):
    service(lab, "local")
    for request in (b"GET / HTTP/1.1\r\n\r\n", b"GET /%2F HTTP/1.1\r\nHost: a\r\n\r\n",
                    b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                    b"nonsense\r\n\r\n"):
        c = client()
        c.socket.sendall(request)
        assert c.head()[0] == 400, request


def test_bytes_where_nobody_said(lab):
    """A server that speaks first is heard at once, and a client that does not speak HTTP gets through."""
    lab.start("server", sys.executable, "-S", "-c", GREETING)
    labrun.wait_for(lambda: lab.listens("server", 8090), 10, "the greeter")
    service(lab, "server", port_name="some", port=8090)
    for _ in range(3):
        s = lab.socket("client")
        s.settimeout(10)
        s.connect((VIP, 80))
        assert s.recv(100) == b"220 ready\r\n"
        s.sendall(b"abc")
        assert s.recv(100) == b"cba"
        assert s.recv(100) == b""
        s.close()


def test_http_where_nobody_said(lab, client):
    service(lab, "local", "server", port_name="some")
    for _ in range(3):
        c = client()
        assert {c.ask("GET", "/")[2]["pod"] for _ in range(30)} == {"local", "server"}


def test_a_slow_client(lab, client):
    """One byte at a time, where nobody said what is spoken."""
    service(lab, "local", port_name="some")
    c = client()
    c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in b"GET / HTTP/1.1\r\nHost: a\r\n\r\n":
        c.socket.send(bytes([byte]))
    assert c.answer()[0] == 200
