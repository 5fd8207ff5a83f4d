# SPDX-License-Identifier: Apache-2.0
"""
requests: one run of one row of part four on one arm: run(proxies, arm, seconds) gives {measure: value}. "proxy CPU" is
that of the proxy alone, "CPU" that of all: who asks, the proxy, who answers.
"""

import json
import re
import subprocess
import sys
import time

import labrun
from nodes import CIPHER
from programs import wrk

MOST = 200000  # requests that ab has room to count, more than it gets to
IDLE_FIRST = 32  # connections that the proxy has seen before what it holds is looked at
IDLE_SECONDS = 2  # without a word, before it is: what a proxy does when a connection has nothing to say is done then
# A request over HTTP/2 as bytes: preface, SETTINGS, HEADERS of GET / (RFC 7541 static table), SETTINGS ack.
IDLE = r"""
import socket, ssl, sys
host, port, count, h2 = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "h2"
tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if sys.argv[5] == "https" else None
if tls:
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.set_alpn_protocols(["h2" if h2 else "http/1.1"])
head = b"\x82" + (b"\x87" if tls else b"\x86") + b"\x84\x41" + bytes([len(host)]) + host.encode()
ask = (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\x00" + bytes(4) +
       bytes([0, 0, len(head), 1, 5, 0, 0, 0, 1]) + head + bytes(3) + b"\x04\x01" + bytes(4)) if h2 else (
       b"GET / HTTP/1.1\r\nHost: " + host.encode() + b"\r\n\r\n")
held = []
for i in range(count):
    s = socket.create_connection((host, port), 10)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls:
        s = tls.wrap_socket(s)
        if s.cipher()[0] != sys.argv[6]:
            sys.exit("cipher %s" % s.cipher()[0])
    s.sendall(ask)
    got = b""
    while b"weft\n" not in got:
        got += s.recv(65536) or sys.exit("closed after %r" % got)
    held.append(s)
print("standing", flush=True)
sys.stdin.read()
sys.exit(any(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != b"\x01" for s in held))  # 1: ESTABLISHED
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
                                            f"{proxies.scheme}://{proxies.target(arm, 'h1')}/{path}", seconds=seconds)
        found = wrk(out, whole)
        count = int(re.search(r"(\d+) requests in", out)[1])
        return figures({k: found[k] for k in ("requests/s", "p50 us")}, count, proxy, whole)
    return run


def h2(what):
    """h2load, 8 connections with 16 streams each. `what`: h1c or h2, what the origin speaks."""
    def run(proxies, arm, seconds):
        proxies.origin(arm, what)
        out, proxy, whole = proxies.measure(arm, "h2load", "-c8", "-m16", "-D", max(1, round(seconds)),
                                            f"{proxies.scheme}://{proxies.target(arm, what)}/", seconds=seconds)
        done = re.search(r"requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored", out)
        rate = re.search(r"([\d.]+) req/s", out)
        if not done or not rate or not int(done[1]) or int(done[2]) or int(done[3]):
            raise labrun.LabError(f"{arm}: h2load said: {out.strip()}")
        if proxies.scheme == "https" and f"Cipher: {CIPHER}\n" not in out:
            raise labrun.LabError(f"{arm}: h2load did not speak {CIPHER}: {out.strip()}")
        return figures({"requests/s": float(rate[1])}, int(done[1]), proxy, whole)
    return run


def handshakes(connections=32):
    """ab, a connection with a full handshake for each request: it has no session to resume."""
    def run(proxies, arm, seconds):
        proxies.origin(arm, "h1")
        out, proxy, whole = proxies.measure(arm, "ab", "-q", "-t", max(1, round(seconds)), "-n", MOST, "-c",
                                            connections, f"https://{proxies.target(arm, 'h1')}/", seconds=seconds)
        of = {name: re.search(rf"^{name}: +(\S+)", out, re.M) for name in (
            "Complete requests", "Failed requests", "Non-2xx responses", "Requests per second", "SSL/TLS Protocol")}
        good = all(of[name] for name in ("Complete requests", "Requests per second")) and (
            of["Failed requests"][1] == "0" and not of["Non-2xx responses"])
        if not good or not int(of["Complete requests"][1]) or CIPHER not in of["SSL/TLS Protocol"][1]:
            raise labrun.LabError(f"{arm}: ab said: {out.strip()}")
        return figures({"requests/s": float(of["Requests per second"][1])}, int(of["Complete requests"][1]), proxy,
                       whole)
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
    def held(lab, seconds):
        time.sleep(IDLE_SECONDS if seconds >= 1 else 0)  # a look measures nothing
        return lab.daemon_pss()["node"]

    def run(proxies, arm, seconds):
        proxies.fresh(arm)
        lab = proxies.lab(arm)
        proxies.origin(arm, "h1")
        host, port = proxies.target(arm, what).split(":")

        def stand(number):
            client = proxies.start(arm, sys.executable, "-S", "-c", IDLE, host, port, number,
                                   "h2" if what == "h1c" else "h1", proxies.scheme, CIPHER, stdin=subprocess.PIPE)
            if client.stdout.readline() != b"standing\n":
                raise labrun.LabError(f"{arm}: {client.communicate()[1].decode(errors='replace').strip()}")
            return client

        first = stand(IDLE_FIRST)
        before = held(lab, seconds)
        client = stand(count)
        after = held(lab, seconds)
        if proxies.look and arm == "weft":
            proxies.look(lab, client)
        for c in (client, first):
            c.stdin.close()
        if client.wait(30):
            raise labrun.LabError(f"{arm}: it closed some of {count} connections before all had been looked at")
        first.wait(30)
        return {"KiB/connection": (after - before) / 1024 / count, "MiB at rest": before / 2**20}
    return run
