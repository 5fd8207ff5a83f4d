# SPDX-License-Identifier: Apache-2.0
"""weftd ends, in order or not, while its pods talk: nobody notices; started again, it knows them all."""

import json
import signal
import socket
import subprocess

import labrun
import pytest

from pairs import Streams, behind_a_service, close, listen, pair, settle, shown, talk

LAB = """
[nodes.node]
[pods.client]
service_account = "client"
[pods.server]
labels = { app = "web" }
[pods.stranger]
"""
SPLICE = ("splice",)
VIP = "10.96.8.1"
MANIFESTS = behind_a_service(VIP, 7400)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_live_connections_do_not_notice(lab, how):
    c, s = pair(lab)
    quiet = pair(lab, to=(VIP, 80), port=7400)
    settle(lab, c, s)
    settle(lab, *quiet)
    server = lab.start("server", "iperf3", "-s", ready=5201)
    iperf = lab.start("client", "iperf3", "-J", "-t", "3", "-c", lab.ip("server"), stdout=subprocess.PIPE)
    with Streams(c, s) as streams:
        labrun.wait_for(lambda: streams.both[0].bytes > 1 << 20, 10, "the streams under way")
        lab.kill_weft(how=how)
        talk(*quiet)  # spliced, as before
        with pytest.raises(ConnectionRefusedError):  # policy and services go on
            lab.socket("stranger").connect((VIP, 80))
        during = pair(lab, to=(VIP, 80), port=7400)
        talk(*during)
        assert during[0].getpeername() == (VIP, 80)
        lab.start_weft()
        labrun.wait_for(lab.ready, 10, "weft ready again")
        talk(*quiet)
    assert min(streams.intact()) > 1 << 20
    assert not json.loads(iperf.communicate(timeout=20)[0]).get("error")
    for known in (quiet, during):
        seen = settle(lab, *known)
        assert seen["service"] == "default/web"
        assert (seen["source"]["pod"], seen["destination"]["pod"]) == ("default/client", "default/server")
        talk(*known)
        assert shown(lab, known[0])["messages_spliced"] > seen["messages_spliced"]
    lab.stop(server)
    close(c, s, *quiet, *during)


def test_after_it_a_change_takes_effect(lab):
    lab.kill_weft()
    lab.manifest("policy.yaml", MANIFESTS["policy.yaml"].replace("sa/client", "sa/default"))
    with listen(lab, "server", 7400):
        with pytest.raises(ConnectionRefusedError):
            lab.socket("stranger").connect((VIP, 80))
        lab.start_weft()

        def allowed():
            with lab.socket("stranger") as s:
                return s.connect_ex((VIP, 80)) == 0

        labrun.wait_for(allowed, 10, "the policy that was written while weftd was dead")
        with pytest.raises(ConnectionRefusedError):
            lab.socket("client").connect((VIP, 80))
    lab.manifest("policy.yaml", MANIFESTS["policy.yaml"])
    labrun.wait_for(lambda: not allowed_now(lab), 10, "the old policy")


def allowed_now(lab):
    with listen(lab, "server", 7400), lab.socket("stranger", socket.AF_INET) as s:
        return s.connect_ex((VIP, 80)) == 0
