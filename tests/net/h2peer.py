# SPDX-License-Identifier: Apache-2.0
"""
An HTTP/2 peer over TLS in the test's own hands, either end of a connection: it says frame by frame what the test wants
said (hyperframe and hpack, on which python3-h2 stands), right or wrong, and keeps what was said to it.
"""

import itertools
import socket
import ssl
import time

try:
    import hpack
    from hyperframe import frame as frames
except ImportError as e:
    raise ImportError("no hpack and hyperframe: sh tools/setup.sh net installs python3-h2") from e

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NO_ERROR, PROTOCOL_ERROR, REFUSED_STREAM, CANCEL, CONNECT_ERROR, ENHANCE_YOUR_CALM = 0, 1, 7, 8, 10, 11
MAX_STREAMS, WINDOW, FRAME_SIZE = 3, 4, 5  # of SETTINGS
MIB = 1 << 20


class Ended(Exception):
    """The other side has closed or reset the connection."""


def context(folder, leaf, server, alpn=("h2",)):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    c.minimum_version = ssl.TLSVersion.TLSv1_3
    c.check_hostname = False  # there are no host names, only SPIFFE ids
    c.verify_mode = ssl.CERT_REQUIRED
    c.load_verify_locations(folder / "ca.pem")
    if leaf:
        c.load_cert_chain(folder / f"{leaf}.pem", folder / f"{leaf}.key")
    if alpn:
        c.set_alpn_protocols(list(alpn))
    return c


class Tls:
    """
    TLS over a socket that OpenSSL knows nothing of. It keeps the error of a write that failed in a queue of the
    thread's, and Python 3.13 with OpenSSL 3.5 takes it from there for the next read's, of whatever connection.
    """

    def __init__(self, context, sock, server=False):
        self.sock, self.inward, self.outward = sock, ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.inward, self.outward, server_side=server)
        self.error = None  # came behind what was read last
        while not self.shaken():
            self.fill()

    def shaken(self):
        try:
            self.tls.do_handshake()
            return True
        except ssl.SSLWantReadError:
            return False
        finally:
            self.flush()

    def flush(self):
        if self.outward.pending:
            self.sock.sendall(self.outward.read())

    def fill(self):
        more = self.sock.recv(1 << 18)
        if more:
            self.inward.write(more)
        else:
            self.inward.write_eof()

    def ready(self):
        """All that has come, so that the socket is readable if there is more; None: nothing, b"" at the end."""
        got = []
        while self.error is None:
            try:
                got.append(self.tls.read(1 << 18))
            except ssl.SSLWantReadError:
                break
            except ssl.SSLEOFError:
                got.append(b"")
            except ssl.SSLError as e:
                self.error = e
            if got and not got[-1]:
                break
        self.flush()
        if self.error and not got:
            raise self.error
        return b"".join(got) if got else None

    def recv(self, _):
        while (got := self.ready()) is None:
            self.fill()
        return got

    def sendall(self, data):
        self.tls.write(data)
        self.flush()

    def fileno(self):
        return self.sock.fileno()

    def settimeout(self, seconds):
        self.sock.settimeout(seconds)

    def setsockopt(self, *option):
        self.sock.setsockopt(*option)

    def shutdown(self, how):
        self.sock.shutdown(how)

    def close(self):
        self.sock.close()


class Stream:
    def __init__(self, window):
        self.headers, self.data, self.window = {}, bytearray(), window
        self.ended, self.reset, self.answered = False, None, False

    @property
    def status(self):
        return int(self.headers.get(":status", 0))


class Peer:
    """
    `opens_windows`: tells the other side of every byte that it was read, as it comes. `takes`: streams at once, all
    others are refused; None: any number.
    """

    def __init__(self, sock, client, settings=None, opens_windows=True, answers_pings=True, hello=True, takes=None):
        self.sock, self.client, self.takes = sock, client, takes
        self.opens_windows, self.answers_pings = opens_windows, answers_pings
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        self.received, self.fields, self.largest = bytearray(), None, 0
        self.settings, self.window, self.goaway = None, 65535, None
        self.pongs, self.asked = 0, []  # of the other side's CONNECTs, which nobody took yet
        self.ids = itertools.count(1, 2)
        self.streams = {}
        self.over = False  # the other side has ended the connection
        self.preface = b"" if client else PREFACE
        if hello:
            if client:
                self.sock.sendall(PREFACE)
            self.send(frames.SettingsFrame(0, settings=settings or {}))

    def close(self):
        self.sock.close()

    # ---- what we say

    def send(self, *several):
        """Frames, or bytes that are said to be one."""
        try:
            self.sock.sendall(b"".join(f if isinstance(f, bytes) else f.serialize() for f in several))
        except OSError as e:
            raise Ended(str(e)) from e

    def ask(self, authority, method="CONNECT", **more):
        """A request; gives its stream id. Names in `more` begin with `_` for `:`."""
        fields = [(":method", method), (":authority", authority)] if authority is not None else [(":method", method)]
        fields += [(name.replace("_", ":", 1) if name[0] == "_" else name, value) for name, value in more.items()]
        i = next(self.ids)
        self.streams[i] = Stream((self.settings or {}).get(WINDOW, 65535))
        self.send(frames.HeadersFrame(i, self.encoder.encode(fields), flags=["END_HEADERS"]))
        return i

    def answer(self, i, status=200, end=False, **more):
        fields = [(":status", str(status)), *more.items()]
        flags = ["END_HEADERS"] + (["END_STREAM"] if end else [])
        self.streams[i].answered = True
        self.send(frames.HeadersFrame(i, self.encoder.encode(fields), flags=flags))

    def data(self, i, data=b"", end=False, most=16384, seconds=60):
        """As much as the other side has room for, until all is said."""
        stream, data = self.streams[i], memoryview(data)
        while data:
            self.until(lambda: min(self.window, stream.window) > 0 or stream.reset is not None, seconds)
            if stream.reset is not None:
                raise Ended(f"stream {i}: reset {stream.reset}")
            n = min(len(data), most, self.window, stream.window)
            self.send(frames.DataFrame(i, bytes(data[:n])))
            self.window, stream.window, data = self.window - n, stream.window - n, data[n:]
        if end:
            self.send(frames.DataFrame(i, b"", flags=["END_STREAM"]))

    def reset(self, i, code):
        self.send(frames.RstStreamFrame(i, error_code=code))

    def open_window(self, i, by):
        self.send(frames.WindowUpdateFrame(i, window_increment=by))

    def allow(self, streams):
        self.takes = streams
        self.send(frames.SettingsFrame(0, settings={MAX_STREAMS: streams}))

    def leave(self, last, code=NO_ERROR):
        self.send(frames.GoAwayFrame(0, last_stream_id=last, error_code=code))

    def live(self):
        return sum(s.reset is None for s in self.streams.values())

    # ---- what is said to us

    def until(self, condition, seconds=60):
        """Reads until it is so; Ended if the connection is before, TimeoutError after `seconds`."""
        end = time.monotonic() + seconds
        while not condition():
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError("the other side has not said it")
            self.sock.settimeout(left)
            try:
                more = self.sock.recv(1 << 18)
            except (TimeoutError, socket.timeout) as e:
                raise TimeoutError("the other side says nothing") from e
            except OSError as e:
                self.over = True
                raise Ended(str(e)) from e
            finally:
                self.sock.settimeout(30)
            if not more:
                self.over = True
                raise Ended("closed")
            self.take(more)

    def listen(self, seconds):
        """Takes what comes meanwhile, if anything."""
        try:
            self.until(lambda: False, seconds)
        except (TimeoutError, Ended):
            pass

    def until_ended(self, seconds=60):
        """The other side ends the connection; what it said before is kept."""
        try:
            self.until(lambda: False, seconds)
        except Ended as e:
            return str(e)
        raise AssertionError("unreachable")

    def status(self, i, seconds=60):
        stream = self.streams[i]
        self.until(lambda: stream.status or stream.reset is not None, seconds)
        return stream.status or -stream.reset

    def read(self, i, count, seconds=60):
        stream = self.streams[i]
        self.until(lambda: len(stream.data) >= count or stream.reset is not None or stream.ended, seconds)
        taken = bytes(stream.data[:count])
        del stream.data[:count]
        return taken

    def take(self, more):
        self.received += more
        if self.preface and len(self.received) >= len(PREFACE):
            assert self.received.startswith(PREFACE), self.received[:24]
            del self.received[:len(PREFACE)]
            self.preface = b""
        while not self.preface and len(self.received) >= 9:
            f, length = frames.Frame.parse_frame_header(memoryview(bytes(self.received[:9])))
            if len(self.received) < 9 + length:
                break
            f.parse_body(memoryview(bytes(self.received[9:9 + length])))
            del self.received[:9 + length]
            self.largest = max(self.largest, length)
            self.take_frame(f, length)

    def take_frame(self, f, length):
        stream = self.streams.get(f.stream_id)
        if isinstance(f, frames.SettingsFrame):
            if "ACK" not in f.flags:
                before = (self.settings or {}).get(WINDOW, 65535)
                self.settings = {**(self.settings or {}), **f.settings}
                for s in self.streams.values():
                    s.window += self.settings.get(WINDOW, 65535) - before
                self.send(frames.SettingsFrame(0, flags=["ACK"]))
        elif isinstance(f, frames.PingFrame):
            if "ACK" in f.flags:
                self.pongs += 1
            elif self.answers_pings:
                self.send(frames.PingFrame(0, opaque_data=f.opaque_data, flags=["ACK"]))
        elif isinstance(f, frames.GoAwayFrame):
            self.goaway = f
        elif isinstance(f, frames.WindowUpdateFrame):
            if f.stream_id == 0:
                self.window += f.window_increment
            elif stream:
                stream.window += f.window_increment
        elif isinstance(f, frames.HeadersFrame):
            if not stream:
                stream = self.streams[f.stream_id] = Stream((self.settings or {}).get(WINDOW, 65535))
                if self.takes is None or self.live() <= self.takes:
                    self.asked.append(f.stream_id)
                else:
                    self.reset(f.stream_id, REFUSED_STREAM)
                    stream.reset = REFUSED_STREAM
            stream.headers = dict(self.decoder.decode(f.data))
            stream.ended |= "END_STREAM" in f.flags
        elif isinstance(f, frames.RstStreamFrame) and stream:
            stream.reset = f.error_code
        elif isinstance(f, frames.DataFrame) and stream:
            stream.data += f.data
            stream.ended |= "END_STREAM" in f.flags
            if length and self.opens_windows:
                self.open_window(0, length)
                if not stream.ended:
                    self.open_window(f.stream_id, length)
