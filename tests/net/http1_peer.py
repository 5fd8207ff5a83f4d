# SPDX-License-Identifier: Apache-2.0
"""
HTTP/1.1 by hand, as a client and as a server: http_peers.py says how it is used. What no strict reader takes is an
AssertionError.
"""

import contextlib
import socket

from http_message import CANCEL, MIB, SECONDS, STREAM, Both, Cut, Message, Silent, abort, hang_up, text, wire


class Reader:
    """Bytes of a socket by line and by count."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, bytearray()

    def more(self):
        try:
            got = self.sock.recv(1 << 18)
        except TimeoutError as e:
            raise Silent(f"behind {bytes(self.buffer[-80:])!r}") from e
        except OSError as e:
            raise Cut(str(e)) from e
        self.buffer += got
        return bool(got)

    def line(self):
        while (at := self.buffer.find(b"\n")) < 0:
            if len(self.buffer) > MIB or not self.more():
                raise Cut("a line without an end" if self.buffer else "closed")
        line = bytes(self.buffer[:at + 1])
        del self.buffer[:at + 1]
        return line

    def some(self, most=1 << 18):
        """b"" at the end."""
        if not self.buffer and not self.more():
            return b""
        got = bytes(self.buffer[:most])
        del self.buffer[:most]
        return got

    def fields(self, raw=None):
        found = []
        while (line := self.line()) != b"\r\n":
            if raw is not None:
                raw += line
            if not line.endswith(b"\r\n") or b":" not in line:
                raise AssertionError(f"a field line that no strict reader takes: {line!r}")
            name, _, value = line[:-2].partition(b":")
            found.append((text(name), text(value.strip(b" \t"))))
        return found


class Exchange1(Both):
    def __init__(self, c, server):
        self.c, self.server, self.message = c, server, Message(version="h1")
        self.left, self.status, self.chunked_out, self.written = None, 0, False, None
        self.no_body = False
        self.came = self.over = False  # the head; the whole message

    # ---- reading

    def frame(self, until_end):
        """How the body of the head that came ends: self.left is a count, "chunked", or "end"."""
        m = self.message
        codings = [v.lower() for v in m.all("transfer-encoding")]
        if codings:
            assert codings == ["chunked"] and not m.all("content-length"), m.raw
            self.left = "chunked"
        elif m.get("content-length") is not None:
            assert len(m.all("content-length")) == 1 and m.get("content-length").isdigit(), m.raw
            self.left = int(m.get("content-length"))
        else:
            self.left = "end" if until_end else 0

    def read(self, most=1 << 18):
        if not self.server and not self.came:
            self.head()
        if self.over:
            return b""
        if self.left == "chunked":
            return self.read_chunk()
        if self.left == 0:
            self.over = True
            return b""
        got = self.c.reader.some(most if self.left == "end" else min(most, self.left))
        if not got:
            if self.left != "end":
                raise Cut(f"{self.left} bytes are missing")
            self.over = True
        elif self.left != "end":
            self.left -= len(got)
        return got

    def read_chunk(self):
        line = self.c.reader.line()
        assert line.endswith(b"\r\n"), line
        size = int(line[:-2].partition(b";")[0], 16)
        if not size:
            self.message.trailers = self.c.reader.fields()
            self.over = True
            return b""
        data = bytearray()
        while len(data) < size + 2:
            got = self.c.reader.some(size + 2 - len(data))
            if not got:
                raise Cut("in a chunk")
            data += got
        assert data.endswith(b"\r\n")
        return bytes(data[:-2])

    # ---- client

    def send(self, method, path, fields, body, host, length):
        self.message.method = method
        self.method = method
        head = [f"{method} {path} HTTP/1.1"]
        if host is not None:
            head.append(f"Host: {host}")
        head += [f"{n}: {v}" for n, v in fields]
        if body is STREAM:
            self.chunked_out = length is None
            head.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
        elif body or method in ("POST", "PUT"):
            head.append(f"Content-Length: {len(body)}")
        self.c.send("\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + (b"" if body is STREAM else body))

    def head(self):
        while not self.came:
            m = self.read_head()
            if 100 <= m.status < 200 and m.status != 101:
                self.message.informational.append(m)
                continue
            m.informational = self.message.informational
            self.message, self.came = m, True
            if self.method == "HEAD" or m.status in (204, 304):
                self.left = 0
            elif m.status == 101 or self.method == "CONNECT" and m.status // 100 == 2:
                assert not m.get("content-length") and not m.get("transfer-encoding"), m.raw
                self.left = "end"
            else:
                self.frame(True)
        return self.message

    def read_head(self):
        line = self.c.reader.line()
        raw = bytearray(line)
        assert line.startswith(b"HTTP/1.") and line.endswith(b"\r\n"), line
        version, status, reason = (line[:-2].split(b" ", 2) + [b""])[:3]
        return Message(int(status), text(reason), version=text(version), fields=self.c.reader.fields(raw),
                       raw=bytes(raw))

    # ---- server

    def take(self):
        """Reads a request's head; False at the end of the connection."""
        try:
            line = self.c.reader.line()
        except Cut:
            return False
        raw, m = bytearray(line), self.message
        m.method, m.path, m.version = text(line[:-2]).split(" ")
        assert line.endswith(b"\r\n"), line
        m.fields = self.c.reader.fields(raw)
        m.raw, m.authority = bytes(raw), m.get("host", "")
        self.frame(False)
        if m.method == "CONNECT" or m.get("upgrade") and "upgrade" in m.get("connection", "").lower():
            self.left = self.left or 0
        return True

    def inform(self, status, fields=()):
        self.c.send(f"HTTP/1.1 {status} Early\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields) + "\r\n")

    def start(self, status=200, fields=(), length=None):
        self.status = status
        head = [f"HTTP/1.1 {status} Of Origin", *(f"{n}: {v}" for n, v in fields)]
        if status == 101 or status // 100 == 2 and self.message.method == "CONNECT":
            self.left, self.over = "end", False  # a tunnel from here on
        elif status == 204:
            pass
        elif length is not None:
            head.append(f"Content-Length: {length}")
        elif self.message.version == "HTTP/1.0":
            self.c.last = True
        else:
            self.chunked_out = not self.silent
            head.append("Transfer-Encoding: chunked")
        if self.message.version == "HTTP/1.0" or "close" in self.message.get("connection", "").lower():
            self.c.last = True
            head.append("Connection: close")
        self.c.send("\r\n".join(head) + "\r\n\r\n")

    # ---- both

    def write(self, data):
        if data:
            self.c.send(b"%x\r\n%s\r\n" % (len(data), data) if self.chunked_out else data)

    def end(self, trailers=()):
        if self.chunked_out:
            self.c.send("0\r\n" + "".join(f"{n}: {v}\r\n" for n, v in trailers) + "\r\n")
        elif self.left == "end":
            with contextlib.suppress(OSError):
                self.c.sock.shutdown(socket.SHUT_WR)

    def reset(self, error=CANCEL):
        abort(self.c.sock)


class Connection1:
    version = "h1"

    def __init__(self, sock, origin=None, number=0, peer=""):
        self.sock, self.reader, self.last = sock, Reader(sock), False
        self.origin, self.number, self.peer = origin, number, peer
        sock.settimeout(None if origin else SECONDS)

    def send(self, data):
        try:
            self.sock.sendall(wire(data))
        except TimeoutError as e:
            raise Silent("not all was taken") from e
        except OSError as e:
            raise Cut(str(e)) from e

    def begin(self, method="GET", path="/", fields=(), body=b"", host="web", length=None, **_):
        x = Exchange1(self, False)
        x.send(method, path, fields, body, host, length)
        return x

    def expect(self, method="GET"):
        """An exchange for the answer to a request that send() has written."""
        x = Exchange1(self, False)
        x.method = method
        return x

    def ask(self, *request, **more):
        return self.begin(*request, **more).answer()

    def closed(self):
        """The other side closes, and says nothing before."""
        try:
            return not self.reader.some()
        except Cut:
            return True

    def close(self):
        hang_up(self.sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
