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
from rows import ALONE, ROWS


class Line(typing.NamedTuple):
    measure: str
    figures: dict  # by arm
    ratio: float
    low: float
    high: float
    sense: str
    target: float
    reached: bool


def interval(values):
    """The order statistics between which the median lies with a probability of at least 0.95."""
    ordered, n = sorted(values), len(values)
    outside, k = 0.0, 0
    while (outside := outside + math.comb(n, k) / 2**n) * 2 <= 0.05:
        k += 1
    k = max(k - 1, 0)
    return ordered[k], ordered[n - 1 - k]


def judge(row, found, judged=True):
    """The lines of a row, those with a target first; noise and a quick look are not judged."""
    lines = []
    targets, alone = ROWS[row].targets, ROWS[row].arms == ALONE
    for measure in [m for m in targets if m in found["weft"]] + [m for m in found["weft"] if m not in targets]:
        values = found["weft"][measure]
        sense, target = targets.get(measure, (None, None)) if judged else (None, None)
        figures = {arm: statistics.median(samples[measure]) for arm, samples in found.items() if measure in samples}
        ratio = low = high = None
        if alone and sense:  # a bound holds in each run
            figures["weft"] = max(values) if sense == "<=" else min(values)
        if not alone and all(found["direct"][measure]):
            ratios = [w / d for d, w in zip(found["direct"][measure], values)]
            ratio, (low, high) = statistics.median(ratios), interval(ratios)
        value = figures["weft"] if alone else ratio
        reached = None
        if target is not None and value is not None:
            reached = value >= target if sense == ">=" else value <= target
        lines.append(Line(measure, figures, ratio, low, high, sense, target, reached))
    return lines


def number(value):
    if value is None:
        return "-"
    if value >= 1000:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3g}" if value < 10 else f"{value:.1f}"


def judged(args):
    return not (args["noise"] or args["quick"])


def cells(results, args):
    """The table as text, the head first."""
    rows = [("row", "measure", "direct", "plain" if args["noise"] else "weft", "AF_UNIX", "ratio", "between", "target",
             "verdict", "path")]
    for row, result in results.items():
        title, path = ROWS[row].title, (result["path"] or {}).get("text", "")
        for line in judge(row, result["samples"], judged(args)):
            sign = "" if line.ratio is None else " x"
            rows.append((title, line.measure, number(line.figures.get("direct")), number(line.figures["weft"]),
                         number(line.figures.get("AF_UNIX")), "-" if line.ratio is None else f"{line.ratio:.2f} x",
                         "-" if line.ratio is None else f"{line.low:.2f}..{line.high:.2f}",
                         "" if line.target is None else f"{line.sense} {line.target:g}{sign}",
                         {None: "", True: "reached", False: "NOT reached"}[line.reached], path))
            title = path = ""
    return rows


LEFT = (0, 1, 7, 8, 9)  # columns of words


def show(results, args):
    rows = cells(results, args)
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for i, r in enumerate(rows):
        line = [c.ljust(w) if j in LEFT else c.rjust(w) for j, (c, w) in enumerate(zip(r, widths))]
        print("  ".join(line).rstrip())
        if not i:
            print("  ".join("-" * w for w in widths))


def write_document(path, results, args):
    """The table as Markdown, between the marks of docs/performance.md."""
    text = pathlib.Path(path).read_text()
    head, begin, rest = text.partition("<!-- bench:begin -->\n")
    _, end, tail = rest.partition("<!-- bench:end -->")
    if not begin or not end:
        raise labrun.LabError(f"{path} has no marks bench:begin and bench:end")
    rows = cells(results, args)
    rows.insert(1, tuple("---" if i in LEFT else "---:" for i in range(len(rows[0]))))
    lines = [f"{datetime.date.today()}, {conditions(results, args)}\n"] + ["| " + " | ".join(r) + " |" for r in rows]
    pathlib.Path(path).write_text(head + begin + "\n".join(lines) + "\n" + end + tail)


def conditions(results, args):
    """One sentence on how the figures came about."""
    pairs = {f"{n} of {s:g} s" for n, s in (args["plan"][row] for row in results)}
    others, steal = (max((r["machine"][k] for r in results.values()), default=0) for k in ("others", "steal"))
    return (f"{platform.release()}, {os.cpu_count()} CPUs, cubic in every netns; pairs of runs a row: "
            f"{' or '.join(sorted(pairs))}; CPU = both ends and weft's own processes; the machine did at most "
            f"{others * 100:.1f} % of other work, {steal * 100:.1f} % was stolen from it")


def report(results, args):
    return {
        "when": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "kernel": platform.release(), "cpus": os.cpu_count(), "congestion": "cubic",
        "noise": args["noise"], "quick": args["quick"],
        "rows": {row: {"title": ROWS[row].title, "pairs": args["plan"][row][0], "seconds": args["plan"][row][1],
                       **result, "measures": [line._asdict() for line in judge(row, result["samples"], judged(args))]}
                 for row, result in results.items()},
    }
