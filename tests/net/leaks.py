# SPDX-License-Identifier: Apache-2.0
"""What a lab may leave behind: nothing. Looked for after each lab of the tests."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import labrun  # noqa: E402

BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
PATIENCE = 600  # another run of the same module on this machine has the lab


def connections_end(running):
    """Once every process of every pod is gone, no connection may be left in the kernel's maps."""
    for pod in running.pods.values():
        (pathlib.Path(pod["cgroup"]) / "cgroup.kill").write_text("1")
    for p in running.started:
        p.wait()
    running.let_go()
    for node in running.nodes:
        for name in ("conns", "splices"):
            if os.path.exists(f"/sys/fs/bpf/weft/{running.instance(node)}/{name}"):
                labrun.wait_for(lambda n=node, m=name: not entries(running, m, n), 15,
                                f"map {name} of {node} without entries", grace=2)


def entries(running, name, node):
    """Number of entries; of a sockhash bpftool cannot print the values, but it lists the keys."""
    path = f"/sys/fs/bpf/weft/{running.instance(node)}/{name}"
    dump = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", path], capture_output=True, text=True,
                          check=False)
    found = json.loads(dump.stdout or "[]")
    return len(found) if isinstance(found, list) else 0


class Leaks:
    """
    What a lab made, to be looked for after it. A netns that something still holds keeps its number
    (nsid) in the first netns although its name is gone: that is how a dead netns shows itself.
    """

    def __init__(self, running):
        self.state = running.state
        there = [n for n in self.state["netns"] if os.path.exists(f"/run/netns/{n}")]
        for name in there:
            subprocess.run(["ip", "netns", "set", name, "auto"], check=False, stderr=subprocess.DEVNULL)
        names = json.loads(subprocess.run(["ip", "-j", "netns", "list"], capture_output=True, text=True,
                                          check=True).stdout or "[]")
        self.nsids = {n["id"]: n["name"] for n in names if n["name"] in there and "id" in n}

    def left(self):
        found = [f"/run/netns/{n}" for n in self.state["netns"] if os.path.exists(f"/run/netns/{n}")]
        for node in self.state["nodes"]:
            found += [p for p in (node["cgroup"], f"/run/weft/{node['instance']}",
                                  f"/sys/fs/bpf/weft/{node['instance']}") if os.path.exists(p)]
        lines = subprocess.run(["ip", "-j", "netns", "list-id"], capture_output=True, text=True, check=True).stdout
        held = {n["nsid"] for n in json.loads(lines or "[]")}
        found += [f"netns {name} is still held by something" for nsid, name in self.nsids.items() if nsid in held]
        return found

    def check(self):
        try:
            labrun.wait_for(lambda: not self.left(), 30, grace=2)  # the kernel removes netns one by one, of all labs
        except labrun.LabError:
            pytest.fail("the lab left behind: " + ", ".join(self.left()))
