# SPDX-License-Identifier: Apache-2.0
"""
Connections that need the worker, as connect(), sockops and sk_lookup see them: who is sent to it, what the record says,
what is refused without it. The worker itself stands still (SIGSTOP): what is accepted here waits in its backlog.
"""

import contextlib
import ctypes
import errno
import ipaddress
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import time

import labrun
import pytest
from mesh import GREETER, mesh, pod_object, read_all, refused  # noqa: F401
from pairs import listen, talk

LAB = """
[nodes.n1]
[nodes.n2]
[pods.client]
service_account = "client"
[pods.open]
annotations = { "weft.io/fail-open" = "true" }
[pods.closed]
annotations = { "weft.io/egress" = "registry-only" }
[pods.plain]
labels = { "istio.io/dataplane-mode" = "none" }
[pods.a]
service_account = "a"
[pods.b]
service_account = "b"
annotations = { "weft.io/proxy" = "always" }
[pods.quiet]
labels = { app = "quiet" }
annotations = { "weft.io/splice" = "off" }
[pods.four]
ips = ["10.244.1.204"]
[pods.six]
ips = ["fd00:244:0:1::206"]
[pods.far]
node = "n2"
[pods.stranger]
node = "n2"
enrol = false
"""
MANIFESTS = {}
SPLICE = ("splice",)
PORT = 8080
OUTBOUND, INBOUND, HBONE = 15001, 15006, 15008
PATHS = {3: "proxy", 4: "tunnel", 5: "direct", 1: "splice", 2: "tcp"}
CAPTURED, DELIVERED = 1, 2
FAMILIES = {"ipv4": (socket.AF_INET, 4, ""), "ipv6": (socket.AF_INET6, 6, ""),
            "mapped": (socket.AF_INET6, 4, "::ffff:")}
IP_TRANSPARENT, IP_BIND_ADDRESS_NO_PORT = 19, 24
MARK = 0x539
EVER = 1 << 62  # a beat that is never late


# ------------------------------------------------------------------ what the kernel holds


def number(value, size):
    return value.to_bytes(size, "little").hex(" ").split()


def put(lab, name, key, *value, node="n1", **options):
    pin = f"/sys/fs/bpf/weft/{lab.instance(node)}/{name}"
    subprocess.run(["bpftool", "map", "update", "pinned", pin, "key", "hex", *key, "value", "hex", *value], check=True,
                   capture_output=True, **options)


def address(raw):
    ip = ipaddress.ip_address(bytes(raw["byte"]))
    return str(ip.ipv4_mapped or ip)


def conns(lab, node=None):
    """Every record, with addresses as text."""
    found = []
    for entry in lab.map("conns", node):
        key, value = entry["formatted"]["key"], entry["formatted"]["value"]
        found.append(value | {"src": (address(key["src"]), key["src_port"]),
                              "dst": (address(key["dst"]), key["dst_port"]),
                              "asked": (address(value["asked"]), value["asked_port"]),
                              "target": (address(value["target"]), value["target_port"]),
                              "path": PATHS.get(value["path"]), "reason": name_of(lab, value["reason"]),
                              "hop": name_of(lab, value["hop"])})
    return found


def name_of(lab, reason, known={}):  # pylint: disable=dangerous-default-value
    if not known:
        known.update({r["number"]: r["name"] for r in lab.weftctl("reasons")["reasons"]})
    return known[reason]


def record(lab, s):
    """The one whose client is the socket s."""
    src = s.getsockname()[:2]
    src = (src[0].removeprefix("::ffff:"), src[1])
    found = [c for c in conns(lab) if c["src"] == src]
    assert len(found) <= 1
    return found[0] if found else None


# ------------------------------------------------------------------ the worker


def worker(lab, node="n1"):
    procs = pathlib.Path(lab.nodes[node]["cgroup"], "weftd", "cgroup.procs").read_text().split()
    found = [int(p) for p in procs if b"weft-worker" in pathlib.Path(f"/proc/{p}/cmdline").read_bytes()]
    assert len(found) == 1
    return found[0]


@contextlib.contextmanager
def still(lab, seen=EVER, node="n1"):
    """The worker stands still; it was last seen at `seen` (ns), in place of what it wrote itself."""
    pid = worker(lab, node)
    os.kill(pid, signal.SIGSTOP)
    labrun.wait_for(lambda: "T (stopped)" in pathlib.Path(f"/proc/{pid}/status").read_text(), 5, "the worker's stop")
    try:
        put(lab, "beat", number(0, 4), *number(seen, 8), node=node)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(scope="module", autouse=True)
def greeters(lab):
    for pod in ("a", "b", "far", "quiet"):
        lab.start(pod, sys.executable, "-S", "-c", GREETER, pod, PORT)
    for pod in ("a", "b", "far", "quiet"):
        labrun.wait_for(lambda p=pod: lab.listens(p, PORT), 10, f"greeter of {pod}")


@pytest.fixture(autouse=True)
def far(lab):
    """The node knows that `far` is a pod of the mesh, on another node, and no more: nothing STRICT is left."""
    know(lab, pod_object(lab, "far", node="n2"))
    labrun.wait_for(lambda: kind(lab, "far") == (2, 1), 5, "the address of far")
    labrun.wait_for(lambda: all(p["in_kernel"] and p["mtls"] == "PERMISSIVE" for p in lab.weftctl("policy")["pods"]), 5,
                    "plaintext allowed")


def know(lab, *objects):
    lab.manifest("known.json", json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def kind(lab, pod):
    """(kind, flags) of its address on n1."""
    for entry in lab.map("addresses", "n1"):
        if address(entry["formatted"]["key"]) == lab.ip(pod):
            value = entry["formatted"]["value"]
            return value["kind"], value["flags"]
    return None


def connected(lab, pod, where, family=socket.AF_INET):
    s = lab.socket(pod, family)
    s.settimeout(30)
    s.connect(where)
    return s


# ------------------------------------------------------------------ who is sent to the worker


@pytest.mark.parametrize("how", FAMILIES)
def test_to_another_node(lab, how):
    family, version, prefix = FAMILIES[how]
    own, to = prefix + lab.ip("client", version), prefix + lab.ip("far", version)
    with still(lab), connected(lab, "client", (to, PORT), family) as s:
        c = record(lab, s)
        assert (s.getsockname()[0], s.getpeername()[:2]) == (own, (to, PORT))
    bare = (to.removeprefix("::ffff:"), PORT)
    assert (c["asked"], c["target"], c["dst"]) == (bare, bare, (own.removeprefix("::ffff:"), OUTBOUND))
    assert (c["path"], c["reason"], c["hop"], c["flags"]) == ("tunnel", "tunnelled", "watched", CAPTURED)
    assert c["client_netns"] == c["server_netns"] != 0
    assert (c["client_pod"] > 0, c["server_pod"], c["source"] > 0) == (True, 0, True)
    labrun.wait_for(lambda: not conns(lab), 5, "the end of the record")


@pytest.mark.parametrize("pod", ("a", "b"))
def test_to_a_service_that_wants_the_worker(lab, mesh, pod):
    """By annotation of the service, or of the pod behind it; the endpoint is picked before."""
    annotations = {"weft.io/proxy": "always"} if pod == "a" else {}
    mesh.run(mesh.service(annotations=annotations), mesh.slice(pod))
    mesh.wait(pod)
    with still(lab), connected(lab, "client", (mesh.vip, 80)) as s:
        c = record(lab, s)
        assert s.getpeername() == (mesh.vip, 80)
        assert s.getsockname()[0] == lab.ip("client")
    assert (c["asked"], c["target"]) == ((mesh.vip, 80), (lab.ip(pod), PORT))
    assert (c["path"], c["reason"], c["flags"]) == ("proxy", "proxied", CAPTURED)
    assert c["service"] and c["server_pod"] and c["client_netns"] == c["server_netns"]


def test_to_a_pod_that_does_not_want_it(lab):
    with still(lab), connected(lab, "client", (lab.ip("a"), PORT)) as s:
        c = record(lab, s)
        assert c["flags"] == 0 and c["target"][1] == 0
        assert read_all(s).startswith(b"a:8080")


def test_out_of_the_mesh(lab):
    """The one end, or the other; what is already HBONE; what no object speaks of."""
    with still(lab):
        with connected(lab, "plain", (lab.ip("far"), PORT)) as s:
            assert read_all(s).startswith(b"far:8080")
        with still(lab, node="n2"), connected(lab, "client", (lab.ip("far"), HBONE)) as s:
            assert record(lab, s)["reason"] == "other_node"
    know(lab, pod_object(lab, "far", node="n2", labels={"istio.io/dataplane-mode": "none"}))
    labrun.wait_for(lambda: kind(lab, "far") == (2, 0), 5, "far out of the mesh")
    with still(lab), connected(lab, "client", (lab.ip("far"), PORT)) as s:
        assert (record(lab, s)["path"], record(lab, s)["reason"]) == ("direct", "other_node")
        assert read_all(s).startswith(b"far:8080")
    know(lab)
    labrun.wait_for(lambda: not kind(lab, "far"), 5, "far unknown")
    with still(lab), connected(lab, "client", (lab.ip("far"), PORT)) as s:
        assert record(lab, s)["reason"] == "outside"
        assert read_all(s).startswith(b"far:8080")


def test_a_pod_of_which_nothing_is_known_is_not_asked_about_udp(lab):
    with still(lab, seen=0), lab.socket("client", kind=socket.SOCK_DGRAM) as s:
        s.connect((lab.ip("far"), PORT))
        assert s.getpeername() == (lab.ip("far"), PORT)


# ------------------------------------------------------------------ ways to connect


def test_ways_to_connect(lab):
    far = (lab.ip("far"), PORT)
    with still(lab):
        with lab.socket("client") as s:  # bound
            s.bind((lab.ip("client"), 0))
            s.connect(far)
            assert (s.getsockname()[0], s.getpeername()) == (lab.ip("client"), far)
            assert record(lab, s)["target"] == far
        with lab.socket("client") as s:  # to its interface
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0\0")
            s.settimeout(30)
            s.connect(far)
            assert record(lab, s)["target"] == far
        with lab.socket("client") as s:  # data in the SYN, where the kernel will have it
            s.sendto(b"hello", socket.MSG_FASTOPEN, far)
            assert record(lab, s)["target"] == far
            assert s.getpeername() == far
        with lab.socket("client") as s:
            s.setblocking(False)
            assert s.connect_ex(far) in (0, errno.EINPROGRESS)
            assert s.connect_ex(far) in (0, errno.EISCONN, errno.EALREADY)
            assert record(lab, s)["target"] == far
        with lab.socket("client") as s:  # to loopback, as before
            s.bind(("127.0.0.1", 0))
            assert s.connect_ex(("127.0.0.1", 1)) == errno.ECONNREFUSED


@pytest.mark.parametrize("pod, family, version, own", [("four", socket.AF_INET6, 6, "::1"),
                                                       ("six", socket.AF_INET, 4, "127.0.0.1")])
def test_a_pod_without_an_address_of_the_family(lab, pod, family, version, own):
    """By its loopback; two pods that have the same source port there are told apart."""
    to = (lab.ip("far", version), PORT)
    with still(lab), connected(lab, pod, to, family) as s:
        c = record(lab, s)
        assert (s.getsockname()[0], s.getpeername()[:2]) == (own, to)
        assert (c["target"], c["dst"][1], c["flags"]) == (to, OUTBOUND, CAPTURED)


def test_connect_again(lab):
    """connect(AF_UNSPEC) makes the socket new; where it goes next is asked anew."""
    with still(lab), connected(lab, "client", (lab.ip("far"), PORT)) as s:
        unspec = struct.pack("=H14x", socket.AF_UNSPEC)
        assert record(lab, s)["flags"] == CAPTURED
        assert not ctypes.CDLL(None).connect(s.fileno(), unspec, len(unspec))
        s.connect((lab.ip("a"), PORT))
        assert s.getpeername() == (lab.ip("a"), PORT)
        assert record(lab, s)["flags"] == 0
        assert read_all(s).startswith(b"a:8080")


def test_last_words(lab):
    """An app says all that it has to say and is gone, before the worker asks where it wanted to go."""
    with lab.socket("b") as listener:
        listener.settimeout(10)
        listener.bind((lab.ip("b"), 0))
        listener.listen()
        with still(lab), connected(lab, "client", listener.getsockname()) as s:
            own = s.getsockname()
            s.sendall(b"last words")
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 10))  # close() waits for the ACK
            s.close()
        with listener.accept()[0] as app:
            assert app.getpeername()[0] == own[0] and read_all(app) == b"last words"
    labrun.wait_for(lambda: not [c for c in conns(lab) if c["src"] == own], 5, "the end of its record")


def counted(lab, *names):
    """How often the worker and the kernel of n1 gave each of these reasons."""
    found = {name_of(lab, e["formatted"]["key"]): e["formatted"]["values"] for e in lab.map("reasons", "n1")
             if any(v["value"] for v in e["formatted"]["values"])}
    return tuple(sum(v["value"] for v in found.get(name, ())) for name in names)


def test_who_resets_at_once(lab):
    """He is gone before the worker looks, and his record with him: he was after no port of weft's."""
    own, broken = counted(lab, "own_port", "reset")
    with still(lab):
        for said in (b"", b"lost"):
            with connected(lab, "client", (lab.ip("far"), PORT)) as s:
                s.sendall(said)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    labrun.wait_for(lambda: counted(lab, "own_port", "reset")[1] >= broken + 2, 5, "two that were reset")
    assert counted(lab, "own_port", "reset")[0] == own


# ------------------------------------------------------------------ what is refused


def test_without_the_worker(lab):
    with still(lab, seen=0):
        refused(lab, "client", lab.ip("far"), PORT)
        refused(lab, "client", lab.ip("b"), PORT)
        with connected(lab, "open", (lab.ip("far"), PORT)) as s:
            assert (record(lab, s)["path"], record(lab, s)["reason"]) == ("direct", "fail_open")
            assert s.getpeername() == (lab.ip("far"), PORT)
            assert read_all(s).startswith(b"far:8080")
        with connected(lab, "open", (lab.ip("b"), PORT)) as s:
            assert read_all(s).startswith(b"b:8080")
        with connected(lab, "client", (lab.ip("a"), PORT)) as s:
            assert read_all(s).startswith(b"a:8080")
    rows = [r for r in lab.weftctl("traffic")["refusals"] if r["reason"] == "worker_gone"]
    assert sum(r["count"] for r in rows) >= 2 and {r["source"] for r in rows} == {"cluster.local/ns/default/sa/client"}


@contextlib.contextmanager
def denied(lab, rule, reason):
    """A policy of the pod `quiet`, which makes explain say `reason` of who is in the mesh."""
    def says(reason):
        return lab.weftctl("explain", "default/open", "default/quiet:8080", check=False)["reason"] == reason

    lab.manifest("denied.json", json.dumps({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "denied", "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": "quiet"}}, "action": "DENY", "rules": [rule]}}))
    labrun.wait_for(lambda: says(reason), 5, "the policy in force")
    try:
        yield
    finally:
        (lab.manifests / "denied.json").unlink()
    labrun.wait_for(lambda: says("none"), 5, "the policy gone")


def test_a_policy_on_http_does_not_fail_open(lab):
    """Whose annotation it is may be whom the policy is against."""
    quiet = (lab.ip("quiet"), PORT)
    rule = {"to": [{"operation": {"paths": ["/secret"]}}]}
    with denied(lab, rule, "proxied"), still(lab, seen=0):
        refused(lab, "open", *quiet)
        with connected(lab, "open", (lab.ip("b"), PORT)) as s:
            assert read_all(s).startswith(b"b:8080")
    with connected(lab, "open", quiet) as s:
        assert read_all(s).startswith(b"quiet:8080")


def test_when_the_machine_stood_still(lab):
    """The worker was seen long ago, but by who asks after the same long sleep: it is waited for, once, and answers."""
    def seen():
        return lab.map("beat")[0]["formatted"]["value"]

    with still(lab, seen=2), connected(lab, "client", (lab.ip("b"), PORT)) as s:
        assert record(lab, s)["flags"] == CAPTURED
        assert seen() % 2 == 1  # the time that it was given
        with connected(lab, "client", (lab.ip("b"), PORT)):  # within it
            pass
        put(lab, "beat", number(0, 4), *number(3, 8))  # it is over
        refused(lab, "client", lab.ip("b"), PORT)
        with connected(lab, "open", (lab.ip("far"), PORT)) as direct:
            assert record(lab, direct)["reason"] == "fail_open"
        os.kill(worker(lab), signal.SIGCONT)
        assert read_all(s).startswith(b"b:8080")
    labrun.wait_for(lambda: seen() > 3, 5, "a sign of life")
    with connected(lab, "client", (lab.ip("b"), PORT)) as s:
        assert read_all(s).startswith(b"b:8080")


def test_ports_of_weft(lab):
    with still(lab):
        for pod in ("a", "far"):
            for port in (OUTBOUND, INBOUND):
                refused(lab, "client", lab.ip(pod), port)
        for port in (OUTBOUND, INBOUND):  # from where nobody asks connect()
            for place in ("stranger", "n1"):
                with lab.socket(place) as s:
                    s.settimeout(30)
                    assert s.connect_ex((lab.ip("a"), port)) == errno.ECONNREFUSED
        for place in ("stranger", "n1", "client"):
            with lab.socket(place) as s:
                s.settimeout(30)
                s.connect((lab.ip("a"), HBONE))
        with connected(lab, "a", (lab.ip("a"), OUTBOUND)) as s:  # a pod to its own: the worker will not know it
            assert record(lab, s) is None


def test_no_policy_is_asked_for_hbone(lab):
    """As of who comes from another node: mutual TLS decides there, and the policy of where it then goes."""
    hbone = (lab.ip("quiet"), HBONE)
    for _ in range(5):  # who is so slow that the time for a handshake is over has seen nothing
        began = time.monotonic()
        with connected(lab, "client", hbone) as s, denied(lab, {}, "denied"):
            stands, took = record(lab, s), time.monotonic() - began
        if took < 8:
            break
    assert stands
    with denied(lab, {}, "denied"):
        refused(lab, "client", lab.ip("quiet"), PORT)
        with connected(lab, "client", hbone) as s:
            assert record(lab, s)
        assert lab.weftctl("explain", "default/client", f"default/quiet:{HBONE}")["verdict"] == "allowed"


def test_registry_only(lab, mesh):
    mesh.run(mesh.service(), mesh.slice(lab.ip("stranger")))
    mesh.wait(f"{lab.ip('stranger')}:8080")
    with still(lab):
        refused(lab, "closed", lab.ip("stranger"), PORT)
        with connected(lab, "closed", (lab.ip("a"), PORT)) as s:
            assert read_all(s).startswith(b"a:8080")
        with connected(lab, "closed", (lab.ip("far"), PORT)) as s:
            assert record(lab, s)["reason"] == "tunnelled"
        with lab.socket("closed") as s:  # by the service: nobody listens there, which is what it says
            s.settimeout(30)
            assert s.connect_ex((mesh.vip, 80)) == errno.ECONNREFUSED
        for anywhere in ("0.0.0.0", "::", "::ffff:0.0.0.0"):  # which is the pod itself
            with lab.socket("closed", socket.AF_INET6 if ":" in anywhere else socket.AF_INET) as s, \
                    lab.socket("closed", socket.AF_INET6 if ":" in anywhere else socket.AF_INET) as server:
                server.bind((anywhere, 0))
                server.listen()
                s.settimeout(30)
                s.connect((anywhere, server.getsockname()[1]))
                assert record(lab, s) is None
    rows = {(r["source"], r["reason"]): r["count"] for r in lab.weftctl("traffic")["refusals"]}
    assert rows["cluster.local/ns/default/sa/default", "egress"] == 1
    for anywhere in ("0.0.0.0:1", "[::]:1"):
        assert lab.weftctl("explain", "default/closed", anywhere)["reason"] == "same_pod"


# ------------------------------------------------------------------ inbound


def strict(namespace="default"):
    return {"apiVersion": "security.istio.io/v1", "kind": "PeerAuthentication",
            "metadata": {"name": "strict", "namespace": namespace}, "spec": {"mtls": {"mode": "STRICT"}}}


def own(lab, s, source=0, service=0, path=0):
    """Marks the socket as the supervisor and the worker do it."""
    put(lab, "own", number(s.fileno(), 4), *number(1, 4), *number(source, 4), *number(service, 4), *number(path, 1),
        *number(0, 3), pass_fds=(s.fileno(),))


@pytest.fixture
def way_back(lab, mesh):
    """The routes that what is delivered to a and quiet needs: there when the worker has delivered something."""
    for pod in ("a", "quiet"):
        mesh.run(mesh.service([{"name": "tcp", "port": 80, "targetPort": PORT}],
                              annotations={"weft.io/proxy": "always"}),
                 mesh.slice(pod, ports=[{"name": "tcp", "port": PORT, "protocol": "TCP"}]))
        mesh.wait(pod)
        labrun.wait_for(lambda want=f"{pod}:{PORT}": greeting(lab, (mesh.vip, 80)).startswith(want), 20,
                        f"{pod} by the worker")


def greeting(lab, where):
    try:
        with connected(lab, "client", where) as s:
            return read_all(s).decode()
    except (ConnectionRefusedError, ConnectionResetError) as error:
        return str(error)


def deliver(lab, client, pod="a", **said):
    """The worker's connection to the app of a pod, from an address of somebody else."""
    s = lab.socket(pod)
    s.settimeout(30)
    s.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 1)
    s.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    if said:
        own(lab, s, **said)
    s.bind((client, 0))
    return s


def test_the_worker_delivers(lab, way_back):  # noqa: ARG001
    know(lab, pod_object(lab, "far", node="n2"), strict())
    labrun.wait_for(lambda: lab.socket("n2").connect_ex((lab.ip("a"), PORT)) == errno.ECONNREFUSED, 5, "STRICT")
    before = {r["source"]: r["opened"] for r in lab.weftctl("traffic")["traffic"] if r["pod"] == "default/a"}
    with still(lab):
        with deliver(lab, lab.ip("far")) as s:  # not weft's: it is nobody, and the RST goes to the one it claims to be
            s.settimeout(0.5)
            assert s.connect_ex((lab.ip("a"), PORT)) in (errno.EAGAIN, errno.ECONNREFUSED)
        with deliver(lab, lab.ip("far"), source=2, path=4) as s:
            s.connect((lab.ip("a"), PORT))
            c = record(lab, s)
            assert (c["src"][0], c["dst"], c["flags"]) == (lab.ip("far"), (lab.ip("a"), PORT), DELIVERED)
            assert (c["path"], c["reason"], c["source"], c["client_pod"]) == ("tunnel", "tunnelled", 2, 0)
            assert c["client_netns"] == c["server_netns"] and c["server_pod"]
            assert read_all(s) == f"a:8080 ::ffff:{lab.ip('far')} ::ffff:{lab.ip('a')}".encode()
        with deliver(lab, lab.ip("client"), source=1) as s:  # from a pod of this node: counted where it starts
            s.connect((lab.ip("a"), PORT))
            c = record(lab, s)
            assert (c["path"], c["reason"], c["client_pod"] > 0) == ("proxy", "proxied", True)
    labrun.wait_for(lambda: not conns(lab), 5, "the end of the records")
    after = {r["source"]: r["opened"] for r in lab.weftctl("traffic")["traffic"] if r["pod"] == "default/a"}
    assert sum(after.values()) - sum(before.values()) == 1


def test_a_record_lends_itself_to_nobody(lab, way_back):  # noqa: ARG001
    """The app has ended, the worker's socket still stands: who comes by its address and port is asked."""
    know(lab, strict())
    labrun.wait_for(lambda: lab.socket("n2").connect_ex((lab.ip("a"), PORT)) == errno.ECONNREFUSED, 5, "STRICT")
    lab.run("a", "sysctl", "-qw", "net.ipv4.tcp_fin_timeout=1")
    with still(lab), deliver(lab, lab.ip("stranger"), source=2, path=4) as s:
        s.connect((lab.ip("a"), PORT))
        assert read_all(s)
        port = s.getsockname()[1]
        child = f"sport = :{PORT} and dport = :{port}"
        labrun.wait_for(lambda: not lab.run("a", "ss", "-Htan", child).stdout, 10, "the end of the app's socket")
        assert record(lab, s)["flags"] == DELIVERED
        with lab.socket("stranger") as other:
            other.settimeout(30)
            other.bind((lab.ip("stranger"), port))
            assert other.connect_ex((lab.ip("a"), PORT)) == errno.ECONNREFUSED


def test_plaintext_for_a_pod_that_wants_the_worker(lab):
    """It is the worker's, with the address that it was sent to; the node itself (probes) goes on to the app."""
    with still(lab):
        with connected(lab, "far", (lab.ip("b"), PORT)) as s:
            s.settimeout(0.2)
            with pytest.raises(TimeoutError):
                s.recv(1)
            assert not [c for c in conns(lab) if c["dst"] == (lab.ip("b"), PORT)]
        with connected(lab, "far", (lab.ip("a"), PORT)) as s:
            assert read_all(s).startswith(b"a:8080")
        with connected(lab, "n1", (lab.ip("b"), PORT)) as s:
            assert read_all(s).startswith(b"b:8080")
    with still(lab, seen=0), lab.socket("far") as s:
        s.settimeout(30)
        assert s.connect_ex((lab.ip("b"), PORT)) == errno.ECONNREFUSED


# ------------------------------------------------------------------ a hop between the worker and an app


def hop(lab, c, s, reason, seconds=60):
    """Talks until weft has judged it so; the record then."""
    until = time.monotonic() + seconds
    while True:
        talk(c, s, 20)
        seen = record(lab, c)
        if seen["hop"] == reason:
            return seen
        assert time.monotonic() < until, seen


def delivered(lab, pod):
    """Both ends of what the worker delivers to an app: (its socket, the app's)."""
    listener = listen(lab, pod)
    c = deliver(lab, lab.ip("far"), pod, source=2, path=4)
    c.connect((lab.ip(pod), listener.getsockname()[1]))
    s, _ = listener.accept()
    s.settimeout(20)
    return c, s


def test_a_hop_is_spliced_and_switched(lab, way_back):  # noqa: ARG001
    """What it is called by does not change: the connection comes through a tunnel, whatever carries its last hop."""
    c, s = delivered(lab, "a")
    with c, s:
        seen = hop(lab, c, s, "spliced")
        assert (seen["path"], seen["reason"], seen["flags"]) == ("tunnel", "tunnelled", DELIVERED)
        talk(c, s, 200)
        lab.weftctl("splice", "off", text=True)
        hop(lab, c, s, "switched_off")
        lab.weftctl("splice", "on", text=True)
        hop(lab, c, s, "spliced")
        block = os.urandom(1 << 16)
        for _ in range(64):  # bulk goes by TCP, behind what was spliced
            c.sendall(block)
            got = b""
            while len(got) < len(block):
                got += s.recv(len(block) - len(got))
            assert got == block
    labrun.wait_for(lambda: not conns(lab), 5, "the end of the record")


def test_a_hop_of_a_pod_that_does_not_want_it(lab, way_back):  # noqa: ARG001
    c, s = delivered(lab, "quiet")
    with c, s:
        assert hop(lab, c, s, "pod_off")["path"] == "tunnel"
