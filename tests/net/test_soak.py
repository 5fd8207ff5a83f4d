# SPDX-License-Identifier: Apache-2.0
"""
The soak: random traffic of many connections while the splice is switched on and off at random, every byte checked.

	make soak			100 GB
	WEFT_SOAK_GB=5 WEFT_SOAK_SEED=42	so much, so seeded; without them 1 GB and a seed of the clock

The seed is in every message. tests/net/soak/soak.h says what the programs do.
"""

import json
import os
import pathlib
import random
import re
import socket
import subprocess
import threading
import time

import labrun
import pytest

LAB = """
[nodes.node]
[pods.client]
[pods.server]
[pods.eager]
annotations = { "weft.io/splice" = "always" }
"""
SPLICE = ("splice",)
MIB = 1 << 20
GB = float(os.environ.get("WEFT_SOAK_GB") or 1)
SEED = int(os.environ.get("WEFT_SOAK_SEED") or time.time())
PORT = 7600
CONNECTIONS = 12
BUILD = pathlib.Path(os.environ.get("BUILD") or labrun.ROOT / "build").resolve()
SOAK = BUILD / "tests/net/soak"


class Switch:
    """`weftctl splice on|off` at random moments: mostly on, long enough for conversations to enter."""

    def __init__(self, lab, seed):
        self.lab, self.random = lab, random.Random(seed)
        self.on, self.count, self.next = True, 0, time.monotonic() + 1

    def turn(self):
        if time.monotonic() < self.next:
            return
        self.on = not self.on
        self.count += 1
        self.lab.weftctl("splice", "on" if self.on else "off", text=True)
        self.next = time.monotonic() + self.random.uniform(*((0.2, 2) if self.on else (0.01, 0.5)))


class Kernel:
    """What the kernel holds, sampled: queues of live connections, and memory beside what there was before."""

    def __init__(self, lab, programs):
        self.lab, self.programs = lab, programs
        self.before = self.memory()
        self.samples = self.queue_bytes = self.queue_msgs = self.waiting = self.grown = self.switches = 0

    def memory(self):
        """Bytes: slab that cannot be given back, TCP's buffers, and the programs themselves."""
        meminfo = pathlib.Path("/proc/meminfo").read_text()
        total = int(re.search(r"^SUnreclaim:\s+(\d+)", meminfo, re.MULTILINE)[1]) * 1024
        sockets = pathlib.Path("/proc/net/sockstat").read_text()
        total += int(re.search(r"^TCP:.* mem (\d+)", sockets, re.MULTILINE)[1]) * os.sysconf("SC_PAGE_SIZE")
        for p in self.programs:
            if p.poll() is None:
                status = pathlib.Path(f"/proc/{p.pid}/status").read_text()
                found = re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)  # none: it ends just now
                total += int(found[1]) * 1024 if found else 0
        return total

    def look(self):
        self.samples += 1
        self.grown = max(self.grown, self.memory() - self.before)
        for c in self.lab.weftctl("connections")["connections"]:
            self.waiting = max(self.waiting, *c["queued_bytes"])
            self.queue_bytes = max(self.queue_bytes, *c["queue_peak_bytes"])
            self.queue_msgs = max(self.queue_msgs, *c["queue_peak_messages"])
            self.switches = max(self.switches, c["switches"])


def carried(lab):
    rows = lab.weftctl("traffic")["traffic"]
    return [sum(r[k] for r in rows) for k in ("spliced_bytes", "sent_bytes", "received_bytes")]


def start(lab, pod, tmp_path, *args, ready=None):
    with open(tmp_path / f"{pod}.out", "wb") as out:
        return lab.start(pod, SOAK, *args, ready=ready, stdout=out, stderr=subprocess.STDOUT)


def said(tmp_path, pods):
    return f"seed {SEED}\n" + "".join(f"{pod}: {(tmp_path / f'{pod}.out').read_text()}\n" for pod in pods)


def test_every_byte_while_the_splice_is_switched(lab, tmp_path):
    print(f"soak: {GB:g} GB, seed {SEED}")
    pods = ("client", "server", "eager")
    before = carried(lab)
    where = {"server": f"{lab.ip('server')}:{PORT}", "eager": f"[{lab.ip('eager', 6)}]:{PORT}"}
    servers = [start(lab, pod, tmp_path, "server", where[pod], ready=PORT) for pod in pods[1:]]
    client = start(lab, "client", tmp_path, "client", ",".join(where.values()), "--bytes", int(GB * 1e9),
                   "--connections", CONNECTIONS, "--seed", SEED)
    switch, kernel = Switch(lab, SEED), Kernel(lab, servers + [client])
    deadline = time.monotonic() + 120 + 60 * GB
    while client.poll() is None:
        assert all(p.poll() is None for p in servers), said(tmp_path, pods)
        assert time.monotonic() < deadline, f"too slow; seed {SEED}"
        switch.turn()
        kernel.look()
        time.sleep(0.05)  # between two samples
    lab.weftctl("splice", "on", text=True)
    assert client.returncode == 0, said(tmp_path, pods)
    assert [lab.stop(p) for p in servers] == [0, 0], said(tmp_path, pods)

    there, *here = [json.loads((tmp_path / f"{pod}.out").read_text()) for pod in pods]
    assert there["sent"] + there["checked"] >= GB * 1e9
    assert there["sent"] == sum(s["checked"] for s in here), said(tmp_path, pods)
    assert there["checked"] == sum(s["sent"] for s in here), said(tmp_path, pods)
    assert not any(s["open"] for s in here), said(tmp_path, pods)
    labrun.wait_for(lambda: carried(lab)[1] - before[1] >= there["sent"], 10, "the counters of closed connections")
    spliced, *both = [b - a for a, b in zip(before, carried(lab))]
    print(json.dumps({"seconds": there["seconds"], "connections": there["connections"], "bytes": sum(both),
                      "spliced": spliced, "toggles": switch.count, "samples": kernel.samples,
                      "queue_bytes": kernel.queue_bytes, "queue_msgs": kernel.queue_msgs, "waiting": kernel.waiting,
                      "switches": kernel.switches, "grown_mib": kernel.grown // MIB}))
    assert kernel.samples > 10 and switch.count > 1, f"seed {SEED}"
    assert 0 < spliced < sum(both), f"seed {SEED}"
    assert kernel.switches > 1, f"seed {SEED}"
    assert max(kernel.queue_bytes, kernel.waiting) <= MIB and kernel.queue_msgs <= 1000, f"seed {SEED}"
    assert kernel.grown < 2 << 30, f"seed {SEED}"


class Relay(threading.Thread):
    """Between a client and a server of the soak; does `fault` once to what the client sends."""

    def __init__(self, to, fault):
        super().__init__(daemon=True)
        self.to, self.fault = to, fault
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def run(self):
        client, _ = self.listener.accept()
        server = socket.create_connection(("127.0.0.1", self.to))
        back = threading.Thread(target=self.copy, args=(server, client, None), daemon=True)
        back.start()
        self.copy(client, server, self.fault)
        back.join()
        for s in (client, server, self.listener):
            s.close()

    @staticmethod
    def copy(source, target, fault):
        done = 0
        try:
            while data := source.recv(65536):
                done += len(data)
                if fault and done > 100000 and len(data) > 1024:
                    data, fault = fault(data), None
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            for s in (source, target):  # one end has given up, as it should: the other one learns it
                s.close()


FAULTS = {
    "swapped": lambda data: data[:100] + data[500:900] + data[100:500] + data[900:],
    "lost": lambda data: data[:500] + data[501:],
    "doubled": lambda data: data[:500] + data[300:],
    "changed": lambda data: data[:700] + bytes([data[700] ^ 1]) + data[701:],
    "none": lambda data: data,
}


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


@pytest.mark.parametrize("fault", FAULTS)
def test_the_soak_sees_what_is_wrong(fault):
    """The checker itself, without weft: a relay between its two ends makes one mistake."""
    port = free_port()
    with subprocess.Popen([SOAK, "server", f"127.0.0.1:{port}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True) as server:
        labrun.wait_for(lambda: f"0100007F:{port:04X} 00000000:0000 0A" in pathlib.Path("/proc/net/tcp").read_text())
        relay = Relay(port, FAULTS[fault])
        relay.start()
        client = subprocess.run([SOAK, "client", f"127.0.0.1:{relay.port}", "--bytes", str(60 * 10**6), "--connections",
                                 "1", "--seed", "5", "--patience", "10"], capture_output=True, text=True, timeout=60,
                                check=False)
        if fault == "none":
            server.terminate()
        errors = server.communicate(timeout=20)[1]
        relay.join(10)
    if fault == "none":
        assert (client.returncode, server.returncode) == (0, 0), client.stderr + errors
        return
    assert (client.returncode, server.returncode) == (1, 1), client.stderr + errors
    found = re.search(r"seed 5 connection 0: wrong byte at \d+: (?:what is there belongs at \d+, (\d+ \w+))?", errors)
    assert found, errors
    distance = {"swapped": "400 later", "lost": "1 later", "doubled": "200 earlier"}
    if found[1] and fault in distance:  # a wrong byte that is the last one there tells no place
        assert found[1] == distance[fault], errors
