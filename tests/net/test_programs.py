# SPDX-License-Identifier: Apache-2.0
"""nginx behind a service and checked transfers between pods of one node: the same with splice on and off."""

import json
import subprocess

import labrun
import pytest

LAB = """
[nodes.node]
[pods.client]
service_account = "client"
[pods.other]
[pods.web-1]
labels = { app = "web" }
[pods.web-2]
labels = { app = "web" }
"""
VIP = "10.96.0.20"
VIP6 = "fd00:96::20"
MANIFESTS = {"service.yaml": f"""
apiVersion: v1
kind: Service
metadata: {{ name: web, namespace: default }}
spec:
  clusterIPs: ["{VIP}", "{VIP6}"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
  selector: {{ app: web }}
  ports: [{{ name: http, port: 80, targetPort: 8080 }}]
"""}
MIB = 1 << 20


def endpoint(lab, pod, family, port):
    return f"[{lab.ip(pod, 6)}]:{port}" if family == 6 else f"{lab.ip(pod)}:{port}"


@pytest.fixture(scope="module")
def nginx(lab):
    for pod in ("web-1", "web-2"):
        lab.nginx(pod, 8080, f"{pod}\n", files={"big": 8 * MIB})


@pytest.fixture
def server(lab, load):
    """Starts a load server in web-1 and ends it with the test."""
    started = []

    def start(role, family, port, *options, **more):
        p = lab.start("web-1", load, role, endpoint(lab, "web-1", family, port), *options, ready=port, **more)
        started.append(p)
        return p

    yield start
    for p in started:
        lab.stop(p)


def curl(lab, pod, url, *options):
    return lab.run(pod, "curl", "-gsS", "--max-time", "10", *options, url).stdout


@pytest.mark.parametrize("host", [VIP, f"[{VIP6}]"])
def test_a_service_spreads_over_its_pods(lab, nginx, host):
    said = [curl(lab, "client", f"http://{host}/") for _ in range(40)]
    assert set(said) == {"web-1\n", "web-2\n"}


@pytest.mark.parametrize("family", [4, 6])
def test_nginx_sees_the_address_of_the_client(lab, nginx, family):
    host = lab.ip("web-1", family)
    url = f"http://[{host}]:8080/whoami" if family == 6 else f"http://{host}:8080/whoami"
    said = curl(lab, "client", url)
    assert said.split()[0] == lab.ip("client", family)


def test_getpeername_shows_the_service(lab, nginx):
    s = lab.socket("client")
    s.settimeout(30)
    s.connect((VIP, 80))
    assert s.getpeername() == (VIP, 80)
    s.sendall(b"GET / HTTP/1.0\r\n\r\n")
    assert s.recv(1000).startswith(b"HTTP/1.1 200")
    s.close()


def test_a_large_file_arrives_whole(lab, nginx):
    done = lab.run("client", "curl", "-sS", "--max-time", "20", f"http://{VIP}/big", text=False)
    assert done.stdout == b"w" * (8 * MIB)


def test_wrk_has_no_error(lab, nginx):
    out = lab.run("client", "wrk", "-t1", "-c32", "-d1s", f"http://{VIP}/").stdout
    assert "Socket errors" not in out and "Non-2xx" not in out


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("size", [1, 1000, 65536, 300000])
def test_every_byte_of_a_conversation(lab, load, server, size, family, blocking):
    options = ["--size", size] + (["--blocking"] if blocking else [])
    server("echo", family, 7100, *options, "--nodelay")
    out = lab.run("client", load, "pingpong", endpoint(lab, "web-1", family, 7100), *options, "--nodelay", "--check",
                  "--seconds", "0.5").stdout
    assert json.loads(out)["count"] > 10


@pytest.mark.parametrize("nodelay", [False, True])
@pytest.mark.parametrize("size, total", [(1, 1 << 18), (1024, 32 * MIB), (16384, 256 * MIB), (100000, 512 * MIB)])
def test_every_byte_of_a_stream(lab, load, server, size, total, nodelay):
    options = ["--nodelay"] if nodelay else []
    server("sink", 4, 7101, "--check", *options)
    out = lab.run("client", load, "stream", endpoint(lab, "web-1", 4, 7101), "--size", size, "--bytes", total,
                  "--check", *options, timeout=60).stdout
    assert json.loads(out)["bytes"] == total


@pytest.mark.parametrize("size", [1, 100, 16384])
def test_a_reader_that_does_not_read_stops_the_writer(lab, load, server, splice, size):
    """Queued on the reader at most 1 MiB and 1000 messages; no ENOMEM; the writer blocks; every byte arrives."""
    slab = unreclaimable()
    reader = server("hold", 4, 7102, stdin=subprocess.PIPE)
    writer = lab.start("client", load, "flood", endpoint(lab, "web-1", 4, 7102), "--size", size,
                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    first = json.loads(writer.stdout.readline())
    assert first["blocked"] and not first["error"]
    assert unreclaimable() - slab < 64 * MIB
    flows = [f for e in lab.map("conns") if e["formatted"]["key"]["dst_port"] == 7102
             for f in e["formatted"]["value"]["end"]]
    assert flows
    for flow in flows:
        assert flow["queue_bytes"] <= MIB and flow["queue_msgs"] <= 1000
    if splice == "tcp":
        assert not any(f["spliced_bytes"] for f in flows)
    for p in (reader, writer):
        p.stdin.write(b"\n")
        p.stdin.flush()
    assert json.loads(writer.stdout.readline())["intact"]
    assert writer.wait(5) == 0


def unreclaimable():
    with open("/proc/meminfo", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("SUnreclaim:"))


def test_connections_come_and_go(lab, load, server):
    server("answer", 4, 7103)
    out = lab.run("client", load, "crr", endpoint(lab, "web-1", 4, 7103), "--seconds", "1").stdout
    assert json.loads(out)["count"] > 1000
    labrun.wait_for(lambda: not [e for e in lab.map("conns") if e["formatted"]["key"]["dst_port"] == 7103], 10,
                    "map conns without the closed connections")


def test_nobody_listens(lab):
    with pytest.raises(ConnectionRefusedError):
        lab.socket("client").connect((lab.ip("web-1"), 7999))


def test_a_live_conversation_is_shown_with_its_path(lab, load, server, splice):
    server("echo", 4, 7104, "--nodelay")
    talk = lab.start("client", load, "pingpong", endpoint(lab, "web-1", 4, 7104), "--nodelay", "--seconds", "30")

    def shown():
        found = [c for c in lab.weftctl("connections")["connections"] if c["destination"]["port"] == 7104]
        wanted = "spliced" if splice == "splice" else "switched_off"
        return found[0] if found and found[0]["bytes_sent"] > 100000 and found[0]["reason"] == wanted else None

    connection = labrun.wait_for(shown, 10, "the conversation in weftctl connections")
    assert connection["source"]["pod"] == "default/client"
    assert connection["destination"]["pod"] == "default/web-1"
    assert connection["path"] == ("splice" if splice == "splice" else "tcp")
    lab.stop(talk)
