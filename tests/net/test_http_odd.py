# SPDX-License-Identifier: Apache-2.0
"""
Odd requests through weft toward nginx, HAProxy, Apache and Node: each of them saw only requests that weft counted,
which carry the request id that weft gave them, each once. WEFT_ODD=N generates that many (600 otherwise); with more,
nginx refuses some before it reads the id (CONNECT, *, Expect twice, a method of small letters): see who asked for them.
"""

import collections
import concurrent.futures
import os
import re
import socket
import time

import http_peers
import labrun
import odd_requests
import pytest
import routed
from bystander import beside
from http_programs import Program
from odd_requests import ACCEPTED, REFUSED

SPLICE = ("splice",)
LAB = routed.LAB
COUNT = int(os.environ.get("WEFT_ODD", 600))
PLACES = dict(zip(Program.names, ("near", "near2", "far", "far2")))
VIPS = {name: f"10.96.14.{n}" for n, name in enumerate(Program.names, 1)}
BYSTANDER = "10.96.14.99"
PORT = 9000
MANIFESTS = {"odd.json": routed.listed(
    *routed.of_pods(),
    *(routed.service(f"odd-{name}", vip, [("http", 80, PORT, None)], PLACES[name]) for name, vip in VIPS.items()),
    *(routed.route(f"odd-{name}", f"odd-{name}", [{"backendRefs": [{"name": f"odd-{name}", "port": 80}]}])
      for name in VIPS),
    routed.service("bystander", BYSTANDER, [("http", 80, 8081, None)], "near2"),
    routed.route("bystander", "bystander", [routed.rule(routed.backend("near2"))]))}


@pytest.fixture(scope="module")
def programs(lab):
    made = {name: Program(lab, name, pod, PORT) for name, pod in PLACES.items()}
    for vip in VIPS.values():
        labrun.wait_for(lambda v=vip: {200, 404} & set(statuses(say(lab, v, ACCEPTED["plain"]))), 60,
                        f"an answer of {vip}")
    origin = http_peers.Origin(lab, "near2", 8081, "h1")
    routed.until_answered(lab, BYSTANDER)
    with beside(lab, BYSTANDER, 24):  # all that the tests of this file do
        yield made
    origin.close()


def say(lab, vip, data, sock=None):
    """Says it and no more; all that comes back until the other side ends it. None: it never did."""
    s = sock or lab.socket("client")
    s.settimeout(60)
    back = bytearray()
    try:
        s.connect((vip, 80))
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        while more := s.recv(65536):
            back += more
    except TimeoutError:
        return None
    except OSError:
        pass  # a reset is an end as well
    finally:
        s.close()
    return bytes(back)


def statuses(back):
    """Of the answers, as far as they can be told apart."""
    return [int(n) for n in re.findall(rb"(?:^|\n|\}|>)HTTP/1\.[01] (\d{3})", back or b"")]


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_right_is_served(lab, programs, name):
    assert 200 in statuses(say(lab, VIPS["nginx"], ACCEPTED[name])), name


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_refused(lab, programs, name):
    """And nobody behind weft hears of a second request."""
    back = say(lab, VIPS["node"], REFUSED[name])
    assert statuses(back) in ([400], [501]), back  # 501: a coding that is none of ours
    assert not [line for _, line in programs["node"].seen() if "smuggled" in line]  # of those before it as well


@pytest.mark.parametrize("program", Program.names)
def test_nobody_sees_what_weft_did_not_send(lab, programs, program):
    requests = odd_requests.everything(COUNT)
    sockets = lab.sockets("client", len(requests))
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        back = list(pool.map(lambda r: say(lab, VIPS[program], *r), zip(requests, sockets)))
    hung = [r for r, b in zip(requests, back) if b is None]
    assert not hung, hung[:5]

    answered = sum(bool({200, 404} & set(statuses(b))) for b in back)  # 404: Apache has no such file
    lines, since = [], time.monotonic()
    while time.monotonic() - since < (0.5 if len(lines) >= answered - 1 else 60):  # until it logs no more
        if more := programs[program].seen():
            lines, since = lines + more, time.monotonic()
        time.sleep(0.02)  # between two looks
    strange = [line for rid, line in lines if len(rid) < 8]
    assert not strange, strange[:5]
    twice = [rid for rid, n in collections.Counter(rid for rid, _ in lines).items() if n > 1]
    assert not twice, [line for rid, line in lines if rid in twice][:5]
    refused = [line for _, line in lines if re.match(r"\S+ 400 ", line)]
    # Apache says 400 of each whose head weft had passed on when it found the rest to be wrong or missing.
    cut = sum(b"\r\n\r\n" in r and not {200, 404} & set(statuses(b)) for r, b in zip(requests, back))
    assert len(refused) <= cut + len(lines) // 50, refused[:5]
    assert answered >= len(ACCEPTED) and answered <= len(lines) + 1, (answered, len(lines))
