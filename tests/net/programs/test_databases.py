# SPDX-License-Identifier: Apache-2.0
"""redis, PostgreSQL, MariaDB, memcached: small statements, large values, and what the server then holds."""

import json
import pathlib
import shutil
import sys

import pytest

from place import MIB, digest, find, noise

HERE = pathlib.Path(__file__).parent


def test_redis(job):
    commands = "".join(f"SET key:{n} {digest(str(n))}\n" for n in range(20_000))

    def redis(place):
        place.start("server", "redis-server", "--port", "6379", "--save", "", "--appendonly", "no",
                    "--enable-debug-command", "yes", "--protected-mode", "no", ready=6379)
        cli = ["redis-cli", "-h", place.ip("server")]
        seen = [place.run("client", *cli, "--pipe", input=commands.encode()).splitlines()[-1],
                place.run("client", *cli, "-x", "SET", "large", input=noise(8 * MIB).hex().encode()),
                digest(place.run("client", *cli, "GET", "large"))]
        # Its figures vary, its errors must not.
        said = place.run("client", "redis-benchmark", "-h", place.ip("server"), "-q", "--csv", "-n", "20000",
                         "-c", "8", "-t", "ping_mbulk,incr,lpush,mset").decode()
        seen.append([row.split(",")[0] for row in said.splitlines()])
        return seen + [place.run("client", *cli, "DEBUG", "DIGEST"), place.run("client", *cli, "DBSIZE")]

    job("redis", "redis-cli --pipe of 20 000 SET, a value of 16 MiB, redis-benchmark -c 8, DEBUG DIGEST", redis,
        path="splice")


@pytest.fixture(scope="module")
def as_postgres():
    """The server refuses to be root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]


def test_postgres(job, as_postgres, load_sql):
    def postgres(place):
        data = place.folder / "postgres"
        data.mkdir()
        shutil.chown(data, "postgres", "postgres")
        place.run("server", *as_postgres, find("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-N",
                  "--no-instructions", "--no-locale", "-E", "UTF8", cwd="/")
        with open(data / "pg_hba.conf", "a", encoding="ascii") as hba:
            hba.write("host all all all trust\n")
        place.start("server", *as_postgres, find("postgres"), "-D", data, "-h", "0.0.0.0", "-k", data, "-F",
                    ready=5432, cwd="/")
        where = ["-h", place.ip("server"), "-U", "postgres"]
        sql = ["psql", *where, "-qAtX", "-v", "ON_ERROR_STOP=1"]
        rows = "".join(f"{n}\t{digest(str(n))}\n" for n in range(100_000))
        place.run("client", *sql, "-c", "CREATE TABLE t (n int, d text)")
        place.run("client", *sql, "-c", "COPY t FROM STDIN", input=rows.encode())
        out = place.run("client", *sql, "-c", "COPY t TO STDOUT")
        assert out.decode() == rows
        said = place.run("client", *sql, input=load_sql.encode())
        place.run("client", "pgbench", *where, "-i", "-q", "-s", "1", "postgres")
        bench = place.run("client", "pgbench", *where, "-n", "-c", "4", "-t", "400", "postgres").decode()
        return [digest(out), digest(said), [s for s in bench.splitlines() if "actual" in s or "failed" in s]]

    job("postgres", "COPY of 100 000 rows in and out, 2 000 statements of psql, pgbench -c 4", postgres, path="splice")


@pytest.fixture(scope="module")
def load_sql():
    """2 000 statements, each a round trip."""
    return ("CREATE TABLE small (n int, d varchar(100));\n"
            + "".join(f"INSERT INTO small VALUES ({n}, '{digest(str(n))}');\n" for n in range(1000))
            + "".join(f"SELECT n, d FROM small WHERE n = {n % 50} LIMIT 1;\n" for n in range(1000)))


def test_mariadb(job, load_sql):
    def mariadb(place):
        data = place.folder / "mariadb"
        own = ["--no-defaults", f"--datadir={data}", "--user=root"]
        place.run("server", "mariadb-install-db", *own, "--auth-root-authentication-method=normal", "--skip-test-db")
        place.start("server", "mariadbd", *own, f"--socket={data}/sock", f"--pid-file={data}/pid", "--port=3306",
                    "--bind-address=0.0.0.0", "--innodb-buffer-pool-size=64M", "--skip-name-resolve",
                    "--skip-grant-tables", "--skip-networking=0", "--innodb-flush-log-at-trx-commit=0", ready=3306)
        where = ["--no-defaults", "-h", place.ip("server"), "-u", "root", "--protocol=tcp", "--skip-ssl"]
        sql = ["mariadb", *where, "-N", "-B"]
        place.run("client", *sql, "-e", "CREATE DATABASE job")
        seen = [digest(place.run("client", *sql, "job", input=load_sql.encode()))]
        large = noise(4 * MIB).hex()
        place.run("client", *sql, "--max-allowed-packet=64M", "job",
                  input=f"CREATE TABLE large (d longblob); INSERT INTO large VALUES ('{large}');".encode())
        seen.append(place.run("client", *sql, "job", "-e", "SELECT sha2(d, 256), length(d) FROM large").decode())
        assert seen[-1].split() == [digest(large), str(len(large))]
        dump = place.run("client", "mariadb-dump", *where, "--max-allowed-packet=64M", "--skip-dump-date", "job")
        return seen + [digest(dump), place.run("client", *sql, "job", "-e", "CHECKSUM TABLE small, large")]

    job("mariadb", "2 000 statements, a value of 8 MiB, mariadb-dump, CHECKSUM TABLE", mariadb)


def test_memcached(job):
    def memcached(place):
        place.start("server", "memcached", "-u", "root", "-p", "11211", "-U", "0", "-I", "4m", ready=11211)
        return json.loads(place.run("client", sys.executable, HERE / "memcache.py", place.ip("server"), "11211"))

    job("memcached", "an asyncio client: 6 000 commands, values up to 2 MiB", memcached, path="splice")
