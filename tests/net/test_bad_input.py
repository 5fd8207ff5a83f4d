# SPDX-License-Identifier: Apache-2.0
"""
Manifests that are wrong, through the real programs: each is named by file, line, object, field and reason in the log
and in weftctl status, makes weft not ready, leaves what was in force, and is forgotten once it is mended.
"""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import threading

import labrun
import pytest

from stopwatch import Stopwatch

BUILD = pathlib.Path(os.environ.get("BUILD") or labrun.ROOT / "build").resolve()
SPLICE = ("splice",)  # a manifest is read the same with splice off
LAB = """
[nodes.node]
[pods.client]
[pods.web]
labels = { app = "web" }
"""
VIP, OTHER_VIP = "10.96.0.20", "10.96.0.21"
SERVICE = f"""apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: default
spec:
  clusterIP: {VIP}
  selector: {{ app: web }}
  ports:
  - name: http
    port: 80
    targetPort: 8080
"""
POLICY = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata:
  name: guard
  namespace: elsewhere
spec:
  rules:
  - from:
    - source:
        ipBlocks: [10.0.0.0/8]
"""
MANIFESTS = {"service.yaml": SERVICE}
MIB = 1 << 20


def service(name, vip, spec=""):
    return f"apiVersion: v1\nkind: Service\nmetadata: {{ name: {name} }}\n" \
        f"spec:\n  clusterIP: {vip}\n  ports: [{{ port: 80 }}]\n{spec}"


def bomb():
    """A billion laughs: ten lines that would be 9^11 values."""
    lines = ["  a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"  a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    return service("bomb", OTHER_VIP) + "\n".join(lines) + "\n"


# what is wrong: (text or bytes, line, object, field, reason)
WRONG = {
    "YAML": (SERVICE.replace("{ app: web }", "{ app: [web }"), 8, "", "", "not valid YAML"),
    "tab": (SERVICE.replace("  clusterIP", "\tclusterIP"), 7, "", "", "not valid YAML"),
    "number": (SERVICE.replace("port: 80\n", "port: eighty\n"), 11, "Service default/web", "spec.ports[0].port",
               "must be a number"),
    "range": (SERVICE.replace("port: 80\n", "port: 80000\n"), 11, "Service default/web", "spec.ports[0].port", "65535"),
    "list": (SERVICE.replace("  ports:\n  - name: http\n    port: 80\n    targetPort: 8080\n", "  ports: 80\n"), 9,
             "Service default/web", "spec.ports", "must be a list"),
    "map": (SERVICE.replace("{ app: web }", "web"), 8, "Service default/web", "spec.selector", "must be a map"),
    "address": (SERVICE.replace(VIP, "10.96.0.300"), 7, "Service default/web", "spec.clusterIP", "not an IP address"),
    "duplicate key": (SERVICE + f"  clusterIP: {OTHER_VIP}\n", 13, "", "", "clusterIP"),
    "no name": ("apiVersion: v1\nkind: Service\nmetadata: { namespace: x }\nspec: {}\n", 3, "Service",
                "metadata.name", ""),
    "no kind": ("apiVersion: v1\nmetadata: { name: x }\n", 1, "", "kind", "must be there"),
    "not an object": ("just words\n", 1, "", "", "must be a map"),
    "CIDR": (POLICY.replace("/8", "/99"), 10, "AuthorizationPolicy elsewhere/guard",
             "spec.rules[0].from[0].source.ipBlocks[0]", "10.0.0.0/99"),
    "policy by another name": (POLICY.replace("kind: Auth", "kind: Outh"), 2, "OuthorizationPolicy elsewhere/guard",
                               "kind", "mistyped"),
    "policy of another group": (POLICY.replace("security.istio.io", "security.example.org"), 1,
                                "AuthorizationPolicy elsewhere/guard", "apiVersion", "security.istio.io"),
    "alias bomb": (bomb(), None, "", "", "aliases"),
    "deep": (service("deep", OTHER_VIP) + "  x: " + "[" * 50000 + "]" * 50000 + "\n", 7, "", "", "nested too deeply"),
    "UTF-8": (SERVICE.encode() + b"# \xff\xfe\n", 13, "", "", "UTF-8"),
    "garbage": (random.Random(3).randbytes(100000), None, "", "", "UTF-8"),
    "NUL": (SERVICE.encode() + b"\0" * 4096, 13, "", "", "NUL"),
}


def problems(lab):
    return lab.weftctl("status", check=False)["control"]["problems"]


def reaches(lab):
    """What was in force before the mistake is in force."""
    said = lab.run("client", "curl", "-sS", "--max-time", "30", f"http://{VIP}/", check=False)
    return said.stdout == "web\n"


def is_known(lab, service):
    return lab.weftctl("services", service, check=False, text=True).returncode == 0


def expect(lab, file, warning=False, since=0, **want):
    """The problem, in all places where it must be said. Gives it."""
    def found():
        return next((p for p in problems(lab) if p["file"] == str(file) and p["warning"] == warning), None)

    said = labrun.wait_for(found, 10, f"a problem of {file}")
    for field, value in want.items():
        assert value in said[field] if field == "reason" else said[field] == value, f"{field}: {said}"
    text = lab.weftctl("status", check=False, text=True)
    place = f"{file}:{said['line']}: " if said["line"] else f"{file}: "
    shown = [line for line in text.stdout.splitlines() if line.startswith("warning: " if warning else "error: ")]
    assert any(place in s and said["object"] in s and said["field"] in s and said["reason"] in s for s in shown), shown
    assert text.returncode == (0 if warning else 1)
    assert warning or "not ready" in text.stdout.splitlines()[0]
    place = f"{file} line {said['line']}: " if said["line"] else f"{file}: "
    logged = [line for line in lab.log()[since:].splitlines() if " weft-worker: " in line and place in line]
    assert any(said["object"] in s and said["field"] in s and said["reason"] in s for s in logged), logged
    assert "line 0" not in lab.log()[since:]
    return said


@pytest.fixture(scope="module", autouse=True)
def nginx(lab):
    lab.nginx("web", 8080, "web\n")


@pytest.fixture(autouse=True)
def mended(lab):
    """The folder as it was; and then weft must be ready, with nothing to complain of, and do what it did."""
    yield
    for path in lab.manifests.iterdir():
        if path.name not in MANIFESTS:
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    for file, text in MANIFESTS.items():
        lab.manifest(file, text)
    labrun.wait_for(lambda: lab.ready() and not problems(lab), 10, "weft ready without a problem")
    assert reaches(lab)


def put(lab, file, body):
    """As lab.manifest, for bytes too. Gives where the log ends now."""
    since = len(lab.log())
    temporary = lab.manifests / f".{file}.new"
    temporary.write_bytes(body if isinstance(body, bytes) else body.encode())
    temporary.rename(lab.manifests / file)
    return since


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_named_and_the_last_good_one_stays(lab, what):
    """The file of a Service that is in use is replaced by the wrong one."""
    body, line, name, field, reason = WRONG[what]
    want = {} if line is None else {"line": line}
    since = put(lab, "service.yaml", body)
    expect(lab, "service.yaml", since=since, object=name, field=field, reason=reason, **want)
    if name in ("", "Service", "Service default/web"):  # any of the objects of the file may be meant
        assert reaches(lab)
    else:  # the file has another object now: the Service was removed
        labrun.wait_for(lambda: not lab.weftctl("services")["services"], 10, "the end of the Service")


def test_a_wrong_document_harms_no_other_one(lab):
    more = service("more", OTHER_VIP, "  selector: { app: web }\n").replace("port: 80 ", "port: 80, targetPort: 8080 ")
    since = put(lab, "service.yaml", SERVICE.replace("port: 80\n", "port: {}\n") + "---\n" + more)
    expect(lab, "service.yaml", since=since, line=11, object="Service default/web", field="spec.ports[0].port")
    assert reaches(lab)
    assert lab.run("client", "curl", "-sS", "--max-time", "30", f"http://{OTHER_VIP}/").stdout == "web\n"


def test_a_first_version_that_is_wrong_does_nothing_but_complain(lab):
    since = put(lab, "new.yaml", service("new", "10.96.0.300"))
    expect(lab, "new.yaml", since=since, line=5, object="Service default/new", field="spec.clusterIP")
    assert not is_known(lab, "default/new")


def test_kinds_that_weft_does_not_read(lab):
    since = put(lab, "other.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: x }\n---\n"
                "apiVersion: weft.io/v1\nkind: Splicer\nmetadata: { name: y }\n")
    expect(lab, "other.yaml", warning=True, since=since, object="Deployment x", field="kind", reason="ignored")
    assert lab.ready()
    assert {(p["line"], p["object"]) for p in problems(lab)} == {(1, "Deployment x"), (5, "Splicer y")}


def test_a_selector_that_matches_nothing(lab):
    since = put(lab, "lonely.yaml", service("lonely", OTHER_VIP, "  selector: { app: wep }\n"))
    expect(lab, "lonely.yaml", warning=True, since=since, line=1, object="Service default/lonely",
           field="spec.selector", reason="matches no pod")
    done = lab.run("client", "curl", "-sS", "--max-time", "30", f"http://{OTHER_VIP}/", check=False)
    assert done.returncode == 7  # refused at once, not timed out
    assert lab.weftctl("explain", "default/client", f"{OTHER_VIP}:80")["reason"] == "no_endpoint"


@pytest.mark.parametrize("place", ["another file", "the same file"])
def test_two_objects_of_one_name(lab, place):
    twin = SERVICE.replace("{ app: web }", "{ app: nothing }")
    file = "service.yaml" if place == "the same file" else "twin.yaml"
    since = put(lab, file, SERVICE + "---\n" + twin if place == "the same file" else twin)
    expect(lab, file, since=since, line=14 if place == "the same file" else 1, object="Service default/web",
           field="metadata.name", reason="is already given in service.yaml line 1")
    assert reaches(lab)


def test_two_services_of_one_address(lab):
    since = put(lab, "thief.yaml", service("zz-thief", VIP, "  selector: { app: nothing }\n"))
    expect(lab, "thief.yaml", since=since, line=1, object="Service default/zz-thief", reason="default/web")
    assert reaches(lab)


# ---------------------------------------------------------------- files that are not what they should be


def test_a_file_of_50_megabytes(lab):
    pid = lab.weftctl("status")["worker"]["pid"]
    before = memory(pid)
    big = lab.manifests / ".big"
    big.write_bytes((SERVICE.encode() + b"---\n") * (50 * MIB // (len(SERVICE) + 4)))
    since = len(lab.log())
    big.rename(lab.manifests / "service.yaml")
    expect(lab, "service.yaml", since=since, line=0, reason="at most 32 MiB")
    assert reaches(lab)
    assert memory(pid) - before < 8 * MIB


def memory(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM:"))


# 16 MiB that a parser would choke on
CHOKING = {
    "brackets": "[" * (16 * MIB), "dashes": "- " * (8 * MIB), "one word": "a: " + "x" * (16 * MIB),
    "no end": 'a: "' + "x" * (16 * MIB), "keys": "".join(f"k{n}: 1\n" for n in range(1300000)),
    "JSON": '{"a":' * (3 * MIB), "policies": "kind: AuthorizationPolicy\n" * 600000 + "[",
    "anchors": "".join(f"- &a{n} x\n" for n in range(1200000)), "questions": "? " * (8 * MIB),
}


@pytest.mark.parametrize("what", CHOKING)
def test_a_large_file_that_is_hard_to_parse(lab, what):
    pid = lab.weftctl("status")["worker"]["pid"]
    pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from here
    watch = Stopwatch(lab)
    put(lab, "choke.yaml", CHOKING[what])
    labrun.wait_for(lambda: [p for p in problems(lab) if p["file"] == "choke.yaml"], 10, "the problem")
    assert watch.seconds() < 4  # nothing is quadratic
    assert memory(pid) < labrun.meant(160 * MIB)
    assert reaches(lab) == (what != "policies")  # those close the namespace that they may have meant


def test_a_thousand_mistakes_are_counted_and_some_are_told(lab):
    since = put(lab, "many.yaml", "---\n".join(service(f"s{i}", "nowhere") for i in range(1000)))
    expect(lab, "many.yaml", since=since, line=5, object="Service default/s0", field="spec.clusterIP")
    control = lab.weftctl("status", check=False)["control"]
    assert control["errors"] == 1000
    assert 20 <= len(control["problems"]) <= 200
    assert len(lab.log()[since:].splitlines()) < 50
    assert reaches(lab)


def fifo(path):
    os.mkfifo(path)


def unix_socket(path):
    with contextlib.closing(labrun.socket.socket(labrun.socket.AF_UNIX)) as s:
        s.bind(str(path))


@pytest.mark.parametrize("make, reason", [
    (fifo, "not a regular file"), (os.mkdir, "folder"), (unix_socket, "not a regular file"),
    (lambda p: os.symlink("/dev/zero", p), "leads out of the folder"), (lambda p: os.symlink(p, p), "cannot be opened"),
    (lambda p: os.symlink("nowhere", p), "leads nowhere"),
], ids=["fifo", "folder", "socket", "device", "loop", "dangling"])
def test_what_is_no_file(lab, make, reason):
    since = len(lab.log())
    make(lab.manifests / "x.yaml")
    expect(lab, "x.yaml", since=since, line=0, reason=reason)
    assert reaches(lab)


def test_a_link_that_leads_nowhere_keeps_the_objects(lab):
    """As a ConfigMap that is mounted wrong: the objects are not removed by it, only the link's end is."""
    file = lab.manifests / "service.yaml"
    (lab.manifests / ".link").symlink_to("nowhere")
    since = len(lab.log())
    (lab.manifests / ".link").rename(file)
    expect(lab, "service.yaml", since=since, reason="leads nowhere")
    assert reaches(lab)
    file.unlink()
    labrun.wait_for(lambda: lab.ready() and not lab.weftctl("services")["services"], 10, "the end of the Service")


def test_files_that_come_and_go_while_they_are_read(lab):
    """Whatever the worker sees of them, it never takes half of one, and it is well afterwards."""
    end = threading.Event()
    body = "---\n".join(service(f"s{i}", f"10.97.{i // 200}.{i % 200}") for i in range(2000))
    pid = lab.weftctl("status")["worker"]["pid"]

    def disturb(number):
        path = lab.manifests / f"busy-{number}.yaml"
        chance = random.Random(number)
        while not end.is_set():
            with open(path, "w", encoding="ascii") as f:  # not by rename: the worker sees it grow
                f.write(body[:chance.randrange(len(body))].rpartition("---\n")[0])
            if chance.random() < 0.5:
                os.truncate(path, chance.randrange(1000))
            path.unlink()

    threads = [threading.Thread(target=disturb, args=(n,)) for n in range(2)]
    for t in threads:
        t.start()
    try:
        for _ in range(20):
            assert reaches(lab)
            assert lab.weftctl("status", check=False)["worker"]["pid"] == pid
    finally:
        end.set()
        for t in threads:
            t.join()
    assert lab.weftctl("status", check=False)["worker"]["restarts"] == 0


def test_room_in_a_full_map(lab):
    """What goes and what comes by one change need not fit into a map together: nobody hears that it was full."""
    def room():
        of = next(m for m in lab.weftctl("status")["control"]["maps"] if m["name"] == "services")
        return of["max"] - of["used"]

    def fill(first, count):
        lab.manifest("full.yaml", "---\n".join(service(f"s{n}", f"10.{100 + (n >> 16)}.{n >> 8 & 255}.{n & 255}")
                                               for n in range(first, first + count)))
        labrun.wait_for(lambda: is_known(lab, f"default/s{first + count - 1}") and lab.weftctl(
            "services", f"default/s{first + count - 1}")["services"][0]["in_kernel"], 30, "the last service")

    since, count = len(lab.log()), room()
    fill(0, count)
    assert room() == 0
    fill(1000, count)
    assert room() == 0 and lab.ready() and "is full" not in lab.log()[since:]
    (lab.manifests / "full.yaml").unlink()
    labrun.wait_for(lambda: lab.ready() and room() == count, 10, "room again")


def test_more_changes_than_the_kernel_keeps(lab):
    """The queue of inotify overflows; whatever was lost, all files are known in the end, and their end too."""
    with open("/proc/sys/fs/inotify/max_queued_events", encoding="ascii") as f:
        files = int(f.read()) // 2 + 1000  # two events each, while the worker stands still
    pid = lab.weftctl("status")["worker"]["pid"]

    def count():
        return lab.weftctl("status", check=False).get("control", {}).get("counts", {}).get("objects")

    os.kill(pid, signal.SIGSTOP)
    for n in range(files):
        (lab.manifests / f"many-{n}.yaml").write_text(f"apiVersion: v1\nkind: Namespace\nmetadata: {{ name: n{n} }}\n")
    os.kill(pid, signal.SIGCONT)
    labrun.wait_for(lambda: count() == files + 1, 10, f"{files} objects")
    assert "too many changes at once" in lab.log()
    os.kill(pid, signal.SIGSTOP)
    for n in range(files):
        (lab.manifests / f"many-{n}.yaml").unlink()
    os.kill(pid, signal.SIGCONT)
    labrun.wait_for(lambda: count() == 1, 10, "the end of the objects")


def test_a_folder_that_only_root_may_enter(lab):
    """The worker's user cannot open it: the supervisor does."""
    lab.manifests.chmod(0o700)
    try:
        put(lab, "more.yaml", service("more", OTHER_VIP, "  selector: { app: web }\n"))
        (lab.manifests / "more.yaml").chmod(0o600)
        labrun.wait_for(lambda: is_known(lab, "default/more"), 10, "the Service")
        since = put(lab, "more.yaml", service("more", "10.96.0.300"))
        expect(lab, "more.yaml", since=since, line=5, field="spec.clusterIP")
    finally:
        lab.manifests.chmod(0o755)


# ---------------------------------------------------------------- text that would deceive a reader


def lines_are_honest(text, extra=""):
    """No control character got through, so nobody can write lines or colours of their own."""
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f" + extra + "]", text), repr(text)
    assert not any(line.startswith("2026 forged") for line in text.splitlines())


@pytest.mark.parametrize("name", [b"a\n2026 forged.yaml", b"\x1b[31mred.yaml", b"\xff\xfe.yaml", b"x" * 250 + b".yaml",
                                  "\u202eyaml.yaml".encode(), b"%s%n.yaml", b"'; rm -rf $(x).yaml"],
                         ids=["newline", "colour", "no-utf8", "long", "backwards", "format", "shell"])
def test_file_names_do_not_deceive(lab, name):
    since = len(lab.log())
    path = os.path.join(os.fsencode(lab.manifests), name)
    with open(path, "w", encoding="ascii") as f:
        f.write("kind: [\n")
    found = labrun.wait_for(lambda: problems(lab), 10, "the problem")
    assert len(found) == 1 and found[0]["line"] == 2 and not lab.ready()
    lines_are_honest(lab.weftctl("status", check=False, text=True).stdout)
    lines_are_honest(lab.log()[since:])
    os.unlink(path)


@pytest.mark.parametrize("text", ["x\\n2026 forged", "\\e[2J", "\\0", "\\u0085", "\\u2028", "%n%s", "a" * 5000, "",
                                  "../../x"])
def test_values_do_not_deceive(lab, text):
    since = put(lab, "lie.yaml", f'apiVersion: v1\nkind: Service\nmetadata: {{ name: "{text}" }}\n'
                f'spec: {{ clusterIP: "{text}", ports: [{{ port: 80, name: "{text}" }}] }}\n')
    labrun.wait_for(lambda: problems(lab), 10, "the problem")
    lines_are_honest(lab.weftctl("status", check=False, text=True).stdout)
    lines_are_honest(lab.log()[since:])
    assert all(len(line) < 2000 for line in lab.log()[since:].splitlines())


# ---------------------------------------------------------------- what is not wrong


@pytest.mark.parametrize("body", [b"", b"\n\n", b"# nothing\n", b"---\n---\n---\n", b"null\n"],
                         ids=["empty", "blank", "comment", "separators", "null"])
def test_a_file_without_objects_is_no_mistake(lab, body):
    put(lab, "empty.yaml", body)
    put(lab, "more.yaml", service("more", OTHER_VIP))  # read after it
    labrun.wait_for(lambda: is_known(lab, "default/more"), 10, "the other file")
    assert lab.ready() and not [p for p in problems(lab) if p["file"] == "empty.yaml"]


@pytest.mark.parametrize("how", ["CRLF", "BOM", "JSON in YAML", "kubectl list"])
def test_other_ways_to_write_the_same(lab, how):
    data = {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"clusterIP": OTHER_VIP, "selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}
    text = SERVICE.replace(VIP, OTHER_VIP)
    body = {"CRLF": text.replace("\n", "\r\n").encode(), "BOM": b"\xef\xbb\xbf" + text.encode(),
            "JSON in YAML": json.dumps(data, indent=1).encode(),
            "kubectl list": json.dumps({"apiVersion": "v1", "kind": "List", "items": [data]}).encode()}[how]
    put(lab, "service.yaml", body)
    labrun.wait_for(lambda: [s["vip"] for s in lab.weftctl("services")["services"]] == [OTHER_VIP], 10,
                    "the new address")
    assert lab.ready() and not problems(lab)


def test_one_item_of_a_list_is_wrong(lab):
    items = [{"apiVersion": "v1", "kind": "Service", "metadata": {"name": f"item-{n}"},
              "spec": {"clusterIP": ip, "ports": [{"port": 80}]}}
             for n, ip in enumerate(("10.96.1.0", "10.96.0.300", "10.96.1.2"))]
    since = put(lab, "list.json", json.dumps({"apiVersion": "v1", "kind": "ServiceList", "items": items}))
    expect(lab, "list.json", since=since, object="Service default/item-1", field="spec.clusterIP")
    assert [s["service"] for s in lab.weftctl("services")["services"] if "item" in s["service"]] == \
        ["default/item-0", "default/item-2"]


# ---------------------------------------------------------------- the worker starts again


def test_a_worker_that_starts_again_says_it_again(lab):
    """It has no last good one then; the kernel has: nobody is cut off, and what is wrong is still said."""
    put(lab, "service.yaml", SERVICE + "---\n" + service("new", "10.96.0.300"))
    expect(lab, "service.yaml", line=18, field="spec.clusterIP")
    pid = lab.weftctl("status", check=False)["worker"]["pid"]
    since = len(lab.log())
    os.kill(pid, signal.SIGKILL)
    labrun.wait_for(lambda: lab.weftctl("status", check=False)["worker"]["pid"] not in (0, pid), 10, "another worker")
    expect(lab, "service.yaml", since=since, line=18, field="spec.clusterIP")
    assert reaches(lab)


# ---------------------------------------------------------------- the folder itself


def hang_up(lab):
    with open(f"/run/weft/{lab.instance()}/lock", encoding="ascii") as f:
        os.kill(int(f.readline()), signal.SIGHUP)


def test_a_folder_that_goes_and_comes(lab):
    """Its objects stay. SIGHUP reads the one that is there then, even if it is another one."""
    away = lab.manifests.with_name("away")
    since = len(lab.log())
    lab.manifests.rename(away)
    try:
        expect(lab, lab.manifests, since=since, line=0, reason="objects stay in force")
        assert reaches(lab)
        hang_up(lab)  # nothing there: it is said still
        expect(lab, lab.manifests, since=since, line=0, reason="objects stay in force")
        lab.manifests.mkdir(mode=0o755)
        (lab.manifests / "service.yaml").write_text(SERVICE.replace(VIP, OTHER_VIP))
        hang_up(lab)
        labrun.wait_for(lab.ready, 10, "ready with the new folder")
        assert {s["vip"] for s in lab.weftctl("services")["services"]} == {OTHER_VIP}
        lab.manifest("service.yaml", SERVICE)  # and it is watched
        labrun.wait_for(lambda: {s["vip"] for s in lab.weftctl("services")["services"]} == {VIP}, 10, "the change")
    finally:
        if lab.manifests.exists():
            subprocess.run(["rm", "-r", away], check=True)
        else:
            away.rename(lab.manifests)


@pytest.mark.parametrize("folder, reason", [("/nonexistent", "No such file"), ("/etc/passwd", "Not a directory")])
def test_no_folder_at_the_start(folder, reason):
    done = subprocess.run([BUILD / "weftd", "--instance", "bad-input-none", "--manifests", folder],
                          capture_output=True, text=True, check=False, timeout=30)
    try:
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1 and folder in done.stderr and reason in done.stderr
        assert "--manifests" in done.stderr
    finally:
        subprocess.run([BUILD / "weftd", "--uninstall", "--instance", "bad-input-none"], check=True,
                       stderr=subprocess.DEVNULL)


def test_started_with_a_wrong_object(make_lab):
    """Not ready from the start, and everything else is in force; systemd's READY does not wait for it."""
    running = make_lab(LAB, {"a.yaml": "kind: [\n", "service.yaml": SERVICE}, name="bad-start", wait=False)
    running.nginx("web", 8080, "web\n")
    expect(running, "a.yaml", line=2, reason="not valid YAML")
    labrun.wait_for(lambda: reaches(running), 10, "the Service")
    waited = running.weftctl("status", "--wait", "300ms", check=False, text=True)
    assert waited.returncode == 1
    (running.manifests / "a.yaml").unlink()
    assert running.weftctl("status", "--wait", "10s", text=True).returncode == 0


def test_the_log_in_json_names_the_same(make_lab):
    running = make_lab('args = ["--log-format", "json"]\n' + LAB,
                       {"service.yaml": SERVICE.replace("port: 80\n", 'port: "\\"\\n\\u00e9"\n')}, name="bad-json",
                       wait=False)
    with open(os.path.join(os.fsencode(running.manifests), b"\xff\x1b\"\xed\xa0\x80.yaml"), "w", encoding="ascii") as f:
        f.write("kind: [\n")
    labrun.wait_for(lambda: len(problems(running)) == 2, 10, "both problems")
    log = labrun.lab_module.STATE / running.state["lab"] / f"{running.instance()}.log"
    lines = [json.loads(line) for line in log.read_bytes().decode().splitlines()]  # every byte of it is UTF-8
    assert any("service.yaml line 11" in line["message"] for line in lines if line["level"] == "error"), lines
    assert any(".yaml line 2: not valid YAML" in line["message"] for line in lines), lines
