# SPDX-License-Identifier: Apache-2.0
"""
Gateways of class weft on node n1, asked by curl from node n2: host names, certificates by SNI, HTTP/1.1 and HTTP/2,
routes, what is refused, and what changes while connections stand.
"""

import base64
import json
import os
import pathlib
import signal
import ssl
import sys

import labrun
import pytest
import routed
from grpc_peer import CASES, SERVICE
from routed import GATEWAY, backend, origins, origins_are_content, rule  # noqa: F401

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools/bench"))
from certificates import Authority  # noqa: E402

SPLICE = ("splice",)
LAB = routed.LAB
HTTP, HTTPS = 8880, 8843
HOSTS = ("a.example", "b.example", "deep.wild.example", "unknown.example")


def gateway(name="edge", listeners=(), namespace="default", **spec):
    return {"apiVersion": f"{GATEWAY}/v1", "kind": "Gateway", "metadata": {"name": name, "namespace": namespace},
            "spec": {"gatewayClassName": "weft", "listeners": list(listeners)} | spec}


def plain(name="http", port=HTTP, **more):
    return {"name": name, "port": port, "protocol": "HTTP"} | more


def secure(name, secret, hostname=None, port=HTTPS, namespace=None, **more):
    ref = {"name": secret} | ({"namespace": namespace} if namespace else {})
    return {"name": name, "port": port, "protocol": "HTTPS", "tls": {"certificateRefs": [ref]}} | more | (
        {"hostname": hostname} if hostname else {})


def http_route(name, rules, gate="edge", hostnames=None, namespace="default", **ref):
    return {"apiVersion": f"{GATEWAY}/v1", "kind": "HTTPRoute", "metadata": {"name": name, "namespace": namespace},
            "spec": {"parentRefs": [{"name": gate, "namespace": "default"} | ref], "rules": rules}
            | ({"hostnames": hostnames} if hostnames else {})}


class Edge:
    """The lab's objects, certificates, and a client from outside."""

    def __init__(self, lab, folder):
        self.lab, self.address, self.files = lab, lab.ip("n1"), {}
        self.authority = Authority.new(folder)
        self.source = lab.run("n2", "ip", "-o", "route", "get", self.address).stdout.partition(" src ")[2].split()[0]
        self.leaves = 0

    def put(self, file, *objects):
        self.lab.manifest(file, routed.listed(*objects) if objects else "")

    def secret(self, name, san, namespace="default", **leaf):
        self.leaves += 1
        leaf_name = f"leaf{self.leaves}"
        self.authority.leaf(leaf_name, None, san=san, usage="serverAuth", **leaf)
        data = {key: base64.b64encode((self.authority.folder / f"{leaf_name}.{kind}").read_bytes()).decode()
                for key, kind in (("tls.crt", "pem"), ("tls.key", "key"))}
        return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": namespace},
                "type": "kubernetes.io/tls", "data": data}

    def listeners(self, name="default/edge"):
        found = self.lab.weftctl("gateways", name, node="n1", check=False)  # not yet, no more
        gates = found["gateways"] if found else []
        return {listener["name"]: listener for gate in gates for listener in gate["listeners"]}

    def wait(self, condition, what, name="default/edge"):
        labrun.wait_for(lambda: condition(self.listeners(name)), 30, what, 0.05)

    def open(self, *names, name="default/edge"):
        self.wait(lambda now: all(now.get(n, {}).get("programmed") for n in names), f"listeners {names} open", name)

    def curl(self, url, *options, host=None, check=True):
        """(status, HTTP version, body, stderr). `host`: the name in the URL, which leads to the node."""
        port = url.partition("://")[2].partition("/")[0].rpartition(":")[2]
        resolve = ("--resolve", f"{host}:{port}:{self.address}") if host else ()
        done = self.lab.run("n2", "curl", "-sS", "--max-time", "20", "--cacert", self.authority.folder / "ca.pem",
                            "-w", "\n%{http_code} %{http_version}", *resolve, *options, url, check=False)
        body, _, last = done.stdout.rpartition("\n")
        status, version = last.split()
        if check and done.returncode:
            raise AssertionError(f"curl {url}: {done.returncode}: {done.stderr}")
        return int(status), version, body, done

    def https(self, host, path="/", *options, port=HTTPS, **more):
        return self.curl(f"https://{host}:{port}{path}", *options, host=host, **more)

    def http(self, host, path="/", *options, port=HTTP, **more):
        return self.curl(f"http://{host}:{port}{path}", *options, host=host, **more)

    def answers(self, host, who, **more):
        """What is in the folder is in force."""

        def answered():
            status, _, body, done = self.https(host, check=False, **more)
            return not done.returncode and status == 200 and json.loads(body)["who"] == who

        labrun.wait_for(answered, 30, f"{host} answered by {who}", 0.1)


@pytest.fixture(scope="module")
def edge(lab, origins, tmp_path_factory):
    made = Edge(lab, tmp_path_factory.mktemp("authority"))
    made.put("pods.json", *routed.of_pods())
    made.put("edge.json",
             made.secret("a", "DNS:a.example"), made.secret("b", "DNS:b.example"),
             made.secret("wild", "DNS:*.wild.example,DNS:deep.wild.example"),
             gateway(listeners=[plain(), secure("a", "a", "a.example"), secure("b", "b", "b.example"),
                                secure("wild", "wild", "*.wild.example")]),
             http_route("a", [rule(backend("near"))], hostnames=["a.example"]),
             http_route("b", [rule(backend("near2"), path="/two"), rule(backend("far"))], hostnames=["b.example"]),
             http_route("wild", [rule(backend("far2"))], hostnames=["*.wild.example"]))
    made.open("http", "a", "b", "wild")
    made.answers("a.example", "near")
    yield made
    for file in ("edge.json", "pods.json"):
        made.put(file)


def seen(body):
    return json.loads(body)


def field(message, name):
    return [v for n, v in message["fields"] if n.lower() == name]


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_routes_by_name(edge, version):
    """SNI and Host choose certificate, listener, routes: on this node, and on the other one by a tunnel."""
    for host, path, who in (("a.example", "/", "near"), ("b.example", "/two", "near2"), ("b.example", "/", "far"),
                            ("deep.wild.example", "/x", "far2")):
        status, spoken, body, _ = edge.https(host, path, version)
        assert (status, spoken) == (200, "2" if version == "--http2" else "1.1"), host
        assert seen(body)["who"] == who, host
    assert edge.http("a.example")[0] == 200
    assert edge.http("nobody.example")[0] == 404


def test_what_the_backend_is_told(edge):
    _, _, body, _ = edge.https("a.example", "/", "-H", "X-Forwarded-For: 1.2.3.4", "-H", "X-Forwarded-Proto: gopher",
                               "-H", "Forwarded: for=1.2.3.4", "-H", "X-Request-Id: mine",
                               "-H", "X-Forwarded-Port: 22", "-H", "X-Forwarded-User: root",
                               "-H", "X_Forwarded_For: 1.2.3.4", "-H", "X-Real_IP: 1.2.3.4")
    told = seen(body)
    hops = {n.lower() for n, _ in told["fields"] if n.lower()[:7] in ("x-forwa", "x_forwa", "x-real_", "x-real-")}
    assert hops == {"x-forwarded-for", "x-forwarded-proto"}
    assert field(told, "x-forwarded-for") == [edge.source]
    assert field(told, "x-forwarded-proto") == ["https"]
    assert not field(told, "forwarded")
    assert len(field(told, "x-request-id")) == 1 and field(told, "x-request-id") != ["mine"]
    assert field(seen(edge.http("a.example")[2]), "x-forwarded-proto") == ["http"]


def test_names_that_are_not_served(edge):
    """No certificate for the name: an alert, and no other certificate in its place. No name: the same."""
    done = edge.https("unknown.example", check=False)[3]
    assert done.returncode == 35 and "unrecognized name" in done.stderr, done.stderr
    done = edge.curl(f"https://{edge.address}:{HTTPS}/", check=False)[3]
    assert done.returncode == 35 and "unrecognized name" in done.stderr, done.stderr
    # a connection for one name asks for another: RFC 9110 section 7.4
    assert edge.https("a.example", "/", "-H", "Host: b.example")[0] == 421
    assert edge.https("a.example", "/", "-H", "Host: nobody.example")[0] == 404


def test_only_tls_13_and_http(edge):
    done = edge.https("a.example", "/", "--tls-max", "1.2", check=False)[3]
    assert done.returncode == 35 and "protocol version" in done.stderr, done.stderr
    assert edge.https("a.example", "/", "--no-alpn")[:2] == (200, "1.1")


def connect(edge, host, alpn=("http/1.1",), session=None):
    """A TLS connection from outside."""
    context = ssl.create_default_context(cafile=edge.authority.folder / "ca.pem")
    context.set_alpn_protocols(list(alpn))
    s = edge.lab.socket("n2")
    s.settimeout(20)
    s.connect((edge.address, HTTPS))
    return context.wrap_socket(s, server_hostname=host) if not session else (
        session[0].wrap_socket(s, server_hostname=host, session=session[1]))


def ask(s, host, path="/"):
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    got = b""
    while b"\r\n\r\n" not in got:
        piece = s.recv(65536)
        assert piece, got
        got += piece
    head, _, body = got.partition(b"\r\n\r\n")
    length = int(next(v for k, _, v in (line.partition(":") for line in head.decode().split("\r\n")[1:])
                      if k.lower() == "content-length"))
    while len(body) < length:
        body += s.recv(65536)
    return int(head.split()[1]), body


def test_a_session_is_resumed(edge):
    with connect(edge, "a.example") as first:
        assert ask(first, "a.example")[0] == 200
        assert not first.session_reused
        session = (first.context, first.session)
    with connect(edge, "a.example", session=session) as second:
        assert second.session_reused
        for _ in range(3):
            assert ask(second, "a.example")[0] == 200


@pytest.mark.parametrize("said", [0, 1])
def test_a_connection_that_rests(edge, said):
    """A second without a request: then the worker has little of it left, and forgets nothing. Not before the first."""
    def resting():
        return sum(t["resting"] for t in edge.lab.weftctl("status", node="n1", check=False)["control"]["threads"])

    labrun.wait_for(lambda: not resting(), 30, "the end of earlier ones")
    with connect(edge, "a.example") as tls, edge.lab.socket("n2") as plain_one:
        plain_one.settimeout(20)
        plain_one.connect((edge.address, HTTP))
        for _ in range(said):
            assert ask(tls, "a.example")[0] == ask(plain_one, "a.example")[0] == 200
        labrun.wait_for(lambda: resting() == 2 * said, 30, "rest", 0.1)
        for s, scheme in ((tls, "https"), (plain_one, "http")):
            status, body = ask(s, "a.example")
            assert status == 200 and seen(body)["who"] == "near"
            assert field(seen(body), "x-forwarded-for") == [edge.source]
            assert field(seen(body), "x-forwarded-proto") == [scheme]
        labrun.wait_for(lambda: resting() == 2, 30, "rest", 0.1)
        assert ask(tls, "b.example")[0] == 421  # whose certificate it was shown, too


def test_27_handshakes_that_stall(edge):
    """A crowd that begins TLS, or says nothing at all: others are served meanwhile, and it costs little."""
    before = edge.lab.daemon_pss()["n1"]
    held = edge.lab.sockets("n2", 400)
    with connect(edge, "a.example") as stands:
        for n, s in enumerate(held):
            s.settimeout(20)
            s.connect((edge.address, HTTPS))
            if n % 2:
                s.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        for _ in range(20):
            with connect(edge, "b.example") as comes:
                assert ask(comes, "b.example")[0] == ask(stands, "a.example")[0] == 200
        assert edge.lab.daemon_pss()["n1"] - before < labrun.meant(24 << 20)
    for s in held:
        s.close()


def test_a_certificate_is_replaced(edge):
    """The next handshake is with the new one; a connection that stands goes on."""
    edge.put("rotate.json", edge.secret("turn", "DNS:turn.wild.example"),
             gateway("turning", [secure("turn", "turn", "turn.wild.example", port=8844)]),
             http_route("turn", [rule(backend("near"))], gate="turning"))
    edge.open("turn", name="default/turning")

    def serial():
        context = ssl.create_default_context(cafile=edge.authority.folder / "ca.pem")
        s = edge.lab.socket("n2")
        s.settimeout(20)
        s.connect((edge.address, 8844))
        made = context.wrap_socket(s, server_hostname="turn.wild.example")
        return made, made.getpeercert()["serialNumber"]

    labrun.wait_for(lambda: edge.https("turn.wild.example", port=8844, check=False)[0] == 200, 30, "an answer", 0.1)
    standing, first = serial()
    with standing:
        assert ask(standing, "turn.wild.example")[0] == 200
        edge.put("rotate.json", edge.secret("turn", "DNS:turn.wild.example"),
                 gateway("turning", [secure("turn", "turn", "turn.wild.example", port=8844)]),
                 http_route("turn", [rule(backend("near2"))], gate="turning"))

        def replaced():
            s, now = serial()
            s.close()
            return now != first

        labrun.wait_for(replaced, 30, "the new certificate", 0.1)
        status, body = ask(standing, "turn.wild.example")
        assert status == 200 and seen(body)["who"] == "near2"
    # the Secret goes: nobody is served by what it was, and the status says why
    edge.put("rotate.json", gateway("turning", [secure("turn", "turn", "turn.wild.example", port=8844)]),
             http_route("turn", [rule(backend("near"))], gate="turning"))
    edge.wait(lambda now: not now["turn"]["resolved"], "the Secret is missed", "default/turning")
    listener = edge.listeners("default/turning")["turn"]
    assert listener["resolved_reason"] == "InvalidCertificateRef" and not listener["programmed"]
    assert "there is no Secret default/turn of type kubernetes.io/tls" in listener["message"]
    assert edge.https("turn.wild.example", port=8844, check=False)[3].returncode in (7, 35)
    # one that has expired is shown, and said to have
    edge.put("rotate.json", edge.secret("turn", "DNS:turn.wild.example", begin=-7200, end=-3600),
             gateway("turning", [secure("turn", "turn", "turn.wild.example", port=8844)]),
             http_route("turn", [rule(backend("near"))], gate="turning"))
    edge.wait(lambda now: "expired" in now["turn"]["message"], "the expired one is told", "default/turning")
    assert edge.https("turn.wild.example", port=8844, check=False)[3].returncode == 60
    edge.put("rotate.json")
    labrun.wait_for(lambda: not edge.lab.listens("n1", 8844), 30, "the port is closed", 0.05)


def test_a_port_in_use(edge):
    """Told in the status; opened when it is free."""
    holder = edge.lab.socket("n1")
    holder.bind(("0.0.0.0", 8855))
    holder.listen()
    edge.put("port.json", gateway("late", [plain(port=8855)]), http_route("late", [rule(backend("near"))], gate="late"))
    edge.wait(lambda now: now.get("http", {}).get("programmed_reason") == "PortUnavailable", "the conflict is told",
              "default/late")
    assert "port 8855 is in use on the node" in edge.listeners("default/late")["http"]["message"]
    holder.close()
    edge.open("http", name="default/late")
    labrun.wait_for(lambda: edge.http("x.example", port=8855, check=False)[0] == 200, 30, "an answer", 0.1)
    # another Gateway asks for the same one: the older has it
    edge.put("port2.json", gateway("zlater", [plain(port=8855)]))
    edge.wait(lambda now: now.get("http", {}).get("accepted_reason") == "PortUnavailable", "the younger is refused",
              "default/zlater")
    edge.put("port2.json")
    edge.put("port.json")


def test_the_ports_of_a_browser(edge):
    """80 and 443, below what anybody may listen on, also after weftd has dropped its privileges."""
    first = edge.lab.run("n1", "sysctl", "-n", "net.ipv4.ip_unprivileged_port_start").stdout
    assert int(first) > 443
    edge.put("low.json", gateway("low", [plain(port=80), secure("tls", "a", "a.example", 443)]),
             http_route("low", [rule(backend("near2"))], gate="low"))
    edge.open("http", "tls", name="default/low")
    edge.answers("a.example", "near2", port=443)
    assert edge.http("a.example", port=80)[0] == 200
    edge.put("low.json")


def test_who_may_attach(edge):
    """Namespaces, kinds, sections, host names; another class is not ours."""
    edge.put("who.json",
             gateway("who", [plain("same", 8861), plain("all", 8862, allowedRoutes={"namespaces": {"from": "All"}}),
                             plain("some", 8863, allowedRoutes={"namespaces": {
                                 "from": "Selector", "selector": {"matchLabels": {"edge": "yes"}}}}),
                             plain("narrow", 8864, hostname="*.narrow.example")]),
             {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere", "labels": {"edge": "yes"}}},
             {"apiVersion": f"{GATEWAY}/v1", "kind": "ReferenceGrant",
              "metadata": {"name": "g", "namespace": "default"},
              "spec": {"from": [{"group": GATEWAY, "kind": "HTTPRoute", "namespace": "elsewhere"}],
                       "to": [{"group": "", "kind": "Service"}]}},
             http_route("same", [rule(backend("near"))], gate="who", sectionName="same"),
             *(http_route(f"from-{name}", [rule(backend("near", namespace="default"))], gate="who",
                          namespace="elsewhere", sectionName=name) for name in ("same", "all", "some")),
             http_route("narrow", [rule(backend("near"))], gate="who", hostnames=["a.example"], sectionName="narrow"),
             gateway("theirs", [plain(port=8869)], gatewayClassName="istio"))
    edge.open("same", "all", "some", "narrow", name="default/who")
    made = {r["route"]: r["parents"][0] for r in edge.lab.weftctl("routes", node="n1")["routes"]}
    reasons = {name: made[name]["accepted_reason"] for name in
               ("default/same", "elsewhere/from-same", "elsewhere/from-all", "elsewhere/from-some", "default/narrow")}
    assert reasons == {"default/same": "Accepted", "elsewhere/from-same": "NotAllowedByListeners",
                       "elsewhere/from-all": "Accepted", "elsewhere/from-some": "Accepted",
                       "default/narrow": "NoMatchingListenerHostname"}
    for port, status in ((8861, 200), (8862, 200), (8863, 200), (8864, 404)):
        assert edge.http("a.example", port=port)[0] == status, port
    theirs, = edge.lab.weftctl("gateways", "default/theirs", node="n1")["gateways"]
    assert not theirs["ours"] and not theirs["listeners"] and not edge.lab.listens("n1", 8869)
    edge.put("who.json")


def test_addresses(edge):
    """spec.addresses: those and no others, each port of an address by itself. One that the node has not is told."""
    v6, port = edge.lab.ip("n1", 6), 8881
    edge.put("addresses.json",
             gateway("four", [plain(port=port)], addresses=[{"type": "IPAddress", "value": edge.address}]),
             gateway("six", [plain(port=port), plain("two", 8882)], addresses=[{"value": v6}]),
             gateway("nowhere", [plain(port=8883)], addresses=[{"value": "192.0.2.1"}]),
             http_route("four", [rule(backend("near"))], gate="four"),
             http_route("six", [rule(backend("far"))], gate="six"))
    edge.open("http", name="default/four")
    edge.open("http", "two", name="default/six")
    edge.wait(lambda now: now.get("http", {}).get("programmed_reason") == "PortUnavailable", "the address is missed",
              "default/nowhere")
    assert "192.0.2.1:8883: the node does not have this address" in edge.listeners("default/nowhere")["http"]["message"]
    assert edge.lab.weftctl("gateways", "default/six", node="n1")["gateways"][0]["addresses"] == [v6]
    for address, who in ((edge.address, "near"), (f"[{v6}]", "far")):
        status, _, body, _ = edge.curl(f"http://{address}:{port}/")
        assert (status, seen(body)["who"]) == (200, who)
    for pod, address in (("n1", "127.0.0.1"), ("n1", "[::1]")):
        done = edge.lab.run(pod, "curl", "-sS", "--max-time", "20", f"http://{address}:{port}/", check=False)
        assert done.returncode == 7, done.stderr  # refused
    assert edge.curl(f"http://{edge.address}:8882/", check=False)[3].returncode == 7
    # another address: the old one is closed
    edge.put("addresses.json",
             gateway("four", [plain(port=port)], addresses=[{"value": edge.address}]),
             gateway("six", [plain(port=8882)], addresses=[{"value": edge.address}]),
             http_route("four", [rule(backend("near"))], gate="four"),
             http_route("six", [rule(backend("far"))], gate="six"))
    labrun.wait_for(lambda: edge.curl(f"http://{edge.address}:8882/", check=False)[0] == 200, 30, "the new one", 0.1)
    labrun.wait_for(lambda: edge.curl(f"http://[{v6}]:{port}/", check=False)[3].returncode == 7, 30, "the end", 0.1)
    edge.put("addresses.json")


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_ipv6(edge, version):
    """A Gateway without addresses listens on those of IPv6 too, and tells the backend of the client's."""
    v6 = edge.lab.ip("n1", 6)
    source = edge.lab.run("n2", "ip", "-o", "route", "get", v6).stdout.partition(" src ")[2].split()[0]
    for host, who in (("a.example", "near"), ("b.example", "far")):
        status, _, body, _ = edge.curl(f"https://{host}:{HTTPS}/", version, "--resolve", f"{host}:{HTTPS}:[{v6}]")
        assert (status, seen(body)["who"]) == (200, who)
        assert field(seen(body), "x-forwarded-for") == [source]
    assert edge.curl(f"http://[{v6}]:{HTTP}/")[0] == 404  # its name is an address, which no route has


def test_grpc(edge):
    """grpcio from outside, by a GRPCRoute, HTTP/2 without TLS: on either node, errors, all of the interop cases."""
    port, server, peer = 8891, 8090, pathlib.Path(__file__).parent / "grpc_peer.py"
    where = f"{edge.address}:{port}"
    for pod in ("near", "far"):
        edge.lab.start(pod, sys.executable, "-B", peer, "server", server, pod, ready=server)
    services = [routed.service(f"grpc-{pod}", f"10.96.21.{n}", [("grpc", server, server, "kubernetes.io/h2c")], pod)
                for n, pod in enumerate(("near", "far"), 1)]
    to = {pod: [{"name": f"grpc-{pod}", "port": server}] for pod in ("near", "far")}
    made = http_route("calls", [
        {"matches": [{"method": {"service": SERVICE}, "headers": [{"name": "far", "value": "yes"}]}],
         "backendRefs": to["far"]},
        {"matches": [{"method": {"service": SERVICE}}], "backendRefs": to["near"]},
        {"matches": [{"method": {"service": "no.such.Backend"}}], "backendRefs": [{"name": "none", "port": 1}]}],
        gate="calls") | {"kind": "GRPCRoute"}
    younger = http_route("pages", [rule(backend("near"))], gate="calls")
    made["metadata"]["creationTimestamp"], younger["metadata"]["creationTimestamp"] = (
        f"{year}-01-01T00:00:00Z" for year in (2020, 2021))
    edge.put("grpc.json", gateway("calls", [plain("grpc", port)]), *services, made, younger)
    edge.open("grpc", name="default/calls")

    def one(*args):
        return json.loads(edge.lab.run("n2", sys.executable, "-B", peer, "one", where, *args, timeout=60).stdout)

    labrun.wait_for(lambda: one("WhoAmI").get("who") == "near", 30, "an answer", 0.1)
    assert one("WhoAmI", "far=yes")["who"] == "far"
    assert one("grpc.testing.Other/WhoAmI")["status"] == "UNIMPLEMENTED"
    assert one("no.such.Backend/Call")["status"] == "UNAVAILABLE"
    played = json.loads(edge.lab.run("n2", sys.executable, "-B", peer, "client", where, timeout=120).stdout)
    assert len(played) == len(CASES) and set(played.values()) == {"passed"}, played
    parents = {r["route"]: r["parents"][0]["accepted_reason"] for r in edge.lab.weftctl("routes", node="n1")["routes"]}
    assert (parents["default/calls"], parents["default/pages"]) == ("Accepted", "Conflicted")
    edge.put("grpc.json")


def test_the_worker_is_killed(edge):
    """Who connects meanwhile waits, and is served by the next one."""
    file = pathlib.Path(f"/run/weft/{edge.lab.instance('n1')}/worker.pid")
    before = int(file.read_text().split()[0])
    os.kill(before, signal.SIGKILL)
    assert edge.https("a.example")[0] == 200
    assert int(file.read_text().split()[0]) != before
    edge.open("http", "a", "b", "wild")


def test_the_supervisor_is_killed(edge):
    """The worker goes on, and gives the next one its sockets."""
    os.kill(edge.lab.supervisor("n1"), signal.SIGKILL)
    with connect(edge, "a.example") as standing:
        edge.lab.start_weft("n1")
        labrun.wait_for(lambda: edge.lab.ready("n1"), 30, "another weftd", 0.05)
        assert ask(standing, "a.example")[0] == 200
    assert edge.https("a.example")[0] == 200
    edge.put("more.json", gateway("more", [plain(port=8871)]))
    edge.open("http", name="default/more")
    edge.put("more.json")


def test_no_key_is_told(edge):
    """Neither log nor status has a byte of a private key."""
    log = edge.lab.log("n1") + json.dumps(edge.lab.weftctl("gateways", node="n1"))
    for key in edge.authority.folder.glob("leaf*.key"):
        for line in key.read_text().splitlines()[1:-1]:
            assert line not in log
            assert base64.b64encode(line.encode()).decode()[:40] not in log
