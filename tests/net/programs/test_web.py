# SPDX-License-Identifier: Apache-2.0
"""nginx and HAProxy, with curl: many small requests on one connection, then files."""

import pytest

from place import MIB, digest, noise

SMALL = 4000  # requests on one connection
FILES = {"page": 100_000, "image": 1_000_000, "archive": 16 * MIB}
NGINX = """
daemon off; user root; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
	access_log off; keepalive_requests 1000000; default_type text/plain; client_max_body_size 100m;
	client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
	uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
	{how}
	server {{ listen 8080; root {folder}/html; location /small {{ return 200 "$request_uri\\n"; }} }}
}}
"""
HAPROXY = """
global
	maxconn 100
	maxpipes 50
	nbthread 2
defaults
	mode {mode}
	timeout connect 5s
	timeout client 30s
	timeout server 30s
	option splice-auto
frontend front
	bind :8081
	default_backend back
backend back
	server nginx {server}:8080
"""
THREE = "[nodes.node]\n[pods.client]\n[pods.relay]\n[pods.server]\n"


def nginx(place, how):
    for name, size in FILES.items():
        place.file(f"html/{name}", noise(size))
    conf = place.file("nginx.conf", NGINX.format(folder=place.folder, how=how))
    place.start("server", "nginx", "-p", place.folder, "-c", conf, "-e", "stderr", ready=8080)


def fetch(place, host):
    """What a client gets: the small answers, then each file, three times on one connection."""
    said = place.run("client", "curl", "-sS", f"http://{host}/small/[1-{SMALL}]")
    assert said.decode().splitlines() == [f"/small/{n}" for n in range(1, SMALL + 1)]
    seen = [digest(said)]
    for name in FILES:
        got = place.run("client", "curl", "-sS", f"http://{host}/{name}?[1-3]")
        assert got == noise(FILES[name]) * 3
        seen.append(digest(got))
    return seen


@pytest.mark.parametrize("program, how", [
    ("nginx sendfile", "sendfile on; tcp_nopush on;"),
    ("nginx aio", "sendfile off; aio threads; directio 4k; output_buffers 2 64k;"),
])
def test_nginx(job, program, how):
    def serve(place):
        nginx(place, how)
        return fetch(place, f"{place.ip('server')}:8080")

    job(program, f"curl: {SMALL} small answers on one connection, files up to 16 MiB", serve, path="splice")


@pytest.mark.parametrize("mode", ["http", "tcp"])
def test_haproxy(job, mode):
    def relay(place):
        nginx(place, "sendfile on;")
        conf = place.file("haproxy.cfg", HAPROXY.format(mode=mode, server=place.ip("server")))
        place.start("relay", "haproxy", "-db", "-f", conf, ready=8081)
        return fetch(place, f"{place.ip('relay')}:8081")

    job(f"haproxy {mode}", "`option splice-auto` between curl and nginx, the same requests", relay, pods=THREE)
