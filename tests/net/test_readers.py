# SPDX-License-Identifier: Apache-2.0
"""The programs that see readers by splice(2), which all instances on a machine share."""

import pathlib
import subprocess


from pairs import close, pair, settle

LAB = """
[nodes.node]
[pods.client]
[pods.server]
"""
PINS = pathlib.Path("/sys/fs/bpf/weft-readers-6")


def test_nobody_is_spliced_whose_reader_is_not_seen(make_lab):
    """The pins of the programs that see readers are replaced by somebody: said, and safe."""
    lab = make_lab(LAB, name="blind")
    c, s = pair(lab)
    settle(lab, c, s)
    subprocess.run(["bpftool", "map", "pin", "pinned", PINS / "caught", PINS / "again"], check=True)
    (PINS / "again").rename(PINS / "caught")  # the same map under another pin: the other instances' luck
    settle(lab, c, s, "reader_unseen")
    row = next(p for p in lab.weftctl("status")["probes"] if p["name"] == "splice readers")
    assert row["state"] == "off" and "restart weftd" in row["detail"]
    close(c, s)
