# SPDX-License-Identifier: Apache-2.0
"""
A weftd that a test starts and ends by itself, without a lab: fixture `daemon`. Each test has an instance, a cgroup and
netns of its own (prefix `lc-`), which are removed first too: a run that was killed leaves nothing for the next one. A
module imports the fixtures `alone` and `daemon`.
"""

import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

from labrun import lab_module, wait_for  # noqa: E402

cgroup_root, remove_cgroup = lab_module.cgroup_root, lab_module.remove_cgroup

BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
WEFTD, WEFTCTL = BUILD / "weftd", BUILD / "weftctl"
INSTANCE = "lc-test"
PREFIX = "lc-"
PORTS = (15001, 15006, 15008)
THREADS = 2  # each has listeners of its own
LISTENERS = sorted(PORTS * THREADS)

def run(*argv, code=0, **options):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False, timeout=60, **options)
    assert code is None or done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


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
    """bpftool 7.5 (Debian 13) shows it and then exits with 255."""
    return json.loads(run("bpftool", "-j", "link", "show", "pinned", pin(name), code=None).stdout)


def map_id(name):
    return bpftool("map", "show", "pinned", pin(name))["id"]


def of_another_version():
    """What is pinned, while no weftd runs."""
    value = bpftool("map", "lookup", "pinned", pin("settings"), "key", "0", "0", "0", "0")["value"]
    old = [int(b, 16) for b in value]
    run("bpftool", "map", "update", "pinned", pin("settings"), "key", "0", "0", "0", "0", "value", 99, *old[1:])


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
        remove_cgroup(self.cgroup)
        run(WEFTD, "--uninstall", "--instance", INSTANCE)
        for name in netns_names():
            run("ip", "netns", "del", name)


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
        # the other end is in the machine's netns, which a run in a container (check-setup) shares
        self.name, self.veth = PREFIX + name, f"lcv{os.stat('/proc/self/ns/pid').st_ino & 0xffff:04x}-{name}"
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


def is_ours(process):
    """Not of a run of the same tests in a container (check-setup), whose processes are in our /proc too."""
    return os.readlink(process / "ns/pid") == os.readlink("/proc/self/ns/pid")


def left():
    """Traces of the instance, wherever it leaves any."""
    found = [p for p in (f"/run/weft/{INSTANCE}", f"/var/lib/weft/{INSTANCE}", f"/sys/fs/bpf/weft/{INSTANCE}")
             if os.path.exists(p)]
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            argv = (process / "cmdline").read_bytes().split(b"\0")
            if argv[0].endswith(b"weftd") and INSTANCE.encode() in argv and is_ours(process):
                found.append(f"process {process.name}")
        except OSError:
            continue
    return found


def bpf_of(daemon):
    """Ids of links on our cgroup and of maps and programs that are pinned for us."""
    cgroup = daemon.cgroup.stat().st_ino
    links = {x["id"] for x in bpftool("link", "list") if x.get("cgroup_id") == cgroup}
    maps = {map_id(n) for n in ("pods", "conns", "splices", "settings")}
    programs = {bpftool("prog", "show", "pinned", str(p))["id"] for p in pathlib.Path(pin("progs")).iterdir()}
    return links, maps, programs


def as_nobody(*argv, **options):
    return run("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *argv, **options)


def one_sentence(done, *words):
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
