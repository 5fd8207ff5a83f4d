# SPDX-License-Identifier: Apache-2.0
"""
weft's reading of HTTP/1 beside that of llhttp (Node's): of the same bytes each tells the requests that were complete
and their bodies' lengths. What weft takes llhttp refuses, or reads in the same way. WEFT_ODD=N generates that many.
"""

import os
import pathlib
import random
import struct
import subprocess

import odd_requests
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
COUNT = int(os.environ.get("WEFT_ODD", 10000))
READERS = {"weft": [BUILD / "tests/interop/requests"],
           "llhttp": ["node", "--no-deprecation", ROOT / "tests/interop/programs/llhttp.js"]}


def read(reader, blocks):
    """[(lengths of the bodies, "end" or "refused WHY")]"""
    data = b"".join(struct.pack(">I", len(b)) + b for b in blocks)
    done = subprocess.run(READERS[reader], input=data, capture_output=True, timeout=600)
    assert not done.returncode, done.stderr.decode()
    lines = done.stdout.decode().splitlines()
    assert len(lines) == len(blocks)
    told = []
    for words in map(str.split, lines):
        at = next(i for i, word in enumerate(words) if word in ("end", "refused"))
        told.append(([int(n) for n in words[:at]], " ".join(words[at:])))
    return told


def differs(ours, theirs):
    """Where weft has taken as complete what they read otherwise, or they see more than weft in what it took whole."""
    (mine, my_end), (other, other_end) = ours, theirs
    both = min(len(mine), len(other))
    if mine[:both] != other[:both]:
        return True
    if len(mine) > len(other):
        return not other_end.startswith("refused")
    return len(other) > len(mine) and my_end == "end"


def test_both_read_what_is_right():
    blocks = list(odd_requests.ACCEPTED.values())
    weft, llhttp = read("weft", blocks), read("llhttp", blocks)
    for name, ours, theirs in zip(odd_requests.ACCEPTED, weft, llhttp):
        assert len(ours[0]) == 1 and ours[1] == "end", (name, ours)
        assert ours == theirs or theirs[1].startswith("refused"), (name, ours, theirs)
    assert sum(ours == theirs for ours, theirs in zip(weft, llhttp)) > len(blocks) // 2


def test_weft_refuses_what_is_wrong():
    told = read("weft", list(odd_requests.REFUSED.values()))
    wrong = {name: t for name, t in zip(odd_requests.REFUSED, told)
             if not t[1].startswith("refused") and not name.startswith(PATHS)}
    assert not wrong, wrong


PATHS = ("%", "backslash", "bad escape", "half an escape", "above the root")  # who routes looks at those


def touched(count, seed):
    """What is right, twice, with a byte or two changed, taken out or put in."""
    r, right = random.Random(seed), list(odd_requests.ACCEPTED.values())
    for _ in range(count):
        made = bytearray(r.choice(right) + r.choice(right))
        for _ in range(r.choice([1, 1, 2])):
            at, byte = r.randrange(len(made)), r.choice(b"\0\t\n\v\r !\",:;=_-+0159afFxZ\x7f\x80\xff")
            made[at:at + r.choice([0, 1, 1, 2])] = bytes([byte]) * r.choice([0, 1, 1, 2])
        yield bytes(made)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_read_in_two_ways(seed):
    blocks = [*odd_requests.everything(0), *odd_requests.generated(COUNT, seed), *touched(COUNT, seed)]
    weft, llhttp = read("weft", blocks), read("llhttp", blocks)
    strange = [(b, ours, theirs) for b, ours, theirs in zip(blocks, weft, llhttp) if differs(ours, theirs)]
    assert not strange, strange[:3]
    assert sum(bool(ours[0]) for ours in weft) > COUNT // 10  # many are right, at least in part
