# SPDX-License-Identifier: Apache-2.0
"""The splice: which connections it takes, how it is switched, and that no byte is lost or moved by it."""

import select
import socket
import time

import labrun
import pytest

from pairs import Streams, close, listen, pair, settle, shown, talk

LAB = """
[nodes.node]
[pods.client]
[pods.server]
ips = ["10.244.1.200", "fd00:244:0:1::200"]
[pods.late]
ips = ["10.244.1.201", "fd00:244:0:1::201"]
[pods.quiet]
annotations = { "weft.io/splice" = "off" }
[pods.eager]
annotations = { "weft.io/splice" = "always" }
"""
SPLICE = ("splice",)
VIP = "10.96.7.1"
MANIFESTS = {"service.yaml": f"""
apiVersion: v1
kind: Service
metadata: {{ name: plain, namespace: default, annotations: {{ weft.io/splice: "off" }} }}
spec:
  clusterIP: {VIP}
  ports: [{{ port: 80, targetPort: 7200 }}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{ name: plain-1, namespace: default, labels: {{ kubernetes.io/service-name: plain }} }}
addressType: IPv4
ports: [{{ port: 7200 }}]
endpoints: [{{ addresses: ["10.244.1.200"] }}]
"""}

@pytest.mark.parametrize("client, server, path, reason", [
    ("client", "server", "splice", "spliced"),
    ("quiet", "server", "tcp", "pod_off"),
    ("client", "quiet", "tcp", "pod_off"),
    ("client", "eager", "splice", "spliced"),
    ("quiet", "eager", "tcp", "pod_off"),  # off wins
])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_annotation_of_a_pod(lab, client, server, path, reason, family):
    c, s = pair(lab, client, server, family)
    seen = settle(lab, c, s, reason)
    close(c, s)
    assert (seen["path"], seen["reason"]) == (path, reason)


def test_the_annotation_of_a_service(lab):
    c, s = pair(lab, to=(VIP, 80), port=7200)
    seen = settle(lab, c, s, "service_off")
    close(c, s)
    assert (seen["path"], seen["reason"], seen["service"]) == ("tcp", "service_off", "default/plain")


def test_an_ipv4_client_of_a_dual_stack_server(lab):
    c, s = pair(lab, any_family=True)
    assert s.getpeername()[0].startswith("::ffff:")
    seen = settle(lab, c, s)
    close(c, s)
    assert seen["path"] == "splice"


def test_an_ipv6_socket_that_connects_to_a_mapped_address(lab):
    listener = listen(lab, "server")
    c = lab.socket("client", socket.AF_INET6)
    c.settimeout(20)
    c.connect(("::ffff:" + lab.ip("server"), listener.getsockname()[1]))
    s, _ = listener.accept()
    s.settimeout(20)
    seen = settle(lab, c, s)
    close(c, s, listener)
    assert seen["path"] == "splice"


def test_switched_on_and_off_while_both_sides_stream(lab):
    c, s = pair(lab, server="eager")
    settle(lab, c, s)
    toggles = 0
    with Streams(c, s) as streams:
        until = time.monotonic() + 4
        while time.monotonic() < until:
            lab.weftctl("splice", "off" if toggles % 2 == 0 else "on", text=True)
            toggles += 1
    lab.weftctl("splice", "on", text=True)
    assert toggles > 20
    assert min(streams.intact()) > 1 << 20
    close(c, s)


def test_the_switch_takes_effect_on_live_connections(lab):
    c, s = pair(lab)
    settle(lab, c, s)
    talk(c, s)

    def spliced():
        return shown(lab, c)["messages_spliced"]

    before = spliced()
    assert before > 50
    lab.weftctl("splice", "off", text=True)
    try:
        talk(c, s)
        assert spliced() == before
        assert shown(lab, c)["path"] == "tcp"
    finally:
        lab.weftctl("splice", "on", text=True)
    talk(c, s)
    assert spliced() > before
    assert shown(lab, c)["path"] == "splice"
    close(c, s)


def test_short_connections_stay_with_tcp(lab, load):
    server = lab.start("server", load, "answer", f"{lab.ip('server')}:7999", ready=7999)
    before = reasons(lab)
    lab.run("client", load, "crr", f"{lab.ip('server')}:7999", "--seconds", "1")
    after = reasons(lab)
    lab.stop(server)
    assert after["spliced"] == before["spliced"]


def test_bulk_stays_with_tcp(lab, load):
    server = lab.start("server", load, "sink", f"{lab.ip('server')}:7998", ready=7998)
    before = reasons(lab)
    stream = lab.start("client", load, "stream", f"{lab.ip('server')}:7998", "--size", 131072, "--seconds", "20")
    seen = labrun.wait_for(lambda: next((x for x in lab.weftctl("connections")["connections"]
                                         if x["destination"]["port"] == 7998 and x["reason"] == "bulk"), None), 10,
                           "the stream in weftctl connections")
    lab.stop(stream)
    lab.stop(server)
    assert seen["path"] == "tcp" and not seen["bytes_spliced"]
    assert reasons(lab)["spliced"] == before["spliced"]


def test_a_conversation_that_turns_to_bulk_leaves_and_comes_back(lab):
    c, s = pair(lab)
    settle(lab, c, s)
    c.settimeout(None)
    c.setblocking(False)
    block, sent, got = bytes(262144), 0, 0
    until = time.monotonic() + 10
    while shown(lab, c)["reason"] != "bulk" and time.monotonic() < until:
        for _ in range(100):
            try:
                sent += c.send(block)
            except BlockingIOError:
                got += len(s.recv(1 << 20))
    while got < sent:
        got += len(s.recv(1 << 20))
    c.settimeout(20)
    assert shown(lab, c)["reason"] == "bulk"
    settle(lab, c, s)
    talk(c, s)
    close(c, s)


def test_a_blocking_reader_is_left_alone(lab):
    c, s = pair(lab)
    s.settimeout(None)
    settle(lab, c, s, "blocking")
    s.settimeout(20)
    settle(lab, c, s)
    c.settimeout(None)  # on a connection that is spliced
    settle(lab, c, s, "blocking")
    close(c, s)


@pytest.mark.parametrize("option, value", [(socket.SO_RCVLOWAT, 2), (60, 1), (socket.SO_OOBINLINE, 1), (29, 1)])
def test_an_option_that_a_splice_would_change(lab, option, value):
    c, s = pair(lab)
    settle(lab, c, s)
    s.setsockopt(socket.SOL_SOCKET, option, value)
    before = shown(lab, c)["messages_spliced"]
    talk(c, s)
    assert shown(lab, c)["messages_spliced"] == before  # from the very next message on
    settle(lab, c, s, "socket_option")
    close(c, s)


def test_urgent_data_goes_by_tcp(lab):
    c, s = pair(lab)
    settle(lab, c, s)
    talk(c, s)  # the first message of each side goes by TCP
    s.setblocking(False)
    c.send(b"!", socket.MSG_OOB)
    labrun.wait_for(lambda: select.select([], [], [s], 0)[2], 5, "the urgent byte")
    assert s.recv(1, socket.MSG_OOB) == b"!"
    s.settimeout(20)
    settle(lab, c, s, "urgent")
    close(c, s)


def test_a_send_after_shutdown_fails(lab):
    c, s = pair(lab)
    settle(lab, c, s)
    c.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        c.send(b"more")
    assert s.recv(10) == b""
    close(c, s)


def test_a_pod_is_switched_off_while_it_talks(lab):
    """The annotation of a live pod: its connections go by TCP within a second or two, and come back."""
    c, s = pair(lab, server="late")
    settle(lab, c, s)
    lab.manifest("late.yaml", """
apiVersion: v1
kind: Pod
metadata: { name: late, namespace: default, annotations: { weft.io/splice: "off" } }
status: { podIP: 10.244.1.201, podIPs: [{ ip: 10.244.1.201 }] }
""")
    settle(lab, c, s, "pod_off")
    (lab.manifests / "late.yaml").unlink()
    settle(lab, c, s)
    close(c, s)


def reasons(lab):
    """Counters of the kernel by name, summed over CPUs."""
    names = {r["number"]: r["name"] for r in lab.weftctl("reasons")["reasons"]}
    found = dict.fromkeys(names.values(), 0)
    for entry in lab.map("reasons"):
        number = entry["formatted"]["key"]
        if number in names:
            found[names[number]] += sum(v["value"] for v in entry["formatted"]["values"])
    return found
