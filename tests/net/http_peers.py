# SPDX-License-Identifier: Apache-2.0
"""
Both ends of HTTP in the test's own hands, 1.1 and 2 with one face, so that a test is written once for any to any.

	origin = Origin(lab, "near", 8081, "h1")	answers what it saw, but for origin.on["/x"] = f(exchange)
	c = client(lab, "client", (vip, 80), "h2")
	x = c.begin("POST", "/x", body=STREAM); x.write(b"..."); x.end(trailers=[...]); x.answer().body

An exchange has the same methods at both ends: read() a piece (b"": the end), body(), write(), end(), reset(). A message
that was cut raises Cut: it is never an end. Names and values are str of latin-1, in order, as they came.
"""

import collections
import contextlib
import dataclasses
import hashlib
import json
import queue
import socket
import threading
import time

try:
    import hpack
    from hyperframe import exceptions, frame as frames
except ImportError as e:
    raise ImportError("no hpack and hyperframe: sh tools/setup.sh net installs python3-h2") from e

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAM = object()  # a body that will come by write() and end()
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CANCEL, CALM = 0, 1, 2, 7, 8, 11
MAX_STREAMS, WINDOW, FRAME_SIZE, CONNECT_PROTOCOL = 3, 4, 5, 8  # of SETTINGS
SECONDS = 30  # that anybody waits for the other side
MIB = 1 << 20


class Cut(Exception):
    """The message, or the connection that carried it, ended before its end."""


@dataclasses.dataclass
class Message:
    status: int = 0
    reason: str = ""
    method: str = ""
    path: str = ""
    authority: str = ""
    scheme: str = ""
    protocol: str = ""  # of an extended CONNECT
    version: str = ""
    fields: list = dataclasses.field(default_factory=list)
    body: bytes = b""
    trailers: list = dataclasses.field(default_factory=list)
    informational: list = dataclasses.field(default_factory=list)  # of Messages
    raw: bytes = b""  # the head as it came, HTTP/1

    def get(self, name, default=None):
        return next((v for n, v in self.fields if n.lower() == name), default)

    def all(self, name):
        return [v for n, v in self.fields if n.lower() == name]

    @property
    def seen(self):
        """What an echoing origin says it saw."""
        return json.loads(self.body)


def text(b):
    return bytes(b).decode("latin-1")


def wire(s):
    return s if isinstance(s, bytes) else str(s).encode("latin-1")


def abort(sock):
    """An end by RST."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    hang_up(sock)


def hang_up(sock):
    """Ends it also for a thread that sleeps in recv()."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RD)
    sock.close()


class Both:
    """What exchanges of both versions and both ends share."""

    def __iter__(self):
        while piece := self.read():
            yield piece

    def rest(self):
        return b"".join(self)

    # ---- as a client

    def answer(self):
        """The whole answer; Cut if it is not whole."""
        self.head()
        self.message.body = self.rest()
        return self.message

    # ---- as a server

    def respond(self, status=200, body=b"", fields=(), trailers=()):
        body = wire(body)
        self.start(status, fields, length=None if trailers else len(body))
        if body and not self.silent:
            self.write(body)
        self.end(trailers)

    @property
    def silent(self):
        """May the answer have no body?"""
        return self.message.method == "HEAD" or self.status in (204, 304)


# ------------------------------------------------------------------ HTTP/1


class Reader:
    """Bytes of a socket by line and by count."""

    def __init__(self, sock):
        self.sock, self.buffer = sock, bytearray()

    def more(self):
        try:
            got = self.sock.recv(1 << 18)
        except (TimeoutError, OSError) as e:
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


# ------------------------------------------------------------------ HTTP/2


class Exchange2(Both):
    """A stream. Its state is changed by the connection's reader, under its lock."""

    def __init__(self, c, number, window):
        self.c, self.number, self.window, self.message = c, number, window, Message(version="h2")
        self.method, self.status, self.came, self.ended, self.error = "", 0, False, False, None
        self.data, self.over, self.we_ended = collections.deque(), False, False

    def take_fields(self, fields, server, end):
        pseudo = {n: v for n, v in fields if n.startswith(":")}
        rest = [(n, v) for n, v in fields if not n.startswith(":")]
        if self.came:
            self.message.trailers = rest
        elif server:
            self.message = Message(method=pseudo.get(":method", ""), path=pseudo.get(":path", ""), version="h2",
                                   authority=pseudo.get(":authority", ""), scheme=pseudo.get(":scheme", ""),
                                   protocol=pseudo.get(":protocol", ""), fields=rest)
            self.came = True
        else:
            m = Message(int(pseudo[":status"]), version="h2", fields=rest)
            if 100 <= m.status < 200:
                assert not end, "END_STREAM on an informational answer"
                self.message.informational.append(m)
                return
            m.informational = self.message.informational
            self.message, self.came = m, True

    def failed(self):
        if self.error is not None:
            return f"RST_STREAM {self.error}"
        return self.c.over

    def head(self):
        self.c.until(lambda: self.came or self.failed())
        if not self.came:
            raise Cut(self.failed())
        return self.message

    def read(self, most=None):
        self.c.until(lambda: self.data or self.ended or self.failed())
        if self.data:
            got, length = self.data.popleft()
            if length and not self.ended:
                with contextlib.suppress(Cut):
                    self.c.send(frames.WindowUpdateFrame(self.number, window_increment=length))
            return got or self.read()
        if not self.ended:
            raise Cut(self.failed())
        return b""

    # ---- server

    def inform(self, status, fields=()):
        self.c.head(self.number, [(":status", str(status)), *lower(fields)], False)

    def start(self, status=200, fields=(), length=None):
        self.status = status
        more = [] if length is None or status == 204 else [("content-length", str(length))]
        self.we_ended = length == 0 or self.silent
        self.c.head(self.number, [(":status", str(status)), *lower(fields), *more], self.we_ended)

    # ---- both

    def write(self, data):
        data = memoryview(wire(data))
        while data:
            self.c.until(lambda: min(self.window, self.c.window) > 0 or self.failed())
            with self.c.changed:
                if self.failed():
                    raise Cut(self.failed())
                n = max(0, min(len(data), 16384, self.window, self.c.window))
                self.window -= n
                self.c.window -= n
            if n:
                self.c.send(frames.DataFrame(self.number, bytes(data[:n])))
                data = data[n:]

    def end(self, trailers=()):
        if self.we_ended:
            return
        self.we_ended = True
        if trailers:
            self.c.head(self.number, lower(trailers), True)
        else:
            self.c.send(frames.DataFrame(self.number, b"", flags=["END_STREAM"]))

    def reset(self, error=CANCEL):
        self.c.send(frames.RstStreamFrame(self.number, error_code=error))


def lower(fields):
    return [(n.lower(), str(v)) for n, v in fields]


class Connection2:
    """`reads` False: nobody takes what comes, until resume()."""

    version = "h2"

    def __init__(self, sock, origin=None, number=0, peer="", settings=None, reads=True, hello=True):
        self.sock, self.server, self.origin, self.number, self.peer = sock, origin is not None, origin, number, peer
        self.changed, self.writing = threading.Condition(), threading.Lock()
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.decoder.max_header_list_size = MIB
        self.window, self.settings, self.streams, self.next = 65535, {}, {}, 1
        self.goaway, self.over, self.pongs, self.received = None, "", 0, collections.Counter()
        sock.settimeout(None)
        if hello:
            first = frames.SettingsFrame(0, settings={WINDOW: MIB, **(settings or {})}).serialize()
            first += frames.WindowUpdateFrame(0, window_increment=16 * MIB).serialize()
            self.send((b"" if self.server else PREFACE) + first)
        self.gate = threading.Event()
        if reads:
            self.gate.set()
        threading.Thread(target=self.run, daemon=True).start()

    def resume(self):
        self.gate.set()

    def send(self, *several):
        """Frames, or bytes that are said to be some."""
        with self.writing:
            self.put(*several)

    def put(self, *several):
        try:
            self.sock.sendall(b"".join(f if isinstance(f, bytes) else f.serialize() for f in several))
        except OSError as e:
            with self.changed:
                self.over = self.over or str(e)
                self.changed.notify_all()
            raise Cut(str(e)) from e

    def head(self, number, fields, end):
        with self.writing:
            small = sum(len(v) for _, v in fields) < 65536  # the encoder's time for a long text is its square
            block, flags = self.encoder.encode(fields, huffman=small), ["END_STREAM"] if end else []
            parts = [block[i:i + 16384] for i in range(0, len(block), 16384)] or [b""]
            made = [frames.HeadersFrame(number, parts[0], flags=flags)]
            made += [frames.ContinuationFrame(number, p) for p in parts[1:]]
            made[-1].flags.add("END_HEADERS")
            self.put(*made)

    def until(self, condition, seconds=SECONDS):
        with self.changed:
            if not self.changed.wait_for(condition, seconds):
                raise Cut("the other side says nothing")

    # ---- client

    def begin(self, method="GET", path="/", fields=(), body=b"", host="web", length=None, protocol=None):
        pseudo = [(":method", method)]
        if method != "CONNECT" or protocol:
            pseudo += [(":scheme", "http"), (":path", path)]
        if host is not None:
            pseudo.append((":authority", path if method == "CONNECT" and not protocol else host))
        if protocol:
            pseudo.append((":protocol", protocol))
        fields = [*pseudo, *lower(f for f in fields if f[0].lower() not in ("connection", "upgrade"))]
        if body is not STREAM and body or length is not None:
            fields.append(("content-length", str(len(body) if length is None else length)))
        end = body is not STREAM and not body and method != "CONNECT"
        with self.changed:
            self.until(lambda: self.settings.get(MAX_STREAMS, 100) > self.active() or self.over)
            x = Exchange2(self, self.next, self.settings.get(WINDOW, 65535))
            x.method, x.we_ended = method, end
            self.streams[self.next] = x
            self.next += 2
            self.head(x.number, fields, end)
        if body is not STREAM and body:
            x.write(body)
            x.end()
        return x

    def active(self):
        return sum(1 for s in self.streams.values() if not s.ended and s.error is None)

    def ask(self, *request, **more):
        x = self.begin(*request, **more)
        try:
            return x.answer()
        finally:
            self.streams.pop(x.number, None)

    # ---- what is said to us

    def run(self):
        self.gate.wait()
        buffer, preface = bytearray(), self.server
        try:
            while more := self.sock.recv(1 << 18):
                buffer += more
                if preface and len(buffer) >= len(PREFACE):
                    assert buffer.startswith(PREFACE), bytes(buffer[:40])
                    del buffer[:len(PREFACE)]
                    preface = False
                while not preface and len(buffer) >= 9:
                    f, length = frames.Frame.parse_frame_header(memoryview(bytes(buffer[:9])))
                    if len(buffer) < 9 + length:
                        break
                    f.parse_body(memoryview(bytes(buffer[9:9 + length])))
                    del buffer[:9 + length]
                    self.take(f, length)
            why = "closed"
        except (OSError, Cut, exceptions.HyperframeError) as e:
            why = str(e) or type(e).__name__
        except BaseException as e:
            why = f"{type(e).__name__}: {e}"
            raise
        finally:
            with self.changed:
                self.over = self.over or why
                self.changed.notify_all()
            if self.server:
                abort(self.sock) if why != "closed" else hang_up(self.sock)

    def take(self, f, length):
        self.received[type(f).__name__] += 1
        reply = []
        with self.changed:
            x = self.streams.get(f.stream_id)
            if isinstance(f, frames.SettingsFrame) and "ACK" not in f.flags:
                by = f.settings.get(WINDOW, self.settings.get(WINDOW, 65535)) - self.settings.get(WINDOW, 65535)
                self.settings.update(f.settings)
                for s in self.streams.values():
                    s.window += by
                reply = [frames.SettingsFrame(0, flags=["ACK"])]
            elif isinstance(f, frames.PingFrame):
                self.pongs += "ACK" in f.flags
                reply = [] if "ACK" in f.flags else [frames.PingFrame(0, opaque_data=f.opaque_data, flags=["ACK"])]
            elif isinstance(f, frames.GoAwayFrame):
                self.goaway = f
                for s in self.streams.values():
                    if s.number > f.last_stream_id and not self.server and s.error is None:
                        s.error = REFUSED_STREAM
            elif isinstance(f, frames.WindowUpdateFrame):
                if f.stream_id == 0:
                    self.window += f.window_increment
                elif x:
                    x.window += f.window_increment
            elif isinstance(f, frames.RstStreamFrame) and x:
                x.error = f.error_code
            elif isinstance(f, frames.DataFrame):
                if length:
                    reply = [frames.WindowUpdateFrame(0, window_increment=length)]
                if x:
                    x.data.append((bytes(f.data), length))
                    x.ended |= "END_STREAM" in f.flags
            elif isinstance(f, (frames.HeadersFrame, frames.ContinuationFrame)):
                self.take_head(f, x)
            self.changed.notify_all()
        if reply:
            self.send(*reply)

    def take_head(self, f, x):
        if isinstance(f, frames.HeadersFrame):
            self.block, self.ends = bytearray(), "END_STREAM" in f.flags
        self.block += f.data
        if "END_HEADERS" not in f.flags:
            return
        fields = [(text(n), text(v)) for n, v in self.decoder.decode(bytes(self.block), raw=True)]
        if not x and self.server:
            x = self.streams[f.stream_id] = Exchange2(self, f.stream_id, self.settings.get(WINDOW, 65535))
            x.take_fields(fields, True, self.ends)
            x.ended |= self.ends
            threading.Thread(target=self.origin.one, args=(x,), daemon=True).start()
        elif x:
            x.take_fields(fields, self.server, self.ends)
            x.ended |= self.ends

    def close(self):
        self.gate.set()
        hang_up(self.sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def client(lab, pod, to, version="h1", **options):
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    sock = lab.socket(pod, family)
    sock.settimeout(SECONDS)
    sock.connect(to)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Connection1(sock) if version == "h1" else Connection2(sock, **options)


# ------------------------------------------------------------------ origins


def echo(x):
    """Answers what it saw: who, by which version, every field in order, the body and the trailers."""
    m, body = x.message, x.rest()
    seen = {"who": x.c.origin.who, "version": x.c.version, "connection": x.c.number, "client": x.c.peer,
            "method": m.method, "path": m.path, "authority": m.authority, "scheme": m.scheme, "fields": m.fields,
            "raw": text(m.raw), "length": len(body), "sha256": hashlib.sha256(body).hexdigest(),
            "body": text(body[:4096]), "trailers": m.trailers}
    x.respond(200, json.dumps(seen), [("Content-Type", "application/json"), ("X-Who", x.c.origin.who)])


class Origin:
    """
    A server of one version in a pod. `on` {path without query: what answers}, `otherwise` for the rest. What fails in
    a handler other than by Cut is kept in `failed`, which check() raises.
    """

    def __init__(self, lab, pod, port, version="h1", who=None, otherwise=echo, settings=None):
        self.who, self.version, self.otherwise, self.on = who or pod, version, otherwise, {}
        self.settings, self.failed, self.requests, self.connections = settings, [], [], []
        self.listener = lab.socket(pod, socket.AF_INET6)
        self.listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("::", port))
        self.listener.listen(1024)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, peer = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            where = (sock, self, len(self.connections), peer[0].removeprefix("::ffff:"))
            if self.version == "h1":
                c = Connection1(*where)
                threading.Thread(target=self.serve, args=(c,), daemon=True).start()
            else:
                c = Connection2(*where, settings=self.settings)
            self.connections.append(c)

    def serve(self, c):
        while not c.last:
            x = Exchange1(c, True)
            try:
                if not x.take():
                    break
            except (Cut, AssertionError, ValueError) as e:
                self.failed.append(e)
                break
            if not self.one(x):
                break
        c.close()

    def one(self, x):
        self.requests.append(x.message)
        try:
            self.on.get(x.message.path.partition("?")[0], self.otherwise)(x)
            return True if self.version == "h2" else x.over or not x.rest()
        except Cut:
            return False
        except Exception as e:
            self.failed.append(e)
            abort(x.c.sock)
            return False

    def close(self):
        hang_up(self.listener)
        for c in self.connections:
            c.close()

    def check(self):
        failed, self.failed = self.failed, []
        if failed:
            raise failed[0]


class Held:
    """A handler that keeps each exchange for the test: x = held.next()."""

    def __init__(self):
        self.came, self.done = queue.Queue(), threading.Event()

    def __call__(self, x):
        x.released = threading.Event()
        self.came.put(x)
        x.released.wait(4 * SECONDS)

    def next(self):
        return self.came.get(timeout=SECONDS)


def pattern(size, seed=7):
    """`size` bytes that tell where a piece of them was left out."""
    block = b"".join(hashlib.sha256(b"%d %d" % (seed, i)).digest() for i in range(min(size, MIB) // 32 + 1))
    return (block * (size // len(block) + 1))[:size]


def digest_of(x, pause=0):
    """Reads a body to its end: (bytes, digest)."""
    size, digest = 0, hashlib.sha256()
    for piece in x:
        size += len(piece)
        digest.update(piece)
        if pause:
            time.sleep(pause)  # a slow reader
    return size, digest.hexdigest()
