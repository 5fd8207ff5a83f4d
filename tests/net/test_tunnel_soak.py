# SPDX-License-Identifier: Apache-2.0
"""
Random traffic between pods of two nodes, every byte checked at both ends: 1, 16 and 1000 connections at once.

	make soak			100 GB each
	WEFT_SOAK_GB=20 WEFT_SOAK_SEED=42	so much, so seeded: both directions together; without them a little

The seed is in every message. tests/net/soak/soak.h says what the programs do.
"""

import json
import os
import pathlib
import subprocess
import time

import labrun
import pytest

from two_nodes import LAB, MANIFESTS, paths  # noqa: F401: the lab of the fixture

GB = float(os.environ.get("WEFT_SOAK_GB") or 0)
SEED = int(os.environ.get("WEFT_SOAK_SEED") or time.time())
BUILD = pathlib.Path(os.environ.get("BUILD") or labrun.ROOT / "build").resolve()
SOAK = BUILD / "tests/net/soak"
PORT = 7600
FLOW = {1: 16 << 20, 16: 16 << 20, 1000: 1 << 20}  # of one phase: all that are open finish theirs at the end
LEAST = {1: 0.05, 16: 0.2, 1000: 0.2}


@pytest.mark.parametrize("connections, family", [(1, 4), (1, 6), (16, 4), (16, 6), (1000, 4)])
def test_every_byte(lab, tmp_path, connections, family):
    gb = GB or LEAST[connections]
    out = {pod: tmp_path / f"{pod}.out" for pod in ("client", "server")}
    address = f"[{lab.ip('server', 6)}]" if family == 6 else lab.ip("server")
    running = {}
    for pod, args in (("server", ["server", f"{address}:{PORT}"]),
                      ("client", ["client", f"{address}:{PORT}", "--bytes", int(gb * 1e9), "--connections", connections,
                                  "--seed", SEED])):
        with open(out[pod], "wb") as file:
            running[pod] = lab.start(pod, SOAK, *args, "--flow", FLOW[connections], stdout=file,
                                     stderr=subprocess.STDOUT, ready=PORT if pod == "server" else None)
    # "none" are those that are being opened while we look
    seen = {node: labrun.wait_for(lambda n=node: paths(lab, n, PORT) - {"none"}, 20, "a path") for node in ("n1", "n2")}
    code = running["client"].wait(60 + 60 * gb)
    said = f"seed {SEED}: " + "".join(f"{pod}: {path.read_text()}" for pod, path in out.items())
    assert (code, lab.stop(running["server"])) == (0, 0), said
    there, here = (json.loads(out[pod].read_text()) for pod in ("client", "server"))
    assert there["sent"] + there["checked"] >= gb * 1e9
    assert (there["sent"], there["checked"]) == (here["checked"], here["sent"]), said
    assert not here["open"], said
    assert seen == {"n1": {"tunnel"}, "n2": {"tunnel"}}, seen
    print(json.dumps({k: there[k] for k in ("seconds", "sent", "checked", "connections")}))
