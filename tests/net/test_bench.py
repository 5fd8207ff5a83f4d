# SPDX-License-Identifier: Apache-2.0
"""`make bench`: every row runs on both sides and says which path carried it; intervals; the names of rows."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
sys.path.insert(0, str(ROOT / "tools/bench"))

import rows  # noqa: E402
import table  # noqa: E402

PATIENCE = 600  # as that of the fixtures of conftest.py


def bench(*args, **options):
    command = [ROOT / "tools/bench/bench", "--build", BUILD, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_every_row_is_measured_on_both_sides(tmp_path):
    """One short run of each: no figure is worth anything, but there is one for each arm of each row."""
    done = bench("--quick", "--rows", "part-one,part-two", "--name", "bench-test", "--patience", PATIENCE,
                 "--json", tmp_path / "bench.json", timeout=400 + PATIENCE)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text())["rows"]
    one_node = rows.PART_ONE | rows.PART_TWO
    assert list(found) == list(one_node)
    for name, row in one_node.items():
        got = found[name]
        assert set(got["samples"]) == set(row.arms), name
        for arm, measures in got["samples"].items():
            assert set(row.targets) <= set(measures), (name, arm)
            if row.arms != rows.ALONE:
                assert all(v > 0 for values in measures.values() for v in values), (name, arm, measures)
        assert got["path"]["text"].startswith(("splice", "tcp")), (name, got["path"])
        assert got["path"]["seen"], f"{name}: nobody looked at its connections"
        assert {m["measure"] for m in got["measures"]} >= set(row.targets)
    assert not any(m["reached"] for r in found.values() for m in r["measures"])  # a look is not judged
    assert all(row.title in done.stdout for row in one_node.values())


def test_unknown_names_are_wrong_usage():
    for args in (["--rows", "nonsense"], ["--nonsense"], ["--runs"]):
        done = bench(*args, timeout=20)
        assert done.returncode == 2 and done.stderr.startswith("bench: "), args
    done = bench("--help", timeout=20)
    assert (done.returncode, done.stderr) == (0, "") and "--rows" in done.stdout


def test_groups_and_rows_are_chosen_by_name():
    assert rows.choose("part-one,part-two,part-three,part-four") == list(rows.ROWS)
    assert rows.choose("pgbench,nginx-1") == ["nginx-1", "pgbench"]  # in the order of the table
    assert set(rows.choose("part-two")).isdisjoint(rows.choose("part-one"))


@pytest.mark.parametrize("count, cut", [(1, 0), (5, 0), (6, 0), (8, 0), (9, 1), (12, 2), (20, 5)])
def test_the_interval_of_a_median(count, cut):
    """Signs of a fair coin: Conover, Practical Nonparametric Statistics, table of the binomial."""
    values = list(range(count))
    assert table.interval(values[::-1]) == (values[cut], values[-1 - cut])


def samples(direct, weft):
    return {"direct": {"Gbit/s": direct, "CPU s/GB": direct}, "weft": {"Gbit/s": weft, "CPU s/GB": weft}}


def test_a_row_is_judged_by_the_median_of_its_pairs():
    """Drift of the machine, which both runs of a pair share, cancels out."""
    drift = [1.0, 2.0, 4.0, 8.0, 16.0]
    lines = table.judge("bulk-1", samples(drift, [0.98 * v for v in drift]))
    assert [line.measure for line in lines] == ["Gbit/s", "CPU s/GB"]
    assert all(abs(line.ratio - 0.98) < 1e-9 and line.reached for line in lines)
    assert not table.judge("bulk-1", samples(drift, [0.9 * v for v in drift]))[0].reached
    assert table.judge("bulk-1", samples(drift, drift), judged=False)[0].reached is None


def test_a_bound_holds_in_each_run():
    def judge(messages):
        found = {"weft": {"queued KiB": [1.0] * 3, "queued messages": messages, "slab MiB": [0.0] * 3,
                          "blocked": [1.0] * 3, "intact": [1.0, 1.0, 0.0]}}
        return {line.measure: line.reached for line in table.judge("flood-1", found)}
    assert judge([900.0] * 3) == {"queued KiB": True, "queued messages": True, "slab MiB": True, "blocked": True,
                                  "intact": False}
    assert judge([900.0, 1001.0, 900.0])["queued messages"] is False


def test_tunnels_are_measured_with_each_pair_of_daemons(tmp_path):
    """One short run of each kind of row of part three; the bench itself looks at what weft's connections were."""
    names = ["tunnel-16-t1", "tunnel-16-r-t1", "tunnel-pingpong-t1", "tunnel-connections-t1"]
    done = bench("--quick", "--rows", ",".join(names), "--name", "bench-three", "--patience", PATIENCE,
                 "--json", tmp_path / "bench.json", timeout=200 + PATIENCE)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["aes_128_gcm_bytes_per_second"] > 10**7
    assert list(report["rows"]) == [name for name in rows.PART_THREE if name in names]
    for name, got in report["rows"].items():
        assert set(got["samples"]) == {"relay", "haproxy", "envoy", "weft"}, name
        for arm, measures in got["samples"].items():
            assert set(rows.ROWS[name].targets) <= set(measures), (name, arm)
            assert all(v > 0 for values in measures.values() for v in values), (name, arm, measures)
        assert got["path"]["text"] == "tunnel", (name, got["path"])


def test_proxies_are_measured_with_each_of_their_peers(tmp_path):
    """One short run of each kind of row of part four."""
    names = ["http-small", "http2-http", "http-grpc", "http-idle", "hop-small"]
    done = bench("--quick", "--rows", ",".join(names), "--name", "bench-four", "--patience", PATIENCE,
                 "--json", tmp_path / "bench.json", timeout=200 + PATIENCE)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "bench.json").read_text())
    assert list(report["rows"]) == names
    for name, got in report["rows"].items():
        assert set(got["samples"]) == set(rows.ROWS[name].arms), name
        for measures in got["samples"].values():
            assert {m[0] if isinstance(m, tuple) else m for m in rows.ROWS[name].targets} <= set(measures), name
        assert got["path"]["text"].startswith("proxy"), (name, got["path"])


def test_proxies_that_end_tls_are_measured(tmp_path):
    """The same of the rows where TLS ends at the proxy; the bench itself looks at what is spoken."""
    names = [name for name, row in rows.PART_FOUR.items() if row.edge and name != "http2-tls-idle"]
    assert len(names) == 4
    done = bench("--quick", "--rows", ",".join(names), "--name", "bench-edge", "--patience", PATIENCE,
                 "--json", tmp_path / "bench.json", timeout=300 + PATIENCE)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "bench.json").read_text())
    assert list(report["rows"]) == names
    for name, got in report["rows"].items():
        assert set(got["samples"]) == {"nginx", "haproxy", "envoy", "weft"}, name
        for arm, measures in got["samples"].items():
            assert set(rows.ROWS[name].targets) <= set(measures), name
            assert all(v > 0 for values in measures.values() for v in values), (name, arm, measures)
        assert got["path"]["text"] == "gateway (TLSv1.3, TLS_AES_128_GCM_SHA256)", (name, got["path"])


def test_the_better_of_several_peers_counts_in_each_run():
    found = {arm: {"proxy CPU us/request": v, "requests/s": [1.0, 1.0]} for arm, v in (
        ("nginx", [10.0, 30.0]), ("haproxy", [20.0, 20.0]), ("envoy", [50.0, 50.0]), ("weft", [9.0, 18.0]))}
    lines = {(line.measure, line.peer): line for line in table.judge("http-small", found)}
    assert abs(lines["proxy CPU us/request", "nginx+haproxy"].ratio - 0.9) < 1e-9
    assert abs(lines["proxy CPU us/request", "envoy"].ratio - 0.27) < 1e-9
    assert not lines["proxy CPU us/request", "envoy"].reached


def test_a_bound_of_a_row_with_peers_is_of_weft_itself():
    far = "KiB/connection, far node"
    found = {arm: {"KiB/connection, near node": [v], far: [v]} for arm, v in (("envoy", 20.0), ("weft", 5.0))}
    found["weft"][far] = [3.0]
    lines = {line.measure: line for line in table.judge("tunnel-idle", found)}
    assert lines[far].reached and not lines["KiB/connection, near node"].reached
    assert lines[far].ratio == 0.15 and lines[far].bound
