# SPDX-License-Identifier: Apache-2.0
"""
The supervisor is killed, its worker goes on: policy, `weftctl` and the listeners in pods. The next weftd takes it over,
or ends it where it belongs to another start; nothing of it is lost, and nothing of it stays.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import sys

import pytest

from labrun import wait_for
from own_daemon import (INSTANCE, LISTENERS, WEFTD, Netns, alone, as_nobody, bpftool,  # noqa: F401
                        daemon, ended, left, pin, run)

RUN = pathlib.Path("/run/weft", INSTANCE)
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nobody, namespace: default}
spec: {}
"""


def kill_supervisor(d):
    d.process.kill()
    d.process.wait()


def inodes(netns):
    """Of the listening sockets: the very same ones, not others on the same ports."""
    return sorted(re.findall(r"ino:(\d+)", netns.enter("ss", "-Hltne").stdout))


def pods(d):
    return [p["pod"] for p in d.ctl_json("pods")["pods"]]


def closed():
    """Is there a pod whose ALLOW policies name nobody?"""
    return any(p["formatted"]["value"]["has_allow"] for p in bpftool("map", "dump", "pinned", pin("policies")))


@pytest.fixture
def enrolled(daemon):  # noqa: F811
    daemon.ctl_json = lambda *argv: json.loads(daemon.ctl("-o", "json", *argv).stdout)
    daemon.pod = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1", "--label", "app=a")
    return daemon


def test_taken_over(enrolled):
    worker, sockets = enrolled.worker(), inodes(enrolled.pod)
    assert len(sockets) == len(LISTENERS)
    for _ in range(3):
        kill_supervisor(enrolled)
        assert not ended(worker)
        assert inodes(enrolled.pod) == sockets
        assert "default/a" in pods(enrolled), "it answers without a supervisor"
        enrolled.start()
        assert enrolled.worker() == worker and not ended(worker)
        assert enrolled.status()["worker"]["pid"] == worker
        assert inodes(enrolled.pod) == sockets
        assert pods(enrolled) == ["default/a"]
    b = Netns("b")  # and it works for the new one
    enrolled.add("b", "--ip", "10.250.0.2")
    assert b.listening() == LISTENERS and sorted(pods(enrolled)) == ["default/a", "default/b"]
    enrolled.ctl("pod", "del", "default/a")
    assert enrolled.pod.listening() == [] and pods(enrolled) == ["default/b"]


@pytest.fixture
def full_folder(daemon):  # noqa: F811
    """A run folder of 64 KiB, which the test fills."""
    RUN.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", RUN)
    yield RUN
    if daemon.process and daemon.process.poll() is None:
        daemon.end()
    run("umount", "--lazy", RUN)


def test_without_room_in_the_run_folder(full_folder, enrolled):
    """Another worker beside it would share its listeners, and what came to that one would fail."""
    with contextlib.suppress(OSError), open(full_folder / "full", "wb", buffering=0) as full:
        while full.write(bytes(4096)):
            pass
    for end in (enrolled.kill_both, enrolled.end):  # the next worker has to be written down there
        end()
        enrolled.start()
        sockets = inodes(enrolled.pod)
        assert len(sockets) == len(LISTENERS)
        worker = enrolled.status()["worker"]["pid"]
        kill_supervisor(enrolled)
        enrolled.start()
        assert enrolled.status()["worker"]["pid"] == worker and inodes(enrolled.pod) == sockets


def test_ends_with_the_supervisor_that_took_it(enrolled):
    worker = enrolled.worker()
    kill_supervisor(enrolled)
    enrolled.start()
    assert enrolled.worker() == worker
    assert enrolled.end() == 0
    assert ended(worker) and enrolled.pod.listening() == []
    assert not (RUN / "resume.sock").exists()


def test_dies_after_it_was_taken_over(enrolled):
    worker, sockets = enrolled.worker(), inodes(enrolled.pod)
    kill_supervisor(enrolled)
    enrolled.start()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: enrolled.worker() != worker, 10)
    enrolled.ctl("status", "--wait", "20s")
    assert inodes(enrolled.pod) == sockets, "the supervisor has them, and gave them to the next"
    assert enrolled.status()["worker"]["restarts"] == 1


@pytest.mark.parametrize("option", [("--node", "another"), ("--trust-domain", "other.example"), ("--threads", "1")])
def test_of_another_start(enrolled, option):
    worker = enrolled.worker()
    kill_supervisor(enrolled)
    enrolled.start(*option)
    assert enrolled.worker() != worker and ended(worker)
    assert "serves another start" in enrolled.log.read_text()
    assert sorted(set(enrolled.pod.listening())) == sorted(set(LISTENERS)) and pods(enrolled) == ["default/a"]


def test_other_maps(enrolled):
    worker = enrolled.worker()
    kill_supervisor(enrolled)
    os.unlink(pin("pods"))
    enrolled.start()
    assert enrolled.worker() != worker and ended(worker) and pods(enrolled) == ["default/a"]


def test_does_not_answer(enrolled):
    worker = enrolled.worker()
    os.kill(worker, signal.SIGSTOP)
    kill_supervisor(enrolled)
    enrolled.start()
    assert enrolled.worker() != worker and ended(worker)
    assert enrolled.pod.listening() == LISTENERS


def test_start_that_fails_leaves_it(enrolled, tmp_path):
    worker = enrolled.worker()
    kill_supervisor(enrolled)
    done = run(*enrolled.argv("--manifests", str(tmp_path / "none")), code=None)
    assert done.returncode and not ended(worker)
    enrolled.start()
    assert enrolled.worker() == worker


def test_pod_goes_meanwhile(enrolled):
    worker = enrolled.worker()
    kill_supervisor(enrolled)
    enrolled.pod.delete()
    assert not enrolled.pod.gone(), "its listeners hold it"
    enrolled.start()
    wait_for(enrolled.pod.gone, 10)
    assert enrolled.worker() == worker and pods(enrolled) == []
    assert bpftool("map", "dump", "pinned", pin("pods")) == []


def test_enrolment_that_is_lost(enrolled):
    worker = enrolled.worker()
    kill_supervisor(enrolled)
    for file in (RUN / "pods").glob("[0-9]*"):
        file.unlink()
    enrolled.start()
    assert enrolled.worker() == worker
    wait_for(lambda: not pods(enrolled), 10)
    assert enrolled.pod.listening() == [] and bpftool("map", "dump", "pinned", pin("pods")) == []


@pytest.mark.parametrize("when", ["kept", "leaving"])
def test_enrolment_that_is_lost_while_weftd_runs(enrolled, when):
    """One file that cannot be read costs its pod, and not all others their worker."""
    b = Netns("b")
    enrolled.add("b", "--ip", "10.250.0.2")
    worker = enrolled.worker()
    if when == "leaving":
        os.kill(worker, signal.SIGSTOP)  # it does not answer: the release is asked for again of the next one
        enrolled.ctl("pod", "del", "default/a", code=None)
    (RUN / "pods" / ("1" if when == "kept" else "1-leaving")).unlink()
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: enrolled.worker() != worker, 10)
    enrolled.ctl("status", "--wait", "20s")
    wait_for(lambda: pods(enrolled) == ["default/b"], 10)
    assert enrolled.status()["worker"]["restarts"] == 1
    assert enrolled.pod.listening() == [] and b.listening() == LISTENERS
    wait_for(lambda: len(bpftool("map", "dump", "pinned", pin("pods"))) == 1, 10)
    assert os.listdir(RUN / "pods") == ["2"] or sorted(os.listdir(RUN / "pods")) == ["2", "next"]


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "manifests"
    made.mkdir(mode=0o755)
    for path in (tmp_path, *tmp_path.parents):  # the worker's user must get there
        if path.stat().st_uid == os.getuid() and path != pathlib.Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    return made


def test_policy_that_only_root_may_read(daemon, folder):  # noqa: F811
    """The worker cannot open it alone; the next weftd does, and nothing waits for the one that is dead."""
    daemon.start("--manifests", str(folder))
    daemon.pod = Netns("a")
    daemon.add("a", "--ip", "10.250.0.1")
    kill_supervisor(daemon)
    (folder / "policy.new").touch(mode=0o600)
    (folder / "policy.new").write_text(POLICY)
    (folder / "policy.new").rename(folder / "policy.yaml")
    worker = daemon.worker()
    daemon.start("--manifests", str(folder))
    assert daemon.worker() == worker
    wait_for(closed, 10)
    (folder / "policy.yaml").unlink()
    wait_for(lambda: not closed(), 10)


def test_policy_takes_effect_without_a_supervisor(daemon, folder):  # noqa: F811
    a = Netns("a")
    daemon.start("--manifests", str(folder))
    daemon.add("a", "--ip", "10.250.0.1")
    kill_supervisor(daemon)
    (folder / "policy.yaml").write_text(POLICY)
    wait_for(closed, 10)
    worker = daemon.worker()
    daemon.start("--manifests", str(folder))
    assert daemon.worker() == worker and a.listening() == LISTENERS
    folder.rename(folder.parent / "away")
    folder.mkdir(mode=0o755)
    kill_supervisor(daemon)
    daemon.start("--manifests", str(folder))  # another folder at the path: another start
    assert daemon.worker() != worker and not closed()


def test_taken_over_with_the_folder_of_a_sighup(daemon, folder):  # noqa: F811
    """What counts is the folder that the worker reads, not the one that the dead weftd was started with."""
    daemon.start("--manifests", str(folder))
    worker = daemon.worker()
    folder.rename(folder.parent / "away")
    folder.mkdir(mode=0o755)
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: daemon.worker() != worker, 10)
    daemon.ctl("status", "--wait", "20s")
    worker = daemon.worker()
    kill_supervisor(daemon)
    daemon.start("--manifests", str(folder))
    assert daemon.worker() == worker


def test_uninstalled(enrolled):
    worker = enrolled.worker()
    kill_supervisor(enrolled)
    run(WEFTD, "--uninstall", "--instance", INSTANCE)
    assert ended(worker) and not left()
    assert enrolled.pod.listening() == []


def test_nobody_else_takes_it(enrolled):
    """The folder is root's; and who has the socket's name all the same must be root."""
    kill_supervisor(enrolled)
    worker = enrolled.worker()
    RUN.chmod(0o755)
    RUN.parent.chmod(0o755)
    (RUN / "resume.sock").chmod(0o777)
    say = (f"import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); s.settimeout(30); "
           f"s.connect('{RUN}/resume.sock'); s.send(bytes(600)); print(len(s.recv(10)))")
    nobody = as_nobody(sys.executable, "-c", say, code=None)
    assert nobody.stdout == "0\n" or "ConnectionReset" in nobody.stderr or "BrokenPipe" in nobody.stderr, nobody
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as root:  # root who says nothing that it knows
        root.connect(str(RUN / "resume.sock"))
        root.send(b"x")
        root.settimeout(30)
        try:
            assert root.recv(10) == b""
        except ConnectionResetError:
            pass
    enrolled.start()
    assert enrolled.worker() == worker
