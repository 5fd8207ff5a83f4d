# SPDX-License-Identifier: Apache-2.0
"""
certificates: for the peers of `make bench` and tests/interop, by openssl: a CA, new or the one that weft embeds, and
leaves with a SPIFFE id as URI SAN and both extended key usages, P-256, as HBONE asks for.
"""

import pathlib
import subprocess
import time

CONFIG = """
[ca]
default_ca = own
[own]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
unique_subject = no
x509_extensions = leaf
[any]
organizationName = optional
[leaf]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = {usage}
subjectAltName = critical,{san}
"""


class Authority:
    """A CA that signs. NAME.pem, NAME.key and NAME.both (what HAProxy wants) are written beside `ca.pem`."""

    def __init__(self, folder, chain, key, roots):
        self.folder, self.chain, self.key = pathlib.Path(folder), chain, key
        (self.folder / "ca.pem").write_text(roots)

    @classmethod
    def new(cls, folder, trust_domain="cluster.local"):
        folder = pathlib.Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        key, root = folder / "ca.key", folder / "root.pem"
        new_key(key)
        openssl("req", "-x509", "-new", "-key", key, "-sha256", "-days", "30", "-subj", f"/O={trust_domain}",
                "-out", root,
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
        return cls(folder, root, key, root.read_text())

    @classmethod
    def embedded(cls, folder, ca_dir):
        """The CA of a weft node (weftd --ca-dir), or of several that share it."""
        folder, ca_dir = pathlib.Path(folder), pathlib.Path(ca_dir)
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder, ca_dir / "ca-cert.pem", ca_dir / "ca-key.pem", (ca_dir / "root-cert.pem").read_text())

    def leaf(self, name, spiffe, begin=-60, end=86400, usage="serverAuth,clientAuth", san=None):
        """`begin`, `end`: seconds from now. `san`: instead of the URI."""
        key, request, config = (self.folder / f"{name}.{kind}" for kind in ("key", "csr", "cnf"))
        new_key(key)
        config.write_text(CONFIG.format(folder=self.folder, usage=usage, san=san or f"URI:{spiffe}"))
        (self.folder / "index.txt").write_text("")
        openssl("req", "-new", "-key", key, "-subj", "/O=peer", "-out", request)
        made = openssl("ca", "-batch", "-notext", "-config", config, "-in", request, "-cert", self.chain, "-keyfile",
                       self.key, "-startdate", moment(begin), "-enddate", moment(end))
        (self.folder / f"{name}.pem").write_text(made + self.intermediates())
        (self.folder / f"{name}.both").write_text((self.folder / f"{name}.pem").read_text() + key.read_text())
        for path in (request, config):
            path.unlink()

    def intermediates(self):
        """What stands between the leaf and the root; nothing where the root itself signs."""
        text = pathlib.Path(self.chain).read_text()
        return "" if text.strip() == (self.folder / "ca.pem").read_text().strip() else text


def new_key(path):
    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", path)
    path.chmod(0o600)


def moment(seconds):
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds))


def openssl(*args):
    done = subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise RuntimeError(f"openssl {args[0]}: {done.stderr.strip()}")
    return done.stdout
