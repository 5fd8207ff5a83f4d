# SPDX-License-Identifier: Apache-2.0
"""
The way back in a pod: a socket that is bound to a client's address reaches the pod's own server, which sees that
address, and its answers arrive; with strict rp_filter, IPv4 and IPv6. Made when the worker first delivers something to
the pod, gone with its enrolment.
"""

import json
import socket

import pytest

import labrun
from pairs import listen

LAB = """
[nodes.node]
[pods.app]
[pods.other]
[pods.v4]
"""
SPLICE = ("splice",)

MARK, IP_TRANSPARENT, IPV6_TRANSPARENT, IP_BIND_ADDRESS_NO_PORT = 0x539, 19, 75, 24
SWITCHES = ("ipv4/tcp_fwmark_accept", "ipv4/fwmark_reflect", "ipv6/fwmark_reflect")
FOREIGN = {socket.AF_INET: "192.0.2.77", socket.AF_INET6: "2001:db8::77"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}


def inside(lab, pod, *argv):
    return lab.run(pod, *argv).stdout


def switches(lab, pod):
    return [inside(lab, pod, "cat", f"/proc/sys/net/{name}").strip() for name in SWITCHES]


def put(lab, pod, name, value):
    inside(lab, pod, "sh", "-c", f"echo {value} >/proc/sys/net/{name}")


def enrol(lab, pod, *families):
    addresses = ",".join(lab.ip(pod, f) for f in families or (4, 6))
    path = f"/run/netns/{lab.pods[pod]['netns']}"
    lab.weftctl("pod", "add", f"default/{pod}", "--netns", path, "--ip", addresses, text=True)


def there(lab, pod, family):
    rules = inside(lab, pod, "ip", f"-{family}", "rule", "show", "pref", "100")
    routes = lab.run(pod, "ip", f"-{family}", "route", "show", "table", "15008", check=False).stdout
    return "fwmark 0x539/0xfff" in rules, "local default dev lo" in routes


def objects(pod, vip, address):
    return [{"apiVersion": "v1", "kind": "Service",
             "metadata": {"name": pod, "namespace": "default", "annotations": {"weft.io/proxy": "always"}},
             "spec": {"clusterIPs": [vip], "ports": [{"name": "tcp", "port": 80, "targetPort": 7600}]}},
            {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
             "metadata": {"name": f"{pod}-1", "namespace": "default",
                          "labels": {"kubernetes.io/service-name": pod}},
             "addressType": "IPv4", "ports": [{"name": "tcp", "port": 7600, "protocol": "TCP"}],
             "endpoints": [{"addresses": [address], "conditions": {"ready": True}}]}]


def delivered(lab, pod):
    """What the worker brings to the pod's app; from then on the way back is there."""
    vip = f"10.96.77.{1 + sorted(lab.pods).index(pod)}"
    lab.manifest(f"{pod}.json", json.dumps({"apiVersion": "v1", "kind": "List",
                                            "items": objects(pod, vip, lab.ip(pod))}))
    labrun.wait_for(lambda: any(s["vip"] == vip and s["in_kernel"] and s["endpoints"]
                                for s in lab.weftctl("services")["services"]), 30, f"service {pod}")
    with listen(lab, pod, 7600) as listener, lab.socket("app" if pod != "app" else "other") as client:
        listener.settimeout(30)
        client.settimeout(30)
        client.connect((vip, 80))
        client.sendall(b"a")
        server, _ = listener.accept()
        with server:
            server.settimeout(30)
            assert server.recv(1) == b"a"
            server.sendall(b"b")
            assert client.recv(1) == b"b"


def deliver(lab, pod, family, port):
    """As the worker does: from an address that is nobody's in the pod, to the pod's own port."""
    s = lab.socket(pod, FAMILIES[family])
    s.settimeout(30)
    s.setsockopt(*((socket.IPPROTO_IPV6, IPV6_TRANSPARENT) if family == 6 else (socket.SOL_IP, IP_TRANSPARENT)), 1)
    s.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, MARK)
    s.bind((FOREIGN[s.family], 0))
    s.connect((lab.ip(pod, family), port))
    return s


@pytest.mark.parametrize("rp_filter", [0, 1, 2])
@pytest.mark.parametrize("family", [4, 6])
def test_the_server_sees_the_client(lab, family, rp_filter):
    delivered(lab, "app")
    for name in ("all", "default", "lo", "eth0"):
        put(lab, "app", f"ipv4/conf/{name}/rp_filter", rp_filter)
    with listen(lab, "app", 7601, socket.AF_INET6, any_family=True) as listener:
        with deliver(lab, "app", family, 7601) as client:
            server, peer = listener.accept()
            with server:
                assert peer[0].removeprefix("::ffff:") == FOREIGN[FAMILIES[family]]
                assert peer[1] == client.getsockname()[1]
                blob = bytes(range(256)) * 4096
                client.sendall(blob[:70000])
                assert server.recv(70000, socket.MSG_WAITALL) == blob[:70000]
                server.settimeout(30)
                server.sendall(blob[:70000])
                assert client.recv(70000, socket.MSG_WAITALL) == blob[:70000]
                client.shutdown(socket.SHUT_WR)
                assert server.recv(1) == b""
                server.sendall(b"after")
                assert client.recv(5) == b"after"


@pytest.mark.parametrize("family", [4, 6])
def test_nobody_listens(lab, family):
    delivered(lab, "app")
    with pytest.raises(ConnectionRefusedError):  # at once: the RST finds back
        deliver(lab, "app", family, 7602)


def test_everybody_else_goes_on(lab):
    delivered(lab, "app")
    for family in (4, 6):
        with listen(lab, "app", 7603, FAMILIES[family]) as listener, lab.socket("other", FAMILIES[family]) as client:
            client.connect((lab.ip("app", family), 7603))
            server, peer = listener.accept()
            with server:
                assert peer[0] == lab.ip("other", family)
                assert server.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == 0


def test_made_when_needed_and_removed_with_the_enrolment(lab):
    lab.weftctl("pod", "del", "default/other", text=True)
    enrol(lab, "other")
    assert there(lab, "other", 4) == there(lab, "other", 6) == (False, False)
    assert switches(lab, "other") == ["0", "0", "0"]
    delivered(lab, "other")
    assert there(lab, "other", 4) == there(lab, "other", 6) == (True, True)
    assert switches(lab, "other") == ["1", "1", "1"]
    lab.weftctl("pod", "del", "default/other", text=True)
    assert there(lab, "other", 4) == there(lab, "other", 6) == (False, False)
    assert switches(lab, "other") == ["0", "0", "0"]
    put(lab, "other", SWITCHES[0], 1)  # somebody's own: it stays
    enrol(lab, "other")
    delivered(lab, "other")
    lab.kill_weft()
    lab.start_weft()
    assert there(lab, "other", 4) == there(lab, "other", 6) == (True, True)
    delivered(lab, "other")
    assert there(lab, "other", 4) == there(lab, "other", 6) == (True, True)
    assert len(inside(lab, "other", "ip", "rule", "show", "pref", "100").splitlines()) == 1
    lab.weftctl("pod", "del", "default/other", text=True)
    assert there(lab, "other", 4) == (False, False)
    assert switches(lab, "other") == ["1", "0", "0"]
    enrol(lab, "other")


def test_without_ipv6(lab):
    lab.weftctl("pod", "del", "default/v4", text=True)
    put(lab, "v4", "ipv6/conf/all/disable_ipv6", 1)
    enrol(lab, "v4", 4)
    delivered(lab, "v4")
    assert there(lab, "v4", 4) == (True, True) and not there(lab, "v4", 6)[1]
    with listen(lab, "v4", 7604) as listener, deliver(lab, "v4", 4, 7604):
        assert listener.accept()[1][0] == FOREIGN[socket.AF_INET]
