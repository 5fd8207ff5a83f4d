# SPDX-License-Identifier: Apache-2.0
"""iperf3 in its modes: a fixed amount, of which everything must arrive."""

import json

import pytest

AMOUNT = "400M"


@pytest.mark.parametrize("what, options", [
    ("one stream", ("-n", AMOUNT)),
    ("zero copy", ("-Z", "-n", AMOUNT)),
    ("reverse", ("-R", "-n", AMOUNT)),
    ("reverse, zero copy", ("-R", "-Z", "-n", AMOUNT)),
    ("both ways", ("--bidir", "-n", AMOUNT)),
    ("8 streams", ("-P", "8", "-n", AMOUNT)),
    ("IPv6", ("-6", "-n", AMOUNT)),
    ("writes of 1 KB", ("-N", "-l", "1K", "-n", "60M")),
    ("writes of 64 bytes", ("-N", "-l", "64", "-n", "8M")),
    ("UDP", ("-u", "-b", "200M", "-n", "10M")),
])
def test_iperf3(job, what, options):
    def iperf3(place):
        place.start("server", "iperf3", "-s", "-1", ready=5201)
        host = place.ip("server", 6 if "-6" in options else 4)
        said = json.loads(place.run("client", "iperf3", "-J", "-c", host, *options))
        end = said["end"]
        assert "error" not in said
        if "-u" in options:
            return end["sum"]["bytes"] >= 10 << 20  # 3.18 ends by the clock, some later than others
        seen = []
        for way in ("", "_bidir_reverse"):
            if f"sum_sent{way}" in end:
                sent, got = end[f"sum_sent{way}"]["bytes"], end[f"sum_received{way}"]["bytes"]
                assert sent >= got > sent / 2  # what is under way at its end it does not read
                seen.append(way)
        return seen

    job(f"iperf3 {' '.join(options)}", what, iperf3)
