# SPDX-License-Identifier: Apache-2.0
"""
Many connections, ended in every way: nothing of them stays in the kernel. That no netns, pin or link stays is asked
after each module (conftest.py).
"""

import os
import random
import signal
import socket
import struct
import subprocess
import threading

import labrun
import pytest

from pairs import Streams, behind_a_service, close, listen, pair, talk

LAB = """
[nodes.node]
[pods.client]
service_account = "client"
[pods.server]
labels = { app = "web" }
[pods.doomed]
"""
VIP = "10.96.9.1"
MANIFESTS = behind_a_service(VIP, 7500)
RESET = struct.pack("ii", 1, 0)


def counts(lab):
    return {m: len(lab.map(m)) for m in ("conns",)} | {"splices": len(lab.map("splices"))}


def empty(lab):
    labrun.wait_for(lambda: not any(counts(lab).values()), 20, "conns and splices without entries")


def test_ten_thousand_connections_come_and_go(lab):
    listener = listen(lab, "server", 7500)
    left = 10000
    while left:
        clients = lab.sockets("client", min(left, 500))
        accepted = []
        for c in clients:
            c.connect((VIP, 80))
            c.send(b"hello")
            accepted.append(listener.accept()[0])
        assert counts(lab)["conns"] >= len(clients)
        for a in accepted:
            assert a.recv(10) == b"hello"
            a.send(b"and good bye")
        for n, (c, a) in enumerate(zip(clients, accepted)):
            if n % 3 == 0:
                c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            close(*((c, a) if n % 2 else (a, c)))
        left -= len(clients)
    listener.close()
    empty(lab)


def test_refused_and_unanswered_ones_leave_nothing(lab):
    for _ in range(200):
        with lab.socket("client") as s:
            assert s.connect_ex((lab.ip("server"), 7599))
    with lab.socket("client") as s:  # an address of nobody: the SYN is never answered
        s.setblocking(False)
        s.connect_ex(("10.244.1.250", 80))
    empty(lab)


def churn(lab, listener, until, seed):
    """Connections whose two ends do anything at any time."""
    rnd = random.Random(seed)
    address = lab.ip("server"), listener.getsockname()[1]
    while not until.is_set():
        for c in lab.sockets("client", 50):
            c.settimeout(30)
            try:
                c.connect(address)
                a, _ = listener.accept()
                for x in (c, a):
                    x.setblocking(False)
                for _ in range(rnd.randrange(6)):
                    rnd.choice((c, a)).send(rnd.randbytes(rnd.choice((1, 500, 70000))))
                for s in rnd.sample((c, a), 2):
                    action = rnd.randrange(4)
                    if action == 0:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    elif action == 1:
                        s.shutdown(rnd.choice((socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR)))
                    elif action == 2:
                        s.recv(100000)
                    s.close()
            except (BlockingIOError, ConnectionError, TimeoutError, OSError):
                c.close()


def test_resets_and_closes_while_others_talk(lab):
    listeners = [listen(lab, "server") for _ in range(2)]
    until = threading.Event()
    workers = [threading.Thread(target=churn, args=(lab, l, until, n)) for n, l in enumerate(listeners)]
    c, s = pair(lab)
    talk(c, s)
    with Streams(c, s) as streams:
        for w in workers:
            w.start()
        labrun.wait_for(lambda: min(x.bytes for x in streams.both) > 4 << 20, 30, "4 MiB each way")
        until.set()
        for w in workers:
            w.join()
    streams.intact()
    close(c, s, *listeners)
    empty(lab)


def test_both_ends_killed_with_data_in_flight(lab, load):
    for _ in range(5):
        server = lab.start("server", load, "sink", f"{lab.ip('server')}:7501", ready=7501)
        echo = lab.start("server", load, "echo", f"{lab.ip('server')}:7502", ready=7502)
        clients = [lab.start("client", load, "stream", f"{lab.ip('server')}:7501", "--size", "1000", "--seconds", "60"),
                   lab.start("client", load, "pingpong", f"{lab.ip('server')}:7502", "--seconds", "60")]
        labrun.wait_for(lambda: counts(lab)["conns"] == 2, 10, "both connections")
        for p in random.sample([server, echo, *clients], 4):
            os.kill(p.pid, signal.SIGKILL)
        for p in (server, echo, *clients):
            p.wait()
        empty(lab)


def test_a_pod_goes_with_its_traffic_in_flight(make_lab, load):
    """Its processes die, its netns is deleted while connections stand; nothing holds the dead netns."""
    lab = make_lab(LAB, MANIFESTS, name="leaks-gone")
    server = lab.start("doomed", load, "echo", f"{lab.ip('doomed')}:7503", ready=7503)
    client = lab.start("client", load, "pingpong", f"{lab.ip('doomed')}:7503", "--seconds", "60")
    c, s = pair(lab, server="doomed")
    talk(c, s)
    labrun.wait_for(lambda: counts(lab)["conns"] == 2, 10, "the connections")
    subprocess.run(["ip", "netns", "del", lab.pods["doomed"]["netns"]], check=True)
    os.kill(server.pid, signal.SIGKILL)
    labrun.wait_for(lambda: "default/doomed" not in [p["pod"] for p in lab.weftctl("pods")["pods"]], 10,
                    "the end of the pod in weftctl pods")
    close(s)
    assert client.wait(20)
    close(c)
    c, s = pair(lab)
    talk(c, s)
    close(c, s)
    empty(lab)


def test_bulk_and_conversation_at_once(lab):
    """One connection streams, one talks; both are whole and both are forgotten."""
    a, b = pair(lab), pair(lab)
    with Streams(*a) as streams:
        for _ in range(20):
            talk(*b)
    assert pytest.approx(0) != sum(streams.intact())
    close(*a, *b)
    empty(lab)
