# SPDX-License-Identifier: Apache-2.0
"""The splice: which connections it takes, how it is switched, and that no byte is lost or moved by it."""

import json
import socket
import time

import labrun
import pytest

from pairs import Streams, close, listen, pair, record, shown, talk

LAB = """
[nodes.node]
[pods.client]
[pods.server]
ips = ["10.244.1.200", "fd00:244:0:1::200"]
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
    talk(c, s)
    seen = shown(lab, c)
    close(c, s)
    assert (seen["path"], seen["reason"]) == (path, reason)


def test_the_annotation_of_a_service(lab):
    c, s = pair(lab, to=(VIP, 80), port=7200)
    talk(c, s)
    seen = shown(lab, c)
    close(c, s)
    assert (seen["path"], seen["reason"], seen["service"]) == ("tcp", "service_off", "default/plain")


def test_an_ipv4_client_of_a_dual_stack_server(lab):
    c, s = pair(lab, any_family=True)
    assert s.getpeername()[0].startswith("::ffff:")
    talk(c, s)
    seen = shown(lab, c)
    close(c, s)
    assert seen["path"] == "splice"


def test_an_ipv6_socket_that_connects_to_a_mapped_address(lab):
    listener = listen(lab, "server")
    c = lab.socket("client", socket.AF_INET6)
    c.settimeout(20)
    c.connect(("::ffff:" + lab.ip("server"), listener.getsockname()[1]))
    s, _ = listener.accept()
    talk(c, s)
    seen = shown(lab, c)
    close(c, s, listener)
    assert seen["path"] == "splice"


def test_switched_on_and_off_while_both_sides_stream(lab):
    c, s = pair(lab, server="eager")
    talk(c, s)
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
    talk(c, s)

    def spliced():
        return sum(end["spliced_msgs"] for end in record(lab, c)["end"])

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


def test_ports_of_short_connections_are_learnt(lab, load):
    server = lab.start("server", load, "answer", f"{lab.ip('server')}:7999", ready=7999)
    lab.run("client", load, "crr", f"{lab.ip('server')}:7999", "--seconds", "0.3")
    before = reasons(lab)
    lab.run("client", load, "crr", f"{lab.ip('server')}:7999", "--seconds", "0.3")
    after = reasons(lab)
    lab.stop(server)
    short = after["class_short"] - before["class_short"]
    spliced = after["spliced"] - before["spliced"]
    assert short > 10 * spliced > 0  # nearly all by TCP, a sample is tried


def test_bulk_leaves_and_its_port_is_learnt(lab, load):
    server = lab.start("server", load, "sink", f"{lab.ip('server')}:7998", ready=7998)
    for _ in range(4):
        out = lab.run("client", load, "stream", f"{lab.ip('server')}:7998", "--size", 131072, "--seconds", "0.8").stdout
        assert json.loads(out)["gbit_s"] > 0.5
    before = reasons(lab)
    stream = lab.start("client", load, "stream", f"{lab.ip('server')}:7998", "--size", 131072, "--seconds", "20")
    seen = labrun.wait_for(lambda: next((x for x in lab.weftctl("connections")["connections"]
                                         if x["destination"]["port"] == 7998 and x["bytes_sent"] > 1 << 20), None), 10,
                           "the stream in weftctl connections")
    lab.stop(stream)
    lab.stop(server)
    assert seen["path"] == "tcp" and seen["reason"] in ("class_bulk", "bulk")
    assert before["bulk"] >= 2


def reasons(lab):
    """Counters of the kernel by name, summed over CPUs."""
    names = {r["number"]: r["name"] for r in lab.weftctl("reasons")["reasons"]}
    found = dict.fromkeys(names.values(), 0)
    for entry in lab.map("reasons"):
        number = entry["formatted"]["key"]
        if number in names:
            found[names[number]] += sum(v["value"] for v in entry["formatted"]["values"])
    return found
