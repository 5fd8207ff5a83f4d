# SPDX-License-Identifier: Apache-2.0
"""
A spliced connection behaves as a direct one: every row of tests/net/equivalence, played between two pods without weft,
through weft as shipped, and with weft.io/splice: "always", which shows what a splice itself would change.

A row fails where weft as shipped differs from direct. At the end of the run the table; `make equivalence-document`
writes it into docs/equivalence.md. To look at some rows only: BUILD=... python3 tests/net/test_equivalence.py ROW...
"""

import concurrent.futures
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import labrun  # noqa: E402
import pytest  # noqa: E402

from leaks import BUILD, PATIENCE, Leaks, connections_end  # noqa: E402

PROGRAM = BUILD / "tests/equivalence"
DOCUMENT = ROOT / "docs/equivalence.md"
JOBS = "5"  # rows at once, of each way: they wait more than they work


def listed():
    """(number, name, text, how) of all rows; tests are named by them, so the program must be there at collection."""
    if not PROGRAM.exists():
        pytest.exit(f"{PROGRAM} is not there: run make equivalence first", returncode=1)
    lines = subprocess.run([PROGRAM, "list"], capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split("\t") for line in lines]


ROWS = listed()


def pods(prefix, annotation=""):
    """A client and a server for most rows, and a pair for each row that teaches weft something of its pods."""
    pairs = [prefix] + [f"{prefix}-{name}" for _, name, _, how in ROWS if how == "alone"]
    return "".join(f"[pods.{pair}-{end}]\n{annotation}\n" for pair in pairs for end in ("client", "server"))


PLAIN = "[nodes.node]\n" + pods("plain")
ALWAYS = 'annotations = { "weft.io/splice" = "always" }'
WEFT = "[nodes.node]\n" + pods("auto") + pods("other") + pods("always", ALWAYS)


def run(lab, pair, port, weft, *args):
    """Plays rows between two pods; gives what was seen."""
    ask = ["--ask", f"{BUILD}/weftctl --instance {lab.instance()} -o json connections"] if weft else []
    client, server = f"{pair}-client", f"{pair}-server"
    (client_cgroup, client_netns, _), (server_cgroup, server_netns, _) = lab.place(client), lab.place(server)
    return subprocess.run([PROGRAM, "run", "--client-netns", client_netns, "--client-cgroup", client_cgroup,
                           "--server-netns", server_netns, "--server-cgroup", server_cgroup, "--server-address",
                           lab.ip(server), "--port", str(port), *ask, *args], stdout=subprocess.PIPE, check=True,
                          timeout=300).stdout


def play(lab, weft, pods_of, port, out, *options):
    """All rows: most between two pods, several at once; those that teach weft one by one, in pods of their own."""
    together = [name for _, name, _, how in ROWS if how == "together"]
    seen, pair = [run(lab, pods_of, port, weft, *options, "--jobs", JOBS, *together)] if together else [], None
    for _, name, _, how in ROWS:
        pair = f"{pods_of}-{name}" if how == "alone" else pair
        if how != "together":
            seen.append(run(lab, pair, port, weft, *options, name))
    out.write_bytes(b"".join(seen))


def play_ways(lab, weft, *ways):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        for played in [pool.submit(play, lab, weft, *way) for way in ways]:
            played.result()


def direct(folder):
    lab = labrun.Running.from_text(PLAIN, "plain", weft=False, build=BUILD, prefix="equivalence-", patience=PATIENCE)
    leaks = Leaks(lab)
    try:
        play_ways(lab, False, ("plain", 21000, folder / "direct"),
                  ("plain", 22000, folder / "direct-mirrored", "--mirrored"))
    finally:
        lab.down()
    leaks.check()


def through_weft(folder):
    lab = labrun.Running.from_text(WEFT, "equivalence", {}, build=BUILD, prefix="equivalence-", patience=PATIENCE)
    leaks = Leaks(lab)
    try:
        play_ways(lab, True, ("auto", 23000, folder / "auto"),
                  ("other", 24000, folder / "auto-mirrored", "--mirrored"),
                  ("always", 25000, folder / "always", "--limit", "4500"))
        connections_end(lab)
    finally:
        lab.down()
    leaks.check()


def play_all(folder):
    direct(folder)
    through_weft(folder)


def compare(folder, *options):
    return table("compare", *options, folder / "direct", folder / "auto", folder / "always")


def compare_mirrored(folder, *options):
    return table("compare", *options, folder / "direct-mirrored", folder / "auto-mirrored")


def table(*args):
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True, check=False).stdout


def by_name(text):
    """Name of row -> its line of the table, and what differs."""
    found, at = {}, None
    for line in text.splitlines()[1:-1]:
        if line.startswith("\t"):
            found[at] += "\n" + line
        else:
            at = line.split()[1]
            found[at] = line
    return found


@pytest.fixture(scope="module")
def results(request):
    with tempfile.TemporaryDirectory(prefix="weft-equivalence-") as name:
        folder = pathlib.Path(name)
        play_all(folder)
        straight, mirrored = compare(folder), compare_mirrored(folder)
    yield {"straight": by_name(straight), "mirrored": by_name(mirrored)}
    request.config.pluginmanager.getplugin("terminalreporter").write_line(f"\n{straight}\nmirrored:\n{mirrored}")


@pytest.mark.parametrize("way", ["straight", "mirrored"])  # mirrored: the accepted end plays the client's program
@pytest.mark.parametrize("name", [row[1] for row in ROWS])
def test_weft_as_shipped_is_as_direct(results, name, way):
    line = results[way][name]
    assert "DIFFERS" not in line.partition("\n")[0][:52] and "NOT PLAYED" not in line, line


def test_the_document_has_these_rows():
    documented = [line.split("|")[1:3] for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")][1:]
    assert [(n.strip(), t.split("`")[1], t.partition(": ")[2].strip().replace("\\", "")) for n, t in documented] == \
        [tuple(row[:3]) for row in ROWS], "make equivalence-document"


INTRODUCTION = """<!-- SPDX-License-Identifier: Apache-2.0 -->
<!-- made by `make equivalence-document`; the text is in tests/net/test_equivalence.py -->
# Equivalence: a spliced connection behaves as a direct one

Each row is a small client and a small server (`tests/net/equivalence`), played between two pods of one node without
weft (*direct*), with `weft.io/splice: "always"` (*spliced by force*: what the kernel's sockmap itself changes) and
through weft as it is shipped. Both programs write down what they saw: values returned, errors, bytes, poll events.

The law: through weft as shipped a program sees what it sees without weft. Either a row is equal although it is spliced,
or connections to which it applies are not spliced, or leave the splice in time; `eligible` says whether the connection
was spliced when the play began, `reason` what `weftctl connections` said of it then. What differs by nature is named.

As last played on Linux {release}:

"""


def document():
    with tempfile.TemporaryDirectory(prefix="weft-equivalence-") as name:
        folder = pathlib.Path(name)
        play_all(folder)
        DOCUMENT.write_text(INTRODUCTION.format(release=os.uname().release) + compare(folder, "--markdown") +
                            "With the accepted end in the client's part: " + compare_mirrored(folder).splitlines()[-1]
                            + "\n")
        print(compare(folder))
        print(compare_mirrored(folder))


def show(names):
    """All that was seen of a few rows, for who works on one."""
    after = [how for _, name, _, how in ROWS if name in names]
    if len(after) != len(names) or after[0] == "after":
        sys.exit(f"equivalence: no such rows, or without the row before: {' '.join(names)}; see {PROGRAM} list")
    ROWS[:] = [row for row in ROWS if row[1] in names]
    with tempfile.TemporaryDirectory(prefix="weft-equivalence-") as name:
        folder = pathlib.Path(name)
        play_all(folder)
        print(compare(folder, "--verbose"))
        print(compare_mirrored(folder, "--verbose"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        show(sys.argv[1:])
    else:
        document()
