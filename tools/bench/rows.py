# SPDX-License-Identifier: Apache-2.0
"""
rows: what `make bench` measures. Part one are the "same node" rows of the design, part two real programs, more sizes
and the floor that holds for all: nothing is slower than without weft. Part three are tunnels between two nodes, part
four proxies of HTTP.
"""

import typing

import edge
import exchanges
import nodes
import programs
import proxies
import tunnels
from programs import CLIENT_CPU, SERVER_CPU, apart

BOTH = ("direct", "weft")
UNIX = BOTH + ("AF_UNIX",)
ALONE = ("weft",)  # no peer: bounds, not ratios
FLOOR, TAX = 0.97, 1.05  # of the rate, of the CPU: issue 4's "no row is worse than"


class Row(typing.NamedTuple):
    title: str
    run: typing.Callable  # run(sides, arm, seconds) -> {measure: value}
    targets: dict  # {measure, or (measure, peer): (sense, target of weft / peer, or bound where there is no peer)}
    arms: tuple = BOTH
    pairs: int = 5
    seconds: float = 2.0
    least: float = 0.0  # a shorter run shows nothing, not even that it runs
    pods: str = ""  # which pair of pods (sides.PAIRS)
    bounds: tuple = ()  # measures whose target is of weft itself, not of a ratio
    peer: str = "direct"  # the arm that weft is compared with; several with "+": the best of them in each run
    threads: int = 0  # of each node's daemon; 0: pods of one node
    edge: bool = False  # proxies of HTTP that end TLS, on the node
    spliced: bool | None = None  # proxies of HTTP: are weft's local hops
    most: int = 99  # runs: what does not vary is measured once
    warm: bool = True  # a round before, which is thrown away


def at_least(rate, cpu, least=FLOOR, most=TAX):
    """The targets of a row: its rate and its CPU per unit of work."""
    return {rate: (">=", least), cpu: ("<=", most)}


def web(title, port, connections, path="", least=FLOOR, most=TAX, **pins):
    return Row(title, programs.nginx(port, connections, path, **pins),
               at_least("requests/s", "CPU us/request", least, most), least=3.0 if path == "1m" else 0.0,
               pods={"10k": "files", "1m": "large"}.get(path, "web"))


def ball(title, size, port, p50=None, most=TAX, **pins):
    targets = at_least("trips/s", "CPU us/trip", FLOOR, most)
    if p50:
        targets["p50 us"] = ("<=", p50)
    return Row(title, programs.pingpong(size, port, **pins), targets, UNIX)


def writes(title, size, port, nodelay, least=FLOOR, **pins):
    return Row(title, programs.stream(size, port, nodelay, **pins), at_least("Gbit/s", "CPU s/GB", least), UNIX)


def bulk(title, port, *options):
    """Short and many: what one run of bulk gives depends on more than its peers."""
    return Row(title, programs.iperf3(port, *options), at_least("Gbit/s", "CPU s/GB", 0.97, 1.03), BOTH, 12, 1.0,
               pods="iperf")


CPU2 = "0,1" if programs.CPUS > 1 else "0"
ONE_CORE = {"client": apart("0"), "server": apart("0")}
APART = {"client": apart(CLIENT_CPU), "server": apart(SERVER_CPU)}
BOUNDS = {"queued KiB": ("<=", 1024), "queued messages": ("<=", 1000), "slab MiB": ("<=", 16), "blocked": (">=", 1),
          "intact": (">=", 1)}

PART_ONE = {
    "nginx-1": web("nginx + wrk -c32, 1 core", 8081, 32, least=2.0, most=0.5, server="0", client="0"),
    "nginx-2": web("nginx + wrk -c32, 2 cores", 8082, 32, least=2.0, most=0.5, server=CPU2, client=CPU2),
    "pingpong-1k": ball("ping-pong 1 KB", 1024, 7011, 0.72, 0.65),
    "pingpong-1k-1": ball("ping-pong 1 KB, 1 core", 1024, 7013, 0.72, 0.65, **ONE_CORE),
    "pingpong-64k": ball("ping-pong 64 KB", 65536, 7012, 0.85, 0.72),
    "bulk-1": bulk("iperf3, 1 stream", 5201),
    "bulk-16": bulk("iperf3, 16 streams", 5202, "-P", "16"),
    "bulk-1-r": bulk("iperf3 -R, 1 stream", 5203, "-R"),
    "bulk-16-r": bulk("iperf3 -R, 16 streams", 5204, "-P", "16", "-R"),
    "bulk-bidir": bulk("iperf3 --bidir", 5205, "--bidir"),
    "stream-1k": writes("stream of 1 KB writes, NODELAY", 1024, 7021, True, 1.5),
    "connections": Row("new connections, Service + policy", programs.connections(7003, True),
                       at_least("connections/s", "CPU us/connection", 0.95)),
    "slow-reader": Row("slow reader, 16 KB writes", programs.flood(16384, 7031), BOUNDS, ALONE, 3),
    "flood-1": Row("flood of 1-byte writes", programs.flood(1, 7032), BOUNDS, ALONE, 3),
}
PART_TWO = {
    "nginx-c1": web("nginx + wrk -c1", 8101, 1),
    "nginx-c32": web("nginx + wrk -c32", 8102, 32),
    "nginx-c256": web("nginx + wrk -c256", 8103, 256),
    "nginx-10k-c1": web("nginx 10 KB + wrk -c1", 8104, 1, "10k"),
    "nginx-10k-c32": web("nginx 10 KB + wrk -c32", 8105, 32, "10k"),
    "nginx-10k-c256": web("nginx 10 KB + wrk -c256", 8106, 256, "10k"),
    "nginx-1m-c1": web("nginx 1 MB + wrk -c1", 8107, 1, "1m"),
    "nginx-1m-c32": web("nginx 1 MB + wrk -c32", 8108, 32, "1m"),
    "nginx-1m-c256": web("nginx 1 MB + wrk -c256", 8109, 256, "1m"),
    "redis-get": Row("redis GET, -c32", programs.redis(6379, 150000), at_least("requests/s", "CPU us/request"), UNIX,
                     pods="redis"),
    "redis-get-16": Row("redis GET, -c32 -P16", programs.redis(6380, 10**6, "-P", 16),
                        at_least("requests/s", "CPU us/request"), UNIX, pods="redis"),
    "pgbench": Row("pgbench -S -c8", programs.pgbench(5432, 8), at_least("transactions/s", "CPU us/transaction"), UNIX,
                   pods="pg"),
    "grpc-1": Row("gRPC unary, 1 in flight", programs.grpc(7041, 1), at_least("calls/s", "CPU us/call"), UNIX,
                  pods="grpc"),
    "grpc-32": Row("gRPC unary, 32 in flight", programs.grpc(7042, 32), at_least("calls/s", "CPU us/call"), UNIX,
                   pods="grpc"),
    "pingpong-1": ball("ping-pong 1 B", 1, 7014, **APART),
    "pingpong-16k": ball("ping-pong 16 KB", 16384, 7015, **APART),
    "pingpong-1m": ball("ping-pong 1 MB", 1 << 20, 7016, **APART),
    "stream-64": writes("stream of 64 B writes", 64, 7022, False, **APART),
    "stream-64-n": writes("stream of 64 B writes, NODELAY", 64, 7023, True, **APART),
    "stream-1k-d": writes("stream of 1 KB writes", 1024, 7024, False, **APART),
    "stream-16k": writes("stream of 16 KB writes", 16384, 7025, False, **APART),
    "stream-16k-n": writes("stream of 16 KB writes, NODELAY", 16384, 7026, True, **APART),
    "stream-128k": writes("stream of 128 KB writes", 131072, 7027, False, **APART),
    "stream-128k-n": writes("stream of 128 KB writes, NODELAY", 131072, 7028, True, **APART),
    "bulk-16-bidir": bulk("iperf3 --bidir, 16 streams", 5206, "--bidir", "-P", "16"),
    "connections-pod": Row("new connections, pod address", programs.connections(7004, False, **APART),
                           at_least("connections/s", "CPU us/connection")),
}
TUNNEL_CPU = {"CPU s/GB": ("<=", 0.80)}
IDLE = 9000  # a HAProxy needs two files for each, and 20 000 are what a process may have in many places
IDLE_BOUNDS = ("KiB/connection, near node", "KiB/connection, far node")


def tunnel(title, threads, run, targets, **more):
    many = f"{threads} thread{'s' if threads > 1 else ''}"
    return Row(f"{title}, {many}", run, targets, nodes.ARMS, peer="envoy", threads=threads, **more)


def tunnel_rows(threads):
    found = {}
    for streams in (1, 16, 256):
        what = f"bulk, {streams} stream{'s' if streams > 1 else ''}"
        found[f"tunnel-{streams}-t{threads}"] = tunnel(what, threads, tunnels.bulk(streams), TUNNEL_CPU)
        found[f"tunnel-{streams}-r-t{threads}"] = tunnel(f"{what}, back", threads, tunnels.bulk(streams, "--reverse"),
                                                         TUNNEL_CPU)
    found[f"tunnel-pingpong-t{threads}"] = tunnel("ping-pong 1 KB", threads, tunnels.pingpong(1024),
                                                  {"p50 us": ("<=", 0.70)})
    found[f"tunnel-connections-t{threads}"] = tunnel("new connections", threads, tunnels.connections(16),
                                                     {"CPU us/connection": ("<=", 0.60)})
    return found


PART_THREE = tunnel_rows(1) | {
    "tunnel-idle": tunnel(f"{IDLE} idle connections", 1, tunnels.idle(IDLE), {
        measure: ("<=", 4) for measure in IDLE_BOUNDS}, bounds=IDLE_BOUNDS, most=1, warm=False),
} | (tunnel_rows(2) if programs.CPUS > 1 else {})
BETTER = "nginx+haproxy"
PROXY_CPU = "proxy CPU us/request"


def proxied(title, run, least, envoy=None, arms=("relay", "nginx", "haproxy", "envoy", "weft"), peer=BETTER, **more):
    """A proxy alone, hops not spliced: its CPU by that of a peer, and by Envoy's."""
    targets = {PROXY_CPU: ("<=", least)} | ({(PROXY_CPU, "envoy"): ("<=", envoy)} if envoy else {})
    return Row(title, run, targets, arms, peer=peer, spliced=False, **more)


def hop(title, path):
    """The same work between pods of one node, hops spliced, and what it costs against no proxy at all."""
    return Row(title, exchanges.h1(path), {
        PROXY_CPU: ("<=", 0.60), "requests/s": (">=", 1.6), ("requests/s", "direct"): (">=", 0.75),
        "CPU us/request": ("<=", 0.80)}, ("direct", "nginx", "haproxy", "weft"), peer=BETTER, spliced=True)


def edged(title, run, targets, peer="haproxy", **more):
    """A proxy that ends TLS, asked from outside the mesh."""
    return Row(title, run, targets, edge.ARMS, peer=peer, spliced=False, edge=True, **more)


NO_RELAY = ("nginx", "haproxy", "envoy", "weft")
PART_FOUR = {
    "http-small": proxied("HTTP/1.1, small, 32 connections", exchanges.h1(), 0.90, 0.25),
    "http-64k": proxied("HTTP/1.1, 64 KB, 32 connections", exchanges.h1("64k"), 0.90),
    "http-close": proxied("HTTP/1.1, a connection each", exchanges.h1(close=True), 0.90),
    "http2-http": proxied("h2c to HTTP/1.1, 8 x 16 streams", exchanges.h2("h1c"), 0.95, arms=NO_RELAY, peer="haproxy"),
    "http2": proxied("h2c to h2c, 8 x 16 streams", exchanges.h2("h2"), 1.2, arms=("haproxy", "envoy", "weft"),
                     peer="haproxy"),
    "http-grpc": proxied("gRPC unary, 32 in flight", exchanges.grpc(32), 0.60, arms=NO_RELAY, peer="haproxy"),
    "http-idle": Row("idle HTTP/1.1 connections", exchanges.idle("h1", 2000), {"KiB/connection": ("<=", 1.0)},
                     NO_RELAY, peer="nginx", spliced=False, most=1, warm=False),
    "http2-idle": Row("idle h2c connections", exchanges.idle("h1c", 2000), {"KiB/connection": ("<=", 1.0)},
                      NO_RELAY, peer="nginx", spliced=False, most=1, warm=False),
    "hop-small": hop("app => proxy => app, small", ""),
    "hop-8k": hop("app => proxy => app, 8 KB", "8k"),
    "hop-64k": hop("app => proxy => app, 64 KB", "64k"),
    "http-tls": edged("TLS, HTTP/1.1, small, 32 connections", exchanges.h1(), {PROXY_CPU: ("<=", 0.95)}),
    "http2-tls": edged("TLS, h2 to HTTP/1.1, 8 x 16 streams", exchanges.h2("h1c"), {PROXY_CPU: ("<=", 0.95)}),
    "http-tls-handshake": edged("TLS, a full handshake each", exchanges.handshakes(), {PROXY_CPU: ("<=", 0.95)}),
    "tls-idle": edged("idle TLS HTTP/1.1 connections", exchanges.idle("h1", 1000), {"KiB/connection": ("<=", 1.0)},
                      "nginx", most=1, warm=False),
    "http2-tls-idle": edged("idle TLS h2 connections", exchanges.idle("h1c", 1000), {"KiB/connection": ("<=", 1.0)},
                            "nginx", most=1, warm=False),
}
ROWS = PART_ONE | PART_TWO | PART_THREE | PART_FOUR
GROUPS = {"part-one": tuple(PART_ONE), "part-two": tuple(PART_TWO), "part-three": tuple(PART_THREE),
          "part-four": tuple(PART_FOUR)}
PROGRAMS = ("ip", "nginx", "wrk", "iperf3", "taskset", "redis-server", "redis-benchmark", "redis-cli", "setpriv")


def choose(text):
    """Names of rows from names of rows and groups, in the order of the table."""
    wanted = set()
    for name in text.split(","):
        if name not in ROWS and name not in GROUPS:
            raise ValueError(f"no row {name}; rows: {', '.join(GROUPS)}, {', '.join(ROWS)}")
        wanted.update(GROUPS.get(name, (name,)))
    return [row for row in ROWS if row in wanted]
