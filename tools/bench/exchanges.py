# SPDX-License-Identifier: Apache-2.0
"""
requests: one run of one row of part four on one arm: run(proxies, arm, seconds) gives {measure: value}. "proxy CPU" is
that of the proxy alone, "CPU" that of all: who asks, the proxy, who answers.
"""

import json
import re
import subprocess
import sys

import labrun
from programs import wrk

IDLE_FIRST = 32  # connections that the proxy has seen before what it holds is looked at
# A request over HTTP/2 as bytes: preface, SETTINGS, HEADERS of GET / (RFC 7541 static table), SETTINGS ack.
IDLE = r"""
import socket, sys
host, port, count, h2 = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "h2"
head = b"\x82\x86\x84\x41" + bytes([len(host)]) + host.encode()
ask = (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\x00" + bytes(4) +
       bytes([0, 0, len(head), 1, 5, 0, 0, 0, 1]) + head + bytes(3) + b"\x04\x01" + bytes(4)) if h2 else (
       b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n")
held = []
for i in range(count):
    s = socket.create_connection((host, port), 10)
    s.sendall(ask)
    got = b""
    while b"weft\n" not in got:
        got += s.recv(65536) or sys.exit("closed after %r" % got)
    held.append(s)
print("standing", flush=True)
sys.stdin.read()
"""


def figures(found, count, proxy, whole):
    return found | {"proxy CPU us/request": proxy * 1e6 / count, "CPU us/request": whole * 1e6 / count}


def h1(path="", connections=32, close=False):
    """wrk, keep-alive or a connection for each request."""
    def run(proxies, arm, seconds):
        proxies.origin(arm, "h1")
        header = ("-H", "Connection: close") if close else ()
        out, proxy, whole = proxies.measure(arm, "wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s",
                                            "--latency", "--timeout", "30s", *header,
                                            f"http://{proxies.target(arm, 'h1')}/{path}", seconds=seconds)
        found = wrk(out, whole)
        count = int(re.search(r"(\d+) requests in", out)[1])
        return figures({k: found[k] for k in ("requests/s", "p50 us")}, count, proxy, whole)
    return run


def h2(what):
    """h2load, 8 connections with 16 streams each. `what`: h1c or h2, what the origin speaks."""
    def run(proxies, arm, seconds):
        proxies.origin(arm, what)
        out, proxy, whole = proxies.measure(arm, "h2load", "-c8", "-m16", "-D", max(1, round(seconds)),
                                            f"http://{proxies.target(arm, what)}/", seconds=seconds)
        done = re.search(r"requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored", out)
        rate = re.search(r"([\d.]+) req/s", out)
        if not done or not rate or not int(done[1]) or int(done[2]) or int(done[3]):
            raise labrun.LabError(f"{arm}: h2load said: {out.strip()}")
        return figures({"requests/s": float(rate[1])}, int(done[1]), proxy, whole)
    return run


def grpc(calls):
    def run(proxies, arm, seconds):
        proxies.origin(arm, "grpc")
        out, proxy, whole = proxies.measure(arm, proxies.grpc, "client", proxies.target(arm, "grpc"), "--calls", calls,
                                            "--size", 100, "--seconds", seconds, seconds=seconds)
        result = json.loads(out)
        return figures({"requests/s": result["per_second"], "p50 us": result["p50_us"]}, result["count"], proxy, whole)
    return run


def idle(what, count):
    """What a connection that had its answer and says no more keeps in a fresh proxy's memory: PSS, before and after."""
    def run(proxies, arm, seconds):
        proxies.fresh(arm)
        lab = proxies.lab(arm)
        proxies.origin(arm, "h1")
        host, port = proxies.target(arm, what).split(":")

        def stand(number):
            client = proxies.start(arm, sys.executable, "-S", "-c", IDLE, host, port, number,
                                   "h2" if what == "h1c" else "h1", stdin=subprocess.PIPE)
            if client.stdout.readline() != b"standing\n":
                raise labrun.LabError(f"{arm}: {client.communicate()[1].decode(errors='replace').strip()}")
            return client

        first = stand(IDLE_FIRST)
        before = lab.daemon_pss()["node"]
        client = stand(count)
        after = lab.daemon_pss()["node"]
        if proxies.look and arm == "weft":
            proxies.look(lab, client)
        for c in (client, first):
            c.stdin.close()
            c.wait(30)
        return {"KiB/connection": (after - before) / 1024 / count, "MiB at rest": before / 2**20}
    return run
