# SPDX-License-Identifier: Apache-2.0
"""weftctl against a running node: what it says is what the kernel does."""

import json
import os
import pathlib
import signal
import socket
import subprocess

import labrun
import pytest

from pairs import close, listen, pair, record, settle, shown, talk
from stopwatch import Stopwatch

LAB = """
[nodes.node]
[pods.client]
service_account = "client"
[pods.server]
service_account = "server"
labels = { app = "web" }
[pods.stranger]
service_account = "stranger"
"""
SPLICE = ("splice",)
VIP, VIP6, LONELY = "10.96.9.1", "fd00:96::9:1", "10.96.9.2"
SERVICE = f"""
apiVersion: v1
kind: Service
metadata: {{ name: web, namespace: default }}
spec: {{ clusterIPs: [{VIP}, "{VIP6}"], selector: {{ app: web }}, ports: [{{ port: 80, targetPort: 7500 }}] }}
---
apiVersion: v1
kind: Service
metadata: {{ name: lonely, namespace: default }}
spec: {{ clusterIP: {LONELY}, selector: {{ app: nobody }}, ports: [{{ port: 80 }}] }}
"""


def policy(name, action, *principals, port=7500):
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: {name}, namespace: default }}
spec:
  selector: {{ matchLabels: {{ app: web }} }}
  action: {action}
  rules:
  - from: [{{ source: {{ principals: [{", ".join(f"cluster.local/ns/default/sa/{p}" for p in principals)}] }} }}]
    to: [{{ operation: {{ ports: ["{port}"] }} }}]
"""


MANIFESTS = {"service.yaml": SERVICE, "policy.yaml": policy("clients", "ALLOW", "client")}


def program(lab, *args, **options):
    return subprocess.run([lab.build / "weftctl", "--instance", lab.instance(), *map(str, args)], capture_output=True,
                          text=True, check=False, timeout=60, **options)


def worker_pid(lab):
    return lab.weftctl("status", check=False)["worker"]["pid"]


def connects(lab, pod, to):
    s = lab.socket(pod, socket.AF_INET6 if ":" in to[0] else socket.AF_INET)
    s.settimeout(30)
    try:
        s.connect(to)
        return True
    except ConnectionRefusedError:
        return False
    finally:
        s.close()


@pytest.fixture
def listener(lab):
    s = listen(lab, "server", 7500, any_family=True)
    yield s
    s.close()


# ---------------------------------------------------------------- explain


@pytest.mark.parametrize("who", ["client", "stranger"])
@pytest.mark.parametrize("where", ["vip", "vip6", "pod", "pod6", "name", "other-port", "lonely", "no-port"])
def test_explain_says_what_connect_does(lab, listener, who, where):
    asked, to = {
        "vip": (f"{VIP}:80", (VIP, 80)),
        "vip6": (f"[{VIP6}]:80", (VIP6, 80)),
        "pod": ("default/server:7500", (lab.ip("server"), 7500)),
        "pod6": (f"[{lab.ip('server', 6)}]:7500", (lab.ip("server", 6), 7500)),
        "name": ("web.default", (VIP, 80)),
        "other-port": (f"{lab.ip('server')}:7501", None),
        "lonely": ("lonely.default:80", (LONELY, 80)),
        "no-port": (f"{VIP}:81", (VIP, 81)),
    }[where]
    said = lab.weftctl("explain", f"default/{who}", asked)
    if to:
        assert (said["verdict"] == "allowed") == connects(lab, who, to), said
    reason = {"lonely": "no_endpoint", "no-port": "no_service_port", "other-port": "not_allowed"}
    assert said["reason"] == reason.get(where, "none" if who == "client" else "not_allowed")
    code = program(lab, "explain", "--check", f"default/{who}", asked).returncode
    assert code == (0 if said["verdict"] == "allowed" else 1)


def test_explain_names_the_object(lab, listener):
    lab.manifest("deny.yaml", policy("no-clients", "DENY", "client"))
    labrun.wait_for(lambda: not connects(lab, "client", (VIP, 80)), 5, "the DENY in force")
    text = lab.weftctl("explain", "default/client", "web.default", text=True).stdout
    (lab.manifests / "deny.yaml").unlink()
    assert "AuthorizationPolicy default/no-clients rules[0] (deny.yaml:2)" in text
    assert text.splitlines()[-1].split()[:2] == ["=>", "refused"]
    labrun.wait_for(lambda: connects(lab, "client", (VIP, 80)), 5, "the DENY gone")


# ---------------------------------------------------------------- lists


def test_connections_keep_their_promise(lab):
    c, s = pair(lab, to=(VIP, 80), port=7500)
    seen = settle(lab, c, s)
    before = seen["bytes_sent"]
    talk(c, s)
    seen = shown(lab, c)
    assert seen["source"] == {"pod": "default/client", "address": lab.ip("client"), "port": c.getsockname()[1]}
    assert seen["destination"] == {"pod": "default/server", "address": lab.ip("server"), "port": 7500}
    assert (seen["service"], seen["asked_address"], seen["asked_port"]) == ("default/web", VIP, 80)
    assert seen["path"] == "splice" and seen["reason"] == "spliced"
    sent = sum(len(b"ping %d" % n) for n in range(50))
    assert (seen["bytes_sent"], seen["bytes_received"]) == (before + sent, before + sent)
    assert 0 <= seen["age_ms"] < 20000
    table = lab.weftctl("connections", "default/client", text=True).stdout.splitlines()
    assert table[0].split() == ["SOURCE", "DESTINATION", "SERVICE", "PATH", "REASON", "SENT", "RECEIVED", "AGE",
                                "IDENTITY"]
    assert any(line.split()[:5] == [f"default/client:{c.getsockname()[1]}", "default/server:7500", "default/web",
                                    "splice", "spliced"] for line in table)
    assert "no connections" in lab.weftctl("connections", "default/stranger", text=True).stdout
    close(c, s)


def test_bytes_count_however_they_went(lab):
    c, s = pair(lab, port=7500)
    block = os.urandom(1 << 20)
    for _ in range(4):  # more than a turn: part by the splice, part by TCP
        c.sendall(b"x")
        assert s.recv(1) == b"x"
        got = b""
        s.settimeout(20)
        while len(got) < len(block):
            s.sendall(block[len(got):len(got) + 65536])
            want = min(len(block), len(got) + 65536)
            while len(got) < want:
                got += c.recv(65536)
        assert got == block
    labrun.wait_for(lambda: shown(lab, c)["bytes_received"] == 4 * len(block), 5, "all bytes counted")
    assert shown(lab, c)["bytes_sent"] == 4
    close(c, s)


def test_pods_services_policy(lab):
    pods = {p["pod"]: p for p in lab.weftctl("pods")["pods"]}
    assert set(pods) == {"default/client", "default/server", "default/stranger"}
    assert pods["default/server"]["identity"] == "cluster.local/ns/default/sa/server"
    assert lab.ip("server") in pods["default/server"]["addresses"]
    services = {(s["service"], s["vip"]): s for s in lab.weftctl("services")["services"]}
    assert {e["pod"] for e in services["default/web", VIP]["endpoints"]} == {"default/server"}
    assert services["default/lonely", LONELY]["endpoint_count"] == 0
    one = lab.weftctl("policy", "default/server")["pods"][0]
    assert [p["policy"] for p in one["policies"]] == ["default/clients"]
    assert one["mtls"] == "PERMISSIVE"
    for command in ("pods", "services", "policy", "traffic", "status", "connections"):
        assert program(lab, command).stdout.strip()
    assert "default/server" in program(lab, "names").stdout.split()


def test_refusals_are_counted_with_their_reason(lab, listener):
    def count():
        return sum(r["count"] for r in lab.weftctl("traffic")["refusals"]
                   if r["reason"] == "not_allowed" and r["source"].endswith("sa/stranger"))

    before = count()
    for _ in range(5):
        assert not connects(lab, "stranger", (VIP, 80))
    assert count() == before + 5


def test_watch_shows_it_again(lab):
    with subprocess.Popen([lab.build / "weftctl", "--instance", lab.instance(), "-o", "json", "--watch", "0.2", "pods"],
                          stdout=subprocess.PIPE, text=True) as p:
        for _ in range(3):
            assert len(json.loads(p.stdout.readline())["pods"]) == 3
        p.terminate()


def test_unknown_names_are_told(lab):
    for args, code, says in ((("connections", "default/nobody"), 1, "no pod default/nobody"),
                             (("explain", "default/client", "nobody.default"), 1, "no service nobody"),
                             (("services", "default/nobody"), 1, "default/nobody"),
                             (("routes", "default/nobody"), 1, "there is no route default/nobody"),
                             (("gateways", "default/nobody"), 1, "there is no Gateway default/nobody"),
                             (("explain", "default/client", VIP + ":x"), 1, "not a port"),
                             (("pods", "nobody"), 2, "NAMESPACE/NAME")):
        for output in "table", "json":
            done = program(lab, "-o", output, *args)
            assert done.returncode == code and says in done.stderr and done.stderr.count("\n") == 1, done.stderr
            assert not done.stdout


def test_a_closed_output_is_an_error(lab):
    with open("/dev/full", "w", encoding="ascii") as full:
        done = subprocess.run([lab.build / "weftctl", "--instance", lab.instance(), "pods"], stdout=full,
                              stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1 and "No space left" in done.stderr


# ---------------------------------------------------------------- status


def test_status_names_a_rejected_object_and_waits(lab):
    lab.manifest("bad.yaml", policy("bad", "MAYBE", "client"))
    labrun.wait_for(lambda: not lab.ready(), 5, "not ready")
    done = lab.weftctl("status", check=False)
    problem = next(p for p in done["control"]["problems"] if not p["warning"])
    assert (problem["file"], problem["object"], problem["field"]) == \
        ("bad.yaml", "AuthorizationPolicy default/bad", "spec.action")
    assert problem["line"] > 0 and problem["reason"]
    text = program(lab, "status")
    assert text.returncode == 1 and "bad.yaml" in text.stdout
    assert program(lab, "status", "--wait", "0.2").returncode == 1
    with subprocess.Popen([lab.build / "weftctl", "--instance", lab.instance(), "status", "--wait", "20s"],
                          stdout=subprocess.DEVNULL) as p:
        assert p.poll() is None
        (lab.manifests / "bad.yaml").unlink()
        assert p.wait(10) == 0


def test_status_while_the_worker_is_stopped(lab):
    pid = worker_pid(lab)
    os.kill(pid, signal.SIGSTOP)
    try:
        done = program(lab, "status")
        assert "does not answer" in done.stdout and "KERNEL" in done.stdout
        assert "does not answer" in lab.weftctl("status", check=False)["control_error"]
    finally:
        os.kill(pid, signal.SIGCONT)
    labrun.wait_for(lambda: lab.weftctl("status")["control"], 5, "the worker's answer")


def test_clients_that_say_nothing_stop_nobody(lab):
    path = f"/run/weft/{lab.instance()}/admin.sock"
    silent = [socket.socket(socket.AF_UNIX) for _ in range(15)]
    for s in silent:
        s.connect(path)
    slow = socket.socket(socket.AF_UNIX)  # asks and does not read
    slow.connect(path)
    slow.sendall(b'{"command":"services"}\n')
    assert lab.weftctl("pods")["pods"]
    close(*silent, slow)


def test_a_request_that_is_no_request(lab):
    path = f"/run/weft/{lab.instance()}/admin.sock"
    for line in (b"\n", b"hello\n", b"[]\n", b"{}\n", b'{"command":5}\n', b'{"command":"explain"}\n',
                 b'{"command":"explain","source":"\\u0000","destination":"x"}\n', b"\x00\xff\n", b"{" * 60000 + b"\n"):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(30)
            s.connect(path)
            s.sendall(line)
            answer = b"".join(iter(lambda sock=s: sock.recv(65536), b""))
            assert "error" in json.loads(answer)
    assert lab.ready()


def test_only_root_may_ask(lab):
    # a copy that nobody can reach, wherever the tree stands
    copy = pathlib.Path("/tmp/weftctl-of-nobody")
    copy.write_bytes((lab.build / "weftctl").read_bytes())
    copy.chmod(0o755)
    try:
        for command in (("status",), ("pods",)):
            done = subprocess.run([copy, "--instance", lab.instance(), *command], capture_output=True, text=True,
                                  check=False, user=65534, group=65534, extra_groups=[])
            assert done.returncode == 1 and "root" in done.stderr and done.stderr.count("\n") == 1, done.stderr
    finally:
        copy.unlink()


# ---------------------------------------------------------------- records without a socket


def patched(lab, entry, was, now):
    """The entry with one u64 replaced, as bpftool takes it."""
    old = " ".join(f"0x{b:02x}" for b in was.to_bytes(8, "little"))
    new = " ".join(f"0x{b:02x}" for b in now.to_bytes(8, "little"))
    value = " ".join(entry["value"])
    assert old in value
    return {**entry, "value": value.replace(old, new).split()}


def update(lab, entry, name="conns"):
    path = f"/sys/fs/bpf/weft/{lab.instance()}/{name}"
    subprocess.run(["bpftool", "map", "update", "pinned", path, "key", "hex", *(b[2:] for b in entry["key"]), "value",
                    "hex", *(b[2:] for b in entry["value"])], check=True, capture_output=True)


STAGE, SLOT = 22, 68  # where they stand in struct abi_conn
LAST = 16383  # of pairs


def last_pair(lab):
    return lab.map("pairs")[LAST]


def spliced(lab, entry):
    """As a record that is spliced has them, with the last pair."""
    pair_, value = last_pair(lab), list(entry["value"])
    assert not pair_["formatted"]["value"]["conn"]
    update(lab, {**pair_, "value": entry["value"][:4] + pair_["value"][4:]}, "pairs")
    value[STAGE] = "0x02"
    value[SLOT:SLOT + 4] = [f"0x{b:02x}" for b in LAST.to_bytes(4, "little")]
    return {**entry, "value": value}


def test_a_record_without_a_socket_is_swept_and_a_live_one_is_not(lab):
    c, s = pair(lab, port=7500)
    talk(c, s)
    port = c.getsockname()[1]
    entry = next(e for e in lab.map("conns") if e["formatted"]["key"]["src_port"] == port)
    known = entry["formatted"]["value"]
    old = patched(lab, entry, known["opened_ns"], 1)  # as old as the machine
    stale = old
    for end in known.get("who", known["end"]):
        stale = patched(lab, stale, end["cookie"], end["cookie"] + (1 << 40))
    key = bytearray(int(b, 16) for b in entry["key"])
    at = bytes(key).index(port.to_bytes(2, "little"), 32)
    key[at:at + 2] = (1).to_bytes(2, "little")
    stale = spliced(lab, {**stale, "key": [f"0x{b:02x}" for b in key]})
    update(lab, old)
    update(lab, stale)
    assert {e["formatted"]["key"]["src_port"] for e in lab.map("conns")} >= {1, port}
    os.kill(worker_pid(lab), signal.SIGKILL)  # it sweeps when it starts
    labrun.wait_for(lambda: 1 not in {e["formatted"]["key"]["src_port"] for e in lab.map("conns")}, 10,
                    "the stale record gone")
    labrun.wait_for(lambda: not last_pair(lab)["formatted"]["value"]["conn"], 10, "and its pair given back")
    labrun.wait_for(lab.ready, 10, "ready again")
    assert shown(lab, c)["age_ms"] > 10000
    talk(c, s)
    assert lab.weftctl("status")["control"]["counts"]["swept"] == 1
    close(c, s)


# ---------------------------------------------------------------- who holds how many records

HOLDS = 16384  # of each half: what the pods' apps open, and what comes to the pods from elsewhere
ROOM = 131072


def number(value, size):
    return [f"{b:02x}" for b in value.to_bytes(size, "little")]


class Holds:
    """Map `holds`: how many records the pods have, and all of them together (None); of both halves."""

    def __init__(self, lab):
        self.path = f"/sys/fs/bpf/weft/{lab.instance()}/holds"
        pods = {e["formatted"]["value"]["name"]: e["formatted"]["value"]["pod"] for e in lab.map("pods")}
        self.places = {name.partition("/")[2]: 1 + n % (HOLDS - 1) for name, n in pods.items()} | {None: 0}

    def key(self, pod, arrived):
        return ["pinned", self.path, "key", "hex", *number(self.places[pod] + (HOLDS if arrived else 0), 4)]

    def of(self, pod=None, arrived=False):
        done = subprocess.run(["bpftool", "-j", "map", "lookup", *self.key(pod, arrived)], check=True,
                              capture_output=True, text=True)
        return json.loads(done.stdout)["formatted"]["value"]

    def set(self, pod, value, arrived=False):
        subprocess.run(["bpftool", "map", "update", *self.key(pod, arrived), "value", "hex", *number(value, 8)],
                       check=True, capture_output=True)

    def clear(self):
        for pod in self.places:
            self.set(pod, 0)
            self.set(pod, 0, True)

    def counted(self):
        return any(self.of(pod, arrived) for pod in self.places for arrived in (False, True))


@pytest.fixture
def holds(lab):
    labrun.wait_for(lambda: not lab.map("conns"), 10, "no connection left")
    h = Holds(lab)
    h.clear()  # records that tests have written are counted nowhere
    yield h
    h.clear()


def test_records_are_counted_for_the_pod_that_makes_them(lab, holds):
    many = [pair(lab, port=7500) for _ in range(3)] + [pair(lab, "stranger", "client")]
    assert {pod: holds.of(pod) for pod in holds.places} == {None: 4, "client": 3, "stranger": 1, "server": 0}
    many += [pair(lab, "node", "server", port=7501), pair(lab, "node", "stranger")]
    assert {pod: holds.of(pod) for pod in holds.places} == {None: 4, "client": 3, "stranger": 1, "server": 0}
    arrived = {pod: holds.of(pod, True) for pod in holds.places}
    assert arrived == {None: 2, "client": 0, "stranger": 1, "server": 1}
    refused = lab.socket("stranger")
    with pytest.raises(ConnectionRefusedError):
        refused.connect((lab.ip("stranger", 4), 9))  # itself: no record
    close(refused, *(s for both in many for s in both))
    labrun.wait_for(lambda: not holds.counted(), 10, "all given back")
    assert not lab.map("conns")


def unrecorded(lab, c):
    port = c.getsockname()[1]
    return not [e for e in lab.map("conns") if e["formatted"]["key"]["src_port"] == port]


def test_who_comes_from_elsewhere_takes_no_room_of_the_pod(lab, holds):
    """Anybody may open connections to a pod; what it opens itself must have a record, or it is refused."""
    holds.set("stranger", ROOM // 2 - 1)  # as if it had so many: room for one more
    holds.set(None, ROOM // 2 - 1)
    arrived = pair(lab, "node", "stranger")
    talk(*arrived)
    opened = pair(lab, "stranger", "client")
    assert record(lab, opened[0])["client_netns"] and record(lab, arrived[0])["reason"]
    close(*opened)
    labrun.wait_for(lambda: holds.of("stranger") == ROOM // 2 - 1, 10, "the record gone")
    holds.clear()
    holds.set("stranger", ROOM // 4, True)  # half of what may come from elsewhere
    holds.set(None, ROOM // 4, True)
    more = pair(lab, "node", "stranger")
    talk(*more)
    others = [pair(lab, "node", "server", port=7501), pair(lab, "stranger", "client")]
    assert unrecorded(lab, more[0]) and not any(unrecorded(lab, c) for c, _ in others)
    holds.set(None, ROOM // 2, True)  # all of it
    last = pair(lab, "node", "server", port=7501)
    opened = pair(lab, "stranger", "client")
    assert unrecorded(lab, last[0]) and record(lab, opened[0])["client_netns"]
    close(*arrived, *more, *last, *opened, *(s for both in others for s in both))


def test_a_pod_that_has_its_share_takes_nothing_from_others(lab, holds):
    holds.set("client", ROOM // 2)  # as if it had so many
    holds.set(None, ROOM // 2)
    greedy = pair(lab, "client", "stranger")  # by TCP; its server's pod makes the record, as of one from elsewhere
    talk(*greedy)
    with listen(lab, "server", 7500):
        assert not connects(lab, "client", (lab.ip("server"), 7500)), "who asks for a principal sees nobody"
    other = pair(lab, "stranger", "client")
    talk(*other)
    assert not record(lab, greedy[0])["client_netns"] and record(lab, other[0])["client_netns"]
    assert (holds.of("client"), holds.of("stranger"), holds.of("stranger", True)) == (ROOM // 2, 1, 1)
    assert {e["name"]: e["count"] for e in lab.weftctl("status")["control"]["reasons"]}["map_full"] >= 1
    holds.set("client", ROOM // 2 - 3)  # some have ended
    again = pair(lab, "client", "stranger")
    assert record(lab, again[0])["client_netns"]
    close(*greedy, *other, *again)
    labrun.wait_for(lambda: not lab.map("conns"), 10, "all given back")
    assert (holds.of("client"), holds.of("stranger"), holds.of("stranger", True)) == (ROOM // 2 - 3, 0, 0)


# ---------------------------------------------------------------- the burst


def test_a_policy_ends_thousands_at_once(lab, listener):
    many = 2000
    clients = lab.sockets("client", many)
    for c in clients:
        c.connect((VIP, 80))
    held = [listener.accept()[0] for _ in range(many)]
    watch = Stopwatch(lab)
    lab.manifest("policy.yaml", policy("clients", "ALLOW", "somebody-else"))
    labrun.wait_for(lambda: not lab.map("conns"), 10, "no connection left", every=0.005)
    took = watch.seconds()
    for c in clients:
        with pytest.raises(OSError):
            c.send(b"x")
    assert lab.weftctl("status")["control"]["counts"]["destroyed"] >= many
    close(*clients, *held)
    lab.manifest("policy.yaml", MANIFESTS["policy.yaml"])
    labrun.wait_for(lambda: connects(lab, "client", (VIP, 80)), 5, "the old policy again")
    assert took < 2
