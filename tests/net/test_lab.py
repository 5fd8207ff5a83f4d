# SPDX-License-Identifier: Apache-2.0
"""tools/lab itself: what it makes, how fast, and that nothing of it is left, whatever kills it."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess

import labrun
import pytest

from stopwatch import in_time

TOOL = str(labrun.ROOT / "tools/lab")
BUILD = pathlib.Path(os.environ.get("BUILD") or labrun.ROOT / "build").resolve()
WEFT = False
LAB = """
[nodes.one]
[nodes.two]
[pods.web]
namespace = "shop"
service_account = "front"
labels = { app = "web" }
[pods.db]
[pods.c]
[pods.d]
[pods.e]
ips = ["10.244.1.77"]
[pods.far]
node = "two"
"""


def tool(*args):
    env = os.environ | {"BUILD": str(BUILD)}
    return subprocess.run([TOOL, *args], capture_output=True, text=True, check=False, timeout=60, env=env)


def goes_up(*args):
    done = tool("up", *args)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "labtest.lab"
    path.write_text('prefix = "labtest-"\n' + LAB)
    yield str(path)
    assert tool("down", str(path)).returncode == 0
    assert not left()


def left():
    netns = [n for n in os.listdir("/run/netns") if "labtest" in n]
    cgroups = [str(p) for p in (labrun.lab_module.cgroup_root() / "weft-lab").glob("labtest-*")]
    places = (labrun.lab_module.STATE, pathlib.Path("/run/weft"), pathlib.Path("/sys/fs/bpf/weft"))
    return netns + cgroups + [str(p) for place in places for p in place.glob("labtest*")]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("server", ["db", "far", "one", "two"])
def test_everybody_reaches_everybody(lab, server, family):
    port = 7000 + family
    sock_family = labrun.socket.AF_INET6 if family == 6 else labrun.socket.AF_INET
    listener = lab.socket(server, sock_family)
    listener.setsockopt(labrun.socket.SOL_SOCKET, labrun.socket.SO_REUSEADDR, 1)
    listener.bind((lab.ip(server, family), port))
    listener.listen()
    client = lab.socket("web", sock_family)
    client.settimeout(30)
    client.connect((lab.ip(server, family), port))
    peer, address = listener.accept()
    assert address[0] == lab.ip("web", family)  # no NAT
    for s in (client, peer, listener):
        s.close()


def test_every_netns_uses_cubic(lab):
    for name in [*lab.pods, *lab.nodes]:
        assert lab.congestion(name) == "cubic"
    client = lab.socket("web")
    name = client.getsockopt(labrun.socket.IPPROTO_TCP, labrun.socket.TCP_CONGESTION, 16)
    assert name.rstrip(b"\0") == b"cubic"
    client.close()


def test_processes_and_sockets_are_in_the_cgroup_of_the_pod(lab):
    own = lab.run("web", "cat", "/proc/self/cgroup").stdout
    assert f"0::/weft-lab/{lab.instance('one')}/web\n" in own


def test_addresses_of_the_file_are_taken(lab):
    assert lab.ip("e") == "10.244.1.77"
    with pytest.raises(labrun.LabError):
        lab.ip("e", 6)


def test_up_in_less_than_a_second(file):
    in_time(1, lambda: goes_up("--no-weft", file))
    listed = tool("list", file).stdout
    assert "shop/web" in listed and "labtest-web" in listed
    ran = tool("exec", "labtest-web", "--", "cat", "/proc/sys/net/ipv4/tcp_congestion_control")
    assert ran.stdout == "cubic\n"
    assert tool("exec", "labtest-web", "--", "sh", "-c", "exit 7").returncode == 7


def test_down_twice_and_of_nothing(file):
    assert tool("down", file).returncode == 0
    assert tool("up", "--no-weft", file).returncode == 0
    assert tool("down", file).returncode == 0
    assert tool("down", file).returncode == 0


def test_up_over_a_running_lab_replaces_it(file):
    assert tool("up", "--no-weft", file).returncode == 0
    sleeper = subprocess.Popen([TOOL, "exec", "labtest-db", "--", "sleep", "1000"])
    procs = labrun.lab_module.cgroup_root() / "weft-lab/labtest-one/db/cgroup.procs"
    labrun.wait_for(lambda: procs.read_text(), 5, "the process in its pod")
    assert tool("up", "--no-weft", file).returncode == 0
    assert sleeper.wait(5) == -signal.SIGKILL


def test_with_weft_up_in_less_than_a_second(file):
    """Two nodes, six pods, two weftd: all enrolled and ready when `up` returns."""
    in_time(2, lambda: goes_up(file))  # one second a node
    listed = tool("list", file).stdout
    assert listed.count("running") == 2 and listed.count("enrolled") == 6
    for node in ("labtest-one", "labtest-two"):
        ready = subprocess.run([str(BUILD / "weftctl"), "--instance", node, "status"], stdout=subprocess.DEVNULL,
                               check=False)
        assert ready.returncode == 0
    os.kill(int(pathlib.Path("/run/weft/labtest-one/lock").read_text()), signal.SIGKILL)
    labrun.wait_for(lambda: tool("list", file).stdout.count("running") == 1, 10, "its weftd is gone, its worker is not")


def test_two_nodes_with_weft_reach_each_other():
    with labrun.Running.from_text(LAB, "labtest", {}, build=BUILD, prefix="labtest-") as lab:
        lab.nginx("far", 80, "far\n")
        assert lab.run("web", "curl", "-sS", "--max-time", "30", f"http://{lab.ip('far')}/").stdout == "far\n"
        assert lab.run("one", "curl", "-sS", "--max-time", "30", f"http://{lab.ip('far')}/").stdout == "far\n"
    assert not left()


def test_weft_killed_before_down(file):
    assert tool("up", file).returncode == 0
    (labrun.lab_module.cgroup_root() / "weft-lab/labtest-one/cgroup.kill").write_text("1")
    assert tool("up", file).returncode == 0
    assert tool("down", file).returncode == 0
    assert not left()


@pytest.mark.parametrize("milliseconds", [50, 90, 120, 160, 200, 250, 300])
def test_killed_while_weft_comes_up(file, milliseconds):
    up = subprocess.Popen([TOOL, "up", "--build", str(BUILD), file], stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        up.wait(milliseconds / 1000)
    up.kill()
    up.wait()
    assert tool("down", file).returncode == 0
    assert not left()


@pytest.mark.parametrize("milliseconds", [0, 5, 10, 15, 20, 30, 45, 60, 90])
def test_killed_while_it_comes_up(file, milliseconds):
    """SIGKILL at many moments: `down` finds everything. The moment itself is what is tested, so it is a time."""
    up = subprocess.Popen([TOOL, "up", "--no-weft", file], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with contextlib.suppress(subprocess.TimeoutExpired):
        up.wait(0.03 + milliseconds / 1000)
    up.kill()
    up.wait()
    assert tool("down", file).returncode == 0
    assert not left()


def test_congestion_control_is_put_back(file):
    allowed = pathlib.Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
    saved = labrun.lab_module.STATE / "congestion"
    before = saved.read_text() if saved.exists() else allowed.read_text().strip()
    assert tool("up", "--no-weft", file).returncode == 0
    assert "cubic" in allowed.read_text().split()
    assert tool("down", file).returncode == 0
    if not any(labrun.lab_module.STATE.glob("*/state.json")):
        assert allowed.read_text().strip() == before


@pytest.mark.parametrize("text, says", [
    ("", "no node"),
    ("[nodes.a]\n[pods.p]\nnode = 'b'", "no node b"),
    ("[nodes.a]\n[pods.p]\nnamspace = 'x'", "unknown key 'namspace'"),
    ("[nodes.a]\n[pods.P_]", "a name is"),
    ("[nodes.a]\n[pods.p]\nips = ['1.2.3.4']", "1.2.3.4 is not in a network"),
    ("[nodes.a]\n[pods.p]\nips = ['1.2.3']", "pod p: '1.2.3' does not appear to be an IPv4 or IPv6 address"),
    ("[nodes.a]\n[pods.p]\nips = '10.244.1.10'", "pod p: ips is a list"),
    ("[nodes.a]\n[pods.p]\nlabels = 'x'", "pod p: labels and annotations are tables"),
    ("[nodes.a]\nipv4 = '10.0.0.1/24'", "node a: 10.0.0.1/24 has host bits set"),
    ("[nodes]\na = 3", "node a: it is a table"),
    ("nodes = 3", "nodes are tables"),
    ("prefix = 3\n[nodes.a]", "prefix is a text"),
    ("manifests = 'nowhere'\n[nodes.a]", "there is no folder"),
    ("[nodes.a]\ncpus = [4096]", "cpus is a list of numbers of CPUs that are there"),
    ("[nodes.a]\nx y", "line 2"),
])
def test_a_bad_file_is_refused_by_name(tmp_path, text, says):
    path = tmp_path / "bad.lab"
    path.write_text(text)
    done = tool("up", "--no-weft", str(path))
    assert done.returncode == 1
    assert says in done.stderr and done.stderr.count("\n") == 1
    assert not (labrun.lab_module.STATE / "bad").exists()


def test_a_lab_whose_file_went_wrong_is_taken_down(tmp_path):
    path = tmp_path / "wrong.lab"
    assert "No such file" in tool("down", str(path)).stderr
    for text in ("[nodes", None):
        path.write_text("prefix = 'labtest-'\n[nodes.n]\n[pods.p]\n")
        assert tool("up", "--no-weft", str(path)).returncode == 0
        assert os.path.exists("/run/netns/labtest-p")
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        done = tool("down", str(path))
        assert done.returncode == 0, done.stderr
        assert not os.path.exists("/run/netns/labtest-p")
    assert tool("down", str(path)).returncode == 1


def test_a_lab_is_taken_down_by_its_name(tmp_path):
    path = tmp_path / "named.lab"
    path.write_text("prefix = 'labtest-'\n[nodes.n]\n[pods.p]\n")
    assert tool("up", "--no-weft", str(path)).returncode == 0
    name = next(line.split()[0] for line in tool("list").stdout.splitlines() if "labtest-p" in line)
    done = tool("down", name)
    assert done.returncode == 0, done.stderr
    assert not os.path.exists("/run/netns/labtest-p")
    assert tool("down", name).returncode == 1


@pytest.mark.parametrize("args", [("--help",), ("down", "--help"), ("up", "-h"), ("help",)], ids=" ".join)
def test_help(args):
    done = tool(*args)
    assert (done.returncode, done.stderr) == (0, "") and "tools/lab up FILE" in done.stdout


def test_a_netns_of_somebody_else_is_not_touched(tmp_path, file):
    subprocess.run(["ip", "netns", "add", "labtest-db"], check=True)
    try:
        done = tool("up", "--no-weft", file)
        assert done.returncode == 1 and "labtest-db" in done.stderr
        assert os.path.exists("/run/netns/labtest-db")
    finally:
        subprocess.run(["ip", "netns", "del", "labtest-db"], check=False)


def test_one_owner_at_a_time():
    with labrun.Running.from_text(LAB, "labtest", weft=False, prefix="labtest-"):
        with pytest.raises(labrun.LabError, match="another process"):
            labrun.Running.from_text(LAB, "labtest", weft=False, prefix="labtest-")
    assert not left()


def test_wrong_usage():
    for args in ([], ["up"], ["fly", "x"], ["up", "--fast", "x"], ["exec", "pod"], ["exec", "pod", "--"]):
        assert tool(*args).returncode == 2, args
    assert tool("exec", "nobody", "--", "true").returncode == 1


def test_state_is_json_for_others(file):
    assert tool("up", "--no-weft", file).returncode == 0
    state = json.loads((labrun.lab_module.STATE / "labtest-labtest/state.json").read_text())
    assert {p["pod"] for p in state["pods"]} >= {"shop/web", "default/db"}


def test_the_wire_shows_what_nodes_say_to_each_other(lab):
    """What a test sees of the link: every byte between the nodes, and nothing of one node's own."""
    capture = lab.capture("tcp port 7009")
    for server, payload in (("far", b"across the wire"), ("db", b"inside of a node")):
        listener = lab.socket(server)
        listener.setsockopt(labrun.socket.SOL_SOCKET, labrun.socket.SO_REUSEADDR, 1)
        listener.bind((lab.ip(server), 7009))
        listener.listen()
        client = lab.socket("web")
        client.connect((lab.ip(server), 7009))
        peer, _ = listener.accept()
        client.send(payload)
        assert peer.recv(100) == payload
        for s in (client, peer, listener):
            s.close()
    seen = capture.stop()
    assert b"across the wire" in seen and b"inside of a node" not in seen


def test_a_connection_that_nobody_owns_holds_no_netns(make_lab):
    """Closed with bytes that the peer never gets: TCP would try for minutes, and the lab's end ends it."""
    lab = make_lab(LAB, name="orphan", weft=False)  # which looks for what is left
    with lab.socket("far") as listener, lab.socket("web") as client:
        listener.bind((lab.ip("far"), 7010))
        listener.listen()
        client.connect((lab.ip("far"), 7010))
        lab.run("web", "ip", "link", "set", "eth0", "down")
        client.send(b"nobody hears this")


def test_a_node_has_its_own_cores():
    with labrun.Running.from_text("[nodes.one]\ncpus = [0]\n[pods.a]\n", "cores", weft=False, prefix="cores-") as lab:
        assert lab.run("a", "sh", "-c", "grep Cpus_allowed_list /proc/self/status").stdout.split() == [
            "Cpus_allowed_list:", "0"]
