# SPDX-License-Identifier: Apache-2.0
"""
Certificates of two nodes that share a CA: one root, whoever was first; a new CA while connections stand; a revoked
certificate, and a CRL that cannot be read; a certificate for a peer that is no pod; files in place of a CA.
"""

import os
import pathlib
import signal
import ssl
import sys
import time

import labrun
import pytest
from test_tunnel import LAB, MANIFESTS, Pair, dial, listen

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools/bench"))

import certificates  # noqa: E402

SPLICE = ("splice",)  # nothing here depends on it
FILES = ("root-cert.pem", "ca-cert.pem", "ca-key.pem", "cert-chain.pem")
CRL = "[ca]\ndefault_ca = x\n[x]\ndatabase = {folder}/index.txt\ndefault_md = sha256\ncrl_extensions = e\n" \
      "[e]\nauthorityKeyIdentifier = keyid\n"


def certs(lab, node):
    return lab.weftctl("certs", node=node)


def identity(lab, node, name):
    for one in certs(lab, node)["identities"]:
        if one["identity"] == f"cluster.local/ns/default/sa/{name}":
            return one
    return None


def serials(lab, node):
    return {one["serial"] for one in certs(lab, node)["identities"]}


def wait_valid(lab, *names):
    for name in names:
        node = lab.pods[name]["node"]
        labrun.wait_for(lambda n=node, who=name: (identity(lab, n, who) or {}).get("state") == "valid", 10,
                        f"a certificate of {name}")


def put(folder, name, text, mode=0o600):
    fresh = pathlib.Path(folder) / f".{name}.new"
    fresh.write_text(text)
    fresh.chmod(mode)
    fresh.rename(pathlib.Path(folder) / name)


def talk(pair, data=b"still here"):
    pair.client.sendall(data)
    assert pair.server.recv(100) == data
    pair.server.sendall(data[::-1])
    assert pair.client.recv(100) == data[::-1]


def refused(lab, source="near", target="far", port=7999):
    """Nobody gets through: the worker takes the connection and resets it."""
    with listen(lab, target, port):
        try:
            with dial(lab, source, (lab.ip(target), port)) as s:
                return s.recv(1) == b"" and "ended in order"
        except ConnectionResetError:
            return True


def roots(lab, node):
    return [r["sha256"] for r in certs(lab, node)["roots"]]


def not_ready(lab, node="n1"):
    return lab.weftctl("status", node=node, check=False)["why"]


def crl_of(lab, tmp, *serials, end=86400):
    """A list of the CA that is in force."""
    ca = lab.ca_dir()
    (tmp / "crl.cnf").write_text(CRL.format(folder=tmp))
    (tmp / "index.txt").write_text("".join(
        f"R\t400101000000Z\t260101000000Z\t{serial.upper()}\tunknown\t/CN=x\n" for serial in serials))
    return certificates.openssl("ca", "-gencrl", "-config", tmp / "crl.cnf", "-keyfile", ca / "ca-key.pem", "-cert",
                                ca / "ca-cert.pem", "-crl_lastupdate", certificates.moment(-7200), "-crl_nextupdate",
                                certificates.moment(end))


def new_ca(tmp, name):
    """The four files of another root."""
    made = certificates.Authority.new(tmp / name)
    root = (made.folder / "root.pem").read_text()
    return {"root-cert.pem": root, "ca-cert.pem": root, "ca-key.pem": made.key.read_text(), "cert-chain.pem": ""}


@pytest.fixture
def clean_ca(lab):
    """The CA's files as they were, afterwards."""
    before = {name: (lab.ca_dir() / name).read_text() for name in FILES}
    root = roots(lab, "n1")
    yield before
    signs = (lab.ca_dir() / "ca-cert.pem").read_text()
    was = {node: serials(lab, node) for node in lab.nodes}
    (lab.ca_dir() / "ca-crl.pem").unlink(missing_ok=True)
    for name in reversed(FILES):
        put(lab.ca_dir(), name, before[name])
    for node in lab.nodes:
        labrun.wait_for(lambda n=node: roots(lab, n) == root and certs(lab, n)["crl"] == "none" and
                        not certs(lab, n)["problem"], 10, f"{node} with the CA that it had")
        if signs != before["ca-cert.pem"]:
            labrun.wait_for(lambda n=node: not was[n] & serials(lab, n), 10, f"all certificates of {node} anew")


# ------------------------------------------------------------------ one CA


def test_nodes_that_share_a_folder_have_one_root(lab):
    wait_valid(lab, "near", "second", "far", "other")
    assert roots(lab, "n1") == roots(lab, "n2") and len(roots(lab, "n1")) == 1
    for name in FILES:
        found = (lab.ca_dir() / name).stat()
        assert (found.st_mode & 0o777, found.st_uid) == (0o600, 0), name
    assert sorted(p.name for p in lab.ca_dir().iterdir()) == sorted(FILES)  # nothing else is left there
    assert {i["identity"].rpartition("/")[2] for i in certs(lab, "n1")["identities"]} == {"near", "second"}
    with Pair(lab) as p:
        talk(p)


def test_keys_do_not_leave_the_worker(lab):
    """Not in a core, not for others of its user; not in the log."""
    worker = lab.weftctl("status", node="n1")["worker"]["pid"]
    assert os.stat(f"/proc/{worker}/mem").st_uid == 0  # root's, because it is not dumpable
    assert "0 " in next(line for line in pathlib.Path(f"/proc/{worker}/limits").read_text().splitlines()
                        if line.startswith("Max core file size"))[20:40]
    assert "PRIVATE" not in lab.log("n1") and "core dump" not in lab.log("n1")


def test_what_is_wrong_is_said_and_mended(lab, clean_ca):
    key = lab.ca_dir() / "ca-key.pem"
    with Pair(lab) as p:
        for spoil, sentence in ((lambda: key.chmod(0o644), "chmod 600"),
                                (lambda: put(lab.ca_dir(), "ca-key.pem", new_ca(lab.scratch, "x")["ca-key.pem"]),
                                 "is not the key of ca-cert.pem"),
                                (key.unlink, "ca-key.pem is missing")):
            spoil()
            labrun.wait_for(lambda s=sentence: s in not_ready(lab), 5, f"not ready: {sentence}")
            assert sentence in certs(lab, "n2")["problem"]
            talk(p)
            put(lab.ca_dir(), "ca-key.pem", clean_ca["ca-key.pem"])
            labrun.wait_for(lambda: lab.weftctl("status", node="n1", check=False)["ready"], 5, "ready again")


def test_what_changed_without_a_weftd_is_seen_by_the_next(lab, clean_ca):
    """What the worker asks for while there is no supervisor is asked of the next one."""
    key = lab.ca_dir() / "ca-key.pem"
    worker = lab.weftctl("status", node="n1")["worker"]["pid"]
    os.kill(lab.supervisor("n1"), signal.SIGKILL)
    key.chmod(0o644)
    labrun.wait_for(lambda: "chmod 600" in certs(lab, "n2")["problem"], 5, "n2 sees it")
    lab.start_weft("n1")
    labrun.wait_for(lambda: "chmod 600" in not_ready(lab), 10, "n1 sees it too")
    assert lab.weftctl("status", node="n1", check=False)["worker"]["pid"] == worker
    key.chmod(0o600)
    labrun.wait_for(lambda: lab.weftctl("status", node="n1", check=False)["ready"], 5, "ready again")
    with Pair(lab) as p:
        talk(p)


def test_a_new_ca_drops_no_connection(lab, clean_ca, tmp_path):
    wait_valid(lab, "near", "far")
    fresh = new_ca(tmp_path, "fresh")
    was = {name: identity(lab, node, name)["serial"] for node, name in (("n1", "near"), ("n2", "far"))}
    with Pair(lab) as p:
        talk(p)
        # both roots are believed, then the new one signs
        put(lab.ca_dir(), "root-cert.pem", clean_ca["root-cert.pem"] + fresh["root-cert.pem"])
        for node in lab.nodes:
            labrun.wait_for(lambda n=node: len(roots(lab, n)) == 2, 5, f"two roots on {node}")
        for name in ("cert-chain.pem", "ca-cert.pem", "ca-key.pem"):
            put(lab.ca_dir(), name, fresh[name])
        for node, name in (("n1", "near"), ("n2", "far")):
            labrun.wait_for(lambda n=node, who=name: identity(lab, n, who)["serial"] != was[who], 5,
                            f"a new certificate of {name}")
        talk(p)
        with Pair(lab, source="second", target="other") as q:
            talk(q)
            # the old root goes: who leads to it goes too
            put(lab.ca_dir(), "root-cert.pem", fresh["root-cert.pem"])
            with pytest.raises(ConnectionResetError):
                p.client.recv(1)
            talk(q)
    with Pair(lab) as p:
        talk(p)


# ------------------------------------------------------------------ revocation


def test_a_revoked_certificate(lab, clean_ca, tmp_path):
    wait_valid(lab, "near", "second", "far", "other")
    serial = identity(lab, "n2", "far")["serial"]
    with Pair(lab) as p, Pair(lab, source="second", target="other") as q:
        talk(p)
        put(lab.ca_dir(), "ca-crl.pem", crl_of(lab, tmp_path, serial))
        with pytest.raises(ConnectionResetError):
            p.client.recv(1)
        talk(q)  # nobody revoked theirs
    assert certs(lab, "n1")["crl"] == "valid"
    assert refused(lab) is True
    with Pair(lab, source="second", target="other") as q:
        talk(q)
    (lab.ca_dir() / "ca-crl.pem").unlink()
    for node in lab.nodes:
        labrun.wait_for(lambda n=node: certs(lab, n)["crl"] == "none", 5, f"no CRL on {node}")


@pytest.mark.parametrize("what, stranger", [("unreadable", ("near", "other")), ("expired", ("second", "far"))])
def test_a_crl_fails_closed(lab, clean_ca, tmp_path, what, stranger):
    """No handshake is made; a connection between nodes that stands carries on, new ones of its pods too."""
    with Pair(lab) as p:
        put(lab.ca_dir(), "ca-crl.pem", "no CRL" if what == "unreadable" else crl_of(lab, tmp_path, end=-60))
        sentence = "cannot be read" if what == "unreadable" else "has expired"
        labrun.wait_for(lambda: sentence in not_ready(lab), 5, f"not ready: {sentence}")
        talk(p)  # what stands goes on
        assert refused(lab, *stranger) is True
        with Pair(lab, source="near", target="second") as q:  # nothing of this node needs one
            talk(q)
    assert sentence in lab.log("n1")
    (lab.ca_dir() / "ca-crl.pem").unlink()
    labrun.wait_for(lambda: lab.weftctl("status", node="n1", check=False)["ready"], 5, "ready again")
    with Pair(lab, source=stranger[0], target=stranger[1]) as q:
        talk(q)


# ------------------------------------------------------------------ peers that are no pods of weft


def handshake(lab, name, to, folder, who=None, alpn=("h2",)):
    """A client of Python's, from a pod: what it agreed on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder / "roots.pem")
    if who:
        context.load_cert_chain(folder / f"default.{who}.pem", folder / f"default.{who}.key")
    context.set_alpn_protocols(list(alpn))
    raw = lab.socket(name)
    raw.settimeout(30)
    raw.connect((lab.ip(to), 15008))
    with context.wrap_socket(raw) as s:
        s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        first = s.recv(100)  # its SETTINGS: it has taken our certificate
        return s.version(), s.cipher()[0], s.selected_alpn_protocol(), first[3:4]


def test_a_certificate_for_a_peer(lab, tmp_path):
    lab.weftctl("issue", "default/envoy", "--to", str(tmp_path), node="n1", text=True)
    assert ((tmp_path / "default.envoy.key").stat().st_mode & 0o777) == 0o600
    for purpose in ("sslclient", "sslserver"):
        certificates.openssl("verify", "-x509_strict", "-purpose", purpose, "-CAfile", tmp_path / "roots.pem",
                             tmp_path / "default.envoy.pem")
    assert handshake(lab, "far", "far", tmp_path, "envoy") == ("TLSv1.3", "TLS_AES_128_GCM_SHA256", "h2", b"\4")
    for options in ({"who": None}, {"who": "envoy", "alpn": ("http/1.1",)}):
        with pytest.raises((ssl.SSLError, ConnectionResetError)):
            handshake(lab, "far", "far", tmp_path, **options)
    assert "peer sent no certificate" in lab.log("n2")


def hello(lab, name, to, folder, who):
    """A client of Python's whose last flight is still to be sent: its end of TLS, what waits, and the socket."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder / "roots.pem")
    context.load_cert_chain(folder / f"default.{who}.pem", folder / f"default.{who}.key")
    context.set_alpn_protocols(["h2"])
    got, says = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(got, says)
    raw = lab.socket(name)
    raw.settimeout(30)
    raw.connect((lab.ip(to), 15008))
    while True:
        try:
            tls.do_handshake()
            return tls, got, says, raw
        except ssl.SSLWantReadError:
            raw.sendall(says.read())
            got.write(raw.recv(1 << 16))


def first_words(tls, got, raw):
    """Of the server behind the handshake; b"": an alert, or the end."""
    while True:
        try:
            return tls.read(100)
        except ssl.SSLWantReadError:
            more = raw.recv(1 << 16)
            if not more:
                return b""
            got.write(more)
        except ssl.SSLError:
            return b""


def test_revoked_while_it_shakes_hands(lab, clean_ca, tmp_path):
    """Who is revoked between his hello and his certificate does not get in by what was believed before."""
    lab.weftctl("issue", "default/envoy", "--to", str(tmp_path), node="n1", text=True)
    serial = certificates.openssl("x509", "-in", tmp_path / "default.envoy.pem", "-noout", "-serial").strip()
    tls, got, says, raw = hello(lab, "far", "far", tmp_path, "envoy")
    with raw:
        put(lab.ca_dir(), "ca-crl.pem", crl_of(lab, tmp_path, serial.partition("=")[2]))
        labrun.wait_for(lambda: certs(lab, "n2")["crl"] == "valid", 5, "the CRL")
        raw.sendall(says.read())
        try:
            assert not first_words(tls, got, raw)
        except ConnectionResetError:
            pass
    labrun.wait_for(lambda: "the certificate was revoked" in lab.log("n2"), 10, "n2 says so")


def test_revoked_while_it_stands(lab, clean_ca, tmp_path):
    """The server's side: its client was revoked."""
    lab.weftctl("issue", "default/envoy", "--to", str(tmp_path), node="n1", text=True)
    serial = certificates.openssl("x509", "-in", tmp_path / "default.envoy.pem", "-noout", "-serial").strip()
    tls, got, says, raw = hello(lab, "far", "far", tmp_path, "envoy")
    with raw:
        tls.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        raw.sendall(says.read())
        assert first_words(tls, got, raw)[3:4] == b"\4"
        put(lab.ca_dir(), "ca-crl.pem", crl_of(lab, tmp_path, serial.partition("=")[2]))
        start = time.monotonic()
        try:
            while first_words(tls, got, raw):  # until it ends
                pass
        except ConnectionResetError:
            pass
    assert time.monotonic() - start < 15  # 30: that we answer no PING
    assert certs(lab, "n2")["crl"] == "valid"


# ------------------------------------------------------------------ files in place of a CA


def test_files_of_each_identity(make_lab, tmp_path):
    folder = tmp_path / "certs"
    folder.mkdir(mode=0o700)
    ca = certificates.Authority.new(tmp_path / "ca")
    for name in ("near", "far"):
        ca.leaf(name, f"spiffe://cluster.local/ns/default/sa/{name}")
        put(folder, f"default.{name}.pem", (ca.folder / f"{name}.pem").read_text(), 0o644)
        put(folder, f"default.{name}.key", (ca.folder / f"{name}.key").read_text())
    put(folder, "roots.pem", (ca.folder / "ca.pem").read_text(), 0o644)
    lab = make_lab(f'args = ["--certs-dir", "{folder}"]\n' + LAB, MANIFESTS, wait=False)
    wait_valid(lab, "near", "far")
    with Pair(lab) as p:
        talk(p)
        # renewed by their owner: nobody notices, and the next ones use it
        was = identity(lab, "n2", "far")["serial"]
        ca.leaf("far", "spiffe://cluster.local/ns/default/sa/far")
        put(folder, "default.far.key", (ca.folder / "far.key").read_text())
        put(folder, "default.far.pem", (ca.folder / "far.pem").read_text(), 0o644)
        labrun.wait_for(lambda: identity(lab, "n2", "far")["serial"] != was, 5, "the new certificate")
        talk(p)
        # somebody else's
        good = identity(lab, "n2", "far")["serial"]
        ca.leaf("bad", "spiffe://cluster.local/ns/default/sa/near")
        put(folder, "default.far.pem", (ca.folder / "bad.pem").read_text(), 0o644)
        put(folder, "default.far.key", (ca.folder / "bad.key").read_text())
        labrun.wait_for(lambda: "it is of spiffe://cluster.local/ns/default/sa/near" in
                        identity(lab, "n2", "far")["problem"], 5, "the problem")
        assert identity(lab, "n2", "far")["serial"] == good
    assert identity(lab, "n1", "second")["problem"].startswith("default.second.pem is missing in ")
    assert refused(lab, "second", "other") is True
    done = lab.weftctl("issue", "default/x", "--to", str(tmp_path), node="n1", text=True, check=False)
    assert "weft has no CA here" in str(done)
