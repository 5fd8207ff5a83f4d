# SPDX-License-Identifier: Apache-2.0
"""
The life of weftd: start, start twice, killed and started again, ended, uninstalled; what it may do meanwhile.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from labrun import wait_for
from own_daemon import (INSTANCE, LISTENERS, ROOT, THREADS, WEFTCTL, WEFTD, Netns, alone,  # noqa: F401
                        as_nobody, bpf_of, bpftool, daemon, ended, left, link, of_another_version, one_sentence, pin,
                        run)


def test_starts_pins_and_says_ready(daemon):
    daemon.start()
    status = daemon.status()
    assert status["ready"] is True
    for name in ("weft_connect4", "weft_connect6", "weft_sockops", "weft_live"):
        assert link(f"links/{name}")["prog_id"] == bpftool("prog", "show", "pinned", pin(f"progs/{name}"))["id"]
    assert link("links/weft_connect4")["cgroup_id"] == daemon.cgroup.stat().st_ino
    assert os.stat(f"/run/weft/{INSTANCE}").st_mode & 0o777 == 0o700


def test_twice(daemon):
    first = daemon.start()
    second = run(*daemon.argv(), code=1)
    assert f"pid {first.pid}" in second.stderr and "running already" in second.stderr
    assert len(second.stderr.splitlines()) == 1
    assert daemon.status()["ready"] is True


def test_beside_one_of_an_earlier_version(daemon):
    """Its lock is of another kind: flock(2)."""
    folder = pathlib.Path(f"/run/weft/{INSTANCE}")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / "lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        print(os.getpid(), file=lock, flush=True)
        for argv in (daemon.argv(), (WEFTD, "--uninstall", "--instance", INSTANCE)):
            one_sentence(run(*argv, code=1), "running already", f"pid {os.getpid()}")
    daemon.start()


def test_killed_and_started_again_takes_everything_back(daemon):
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1,fd00:250::1", "--label", "app=a")
    daemon.ctl("splice", "off")
    links, maps, programs = bpf_of(daemon)
    inbound = link("netns/1")
    daemon.kill_both()
    # Nothing of the daemon runs; the kernel still decides.
    assert link("links/weft_connect4")["id"] in links
    assert a.listening() == []
    daemon.start()
    again_links, again_maps, again_programs = bpf_of(daemon)
    assert again_links == links, "links are updated in place: no moment without a program"
    assert again_maps == maps
    assert not programs & again_programs, "new programs"
    assert link("netns/1")["id"] == inbound["id"] and link("netns/1")["prog_id"] != inbound["prog_id"]
    assert a.listening() == LISTENERS
    pods = json.loads(daemon.ctl("-o", "json", "pods").stdout)["pods"]
    assert [p["pod"] for p in pods] == ["default/a"]
    settings = bpftool("map", "dump", "pinned", pin("settings"))[0]["formatted"]["value"]
    assert settings["splice_off"] == 1, "the operator's switch outlives the daemon"


def test_killed_worker_is_started_again(daemon):
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    for n in range(1, 4):
        before = daemon.worker()
        os.kill(before, signal.SIGKILL)
        wait_for(lambda b=before: daemon.worker() != b, 20)
        daemon.ctl("status", "--wait", "20s")
        assert a.listening() == LISTENERS, "listeners outlive the worker"
        assert f"{n} restart" in daemon.ctl("status").stdout
        assert "killed by signal 9 (Killed)" in daemon.ctl("status").stdout
        shown = daemon.status()["worker"]
        assert shown["restarts"] == n and shown["last_end"].startswith("killed by signal 9") and shown["ended_ms"] >= 0


def test_crash_loop(daemon):
    """A worker that dies at once, again and again, is started later and later; `weftctl status` counts."""
    daemon.start()
    for attempt in range(10):  # five are accidents; then 0.1, 0.2 ... 1.6 s
        before, killed = daemon.worker(), time.monotonic()
        os.kill(before, signal.SIGKILL)
        if attempt == 9:  # a pause that lasts: it can be seen
            wait_for(lambda b=before: not os.path.exists(f"/proc/{b}"), 5)
            shown = daemon.status()["worker"]
            assert (shown["running"], shown["pid"]) == (False, 0)
        wait_for(lambda b=before: daemon.worker() != b, 20)
    assert time.monotonic() - killed >= 1.6
    daemon.ctl("status", "--wait", "20s")
    shown = daemon.status()["worker"]
    assert shown["restarts"] == 10 and shown["last_end"].startswith("killed by signal 9")


def test_a_core_for_each_thread(daemon):
    daemon.start()
    cores = []
    for task in pathlib.Path(f"/proc/{daemon.worker()}/task").iterdir():
        line = next(x for x in (task / "status").read_text().splitlines() if x.startswith("Cpus_allowed_list:"))
        cores.append(line.split()[1])
    own = [c for c in cores if c.isdigit()]
    assert len(own) == THREADS and len(set(own)) == min(THREADS, os.cpu_count()), cores
    assert {int(c) for c in own} <= os.sched_getaffinity(0)


def test_sigterm_ends_in_order_and_the_kernel_goes_on(daemon):
    Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    worker = daemon.worker()
    links, maps, _ = bpf_of(daemon)
    assert daemon.end() == 0
    assert ended(worker)
    assert not os.path.exists(f"/run/weft/{INSTANCE}/weftd.sock")
    assert bpf_of(daemon)[:2] == (links, maps)
    daemon.start()
    assert json.loads(daemon.ctl("-o", "json", "pods").stdout)["pods"]


def test_pins_of_another_version_are_replaced(daemon):
    daemon.start()
    maps = bpf_of(daemon)[1]
    daemon.end()
    of_another_version()
    daemon.start()
    assert not maps & bpf_of(daemon)[1]
    assert "another version" in daemon.log.read_text()


def test_another_cgroup_moves_the_links(daemon):
    daemon.start()
    links = bpf_of(daemon)[0]
    daemon.end()
    inner = daemon.cgroup / "inner"
    inner.mkdir()
    try:
        daemon.cgroup = inner
        daemon.start()
        assert link("links/weft_connect4")["cgroup_id"] == inner.stat().st_ino
        assert not links & {x["id"] for x in bpftool("link", "list")}
        daemon.end()
    finally:
        daemon.cgroup = inner.parent


def open_files(pid, soft):
    """Changes a process's limit, as its own user: root alone may not, here. Returns what it was."""
    status = dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    user, group = int(status["Uid"].split()[0]), int(status["Gid"].split()[0])
    change = "import sys; from resource import prlimit, RLIMIT_NOFILE as files; pid, soft = map(int, sys.argv[1:]); " \
             "was = prlimit(pid, files); prlimit(pid, files, (soft, was[1])); print(was[0])"
    done = subprocess.run(["/usr/bin/python3", "-c", change, str(pid), str(soft)], user=user, group=group,
                          extra_groups=[], capture_output=True, text=True, check=True)
    return int(done.stdout)


@contextlib.contextmanager
def without_files(worker):
    """It has all that it may open."""
    was = open_files(worker, 3)
    try:
        yield
    finally:
        assert open_files(worker, was) == 3


def test_worker_without_a_descriptor_left(daemon):
    """What weftd gives it then is lost, but not the worker with all that it carries."""
    Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    daemon.ctl("status", "--wait", "20s")
    worker = daemon.worker()
    with without_files(worker):
        pathlib.Path(f"/var/lib/weft/{INSTANCE}/ca/touched").touch()  # the folder is looked at, by weftd
        wait_for(lambda: '"certs" of weftd: no room' in daemon.log.read_text(), 10)
    daemon.ctl("status", "--wait", "20s")
    assert daemon.worker() == worker and daemon.status()["worker"]["restarts"] == 0


def test_manifest_for_which_the_worker_has_no_descriptor(daemon, tmp_path):
    """It is read when there is one, though nothing happens in the folder any more."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    for path in (folder, *tmp_path.parents, tmp_path):  # the worker's user must get there
        if path.stat().st_uid == os.getuid() and path != pathlib.Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    Netns("a")
    daemon.start("--manifests", str(folder))
    daemon.add("a", "--ip", "10.250.0.1")
    daemon.ctl("status", "--wait", "20s")
    with without_files(daemon.worker()):
        (folder / "web.yaml").write_text(SERVICE)
        wait_for(lambda: "web.yaml: cannot be opened: Too many open files" in daemon.log.read_text(), 10)
    wait_for(lambda: len(bpftool("map", "dump", "pinned", pin("services"))) == 1, 20)
    daemon.ctl("status", "--wait", "20s")


def test_pod_for_whose_listeners_the_worker_has_no_descriptor(daemon):
    """It is refused, by name of the reason; the worker goes on with all that it carries, and the pod may come later."""
    Netns("a")
    b = Netns("b")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    daemon.ctl("status", "--wait", "20s")
    worker = daemon.worker()
    with without_files(worker):
        assert "files" in daemon.add("b", "--ip", "10.250.0.2", code=1).stderr
        assert not b.listening()
    daemon.ctl("status", "--wait", "20s")
    daemon.add("b", "--ip", "10.250.0.2")
    assert b.listening() == LISTENERS
    assert daemon.worker() == worker and daemon.status()["worker"]["restarts"] == 0


def test_pod_in_the_netns_of_one_that_leaves(daemon):
    """Of a worker that is told of both at once, the one that stays has its listeners."""
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    ctl = (WEFTCTL, "--instance", INSTANCE, "pod")
    for last in [False] * 7 + [True]:  # then there is none for a moment
        worker = daemon.worker()
        os.kill(worker, signal.SIGKILL)
        wait_for(lambda w=worker, n=last: ended(w) if n else daemon.worker() != w, 20)
    going = subprocess.Popen([*ctl, "del", "default/a"], stdout=subprocess.DEVNULL)
    wait_for(lambda: not a.listening(), 10)
    coming = subprocess.Popen([*ctl, "add", "default/b", "--netns", f"/run/netns/{a.name}", "--ip", "10.250.0.2"],
                              stdout=subprocess.DEVNULL)
    for client in going, coming:  # who waits for 5 s in vain says so, and what was asked is done later
        client.wait(20)
    daemon.ctl("status", "--wait", "20s")
    own = {f"socket:[{n}]" for n in re.findall(r"ino:(\d+)", a.enter("ss", "-Hltne").stdout)}
    has = set()
    for fd in pathlib.Path(f"/proc/{daemon.worker()}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            has.add(os.readlink(fd))
    assert len(own) == len(LISTENERS) and own <= has


def test_notifies_systemd(daemon, tmp_path):
    path = str(tmp_path / "notify")
    for address, name in ((path, path), ("\0weft-lc-notify", "@weft-lc-notify")):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.bind(address)
            s.settimeout(20)
            daemon.start(env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": name})
            assert s.recv(4096) == b"READY=1"
            assert daemon.end() == 0
            assert s.recv(4096) == b"STOPPING=1"


def test_json_log(daemon):
    daemon.start("--log-format", "json")
    daemon.end()
    lines = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    assert any(line["message"] == "ready" and line["level"] == "info" for line in lines)


@pytest.mark.parametrize("kind", ["pipe", "socket"])  # of a container's runtime, of journald
def test_log_that_nobody_reads(daemon, kind):
    """Neither weftd nor a worker waits for who reads it."""
    Netns("a")
    if kind == "pipe":
        ear, mouth = os.pipe()
        fcntl.fcntl(mouth, fcntl.F_SETPIPE_SZ, 1 << 20)
    else:
        ear, mouth = (s.detach() for s in socket.socketpair())
    os.set_blocking(mouth, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(mouth, bytes(4096))
    os.set_blocking(mouth, True)
    daemon.process = subprocess.Popen(daemon.argv(), stderr=mouth, stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: os.path.exists(f"/run/weft/{INSTANCE}/weftd.sock"), 20)
        daemon.ctl("status", "--wait", "20s")
        daemon.add("a", "--ip", "10.250.0.1")
        assert os.get_blocking(mouth), "it is not weft's alone"
        os.set_blocking(ear, False)
        said = bytearray()

        def heard(*what):
            with contextlib.suppress(BlockingIOError):
                while True:
                    said.extend(os.read(ear, 1 << 20))
            return all(re.search(rb" %s: \d+ messages? lost: the log had no room\n" % x, said) for x in what)

        assert not heard(b"weftd", b"weft-worker")
        daemon.process.send_signal(signal.SIGHUP)  # both say that they read again
        wait_for(lambda: heard(b"weftd", b"weft-worker"), 20)
    finally:
        os.close(ear)
        os.close(mouth)


def test_sighup_reaches_the_worker(daemon):
    daemon.start()
    worker = daemon.worker()
    daemon.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "SIGHUP" in daemon.log.read_text(), 5)
    daemon.ctl("status", "--wait", "20s")
    assert daemon.worker() == worker and "0 restarts" in daemon.ctl("status").stdout


SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.10, selector: {app: web}, ports: [{port: 80}]}
"""


def test_manifests_that_only_root_may_read(daemon, tmp_path):
    folder = tmp_path / "manifests"
    folder.mkdir(mode=0o700)
    (folder / "a.yaml").write_text(SERVICE)
    (folder / "a.yaml").chmod(0o600)
    os.mkfifo(folder / "fifo.yaml")
    outside = tmp_path / "outside.yaml"
    outside.write_text(SERVICE.replace("web", "outside"))
    outside.chmod(0o600)
    (folder / "link.yaml").symlink_to(outside)  # weftd opens nothing beyond the folder on the worker's behalf
    (folder / "nowhere.yaml").symlink_to("gone")
    daemon.start("--manifests", str(folder), ready=False)
    wait_for(lambda: os.path.exists(f"/run/weft/{INSTANCE}/weftd.sock"), 20)
    wait_for(lambda: "default/web" in daemon.ctl("services", code=None).stdout, 20)
    assert "outside" not in daemon.ctl("services").stdout
    wrong = json.dumps(daemon.status())
    assert "link.yaml" in wrong and "nowhere.yaml" in wrong and "leads nowhere" in wrong


# ------------------------------------------------------------------ uninstall


def test_uninstall_leaves_nothing(daemon):
    a, b = Netns("a"), Netns("b")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    daemon.add("b", "--ip", "10.250.0.2")
    refused = run(WEFTD, "--uninstall", "--instance", INSTANCE, code=1)
    assert f"pid {daemon.process.pid}" in refused.stderr
    inbound = {link("netns/1")["id"], link("netns/2")["id"]}
    links, maps, programs = bpf_of(daemon)
    daemon.end()
    run(WEFTD, "--uninstall", "--instance", INSTANCE)
    assert not left()
    # The kernel frees maps and programs behind an RCU grace period.
    wait_for(lambda: not (links | inbound) & {x["id"] for x in bpftool("link", "list")}, 10)
    wait_for(lambda: not programs & {x["id"] for x in bpftool("prog", "list")}, 10)
    wait_for(lambda: not maps & {x["id"] for x in bpftool("map", "list")}, 10)
    for netns in (a, b):
        netns.delete()
        wait_for(netns.gone, 10)
    run(WEFTD, "--uninstall", "--instance", INSTANCE)


def test_uninstall_after_a_kill(daemon):
    a = Netns("a")
    daemon.start()
    daemon.add("a", "--ip", "10.250.0.1")
    links = bpf_of(daemon)[0]
    daemon.kill_both()
    run(WEFTD, "--uninstall", "--instance", INSTANCE)
    assert not left()
    wait_for(lambda: not links & {x["id"] for x in bpftool("link", "list")}, 10)
    a.delete()
    wait_for(a.gone, 10)


def test_probe_leaves_nothing(daemon):
    done = run(WEFTD, "--probe", "--instance", INSTANCE)
    programs, _, selftest = done.stdout.partition("\nself-test of the kernel")
    assert "connect4" in programs and "FAILED" not in programs
    assert "FIONREAD" in selftest  # what the kernel fails of it costs the splice, not weft
    assert "own sockets    ok" in programs
    done = run(WEFTD, "--probe", "--instance", INSTANCE, "--cgroup", daemon.cgroup)
    assert "own sockets    off" in done.stdout, "weftd is outside of the cgroup that it watches"
    assert not left()


def test_probe_tells_of_kernel_tls(daemon):
    """Seen where it is there, never used (tests/kernels has it loaded); asking does not load it."""
    def known():
        ulp = pathlib.Path("/proc/sys/net/ipv4/tcp_available_ulp")
        return ulp.read_text().split() if ulp.exists() else []

    before = known()
    row, = (line for line in run(WEFTD, "--probe", "--instance", INSTANCE).stdout.splitlines()
            if line.startswith("kernel TLS "))
    assert row.split(maxsplit=2)[2].split(maxsplit=1) == [
        "off", ("there, but not used" if "tls" in before else "this kernel has none loaded") + ": the worker encrypts"]
    assert known() == before


# ------------------------------------------------------------------ privileges

# docs/operations.md gives the reason of each
KEPT = {"dac_read_search": 2, "kill": 5, "setgid": 6, "setuid": 7, "setpcap": 8, "net_bind_service": 10,
        "net_admin": 12, "sys_ptrace": 19, "sys_admin": 21, "bpf": 39}


def caps(pid, which):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(which + ":"):
            return int(line.split()[1], 16)
    raise AssertionError(which)


def test_privileges(daemon):
    daemon.start()
    supervisor, worker = daemon.process.pid, daemon.worker()
    documented = (ROOT / "docs/operations.md").read_text()
    want = sum(1 << bit for bit in KEPT.values())
    for which in ("CapEff", "CapPrm", "CapBnd"):
        assert caps(supervisor, which) & ~want == 0
        assert caps(worker, which) == 0
    assert caps(supervisor, "CapInh") == caps(supervisor, "CapAmb") == 0
    for name in KEPT:
        assert f"CAP_{name.upper()}" in documented
    for pid in (supervisor, worker):
        assert "NoNewPrivs:\t1" in pathlib.Path(f"/proc/{pid}/status").read_text()
    status = pathlib.Path(f"/proc/{worker}/status").read_text()
    uid = next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1:]
    assert len(set(uid)) == 1 and uid[0] != "0"
    assert "Seccomp:\t2" in status  # what it refuses: tests/unit/test_privilege.c
    assert "Groups:\t \n" in status or "Groups:\t\n" in status
    environ = pathlib.Path(f"/proc/{worker}/environ").read_bytes()
    # glibc until 2.37 takes the list of tunables apart in place
    assert environ.replace(b"\0glibc.malloc.mmap", b":glibc.malloc.mmap") in (
        b"PATH=/usr/bin:/bin\0LC_ALL=C\0"
        b"GLIBC_TUNABLES=glibc.malloc.tcache_count=64:glibc.malloc.mmap_threshold=131072\0", b"")


def test_what_the_worker_only_reads_it_cannot_write(daemon):
    """
    It reads strangers' bytes: the switch of the splice, and who reads how, are not its to change. In conns and pairs
    stand kernel addresses that the programs follow.
    """
    daemon.start()
    modes = {}
    for info in pathlib.Path(f"/proc/{daemon.worker()}/fdinfo").iterdir():
        said = dict(line.split(":\t", 1) for line in info.read_text().splitlines() if ":\t" in line)
        if "map_type" in said:  # not the iterator over one
            name = json.loads(subprocess.run(["bpftool", "-j", "map", "show", "id", said["map_id"]], check=True,
                                             capture_output=True, text=True).stdout)["name"]
            modes[name] = int(said["flags"], 8) & os.O_ACCMODE
    assert modes["traffic"] == modes["services"] == os.O_RDWR
    assert modes["settings"] == modes["readers"] == modes["conns"] == modes["pairs"] == os.O_RDONLY


def test_client_must_be_root(daemon):
    daemon.start()
    os.chmod(f"/run/weft/{INSTANCE}", 0o755)
    os.chmod("/run/weft", 0o755)
    os.chmod(f"/run/weft/{INSTANCE}/weftd.sock", 0o777)
    done = as_nobody(sys.executable, "-c", "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
                     f"s.connect('/run/weft/{INSTANCE}/weftd.sock'); print(len(s.recv(10)))")
    assert done.stdout == "0\n"
