# SPDX-License-Identifier: Apache-2.0
"""
HTTP/2 by hpack and hyperframe, as a client and as a server: http_peers.py says how it is used. A thread of each
connection reads.
"""

import collections
import contextlib
import threading

try:
    import hpack
    from hyperframe import exceptions, frame as frames
except ImportError as e:
    raise ImportError("no hpack and hyperframe: sh tools/setup.sh net installs python3-h2") from e

from http_message import CANCEL, MIB, SECONDS, STREAM, Both, Cut, Message, Silent, abort, hang_up, text, wire

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, REFUSED_STREAM, CALM = 0, 1, 2, 7, 11
MAX_STREAMS, WINDOW, FRAME_SIZE, CONNECT_PROTOCOL = 3, 4, 5, 8  # of SETTINGS


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
        with self.turn():
            self.put(*several)

    @contextlib.contextmanager
    def turn(self):
        """To write. Who asks for it may hold `changed`; who has it never asks for that."""
        try:
            with self.writing:
                yield
        except OSError as e:
            self.is_over(str(e))
            raise Cut(str(e)) from e

    def is_over(self, why):
        with self.changed:
            self.over = self.over or why
            self.changed.notify_all()

    def put(self, *several):
        self.sock.sendall(b"".join(f if isinstance(f, bytes) else f.serialize() for f in several))

    def head(self, number, fields, end):
        with self.turn():
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
                raise Silent("of HTTP/2")

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
            self.is_over(why)
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
