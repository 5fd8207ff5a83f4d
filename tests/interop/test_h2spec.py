# SPDX-License-Identifier: Apache-2.0
"""
h2spec, all of it and strict, against weft's HTTP/2 as a server. The server is tests/interop/programs/origin.c, which
is nothing but the codec over a socket. h2spec has 146 cases as the Go proxy has it (v2.2.1).
"""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()


@pytest.fixture
def origin():
    program = subprocess.Popen([BUILD / "tests/interop/origin", "0"], stdout=subprocess.PIPE, text=True)
    yield int(program.stdout.readline())
    still = program.poll()
    program.terminate()
    assert program.wait(30) == 0 and still is None


def test_h2spec(origin):
    done = subprocess.run(
        [BUILD / "tests/interop/h2spec", "-h", "127.0.0.1", "-p", str(origin), "--strict", "-o", "10"],
        capture_output=True, text=True, timeout=600,
    )
    said = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert said, done.stdout + done.stderr
    assert said.groups() == ("146", "146", "0", "0"), done.stdout
