# SPDX-License-Identifier: Apache-2.0
"""
Who asks meanwhile: while something is attacked, the requests of somebody else are answered, and the daemons of all
nodes together do not grow beyond a bound.
"""

import contextlib
import threading
import time

import labrun
from http_peers import MIB, client


class Bystander(threading.Thread):
    """Asks all the time; keeps how long the longest answer took, and how much memory the daemons had at most."""

    def __init__(self, lab, vip):
        super().__init__(daemon=True)
        self.lab, self.vip, self.stop, self.failed = lab, vip, threading.Event(), None
        self.longest = self.count = 0
        self.before = self.peak = self.memory()

    def memory(self):
        return sum(self.lab.daemon_pss().values())

    def run(self):
        try:
            with client(self.lab, "client", (self.vip, 80)) as c:
                while not self.stop.wait(0.02):
                    began = time.monotonic()
                    m = c.ask("GET", f"/{self.count}")
                    assert (m.status, m.seen["path"]) == (200, f"/{self.count}"), m
                    self.longest, self.count = max(self.longest, time.monotonic() - began), self.count + 1
                    if not self.count % 5:
                        self.peak = max(self.peak, self.memory())
        except Exception as e:  # the test says it
            self.failed = e

    def end(self, mib):
        at = self.count
        labrun.wait_for(lambda: self.count > at or self.failed, 20, "an answer after the attack")
        self.stop.set()
        self.join(60)
        self.peak = max(self.peak, self.memory())
        assert not self.failed and self.count, self.failed
        assert self.longest < 15, f"a bystander waited {self.longest:.1f} s"
        more = (self.peak - self.before) / MIB
        assert more < labrun.meant(mib), f"{more:.1f} MiB more, at most {mib} are meant"


@contextlib.contextmanager
def beside(lab, vip, mib=8):
    """`vip` port 80 is asked, whose backend echoes (http_peers.Origin); `mib`: what the daemons may have more."""
    bystander = Bystander(lab, vip)
    bystander.start()
    labrun.wait_for(lambda: bystander.count or bystander.failed, 20, "the bystander's first answer")
    try:
        yield
    except BaseException:
        bystander.stop.set()
        raise
    bystander.end(mib)
