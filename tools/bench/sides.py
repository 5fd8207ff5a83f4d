# SPDX-License-Identifier: Apache-2.0
"""
sides: two labs of one shape, `direct` and `weft`, with pairs of pods, a client and a server; what runs in them and what
it cost. The third arm of a row, AF_UNIX, is two pods of the direct lab that talk through a socket of the file system.

What weft learns of a program's way to read holds for its pod, so each program has a pair of its own, as it would
in a cluster; the pair without a name, `client` and `server`, is that of the load programs.
"""

import os
import pathlib
import subprocess
import time

import labrun

PAIRS = ("", "web", "files", "large", "redis", "pg", "grpc", "iperf")


def pods(pair):
    """(name of the client's pod, of the server's)"""
    return tuple(f"{pair}-{role}" if pair else role for role in ("client", "server"))


LAB = "[nodes.node]\n" + "".join(f"""
[pods.{pods(pair)[0]}]
service_account = "client"
[pods.{pods(pair)[1]}]
service_account = "server"
labels = {{ app = "{pods(pair)[1]}" }}
""" for pair in PAIRS)
VIP = "10.96.0.10"
MANIFESTS = {
    "service.yaml": f"""
apiVersion: v1
kind: Service
metadata: {{ name: server, namespace: default }}
spec:
  clusterIP: {VIP}
  selector: {{ app: server }}
  ports: [{{ name: tcp, port: 7003, targetPort: 7003 }}]
""",
    "policy.yaml": """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: { name: server, namespace: default }
spec:
  selector: { matchLabels: { app: server } }
  action: ALLOW
  rules:
  - from: [{ source: { principals: ["cluster.local/ns/default/sa/client"] } }]
""",
}
ARMS = ("direct", "weft")


def two_labs(build, noise, name="bench", patience=0):
    """The same lab twice, one of them with weft. Only cubic is a fair peer: facts are in docs/performance.md."""
    labs = {}
    try:
        for arm in ARMS:
            weft = arm == "weft" and not noise
            labs[arm] = labrun.Running.from_text(LAB, name, MANIFESTS if weft else None, weft=weft, build=build,
                                                 prefix=f"{name}-{arm}-", patience=patience)
            for pod in labs[arm].pods:
                real = labs[arm].congestion(pod)
                if real != "cubic":
                    raise labrun.LabError(f"{arm}: {pod} uses {real}: this bench compares with cubic only")
    except BaseException:
        for lab in labs.values():
            lab.down()
        raise
    return labs


class Machine:
    """What the processors did, so that a figure taken on a busy machine can be told by its company."""

    def __init__(self):
        self.total = self.busy = self.steal = self.ours = 0.0

    @staticmethod
    def read():
        ticks = [int(t) for t in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        user, nice, system, idle, iowait, irq, softirq, steal = (t / os.sysconf("SC_CLK_TCK") for t in ticks)
        return user + nice + system + irq + softirq, steal, idle + iowait

    def add(self, before, after, ours):
        busy, steal, idle = (b - a for a, b in zip(before, after))
        self.busy, self.steal, self.ours = self.busy + busy, self.steal + steal, self.ours + ours
        self.total += busy + steal + idle

    def shares(self):
        """(used by others, stolen by the hypervisor) of all processors' time"""
        total = self.total or 1
        return max(0.0, (self.busy - self.ours) / total), self.steal / total


class Sides:
    """The two labs, and the servers that run in them."""

    def __init__(self, build, labs, noise=False):
        self.load, self.grpc = str(build / "bench/load"), str(build / "bench/grpc")
        self.labs, self.noise = labs, noise
        self.use("")
        self.programs = {}
        self.rates = {}  # of clients that are told a count, not a time
        self.machine = Machine()
        self.look = None  # called in the middle of each run until it has seen something, for Witness

    def down(self):
        for lab in self.labs.values():
            lab.down()

    def use(self, pair):
        """The pods of the next row."""
        self.client_pod, self.server_pod = pods(pair)

    def prepare(self, spec):
        self.use(spec.pods)

    def witness(self):
        return Witness(self)

    @staticmethod
    def home(arm):
        """The lab of an arm, by name."""
        return "direct" if arm == "AF_UNIX" else arm

    def lab(self, arm):
        return self.labs[self.home(arm)]

    def ip(self, arm):
        return self.lab(arm).ip(self.server_pod)

    def weft(self, arm):
        return arm == "weft" and not self.noise

    def server(self, arm, key, start):
        """A server of one side, started when a row first needs it."""
        if (arm, key) not in self.programs:
            self.programs[arm, key] = start(self.lab(arm))

    def end_row(self):
        """A row that is over leaves no server behind that could disturb the next one."""
        for (arm, _), program in self.programs.items():
            self.lab(arm).stop(program)
        self.programs = {}
        self.machine = Machine()

    def endpoint(self, arm, role, port):
        """(where a load server of a side listens, what start() waits for)"""
        lab = self.lab(arm)
        if arm == "AF_UNIX":
            path = str(lab.scratch / f"{role}-{port}.sock")
            return f"unix:{path}", path
        return f"{self.ip(arm)}:{port}", port

    def listen(self, arm, role, port, *options, pin=()):
        """A load server; gives its endpoint."""
        endpoint, ready = self.endpoint(arm, role, port)
        self.server(arm, (role, port), lambda lab: lab.start(
            self.server_pod, *pin, self.load, role, endpoint, *options, ready=ready))
        return endpoint

    def cpu(self, arm):
        """Both ends, and weft's own processes where there are some."""
        lab = self.lab(arm)
        used = lab.cpu(self.client_pod, self.server_pod)
        daemon = pathlib.Path(lab.nodes["node"]["cgroup"], "weftd/cpu.stat")
        return used + (int(daemon.read_text().split()[1]) / 1e6 if daemon.exists() else 0)

    def measure(self, arm, *command, seconds):
        """Runs a client; gives its output and the CPU seconds of all that took part."""
        machine, before = Machine.read(), self.cpu(arm)
        lab = self.lab(arm)
        client = lab.start(self.client_pod, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if self.look and self.weft(arm):
            time.sleep(0.4 * seconds)
            while client.poll() is None and not self.look(lab):
                pass
        try:
            out, err = (text.decode(errors="replace") for text in client.communicate(timeout=seconds * 3 + 30))
        except subprocess.TimeoutExpired:
            lab.stop(client)
            raise
        if client.returncode:
            raise labrun.LabError(f"{arm}: {' '.join(map(str, command))}: exit code {client.returncode}: "
                                  f"{err.strip() or out.strip()}")
        used = self.cpu(arm) - before
        self.machine.add(machine, Machine.read(), used)
        return out, used

    def count(self, key, first, seconds):
        """How many requests take about so long, by what the same client did last time; `first`: a guess."""
        return max(1000, int(self.rates.get(key, first) * seconds))


class Witness:
    """
    Which path carried a row: the share of bytes from the kernel's counters of closed connections, the reason from
    `weftctl connections` in the middle of a run.
    """

    def __init__(self, sides):
        self.lab = None if sides.noise else sides.labs.get("weft")
        self.pod = f"default/{sides.client_pod}"
        self.seen = {}  # (path, reason): bytes
        self.before = self.totals()

    def totals(self):
        if self.lab is None:
            return {}
        rows = self.lab.weftctl("traffic")["traffic"]
        return {k: sum(r[k] for r in rows)
                for k in ("opened", "closed", "failed", "sent_bytes", "received_bytes", "spliced_bytes")}

    def look(self, lab):
        for c in lab.weftctl("connections")["connections"]:
            if c["established"] and c["source"]["pod"] == self.pod:
                key = c["path"], c["reason"]
                self.seen[key] = self.seen.get(key, 0) + 1 + c["bytes_sent"] + c["bytes_received"]
        return bool(self.seen)

    def difference(self):
        after = self.totals()
        return {k: after[k] - self.before[k] for k in after}

    def path(self):
        """{"share": of bytes that were redirected, "text": for the table}; None where there is no weft"""
        if self.lab is None:
            return None
        labrun.wait_for(lambda: (d := self.difference())["closed"] + d["failed"] >= d["opened"], 10,
                        "the close of the row's connections")
        d = self.difference()
        carried = d["sent_bytes"] + d["received_bytes"]
        share = d["spliced_bytes"] / carried if carried else 0.0
        return {"share": share, "seen": {"/".join(k): v for k, v in self.seen.items()}, "text": self.text(share)}

    def text(self, share):
        others = {reason: v for (path, reason), v in self.seen.items() if path != "splice"}
        why = f" ({max(others, key=others.get)})" if others else ""
        if share >= 0.995:
            return "splice"
        if share < 0.005:
            return f"tcp{why}"
        return f"splice {share * 100:.0f} %, else tcp{why}"
