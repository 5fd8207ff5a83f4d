# SPDX-License-Identifier: Apache-2.0
"""How long something takes on a machine that others use: less the time in which it waited for a CPU that they had."""

import os
import pathlib
import subprocess
import sys
import time

import labrun


def waited(pid):
    """{thread: nanoseconds} in which the threads of a process were ready to run and did not."""
    found = {}
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*"):
        try:
            found[task.name] = int((task / "schedstat").read_text().split()[1])
        except OSError:
            pass  # it has ended
    return found


class Stopwatch:
    """
    Runs from when it is made. Left out is what this process and weft's on the nodes of `lab`, or `pids`, waited for a
    CPU: of each process its thread that waited longest. On a machine that nobody else uses that is next to nothing.
    """

    def __init__(self, lab=None, pids=()):
        self.lab, self.pids = lab, pids
        self.before = self.waited()
        self.began = time.monotonic()

    def waited(self):
        nodes = self.lab.nodes if self.lab else ()
        pids = [os.getpid(), *self.pids]
        for node in nodes:
            pids += map(int, labrun.pids(self.lab.daemon_cgroup(node)))
        return {pid: waited(pid) for pid in pids}

    def seconds(self, until=None):
        """Until now, or until then by time.monotonic()."""
        took = (until or time.monotonic()) - self.began
        for pid, threads in self.waited().items():
            before = self.before.get(pid, {})
            took -= max((ns - before.get(thread, 0) for thread, ns in threads.items()), default=0) / 1e9
        return took


WORK = """
import time
began, least = time.monotonic(), time.process_time() + 0.02
while time.process_time() < least:
    pass
print((time.monotonic() - began) / 0.02)
"""


def pace():
    """How many times its CPU time a piece of work takes now, at least 1: for what is done by many short processes."""
    done = subprocess.run([sys.executable, "-S", "-c", WORK], capture_output=True, text=True, check=True)
    return max(1.0, float(done.stdout))


def in_time(limit, once):
    """The best of three runs of once(), at the pace of the machine."""
    took = []
    for _ in range(3):
        before, began = pace(), time.monotonic()
        once()
        took.append((time.monotonic() - began) / max(before, pace()))
        if took[-1] < limit:
            return
    raise AssertionError(f"{took} seconds at the pace of the machine, {limit} are allowed")
