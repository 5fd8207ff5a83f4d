# SPDX-License-Identifier: Apache-2.0
"""Counters per source identity and destination service: to the byte, spliced or not."""

import collections
import errno
import itertools
import subprocess

import labrun
import pytest
from mesh import CLOSED, mesh, refused  # noqa: F401, the fixture

LAB = """
[nodes.n1]
[nodes.n2]
[pods.client]
service_account = "client"
[pods.other]
service_account = "other"
[pods.a]
[pods.b]
[pods.far]
node = "n2"
"""
MANIFESTS = {}


def traffic(lab, name):
    """{(identity, pod): row} of one service."""
    rows = [r for r in lab.weftctl("traffic")["traffic"] if r["service"] == f"default/{name}"]
    return {(r["source"], r["pod"]): r for r in rows}


def test_counters_are_exact(lab, mesh, splice):
    """curl says what it sent and got; the sum over its connections is what weft counted."""
    lab.nginx("a", 8090, "small\n", files={"kb": 1000, "mb": 1 << 20, "mbs": 5 << 20})
    lab.nginx("b", 8090, "small\n")
    mesh.run(mesh.service(), mesh.slice("a", "b", ports=[{"name": "http", "port": 8090}]))
    mesh.wait("a", "b", at=8090)
    totals = {}
    for pod, paths in (("client", ("", "kb", "mb", "mbs", "missing")), ("other", ("", "", "kb"))):
        for path, again in itertools.product(paths, (1, 3)):
            urls = [f"http://{mesh.vip}/{path}"] * again
            said = lab.run(pod, "curl", "-sS", "-o", "/dev/null", "-w",
                           "%{size_request} %{size_header} %{size_download} %{num_connects} %{size_upload}\\n",
                           *[x for u in urls for x in (u, "-o", "/dev/null")][:-2]).stdout
            for line in said.splitlines():
                request, header, download, connects, upload = map(int, line.split())
                sent, got, count = totals.get(pod, (0, 0, 0))
                totals[pod] = (sent + request + upload, got + header + download, count + connects)
    want = {f"cluster.local/ns/default/sa/{p}": t for p, t in totals.items()}

    def counted():
        found = {}
        for (source, _), r in traffic(lab, mesh.name).items():
            sent, got, count = found.get(source, (0, 0, 0))
            found[source] = (sent + r["sent_bytes"], got + r["received_bytes"], count + r["closed"])
        return found
    labrun.wait_for(lambda: {k: v[2] for k, v in counted().items()} == {k: v[2] for k, v in want.items()}, 5,
                    f"{want} connections closed")
    assert counted() == want
    rows = traffic(lab, mesh.name)
    assert {pod for _, pod in rows} == {"default/a", "default/b"}
    for r in rows.values():
        assert r["opened"] == r["closed"] and not r["failed"]
        assert 0 < r["connect_us"] < 1e6


@pytest.mark.parametrize("first", ["client", "server"])
@pytest.mark.parametrize("sizes", [(0, 0), (1, 1), (1000, 3), (70000, 500000)])
def test_bytes_are_counted_whoever_closes_first(lab, mesh, sizes, first):
    listener = lab.socket("a")
    listener.bind((lab.ip("a"), 0))
    listener.listen(8)
    port = listener.getsockname()[1]
    mesh.run(mesh.service(), mesh.slice("a", ports=[{"name": "http", "port": port}]))
    mesh.wait("a", at=port)
    s = lab.socket("client")
    s.settimeout(30)
    s.connect((mesh.vip, 80))
    c, _ = listener.accept()
    c.settimeout(30)
    for from_, to, size in ((s, c, sizes[0]), (c, s, sizes[1]), (s, c, 1)):
        sent = 0
        while sent < size:
            part = min(20000, size - sent)
            from_.sendall(b"x" * part)
            got = 0
            while got < part:
                got += len(to.recv(part - got))
            sent += part
    row = labrun.wait_for(lambda: [r for r in lab.weftctl("connections")["connections"]
                                   if r["destination"]["port"] == port], 5, "the connection")[0]
    assert (row["bytes_sent"], row["bytes_received"]) == (sizes[0] + 1, sizes[1])
    one, two = (s, c) if first == "client" else (c, s)
    one.close()
    assert not two.recv(10)
    if first == "server":  # a connection ends with its client
        row = [r for r in lab.weftctl("connections")["connections"] if r["destination"]["port"] == port][0]
        assert (row["bytes_sent"], row["bytes_received"]) == (sizes[0] + 1, sizes[1])
    two.close()
    listener.close()
    rows = labrun.wait_for(lambda: [r for r in traffic(lab, mesh.name).values() if r["closed"]], 5, "the close")
    assert (rows[0]["sent_bytes"], rows[0]["received_bytes"]) == (sizes[0] + 1, sizes[1])


def test_a_refused_connection_is_counted_as_failed(lab, mesh):
    mesh.run(mesh.service(), mesh.slice("a", ports=[{"name": "http", "port": CLOSED}]))
    mesh.wait("a", at=CLOSED)
    for _ in range(3):
        refused(lab, "client", mesh.vip)
    rows = labrun.wait_for(lambda: traffic(lab, mesh.name), 5, "the row")
    assert [(r["opened"], r["closed"], r["failed"]) for r in rows.values()] == [(0, 0, 3)]


def inbound(lab, node, pod):
    """The row of what comes to a pod from outside of its node: nobody's identity, no service."""
    rows = [r for r in lab.weftctl("traffic", node=node)["traffic"] if (r["source"], r["pod"]) == ("", pod)]
    return collections.Counter({k: rows[0][k] for k in ("opened", "closed", "sent_bytes", "received_bytes")}
                               if rows else {})


def test_both_nodes_count_the_same(lab, mesh):
    """A client here, a server there: each node counts what its own end saw, and it is the same."""
    lab.nginx("far", 8090, "small\n", files={"mb": 1 << 20})
    mesh.run(mesh.service(), mesh.slice("far", ports=[{"name": "http", "port": 8090}]))
    mesh.wait("far", at=8090)
    before = inbound(lab, "n2", "default/far")
    sent = got = 0
    for path in ("", "mb", "mb"):
        said = lab.run("client", "curl", "-sS", "-o", "/dev/null", "-w",
                       "%{size_request} %{size_header} %{size_download}", f"http://{mesh.vip}/{path}").stdout
        request, header, download = map(int, said.split())
        sent, got = sent + request, got + header + download
    want = {"opened": 3, "closed": 3, "sent_bytes": sent, "received_bytes": got}

    def there():
        return dict(inbound(lab, "n2", "default/far") - before)

    def here():
        return [{k: r[k] for k in want} for r in traffic(lab, mesh.name).values()]
    labrun.wait_for(lambda: there().get("closed") == 3 and here()[0]["closed"] == 3, 5, "both ends closed")
    assert there() == want
    assert here() == [want]


def test_a_connect_that_is_given_up_is_counted_and_forgotten(lab, mesh):
    """Nobody has the endpoint's address: the SYN is never answered."""
    mesh.run(mesh.service(), mesh.slice("10.244.1.200"))
    mesh.wait("10.244.1.200:8080")
    s = lab.socket("client")
    s.setblocking(False)
    assert s.connect_ex((mesh.vip, 80)) == errno.EINPROGRESS
    shown = [c for c in lab.weftctl("connections")["connections"] if c["service"] == f"default/{mesh.name}"]
    assert [c["established"] for c in shown] == [False]
    s.close()
    rows = labrun.wait_for(lambda: traffic(lab, mesh.name), 5, "the row")
    assert [(r["opened"], r["closed"], r["failed"]) for r in rows.values()] == [(0, 0, 1)]
    assert not [c for c in lab.weftctl("connections")["connections"] if c["service"] == f"default/{mesh.name}"]


def test_no_connection_of_a_burst_is_miscounted(lab, mesh, load):
    """Thousands of short connections from two pods at once, on every CPU: the sums are exact."""
    lab.start("a", load, "answer", f"{lab.ip('a')}:8091", ready=8091)
    mesh.run(mesh.service(), mesh.slice("a", ports=[{"name": "http", "port": 8091}]))
    mesh.wait("a", at=8091)
    callers = {pod: lab.start(pod, load, "crr", f"{mesh.vip}:80", "--seconds", "1", "--clients", "16",
                              stdout=subprocess.PIPE) for pod in ("client", "other", "b")}
    said = {pod: labrun.json_lines(p.communicate(timeout=20)[0])[0]["count"] for pod, p in callers.items()}
    said = collections.Counter({f"cluster.local/ns/default/sa/{'default' if pod == 'b' else pod}": n
                                for pod, n in said.items()})

    def counted(what):
        return {source: r[what] for (source, _), r in traffic(lab, mesh.name).items()}
    labrun.wait_for(lambda: sum(counted("closed").values()) >= said.total(), 10, f"{said} closed")
    assert counted("opened") == counted("closed") == said
    assert counted("sent_bytes") == counted("received_bytes") == {who: 100 * n for who, n in said.items()}
    assert not any(counted("failed").values())


def test_refusals_name_source_service_and_pod(lab, mesh):
    mesh.run(mesh.service(), mesh.slice("a"), {
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": {"name": "no-other", "namespace": "default"},
        "spec": {"action": "DENY", "rules": [{"from": [{"source": {
            "principals": ["cluster.local/ns/default/sa/other"]}}], "to": [{"operation": {"ports": ["8080"]}}]}]}})
    mesh.wait("a")
    labrun.wait_for(lambda: any(p["pod"] == "default/a" and p["policies"] for p in lab.weftctl("pods")["pods"]), 5,
                    "the policy in force")
    for _ in range(3):
        refused(lab, "other", mesh.vip)
    refused(lab, "other", mesh.vip, 81)
    rows = {(r["source"], r["service"], r["pod"], r["reason"]): r["count"]
            for r in lab.weftctl("traffic")["refusals"]}
    who = "cluster.local/ns/default/sa/other"
    assert rows[who, f"default/{mesh.name}", "default/a", "denied"] == 3
    assert rows[who, "", "", "no_service_port"] == 1
    assert not traffic(lab, mesh.name)  # nothing was opened
