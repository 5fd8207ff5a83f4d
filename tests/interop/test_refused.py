# SPDX-License-Identifier: Apache-2.0
"""
Peers that weft must not believe: an Envoy with a certificate that is wrong in one way, as client and as server. Nothing
gets through, the application learns it at once, and the node's log says what was wrong with whom. Right after it, on
the same node, the good Envoy gets through.
"""

import certificates
import pytest

from foreign import LAB, MANIFESTS, ODD, spiffe, until_logged  # noqa: F401: the lab of the fixture
from pairs import listen

SPLICE = ("splice",)
PORT, SHIFT = 7000, 500  # SHIFT: of the ports of the Envoys with bad certificates
OTHER_TD = spiffe("envoy-near", "other.example")
# (leaf of the CA that the nodes share, or of another one; what the log says)
CLIENTS = {
    "other trust domain": ({"spiffe": OTHER_TD}, "the certificate is of another trust domain"),
    "expired": ({"begin": -7200, "end": -3600}, "certificate has expired"),
    "not yet valid": ({"begin": 3600, "end": 7200}, "certificate is not yet valid"),
    "no SPIFFE name": ({"san": "DNS:envoy-near.example"}, "the certificate has no SPIFFE identity"),
    "half a SPIFFE name": ({"spiffe": "spiffe://cluster.local/ns/default"},
                           "the certificate has a malformed SPIFFE identity"),
    "for servers only": ({"usage": "serverAuth"}, "certificate is not for this use"),
    "other CA": ({"stranger": True}, "unknown ca"),
    "no certificate": (None, "peer sent no certificate"),
}
SERVERS = {
    "other identity": ({"spiffe": spiffe("envoy-far")}, "the certificate is not of the identity that was asked for"),
    "other trust domain": ({"spiffe": spiffe(ODD, "other.example")},
                           "the certificate is not of the identity that was asked for"),
    "expired": ({"begin": -7200, "end": -3600}, "certificate has expired"),
    "for clients only": ({"usage": "clientAuth"}, "certificate is not for this use"),
    "other CA": ({"stranger": True}, "unknown ca"),
}


def leaf(foreign, name, account, stranger=False, **what):
    """Writes a certificate; gives the folder that it is in, with the roots that its owner believes."""
    authority = foreign.authority
    if stranger:
        authority = certificates.Authority.new(foreign.lab.scratch / "stranger")
        (authority.folder / "ca.pem").write_text((foreign.authority.folder / "ca.pem").read_text())
    authority.leaf(name, **{"spiffe": spiffe(account)} | what)
    return authority.folder


def ends_at_once(*way):
    """Not a byte, and no orderly end that could be taken for an answer. connect() may see it already."""
    with pytest.raises((ConnectionResetError, BrokenPipeError)), way[0].connect(*way[1:]) as s:
        s.sendall(b"let me in")
        assert not s.recv(100)
        s.sendall(b"let me in")  # Envoy says an end first, then resets
        s.recv(100)
        s.sendall(b"let me in")


@pytest.mark.parametrize("what", list(CLIENTS))
def test_a_client_that_is_refused(lab, foreign, what):
    made, says = CLIENTS[what]
    name = f"client {what}".replace(" ", "-")
    folder = leaf(foreign, name, "envoy-near", **made) if made else foreign.authority.folder
    bad = foreign.client("weft-far", name if made else None, folder, SHIFT)
    before = len(lab.log("n2").splitlines())
    with listen(lab, "weft-far", PORT) as listener:
        ends_at_once(foreign, "envoy-near", "weft-far", PORT, SHIFT)
        until_logged(lab, "n2", says, lab.ip("envoy-near"), since=before)
        foreign.stop(bad)
        listener.settimeout(10)
        good = foreign.connect("envoy-near", "weft-far", PORT)
        good.sendall(b"!")
        s, _ = listener.accept()  # the first one that ever came through
        assert s.recv(10) == b"!"
        s.close()
        good.close()


@pytest.mark.parametrize("what", list(SERVERS))
def test_a_server_that_is_refused(lab, foreign, what):
    made, says = SERVERS[what]
    name = f"server {what}".replace(" ", "-")
    bad = foreign.server(ODD, name, leaf(foreign, name, ODD, **made))
    before = len(lab.log("n1").splitlines())
    with listen(lab, ODD, PORT) as listener:
        ends_at_once(foreign, "weft-near", ODD, PORT)
        until_logged(lab, "n1", says, lab.ip(ODD), since=before)
        foreign.stop(bad)
        leaf(foreign, "odd", ODD)
        good = foreign.server(ODD, "odd")
        listener.settimeout(10)
        c = foreign.connect("weft-near", ODD, PORT)
        c.sendall(b"!")
        s, _ = listener.accept()
        assert s.recv(10) == b"!"
        s.close()
        c.close()
        foreign.stop(good)
