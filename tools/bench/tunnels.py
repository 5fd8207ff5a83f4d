# SPDX-License-Identifier: Apache-2.0
"""
tunnels: one run of one row of part three on one arm: run(nodes, arm, seconds) gives {measure: value}. CPU is that of
the daemons of both nodes; the applications are the same on all arms and not counted.
"""

import json
import subprocess

import labrun
from programs import cubic_only

IDLE_FIRST = 64  # connections that the daemons see before what they hold is looked at


def bulk(streams, *options):
    """`streams` at once, one way; --reverse: from the far pod to the near one."""
    def run(nodes, arm, seconds):
        target = nodes.listen(arm, "crowd")
        out, cpu = nodes.measure(arm, nodes.load, "bulk", target, "--clients", streams, "--seconds", seconds, *options,
                                 seconds=seconds)
        result = cubic_only(json.loads(out))
        return {"MB/s": result["mb_s"], "CPU s/GB": cpu * 1e9 / result["bytes"]}
    return run


def pingpong(size):
    def run(nodes, arm, seconds):
        options = ["--size", size, "--nodelay"]
        target = nodes.listen(arm, "echo", *options)
        out, cpu = nodes.measure(arm, nodes.load, "pingpong", target, *options, "--seconds", seconds, seconds=seconds)
        result = cubic_only(json.loads(out))
        return {"p50 us": result["p50_us"], "p99 us": result["p99_us"], "CPU us/trip": cpu * 1e6 / result["count"]}
    return run


def connections(clients):
    """Connect, request, answer, close; `clients` in flight."""
    def run(nodes, arm, seconds):
        out, cpu = nodes.measure(arm, nodes.load, "crr", nodes.listen(arm, "answer"), "--clients", clients, "--seconds",
                                 seconds, seconds=seconds)
        result = cubic_only(json.loads(out))
        return {"connections/s": result["per_second"], "CPU us/connection": cpu * 1e6 / result["count"],
                "p50 us": result["p50_us"]}
    return run


def idle(count):
    """What `count` connections that say nothing keep in the daemons' memory: PSS of fresh ones, before and after."""
    def run(nodes, arm, seconds):
        nodes.fresh(arm)
        target, lab = nodes.listen(arm, "crowd"), nodes.lab(arm)
        stand(nodes, arm, target, IDLE_FIRST)[0].stdin.close()
        labrun.wait_for(lambda: not lab.established("client", target), 10, "the end of the first connections")
        before = lab.daemon_pss()
        client, result = stand(nodes, arm, target, count)
        after = lab.daemon_pss()
        if nodes.look and arm == "weft":
            nodes.look(lab, client)
        client.stdin.close()
        client.wait(30)
        return {f"KiB/connection, {node} node": (after[node] - before[node]) / 1024 / count for node in after} | {
            "MiB at rest, both nodes": sum(before.values()) / 2**20, "connections/s": count / result["seconds"]}
    return run


def stand(nodes, arm, target, count):
    """A client whose connections all stand, and what it said of them."""
    client = nodes.start(arm, nodes.load, "idle", target, "--clients", count, stdin=subprocess.PIPE)
    line = client.stdout.readline()
    if not line:
        raise labrun.LabError(f"{arm}: {client.communicate()[1].decode(errors='replace').strip()}")
    return client, json.loads(line)
