# SPDX-License-Identifier: Apache-2.0
"""
Services as pods see them: addresses, ports, endpoints and their conditions, affinity, spread, changes under load.
"""

import collections
import errno
import math
import os
import signal
import socket
import struct
import sys
import time

import labrun
import pytest
from mesh import CLOSED, GREETER, mesh, pod_object, pods, reach, reached, read_all, refusals, refused  # noqa: F401

LAB = """
[nodes.n1]
[nodes.n2]
[pods.client]
service_account = "client"
[pods.other]
service_account = "other"
[pods.a]
labels = { app = "web", tier = "front" }
[pods.b]
labels = { app = "web" }
[pods.c]
labels = { app = "web", tier = "back" }
[pods.far]
node = "n2"
[pods.stranger]
enrol = false
"""
MANIFESTS = {}
TCP_FASTOPEN_CONNECT = 30  # linux/tcp.h
PORTS = (8080, 8081, 8082, 8083)
# Connects until its standard input ends; a line per connect: seconds before and after, who answered or the error.
CALLER = """
import select, socket, sys, time
where, quiet, lines = (sys.argv[1], int(sys.argv[2])), select.poll(), []
quiet.register(0, select.POLLIN)
while not quiet.poll(0):
    s = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET)
    s.settimeout(30)
    t = time.monotonic()
    try:
        s.connect(where)
        who = s.recv(100).decode().split()[0]
    except Exception as e:
        who = repr(e)
    lines.append(f"{t} {time.monotonic()} {who}")
    s.close()
print("\\n".join(lines))
"""


@pytest.fixture(scope="module", autouse=True)
def greeters(lab):
    for pod in ("a", "b", "c", "far"):
        lab.start(pod, sys.executable, "-S", "-c", GREETER, pod, *PORTS)
    for pod in ("a", "b", "c", "far"):
        labrun.wait_for(lambda p=pod: lab.listens(p, PORTS[-1]), 10, f"greeter of {pod}")


def surely_even(counts, weights, bound=4.75):
    """Chi-squared against the weights; the bound (Wilson and Hilferty) is passed by chance once in a million runs."""
    total, whole, df = sum(counts), sum(weights), len(counts) - 1
    chi = sum((c - total * w / whole) ** 2 / (total * w / whole) for c, w in zip(counts, weights))
    limit = df * (1 - 2 / (9 * df) + bound * math.sqrt(2 / (9 * df))) ** 3
    assert chi < limit, f"chi-squared {chi:.1f} of {df} degrees, at most {limit:.1f}: {counts} for {weights}"


# ------------------------------------------------------------------ addresses and ports


def test_both_families_and_what_each_side_sees(lab, mesh):
    mesh.run(mesh.service(vips=[mesh.vip, mesh.vip6], ipFamilyPolicy="RequireDualStack"), mesh.slice("a"),
             mesh.slice("a", name="six", ipv6=True))
    mesh.wait("a")
    labrun.wait_for(lambda: mesh.endpoints(vip=mesh.vip6) == {f"[{lab.ip('a', 6)}]:8080"}, 5, "the IPv6 endpoint")
    for vip, family in ((mesh.vip, 4), (mesh.vip6, 6)):
        seen = reach(lab, "client", vip)
        assert seen == ("a:8080", lab.ip("client", family), lab.ip("a", family), (vip, 80))


@pytest.mark.parametrize("family", [4, 6])
def test_a_service_of_one_family(lab, mesh, family):
    vip, other = (mesh.vip, mesh.vip6) if family == 4 else (mesh.vip6, mesh.vip)
    mesh.run(mesh.service(vips=[vip], selector={"app": "web"}))
    labrun.wait_for(lambda: len(mesh.endpoints(vip=vip) or ()) == 3, 5, "three endpoints")
    assert pods(reached(lab, "client", vip, 40)) == {"a", "b", "c"}
    assert mesh.endpoints(vip=other) is None


def test_a_mapped_socket_reaches_an_ipv4_service(lab, mesh):
    mesh.run(mesh.service(), mesh.slice("a"))
    mesh.wait("a")
    seen = reach(lab, "client", f"::ffff:{mesh.vip}", family=socket.AF_INET6)
    assert seen == ("a:8080", lab.ip("client"), lab.ip("a"), (f"::ffff:{mesh.vip}", 80))


def test_a_bound_socket_keeps_its_address(lab, mesh):
    mesh.run(mesh.service(), mesh.slice("a"))
    mesh.wait("a")
    s = lab.socket("client")
    s.bind((lab.ip("client"), 0))
    name = s.getsockname()
    assert reach(lab, "client", mesh.vip, s=s).source == name[0]


def test_each_port_has_its_target(lab, mesh):
    mesh.run(mesh.service([{"name": "one", "port": 80, "targetPort": 8081},
                           {"name": "two", "port": 81, "targetPort": 8082}, {"name": "same", "port": 8083},
                           {"name": "udp", "port": 82, "protocol": "UDP"}],
                          selector={"tier": "front"}))
    for port, at in ((80, 8081), (81, 8082), (8083, 8083)):
        mesh.wait("a", port=port, at=at)
        assert reach(lab, "client", mesh.vip, port).who == f"a:{at}"
        assert reach(lab, "client", mesh.vip, port).peer == (mesh.vip, port)
    before = refusals(lab, "no_service_port")
    refused(lab, "client", mesh.vip, 82)
    refused(lab, "client", mesh.vip, 9999)
    assert refusals(lab, "no_service_port") == before + 2


def test_a_named_target_is_each_pods_own_port(lab, mesh):
    mesh.run(mesh.service([{"name": "http", "port": 80, "targetPort": "web"}], selector={"app": "named"}),
             pod_object(lab, "a", [("web", 8081), ("admin", 8080)]), pod_object(lab, "b", [("web", 8083)]),
             pod_object(lab, "c", [("other", 8080)]))
    mesh.wait(f"{lab.ip('a')}:8081", f"{lab.ip('b')}:8083")
    assert set(reached(lab, "client", mesh.vip, 40)) == {"a:8081", "b:8083"}


def test_headless_and_external_names_are_left_alone(lab, mesh):
    other = mesh.service(name="elsewhere", type="ExternalName", externalName="example.org")
    del other["spec"]["clusterIPs"], other["spec"]["ports"]
    mesh.run(mesh.service(vips=["None"]), mesh.slice("a"), other, mesh.service(name="marker", selector={"app": "web"}))
    mesh.wait("a", "b", "c")
    assert {s["service"] for s in lab.weftctl("services")["services"]} == {"default/marker"}
    assert lab.ready()
    seen = reach(lab, "client", lab.ip("a"), 8080)
    assert seen == ("a:8080", lab.ip("client"), lab.ip("a"), (lab.ip("a"), 8080))


def test_an_endpoint_on_another_node(lab, mesh):
    plain = {"istio.io/dataplane-mode": "none"}
    mesh.run(mesh.service(), mesh.slice("far"), pod_object(lab, "far", node="n2", labels=plain))
    mesh.wait("far")
    s = lab.socket("client")
    seen = reach(lab, "client", mesh.vip, s=s)
    assert seen == ("far:8080", lab.ip("client"), lab.ip("far"), (mesh.vip, 80))
    rows = [r for r in lab.weftctl("traffic")["traffic"] if r["service"] == f"default/{mesh.name}"]
    assert sum(r["opened"] for r in rows) == 1


def test_a_service_to_itself(lab, mesh):
    mesh.run(mesh.service(), mesh.slice("a"))
    mesh.wait("a")
    seen = reach(lab, "a", mesh.vip)
    assert seen == ("a:8080", lab.ip("a"), lab.ip("a"), (mesh.vip, 80))


def test_nobody_listens_behind_the_service(lab, mesh):
    mesh.run(mesh.service(), mesh.slice("a", ports=[{"name": "http", "port": CLOSED}]))
    mesh.wait("a", at=CLOSED)
    refused(lab, "client", mesh.vip)


# ------------------------------------------------------------------ ways to connect


def test_udp_is_left_alone(lab, mesh):
    mesh.run(mesh.service(), mesh.slice("a"))
    mesh.wait("a")
    for family, vip in ((socket.AF_INET, mesh.vip), (socket.AF_INET6, f"::ffff:{mesh.vip}")):
        s = lab.socket("client", family, socket.SOCK_DGRAM)
        s.connect((vip, 80))
        assert s.getpeername()[:2] == (vip, 80)
        s.close()


def test_a_nonblocking_connect(lab, mesh):
    mesh.run(mesh.service(), mesh.slice("a"))
    mesh.wait("a")
    s = lab.socket("client")
    s.setblocking(False)
    assert s.connect_ex((mesh.vip, 80)) in (0, errno.EINPROGRESS)
    s.settimeout(30)
    assert read_all(s).startswith(b"a:8080 ")
    assert not s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    s.close()
    mesh.run(mesh.service(), mesh.slice())
    mesh.wait()
    s = lab.socket("client")
    s.setblocking(False)
    assert s.connect_ex((mesh.vip, 80)) == errno.ECONNREFUSED
    s.close()


def test_connect_again_elsewhere(lab, mesh):
    """connect(AF_UNSPEC) and another connect() on one socket: nothing of the first is left."""
    mesh.run(mesh.service(), mesh.slice("a"))
    mesh.wait("a")
    s = lab.socket("client")
    s.settimeout(30)
    s.connect((mesh.vip, 80))
    assert s.recv(100).startswith(b"a:8080 ")
    address = socket.AF_UNSPEC.to_bytes(2, sys.byteorder) + bytes(14)
    assert not labrun.lab_module.LIBC.connect(s.fileno(), address, len(address))
    s.connect((lab.ip("b"), 8081))
    assert s.getpeername() == (lab.ip("b"), 8081)
    assert read_all(s).startswith(b"b:8081 ")
    s.close()


@pytest.fixture
def fast_open(lab):
    """The server answers with a cookie, the next SYN carries data."""
    path = "/proc/sys/net/ipv4/tcp_fastopen"
    for pod in ("client", "a"):
        with labrun.lab_module.inside(lab.place(pod)[1]), open(path, "w", encoding="ascii") as f:
            f.write("3")


def test_fast_open(lab, mesh, fast_open):
    listener = lab.socket("a")
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 64)
    listener.bind((lab.ip("a"), 8097))
    listener.listen(8)
    mesh.run(mesh.service(), mesh.slice("a", ports=[{"name": "http", "port": 8097}]))
    mesh.wait("a", at=8097)
    reasons = []
    for attempt in range(4):
        s = lab.socket("client")
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 5, 0))
        if attempt == 3:
            s.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
            s.connect((mesh.vip, 80))
            assert s.send(b"hello") == 5
        else:
            assert s.sendto(b"hello", socket.MSG_FASTOPEN, (mesh.vip, 80)) == 5
        c, _ = listener.accept()
        assert c.recv(10) == b"hello"
        c.sendall(b"world")
        assert s.recv(10) == b"world"
        assert s.getpeername() == (mesh.vip, 80)
        shown = lab.weftctl("connections")["connections"]
        assert (shown[-1]["bytes_sent"], shown[-1]["bytes_received"]) == (5, 5)
        reasons.append(shown[-1]["reason"])
        c.close()
        assert s.recv(10) == b""
        s.close()
    listener.close()
    # the first one only fetched the cookie
    assert set(reasons[1:]) <= {"watched", "switched_off", "blocking"}  # the last two once it has been judged
    with labrun.lab_module.inside(lab.place("client")[1]), open("/proc/thread-self/net/netstat", encoding="ascii") as f:
        names, values = (line.split() for line in f if line.startswith("TcpExt:"))
        assert int(dict(zip(names, values))["TCPFastOpenActive"]) > 0, "no SYN has carried data"
    mesh.run(mesh.service(), mesh.slice())
    mesh.wait()
    s = lab.socket("client")
    with pytest.raises(ConnectionRefusedError):
        s.sendto(b"hello", socket.MSG_FASTOPEN, (mesh.vip, 80))
    s.close()


# ------------------------------------------------------------------ which endpoints


@pytest.mark.parametrize("objects", ["no slice", "empty slice", "no selector"])
def test_no_endpoint_refuses_at_once(lab, mesh, objects):
    if objects == "no slice":
        mesh.run(mesh.service(vips=[mesh.vip, mesh.vip6], selector={"app": "nobody"}))
    elif objects == "empty slice":
        mesh.run(mesh.service(vips=[mesh.vip, mesh.vip6], selector={"app": "web"}), mesh.slice())
    else:
        mesh.run(mesh.service(vips=[mesh.vip, mesh.vip6]))
    mesh.wait()
    mesh.wait(vip=mesh.vip6)
    before = refusals(lab, "no_endpoint")
    refused(lab, "client", mesh.vip)
    refused(lab, "client", f"::ffff:{mesh.vip}", family=socket.AF_INET6)
    refused(lab, "client", mesh.vip6, family=socket.AF_INET6)
    assert refusals(lab, "no_endpoint") == before + 3


READY = {"ready": True}
UNREADY = {"ready": False, "serving": False}
ENDING = {"ready": False, "serving": True, "terminating": True}
ENDED = {"ready": False, "serving": False, "terminating": True}


@pytest.mark.parametrize("conditions, expected", [
    (({}, {}, {}), "abc"),  # not said is ready
    ((READY, UNREADY, READY), "ac"),
    ((READY, ENDING, ENDED), "a"),  # one is ready: those that end get nothing new
    ((UNREADY, ENDING, ENDED), "b"),  # none is ready: those that end but still serve do
    ((ENDING, ENDING, UNREADY), "ab"),
    (({"ready": False, "serving": True}, UNREADY, ENDED), ""),
    (({"ready": None, "serving": None}, UNREADY, UNREADY), "a"),
])
def test_conditions_of_endpoints(lab, mesh, conditions, expected):
    mesh.run(mesh.service(), mesh.slice(*zip("abc", conditions)))
    mesh.wait(*expected)
    if expected:
        assert pods(reached(lab, "client", mesh.vip, 30)) == set(expected)
    else:
        refused(lab, "client", mesh.vip)


def test_publish_not_ready_addresses(lab, mesh):
    mesh.run(mesh.service(publishNotReadyAddresses=True), mesh.slice(*zip("abc", (READY, UNREADY, ENDED))))
    mesh.wait("a", "b", "c")
    assert pods(reached(lab, "client", mesh.vip, 40)) == {"a", "b", "c"}


def test_readiness_of_pods_without_slices(lab, mesh):
    service = mesh.service(selector={"app": "named"})

    def ready(**how):
        mesh.run(service, *(pod_object(lab, p, ready=how[p] != "unready",
                                       **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if how[p] == "ending" else {}))
                            for p in how))
    ready(a="ready", b="unready", c="ending")
    mesh.wait("a")
    ready(a="unready", b="unready", c="ending")
    mesh.wait("c")
    assert pods(reached(lab, "client", mesh.vip, 5)) == {"c"}
    ready(a="unready", b="unready")
    mesh.wait()
    refused(lab, "client", mesh.vip)
    ready(a="unready", b="ready")
    mesh.wait("b")
    # a slice takes over from the selector, and gives it back
    mesh.put("slice.json", mesh.slice("c"))
    mesh.wait("c")
    (lab.manifests / "slice.json").unlink()
    mesh.wait("b")


def test_labels_of_enrolled_pods_select_them(lab, mesh):
    mesh.run(mesh.service(selector={"app": "web", "tier": "back"}))
    mesh.wait("c")
    assert pods(reached(lab, "client", mesh.vip, 5)) == {"c"}


def test_a_pod_that_is_released_is_no_endpoint(lab, mesh):
    mesh.run(mesh.service(selector={"app": "web"}))
    mesh.wait("a", "b", "c")
    pod = next(p for p in labrun.lab_module.Lab(lab.path, lab.prefix).pods if p.key == "b")
    lab.weftctl("pod", "del", "default/b", text=True)
    mesh.wait("a", "c")
    assert pods(reached(lab, "client", mesh.vip, 20)) == {"a", "c"}
    lab.weftctl(*labrun.lab_module.pod_add(pod), text=True)
    mesh.wait("a", "b", "c")
    assert pods(reached(lab, "client", mesh.vip, 40)) == {"a", "b", "c"}


def test_a_pod_that_is_not_enrolled_sees_no_service(lab, mesh):
    mesh.run(mesh.service(), mesh.slice("a"))
    mesh.wait("a")
    before = lab.weftctl("traffic")
    s = lab.socket("stranger")
    s.settimeout(0.2)
    with pytest.raises(OSError) as e:
        s.connect((mesh.vip, 80))
    assert e.value.errno in (None, errno.ENETUNREACH, errno.EHOSTUNREACH)  # None: the time was up
    s.close()
    assert reach(lab, "stranger", lab.ip("a"), 8080).peer == (lab.ip("a"), 8080)
    assert lab.weftctl("traffic")["refusals"] == before["refusals"]


def test_services_that_share_a_vip(lab, mesh):
    """Two services, one address, different ports: as an operator may write; the ports are told apart."""
    mesh.run(mesh.service([{"name": "x", "port": 81, "targetPort": 8081}], name="one", selector={"tier": "front"}),
             mesh.service([{"name": "y", "port": 82, "targetPort": 8082}], name="two", selector={"tier": "back"}))
    mesh.wait("a", port=81, at=8081)
    mesh.wait("c", port=82, at=8082)
    assert (reach(lab, "client", mesh.vip, 81).who, reach(lab, "client", mesh.vip, 82).who) == ("a:8081", "c:8082")


# ------------------------------------------------------------------ session affinity


def sticky(mesh, seconds, ports=PORTS, members="abc"):
    """A service with an endpoint for each pod and port: many, so that chance seldom picks one twice."""
    mesh.run(mesh.service(sessionAffinity="ClientIP",
                          sessionAffinityConfig={"clientIP": {"timeoutSeconds": seconds}}),
             *(mesh.slice(*members, name=f"p{p}", ports=[{"name": "http", "port": p}]) for p in ports))
    mesh.wait(*(f"{mesh.lab.ip(m)}:{p}" for m in members for p in ports))


def test_a_client_stays_with_its_endpoint(lab, mesh):
    sticky(mesh, 60)
    first = reached(lab, "client", mesh.vip, 100)
    assert len(first) == 1
    who = next(iter(first))
    pod, port = who.split(":")
    # others change: it stays; its own goes: it moves once and stays there; its own comes back: it stays away
    others = tuple(m for m in "abc" if m != pod)
    sticky(mesh, 60, members=(pod, others[0]))
    assert set(reached(lab, "client", mesh.vip, 50)) == {who}
    sticky(mesh, 60, members=others)
    second = reached(lab, "client", mesh.vip, 50)
    assert len(second) == 1 and who not in second
    sticky(mesh, 60)
    assert reached(lab, "client", mesh.vip, 50).keys() == second.keys()
    assert len({next(iter(reached(lab, p, mesh.vip, 20))) for p in ("client", "other", "a", "b", "c")}) > 1


def test_affinity_ends_after_its_time(lab, mesh):
    sticky(mesh, 1)
    found = set()
    deadline = time.monotonic() + 20
    while len(found) < 2:
        assert time.monotonic() < deadline, f"always {found}"
        seen = reached(lab, "client", mesh.vip, 20)
        assert len(seen) == 1  # within the second it stays
        found |= seen.keys()
        time.sleep(1.05)  # the time itself is what is waited for


# ------------------------------------------------------------------ spread


@pytest.mark.parametrize("family", [4, 6])
def test_connects_spread_evenly(lab, mesh, family):
    vip = mesh.vip if family == 4 else mesh.vip6
    mesh.run(mesh.service(vips=[vip]), *(mesh.slice("a", "b", "c", name=f"p{p}", ipv6=family == 6,
                                                    ports=[{"name": "http", "port": p}]) for p in PORTS))
    labrun.wait_for(lambda: len(mesh.endpoints(vip=vip) or ()) == 12, 5, "twelve endpoints")
    counts = reached(lab, "client", vip, 3000)
    assert len(counts) == 12
    surely_even(list(counts.values()), [1] * 12)


def test_connects_spread_by_weight(lab, mesh):
    weights = {8080: 1, 8081: 3, 8082: 10, 8083: 0}
    mesh.run(mesh.service(), *(mesh.slice("a", "b", name=f"p{p}", weight=w, ports=[{"name": "http", "port": p}])
                               for p, w in weights.items()))
    labrun.wait_for(lambda: len(mesh.endpoints() or ()) == 6, 5, "six endpoints")
    counts = reached(lab, "client", mesh.vip, 3000)
    who = sorted(counts)
    assert who == [f"{m}:{p}" for m in "ab" for p in (8080, 8081, 8082)]
    surely_even([counts[w] for w in who], [weights[int(w.split(":")[1])] for w in who])


def test_all_weights_zero_refuse(lab, mesh):
    mesh.run(mesh.service(), mesh.slice("a", "b", weight=0))
    mesh.wait()
    refused(lab, "client", mesh.vip)


# ------------------------------------------------------------------ changes under load


@pytest.fixture
def caller(lab):
    """Connects without pause; gives its lines when it is asked to stop."""
    started = []

    def start(host, pod="client"):
        p = lab.start(pod, sys.executable, "-S", "-c", CALLER, host, 80, stdin=labrun.subprocess.PIPE,
                      stdout=labrun.subprocess.PIPE)
        started.append(p)

        def stop():
            out = p.communicate(b"\n", timeout=20)[0].decode()
            return [(float(t), float(u), who) for t, u, who in (line.split(" ", 2) for line in out.splitlines())]
        return stop

    yield start
    for p in started:
        lab.stop(p)


def answered(calls):
    """Every call had an answer of a greeter."""
    errors = [c for c in calls if c[2].split(":")[0] not in ("a", "b", "c")]
    assert not errors, f"{len(errors)} of {len(calls)}: {errors[:3]}"


@pytest.mark.parametrize("family", [4, 6])
def test_endpoints_are_swapped_under_load(lab, mesh, caller, family):
    """100 swaps: nobody is refused, and nobody reaches an endpoint that weftctl no longer shows."""
    vip, six = (mesh.vip, False) if family == 4 else (mesh.vip6, True)
    text = {m: f"[{lab.ip(m, 6)}]:8080" if six else f"{lab.ip(m)}:8080" for m in "abc"}
    mesh.put("service.json", mesh.service(vips=[vip]))
    phases, calls, stop = [], [], None
    for turn in range(101):
        there = ("a", "ab", "b", "bc", "c", "ac")[turn % 6]
        began = time.monotonic()
        mesh.put("slice.json", mesh.slice(*there, ipv6=six))
        labrun.wait_for(lambda want={text[m] for m in there}: mesh.endpoints(vip=vip) == want, 5, there, 0.001)
        if phases:
            phases[-1][1] = began
        phases.append([time.monotonic(), None, there])
        if not stop:
            stop = caller(vip)
        time.sleep(0.005)  # calls that begin and end while nothing changes
    calls = stop()
    answered(calls)
    assert len(calls) > 500
    judged = 0
    for shown, ended, there in phases[:-1]:
        inside = [who[0] for t, u, who in calls if shown < t and u < ended]
        judged += len(inside)
        assert set(inside) <= set(there), f"{there}: {collections.Counter(inside)}"
    assert judged > 20


def test_a_client_stays_while_others_come_and_go(lab, mesh, caller):
    """Several processes of one pod, under affinity; every change of the others makes a new generation of the table."""
    sticky(mesh, 60)
    who = next(iter(reached(lab, "client", mesh.vip, 10)))
    pod, port = who.split(":")
    stops = [caller(mesh.vip) for _ in range(2)]
    for turn in range(100):
        others = ("abc".replace(pod, "")[turn % 2], "")[turn % 3 == 0]
        ports = sorted({int(port), PORTS[turn % 4]})
        sticky(mesh, 60, ports, pod + others)
    assert {who for stop in stops for *_, who in stop()} == {who}


def test_pods_change_places_under_load(lab, mesh, caller):
    """Without slices: readiness and labels go from pod to pod, in one file or in two; one is always there."""
    mesh.put("service.json", mesh.service(selector={"app": "named"}))
    mesh.put("a.json", pod_object(lab, "a"))
    mesh.put("b.json", pod_object(lab, "b"))
    mesh.wait("a", "b")
    stop = caller(mesh.vip)
    for turn in range(60):
        one, other = "ab" if turn % 2 else "ba"
        away = {"ready": False} if turn % 4 < 2 else {"labels": {"app": "other"}}
        mesh.put(f"{one}.json", pod_object(lab, one))
        mesh.put(f"{other}.json", pod_object(lab, other, **away))
        mesh.wait(one)
    mesh.put("b.json")
    mesh.put("a.json", pod_object(lab, "a"), pod_object(lab, "b"))
    mesh.wait("a", "b")
    for turn in range(60):
        one, other = "ab" if turn % 2 else "ba"
        mesh.put("a.json", pod_object(lab, one), pod_object(lab, other, ready=False))
        mesh.wait(one)
    answered(stop())


def test_a_service_moves_between_files_and_names_under_load(lab, mesh, caller):
    """Its file is renamed, its objects go to another file, another Service takes over its address: nobody notices."""
    objects = mesh.service(), mesh.slice("a", "b")
    mesh.put("m0.json", *objects)
    mesh.wait("a", "b")
    stop = caller(mesh.vip)
    for i in range(280):
        (lab.manifests / f"m{i}.json").rename(lab.manifests / f"m{i + 1}.json")
        mesh.files.add(f"m{i + 1}.json")
        time.sleep(0.001 + 0.002 * (i % 2))  # while the last one is read
    for i in range(280, 300):
        mesh.put(f"m{i + 1}.json", *objects)
        (lab.manifests / f"m{i}.json").unlink()
        time.sleep(0.002)  # the same
    for i in range(20):
        name = f"{mesh.name}-{i}"
        mesh.put("m300.json", mesh.service(name=name), mesh.slice("a", "b", service=name))
        labrun.wait_for(lambda want=f"default/{name}": want in {s["service"] for s in
                                                               lab.weftctl("services")["services"]}, 5, name, 0.001)
    answered(stop())


def test_the_worker_is_killed_while_endpoints_change_under_load(lab, mesh, caller):
    """The kernel answers by what it has, the next worker finds the folder changed and the maps as they were left."""
    mesh.put("service.json", mesh.service())
    mesh.put("slice.json", mesh.slice("a", "b"))
    mesh.wait("a", "b")
    stop = caller(mesh.vip)
    worker = lab.weftctl("status")["worker"]
    for turn in range(3):
        there = ("bc", "ac", "ab")[turn]
        mesh.put("slice.json", mesh.slice(*there))  # it may have been seen, or half written, or not
        os.kill(worker["pid"], signal.SIGKILL)
        labrun.wait_for(lambda: lab.weftctl("status", check=False)["worker"]["pid"] not in (0, worker["pid"])
                        and lab.ready(), 10, "the next worker")
        mesh.wait(*there)
        worker = lab.weftctl("status")["worker"]
    began = time.monotonic()
    time.sleep(0.05)  # calls that begin after the last change
    calls = stop()
    answered(calls)
    assert {who[0] for t, _, who in calls if t > began} <= {"a", "b"}
    labrun.wait_for(lambda: len(lab.map("endpoints")) == 2, 5, "nothing left of other generations")
