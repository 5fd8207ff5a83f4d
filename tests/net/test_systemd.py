# SPDX-License-Identifier: Apache-2.0
"""
deploy/weftd.service under systemd itself, which is process 1 of namespaces of its own: with /run, /etc, /var/lib, bpffs
and cgroups that nobody else sees, and no other unit. What a directive takes away shows here, and nowhere else.
"""

import json
import pathlib
import shlex
import subprocess

import pytest

from labrun import wait_for
from own_daemon import BUILD, ROOT, alone, cgroup_root, ended, remove_cgroup, run  # noqa: F401

INSTANCE = "lc-systemd"
UNITS = "/mnt/units"
START = f"""
mount --make-rprivate /
if grep -q " /run/netns " /proc/self/mountinfo; then
	umount --recursive --lazy /run/netns    # a copy of a mount would hold netns of others
fi
mount -t proc proc /proc
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work {UNITS}
cp "$1"/* {UNITS}
mount -t tmpfs tmpfs /opt
cp "$2"/weftd "$2"/weft-worker "$2"/weftctl /opt
mount -t overlay overlay -o lowerdir=/etc,upperdir=/mnt/upper,workdir=/mnt/work /etc
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t bpf bpf /sys/fs/bpf
mount --make-rshared /
mkdir -p /etc/weft/manifests
cp "$1"/service.yaml /etc/weft/manifests
chmod 600 /etc/weft/manifests/service.yaml
export container=lxc SYSTEMD_UNIT_PATH={UNITS}
exec /lib/systemd/systemd --system --unit=multi-user.target
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
"""


class Machine:
    def __init__(self, folder):
        self.cgroup = cgroup_root() / INSTANCE
        remove_cgroup(self.cgroup)
        unit = (ROOT / "deploy/weftd.service").read_text()
        assert "ExecStart=/usr/sbin/weftd " in unit
        (folder / "weftd.service").write_text(
            unit.replace("=/usr/sbin/weftd ", f"=/opt/weftd --instance {INSTANCE} "))
        for target in ("sysinit", "basic", "shutdown", "network", "multi-user"):
            (folder / f"{target}.target").write_text(f"[Unit]\nDescription={target}\n")
        (folder / "service.yaml").write_text(SERVICE)
        self.cgroup.mkdir()
        join = f'echo $$ > {shlex.quote(str(self.cgroup / "cgroup.procs"))}; exec "$@"'
        # pylint: disable-next=consider-using-with
        self.process = subprocess.Popen(
            ["sh", "-ec", join, "sh", "setsid", "unshare", "--mount", "--pid", "--fork", "--uts", "--ipc", "--cgroup",
             "sh", "-ec", START, "sh", folder, BUILD], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=open(folder / "log", "wb"))
        self.log = folder / "log"
        wait_for(lambda: self.pid() and self.systemctl("is-active", "multi-user.target", code=None) == "active", 30)

    def pid(self):
        at = self.cgroup / "init.scope/cgroup.procs"
        return at.read_text().split()[0] if at.exists() and at.read_text().strip() else None

    def __call__(self, *argv, code=0):
        return run("nsenter", f"--target={self.pid()}", "--mount", "--pid", "--cgroup", "--uts", "--ipc", *argv,
                   code=code).stdout

    def systemctl(self, *argv, code=0):
        return self("systemctl", *argv, code=code).strip()

    def weftctl(self, *argv, code=0):
        return self("/opt/weftctl", "--instance", INSTANCE, *argv, code=code)

    def status(self):
        return json.loads(self.weftctl("-o", "json", "status", "--wait", "20s"))

    def pods(self):
        return [p["pod"] for p in json.loads(self.weftctl("-o", "json", "pods"))["pods"]]

    def identities(self):
        return [i["state"] for i in json.loads(self.weftctl("-o", "json", "certs"))["identities"]]

    def main(self):
        return int(self.systemctl("show", "--property=MainPID", "--value", "weftd"))


@pytest.fixture
def machine(tmp_path):
    m = Machine(tmp_path)
    yield m
    remove_cgroup(m.cgroup)
    m.process.wait()


def test_the_unit(machine):
    machine.systemctl("start", "weftd")
    status = machine.status()
    assert status["ready"] is True, status["why"]  # so the CA was made, and a manifest read that is root's alone
    assert not [p for p in status["probes"] if p["state"] == "FAILED"]
    assert json.loads(machine.weftctl("-o", "json", "services"))["services"]
    for name in ("a", "b"):
        machine("ip", "netns", "add", name)
        machine.weftctl("pod", "add", f"default/{name}", "--netns", f"/run/netns/{name}", "--ip",
                        f"10.251.0.{ord(name)}")
    wait_for(lambda: machine.identities() == ["valid"], 20, "a certificate")
    machine("ip", "netns", "del", "b")  # in another mount namespace than weftd's
    wait_for(lambda: machine.pods() == ["default/a"], 10)

    main, worker = machine.main(), status["worker"]["pid"]
    machine("kill", "-KILL", main)
    wait_for(lambda: machine.main() not in (0, main), 20)
    assert machine.status()["worker"]["pid"] == worker, "it went on, and was taken over"
    assert machine.pods() == ["default/a"]
    machine.systemctl("reload", "weftd")
    machine("kill", "-KILL", worker)
    wait_for(lambda: machine.status()["worker"]["pid"] not in (0, worker), 20)
    assert machine.main() not in (0, main)

    machine.systemctl("stop", "weftd")
    assert machine.systemctl("show", "--property=Result", "--value", "weftd") == "success"
    assert "weft" not in machine("ps", "-eo", "comm")
    assert machine("ls", f"/sys/fs/bpf/weft/{INSTANCE}/netns").split() == ["1"]
    machine.systemctl("start", "weftd")
    assert machine.pods() == ["default/a"]
    machine.systemctl("stop", "weftd")
    machine("/opt/weftd", "--uninstall", "--instance", INSTANCE)
    assert [n for n in machine("ls", "/sys/fs/bpf", "/run", "/var/lib").split() if "weft" in n] == []

    machine("sed", "-i", "/^ExecStart=/s/$/ --no-such/", f"{UNITS}/weftd.service")
    machine.systemctl("daemon-reload")
    machine.systemctl("start", "weftd", code=1)
    wait_for(lambda: machine.systemctl("is-active", "weftd", code=None) == "failed", 10, "no second try")
    assert machine.systemctl("show", "--property=NRestarts", "--value", "weftd") == "0"
