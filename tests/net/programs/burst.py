# SPDX-License-Identifier: Apache-2.0
"""
A burst: bytes of a pattern that says of each byte where it belongs, written at one socket in pieces of random size
and read at another one slowly. For readers in the middle that may lose or swap some.
"""

import random
import socket
import struct
import threading
import time

PIECES = (100, 1000, 4000, 16384, 65536, 200_000)
SMALL, SMALL_UNTIL = (1, 100, 1000, 4000), 1 << 20  # every other burst begins so: a splice may queue most of it
STALL = 12  # seconds without a byte: a hang


def pattern(start, size):
    """The bytes [start, start + size) of the stream of 64-bit numbers 0, 1, 2 ..."""
    first = start // 8
    numbers = range(first, (start + size + 7) // 8)
    return struct.pack(f"<{len(numbers)}Q", *numbers)[start - first * 8:][:size]


class Burst:
    """
    The same stream goes on with each burst: what an earlier one lost, a later one would show. `rate`: bytes a second
    that the reader takes at most.
    """

    def __init__(self, rate, seed):
        self.writer = self.reader = None
        self.rate, self.random = rate, random.Random(seed)
        self.pieces = SMALL if seed % 2 else PIECES
        self.written = self.got = 0
        self.error = self.writing = None  # of the writer

    def begin(self, writer, size):
        """Begins to write, in a thread of its own."""
        self.writer = writer
        writer.settimeout(STALL)
        self.writing = threading.Thread(target=self.write, args=(size,))
        self.writing.start()

    def write(self, size):
        try:
            end = self.written + size
            while self.written < end:
                pieces = self.pieces if self.written < SMALL_UNTIL else PIECES
                piece = pattern(self.written, min(self.random.choice(pieces), end - self.written))
                self.writer.sendall(piece)
                self.written += len(piece)
        except OSError as error:
            self.error = error

    def read(self, size):
        """Slowly, with pauses. True: all came, in order; False: the connection ended before, in order so far."""
        start, end, begun, rnd = self.got, self.got + size, time.monotonic(), random.Random(self.got)
        while self.got < end:
            try:
                data = self.reader.recv(min(rnd.choice((1000, 30_000, 150_000)), end - self.got))
            except socket.timeout:
                raise AssertionError(f"a hang: the reader got {self.got} bytes, the writer wrote {self.written} and "
                                     f"{'failed: ' + str(self.error) if self.error else 'waits'}") from None
            except OSError as error:
                self.error = self.error or error
                return False
            if not data:
                return False
            want = pattern(self.got, len(data))
            assert data == want, self.wrong(data, want)
            self.got += len(data)
            ahead = (self.got - start) / self.rate - (time.monotonic() - begun)
            if ahead > 0.02:
                time.sleep(rnd.choice((ahead, 2 * ahead)))  # a slow reader that stops and goes: it is what is tested
        return True

    def wrong(self, data, want):
        at = next(n for n in range(len(data)) if data[n] != want[n])
        return (f"a wrong byte: at {self.got + at} came {data[at:at + 16].hex()} in place of "
                f"{want[at:at + 16].hex()} (64-bit numbers, one after the other)")

    def end(self, reader, size):
        """Reads what begin() writes. True if all came, False if the connection was ended."""
        self.reader, whole = reader, False
        reader.settimeout(STALL)
        try:
            whole = self.read(size)
        finally:
            if not whole:
                reader.close()  # the writer need not wait for somebody who has gone
            self.join()
        return whole

    def join(self):
        self.writing.join(2 * STALL)
        assert not self.writing.is_alive(), f"a hang: the writer wrote {self.written} bytes, {self.got} were read"
