# SPDX-License-Identifier: Apache-2.0
"""
What is no HTTP goes its way through a Service that has routes: servers that speak first, databases, silence; on a port
of which nobody said what it speaks, and on one that is declared as TCP. TCPRoute and TLSRoute.
"""

import collections
import contextlib
import pathlib
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time

import http_peers
import labrun
import pytest
import routed
from http_peers import client
from routed import origins, origins_are_content, route, rule, service  # noqa: F401

sys.path.insert(0, str(pathlib.Path(__file__).parent / "programs"))

from place import Place, digest, find, noise  # noqa: E402

LAB = routed.LAB
GREETS, REDIS, POSTGRES, MARIADB, TLS, QUIET = 7025, 6379, 5432, 3306, 8443, 2181
PLACES = ("near", "far")
# how the port is named: nobody says what it speaks; a name says TCP; appProtocol says TCP
HOW = {"undeclared": ("db", None), "named": ("tcp-db", None), "declared": ("db", "tcp")}
VIPS = {(place, how): f"10.96.17.{n}" for n, (place, how) in enumerate(((p, h) for p in PLACES for h in HOW), 1)}
BOTH, WEIGHTED, SNI = "10.96.17.100", "10.96.17.101", "10.96.17.102"


def front(place, how):
    name, protocol = HOW[how]
    ports = [(f"{name}-{port}" if "-" in name else f"{name}{port}", port, port, protocol)
             for port in (GREETS, REDIS, POSTGRES, MARIADB, QUIET)]
    own = f"{place}-{how}"
    return [service(own, VIPS[place, how], ports, place),
            route(own, own, [rule({"name": own, "port": GREETS})])]


MANIFESTS = {"protocols.json": routed.listed(
    *routed.of_pods(), *(o for place, how in VIPS for o in front(place, how)),
    service("both", BOTH, [("any", 80, routed.PORTS["h1"], None)], "near"),  # one that does not greet
    route("both", "both", [rule(routed.backend("far"))]),
    *(service(f"greets-{name}", f"10.96.18.{n}", [("tcp", GREETS, GREETS, None), ("tls", TLS, TLS, None)], name)
      for n, name in enumerate(routed.BACKENDS, 1)),
    service("weighted", WEIGHTED, [("tcp", 80, GREETS, None)], "near"),
    route("weighted", "weighted", [{"backendRefs": [{"name": "greets-near2", "port": GREETS, "weight": 70},
                                      {"name": "greets-far2", "port": GREETS, "weight": 30},
                                      {"name": "greets-far", "port": GREETS, "weight": 0}]}], "TCPRoute"),
    service("sni", SNI, [("tls", 443, TLS, None)], "near2"),
    *(route(f"sni-{name}", "sni", [{"backendRefs": [{"name": f"greets-{name}", "port": TLS}]}], "TLSRoute",
          hostnames=[f"{name}.example"]) for name in PLACES))}


class Greeter:
    """Says who it is before it is asked, then gives back what it gets. `tls`: the same within TLS."""

    def __init__(self, lab, pod, port, greets=True, tls=None):
        self.pod, self.greets, self.tls, self.names = pod, greets, tls, []
        self.listener = lab.socket(pod)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("0.0.0.0", port))
        self.listener.listen(256)
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    def serve(self, s):
        try:
            if self.tls:
                s = self.tls.wrap_socket(s, server_side=True)
            if self.greets:
                s.sendall(f"220 {self.pod}\r\n".encode())
            while more := s.recv(65536):
                s.sendall(more)
        except OSError:
            pass
        finally:
            s.close()

    def close(self):
        http_peers.hang_up(self.listener)


@pytest.fixture(scope="module")
def greeters(lab, origins):  # noqa: F811
    made = [Greeter(lab, pod, GREETS) for pod in routed.BACKENDS]
    yield made
    for g in made:
        g.close()


def dial(lab, vip, port):
    s = lab.socket("client")
    s.settimeout(http_peers.SECONDS)
    s.connect((vip, port))
    return s


def exactly(s, count):
    got = b""
    while len(got) < count:
        more = s.recv(count - len(got))
        assert more, got
        got += more
    return got


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", HOW)
def test_a_server_that_speaks_first(lab, greeters, place, how):
    """At once, each time: the client waits for it and says nothing."""
    for _ in range(5):
        began = time.monotonic()
        with dial(lab, VIPS[place, how], GREETS) as s:
            assert exactly(s, len(place) + 6) == f"220 {place}\r\n".encode()
            assert time.monotonic() - began < 15
            s.sendall(b"EHLO me\r\n")
            assert exactly(s, 9) == b"EHLO me\r\n"
            s.sendall(bytes(100_000))
            assert exactly(s, 100_000) == bytes(100_000)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("said", [b"\0", b"\x16", b"GET key\r\n", b"PING\r\n", b"NICK weft\r\nUSER weft\r\n",
                                  b"\xff" * 5000, b"GE"],
                         ids=repr)
def test_a_client_that_speaks_something_else(lab, greeters, place, said):
    """Its bytes arrive, whatever they look like, however few."""
    with dial(lab, VIPS[place, "undeclared"], GREETS) as s:
        s.sendall(said)
        assert exactly(s, len(place) + 6) == f"220 {place}\r\n".encode()
        assert exactly(s, len(said)) == said
        s.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b""


@pytest.mark.parametrize("place", PLACES)
def test_a_client_that_says_little_and_waits(lab, greeters, place):
    """The first bytes may begin a request, and the server answers them: it hears them within seconds."""
    silent = Greeter(lab, place, QUIET, greets=False)
    with contextlib.ExitStack() as all_of_it:
        all_of_it.callback(silent.close)
        waiting = [(all_of_it.enter_context(dial(lab, VIPS[place, "undeclared"], QUIET)), said)
                   for said in (b"ruok", b"PRI * HTTP/2.0\r\n", b"\x16\x03")]
        for s, said in waiting:
            s.sendall(said)
        for s, said in waiting:
            assert exactly(s, len(said)) == said


def test_http_is_routed_where_nobody_said_it(lab, greeters):
    """HTTP goes where the route says, however slowly its first bytes come, not to the Service's own endpoint."""
    for _ in range(3):
        for version in routed.PORTS:
            with client(lab, "client", (BOTH, 80), version) as c:
                assert c.ask("GET", "/x").seen["who"] == "far"
    with client(lab, "client", (BOTH, 80)) as c:
        for piece in (b"G", b"ET", b" /slow HT", b"TP/1.1\r\nHo", b"st: web\r\n\r\n"):
            c.send(piece)
            time.sleep(0.02)  # each in a segment of its own
        assert c.expect().answer().seen["who"] == "far"


# ------------------------------------------------------------------ databases


@pytest.fixture(scope="module")
def databases(lab):
    """Redis, PostgreSQL and MariaDB on both nodes."""
    for pod in PLACES:
        place = Place(lab, True)
        place.folder = place.folder / pod
        place.folder.mkdir(mode=0o755)
        place.start(pod, "redis-server", "--port", REDIS, "--save", "", "--appendonly", "no", "--protected-mode", "no",
                    ready=REDIS)
        postgres(place, pod)
        mariadb(place, pod)
    return Place(lab, True)


def postgres(place, pod):
    drop = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    data = place.folder / "postgres"
    data.mkdir()
    shutil.chown(data, "postgres", "postgres")
    place.run(pod, *drop, find("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N", "--no-instructions",
              "--no-locale", "-E", "UTF8", cwd="/")
    with open(data / "pg_hba.conf", "a", encoding="ascii") as hba:
        hba.write("host all all all trust\n")
    place.start(pod, *drop, find("postgres"), "-D", data, "-h", "0.0.0.0", "-k", data, "-F", ready=POSTGRES, cwd="/")


def mariadb(place, pod):
    data = place.folder / "mariadb"
    own = ["--no-defaults", f"--datadir={data}", "--user=root"]
    place.run(pod, "mariadb-install-db", *own, "--auth-root-authentication-method=normal", "--skip-test-db")
    place.start(pod, "mariadbd", *own, f"--socket={data}/sock", f"--pid-file={data}/pid", f"--port={MARIADB}",
                "--bind-address=0.0.0.0", "--innodb-buffer-pool-size=16M", "--skip-name-resolve", "--skip-grant-tables",
                "--skip-networking=0", ready=MARIADB)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("how", HOW)
def test_databases(lab, greeters, databases, place, how):
    vip, large = VIPS[place, how], noise(http_peers.MIB).hex()
    began = time.monotonic()
    redis = ["redis-cli", "-h", vip]
    assert databases.run("client", *redis, "PING") == b"PONG\n"
    databases.run("client", *redis, "-x", "SET", "large", input=large.encode())
    assert digest(databases.run("client", *redis, "GET", "large")) == digest(large + "\n")
    for _ in range(3):
        psql = ["psql", "-h", vip, "-U", "postgres", "-qAtX"]
        assert databases.run("client", *psql, "-c", "SELECT 41 + 1") == b"42\n"
        sql = ["mariadb", "--no-defaults", "-h", vip, "-u", "root", "--protocol=tcp", "--skip-ssl", "-N", "-B"]
        assert databases.run("client", *sql, "-e", "SELECT 41 + 1") == b"42\n"
    assert time.monotonic() - began < 60


# ------------------------------------------------------------------ TCPRoute, TLSRoute


def test_weights_of_a_tcproute(lab, greeters):
    for _ in range(10):
        found = collections.Counter()
        for _ in range(300):
            with dial(lab, WEIGHTED, 80) as s:
                found[s.recv(100).decode().split()[1]] += 1
        assert set(found) <= {"near2", "far2"}, found
        if abs(found["near2"] / 300 - 0.7) <= 0.05:
            return
    pytest.fail(str(found))


@pytest.fixture(scope="module")
def secured(lab):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "1",
                    "-subj", "/CN=test", "-keyout", lab.scratch / "tls.key", "-out", lab.scratch / "tls.pem"],
                    check=True,
                   capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(lab.scratch / "tls.pem", lab.scratch / "tls.key")
    made = [Greeter(lab, pod, TLS, tls=context) for pod in routed.BACKENDS]
    yield made
    for g in made:
        g.close()


def by_sni(lab, name):
    """Who answers within TLS; None: the connection is ended."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with dial(lab, SNI, 443) as raw, context.wrap_socket(raw, server_hostname=name) as s:
            return s.recv(100).decode().split()[1]
    except OSError:
        return None


def test_a_tlsroute_goes_by_sni(lab, secured):
    labrun.wait_for(lambda: by_sni(lab, "near.example"), 20, "an answer by SNI")
    for name in ("near", "far", "far", "near"):
        assert by_sni(lab, f"{name}.example") == name
    assert by_sni(lab, "FAR.example") == "far"
    assert by_sni(lab, "other.example") is None and by_sni(lab, None) is None
