# SPDX-License-Identifier: Apache-2.0
"""
What weftd says where it cannot run, and to wrong words: one line that says what to do, and nothing is left behind.
"""

import json
import os
import pathlib
import subprocess

import pytest

from labrun import wait_for
from own_daemon import (INSTANCE, LISTENERS, ROOT, WEFTD, Netns, alone, as_nobody, cgroup_root,  # noqa: F401
                        daemon, left, one_sentence, run)


def test_without_root(daemon, tmp_path):
    # The build folder may be closed to others: run a copy.
    copy = pathlib.Path("/tmp") / f"weft-lc-{os.getpid()}"
    copy.mkdir(mode=0o755)
    try:
        run("cp", WEFTD, copy / "weftd")
        run("chmod", "755", copy, copy / "weftd")
        for argv in (["--instance", INSTANCE], ["--probe"], ["--uninstall", "--instance", INSTANCE]):
            done = as_nobody(copy / "weftd", *argv, code=1)
            assert "must be root" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
            assert not done.stdout.strip()
    finally:
        run("rm", "-r", copy)


# ------------------------------------------------------------------ machines on which it cannot run


def test_without_bpffs(daemon):
    done = run("unshare", "-m", "sh", "-c", 'umount -l /sys/fs/bpf; exec "$@"', "sh", *daemon.argv(), code=1)
    one_sentence(done, "no bpffs", "mount -t bpf bpf /sys/fs/bpf")


def test_without_cgroup2(daemon):
    script = f'umount -l {cgroup_root()}; exec "$@"'
    done = run("unshare", "-m", "sh", "-c", script, "sh", WEFTD, "--instance", INSTANCE, code=1)
    one_sentence(done, "no cgroup v2", "mount -t cgroup2")
    done = run(WEFTD, "--instance", INSTANCE, "--cgroup", "/tmp", code=1)
    one_sentence(done, "--cgroup /tmp", "cgroup v2")
    assert not left()


@pytest.mark.parametrize("mount, words", [
    ("mount -t tmpfs -o ro none /run", ("run folder", "may write")),
    ("mount -t tmpfs -o ro none /var/lib", ("state folder", "may write")),
    ("mount -o remount,bind,ro /sys/fs/bpf", ("pin folder", "must write there"))], ids=["run", "state", "pins"])
def test_where_it_may_not_write(daemon, mount, words):
    done = run("unshare", "-m", "sh", "-c", mount + ' && exec "$@"', "sh", *daemon.argv("--log-level", "error"), code=1)
    one_sentence(done, "Read-only", *words)


@pytest.mark.parametrize("option", ["--ca-dir", "--certs-dir"])
def test_where_a_file_stands_for_the_certificates(daemon, tmp_path, option):
    file = tmp_path / "file"
    file.write_text("")
    for path in (file, file / "ca"):
        done = run(*daemon.argv("--log-level", "error", option, str(path)), code=1)
        one_sentence(done, str(path), "is a file", f"give {option} a folder")
    assert not file.read_text()


def test_on_a_kernel_that_is_too_old(daemon):
    """The kernel itself can pass for an old one: personality(2) UNAME26."""
    for argv in (daemon.argv(), [WEFTD, "--probe"]):
        done = run("setarch", os.uname().machine, "--uname-2.6", *argv, code=1)
        one_sentence(done, "2.6", "too old", "6.1")


def test_on_a_kernel_without_btf(daemon):
    script = 'mount -t tmpfs none /sys/kernel/btf && exec "$@"'
    done = run("unshare", "-m", "sh", "-c", script, "sh", *daemon.argv(), code=1)
    one_sentence(done, "no BTF", "CONFIG_DEBUG_INFO_BTF")


def test_ip_netns_exec(daemon):
    a = Netns("a")
    done = run("ip", "netns", "exec", a.name, WEFTD, "--instance", INSTANCE, code=1)
    one_sentence(done, f"nsenter --net=/run/netns/{a.name}")


def test_inside_a_netns_by_nsenter(daemon):
    node, a = Netns("node"), Netns("a")
    daemon.log = daemon.tmp / "inside.log"
    with open(daemon.log, "w", encoding="utf-8") as out:
        daemon.process = subprocess.Popen(["nsenter", f"--net=/run/netns/{node.name}", *daemon.argv()], stderr=out)
    wait_for(lambda: os.path.exists(f"/run/weft/{INSTANCE}/weftd.sock"), 20)
    daemon.ctl("status", "--wait", "20s")
    assert "the node itself" in daemon.add("x", "--ip", "10.250.0.3", netns=f"/run/netns/{node.name}", code=1).stderr
    daemon.add("a", "--ip", "10.250.0.1")
    assert a.listening() == LISTENERS


# ------------------------------------------------------------------ command line


@pytest.mark.parametrize("argv, word", [
    (["--instance", "Bad"], "a-z, 0-9 and -"), (["--instance", ""], "instance"), (["--instance", "a" * 64], "63"),
    (["--instance", "../x"], "a-z"), (["--threads", "0"], "threads"), (["--log-level", "loud"], "log-level"),
    (["--nothing"], "--nothing"), (["word"], "word"), (["--node"], "--node"), (["--config", "/nonexistent"], "config"),
])
def test_wrong_usage(argv, word):
    done = run(WEFTD, *argv, code=2)
    one_sentence(done, word)


def test_config_file(daemon, tmp_path):
    manifests = tmp_path / "manifests"
    manifests.mkdir()
    config = tmp_path / "weftd.conf"
    config.write_text(f"# what a node says\n\nnode = from-file\nmanifests = {manifests}\nlog-format = json\n")
    daemon.start("--config", str(config), "--node", "from-line")
    assert daemon.status()["node"] == "from-line"
    assert json.loads(daemon.log.read_text().splitlines()[0])
    daemon.end()
    config.write_text("node = x\nnodes = y\n")
    done = run(WEFTD, "--config", config, code=2)
    one_sentence(done, f"{config}:2:", "nodes")


def test_help_names_every_option():
    text = run(WEFTD, "--help").stdout
    manual = (ROOT / "docs/man/weftd.8").read_text().replace("\\-", "-")
    for line in text.splitlines():
        if line.startswith("  --"):
            assert line.split()[0] in manual
    assert run(WEFTD, "--version").stdout.startswith("weftd ")
