# SPDX-License-Identifier: Apache-2.0
"""
weftctl and its two sockets as strangers use them: wrong words, no daemon, JSON against docs/admin.md, tables, --watch,
completion, man pages; pods that cannot be enrolled; clients that send garbage, say nothing or do not read.
"""

import array
import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import termios

import labrun
import pytest

from stopwatch import Stopwatch

BUILD = pathlib.Path(os.environ.get("BUILD") or labrun.ROOT / "build").resolve()
SPLICE = ("splice",)  # no traffic here but a little
VIP = "10.96.8.1"
LAB = """
[nodes.node]
[pods.client]
service_account = "client"
[pods.web]
labels = { app = "web" }
[pods.spare]
enrol = false
"""
MANIFESTS = {"all.yaml": f"""
apiVersion: v1
kind: Service
metadata: {{ name: web, namespace: default }}
spec:
  clusterIP: {VIP}
  sessionAffinity: ClientIP
  selector: {{ app: web }}
  ports: [{{ port: 80, targetPort: 8080 }}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{ name: clients, namespace: default }}
spec:
  selector: {{ matchLabels: {{ app: web }} }}
  rules:
  - from: [{{ source: {{ serviceAccounts: [client] }} }}]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{ name: strict, namespace: default }}
spec: {{ mtls: {{ mode: STRICT }} }}
"""}
MIB = 1 << 20


def program(*args, instance="cli-nobody", **options):
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([BUILD / "weftctl", "--instance", instance, *map(str, args)], capture_output=True, text=True,
                          check=False, timeout=60, **options)


def commands():
    """Of `weftctl help`: [(name, words)]"""
    found = []
    for line in program("help").stdout.splitlines():
        entry = re.match(r"  ([a-z]+(?: [a-z]+)*)((?: \[?[A-Z\[\]/:-]+\]?)*)  ", line)
        if entry:
            found.append((entry[1], entry[2].split()))
    return found


COMMANDS = commands()
OFFLINE = {"reasons", "completion", "help", "version"}
EXAMPLES = {"NAMESPACE/NAME": "default/x", "NAMESPACE/POD": "default/x", "DEST[:PORT]": "10.0.0.1:80", "SHELL": "bash"}
NEEDED = {"pod add": ["--netns", "/proc/self/ns/net", "--ip", "10.9.9.9"], "issue": ["--to", "/tmp"]}


def usage(name, words):
    return [*name.split(), *(EXAMPLES[w] for w in words if not w.startswith("[")), *NEEDED.get(name, [])]


# ---------------------------------------------------------------- without a daemon


def test_all_commands_are_known():
    assert {name for name, _ in COMMANDS} >= OFFLINE | {
        "status", "pods", "services", "connections", "policy", "explain", "traffic", "pod add", "pod del", "splice on",
        "splice off"}


def one_line(done, code):
    assert done.returncode == code and not done.stdout, (done.returncode, done.stdout)
    assert done.stderr.startswith("weftctl: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("name, words", COMMANDS, ids=[c[0] for c in COMMANDS])
def test_wrong_usage_of_each_command(name, words):
    good = usage(name, words)
    assert "--nonsense" in one_line(program(*good, "--nonsense"), 2)
    assert "too many" in one_line(program(*good, *["a/b"] * 4), 2)
    assert "table or json" in one_line(program(*good, "-o", "xml"), 2)
    needed = [w for w in words if not w.startswith("[")]
    if needed:
        assert needed[0] in one_line(program(*name.split()), 2)
    shown = program("help", *name.split())
    assert shown.returncode == 0 and shown.stdout.startswith(f"usage: weftctl {name}")
    if name != "help":
        assert program(*name.split(), "--help").stdout == shown.stdout


@pytest.mark.parametrize("args, says", [
    ((), "weftctl help"), (("nothing",), "nothing"), (("stauts",), "did you mean `weftctl status`?"),
    (("route",), "`weftctl routes`?"), (("complete", "bash"), "unknown command \"complete\": see `weftctl help`"),
    (("polcy", "a/b"), "`weftctl policy`?"), (("help", "gateway"), "`weftctl gateways`?"),
    (("cert",), "`weftctl certs`?"), (("xx",), "unknown command \"xx\": see"),
    (("pod",), "add or del"), (("splice", "maybe"), "on or off"),
    (("-o",), "--output"), (("status", "--wait"), "--wait"), (("status", "--wait", "soon"), "soon"),
    (("--watch=0.01", "pods"), "0.1"), (("--instance", "../x", "pods"), "a-z"), (("completion", "ksh"), "bash"),
    (("names", "--of", "socks"), "pods, services or commands"), (("help", "nothing"), "nothing"),
    (("routes", "a/b/c"), "NAMESPACE/NAME"), (("pods", "/x"), "NAMESPACE/NAME"),
    (("pod", "del", "x"), "NAMESPACE/NAME"), (("pod", "del", "a/" + "b" * 300), "longer"),
    (("pod", "add", "a/b", "--netns", "x"), "--ip"), (("pod", "add", "a/b", "--ip", "10.0.0.1"), "--netns"),
    (("pod", "add", "a/b", "--netns", "x", "--ip", "10.0.0.1/24"), "10.0.0.1/24"),
    (("pod", "add", "a/b", "--netns", "x", "--ip", "10.0.0"), "not an address"),
    (("pod", "add", "a/b", "--netns", "x", "--ip", ""), "not an address"),
    (("pod", "add", "a/b", "--netns", "x", "--ip", ",".join(f"10.0.0.{n}" for n in range(9))), "more than 8"),
    (("pod", "add", "a/b", "--netns", "x", "--ip", "10.0.0.1", "--label", "app"), "KEY=VALUE"),
    (("pod", "add", "a/b", "--netns", "x", "--ip", "10.0.0.1", "--service-account", "s" * 300), "longer"),
    (("pods", "a/b\udcff"), "characters that no name has"), (("explain", "a/b", "\udcff"), "that no name has"),
    (("services", "a/\x1b[2Jb"), "a/?[2Jb"), (("routes", "a/\u202eb"), "characters that no name has"),
    (("splice", "on", "--watch"), "cannot be watched"), (("pods", *["--watch=1"] * 300), "options"),
])
def test_wrong_words(args, says):
    assert says in one_line(program(*args), 2)


@pytest.mark.parametrize("name, words", [c for c in COMMANDS if c[0] not in OFFLINE],
                         ids=[c[0] for c in COMMANDS if c[0] not in OFFLINE])
def test_no_daemon(name, words):
    said = one_line(program(*usage(name, words)), 1)
    assert "not running" in said and "weftd --instance cli-nobody and all of its options" in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_the_one_of_the_tree(shell):
    file = {"bash": "weftctl.bash", "zsh": "_weftctl", "fish": "weftctl.fish"}[shell]
    assert program("completion", shell).stdout == (labrun.ROOT / "tools/weftctl/completion" / file).read_text()


@pytest.mark.parametrize("page", ["weftctl.1", "weftd.8"])
def test_man_pages_render(page):
    done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-rLL=100n", labrun.ROOT / "docs/man" / page],
                          capture_output=True, text=True, check=True)
    assert not done.stderr
    plain = re.sub("\x1b\\[[0-9;]*m|.\x08", "", done.stdout)
    assert "EXIT" in plain
    if page == "weftctl.1":
        for name, _ in COMMANDS:
            assert name in plain, name


# ---------------------------------------------------------------- JSON, tables


@pytest.fixture(scope="module", autouse=True)
def talk(lab):
    """Something for every list to show."""
    lab.nginx("web", 8080, "web\n")
    for _ in range(3):
        lab.run("client", "curl", "-sS", f"http://{VIP}/")
    lab.run("client", "curl", "-sS", "--max-time", "1", f"http://{VIP}:81/", check=False)
    s = lab.socket("client")
    s.settimeout(10)
    s.connect((VIP, 80))
    s.sendall(b"GET / HTTP/1.1\r\nHost: web\r\n\r\n")
    assert s.recv(1000).startswith(b"HTTP/1.1 200")
    yield
    s.close()


SHOWN = {
    "status": (), "pods": (), "services": (), "connections": (), "policy": (), "traffic": (),
    "explain": ("default/client", f"{VIP}:80"),
}


def members(value):
    """Names of all members at any depth; those of a map whose keys are data (labels) are not names."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield name
            if name != "labels":
                yield from members(inner)
    if isinstance(value, list):
        for item in value:
            yield from members(item)


def documented(command):
    """Names in backquotes of one section of docs/admin.md: `a`, `a[]`, `a{}`."""
    section = (labrun.ROOT / "docs/admin.md").read_text().split(f"\n## {command}\n")[1].split("\n## ")[0]
    text = re.sub("```.*?```", "", section, flags=re.S)
    return set(re.findall(r"`([a-z][a-z0-9_]*)(?:\[\]|\{\})?`", text))


@pytest.mark.parametrize("command", SHOWN)
def test_json_is_what_the_document_says(lab, command):
    lab.manifest("warn.yaml", "apiVersion: v1\nkind: Frob\nmetadata: { name: x }\n")
    labrun.wait_for(lambda: lab.weftctl("status")["control"]["problems"], 10, "a warning to show")
    answer = lab.weftctl(command, *SHOWN[command])
    (lab.manifests / "warn.yaml").unlink()
    names = set(members(answer))
    assert names <= documented(command) | ({"control"} if command == "status" else set()), "not in docs/admin.md"
    enough = {"status": 30, "pods": 15, "services": 10, "connections": 15, "policy": 10, "traffic": 12, "explain": 10}
    assert len(names) >= enough[command], names
    text = program(command, *SHOWN[command], "-o", "json", instance=lab.instance()).stdout
    assert text.endswith("\n") and json.loads(text).keys() == answer.keys()


@pytest.mark.parametrize("command", ["status", "pods", "services", "connections", "policy", "traffic", "reasons"])
def test_tables_are_aligned(lab, command):
    text = program(command, instance=lab.instance()).stdout
    tables = 0
    for part in text.split("\n\n"):
        head, *rows = part.splitlines()
        if not re.fullmatch(r"[A-Z ]+", head):
            continue
        tables += 1
        columns = [(m.start(), m.end()) for m in re.finditer(r"[A-Z]+", head)]
        assert rows
        for row in rows:
            assert row == row.rstrip()
            for start, end in columns[1:]:  # a column begins, or ends, where its title does
                left = row[start - 1:start] in ("", " ") and row[start - 2:start - 1] in ("", " ")
                right = row[end:end + 1] in ("", " ")
                assert left or right, f"{head}\n{row}\n column at {start}"
    assert tables


@pytest.mark.parametrize("options", [(), ("-o", "json")])
def test_watch_ends_with_ctrl_c(lab, options):
    with subprocess.Popen([BUILD / "weftctl", "--instance", lab.instance(), *options, "--watch", "0.1", "pods"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as p:
        first = p.stdout.readline()
        while p.stdout.readline() != first:  # the second screen
            pass
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=60)
        assert p.returncode == -signal.SIGINT and not err


@pytest.mark.parametrize("rows", [8, 2])
def test_watch_fits_into_the_terminal(lab, rows):
    """The head of the screen stays: what has no room is counted, not scrolled through."""
    columns = 60
    leader, follower = os.openpty()
    termios.tcsetwinsize(follower, (rows, columns))
    with subprocess.Popen([BUILD / "weftctl", "--instance", lab.instance(), "--watch", "0.1", "status"],
                          stdout=follower, stderr=follower, env={**os.environ, "TERM": "xterm"}) as p:
        os.close(follower)
        shown = b""
        while shown.count(b"\033[H\033[J") < 3 and shown.count(b"\n") < 4 * rows:
            shown += os.read(leader, 65536)
        p.send_signal(signal.SIGINT)
    os.close(leader)
    screen = shown.split(b"\033[H\033[J")[1].decode()
    lines = re.sub(r"\033\[[0-9]*m", "", screen).split("\r\n")
    assert lines.pop() == ""  # the cursor, in the last row
    assert sum(max(-(-len(line) // columns), 1) for line in lines) < rows, lines
    assert rows == 2 or lines[0].startswith("weftd"), lines
    assert re.fullmatch(r"\d+ more lines: make the terminal higher", lines[-1]), lines


def completed(lab, *words, folder="."):
    script = 'source <(weftctl completion bash); COMP_WORDS=(weftctl "$@"); COMP_CWORD=$#; _weftctl; ' \
        'printf "%s\\n" "${COMPREPLY[@]}"'
    path = f"{BUILD}:{os.environ['PATH']}"
    done = subprocess.run(["bash", "-c", script, "bash", *words], cwd=folder, capture_output=True, text=True,
                          check=True, env={**os.environ, "PATH": path, "WEFT_INSTANCE": lab.instance()})
    assert not done.stderr
    return set(done.stdout.splitlines()) - {""}


def test_completion_runs_no_name(lab, tmp_path):
    """Root completes where others may make files: a name is offered as it is, whatever a shell would read in it."""
    names = {"$(touch ran)", "`touch ran`", "two words", "*"}
    for name in names:
        (tmp_path / name).mkdir()
    assert completed(lab, "issue", "default/web", "--to", "", folder=tmp_path) == names
    assert completed(lab, "pod", "add", "--netns", "", folder=tmp_path) >= names
    assert completed(lab, "issue", "default/web", "--to", "tw", folder=tmp_path) == {"two words"}
    assert {p.name for p in tmp_path.iterdir()} == names


def test_completion_in_bash(lab):
    assert completed(lab, "s") == {"status", "services", "splice"}
    assert completed(lab, "splice", "") == {"on", "off"}
    assert completed(lab, "pods", "") == {"default/client", "default/web"}
    assert completed(lab, "services", "") == {"default/web"}
    assert completed(lab, "explain", "default/c") == {"default/client"}
    assert completed(lab, "-o", "") == {"table", "json"}
    assert completed(lab, "help", "stat") == {"status"}
    assert "/usr/lib" in completed(lab, "issue", "default/web", "--to", "/usr/l")
    assert {"--netns", "--ip"} <= completed(lab, "pod", "add", "--")
    assert completed(lab, "--instance", lab.instance(), "pods", "default/w") == {"default/web"}
    assert completed(lab, "--instance", "cli-nobody", "pods", "") == set()


# ---------------------------------------------------------------- what the documents tell one to type


def typed(document):
    """Commands of bpftool in code blocks: `$ bpftool ...`, or the start of a line, up to a comment."""
    for block in re.findall(r"```\n(.*?)```", (labrun.ROOT / "docs" / document).read_text(), re.S):
        for line in block.splitlines():
            command = re.match(r"(?:\$ )?(bpftool (?:\S+ )*\S+)(?: {2,}.*)?$", line)
            if command:
                yield command[1].split()


TYPED = [(document, command) for document in ("bpftool.md", "policy.md", "services.md") for command in typed(document)]


def test_documents_tell_what_to_type():
    assert len(TYPED) > 12


@pytest.mark.parametrize("command", [c for _, c in TYPED], ids=[f"{d[:-3]}-{'-'.join(c[-2:])}" for d, c in TYPED])
def test_bpftool_as_in_the_documents(lab, command):
    pins = f"/sys/fs/bpf/weft/{lab.instance()}"
    names = {"/sys/fs/cgroup/unified": lab.nodes["node"]["cgroup"]}
    argv = [names.get(w, w.replace("/sys/fs/bpf/weft/default", pins)) for w in command]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=pins)
    shown = 0, 255 if command[1:4] == ["link", "show", "pinned"] else 0  # so ends bpftool 7.5, Debian 13's
    assert done.returncode in shown and done.stdout.strip() and not done.stderr, (argv, done.stdout, done.stderr)


def examples():
    """Lines of code blocks that call weftctl, in all documents."""
    for path in [labrun.ROOT / "README.md", *(labrun.ROOT / "docs").glob("*.md"), labrun.ROOT / "tools/demo.lab"]:
        for line in path.read_text().splitlines():
            call = re.match(r"(?:#\t)?(?:\$ )?(?:sudo )?(?:build/)?weftctl ([^#|]*?)(?: {2,}.*)?(?: *#.*)?$", line)
            if call:
                yield call[1].split()


@pytest.mark.parametrize("words", list(examples()), ids=" ".join)
def test_examples_are_understood(words):
    if "--netns" in words:  # of a netns that is not here
        words[words.index("--netns") + 1] = "/proc/self/ns/net"
    instance = words[words.index("--instance") + 1] if "--instance" in words else "cli-nobody"
    assert one_line(program(*words), 1).endswith(f"weftd --instance {instance} and all of its options\n")


def test_options_of_weftd_in_the_documents_exist():
    known = set(re.findall(r"--[a-z-]+", subprocess.run([BUILD / "weftd", "--help"], capture_output=True, text=True,
                                                        check=True).stdout))
    for path in [labrun.ROOT / "README.md", *(labrun.ROOT / "docs").glob("*.md"), labrun.ROOT / "deploy/weftd.service"]:
        for line in re.findall(r"weftd((?: --[a-z-]+| [A-Z]+| /\S+)+)", path.read_text()):
            assert set(re.findall(r"--[a-z-]+", line)) <= known, (path, line)


def test_pins_are_those_of_the_document(lab):
    text = (labrun.ROOT / "docs/bpftool.md").read_text()
    pins = pathlib.Path(f"/sys/fs/bpf/weft/{lab.instance()}")
    listed = text.split("ls -p\n")[1].split("```")[0].split()
    assert sorted(p.name + "/" * p.is_dir() for p in pins.iterdir()) == sorted(listed)


# ---------------------------------------------------------------- pods that cannot be enrolled


@pytest.mark.parametrize("output", ["table", "json"])
@pytest.mark.parametrize("command", [name for name, words in COMMANDS if "".join(words).startswith("[NAMESPACE/")])
def test_what_was_named_and_is_not_there(lab, command, output):
    done = lab.weftctl("-o", output, command, "default/nobody", check=False, text=True)
    assert done.returncode == 1 and not done.stdout, done
    assert "default/nobody" in done.stderr and done.stderr.count("\n") == 1


def test_pods_that_cannot_be_enrolled(lab, tmp_path):
    spare, client, node = lab.pods["spare"]["netns"], lab.pods["client"]["netns"], lab.nodes["node"]["netns"]
    plain = tmp_path / "file"
    plain.write_text("")
    for name, netns, ip, code, says in (
            ("default/spare", "no-such-netns", "10.1.1.1", 1, "cannot open /run/netns/no-such-netns"),
            ("default/spare", plain, "10.1.1.1", 1, "not a network namespace"),
            ("default/spare", "/proc/self/ns/mnt", "10.1.1.1", 1, "not a network namespace"),
            ("default/spare", "/" + "n" * 600, "10.1.1.1", 2, "longer"),
            ("default/spare", node, "10.1.1.1", 1, "the node itself"),
            ("default/spare", client, "10.1.1.1", 1, "is enrolled as pod default/client"),
            ("default/client", spare, "10.1.1.1", 1, "another network namespace"),
            ("default/spare", spare, lab.ip("client"), 1, "belongs to pod default/client"),
            ("default/spare", spare, f"::ffff:{lab.ip('client')}", 1, "belongs to pod default/client"),
            ("default/spare", spare, f"10.1.1.1,{lab.ip('client', 6)}", 1, "belongs to pod default/client"),
            ("default/spare", spare, "10.1.1.1,10.1.1.1", 1, "given twice"),
            ("default/spare", spare, "127.0.0.1", 1, "cannot be a pod's address"),
            ("default/spare", spare, "fe80::1", 1, "cannot be a pod's address"),
            ("default/spare", spare, "255.255.255.255", 1, "cannot be a pod's address"),
            ("default/spare", spare, "0.0.0.0", 2, "not an address"),
            ("Default/spare", spare, "10.1.1.1", 1, "not a Kubernetes name"),
            ("default/sp are", spare, "10.1.1.1", 1, "not a Kubernetes name"),
            ("default/spare\n", spare, "10.1.1.1", 2, "characters that no name has")):
        done = program("pod", "add", name, "--netns", netns, "--ip", ip, instance=lab.instance())
        assert says in one_line(done, code), (name, netns, ip)
    for annotation, says in (("weft.io/egress=registry_only", 'weft.io/egress must be "any" or "registry-only"'),
                             ("weft.io/splice=", 'weft.io/splice must be "auto", "always" or "off", not ""')):
        done = program("pod", "add", "default/spare", "--netns", spare, "--ip", "10.1.1.1", "--annotation", annotation,
                       instance=lab.instance())
        assert says in one_line(done, 1)
    assert {p["pod"] for p in lab.weftctl("pods")["pods"]} == {"default/client", "default/web"}
    done = program("pod", "del", "default/spare", instance=lab.instance())
    assert "default/spare is not enrolled" in one_line(done, 1)
    done = program("pod", "add", "default/spare", "--netns", spare, "--ip", lab.ip("spare"), "-o", "json",
                   "--annotation", "weft.io/egres=any", "--annotation", "example.org/a=b", instance=lab.instance())
    assert json.loads(done.stdout) == {"done": True}, done.stderr
    assert done.stderr == "weftctl: --annotation weft.io/egres has no effect on a pod: see docs/manifests.md\n"
    assert program("pod", "del", "default/spare", instance=lab.instance()).stdout == "pod default/spare released\n"


# ---------------------------------------------------------------- hostile clients


def path_of(lab, name):
    return f"/run/weft/{lab.instance()}/{name}.sock"


def dial(lab, name):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET if name == "weftd" else socket.SOCK_STREAM)
    s.settimeout(10)
    s.connect(path_of(lab, name))
    return s


class Daemons:
    """Supervisor and worker before; afterwards they are the same, no larger, and hold no more fds."""

    def __init__(self, lab):
        self.lab = lab
        worker = lab.weftctl("status")["worker"]["pid"]
        supervisor = int(pathlib.Path(f"/run/weft/{lab.instance()}/lock").read_text().split()[0])
        self.pids = supervisor, worker
        self.before = [self.of(pid) for pid in self.pids]

    @staticmethod
    def of(pid):
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024, len(os.listdir(f"/proc/{pid}/fd"))

    def small(self):
        for pid, (memory, _) in zip(self.pids, self.before):
            assert self.of(pid)[0] < memory + labrun.meant(8 * MIB)

    def check(self):
        assert self.lab.weftctl("status")["worker"] == {"running": True, "pid": self.pids[1], "restarts": 0}
        self.small()
        labrun.wait_for(lambda: all(self.of(pid)[1] <= fds for pid, (_, fds) in zip(self.pids, self.before)), 15,
                        "the end of all connections of strangers")


@pytest.fixture
def daemons(lab):
    found = Daemons(lab)
    yield found
    found.check()


def quick(lab):
    """weftctl gets its answers from both daemons, and need not wait for its own patience to end."""
    watch = Stopwatch(lab)
    assert lab.weftctl("status")["control"] and lab.weftctl("pods")["pods"]
    assert watch.seconds() < 4


def wire_size(lab):
    """A packet as weftctl sends it, learned from the answer: always of full size."""
    with dial(lab, "weftd") as s:
        s.send(b"x")
        return len(s.recv(1 << 20))


def test_garbage_for_the_supervisor(lab, daemons):
    size, chance = wire_size(lab), random.Random(8)
    for length in [1, 4, 15, size - 1, size, size, size, size + 1, 2 * size]:
        for _ in range(5):
            with dial(lab, "weftd") as s:
                s.send(chance.randbytes(length))
                assert len(s.recv(1 << 20)) == size  # says that it is no message
    for kind in range(64):  # well-formed but for the text that does not end; every type, also those of a worker
        with dial(lab, "weftd") as s:
            s.send(array.array("I", [1, kind, 7, 0]).tobytes() + b"\xff" * (size - 16))
            assert s.recv(1 << 20)
    for kind in range(5, 64):  # empty messages of the types that a client may not send
        with dial(lab, "weftd") as s:
            s.send(array.array("I", [1, kind, 7, 0]).tobytes() + bytes(size - 16))
            assert s.recv(1 << 20)
    quick(lab)


def test_fds_for_the_supervisor_are_closed(lab, daemons):
    size = wire_size(lab)
    with open("/dev/null", "rb") as null:
        for count in (1, 32, 33, 250):
            for _ in range(20):
                with dial(lab, "weftd") as s, contextlib.suppress(ConnectionError):
                    s.sendmsg([bytes(size)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS,
                                               array.array("i", [null.fileno()] * count))])
                    s.recv(1 << 20)
    quick(lab)


def test_requests_that_nobody_waits_for(lab, daemons):
    """Thousands of status requests on one connection whose answers are not read."""
    size = wire_size(lab)
    with dial(lab, "weftd") as s, contextlib.suppress(ConnectionError, BlockingIOError):
        s.setblocking(False)
        for _ in range(5000):
            s.send(array.array("I", [1, 4, 7, 0]).tobytes() + bytes(size - 16))
        quick(lab)
    quick(lab)


@pytest.mark.parametrize("name", ["weftd", "admin"])
def test_many_connections_that_say_nothing(lab, daemons, name):
    silent = []
    for _ in range(100):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET if name == "weftd" else socket.SOCK_STREAM)
        s.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # the backlog is full
            s.connect(path_of(lab, name))
        silent.append(s)
    try:
        quick(lab)
        daemons.small()
    finally:
        for s in silent:
            s.close()


def test_half_requests_and_readers_that_do_not_read(lab, daemons):
    held = []
    for n in range(40):
        s = socket.socket(socket.AF_UNIX)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        s.setblocking(False)
        s.connect(path_of(lab, "admin"))
        s.send(b'{"command":"traffic"}\n' if n % 2 else b'{"command":')
        held.append(s)
    try:
        quick(lab)
        daemons.small()
    finally:
        for s in held:
            s.close()


def test_a_request_without_end(lab, daemons):
    with dial(lab, "admin") as s:
        with contextlib.suppress(ConnectionError):
            for _ in range(64):
                s.sendall(b"x" * MIB)
        daemons.small()
        with contextlib.suppress(ConnectionError):
            assert "longer than" in json.loads(s.recv(65536))["error"]
    quick(lab)


def test_garbage_for_the_worker(lab, daemons):
    chance = random.Random(9)
    for n in range(300):
        with dial(lab, "admin") as s:
            line = chance.randbytes(chance.randrange(1, 2000)) if n % 2 else \
                json.dumps({"command": chance.choice(["pods", "explain", "connections", "policy"]),
                            "pod": chance.choice([1, None, [], {}, "x", "a/b", "\0", "/" * 500]),
                            "source": chance.choice([1, "default/client", "\ud800x", "x" * 1000]),
                            "destination": chance.choice(["", ":", "[", "[::1", "1.2.3.4:99999", "x" * 5000, 3])}
                           ).encode()
            s.sendall(line.replace(b"\n", b" ") + b"\n")
            answer = b"".join(iter(lambda sock=s: sock.recv(65536), b""))
            json.loads(answer)
    quick(lab)
