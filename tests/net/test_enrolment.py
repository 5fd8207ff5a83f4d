# SPDX-License-Identifier: Apache-2.0
"""
Pods of a weftd: enrolled, refused by name, released, gone with their netns.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from labrun import wait_for
from own_daemon import (LISTENERS, PORTS, PREFIX, Netns, alone, bpftool, daemon, link,  # noqa: F401
                        of_another_version, pin, run)
from stopwatch import Stopwatch


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


def node_addresses():
    shown = json.loads(run("ip", "-j", "addr", "show", "scope", "global").stdout)
    return [a["local"] for link_ in shown for a in link_.get("addr_info", ()) if "local" in a][:2]


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
        *(("b", ["--ip", address], None, f"{address} is the node's own") for address in node_addresses()),
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


@contextlib.contextmanager
def port_taken(netns):
    """One that weft needs, by a process that ends with its input."""
    app = ["nsenter", f"--net=/run/netns/{netns.name}", sys.executable, "-c",
           "import socket, sys; s = socket.create_server(('', 15006)); print(1, flush=True); sys.stdin.read()"]
    with subprocess.Popen(app, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        yield holder


def test_port_taken_while_no_weftd_runs(daemon):
    """What guards a pod, or others from it, does not go because something in it listens on a port of weft's."""
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    daemon.kill_both()
    with port_taken(a) as holder:
        daemon.start(ready=False)
        wait_for(lambda: "cannot be entered, default/a" in daemon.ctl("status", code=None).stdout, 20)
        assert a.listening() == [15006] and os.path.exists(pin("netns/1"))
        assert len(bpftool("map", "dump", "pinned", pin("pods"))) == 1
        assert len(bpftool("map", "dump", "pinned", pin("addresses"))) > 0
        assert "port 15006 in the pod is in use" in daemon.log.read_text()
        assert "port 15006 in the pod is in use" in daemon.add("a", "--ip", "10.250.0.1", code=1).stderr
        holder.stdin.close()
        holder.wait()
    daemon.ctl("status", "--wait", "20s")
    assert a.listening() == LISTENERS
    assert len(bpftool("map", "dump", "pinned", pin("pods"))) == 1


def test_port_taken_while_weft_is_upgraded(daemon):
    """The pod is guarded by the new programs and their maps, not by what nobody writes any more."""
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    daemon.kill_both()
    of_another_version()
    with port_taken(a):
        daemon.start(ready=False)
        wait_for(lambda: "cannot be entered, default/a" in daemon.ctl("status", code=None).stdout, 20)
        inbound = bpftool("prog", "show", "pinned", pin("progs/weft_inbound"))["id"]
        assert link("netns/1")["prog_id"] == inbound
    daemon.ctl("status", "--wait", "20s")
    assert a.listening() == LISTENERS


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
