# SPDX-License-Identifier: Apache-2.0
"""
labrun: a lab from Python, for `make demo`, `make bench` and tests/net. docs/lab.md has examples.

	with Running.from_text(text, name="web") as lab:
		lab.start("server", "iperf3", "-s", ready=5201)
		lab.run("client", "curl", "-sS", f"http://{lab.ip('server')}/")
		lab.weftctl("connections")["connections"]

Everything that is started in a pod dies with the lab.
"""

import contextlib
import fcntl
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

from maker import Maker

ROOT = pathlib.Path(__file__).resolve().parents[1]
SIOCGSKNS = 0x894C  # linux/sockios.h: a file of a socket's netns


def load_lab():
    """The module of tools/lab, which has no .py in its name because people type it."""
    sys.path.insert(0, str(ROOT / "tools"))
    loader = importlib.machinery.SourceFileLoader("weft_lab", str(ROOT / "tools/lab"))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


lab_module = load_lab()
LabError = lab_module.LabError
MAKER = Maker(lab_module.enter)


SANITIZED = "SANITIZED" in os.environ  # make check-asan: the daemons' allocator keeps what was freed, and pads
REPORT = re.compile(r"==\d+==\s*ERROR: \w+Sanitizer|: runtime error: ")
REPORT_LINES = 40
GRACE = 6  # so many times slower may a machine be that others use; who waits for what comes in time loses nothing


def meant(most):
    """A bound of the daemons' memory, as it is with these daemons."""
    return 64 * most if SANITIZED else most


def is_entry(row):
    """Of a map as bpftool dumps it: not one that went while it looked, which has an error in place of a value."""
    value = row.get("value")
    return not (isinstance(value, dict) and "error" in value)


def wait_for(condition, seconds=10.0, what="the condition", every=0.01, grace=GRACE):
    """
    The first true value of condition(); a LabError that says what did not come after `seconds`, ample where nobody else
    uses the machine, times `grace`.
    """
    deadline = time.monotonic() + seconds * grace
    while True:
        last = time.monotonic() > deadline  # before the look: who was interrupted looks once more
        value = condition()
        if value:
            return value
        if last:
            raise LabError(f"{what} did not come within {seconds * grace:g} s; last seen: {value!r}")
        time.sleep(every)


def used(cgroup):
    """CPU seconds of a cgroup, user + system."""
    text = pathlib.Path(cgroup, "cpu.stat").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("usage_usec")) / 1e6


def pids(cgroup):
    return pathlib.Path(cgroup, "cgroup.procs").read_text().split()


def pss(pid):
    text = pathlib.Path("/proc", pid, "smaps_rollup").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024


class Owner:
    """Whoever has it may bring the lab of that name up and down."""

    def __init__(self, name, patience):
        self.path = lab_module.STATE / f".{name}.owner"
        self.file = wait_for(lambda: lab_module.take(self.path, fcntl.LOCK_EX | fcntl.LOCK_NB), patience,
                             f"lab {name}, which another process uses,", 0.1, 1)

    def close(self):
        self.path.unlink()
        self.file.close()


class Capture:
    """tcpdump on the first node's port of the wire: every frame whole, both ways."""

    def __init__(self, lab, expression):
        self.lab, self.file = lab, lab.scratch / f"wire-{len(lab.started)}.pcap"
        command = ["tcpdump", "-i", "n1", "--immediate-mode", "-U", "-s", "0", "-B", "16384", "-w", self.file,
                   *expression]
        self.process = lab.start("wire", *command, stderr=subprocess.PIPE)
        self.said = self.process.stderr.readline().decode()  # "listening on n1": from here on nothing is missed
        if "listening" not in self.said:
            raise LabError(f"tcpdump: {self.said.strip()} {self.process.communicate()[1].decode().strip()}")

    def written(self):
        """Is everything that it was given in the file? It says so on SIGUSR1."""
        self.process.send_signal(signal.SIGUSR1)
        captured, received = (int(n) for n in re.findall(r"(\d+) packets? (?:captured|received)",
                                                         self.process.stderr.readline().decode()))
        return captured == received

    def stop(self):
        """Ends it. LabError if the kernel dropped a frame: what was not recorded proves nothing."""
        wait_for(self.written, 10, "tcpdump's last frame")
        self.process.send_signal(signal.SIGINT)
        said = self.process.communicate(timeout=20)[1].decode()
        if "0 packets dropped by kernel" not in said:
            raise LabError(f"tcpdump: {said.strip()}")
        return self.file.read_bytes()


class Running:
    """A lab that is up. One owner at a time: another one waits `patience` seconds for the name, or fails."""

    def __init__(self, path, weft=True, build=None, prefix=None, folder=None, wait=True, patience=0):
        self.path, self.prefix, self.folder = pathlib.Path(path), prefix, folder
        self.owner = Owner(lab_module.Lab(path, prefix).name, patience)
        self.build = pathlib.Path(build or os.environ.get("BUILD") or ROOT / "build").resolve()
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix="weft-lab-"))
        self.scratch.chmod(0o755)
        self.started = []
        try:
            self.state = lab_module.up(path, weft, self.build, prefix, wait)
        except BaseException:
            shutil.rmtree(self.scratch, ignore_errors=True)
            self.owner.close()
            raise
        self.pods = {p["name"]: p for p in self.state["pods"]}
        self.nodes = {n["name"]: n for n in self.state["nodes"]}

    @classmethod
    def from_text(cls, text, name, manifests=None, **options):
        """A lab from the text of its file; `manifests` = {file name: text} become its folder."""
        folder = pathlib.Path(tempfile.mkdtemp(prefix="weft-lab-"))
        folder.chmod(0o755)
        if manifests is not None:
            (folder / "manifests").mkdir(mode=0o755)
            for file, body in manifests.items():
                (folder / "manifests" / file).write_text(body)
            text = 'manifests = "manifests"\n' + text
        (folder / f"{name}.lab").write_text(text)
        try:
            return cls(folder / f"{name}.lab", folder=folder, **options)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.down()

    def let_go(self):
        """
        Ends the sockets of the lab that this process has, as those of its processes end: who failed in the middle has
        some still, and a socket holds its netns. In the place of each is /dev/null, until its owner closes it.
        """
        ours = set()
        for name in self.state["netns"]:
            with contextlib.suppress(OSError):
                ours.add(os.stat(lab_module.NETNS / name).st_ino)
        nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        for fd in map(int, os.listdir("/proc/self/fd")):
            try:
                of = fcntl.ioctl(fd, SIOCGSKNS)
            except OSError:
                continue  # no socket
            if os.fstat(of).st_ino in ours:
                with socket.fromfd(fd, socket.AF_INET, socket.SOCK_STREAM) as s, contextlib.suppress(OSError):
                    s.shutdown(socket.SHUT_RDWR)  # who waits in it is told
                os.dup2(nothing, fd, inheritable=False)
            os.close(of)
        os.close(nothing)

    def reports(self):
        """What sanitizers say in the logs of daemons that were built with them."""
        found = []
        for node in self.nodes:
            with contextlib.suppress(FileNotFoundError):
                lines = self.log(node).splitlines()
                first = next((i for i, line in enumerate(lines) if REPORT.search(line)), None)
                found += [] if first is None else [f"{node}: " + "\n".join(lines[first:first + REPORT_LINES])]
        return found

    def down(self):
        reports = self.reports()
        self.let_go()
        lab_module.down(self.path, self.prefix)
        for p in self.started:
            p.wait()
        shutil.rmtree(self.scratch, ignore_errors=True)
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.owner.close()
        if reports:
            raise LabError("\n".join(reports))

    # ---- places

    def place(self, name):
        """(cgroup, netns, CPUs) of a pod, of a node's own processes, or of `wire`, the link between the nodes."""
        if name in self.pods:
            return self.pods[name]["cgroup"], self.pods[name]["netns"], self.pods[name]["cpus"]
        if name in self.nodes:
            return self.nodes[name]["cgroup"] + "/host", self.nodes[name]["netns"], self.nodes[name]["cpus"]
        if name == "wire" and self.state["wire"]:
            return next(iter(self.nodes.values()))["cgroup"] + "/host", self.state["wire"], ()
        raise LabError(f"no pod or node {name} in {self.path}")

    def ip(self, name, family=4):
        place = self.pods.get(name) or self.nodes[name]
        for ip in place.get("ips") or place["addresses"]:
            if (":" in ip) == (family == 6):
                return ip
        raise LabError(f"{name} has no IPv{family} address")

    def instance(self, node=None):
        return self.nodes[node or next(iter(self.nodes))]["instance"]

    def log(self, node=None):
        """What weftd and its worker have written so far."""
        return (lab_module.STATE / self.state["lab"] / f"{self.instance(node)}.log").read_text(errors="replace")

    def ca_dir(self):
        """The CA that the nodes share."""
        return pathlib.Path(self.state["ca"])

    # ---- processes

    def run(self, name, *command, check=True, timeout=30, text=True, **options):
        """Runs a command in a pod to its end; gives subprocess.CompletedProcess."""
        place = self.place(name)
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        done = subprocess.run([str(c) for c in command], capture_output=True, text=text, timeout=timeout,
                              preexec_fn=lambda: lab_module.enter(*place), check=False, **options)
        if check and done.returncode:
            raise LabError(f"{name}: {' '.join(map(str, command))}: exit code {done.returncode}: "
                           f"{done.stderr.strip() or done.stdout.strip()}")
        return done

    def start(self, name, *command, ready=None, daemon=False, limits=None, **options):
        """
        Starts a command in a pod. `ready`: a TCP port, or a path (AF_UNIX), on which it will listen: wait
        for that. `daemon`: in the cgroup where the node's weftd would be, so that its CPU is told from the apps'.
        `limits`: {RLIMIT_...: number}. And in a session of its own, as weftd is: the scheduler groups by session
        (sched_autogroup), and on a busy machine who shares a group with the load program waits less.
        """
        place = self.place(name)
        options.setdefault("start_new_session", daemon)
        if daemon:
            place = (self.daemon_cgroup(self.pods[name]["node"] if name in self.pods else name), *place[1:])
        def prepare():
            lab_module.enter(*place)
            for limit, number in (limits or {}).items():
                resource.setrlimit(limit, (number, number))

        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("stdout", subprocess.DEVNULL)
        log = self.scratch / f"{name}-{len(self.started)}.err"
        with open(log, "wb") as err:
            options.setdefault("stderr", err)
            p = subprocess.Popen([str(c) for c in command], preexec_fn=prepare, **options)
        self.started.append(p)

        def listening():
            if p.poll() is not None:
                raise LabError(f"{name}: {' '.join(map(str, command))} ended with code {p.returncode}: "
                               + log.read_text(errors="replace").strip())
            return os.path.exists(ready) if isinstance(ready, str) else self.listens(name, ready)

        if ready is not None:
            wait_for(listening, 10, f"{name}: {command[0]} listening on {ready}")
        return p

    def listens(self, name, port):
        """Is there a listener? Read from /proc, so that no connection disturbs it."""
        with lab_module.inside(self.place(name)[1]):
            for file in ("/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"):
                for line in pathlib.Path(file).read_text().splitlines()[1:]:
                    fields = line.split()
                    if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                        return True
        return False

    def established(self, name, endpoint):
        """How many connections of a pod stand toward IP:PORT (IPv4)."""
        with lab_module.inside(self.place(name)[1]):
            done = subprocess.run(["ss", "-Htn", "state", "established", "dst", endpoint], capture_output=True,
                                  text=True, check=True)
        return len(done.stdout.splitlines())

    def stop(self, process):
        """Ends what start() started; gives its exit code."""
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.wait()

    def sockets(self, name, count=1, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
        """
        Sockets that belong to a pod (netns and cgroup, as if an app there had made them), for use here.
        A child makes them inside and hands them over (maker.py).
        """
        fds = MAKER.sockets(self.place(name), count, family, kind, protocol)
        if len(fds) != count:
            raise LabError(f"{name}: got {len(fds)} of {count} sockets")
        return [socket.socket(fileno=fd) for fd in fds]

    def socket(self, name, family=socket.AF_INET, kind=socket.SOCK_STREAM, protocol=0):
        return self.sockets(name, 1, family, kind, protocol)[0]

    def daemon_cgroup(self, node):
        return self.nodes[node]["cgroup"] + "/weftd"

    def capture(self, *expression):
        """Starts to record the link between the nodes (tcpdump's expression); stop() of it gives the pcap's bytes."""
        return Capture(self, expression)

    def cpu(self, *names):
        """CPU seconds that the processes of pods have used, user + system."""
        return sum(used(self.place(name)[0]) for name in names)

    def daemon_cpu(self):
        """The same of the daemons of all nodes: weftd and its worker, or what was started with `daemon`."""
        return sum(used(self.daemon_cgroup(node)) for node in self.nodes)

    def daemon_pss(self):
        """Proportional set size of the same processes, in bytes, by node."""
        return {node: sum(pss(pid) for pid in pids(self.daemon_cgroup(node))) for node in self.nodes}

    def congestion(self, name):
        with lab_module.inside(self.place(name)[1]):
            return pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()

    # ---- weft

    def kill_weft(self, node=None, how=signal.SIGKILL):
        """Ends the daemon of a node, supervisor and worker at once; the kernel keeps what they put there."""
        cgroup = pathlib.Path(self.nodes[node or next(iter(self.nodes))]["cgroup"], "weftd")
        if how == signal.SIGKILL:
            (cgroup / "cgroup.kill").write_text("1")
        else:
            for pid in (cgroup / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), how)
        wait_for(lambda: not (cgroup / "cgroup.procs").read_text(), 10, "the end of weftd")

    def supervisor(self, node=None):
        """Its process."""
        found = [int(pid) for pid in pids(self.daemon_cgroup(node or next(iter(self.nodes))))
                 if pathlib.Path("/proc", pid, "comm").read_text() == "weftd\n"]
        if len(found) != 1:
            raise LabError(f"{len(found)} weftd run on {node}")
        return found[0]

    def start_weft(self, node=None):
        """Starts it again, as it was started by `lab up`; the pods are not enrolled anew."""
        lab_module.start_weftd(self.nodes[node or next(iter(self.nodes))], lab_module.STATE / self.state["lab"])

    def weftctl(self, *args, node=None, check=True, text=False):
        """`weftctl -o json ARGS` as Python objects; text=True: CompletedProcess of the human form."""
        cmd = [str(self.build / "weftctl"), "--instance", self.instance(node)]
        done = subprocess.run(cmd + ([] if text else ["-o", "json"]) + list(map(str, args)),
                              capture_output=True, text=True, check=False, timeout=60)
        if check and done.returncode:
            raise LabError(f"weftctl {' '.join(map(str, args))}: {done.stderr.strip() or done.stdout.strip()}")
        return done if text else json.loads(done.stdout or "null")

    def ready(self, node=None):
        return not self.weftctl("status", node=node, check=False, text=True).returncode

    def map(self, name, node=None):
        """A pinned map as bpftool prints it."""
        path = f"/sys/fs/bpf/weft/{self.instance(node)}/{name}"
        if name in ("readers", "caught"):  # of all instances on the machine
            path = f"/sys/fs/bpf/weft-readers-6/{name}"
        done = subprocess.run(["bpftool", "-j", "map", "dump", "pinned", path], capture_output=True, text=True,
                              check=False)
        if done.returncode:
            raise LabError(f"bpftool map dump {path}: {done.stderr.strip() or done.stdout.strip()}")
        found = json.loads(done.stdout)
        return [e for e in found if is_entry(e)] if isinstance(found, list) else found

    @property
    def manifests(self):
        return self.folder / "manifests"

    def manifest(self, file, text):
        """Writes a manifest as a careful operator does: beside it, then rename."""
        temporary = self.manifests / f".{file}.new"
        temporary.write_text(text)
        temporary.rename(self.manifests / file)

    # ---- nginx

    def nginx(self, name, port=80, body="weft\n", cpus=None, files=None):
        """A web server; `files` = {name: size} are served beside the small reply."""
        folder = f"nginx-{name}-{port}"
        html = self.scratch / folder / "html"
        html.mkdir(parents=True)
        for file, size in (files or {}).items():
            (html / file).write_bytes(b"w" * size)
        quoted = body.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return self.nginx_of(name, folder, WEB.format(html=html, port=port, body=quoted), port,
                             pin=["taskset", "-c", cpus] if cpus else [])

    def nginx_of(self, name, folder, http, ready, connections=4096, pin=(), **start):
        """
        nginx with what `http` adds to the block of that name, its files in `folder` of the scratch; nothing of the
        machine's nginx is touched. It reuses connections for as long as a load lasts.
        """
        prefix = self.scratch / folder
        prefix.mkdir(exist_ok=True)
        conf = prefix / "nginx.conf"
        conf.write_text(NGINX.format(prefix=prefix, connections=connections, files=connections + 500, http=http))
        binary = shutil.which("nginx") or "/usr/sbin/nginx"
        if not os.path.exists(binary):
            raise LabError("nginx is not installed: sh tools/setup.sh demo, or apt-get install nginx-light")
        return self.start(name, *pin, binary, "-p", str(prefix), "-c", str(conf), "-e", "stderr", ready=ready, **start)


NGINX = """
daemon off;
user root;
worker_processes 1;
worker_rlimit_nofile {files};
pid {prefix}/nginx.pid;
error_log stderr warn;
events {{ worker_connections {connections}; }}
http {{
	access_log off;
	keepalive_requests 100000000;
	keepalive_timeout 1h;
	tcp_nodelay on;
	client_body_temp_path {prefix}/body;
	proxy_temp_path {prefix}/proxy;
	fastcgi_temp_path {prefix}/fastcgi;
	uwsgi_temp_path {prefix}/uwsgi;
	scgi_temp_path {prefix}/scgi;
	{http}
}}
"""
WEB = """
	sendfile on;
	default_type text/plain;
	server {{
		listen 0.0.0.0:{port};
		listen [::]:{port};
		root {html};
		location = / {{ return 200 "{body}"; }}
		location = /whoami {{ return 200 "$remote_addr -> $server_addr:$server_port\\n"; }}
	}}
"""


def json_lines(text):
    """The JSON lines that the load programs print."""
    found = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found
