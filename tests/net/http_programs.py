# SPDX-License-Identifier: Apache-2.0
"""
Servers of others in pods, each of which writes a line "REQUEST-ID STATUS ..." into a file for every request that it has
read, good or bad: what it saw is compared with what weft sent.
"""

import pathlib
import shutil

import labrun

NGINX = """
daemon off; user root; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
	log_format seen '$http_x_request_id $status "$request"';
	access_log {log} seen;
	client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
	uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
	keepalive_requests 1000000;
	server {{ listen {port} default_server; merge_slashes off; location / {{ return 200 "nginx\\n"; }} }}
}}
"""
HAPROXY = """
global
	maxconn 4000
	log stdout format raw daemon
defaults
	mode http
	timeout connect 5s
	timeout client 60s
	timeout server 60s
frontend front
	bind :{port}
	log global
	option dontlognull
	http-request capture req.hdr(x-request-id) len 100
	log-format "%[capture.req.hdr(0)] %ST \\"%r\\""
	http-request return status 200 content-type text/plain string "haproxy"
"""
APACHE = """
ServerRoot {folder}
DocumentRoot {folder}
PidFile {folder}/apache.pid
Listen {port}
ServerName origin
{modules}
User nobody
Group nogroup
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 60
LogFormat "%{{X-Request-Id}}i %>s \\"%r\\"" seen
CustomLog {log} seen
ErrorLog {folder}/apache.err
<Directory />
	Require all granted
</Directory>
"""
NODE = """
const fs = require("fs"), log = fs.openSync(process.argv[2], "a");
const server = require("http").createServer((q, r) => {
	fs.writeSync(log, `${q.headers["x-request-id"] || "-"} 200 "${q.method} ${q.url}"\\n`);
	q.on("end", () => r.end("node\\n"));
	q.resume();
});
server.on("clientError", (e, s) => {
	// a method that it does not know, as the first word of a head that is right otherwise
	const first = /^[!-~]+ \\S+ HTTP\\/1\\.1\\r\\n(?:[!-~]+:.*\\r\\n)*?x-request-id: (\\S+)\\r\\n/i;
	const head = e.code === "HPE_INVALID_METHOD" && first.exec(e.rawPacket.toString("latin1"));

	if (head)
		fs.writeSync(log, `${head[1]} 501 "method"\\n`);
	else if (e.code !== "ECONNRESET" && e.code !== "HPE_INVALID_EOF_STATE")
		fs.writeSync(log, `- 400 "${e.code}"\\n`);
	s.destroy();
});
for (const what of ["connect", "upgrade"])
	server.on(what, (q, s) => {
		fs.writeSync(log, `${q.headers["x-request-id"] || "-"} 501 "${what}"\\n`);
		s.end("HTTP/1.1 501 No\\r\\nConnection: close\\r\\nContent-Length: 0\\r\\n\\r\\n");
	});
server.keepAliveTimeout = 60000;
server.listen(+process.argv[3], "::");
"""


class Program:
    """`seen()`: what it has logged since the last time: [(request id or "-", line)]"""

    names = ("nginx", "haproxy", "apache", "node")

    def __init__(self, lab, name, pod, port):
        self.name, self.folder = name, lab.scratch / f"origin-{name}"
        self.folder.mkdir(mode=0o755)
        self.log, self.read = self.folder / "seen.log", 0
        self.log.touch()
        self.log.chmod(0o666)
        command, out = getattr(self, name)(port)
        self.process = lab.start(pod, *command, ready=port, **({"stdout": open(self.log, "ab")} if out else {}))

    def file(self, text, name="conf", **more):
        path = self.folder / name
        path.write_text(text.format(folder=self.folder, log=self.log, **more) if more else text)
        return path

    def nginx(self, port):
        conf = self.file(NGINX, port=port)
        return [found("nginx"), "-p", self.folder, "-c", conf, "-e", "stderr"], False

    def haproxy(self, port):
        return [found("haproxy"), "-db", "-f", self.file(HAPROXY, port=port)], True

    def apache(self, port):
        folder = pathlib.Path("/usr/lib/apache2/modules")
        modules = "\n".join(f"LoadModule {name}_module {folder}/mod_{name}.so" for name in (
            "mpm_event", "authz_core", "dir"))
        return [found("apache2"), "-X", "-f", self.file(APACHE, port=port, modules=modules)], False

    def node(self, port):
        return [found("node"), self.file(NODE, "origin.js"), self.log, str(port)], False

    def seen(self):
        with open(self.log, "rb") as f:
            f.seek(self.read)
            new = f.read()
        new = new[:new.rfind(b"\n") + 1]
        self.read += len(new)
        return [(line.partition(" ")[0], line) for line in new.decode("latin-1").splitlines()]


def found(name):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if not path:
        raise labrun.LabError(f"{name} is not installed: sh tools/setup.sh net installs it")
    return path
