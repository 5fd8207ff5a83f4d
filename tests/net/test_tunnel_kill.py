# SPDX-License-Identifier: Apache-2.0
"""
The worker of a node dies under load, again and again: spliced connections lose nothing, and a new tunnel stands within
200 ms. The supervisor dies: the worker goes on, and the next supervisor takes it over, with all who wait for it.
"""

import os
import pathlib
import signal
import threading
import time

import labrun
import pytest

from pairs import Streams, close, listen, pair, settle, talk
from stopwatch import Stopwatch
from two_nodes import LAB, MANIFESTS, PLACES  # noqa: F401: the lab of the fixture

SPLICE = ("splice",)
PORT = 7700
KILLS = 3
OLD = 10.5  # seconds: a worker that dies younger is in a crash loop, and the next one has to wait
BACK_MS, LOOP_MS = 200, 1000  # until a new tunnel stands: after a worker that was not, and in that loop


def worker(lab, node):
    return lab.weftctl("status", node=node)["worker"]


def age(pid):
    """Seconds that a process has lived."""
    started = int(pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def kept(lab, node, pods):
    """What must outlive a worker: pins of the instance, and the sockets that listen on weft's ports in its pods."""
    root = f"/sys/fs/bpf/weft/{lab.instance(node)}"
    pins = {(os.path.join(at, name), os.stat(os.path.join(at, name)).st_ino) for at, _, names in os.walk(root)
            for name in names}
    listeners = set()
    for pod in pods:
        for line in lab.run(pod, "cat", "/proc/net/tcp", "/proc/net/tcp6").stdout.splitlines():
            row = line.split()
            if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) in (15001, 15006, 15008):
                listeners.add((pod, row[1], row[9]))
    assert pins and len(listeners) >= 3 * len(pods)
    return pins, listeners


class Echo(threading.Thread):
    """A server of pod `server`, connection after connection."""

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.listener = listen(lab, "server", PORT)

    def run(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(s,), daemon=True).start()

    @staticmethod
    def serve(s):
        with s:
            try:
                while data := s.recv(1 << 16):
                    s.sendall(data)
            except OSError:
                return  # its tunnel is gone, as it should be

    def close(self):
        self.listener.shutdown(2)
        self.listener.close()
        self.join(5)


@pytest.fixture
def echo(lab):
    server = Echo(lab)
    server.start()
    yield server
    server.close()


def once(lab, seconds=30.0):
    """One new connection through the tunnel and back; None if it failed."""
    with lab.socket("client") as s:
        s.settimeout(seconds)
        try:
            s.connect((lab.ip("server"), PORT))
            s.sendall(b"who is there")
            return s.recv(100) == b"who is there" or None
        except OSError:
            return None


class Load(threading.Thread):
    """Connections that talk through the tunnel until they are told to end, and are opened again when they break."""

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.lab, self.over, self.broken, self.rounds = lab, threading.Event(), 0, 0

    def run(self):
        while not self.over.is_set():
            with self.lab.socket("client") as s:
                s.settimeout(30)
                try:
                    s.connect((self.lab.ip("server"), PORT))
                    while not self.over.is_set():
                        s.sendall(b"x" * 4096)
                        left = 4096
                        while left:
                            data = s.recv(left)
                            if not data:
                                raise ConnectionResetError
                            left -= len(data)
                        self.rounds += 1
                except OSError:
                    self.broken += 1


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_worker_killed_under_load(lab, echo, node):
    c, s = pair(lab, "client", "local")
    settle(lab, c, s)
    assert once(lab)
    loads, back = [Load(lab) for _ in range(4)], []
    for load in loads:
        load.start()
    before = worker(lab, node)
    supervisor = lab.supervisor(node)
    pods = [name for name, place in PLACES.items() if place[0] == node]
    stays = kept(lab, node, pods)
    labrun.wait_for(lambda: age(before["pid"]) > OLD, 15, "an old worker")
    with Streams(c, s) as streams:
        for _ in range(KILLS):
            rounds = [load.rounds for load in loads]
            labrun.wait_for(lambda: all(load.rounds > r for load, r in zip(loads, rounds)), 10, "load")
            os.kill(worker(lab, node)["pid"], signal.SIGKILL)
            watch = Stopwatch(lab)
            labrun.wait_for(lambda: once(lab), 10, "a new tunnel", 0)
            back.append(watch.seconds() * 1000)
            labrun.wait_for(lambda: worker(lab, node)["running"], 10, "the next worker")
    for load in loads:
        load.over.set()
    for load in loads:
        load.join(60)
    assert min(streams.intact()) > 1 << 20
    after = worker(lab, node)
    assert after["restarts"] == before["restarts"] + KILLS
    assert lab.supervisor(node) == supervisor and kept(lab, node, pods) == stays
    assert sum(load.broken for load in loads) >= KILLS  # what went through the worker went with it
    print(f"new tunnels after {', '.join(f'{ms:.0f}' for ms in back)} ms")
    assert back[0] < BACK_MS and max(back) < LOOP_MS, back
    close(c, s)


@pytest.mark.parametrize("node", ["n1", "n2"])
def test_supervisor_killed(lab, echo, node):
    c, s = pair(lab, "client", "server")
    talk(c, s)
    before = worker(lab, node)["pid"]
    os.kill(lab.supervisor(node), signal.SIGKILL)
    for _ in range(20):
        talk(c, s, 10)
    waiting = [threading.Thread(target=lambda: came.append(once(lab, 60))) for _ in range(40)]
    came = []  # more than there are sockets in stock: the others wait for the next supervisor
    for t in waiting:
        t.start()
    lab.start_weft(node)
    for t in waiting:
        t.join(90)
    assert came == [True] * len(waiting)
    labrun.wait_for(lambda: lab.ready(node), 10, "weft ready again")
    assert worker(lab, node)["pid"] == before and pathlib.Path(f"/proc/{before}").exists()
    talk(c, s)
    assert once(lab)
    close(c, s)
