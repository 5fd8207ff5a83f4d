# SPDX-License-Identifier: Apache-2.0
"""make demo: what a newcomer sees first works, takes under a minute, and leaves nothing, also after Ctrl-C."""

import os
import pathlib
import re
import signal
import subprocess
import time

import labrun
from stopwatch import pace

BUILD = pathlib.Path(os.environ.get("BUILD") or labrun.ROOT / "build").resolve()
DEMO = [str(labrun.ROOT / "tools/demo"), "--build", str(BUILD)]
STATES = [labrun.lab_module.STATE / name / "state.json" for name in ("demo-demo", "plain-demo")]


def clean():
    netns = [n for n in os.listdir("/run/netns") if n.startswith(("demo-", "plain-", "weft-demo-", "weft-plain-"))]
    places = [p for p in STATES + [pathlib.Path("/run/weft/demo-node"), pathlib.Path("/sys/fs/bpf/weft/demo-node")]
              if p.exists()]
    return not netns and not places


def test_the_demo_shows_what_it_promises():
    before, began = pace(), time.monotonic()
    done = subprocess.run(DEMO, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 60 * max(before, pace())
    for words in ("plain TCP", "through weft", "cubic", "hello from web-1", "hello from web-2", "exit code 7",
                  "spliced", "not_allowed", "shop/web-clients", "account 4711 holds 1 000 000",
                  "15008   nothing: TLS 1.3", "cluster.local/ns/shop/sa/ledger",
                  "shop/canary", "200 hello from web-2"):
        assert words in done.stdout, words
    assert re.search(r"Could(n't|\s+not)\s+connect", done.stdout)  # curl 7; curl 8, over two lines
    assert not done.stderr
    assert clean()


def test_without_a_program_it_says_what_to_do(tmp_path):
    (tmp_path / "python3").symlink_to("/usr/bin/python3")
    done = subprocess.run([tmp_path / "python3", *DEMO], capture_output=True, text=True, check=False, timeout=30,
                          env={"PATH": str(tmp_path)})
    assert done.returncode == 1 and not done.stdout and done.stderr.count("\n") == 1
    assert done.stderr.startswith("demo: not installed: ")
    assert "wrk iperf3 tcpdump; sh tools/setup.sh demo" in done.stderr
    assert clean()


def test_ctrl_c_takes_everything_down():
    demo = subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    labrun.wait_for(lambda: all(s.exists() for s in STATES), 20, "both labs of the demo")
    demo.send_signal(signal.SIGINT)
    _, err = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert err.strip() == "demo: stopped; everything is removed"
    assert clean()
