# SPDX-License-Identifier: Apache-2.0
"""
table: from samples to the table, the document and the JSON.

A ratio is the median over pairs: run i through weft by run i without, which stood next to it in time. Beside it
stands the interval in which the median lies with 95 % (order statistics, so nothing is assumed of how the noise is
distributed; with fewer than six pairs the smallest and the largest).
"""

import datetime
import math
import os
import pathlib
import platform
import statistics
import typing

import labrun
import nodes
import proxies
from rows import ALONE, ROWS


class Line(typing.NamedTuple):
    measure: str
    peer: str
    figures: dict  # by arm
    ratio: float
    low: float
    high: float
    sense: str
    target: float
    reached: bool
    bound: bool


def interval(values):
    """The order statistics between which the median lies with a probability of at least 0.95."""
    ordered, n = sorted(values), len(values)
    outside, k = 0.0, 0
    while (outside := outside + math.comb(n, k) / 2**n) * 2 <= 0.05:
        k += 1
    k = max(k - 1, 0)
    return ordered[k], ordered[n - 1 - k]


def best(found, peers, measure, sense):
    """Of several peers, the best one in each run: what weft has to be better than."""
    runs = [found.get(peer, {}).get(measure, []) for peer in peers.split("+")]
    return [(max if sense == ">=" else min)(values) for values in zip(*(r for r in runs if r))]


def judge(row, found, judged=True):
    """The lines of a row, those with a target first; noise and a quick look are not judged."""
    lines, spec = [], ROWS[row]
    ours = found.get("weft") or {}
    measures = ours or next(iter(found.values()))
    wanted = [key if isinstance(key, tuple) else (key, spec.peer) for key in spec.targets]
    targets = dict(zip(wanted, spec.targets.values()))
    for measure, peer in [k for k in wanted if k[0] in measures] + [
            (m, spec.peer) for m in measures if (m, spec.peer) not in wanted]:
        sense, target = targets.get((measure, peer), (None, None)) if judged else (None, None)
        values, peers = ours.get(measure, []), best(found, peer, measure, targets.get((measure, peer), ("<=",))[0])
        sense, target = (sense, target) if values else (None, None)
        bound = spec.arms == ALONE or measure in spec.bounds
        figures = {arm: statistics.median(samples[measure]) for arm, samples in found.items() if samples.get(measure)}
        ratio = low = high = None
        if bound and sense:  # a bound holds in each run
            figures["weft"] = max(values) if sense == "<=" else min(values)
        if spec.arms != ALONE and values and peers and all(peers):
            ratios = [w / p for p, w in zip(peers, values)]
            ratio, (low, high) = statistics.median(ratios), interval(ratios)
        value = figures.get("weft") if bound else ratio
        reached = None
        if target is not None and value is not None:
            reached = value >= target if sense == ">=" else value <= target
        lines.append(Line(measure, peer, figures, ratio, low, high, sense, target, reached, bound))
    return lines


def number(value):
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"


def judged(args):
    return not (args["noise"] or args["quick"])


COLUMNS = {"part": ("direct", "weft", "AF_UNIX"), "tunnel": nodes.ARMS, "proxy": proxies.ARMS}  # of the tables, by kind
MARKS = {"part": "bench", "tunnel": "bench:tunnel", "proxy": "bench:proxy"}  # of docs/performance.md


def kind(row):
    return "tunnel" if ROWS[row].threads else "part" if ROWS[row].spliced is None else "proxy"


def against(line, row):
    """Of a line that is not compared with the row's own peer, with whom."""
    return "" if line.peer == ROWS[row].peer else f" ({proxies.NAMES.get(line.peer, line.peer)})"


def tables(results):
    """{kind: its part of the results}, those that have rows."""
    return {k: found for k in COLUMNS if (found := {row: r for row, r in results.items() if kind(row) == k})}


def cells(results, args):
    """A table as text, the head first. All rows are of one kind."""
    arms = COLUMNS[kind(next(iter(results)))]
    known = nodes.NAMES if arms == nodes.ARMS else proxies.NAMES if arms == proxies.ARMS else {}
    names = {arm: known.get(arm, arm) for arm in arms} | ({"weft": "plain"} if args["noise"] else {})
    rows = [("row", "measure", *(names[arm] for arm in arms), "ratio", "between", "target", "verdict", "path")]
    for row, result in results.items():
        title, path = ROWS[row].title, (result["path"] or {}).get("text", "")
        for line in judge(row, result["samples"], judged(args)):
            sign = "" if line.bound else " x"
            rows.append((title, line.measure + against(line, row), *(number(line.figures.get(arm)) for arm in arms),
                         "-" if line.ratio is None else f"{line.ratio:.2f} x",
                         "-" if line.ratio is None else f"{line.low:.2f}..{line.high:.2f}",
                         "" if line.target is None else f"{line.sense} {line.target:g}{sign}",
                         {None: "", True: "reached", False: "NOT reached"}[line.reached], path))
            title = path = ""
    return rows


def words(column, columns):
    """Is it one of words, not of figures?"""
    return column < 2 or column >= columns - 3


def show(results, args):
    for found in tables(results).values():
        rows = cells(found, args)
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        for i, r in enumerate(rows):
            line = [c.ljust(w) if words(j, len(r)) else c.rjust(w) for j, (c, w) in enumerate(zip(r, widths))]
            print("  ".join(line).rstrip())
            if not i:
                print("  ".join("-" * w for w in widths))
        print()


def write_document(path, results, args):
    """The tables as Markdown, each between its marks in docs/performance.md."""
    text = pathlib.Path(path).read_text()
    for k, found in tables(results).items():
        mark = MARKS[k]
        head, begin, rest = text.partition(f"<!-- {mark}:begin -->\n")
        _, end, tail = rest.partition(f"<!-- {mark}:end -->")
        if not begin or not end:
            raise labrun.LabError(f"{path} has no marks {mark}:begin and {mark}:end")
        rows = cells(found, args)
        rows.insert(1, tuple("---" if words(i, len(rows[0])) else "---:" for i in range(len(rows[0]))))
        lines = [f"{datetime.date.today()}, {conditions(found, args)}\n"] + ["| " + " | ".join(r) + " |" for r in rows]
        text = head + begin + "\n".join(lines) + "\n" + end + tail
    pathlib.Path(path).write_text(text)


def conditions(results, args):
    """One sentence on how the figures came about."""
    pairs = {f"{n} of {s:g} s" for n, s in (args["plan"][row] for row in results)}
    others, steal = (max((r["machine"][k] for r in results.values()), default=0) for k in ("others", "steal"))
    cpu = "both ends and weft's own processes"
    if any(kind(row) == "proxy" for row in results):
        cpu = "both ends and the proxy, which has a core for itself"
    if any(kind(row) == "tunnel" for row in results):
        cpu = "the daemons of both nodes"
        if args["aes"]:
            cpu += f"; of that AES-128-GCM by itself, sealed and opened once each: {2e9 / args['aes']:.2f} s/GB"
    return (f"{platform.release()}, {os.cpu_count()} CPUs, cubic in every netns; pairs of runs a row: "
            f"{' or '.join(sorted(pairs))}; CPU = {cpu}; the machine did at most "
            f"{others * 100:.1f} % of other work, {steal * 100:.1f} % was stolen from it")


def report(results, args):
    return {
        "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "kernel": platform.release(), "cpus": os.cpu_count(), "congestion": "cubic",
        "noise": args["noise"], "quick": args["quick"], "aes_128_gcm_bytes_per_second": args["aes"],
        "rows": {row: {"title": ROWS[row].title, "pairs": args["plan"][row][0], "seconds": args["plan"][row][1],
                       **result, "measures": [line._asdict() for line in judge(row, result["samples"], judged(args))]}
                 for row, result in results.items()},
    }
