# SPDX-License-Identifier: Apache-2.0
"""
A place is a lab in which a real program does its job: pods of one node, and what is asked of them.

	def redis(place):
		place.start("server", "redis-server", "--port", "6379", ready=6379)
		return place.run("client", "redis-cli", "-h", place.ip("server"), "ping")

The job gives what it saw (exit codes, digests, output). conftest.py runs it on a plain network, then through weft,
and compares; meanwhile a Watch looks which paths weft gave to its connections.
"""

import glob
import hashlib
import itertools
import os
import pathlib
import random
import shutil
import subprocess
import threading

import labrun

# Where Debian puts what is not in everybody's PATH.
FOLDERS = ("/usr/sbin", "/sbin", "/usr/lib/git-core", "/usr/lib/go/bin", "/usr/lib/openssh")

PACKAGES = {
    "nginx": "nginx", "haproxy": "haproxy", "redis-server": "redis-server", "redis-cli": "redis-tools",
    "redis-benchmark": "redis-tools", "postgres": "postgresql", "initdb": "postgresql", "psql": "postgresql",
    "pgbench": "postgresql", "mariadbd": "mariadb-server", "mariadb-install-db": "mariadb-server",
    "mariadb": "mariadb-client", "mariadb-dump": "mariadb-client", "memcached": "memcached",
    "sshd": "openssh-server", "ssh": "openssh-client", "scp": "openssh-client", "ssh-keygen": "openssh-client",
    "rsync": "rsync", "vsftpd": "vsftpd", "mosquitto": "mosquitto", "mosquitto_sub": "mosquitto-clients",
    "mosquitto_pub": "mosquitto-clients", "iperf3": "iperf3", "socat": "socat", "git": "git", "git-daemon": "git",
    "node": "nodejs", "java": "default-jdk-headless", "javac": "default-jdk-headless", "go": "golang-go",
    "curl": "curl", "setpriv": "util-linux", "unshare": "util-linux",
}
MIB = 1 << 20
PATIENCE = 30  # seconds that one command of a job may take; all of them need a fraction


class Missing(Exception):
    """A program is not there; says what to install."""


def find(name):
    """The path of a program."""
    folders = [*FOLDERS, *sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True)]
    found = shutil.which(str(name), path=os.pathsep.join([os.environ.get("PATH", ""), *folders]))
    if not found:
        package = PACKAGES.get(name, name)
        raise Missing(f"{name} is not installed: sh tools/setup.sh net installs it (package {package})")
    return found


def noise(size, seed=1):
    """Bytes that do not compress and are the same each time."""
    return random.Random(seed).randbytes(size)


def digest(data):
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()


class Place:
    """A lab with pods, a folder for the files of the job, and bounded commands whose failure says where it was."""

    def __init__(self, lab, weft):
        self.lab, self.weft = lab, weft
        self.folder = pathlib.Path(lab.scratch)
        self.ip = lab.ip
        self.servers = []

    def file(self, name, content):
        """Writes a file of the job; gives its path."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def start(self, pod, program, *args, **options):
        """A server of the job; `ready` as in labrun."""
        self.servers.append(self.lab.start(pod, find(program), *args, **options))
        return self.servers[-1]

    def run(self, pod, program, *args, timeout=PATIENCE, **options):
        """A command of the job, to its end, which must be exit code 0; gives its standard output."""
        options.setdefault("text", False)
        try:
            return self.lab.run(pod, find(program), *args, timeout=timeout, **options).stdout
        except subprocess.TimeoutExpired as late:
            got = len(late.stdout or b"")
            raise AssertionError(f"{self.name()}: {program} in pod {pod} did not end within {timeout} s "
                                 f"({got} bytes of output so far)\n{self.connections()}") from None
        except labrun.LabError as failed:
            raise AssertionError(f"{self.name()}: {failed}\n{self.connections()}") from None

    def name(self):
        return "through weft" if self.weft else "without weft"

    def connections(self):
        """What weft says of the connections now: for a person who looks at a failure."""
        return self.lab.weftctl("connections", text=True, check=False).stdout if self.weft else ""

    def end(self):
        for server in self.servers:
            self.lab.stop(server)


class Watch(threading.Thread):
    """Looks at weft's connections while a job runs: the path and reason that each had last, those it ever had."""

    EVERY = 0.05

    def __init__(self, lab):
        super().__init__(daemon=True)
        self.lab, self.over = lab, threading.Event()
        self.seen, self.failed = {}, None
        splice = lab.weftctl("status")["splice"]
        self.auto = splice["on"] and splice["kernel_safe"]  # else weft splices nobody here, and says so

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def run(self):
        try:
            while not self.over.wait(self.EVERY):
                self.look()
        except Exception as failed:  # pylint: disable=broad-except
            self.failed = failed

    def look(self):
        for c in self.lab.weftctl("connections")["connections"]:
            key = tuple(itertools.chain.from_iterable((c[end]["pod"], c[end]["port"]) for end in
                                                      ("source", "destination")))
            if c["path"] == "none":
                continue
            first = {"ways": [], "spliced": 0}
            now = self.seen.setdefault(key, first)
            if (c["path"], c["reason"]) not in now["ways"]:
                now["ways"].append((c["path"], c["reason"]))
            now["last"] = (c["path"], c["reason"])
            now["spliced"] = c["bytes_spliced"]

    def paths(self):
        """{"splice", "tcp"} as far as any connection had it."""
        return {path for c in self.seen.values() for path, _ in c["ways"]}

    def reasons(self):
        """Reasons for TCP, the most frequent first; `watched`, which all begin with, only where there is no other."""
        count = {}
        for path, reason in (way for c in self.seen.values() for way in c["ways"]):
            if path != "splice":
                count[reason] = count.get(reason, 0) + 1
        return sorted((r for r in count if r != "watched"), key=lambda r: (-count[r], r)) or list(count)


def spliced(lab):
    """(bytes that were spliced, all bytes) of the connections that are closed."""
    rows = lab.weftctl("traffic")["traffic"]
    return sum(r["spliced_bytes"] for r in rows), sum(r["sent_bytes"] + r["received_bytes"] for r in rows)
