# SPDX-License-Identifier: Apache-2.0
"""
programs: one run of one row on one side. Each function here makes a run(sides, arm, seconds) that gives
{measure: value}; rows.py has the table of them.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess

import labrun
from sides import VIP

CPUS = os.cpu_count() or 1
SERVER_CPU, CLIENT_CPU = ("0", "1") if CPUS > 1 else ("0", "0")


def apart(cpu):
    """One core for each end, the same on both sides: where the scheduler puts them is half of the noise."""
    return ("taskset", "-c", cpu)


def cubic_only(result):
    if result["congestion"] not in ("cubic", "-"):
        raise labrun.LabError(f"a connection used {result['congestion']}: this bench compares with cubic only")
    return result


# ---------------------------------------------------------------- nginx + wrk


def nginx(port, connections=32, path="", server=SERVER_CPU, client=CLIENT_CPU):
    def run(sides, arm, seconds):
        sides.server(arm, ("nginx", port), lambda lab: lab.nginx(sides.server_pod, port, cpus=server,
                                                                 files={"10k": 10 << 10, "1m": 1 << 20}))
        out, cpu = sides.measure(arm, *apart(client), "wrk", "-t1", f"-c{connections}",
                                 f"-d{max(1, round(seconds))}s", "--latency", "--timeout", "30s",
                                 f"http://{sides.ip(arm)}:{port}/{path}", seconds=seconds)
        return wrk(out, cpu)
    return run


def wrk(out, cpu):
    found = {}
    for line in out.splitlines():
        words = line.split()
        if line.startswith("Requests/sec:"):
            found["requests/s"] = float(words[1])
        elif line.strip().startswith("0 requests in"):
            raise labrun.LabError(f"wrk: no answer: {line.strip()}")
        elif "requests in" in line:
            found["CPU us/request"] = cpu * 1e6 / int(words[0])
        elif words[:1] == ["50%"]:
            found["p50 us"] = duration_us(words[1])
        elif line.strip().startswith(("Socket errors", "Non-2xx")):
            raise labrun.LabError(f"wrk: {line.strip()}")
    return found


def duration_us(text):
    for unit, factor in (("us", 1), ("ms", 1e3), ("m", 6e7), ("s", 1e6)):
        if text.endswith(unit):
            return float(text[:-len(unit)]) * factor
    raise labrun.LabError(f"wrk: {text} is no duration")


# ---------------------------------------------------------------- redis, postgres, gRPC


def start_redis(lab, pod, port):
    """Nothing on disk."""
    server = lab.start(pod, *apart(SERVER_CPU), "redis-server", "--bind", lab.ip(pod), "--port", port, "--unixsocket",
                       lab.scratch / "redis.sock", "--protected-mode", "no", "--save", "", "--appendonly", "no",
                       "--dir", lab.scratch, ready=port)
    lab.run(pod, "redis-cli", "-h", lab.ip(pod), "-p", port, "set", "key:__rand_int__", "w" * 100)
    return server


def redis(port, first, *options):
    """GET of 100 bytes, 32 connections; redis-benchmark takes a count, `first` is a guess at requests/s."""
    def run(sides, arm, seconds):
        sides.server(sides.home(arm), ("redis", port), lambda lab: start_redis(lab, sides.server_pod, port))
        lab = sides.lab(arm)
        where = ("-s", lab.scratch / "redis.sock") if arm == "AF_UNIX" else ("-h", sides.ip(arm), "-p", port)
        key = ("redis", port, arm)
        count = sides.count(key, first, seconds)
        out, cpu = sides.measure(arm, *apart(CLIENT_CPU), "redis-benchmark", *where, "-t", "get", "-c", 32, "-n", count,
                                 *options, "--csv", seconds=seconds)
        found = [line.replace('"', "").split(",") for line in out.splitlines() if line.startswith('"GET"')]
        if not found:
            raise labrun.LabError(f"redis-benchmark said: {out.strip()}")
        sides.rates[key] = float(found[0][1])
        return {"requests/s": float(found[0][1]), "p50 us": float(found[0][4]) * 1e3,
                "CPU us/request": cpu * 1e6 / count}
    return run


def postgres_folder():
    """Where Debian has the newest postgres, None if it is not there."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda p: float(p.parts[-3]))
    return found[-1].parent if found else None


def start_postgres(lab, pod, port):
    """A cluster of its own, in memory as far as postgres lets it; it refuses to run as root."""
    home, programs = lab.scratch / "postgres", postgres_folder()
    home.mkdir()
    shutil.chown(home, "postgres", "postgres")
    user = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")
    lab.run(pod, *user, programs / "initdb", "-D", home / "data", "-U", "bench", "-A", "trust", "--no-sync",
            "--locale=C", timeout=60)
    with open(home / "data/pg_hba.conf", "a", encoding="ascii") as hba:
        hba.write("host all all 0.0.0.0/0 trust\n")
    server = lab.start(pod, *user, *apart(SERVER_CPU), programs / "postgres", "-D", home / "data",
                       "-h", lab.ip(pod), "-p", port, "-k", home, "-c", "fsync=off", "-c", "autovacuum=off",
                       "-c", "shared_buffers=64MB", ready=port)
    ready = ("-h", home, "-p", port, "-U", "bench", "-d", "postgres")
    labrun.wait_for(lambda: not lab.run(pod, programs / "pg_isready", *ready, check=False).returncode, 20,
                    "postgres")
    lab.run(pod, programs / "pgbench", "-i", "-q", "-h", home, "-p", port, "-U", "bench", "postgres")
    return server


def pgbench(port, clients):
    def run(sides, arm, seconds):
        sides.server(sides.home(arm), ("postgres", port), lambda lab: start_postgres(lab, sides.server_pod, port))
        where = sides.lab(arm).scratch / "postgres" if arm == "AF_UNIX" else sides.ip(arm)
        out, cpu = sides.measure(arm, *apart(CLIENT_CPU), postgres_folder() / "pgbench", "-n", "-S", "-M", "prepared",
                                 "-c", clients, "-T", max(1, round(seconds)), "-h", where, "-p", port, "-U", "bench",
                                 "postgres", seconds=seconds)
        count = re.search(r"transactions actually processed: (\d+)", out)
        rate = re.search(r"^tps = ([\d.]+)", out, re.MULTILINE)
        mean = re.search(r"^latency average = ([\d.]+) ms", out, re.MULTILINE)
        if not (count and rate and mean):
            raise labrun.LabError(f"pgbench said: {out.strip()}")
        return {"transactions/s": float(rate[1]), "mean us": float(mean[1]) * 1e3,
                "CPU us/transaction": cpu * 1e6 / int(count[1])}
    return run


def grpc(port, calls):
    """Unary calls over one connection, `calls` of them in flight, 100 bytes there and back."""
    def run(sides, arm, seconds):
        endpoint, ready = sides.endpoint(arm, "grpc", port)
        sides.server(arm, ("grpc", port), lambda lab: lab.start(
            sides.server_pod, *apart(SERVER_CPU), sides.grpc, "server", endpoint, ready=ready))
        out, cpu = sides.measure(arm, *apart(CLIENT_CPU), sides.grpc, "client", endpoint, "--calls", calls, "--size",
                                 100, "--seconds", seconds, seconds=seconds)
        result = json.loads(out)
        return {"calls/s": result["per_second"], "p50 us": result["p50_us"],
                "CPU us/call": cpu * 1e6 / result["count"]}
    return run


# ---------------------------------------------------------------- the load programs


def pingpong(size, port, client=(), server=()):
    """`client`, `server`: where the ends run, the scheduler's choice if not said."""
    def run(sides, arm, seconds):
        options = ["--size", size] + ([] if arm == "AF_UNIX" else ["--nodelay"])
        target = sides.listen(arm, "echo", port, *options, pin=server)
        out, cpu = sides.measure(arm, *client, sides.load, "pingpong", target, *options, "--seconds", seconds,
                                 seconds=seconds)
        result = cubic_only(json.loads(out))
        return {"trips/s": result["count"] / result["seconds"], "p50 us": result["p50_us"],
                "p99 us": result["p99_us"], "CPU us/trip": cpu * 1e6 / result["count"]}
    return run


def stream(size, port, nodelay=True, client=(), server=()):
    def run(sides, arm, seconds):
        option = ["--nodelay"] if nodelay else []
        target = sides.listen(arm, "sink", port, pin=server)
        out, cpu = sides.measure(arm, *client, sides.load, "stream", target, "--size", size, *option, "--seconds",
                                 seconds, seconds=seconds)
        result = cubic_only(json.loads(out))
        return {"Gbit/s": result["gbit_s"], "CPU s/GB": cpu * 1e9 / result["bytes"]}
    return run


def connections(port, service, client=(), server=()):
    """With weft: through a Service and under a policy, if `service`. Without: straight to the pod."""
    def run(sides, arm, seconds):
        sides.listen(arm, "answer", port, pin=server)
        target = VIP if service and sides.weft(arm) else sides.ip(arm)
        out, cpu = sides.measure(arm, *client, sides.load, "crr", f"{target}:{port}", "--seconds", seconds,
                                 seconds=seconds)
        result = cubic_only(json.loads(out))
        return {"connections/s": result["per_second"], "p50 us": result["p50_us"],
                "CPU us/connection": cpu * 1e6 / result["count"]}
    return run


# ---------------------------------------------------------------- iperf3


def iperf3(port, *options):
    """A server for each run, so that no luck of one process lasts for a whole row; a core for each end."""
    def run(sides, arm, seconds):
        lab = sides.lab(arm)
        server = lab.start(sides.server_pod, "iperf3", "-s", "-1", "-p", port, ready=port)
        pin = ("-A", f"{CLIENT_CPU},{SERVER_CPU}") if CPUS > 1 else ()
        out, cpu = sides.measure(arm, "iperf3", "-J", "-c", sides.ip(arm), "-p", port, "-t",
                                 max(1, round(seconds)), *pin, *options, seconds=seconds)
        server.wait(10)
        end = json.loads(out)["end"]
        cubic_only({"congestion": end.get("sender_tcp_congestion", "?")})
        sums = [end[k] for k in ("sum_received", "sum_received_bidir_reverse") if k in end]
        return {"Gbit/s": sum(s["bits_per_second"] for s in sums) / 1e9,
                "CPU s/GB": cpu * 1e9 / sum(s["bytes"] for s in sums)}
    return run


# ---------------------------------------------------------------- a reader that does not read


def flood(size, port):
    """What piles up on a reader that does not read, and whether the writer is stopped."""
    def run(sides, arm, seconds):
        lab = sides.lab(arm)
        reader = lab.start(sides.server_pod, sides.load, "hold", f"{sides.ip(arm)}:{port}", ready=port,
                           stdin=subprocess.PIPE)
        slab = unreclaimable()
        writer = lab.start(sides.client_pod, sides.load, "flood", f"{sides.ip(arm)}:{port}", "--told", "--size", size,
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if sides.weft(arm):
            until_spliced(lab, port, sides.look)
        tell(writer)
        first = json.loads(writer.stdout.readline())
        grown = unreclaimable() - slab
        queued = queues(lab, port) if sides.weft(arm) else {"bytes": 0, "messages": 0}
        tell(reader)
        tell(writer)
        last = json.loads(writer.stdout.readline() or "{}")
        lab.stop(reader)
        lab.stop(writer)
        if first["error"]:
            raise labrun.LabError(f"the writer got: {first['error']}")
        return {"queued KiB": queued["bytes"] / 1024, "queued messages": queued["messages"],
                "slab MiB": max(0, grown) / 1024, "taken MiB": first["bytes"] / 2**20,
                "blocked": float(first["blocked"]), "intact": float(last.get("intact", False))}
    return run


def tell(process):
    process.stdin.write(b"\n")
    process.stdin.flush()


def until_spliced(lab, port, look):
    """The conversation that comes first is to be spliced, or the row shows nothing."""
    def found():
        return [c for c in lab.weftctl("connections")["connections"]
                if c["destination"]["port"] == port and c["path"] == "splice" and c["bytes_spliced"]]
    labrun.wait_for(found, 10, "the splice of a conversation", 0.05)
    if look:
        look(lab)


def unreclaimable():
    for line in pathlib.Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("SUnreclaim:"):
            return int(line.split()[1])
    raise labrun.LabError("/proc/meminfo has no SUnreclaim")


def queues(lab, port):
    """The most that was ever seen on the queue of a reader."""
    found = [c for c in lab.weftctl("connections")["connections"] if c["destination"]["port"] == port]
    if not found:
        raise labrun.LabError(f"no connection to port {port} in weftctl connections: weft does not see this lab")
    return {"bytes": max(max(c["queue_peak_bytes"] + c["queued_bytes"]) for c in found),
            "messages": max(max(c["queue_peak_messages"]) for c in found)}
