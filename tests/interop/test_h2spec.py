# SPDX-License-Identifier: Apache-2.0
"""
h2spec, all of it and strict, against weft's HTTP/2 as a server. The server is tests/interop/programs/origin.c, which
is nothing but the codec over a socket. h2spec has 146 cases as the Go proxy has it (v2.2.1: later ones have no module
path of Go); the 147th, which came to section 2.3.3 of its hpack part after v2.6.0, is played here.
"""

import os
import pathlib
import re
import socket
import subprocess

import hpack
import pytest
from hyperframe import frame as frames

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


COMPRESSION_ERROR = 9


def test_a_literal_field_whose_name_has_an_index_that_is_none(origin):
    """RFC 7541 section 2.3.3: an index beyond both tables is an error of decoding, in a literal too."""
    beyond = b"\x7f\x07\x00"  # with incremental indexing, name 70, an empty value
    head = hpack.Encoder().encode([(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")])
    with socket.create_connection(("127.0.0.1", origin), timeout=30) as s:
        s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frames.SettingsFrame(0).serialize()
                  + frames.HeadersFrame(1, head + beyond, flags=["END_HEADERS", "END_STREAM"]).serialize())
        heard = b""
        while more := s.recv(65536):
            heard += more
    said = []
    while heard:
        frame, length = frames.Frame.parse_frame_header(memoryview(heard[:9]))
        frame.parse_body(memoryview(heard[9:9 + length]))
        said.append(frame)
        heard = heard[9 + length:]
    assert isinstance(said[-1], frames.GoAwayFrame) and said[-1].error_code == COMPRESSION_ERROR, said
    assert not [f for f in said if isinstance(f, frames.HeadersFrame)], said
