# SPDX-License-Identifier: Apache-2.0
"""
What both versions of http_peers.py share: messages, and how one can fail to be one. Names and values are str of
latin-1, in order, as they came.
"""

import contextlib
import dataclasses
import json
import socket

STREAM = object()  # a body that will come by write() and end()
CANCEL = 8  # RFC 9113 section 7
SECONDS = 30  # that anybody waits for the other side
MIB = 1 << 20


class Cut(Exception):
    """The message, or the connection that carried it, ended before its end."""


class Silent(Exception):
    """Nothing came, or nothing was taken, for as long as it was waited for."""


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
