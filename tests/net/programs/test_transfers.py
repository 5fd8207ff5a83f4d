# SPDX-License-Identifier: Apache-2.0
"""OpenSSH with scp and rsync, vsftpd, git daemon, socat: interactive first, then files."""

import os
import pathlib
import sys

from place import MIB, digest, find, noise

HERE = pathlib.Path(__file__).parent
SSHD = """
Port 2200
HostKey {folder}/host
PidFile none
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PermitRootLogin yes
Subsystem sftp internal-sftp
"""
VSFTPD = """
listen=YES
listen_port=2121
background=NO
anonymous_enable=YES
anon_root={folder}/ftp
anon_upload_enable=YES
anon_umask=022
write_enable=YES
no_anon_password=YES
local_enable=NO
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
connect_from_port_20=NO
pasv_min_port=2130
pasv_max_port=2160
secure_chroot_dir={folder}/empty
"""
SIZES = (0, 1, 5000, 300_000, 8 * MIB)


def test_ssh(job):
    def ssh(place):
        for name in ("host", "key"):
            place.run("client", "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", place.folder / name)
        conf = place.file("sshd.conf", SSHD.format(folder=place.folder))
        os.makedirs("/run/sshd", exist_ok=True)  # it wants its empty folder, which the service would make
        # sshd lets nobody in whose password is locked, as that of root often is: it gets another /etc/shadow to see.
        shadow = place.file("shadow", "root:*:20000:0:99999:7:::\nsshd:*:20000::::::\n")
        place.start("server", "unshare", "--mount", "sh", "-ec",
                    'mount --bind "$1" /etc/shadow; exec "$2" -D -e -f "$3"', "sh", shadow, find("sshd"), conf,
                    ready=2200)
        options = ["-F", "none", "-i", str(place.folder / "key"), "-o", "StrictHostKeyChecking=no", "-o",
                   "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "Port=2200", "-o", "BatchMode=yes"]
        there = f"root@{place.ip('server')}"
        seen = [typed(place, [find("ssh"), *options, there, "cat"]),
                place.run("client", "ssh", *options, there, "sha256sum", input=noise(16 * MIB)),
                digest(place.run("client", "ssh", *options, there, f"{sys.executable} -c \"import random; "
                                 "print(random.Random(1).randbytes(1 << 23).hex())\""))]
        return seen + copied(place, options, there)

    job("openssh", "a line typed and echoed 1 500 times; 16 MiB in, 16 MiB out; scp and rsync there and back", ssh,
        path="splice")


def typed(place, command):
    """Lines to a remote cat and back, one at a time."""
    return place.run("client", sys.executable, HERE / "typist.py", "1500", *command)


def copied(place, options, there):
    """Folders by scp and rsync: what came back, and what rsync says after a change of one byte."""
    for n, size in enumerate(SIZES):
        place.file(f"from/{n}", noise(size, n))
    there_folder = place.folder / "there"
    there_folder.mkdir()
    place.run("client", "scp", "-qr", *options, place.folder / "from", f"{there}:{there_folder}/scp")
    place.run("client", "scp", "-qr", *options, f"{there}:{there_folder}/scp", place.folder / "scp")
    shell = " ".join([find("ssh"), *options])
    rsync = ["rsync", "-rtI", "--no-whole-file", "--stats", "-e", shell]
    place.run("client", *rsync, f"{place.folder}/from/", f"{there}:{there_folder}/rsync")
    changed = bytearray(noise(SIZES[-1], len(SIZES) - 1))
    changed[5 * MIB] ^= 1
    place.file(f"from/{len(SIZES) - 1}", bytes(changed))
    said = place.run("client", *rsync, f"{place.folder}/from/", f"{there}:{there_folder}/rsync").decode()
    place.run("client", *rsync, f"{there}:{there_folder}/rsync/", place.folder / "rsync")
    for way, last in (("scp", noise(SIZES[-1], len(SIZES) - 1)), ("rsync", bytes(changed))):
        for n, size in enumerate(SIZES):
            want = last if n == len(SIZES) - 1 else noise(size, n)
            assert (place.folder / way / str(n)).read_bytes() == want, f"{way}: file {n} differs"
    return [line for line in said.splitlines() if line.startswith(("Literal data", "Matched data"))]


def test_vsftpd(job):
    def vsftpd(place):
        for n, size in enumerate(SIZES):
            place.file(f"ftp/down/{n}", noise(size, n))
            place.file(f"from/{n}", noise(size, n + 100))
        (place.folder / "empty").mkdir()
        up = place.folder / "ftp/up"
        up.mkdir()
        up.chmod(0o777)
        conf = place.file("vsftpd.conf", VSFTPD.format(folder=place.folder))
        conf.chmod(0o600)
        place.start("server", "vsftpd", conf, ready=2121)
        url = f"ftp://{place.ip('server')}:2121"
        seen = [place.run("client", "curl", "-sS", "--list-only", f"{url}/down/")]
        for way in ("--ftp-pasv", "--disable-epsv", "--ftp-port=-"):
            way = way.split("=")
            got = place.run("client", "curl", "-sS", *way, f"{url}/down/[0-{len(SIZES) - 1}]")
            assert got == b"".join(noise(size, n) for n, size in enumerate(SIZES))
            seen.append(digest(got))
        names = ",".join(str(place.folder / "from" / str(n)) for n in range(len(SIZES)))
        place.run("client", "curl", "-sS", "-T", f"{{{names}}}", f"{url}/up/")
        for n, size in enumerate(SIZES):
            assert (up / str(n)).read_bytes() == noise(size, n + 100), f"upload {n} differs"
        seen.append(place.run("client", sys.executable, HERE / "ftp.py", place.ip("server"), "2121"))
        return seen

    job("vsftpd", "curl: files down (passive, extended, active) and up; 2 000 commands of a blocking client", vsftpd)


def test_git_daemon(job):
    author = ["-c", "user.name=weft", "-c", "user.email=weft@example.org", "-c", "commit.gpgsign=false"]

    def git_daemon(place):
        top = place.folder / "git"
        top.mkdir()

        def git(*args, pod="client", **options):
            return place.run(pod, "git", *args, **options).decode()

        git("init", "-q", "--bare", "-b", "main", top / "all.git", pod="server")
        git("-C", top / "all.git", "config", "daemon.receivepack", "true", pod="server")
        place.start("server", "git-daemon", "--reuseaddr", "--export-all", f"--base-path={top}", "--listen=0.0.0.0",
                    "--informative-errors", top, ready=9418,
                    env={**os.environ, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory",
                         "GIT_CONFIG_VALUE_0": "*"})
        url = f"git://{place.ip('server')}/all.git"
        history = "".join(commit(n) for n in range(300)) + commit(300, noise(8 * MIB))
        one, two = place.folder / "one", place.folder / "two"
        git("init", "-q", "-b", "main", one)
        git("-C", one, "fast-import", "--quiet", input=history.encode("latin-1"))
        git("-C", one, "push", "-q", url, "main")
        git("clone", "-q", url, two)
        git("-C", two, *author, "commit", "-q", "--allow-empty", "-m", "back", "--date=2026-01-01T00:00:00Z",
            env={**os.environ, "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"})
        git("-C", two, "push", "-q", "origin", "main")
        git("-C", one, "fetch", "-q", url, "main")
        git("-C", top / "all.git", "fsck", "--strict", "--no-progress", pod="server")
        heads = {git("-C", one, "rev-parse", "FETCH_HEAD"), git("-C", two, "rev-parse", "main"),
                 git("-C", top / "all.git", "rev-parse", "main", pod="server")}
        assert len(heads) == 1, heads
        return [heads, git("ls-remote", url)]

    job("git daemon", "push of 301 commits, clone, push back, fetch, fsck", git_daemon)


def commit(number, data=b""):
    """One commit for git fast-import, in Latin-1 so that bytes stay bytes."""
    data = (data or noise(2000, number)).decode("latin-1")
    return (f"commit refs/heads/main\ncommitter weft <weft@example.org> {1_700_000_000 + number} +0000\n"
            f"data 1\n.\nM 100644 inline file-{number % 50}\ndata {len(data)}\n{data}\n")


def test_socat(job):
    def socat(place):
        place.start("relay", "socat", "TCP-LISTEN:7001,fork,reuseaddr", f"TCP:{place.ip('server')}:7002", ready=7001)
        place.start("server", "socat", "TCP-LISTEN:7002,fork,reuseaddr", "EXEC:cat", ready=7002)
        place.start("server", "socat", "TCP-LISTEN:7003,fork,reuseaddr", "EXEC:sha256sum", ready=7003)
        way = [find("socat"), "-", f"TCP:{place.ip('relay')}:7001"]
        back = place.run("client", "socat", "-t5", "-", f"TCP:{place.ip('relay')}:7001", input=noise(16 * MIB))
        assert back == noise(16 * MIB)
        return [typed(place, way), digest(back),
                place.run("client", "socat", "-t5", "-", f"TCP:{place.ip('server')}:7003", input=noise(16 * MIB))]

    job("socat", "a relay in front of cat: 1 500 lines echoed, 16 MiB there and back; sha256sum after half-close",
        socat, pods="[nodes.node]\n[pods.client]\n[pods.relay]\n[pods.server]\n")
