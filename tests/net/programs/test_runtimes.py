# SPDX-License-Identifier: Apache-2.0
"""How languages read and write sockets: a conversation, then bulk there and back at once, half-close."""

import pathlib
import sys

import pytest

from place import MIB

HERE = pathlib.Path(__file__).parent
THREE = "[nodes.node]\n[pods.client]\n[pods.relay]\n[pods.server]\n"
TALK = 0.8  # seconds; weft looks at young connections twenty times a second
JOB = "a conversation, then 32 MiB there and back at once, half-close"


def echoed(place, command, port=7000):
    """Server and client of one language."""
    place.start("server", *command, "echo", port, ready=port)
    return place.run("client", *command, "talk", place.ip("server"), port, TALK, 32 * MIB)


@pytest.mark.parametrize("program, file, path", [
    ("python blocking", "blocking.py", None),
    ("python asyncio", "streams.py", "splice"),
])
def test_python(job, program, file, path):
    job(program, JOB, lambda place: echoed(place, [sys.executable, HERE / file]), path=path)


def test_node(job):
    job("node streams", JOB, lambda place: echoed(place, ["node", HERE / "streams.js"]), path="splice")


def test_java(job, java_classes):
    def nio(place):
        return echoed(place, ["java", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-cp", java_classes(), "Nio"])

    job("java NIO", JOB, nio, path="splice")


def test_go(job, go_relay):
    def relay(place):
        place.start("server", "node", HERE / "streams.js", "echo", 7000, ready=7000)
        place.start("relay", go_relay(), 7001, f"{place.ip('server')}:7000", ready=7001)
        return place.run("client", go_relay(), "-talk", f"{place.ip('relay')}:7001", TALK, 32 * MIB)

    job("go io.Copy", "a relay between a Go client and an echo, both ways by splice(2): the same", relay, pods=THREE)
