# SPDX-License-Identifier: Apache-2.0
"""mosquitto: publishers and a subscriber through a broker, the three qualities of service."""

import subprocess

from place import MIB, PATIENCE, digest, find, noise

COUNT = 2000


def test_mosquitto(job):
    def mosquitto(place):
        conf = place.file("mosquitto.conf", "listener 1883\nallow_anonymous true\nuser root\nlog_type error\n"
                                            "max_inflight_messages 0\nmax_queued_messages 0\n")
        place.start("server", "mosquitto", "-c", conf, ready=1883)
        broker = ["-h", place.ip("server"), "-i"]
        return [published(place, broker, qos) for qos in ("0", "1", "2")] + [large(place, broker)]

    job("mosquitto", f"{COUNT} messages to a subscriber with QoS 0, 1 and 2, one of 4 MiB", mosquitto)


def subscriber(place, broker, topic, *options):
    """A subscriber whose subscription stands: the broker has sent it the retained message."""
    place.run("client", "mosquitto_pub", *broker, "herald", "-r", "-t", topic, "-m", "begin")
    p = place.lab.start("client", find("mosquitto_sub"), *broker, "reader", "-t", topic, "-W", PATIENCE, *options,
                        stdout=subprocess.PIPE)
    assert p.stdout.readline().strip() in (b"begin", b"begin".hex().encode())
    return p


def published(place, broker, qos):
    lines = "".join(f"{n} {digest(str(n))}\n" for n in range(COUNT))
    reader = subscriber(place, broker, f"lines{qos}", "-q", qos, "-C", COUNT + 1)
    place.run("client", "mosquitto_pub", *broker, "writer", "-q", qos, "-t", f"lines{qos}", "-l", input=lines.encode())
    got = reader.stdout.read().decode()
    assert got == lines and reader.wait() == 0
    return digest(got)


def large(place, broker):
    reader = subscriber(place, broker, "large", "-C", 2, "-F", "%x")
    payload = place.file("payload", noise(4 * MIB))
    place.run("client", "mosquitto_pub", *broker, "writer", "-t", "large", "-f", payload)
    got = reader.stdout.read()
    assert bytes.fromhex(got.decode()) == noise(4 * MIB) and reader.wait() == 0
    return digest(got)
