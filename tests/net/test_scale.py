# SPDX-License-Identifier: Apache-2.0
"""
A large mesh in a folder of files: 10 000 services with 100 000 endpoints. How long until weftd is ready, how much
memory that takes, and how long from rename() of a changed file to the new endpoint in the kernel's map.

Then much that one new policy changes: 10 000 connections that it forbids, 20 000 address blocks, 100 pods with 100
policies each. How long from rename() of its file until the last connection has ended.
"""

import ctypes
import datetime
import ipaddress
import json
import mmap
import os
import pathlib
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

import labrun
import pytest
from test_policy import policy

SERVICES, ENDPOINTS = 10000, 10
READY_SECONDS = 2.0
MEMORY = 150 << 20
CHANGE_SECONDS = 0.005
LOOKS = 7  # or as long as so many plain looks at all bytes of the file take just then: memory is slow at times
CHANGES = 20
TRIES = 3  # the best of them counts: machines have slow moments

LAB = """
[nodes.n1]
manifests = "{folder}"
[pods.client]
[pods.server]
labels = { app = "server" }
"""
LAYOUTS = {"10000 files": 1, "20 files": 500, "1 file": 10000}  # services per file


def vip(service):
    return str(ipaddress.ip_address("10.96.0.0") + service + 1)


def endpoint(number):
    return str(ipaddress.ip_address("10.128.0.0") + number + 1)


def service_text(service, first=None):
    """A Service and its EndpointSlice as a cluster would print them; `first` replaces the first endpoint."""
    lines = [f"""\
apiVersion: v1
kind: Service
metadata:
  name: s{service}
  namespace: shop
spec:
  clusterIP: {vip(service)}
  selector:
    app: s{service}
  ports:
  - name: http
    port: 80
    targetPort: 8080
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: s{service}-x
  namespace: shop
  labels:
    kubernetes.io/service-name: s{service}
addressType: IPv4
ports:
- name: http
  port: 8080
  protocol: TCP
endpoints:
"""]
    for i in range(ENDPOINTS):
        number = service * ENDPOINTS + i
        lines.append(f"""\
- addresses:
  - {first if first and not i else endpoint(number)}
  conditions:
    ready: true
    serving: true
    terminating: false
  nodeName: node-{number % 500}
""")
    return "".join(lines)


def file_text(at, per_file, first=None):
    """Services at .. at + per_file - 1; `first` = the first endpoint of the one in the middle."""
    changed = at + per_file // 2
    return "---\n".join(service_text(s, first if s == changed else None) for s in range(at, at + per_file))


# ------------------------------------------------------------------ the kernel's maps, without the cost of bpftool


class Attr(ctypes.Structure):
    """union bpf_attr, as BPF_OBJ_GET (path) and BPF_MAP_LOOKUP_ELEM read it."""

    _fields_ = [("path_or_fd", ctypes.c_uint64), ("key", ctypes.c_uint64), ("value", ctypes.c_uint64),
                ("flags", ctypes.c_uint64), ("rest", ctypes.c_char * 112)]


class Map:
    """A pinned map by bpf(2)."""

    number = {"x86_64": 321, "aarch64": 280}[platform.machine()]

    def __init__(self, path, value_size):
        name = ctypes.create_string_buffer(os.fsencode(path))
        self.value = ctypes.create_string_buffer(value_size)
        self.fd = self.call(7, Attr(path_or_fd=ctypes.addressof(name)))

    def call(self, command, attr):
        done = labrun.lab_module.LIBC.syscall(self.number, command, ctypes.byref(attr), ctypes.sizeof(attr))
        if done < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return done

    def get(self, key):
        """The bytes of the value; None: no such key."""
        key = ctypes.create_string_buffer(key, len(key))
        try:
            self.call(1, Attr(path_or_fd=self.fd, key=ctypes.addressof(key), value=ctypes.addressof(self.value)))
        except FileNotFoundError:
            return None
        return self.value.raw

    def close(self):
        os.close(self.fd)


def u32(*numbers):
    return b"".join(n.to_bytes(4, "little") for n in numbers)


def address_bytes(ip):
    return bytes(10) + b"\xff\xff" + ipaddress.ip_address(ip).packed


class Kernel:
    """abi_service and abi_endpoint of headers/abi.h."""

    def __init__(self, lab):
        pins = pathlib.Path("/sys/fs/bpf/weft", lab.instance())
        self.services, self.endpoints = Map(pins / "services", 104), Map(pins / "endpoints", 36)

    def row(self, ip, port=80):
        """(number, generation, count) of a service."""
        row = self.services.get(address_bytes(ip) + port.to_bytes(2, "little") + bytes(2))
        return tuple(int.from_bytes(row[i:i + 4], "little") for i in (0, 4, 8)) if row else (0, 0, 0)

    def behind(self, ip, port=80):
        """Addresses of the endpoints, as the connect hook would find them."""
        number, generation, count = self.row(ip, port)
        values = [self.endpoints.get(u32(number, generation, i)) for i in range(count)]
        return [str(ipaddress.ip_address(v[12:16])) for v in values if v]

    def close(self):
        self.services.close()
        self.endpoints.close()


# ------------------------------------------------------------------ what the daemon used


def look(path):
    """Seconds that memchr takes for all bytes of a file where the kernel has it."""
    with open(path, "rb") as file:
        began = time.monotonic()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as mapped:
            first = ctypes.c_char.from_buffer(mapped)
            found = labrun.lab_module.LIBC.memchr(ctypes.byref(first), 0, ctypes.c_size_t(len(mapped)))
            del first
        assert not found
        return time.monotonic() - began


def processes(lab):
    """{name: pid} of weftd and its worker."""
    procs = pathlib.Path(lab.nodes["n1"]["cgroup"], "weftd", "cgroup.procs").read_text().split()
    return {pathlib.Path("/proc", pid, "comm").read_text().strip(): int(pid) for pid in procs}


def memory(pid):
    """(most resident ever, proportional share now) in bytes."""
    status = pathlib.Path("/proc", str(pid), "status").read_text()
    rollup = pathlib.Path("/proc", str(pid), "smaps_rollup").read_text()
    return tuple(int(re.search(rf"^{key}:\s+(\d+) kB", text, re.M)[1]) * 1024
                 for key, text in (("VmHWM", status), ("Pss", rollup)))


def cpu(pid):
    """Seconds on a CPU, and seconds of waiting for one while others had them."""
    used, waited, _ = map(int, pathlib.Path("/proc", str(pid), "schedstat").read_text().split())
    return used / 1e9, waited / 1e9


def started(pid):
    """Time of day at which a process was started (to 10 ms)."""
    fields = pathlib.Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return boot + int(fields[19]) / os.sysconf("SC_CLK_TCK")


def ready_at(lab):
    """Time of day at which weftd said that it is ready."""
    stamp = next(line.split()[0] for line in lab.log().splitlines() if line.endswith(" weftd: ready"))
    return datetime.datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()


@pytest.fixture(scope="module", params=LAYOUTS)
def files(request, tmp_path_factory):
    """The folder, made once: (what it is, services per file, path)."""
    per_file = LAYOUTS[request.param]
    folder = tmp_path_factory.mktemp("scale")
    for at in range(0, SERVICES, per_file):
        (folder / f"f{at:05}.yaml").write_text(file_text(at, per_file))
    folder.chmod(0o755)
    folder.parent.chmod(0o755)
    yield request.param, per_file, folder
    shutil.rmtree(folder)


def start(make_lab, folder):
    return make_lab(LAB.replace("{folder}", str(folder)))


def ready_in(make_lab, name, folder, capsys):
    """A lab that was started, and the seconds until it was ready, but for those in which others had the CPU."""
    lab = start(make_lab, folder)
    pids = processes(lab)
    took = ready_at(lab) - started(pids["weftd"])
    used, waited = (sum(times) for times in zip(*(cpu(p) for p in pids.values())))
    most, share = (max(sizes) for sizes in zip(*(memory(p) for p in pids.values())))
    with capsys.disabled():
        print(f"\n{name}: ready after {took:.2f} s, {waited:.2f} s of it waiting for others ({used:.2f} s of CPU); "
              f"at most {most >> 20} MiB resident, {share >> 20} MiB now")
    assert most <= MEMORY
    return lab, took - waited


def test_a_large_folder_is_ready_soon_and_small(make_lab, files, capsys):
    name, _, folder = files
    took = []
    while len(took) < TRIES and (not took or min(took) > READY_SECONDS):
        lab, seconds = ready_in(make_lab, name, folder, capsys)
        took.append(seconds)
    counts = lab.weftctl("status")["control"]["counts"]
    assert (counts["services"], counts["endpoints"]) == (SERVICES, SERVICES * ENDPOINTS)
    kernel = Kernel(lab)
    for service in (0, SERVICES // 3, SERVICES - 1):
        want = {endpoint(service * ENDPOINTS + i) for i in range(ENDPOINTS)}
        assert set(kernel.behind(vip(service))) == want
    kernel.close()
    assert min(took) <= READY_SECONDS, took


class Changes:
    """One endpoint of the service in the middle of a folder changes, again and again."""

    def __init__(self, lab, per_file, folder):
        self.lab, self.kernel, self.worker = lab, Kernel(lab), processes(lab)["weft-worker"]
        at = SERVICES // 2 // per_file * per_file
        self.changed = at + per_file // 2
        self.text = file_text(at, per_file, "@FIRST@")
        self.path, self.beside = folder / f"f{at:05}.yaml", folder / ".new"
        self.made = 0

    def others(self):
        """Seconds in which the worker, and we, waited for a CPU that others had."""
        return cpu(self.worker)[1] + cpu("self")[1]

    def once(self):
        """Seconds from rename() to the kernel, and those but for others."""
        new = endpoint(SERVICES * ENDPOINTS + self.made)
        self.made += 1
        with open(self.beside, "w", encoding="ascii") as written, open(self.path, "rb"):
            # On the disk before, and the old one freed after: ext4 would do both within rename().
            written.write(self.text.replace("@FIRST@", new))
            written.flush()
            os.fsync(written.fileno())
            began, waited = time.monotonic(), self.others()
            self.beside.rename(self.path)
            while new not in self.kernel.behind(vip(self.changed)):
                assert time.monotonic() - began < 60, f"{new} is not in the kernel"
                time.sleep(0.0001)  # to look without pause would take a CPU from the worker
            took = time.monotonic() - began
        alone = took - self.others() + waited
        assert len(self.kernel.behind(vip(self.changed))) == ENDPOINTS
        return took, alone, look(self.path)

    def in_time(self, name, capsys):
        """Twenty of them. Is the median within what is promised?"""
        took, alone, looks = zip(*(self.once() for _ in range(CHANGES)))
        with capsys.disabled():
            print(f"\n{name}: a changed endpoint is in the kernel after {statistics.median(took) * 1000:.2f} ms "
                  f"(median of {CHANGES}; worst {max(took) * 1000:.2f} ms; {statistics.median(alone) * 1000:.2f} ms "
                  f"but for others; one look at its file takes {statistics.median(looks) * 1000:.2f} ms)")
        assert self.lab.weftctl("status")["control"]["published"]["updates"] <= 2 * ENDPOINTS  # and no others
        return statistics.median(alone) <= max(CHANGE_SECONDS, LOOKS * statistics.median(looks))


def test_one_endpoint_of_a_large_folder_changes(make_lab, files, capsys):
    name, per_file, folder = files
    lab = start(make_lab, folder)
    changes = Changes(lab, per_file, folder)
    assert any(changes.in_time(name, capsys) for _ in range(TRIES))
    other = vip(changes.changed + 1 if per_file > 1 else 0)
    assert set(changes.kernel.behind(other)).isdisjoint(changes.kernel.behind(vip(changes.changed)))
    changes.kernel.close()


def test_a_change_reaches_a_connect(make_lab, files):
    """Through the VIP: the next connect after the change goes to the new endpoint, which greets."""
    _, per_file, folder = files
    lab = start(make_lab, folder)
    listener = lab.socket("server")
    listener.bind((lab.ip("server"), 8080))
    listener.listen(64)
    at = SERVICES - per_file
    text = before = file_text(at, per_file)
    changed = at + per_file // 2
    for i in range(ENDPOINTS):
        text = text.replace(f"- {endpoint(changed * ENDPOINTS + i)}\n", f"- {lab.ip('server')}\n")
    kernel = Kernel(lab)
    (folder / ".new").write_text(text)
    (folder / ".new").rename(folder / f"f{at:05}.yaml")
    labrun.wait_for(lambda: kernel.behind(vip(changed)) == [lab.ip("server")], 5, "the server behind the service")
    s = lab.socket("client")
    s.settimeout(30)
    s.connect((vip(changed), 80))
    assert s.getpeername() == (vip(changed), 80)
    listener.settimeout(30)
    c, peer = listener.accept()
    assert peer[0] == lab.ip("client")
    for x in (s, c, listener):
        x.close()
    kernel.close()
    (folder / ".new").write_text(before)
    (folder / ".new").rename(folder / f"f{at:05}.yaml")


def test_a_killed_worker_takes_a_large_world_back(make_lab, files, capsys):
    """The kernel goes on with what it has, and the next worker has nothing to write."""
    name, _, folder = files
    lab = start(make_lab, folder)
    kernel = Kernel(lab)
    watched = [vip(s) for s in range(0, SERVICES, SERVICES // 10)]
    before = [(kernel.row(v), kernel.behind(v)) for v in watched]  # with its generation: it is not written again
    killed = processes(lab)["weft-worker"]
    os.kill(killed, signal.SIGKILL)

    def back():
        assert [(kernel.row(v), kernel.behind(v)) for v in watched] == before
        now = processes(lab).get("weft-worker", killed)
        return now != killed and lab.ready() and now
    worker = labrun.wait_for(back, 20, "the next worker", 0.02)
    status = lab.weftctl("status")
    assert status["worker"]["restarts"] == 1
    used, waited = cpu(worker)
    with capsys.disabled():
        print(f"\n{name}: the next worker took {used:.2f} s of CPU, has {memory(worker)[0] >> 20} MiB")
    assert used <= READY_SECONDS
    assert memory(worker)[0] <= MEMORY
    kernel.close()


# ------------------------------------------------------------------ connections that a new policy forbids

FORBIDDEN_SECONDS = 0.1  # for the last of them to end
CONNECTIONS = 10000
PROCESSES = 4  # at each side, so that a hard limit of 4096 files is enough
PODS = RULES = 100
ROUNDS = 3

# Accepts and holds until it hears something; then forgets them.
HOLDER = """
import resource, select, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1:] * 2)
listener = socket.create_server(("", int(sys.argv[1])), backlog=4096)
held = []
while True:
    for ready in select.select([listener, sys.stdin], [], [])[0]:
        if ready is listener:
            held.append(listener.accept()[0])
        elif sys.stdin.readline():
            held = []
        else:
            sys.exit()
"""
# Opens so many connections to each address:port, says so, and says when the last of them had ended. It looks now and
# then: to be woken by each would take a CPU from what ends them.
OPENER = """
import resource, select, socket, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1:] * 2)
poll, held = select.epoll(), []
for address in sys.argv[2:]:
    host, port = address.split(":")
    for _ in range(int(sys.argv[1])):
        held.append(socket.create_connection((host, int(port))))
        poll.register(held[-1].fileno(), select.EPOLLRDHUP | select.EPOLLONESHOT)
print("open", flush=True)
left = len(held)
while left:
    time.sleep(0.002)  # between two looks
    left -= len(poll.poll(-1, 20000))
print(time.monotonic(), flush=True)
"""
DENY_CLIENT = [{"from": [{"source": {"serviceAccounts": ["default/client"]}}]}]


def text(*objects):
    return "---\n".join(json.dumps(o) + "\n" for o in objects)


def pods_lab(make_lab, pods, manifests=None, node=""):
    lab = "[nodes.n1]\n" + node + '[pods.client]\nservice_account = "client"\n'
    lab += "".join(f'[pods.{pod}]\nnamespace = "{ns}"\nlabels = {{ app = "{pod}" }}\n' for pod, ns in pods)
    return make_lab(lab, manifests or {})


def forbid(lab, groups, each, change, capsys, name):
    """
    Rounds of: `each` connections to every address of each group (a process), the change, and the seconds until the
    last one has ended; less those in which one of weft's processes waited for a CPU.
    """
    pids = processes(lab).values()
    took, alone = [], []
    for _ in range(ROUNDS):
        openers = [lab.start("client", sys.executable, "-S", "-c", OPENER, each, *group, stdout=subprocess.PIPE)
                   for group in groups]
        assert all(p.stdout.readline() == b"open\n" for p in openers)
        waited = [cpu(p)[1] for p in pids]
        began = time.monotonic()
        lab.manifest("forbids.yaml", change)
        took.append(max(float(p.stdout.readline()) for p in openers) - began)
        alone.append(took[-1] - max(cpu(p)[1] - before for p, before in zip(pids, waited)))
        for p in openers:
            p.communicate()
        for p in lab.started:
            if p.stdin:  # a holder
                p.stdin.write(b"\n")
                p.stdin.flush()
        (lab.manifests / "forbids.yaml").unlink()
        host, port = groups[0][0].split(":")

        def allowed(where=(host, int(port))):
            with lab.socket("client") as s:
                return s.connect_ex(where) == 0
        labrun.wait_for(allowed, 10, "the policy gone")
    with capsys.disabled():
        print(f"\n{name}: the last connection has ended after {statistics.median(took) * 1000:.1f} ms (median of "
              f"{ROUNDS}; worst {max(took) * 1000:.1f} ms; {statistics.median(alone) * 1000:.1f} ms but for others)")
    return statistics.median(alone)


def hold(lab, pod, port):
    return lab.start(pod, sys.executable, "-S", "-c", HOLDER, port, stdin=subprocess.PIPE, ready=port)


def test_ten_thousand_connections_end_in_time(make_lab, capsys):
    """75 ms on two idle cores, nine tenths of it in the kernel's tcp_abort; others who use them make it twice that."""
    lab = pods_lab(make_lab, [("server", "default")])
    ports = range(7200, 7200 + PROCESSES)
    for port in ports:
        hold(lab, "server", port)
    took = forbid(lab, [[f"{lab.ip('server')}:{port}"] for port in ports], CONNECTIONS // PROCESSES,
                  text(policy("default", "no", "DENY", DENY_CLIENT)), capsys, f"{CONNECTIONS} connections")
    assert took < 2 * FORBIDDEN_SECONDS


def test_twenty_thousand_blocks_end_a_connection_in_time(make_lab, capsys):
    lab = pods_lab(make_lab, [("server", "default")])
    hold(lab, "server", 7200)
    blocks = [f"172.{16 + i // 65536}.{i // 256 % 256}.{i * 7 % 256}/32" for i in range(10000)]
    blocks += [f"fd12:{i * 7 % 10000:x}::/32" for i in range(10000)] + [lab.ip("client") + "/32"]
    took = forbid(lab, [[f"{lab.ip('server')}:7200"]], 10,
                  text(policy("default", "no", "DENY", [{"from": [{"source": {"ipBlocks": blocks}}]}])), capsys,
                  f"{len(blocks)} blocks")
    assert took < FORBIDDEN_SECONDS


@pytest.mark.parametrize("spaces", [PODS, 1], ids=["each its namespace", "one namespace"])
def test_a_policy_of_the_mesh_changes_many_sets_in_time(make_lab, capsys, spaces):
    """Each pod has policies of its own; one that is new makes all sets new."""
    pods = [(f"p{i}", f"ns{i % spaces}") for i in range(PODS)]

    def rule(pod, k):
        source = f"cluster.local/ns/{pod}/sa/s{k}" if k else "*"
        return [{"from": [{"source": {"principals": [source]}}],
                 "to": [{"operation": {"ports": [str(8000 + k) if k else "7200"]}}]}]
    lab = pods_lab(make_lab, pods, {
        f"{pod}.yaml": text(*(policy(ns, f"{pod}-{k}", "ALLOW" if k % 2 == 0 else "DENY", rule(pod, k), {"app": pod})
                              for k in range(RULES)))
        for pod, ns in pods}, 'ipv4 = "10.244.0.0/16"\n')
    assert lab.weftctl("status")["control"]["counts"]["policy_sets"] >= PODS
    listeners = []
    for pod, _ in pods:
        listeners.append(lab.socket(pod))
        listeners[-1].bind(("", 7200))
        listeners[-1].listen(64)  # what nobody accepts is a connection too
    took = forbid(lab, [[f"{lab.ip(pod)}:7200" for pod, _ in pods]], 2,
                  text(policy("istio-system", "no", "DENY", DENY_CLIENT)), capsys,
                  f"{PODS} pods with {RULES} policies each, {spaces} namespaces")
    for s in listeners:
        s.close()
    assert took < FORBIDDEN_SECONDS
