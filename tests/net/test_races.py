# SPDX-License-Identifier: Apache-2.0
"""
Connections that end in every way at every moment (tests/kernels/races.c), on the kernel of this machine. `make
check-kernels` runs the same program on others, in virtual machines, for longer.
"""

import re
import signal
import subprocess

import labrun

LAB = """
[nodes.node]
[pods.client]
[pods.server]
annotations = { "weft.io/splice" = "always" }
"""
SPLICE = ("splice",)
PORT, RATE, SECONDS = 7300, 200, 10
COMPLAINT = r"BUG|Oops|WARNING:|Call Trace|general protection|blocked for more than|refcount_t|list_.* corruption"


def complaints():
    """What the kernel has said that it should not."""
    said = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout.splitlines()
    return {line for line in said if re.search(COMPLAINT, line)}


def count(text, what):
    return int(re.search(rf"(\d+) {what}", text).group(1))


def test_races_of_every_kind_of_end(lab, guest):
    said = complaints()
    server = lab.start("server", guest, "races", "serve", PORT, ready=PORT, stdout=subprocess.PIPE, text=True)
    client = lab.run("client", guest, "races", "run", lab.ip("server"), PORT, RATE, SECONDS, 32,
                     timeout=SECONDS + 40)
    server.send_signal(signal.SIGTERM)
    answer = server.communicate(timeout=30)[0]
    assert server.returncode == 0, answer
    opened = count(client.stdout, "connections")
    assert count(client.stdout, "ends") > RATE * SECONDS / 4  # a machine that others use makes fewer
    for text in (client.stdout, answer):
        for way in ("close", "RST", "shutdown", "AF_UNSPEC", "kill -9"):
            assert count(text, way) > 0
    labrun.wait_for(lambda: not lab.map("conns"), 15, "map conns without entries")
    assert count(client.stdout, "spliced") > opened / 3
    assert not complaints() - said
    assert lab.ready()
