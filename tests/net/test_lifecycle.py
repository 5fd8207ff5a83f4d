# SPDX-License-Identifier: Apache-2.0
"""
The life of weftd: start, start twice, killed and started again, ended, uninstalled; pods enrolled, refused and
gone; what it says where it cannot run. Each test has an instance, a cgroup and netns of its own (prefix `lc-`), which
are removed first too: a run that was killed leaves nothing for the next one.
"""

import fcntl
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from labrun import wait_for  # noqa: E402
from stopwatch import Stopwatch  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
WEFTD, WEFTCTL = BUILD / "weftd", BUILD / "weftctl"
INSTANCE = "lc-test"
PREFIX = "lc-"
PORTS = (15001, 15006, 15008)
THREADS = 2  # each has listeners of its own
LISTENERS = sorted(PORTS * THREADS)

# docs/operations.md gives the reason of each
KEPT = {"dac_read_search": 2, "kill": 5, "setgid": 6, "setuid": 7, "setpcap": 8, "net_admin": 12, "sys_ptrace": 19,
        "sys_admin": 21, "bpf": 39}


def run(*argv, code=0, **options):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, timeout=60, **options)
    assert code is None or done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def cgroup_root():
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return pathlib.Path(line.split()[1])
    raise AssertionError("no cgroup v2")


def ended(pid):
    """Ended with all its threads, though whoever inherited it may not have waited for it yet: its files are closed."""
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        try:
            if (task / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                return False
        except OSError:
            continue
    return True


def bpftool(*argv):
    return json.loads(run("bpftool", "-j", *argv).stdout or "[]")


def pin(name):
    return f"/sys/fs/bpf/weft/{INSTANCE}/{name}"


def link(name):
    return bpftool("link", "show", "pinned", pin(name))


def map_id(name):
    return bpftool("map", "show", "pinned", pin(name))["id"]


def netns_names():
    folder = pathlib.Path("/run/netns")
    return [p.name for p in folder.iterdir() if p.name.startswith(PREFIX)] if folder.exists() else []


class Daemon:
    def __init__(self, tmp):
        self.tmp, self.process, self.starts = tmp, None, 0
        self.cgroup = cgroup_root() / INSTANCE
        self.cgroup.mkdir(exist_ok=True)
        self.log = None

    def argv(self, *more):
        return [str(WEFTD), "--instance", INSTANCE, "--cgroup", str(self.cgroup), "--log-level", "debug",
                "--threads", str(THREADS), *more]

    def start(self, *more, ready=True, **options):
        self.starts += 1
        self.log = self.tmp / f"weftd-{self.starts}.log"
        with open(self.log, "w", encoding="utf-8") as out:
            self.process = subprocess.Popen(self.argv(*more), stderr=out, stdin=subprocess.DEVNULL, **options)
        if ready:
            wait_for(lambda: os.path.exists(f"/run/weft/{INSTANCE}/weftd.sock") or self.process.poll() is not None, 20)
            done = self.ctl("status", "--wait", "20s", code=None)
            assert done.returncode == 0, done.stdout + done.stderr + self.log.read_text()
        return self.process

    def ctl(self, *argv, code=0):
        return run(WEFTCTL, "--instance", INSTANCE, *argv, code=code)

    def status(self):
        return json.loads(self.ctl("-o", "json", "status", code=None).stdout)

    def worker(self):
        return int(pathlib.Path(f"/run/weft/{INSTANCE}/worker.pid").read_text().split()[0])

    def kill_both(self):
        """SIGKILL to the supervisor, then to its worker: as a machine's OOM killer would."""
        worker = self.worker()
        self.process.kill()
        self.process.wait()
        try:
            os.kill(worker, signal.SIGKILL)
        except ProcessLookupError:
            pass
        wait_for(lambda: ended(worker), 10)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def add(self, name, *argv, code=0, netns=None):
        return self.ctl("pod", "add", f"default/{name}", "--netns", netns or f"/run/netns/{PREFIX}{name}", *argv,
                        code=code)

    def clean(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        run(WEFTD, "--uninstall", "--instance", INSTANCE)
        for name in netns_names():
            run("ip", "netns", "del", name)
        wait_for(lambda: "populated 0" in (self.cgroup / "cgroup.events").read_text(), 10)
        self.cgroup.rmdir()


@pytest.fixture(scope="module", autouse=True)
def alone():
    """Names are fixed, so that the next run can clean up after this one: one run of this module at a time."""
    with open("/run/lock/weft-test-lifecycle", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture
def daemon(tmp_path):
    d = Daemon(tmp_path)
    d.clean()
    d = Daemon(tmp_path)
    yield d
    d.clean()


class Netns:
    """A netns whose death shows: its veth's other end vanishes with it."""

    def __init__(self, name):
        self.name, self.veth = PREFIX + name, f"lcv-{name}"
        wait_for(self.gone, 10)  # of the test before
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.veth, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        run("ip", "-n", self.name, "link", "set", "lo", "up")

    def enter(self, *argv, **options):
        return run("nsenter", f"--net=/run/netns/{self.name}", *argv, **options)

    def listening(self):
        out = self.enter("ss", "-Hltn").stdout
        return sorted(int(line.split()[3].rpartition(":")[2]) for line in out.splitlines())

    def delete(self):
        run("ip", "netns", "del", self.name)

    def gone(self):
        return not os.path.exists(f"/sys/class/net/{self.veth}")


def left():
    """Traces of the instance, wherever it leaves any."""
    found = [p for p in (f"/run/weft/{INSTANCE}", f"/var/lib/weft/{INSTANCE}", f"/sys/fs/bpf/weft/{INSTANCE}")
             if os.path.exists(p)]
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            argv = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if argv[0].endswith(b"weftd") and INSTANCE.encode() in argv:
            found.append(f"process {process.name}")
    return found


def bpf_of(daemon):
    """Ids of links on our cgroup and of maps and programs that are pinned for us."""
    cgroup = daemon.cgroup.stat().st_ino
    links = {x["id"] for x in bpftool("link", "list") if x.get("cgroup_id") == cgroup}
    maps = {map_id(n) for n in ("pods", "conns", "splices", "settings")}
    programs = {bpftool("prog", "show", "pinned", str(p))["id"] for p in pathlib.Path(pin("progs")).iterdir()}
    return links, maps, programs


# ------------------------------------------------------------------ start


def test_starts_pins_and_says_ready(daemon):
    daemon.start()
    status = daemon.status()
    assert status["ready"] is True
    for name in ("weft_connect4", "weft_connect6", "weft_sockops", "weft_live"):
        assert link(f"links/{name}")["prog_id"] == bpftool("prog", "show", "pinned", pin(f"progs/{name}"))["id"]
    assert link("links/weft_connect4")["cgroup_id"] == daemon.cgroup.stat().st_ino
    assert os.stat(f"/run/weft/{INSTANCE}").st_mode & 0o777 == 0o700


def test_twice(daemon):
    first = daemon.start()
    second = run(*daemon.argv(), code=1)
    assert f"pid {first.pid}" in second.stderr and "running already" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert daemon.status()["ready"] is True


def test_killed_and_started_again_takes_everything_back(daemon):
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1,fd00:250::1", "--label", "app=a")
    daemon.ctl("splice", "off")
    links, maps, programs = bpf_of(daemon)
    inbound = link("netns/1")
    daemon.kill_both()
    # Nothing of the daemon runs; the kernel still decides.
    assert link("links/weft_connect4")["id"] in links
    assert a.listening() == []
    daemon.start()
    again_links, again_maps, again_programs = bpf_of(daemon)
    assert again_links == links, "links are updated in place: no moment without a program"
    assert again_maps == maps
    assert not programs & again_programs, "new programs"
    assert link("netns/1")["id"] == inbound["id"] and link("netns/1")["prog_id"] != inbound["prog_id"]
    assert a.listening() == LISTENERS
    pods = json.loads(daemon.ctl("-o", "json", "pods").stdout)["pods"]
    assert [p["pod"] for p in pods] == ["default/a"]
    settings = bpftool("map", "dump", "pinned", pin("settings"))[0]["formatted"]["value"]
    assert settings["splice_off"] == 1, "the operator's switch outlives the daemon"


def test_killed_worker_is_started_again(daemon):
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    for n in range(1, 4):
        before = daemon.worker()
        os.kill(before, signal.SIGKILL)
        wait_for(lambda b=before: daemon.worker() != b, 20)
        daemon.ctl("status", "--wait", "20s")
        assert a.listening() == LISTENERS, "listeners outlive the worker"
        assert f"{n} restart" in daemon.ctl("status").stdout
        assert "killed by signal 9 (Killed)" in daemon.ctl("status").stdout
        shown = daemon.status()["worker"]
        assert shown["restarts"] == n and shown["last_end"].startswith("killed by signal 9") and shown["ended_ms"] >= 0


def test_sigterm_ends_in_order_and_the_kernel_goes_on(daemon):
    Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    worker = daemon.worker()
    links, maps, _ = bpf_of(daemon)
    assert daemon.end() == 0
    assert ended(worker)
    assert not os.path.exists(f"/run/weft/{INSTANCE}/weftd.sock")
    assert bpf_of(daemon)[:2] == (links, maps)
    daemon.start()
    assert json.loads(daemon.ctl("-o", "json", "pods").stdout)["pods"]


def test_pins_of_another_version_are_replaced(daemon):
    daemon.start()
    maps = bpf_of(daemon)[1]
    daemon.end()
    value = bpftool("map", "lookup", "pinned", pin("settings"), "key", "0", "0", "0", "0")["value"]
    old = [int(b, 16) for b in value]
    run("bpftool", "map", "update", "pinned", pin("settings"), "key", "0", "0", "0", "0", "value", 99, *old[1:])
    daemon.start()
    assert not maps & bpf_of(daemon)[1]
    assert "another version" in daemon.log.read_text()


def test_another_cgroup_moves_the_links(daemon):
    daemon.start()
    links = bpf_of(daemon)[0]
    daemon.end()
    inner = daemon.cgroup / "inner"
    inner.mkdir()
    try:
        daemon.cgroup = inner
        daemon.start()
        assert link("links/weft_connect4")["cgroup_id"] == inner.stat().st_ino
        assert not links & {x["id"] for x in bpftool("link", "list")}
        daemon.end()
    finally:
        daemon.cgroup = inner.parent
        run(WEFTD, "--uninstall", "--instance", INSTANCE)
        inner.rmdir()


def test_notifies_systemd(daemon, tmp_path):
    path = str(tmp_path / "notify")
    for address, name in ((path, path), ("\0weft-lc-notify", "@weft-lc-notify")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(address)
            s.settimeout(20)
            daemon.start(env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": name})
            assert s.recv(4096) == b"READY=1"
            assert daemon.end() == 0
            assert s.recv(4096) == b"STOPPING=1"


def test_json_log(daemon):
    daemon.start("--log-format", "json")
    daemon.end()
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    assert any(line["message"] == "ready" and line["level"] == "info" for line in lines)


def test_sighup_reaches_the_worker(daemon):
    daemon.start()
    worker = daemon.worker()
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "SIGHUP" in daemon.log.read_text(), 5)
    daemon.ctl("status", "--wait", "20s")
    assert daemon.worker() == worker and "0 restarts" in daemon.ctl("status").stdout


SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.10, selector: {app: web}, ports: [{port: 80}]}
"""


def test_manifests_that_only_root_may_read(daemon, tmp_path):
    folder = tmp_path / "manifests"
    folder.mkdir(mode=0o700)
    (folder / "a.yaml").write_text(SERVICE)
    (folder / "a.yaml").chmod(0o600)
    os.mkfifo(folder / "fifo.yaml")
    outside = tmp_path / "outside.yaml"
    outside.write_text(SERVICE.replace("web", "outside"))
    outside.chmod(0o600)
    (folder / "link.yaml").symlink_to(outside)  # weftd opens nothing beyond the folder on the worker's behalf
    daemon.start("--manifests", str(folder), ready=False)
    wait_for(lambda: os.path.exists(f"/run/weft/{INSTANCE}/weftd.sock"), 20)
    wait_for(lambda: "default/web" in daemon.ctl("services", code=None).stdout, 20)
    assert "outside" not in daemon.ctl("services").stdout
    assert "link.yaml" in json.dumps(daemon.status())


# ------------------------------------------------------------------ uninstall


def test_uninstall_leaves_nothing(daemon):
    a, b = Netns("a"), Netns("b")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    daemon.add("b", "--ip", "10.250.0.2")
    refused = run(WEFTD, "--uninstall", "--instance", INSTANCE, code=1)
    assert f"pid {daemon.process.pid}" in refused.stderr
    inbound = {link("netns/1")["id"], link("netns/2")["id"]}
    links, maps, programs = bpf_of(daemon)
    daemon.end()
    run(WEFTD, "--uninstall", "--instance", INSTANCE)
    assert not left()
    # The kernel frees maps and programs behind an RCU grace period.
    wait_for(lambda: not (links | inbound) & {x["id"] for x in bpftool("link", "list")}, 10)
    wait_for(lambda: not programs & {x["id"] for x in bpftool("prog", "list")}, 10)
    wait_for(lambda: not maps & {x["id"] for x in bpftool("map", "list")}, 10)
    for netns in (a, b):
        netns.delete()
        wait_for(netns.gone, 10)
    run(WEFTD, "--uninstall", "--instance", INSTANCE)


def test_uninstall_after_a_kill(daemon):
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    links = bpf_of(daemon)[0]
    daemon.kill_both()
    run(WEFTD, "--uninstall", "--instance", INSTANCE)
    assert not left()
    wait_for(lambda: not links & {x["id"] for x in bpftool("link", "list")}, 10)
    a.delete()
    wait_for(a.gone, 10)


def test_probe_leaves_nothing(daemon):
    done = run(WEFTD, "--probe", "--instance", INSTANCE)
    programs, _, selftest = done.stdout.partition("\nself-test of the kernel")
    assert "connect4" in programs and "FAILED" not in programs
    assert "FIONREAD" in selftest  # what the kernel fails of it costs the splice, not weft
    assert "own sockets    ok" in programs
    done = run(WEFTD, "--probe", "--instance", INSTANCE, "--cgroup", daemon.cgroup)
    assert "own sockets    off" in done.stdout, "weftd is outside of the cgroup that it watches"
    assert not left()


# ------------------------------------------------------------------ pods


def test_pod_is_enrolled_updated_and_released(daemon):
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    assert a.listening() == LISTENERS
    first = link("netns/1")["id"]
    daemon.add("a", "--ip", "10.250.0.1,10.250.0.9", "--label", "app=a")
    assert link("netns/1")["id"] == first, "the same pod again is a change of it"
    pods = json.loads(daemon.ctl("-o", "json", "pods").stdout)["pods"]
    assert len(pods) == 1
    assert len(bpftool("map", "dump", "pinned", pin("pods"))) == 1
    daemon.ctl("pod", "del", "default/a")
    assert a.listening() == []
    assert not os.path.exists(pin("netns/1"))
    assert bpftool("map", "dump", "pinned", pin("pods")) == []
    assert "not enrolled" in daemon.ctl("pod", "del", "default/a", code=1).stderr
    daemon.add("a", "--ip", "10.250.0.1")
    assert os.path.exists(pin("netns/2")), "a number is never used again"
    a.delete()
    wait_for(a.gone, 10)


def test_pod_that_cannot_be_enrolled_is_refused_by_name(daemon):
    Netns("a"), Netns("b")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    cases = [
        ("b", ["--ip", "10.250.0.1"], None, "10.250.0.1 belongs to pod default/a"),
        ("b", ["--ip", "10.250.0.2"], f"/run/netns/{PREFIX}a", "is enrolled as pod default/a"),
        ("a", ["--ip", "10.250.0.1"], f"/run/netns/{PREFIX}b", "another network namespace"),
        ("b", ["--ip", "127.0.0.1"], None, "127.0.0.1 cannot be a pod's address"),
        ("b", ["--ip", "::"], None, ":: "),
        ("b", ["--ip", "ff02::1"], None, "ff02::1 cannot be a pod's address"),
        ("b", ["--ip", "10.250.0.2,10.250.0.2"], None, "given twice"),
        ("B", ["--ip", "10.250.0.2"], f"/run/netns/{PREFIX}b", "not a Kubernetes name"),
        ("b", ["--ip", "10.250.0.2"], "/proc/self/ns/net", "the node itself"),
        ("b", ["--ip", "10.250.0.2"], "/etc/passwd", "not a network namespace"),
        ("b", ["--ip", "10.250.0.2"], "/run/netns/lc-none", "lc-none"),
    ]
    for name, argv, netns, reason in cases:
        done = daemon.add(name, *argv, netns=netns, code=None)
        assert done.returncode in (1, 2) and reason in done.stderr, (argv, netns, done.stderr)
        assert len(done.stderr.splitlines()) == 1
    assert len(bpftool("map", "dump", "pinned", pin("pods"))) == 1
    daemon.add("b", "--ip", "10.250.0.2")


@pytest.mark.parametrize("port", PORTS)
@pytest.mark.parametrize("reuse", [False, True], ids=["alone", "reuseport"])
def test_port_in_use_is_named(daemon, port, reuse):
    b = Netns("b")
    daemon.start()
    app = ["nsenter", f"--net=/run/netns/{b.name}", sys.executable, "-c",
           f"import socket, sys; s = socket.create_server(('', {port}), reuse_port={reuse}); print(1, flush=True); "
           "sys.stdin.read()"]
    with subprocess.Popen(app, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        done = daemon.add("b", "--ip", "10.250.0.2", code=1)
        assert f"port {port} in the pod is in use" in done.stderr
        assert b.listening() == [port] and not os.path.exists(pin("netns/1"))
        holder.stdin.close()
        holder.wait()
    daemon.add("b", "--ip", "10.250.0.2")
    assert b.listening() == LISTENERS
    assert "Address already in use" in run(*app, code=1).stderr, "nobody joins the group of weft's listeners"


def test_worker_that_hangs_is_told_of(daemon):
    a = Netns("a")
    daemon.start()
    worker = daemon.worker()
    os.kill(worker, signal.SIGSTOP)
    try:
        done = daemon.add("a", "--ip", "10.250.0.1", code=1)
        assert "the worker has not answered in 5 s" in done.stderr
        assert daemon.status()["ready"] is False
    finally:
        os.kill(worker, signal.SIGCONT)
    daemon.ctl("status", "--wait", "20s")
    assert len(bpftool("map", "dump", "pinned", pin("pods"))) == 1
    a.delete()
    wait_for(a.gone, 2)


def test_netns_deleted_by_path(daemon):
    a, b = Netns("a"), Netns("b")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    daemon.add("b", "--ip", "10.250.0.2")
    watch = Stopwatch(pids=[daemon.process.pid, daemon.worker()])
    a.delete()
    wait_for(lambda: len(bpftool("map", "dump", "pinned", pin("pods"))) == 1, 5)
    assert watch.seconds() < 3  # by inotify, not by the slow look of 5 s
    wait_for(a.gone, 5)
    assert not os.path.exists(pin("netns/1")) and os.path.exists(pin("netns/2"))
    assert not b.gone()
    # Its name and its address are free at once.
    a = Netns("a")
    daemon.add("a", "--ip", "10.250.0.1")


def test_netns_of_a_process(daemon):
    a = Netns("a")
    daemon.start()
    sleepers = [subprocess.Popen(["nsenter", f"--net=/run/netns/{a.name}", "sleep", "600"]) for _ in range(2)]
    try:
        inode = os.stat(f"/run/netns/{a.name}").st_ino
        for s in sleepers:
            wait_for(lambda p=s.pid: os.stat(f"/proc/{p}/ns/net").st_ino == inode, 5)
        daemon.add("a", "--ip", "10.250.0.1", netns=f"/proc/{sleepers[0].pid}/ns/net")
        run("ip", "netns", "del", a.name)
        sleepers[0].kill()
        sleepers[0].wait()
        daemon.add("a", "--ip", "10.250.0.1", netns=f"/proc/{sleepers[1].pid}/ns/net")
        assert not a.gone(), "another process is in it"
        sleepers[1].kill()
        sleepers[1].wait()
        wait_for(a.gone, 2)
    finally:
        for s in sleepers:
            s.kill()
            s.wait()


def test_netns_gone_while_no_weftd_runs(daemon):
    a, b = Netns("a"), Netns("b")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    daemon.add("b", "--ip", "10.250.0.2")
    daemon.kill_both()
    a.delete()
    wait_for(a.gone, 10)
    daemon.start()
    wait_for(lambda: len(bpftool("map", "dump", "pinned", pin("pods"))) == 1, 10)
    assert not os.path.exists(pin("netns/1"))
    assert b.listening() == LISTENERS


def test_netns_replaced_while_no_weftd_runs(daemon):
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    daemon.kill_both()
    a.delete()
    wait_for(a.gone, 10)
    a = Netns("a")  # another one behind the same path: its cookie tells
    daemon.start()
    wait_for(lambda: bpftool("map", "dump", "pinned", pin("pods")) == [], 10)
    assert a.listening() == []


# ------------------------------------------------------------------ privileges


def caps(pid, which):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(which + ":"):
            return int(line.split()[1], 16)
    raise AssertionError(which)


def test_privileges(daemon):
    daemon.start()
    supervisor, worker = daemon.process.pid, daemon.worker()
    documented = (ROOT / "docs/operations.md").read_text()
    want = sum(1 << bit for bit in KEPT.values())
    for which in ("CapEff", "CapPrm", "CapBnd"):
        assert caps(supervisor, which) & ~want == 0
        assert caps(worker, which) == 0
    assert caps(supervisor, "CapInh") == caps(supervisor, "CapAmb") == 0
    for name in KEPT:
        assert f"CAP_{name.upper()}" in documented
    for pid in (supervisor, worker):
        assert "NoNewPrivs:\t1" in pathlib.Path(f"/proc/{pid}/status").read_text()
    status = pathlib.Path(f"/proc/{worker}/status").read_text()
    uid = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert len(set(uid)) == 1 and uid[0] != "0"
    assert "Seccomp:\t2" in status  # what it refuses: tests/unit/test_privilege.c
    assert "Groups:\t \n" in status or "Groups:\t\n" in status
    assert pathlib.Path(f"/proc/{worker}/environ").read_bytes() in (
        b"PATH=/usr/bin:/bin\0LC_ALL=C\0GLIBC_TUNABLES=glibc.malloc.tcache_count=64\0", b"")


def as_nobody(*argv, **options):
    return run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *argv, **options)


def test_without_root(daemon, tmp_path):
    # The build folder may be closed to others: run a copy.
    copy = pathlib.Path("/tmp") / f"weft-lc-{os.getpid()}"
    copy.mkdir(mode=0o755)
    try:
        run("cp", WEFTD, copy / "weftd")
        run("chmod", "755", copy, copy / "weftd")
        for argv in (["--instance", INSTANCE], ["--probe"], ["--uninstall", "--instance", INSTANCE]):
            done = as_nobody(copy / "weftd", *argv, code=1)
            assert "must be root" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
            assert not done.stdout.strip()
    finally:
        run("rm", "-r", copy)


def test_client_must_be_root(daemon):
    daemon.start()
    os.chmod(f"/run/weft/{INSTANCE}", 0o755)
    os.chmod("/run/weft", 0o755)
    os.chmod(f"/run/weft/{INSTANCE}/weftd.sock", 0o777)
    done = as_nobody(sys.executable, "-c", "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
                     f"s.connect('/run/weft/{INSTANCE}/weftd.sock'); print(len(s.recv(10)))")
    assert done.stdout == "0\n"


# ------------------------------------------------------------------ machines on which it cannot run


def one_sentence(done, *words):
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_without_bpffs(daemon):
    done = run("unshare", "-m", "sh", "-c", 'umount -l /sys/fs/bpf; exec "$@"', "sh", *daemon.argv(), code=1)
    one_sentence(done, "no bpffs", "mount -t bpf bpf /sys/fs/bpf")


def test_without_cgroup2(daemon):
    script = f'umount -l {cgroup_root()}; exec "$@"'
    done = run("unshare", "-m", "sh", "-c", script, "sh", WEFTD, "--instance", INSTANCE, code=1)
    one_sentence(done, "no cgroup v2", "mount -t cgroup2")
    done = run(WEFTD, "--instance", INSTANCE, "--cgroup", "/tmp", code=1)
    one_sentence(done, "--cgroup /tmp", "cgroup v2")
    assert not left()


def test_on_a_kernel_that_is_too_old(daemon):
    """The kernel itself can pass for an old one: personality(2) UNAME26."""
    for argv in (daemon.argv(), [WEFTD, "--probe"]):
        done = run("setarch", os.uname().machine, "--uname-2.6", *argv, code=1)
        one_sentence(done, "2.6", "too old", "6.1")


def test_on_a_kernel_without_btf(daemon):
    script = 'mount -t tmpfs none /sys/kernel/btf && exec "$@"'
    done = run("unshare", "-m", "sh", "-c", script, "sh", *daemon.argv(), code=1)
    one_sentence(done, "no BTF", "CONFIG_DEBUG_INFO_BTF")


def test_ip_netns_exec(daemon):
    a = Netns("a")
    done = run("ip", "netns", "exec", a.name, WEFTD, "--instance", INSTANCE, code=1)
    one_sentence(done, f"nsenter --net=/run/netns/{a.name}")


def test_inside_a_netns_by_nsenter(daemon):
    node, a = Netns("node"), Netns("a")
    daemon.log = daemon.tmp / "inside.log"
    with open(daemon.log, "w", encoding="utf-8") as out:
        daemon.process = subprocess.Popen(["nsenter", f"--net=/run/netns/{node.name}", *daemon.argv()], stderr=out)
    wait_for(lambda: os.path.exists(f"/run/weft/{INSTANCE}/weftd.sock"), 20)
    daemon.ctl("status", "--wait", "20s")
    assert "the node itself" in daemon.add("x", "--ip", "10.250.0.3", netns=f"/run/netns/{node.name}", code=1).stderr
    daemon.add("a", "--ip", "10.250.0.1")
    assert a.listening() == LISTENERS


# ------------------------------------------------------------------ command line


@pytest.mark.parametrize("argv, word", [
    (["--instance", "Bad"], "a-z, 0-9 and -"), (["--instance", ""], "instance"), (["--instance", "a" * 64], "63"),
    (["--instance", "../x"], "a-z"), (["--threads", "0"], "threads"), (["--log-level", "loud"], "log-level"),
    (["--nothing"], "--nothing"), (["word"], "word"), (["--node"], "--node"), (["--config", "/nonexistent"], "config"),
])
def test_wrong_usage(argv, word):
    done = run(WEFTD, *argv, code=2)
    one_sentence(done, word)


def test_config_file(daemon, tmp_path):
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    config = tmp_path / "weftd.conf"
    config.write_text(f"# what a node says\n\nnode = from-file\nmanifests = {manifests}\nlog-format = json\n")
    daemon.start("--config", str(config), "--node", "from-line")
    assert daemon.status()["node"] == "from-line"
    assert json.loads(daemon.log.read_text().splitlines()[0])
    daemon.end()
    config.write_text("node = x\nnodes = y\n")
    done = run(WEFTD, "--config", config, code=2)
    one_sentence(done, f"{config}:2:", "nodes")


def test_help_names_every_option():
    text = run(WEFTD, "--help").stdout
    manual = (ROOT / "docs/man/weftd.8").read_text().replace("\\-", "-")
    for line in text.splitlines():
        if line.startswith("  --"):
            assert line.split()[0] in manual
    assert run(WEFTD, "--version").stdout.startswith("weftd ")
