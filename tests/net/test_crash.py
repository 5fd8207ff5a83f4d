# SPDX-License-Identifier: Apache-2.0
"""
weftd and its worker are killed at any moment while pods come and go: what was promised stands afterwards, and nothing
else is left anywhere. WEFT_CRASHES and WEFT_PODS make the long ones longer.
"""

import contextlib
import ctypes
import os
import pathlib
import random
import signal
import struct
import subprocess
import sys
import time

from labrun import wait_for
from own_daemon import (INSTANCE, LISTENERS, PREFIX, WEFTCTL, WEFTD, Netns, alone, bpftool,  # noqa: F401
                        daemon, ended, is_ours, left, link, map_id, pin, run)

CRASHES, PODS = int(os.environ.get("WEFT_CRASHES", 12)), int(os.environ.get("WEFT_PODS", 60))
SEED = int(os.environ.get("WEFT_SEED", time.time()))
FILES = pathlib.Path("/run/weft", INSTANCE, "pods")
READERS = "weft-readers-6"
PIDFD_GETFD = 438


def cookies():
    """Of the enrolled pods, by name."""
    rows = [r["formatted"]["value"] for r in bpftool("map", "dump", "pinned", pin("pods"))]
    return {r["name"].partition("/")[2]: r["netns"] for r in rows}


def shared():
    """The map `members`, of all instances."""
    return map_id(f"../../{READERS}/members")


def members(number=None):
    return {r["formatted"]["key"] for r in bpftool("map", "dump", "id", number or shared())}


def lookups():
    """Ids of the sk_lookup links that are ours."""
    program = set(ours())
    return {x["id"] for x in bpftool("link", "list") if x["type"] == "netns" and x["prog_id"] in program}


def ours():
    """Programs that look at our map of addresses, old ones too."""
    addresses = map_id("addresses")
    return [p["id"] for p in bpftool("prog", "list") if addresses in p.get("map_ids", ())]


def files():
    return sorted(p.name for p in FILES.iterdir() if p.name not in ("next", "writing"))


def names():
    return sorted(p.name for p in pathlib.Path(pin("netns")).iterdir())


def fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


# ------------------------------------------------------------------ between two steps


def test_between_a_link_and_its_name(daemon):
    """Pinned as new_1, not yet renamed to 1: nobody was told yes, so it goes."""
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    cookie, lookup = cookies()["a"], link("netns/1")["id"]
    daemon.kill_both()
    os.rename(pin("netns/1"), pin("netns/new_1"))
    os.rename(FILES / "1", FILES / "1-new")
    daemon.start()
    wait_for(lambda: not cookies() and not files(), 10)
    assert names() == []
    assert lookup not in {x["id"] for x in bpftool("link", "list")}
    assert cookie not in members()
    assert a.listening() == []


def test_before_a_release_has_ended(daemon):
    """The file says that the pod leaves; all else is as before."""
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    cookie = cookies()["a"]
    assert cookie in members()
    daemon.kill_both()
    os.rename(FILES / "1", FILES / "1-leaving")
    daemon.start()
    wait_for(lambda: not cookies() and not files(), 10)
    assert names() == [] and cookie not in members() and a.listening() == []


def test_netns_that_is_another_pods_by_now(daemon):
    """What is left of the first must not take along what the second has."""
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    cookie = cookies()["a"]
    daemon.kill_both()
    for old in range(2, 40):  # so that some are found before it and some behind it
        data = bytearray((FILES / "1").read_bytes())
        struct.pack_into("I", data, 28, old)  # struct head; netns
        (FILES / f"{old}-leaving").write_bytes(data)
    daemon.start()
    wait_for(lambda: files() == ["1"], 10)
    assert cookies() == {"a": cookie} and cookie in members()
    assert names() == ["1"] and a.listening() == LISTENERS


@contextlib.contextmanager
def another_instance():
    """As --uninstall sees it."""
    folder = pathlib.Path("/sys/fs/bpf/weft/lc-other")
    folder.mkdir()
    try:
        yield
    finally:
        folder.rmdir()


def test_uninstall_beside_another_instance(daemon):
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    cookie, number = cookies()["a"], shared()
    daemon.end()
    with another_instance():
        run(WEFTD, "--uninstall", "--instance", INSTANCE)
        assert not left()
        assert cookie not in members(number)
    a.delete()
    wait_for(a.gone, 10)


def test_uninstall_takes_what_other_versions_left():
    """In a bpffs of its own, where no other instance is."""
    done = run("unshare", "--mount", "sh", "-ec", f"""
        mount -t bpf bpf /sys/fs/bpf
        mkdir /sys/fs/bpf/weft-readers-1 /sys/fs/bpf/{READERS} /sys/fs/bpf/somebody
        bpftool map create /sys/fs/bpf/weft-readers-1/caught type array key 4 value 4 entries 1 name other
        {WEFTD} --uninstall --instance lc-nobody
        ls /sys/fs/bpf""")
    assert [n for n in done.stdout.split() if not n.endswith(".debug")] == ["somebody"]  # the kernel has two there


def test_while_a_child_of_the_dead_still_dies(daemon):
    """What weftd has forked has its files until it has ended too, or runs its program: none of them is a weftd."""
    daemon.start()
    lock, = (fd for fd in pathlib.Path(f"/proc/{daemon.process.pid}/fd").iterdir()
             if os.readlink(fd) == f"/run/weft/{INSTANCE}/lock")
    pidfd = os.pidfd_open(daemon.process.pid)
    held = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, pidfd, int(lock.name), 0)
    assert held >= 0, os.strerror(ctypes.get_errno())
    try:
        daemon.process.kill()
        daemon.process.wait()
        daemon.start()
        second = run(*daemon.argv(), code=1)
        assert f"running already (pid {daemon.process.pid})" in second.stderr
    finally:
        os.close(held)
        os.close(pidfd)


# ------------------------------------------------------------------ at any moment


def test_pods_come_and_go_and_cost_nothing(daemon):
    """File descriptors and threads of both, rows, links, files."""
    pods = [Netns(f"{n}") for n in range(4)]
    daemon.start()

    def once(n):
        daemon.add(f"{n % 4}", "--ip", f"10.250.0.{n % 4 + 1}", "--label", f"n={n}")
        daemon.ctl("pod", "del", f"default/{n % 4}")

    for n in range(8):
        once(n)
    pids = (daemon.process.pid, daemon.worker())
    wait_for(lambda: not files(), 10)
    before = [fds(p) for p in pids]
    for n in range(PODS):
        once(n)
    wait_for(lambda: not files(), 10)
    wait_for(lambda: [fds(p) for p in pids] == before, 10)
    assert not cookies() and not names() and not lookups()
    assert all(p.listening() == [] for p in pods)
    for p in pods:
        p.delete()
        wait_for(p.gone, 10)


COOKIE = "import socket; print(int.from_bytes(socket.socket().getsockopt(socket.SOL_SOCKET, 71, 8), 'little'))"


class Crowd:
    """Pods that somebody adds and deletes, what he was promised, and weftd's that are killed under it."""

    def __init__(self, daemon, chance, count=5):
        self.daemon, self.chance = daemon, chance
        self.netns = {f"c{n}": Netns(f"c{n}") for n in range(count)}
        self.cookies = {int(n.enter(sys.executable, "-c", COOKIE).stdout) for n in self.netns.values()}
        self.there = dict.fromkeys(self.netns, False)  # None: nobody knows

    def ctl(self, *argv):
        return subprocess.Popen([WEFTCTL, "--instance", INSTANCE, *argv], stdout=subprocess.DEVNULL,
                                stderr=subprocess.DEVNULL)

    def ask(self, name):
        """One change, which is not waited for."""
        add = self.chance.random() < 0.5
        number = list(self.netns).index(name) + 1
        argv = (("add", f"default/{name}", "--netns", f"/run/netns/{PREFIX}{name}", "--ip", f"10.250.0.{number}",
                 "--label", f"n={self.chance.random()}") if add else ("del", f"default/{name}"))
        was, self.there[name] = self.there[name], None
        return add, was, self.ctl("pod", *argv)

    def told(self, name, add, was, code):
        if code == 0:
            self.there[name] = add
        elif not add and was is False:  # it was not there
            self.there[name] = False

    def kill(self, who):
        """weftd, its worker, or both."""
        try:
            worker = self.daemon.worker()
        except (OSError, IndexError, ValueError):
            worker = None
        if who != "worker":
            self.daemon.process.kill()
            self.daemon.process.wait()
        if who != "weftd" and worker:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)

    def start(self):
        """Not waited for: it may be killed while it starts."""
        d = self.daemon
        if d.process and d.process.poll() is None:
            return
        d.start(ready=False)

    def settle(self):
        """Everything agrees."""
        self.start()
        d = self.daemon
        wait_for(lambda: os.path.exists(f"/run/weft/{INSTANCE}/weftd.sock") or d.process.poll() is not None, 20)
        done = d.ctl("status", "--wait", "30s", code=None)
        assert done.returncode == 0, done.stdout + done.stderr + d.log.read_text()
        wait_for(lambda: all(f.isdigit() for f in files()), 20, "no file of a change is left")
        kernel = cookies()
        for name, there in self.there.items():
            assert there is None or there == (name in kernel), f"{name}: promised {there}, in the kernel {kernel}"
            self.there[name] = name in kernel
            want = LISTENERS if name in kernel else []
            assert self.netns[name].listening() == want, name
        assert sorted(files()) == names() and len(names()) == len(kernel) == len(lookups())
        assert members() & self.cookies == set(kernel.values())


def test_killed_at_any_moment(daemon):
    print(f"WEFT_SEED={SEED}")
    chance = random.Random(SEED)
    crowd = Crowd(daemon, chance)
    daemon.start()
    for n in range(CRASHES):
        asked = []
        for name in chance.sample(list(crowd.netns), chance.randint(1, 4)):
            asked.append((name, *crowd.ask(name)))
        who = chance.choice(("weftd", "weftd", "worker", "both"))
        time.sleep(chance.random() ** 2 * 0.1)  # any moment, most often an early one
        crowd.kill(who)
        for name, add, was, client in asked:
            crowd.told(name, add, was, client.wait(30))
        if chance.random() < 0.3:  # and while it starts
            crowd.start()
            time.sleep(chance.random() * 0.6)  # any moment of it
            crowd.kill("weftd")
        crowd.settle()
    if chance.random() < 0.5:
        daemon.end()
    else:
        crowd.kill("weftd")
    for _ in range(chance.randint(0, 3)):  # --uninstall is killed too, and asked again
        going = subprocess.Popen([WEFTD, "--uninstall", "--instance", INSTANCE], stderr=subprocess.DEVNULL)
        time.sleep(chance.random() * 0.05)  # any moment of it
        going.kill()
        going.wait()
    run(WEFTD, "--uninstall", "--instance", INSTANCE)
    assert not left()
    for netns in crowd.netns.values():
        assert netns.listening() == []
        assert "15008" not in netns.enter("ip", "rule").stdout
        netns.delete()
        wait_for(netns.gone, 20)
    assert not [p for p in pathlib.Path("/proc").glob("[0-9]*/comm") if alive(p)]


def alive(comm):
    """A worker without a weftd."""
    try:
        return (comm.read_text() == "weft-worker\n" and INSTANCE in (comm.parent / "cgroup").read_text() and
                is_ours(comm.parent))
    except OSError:
        return False
