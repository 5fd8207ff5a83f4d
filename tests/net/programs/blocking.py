# SPDX-License-Identifier: Apache-2.0
"""
blocking.py echo PORT | talk HOST PORT SECONDS BYTES: plain blocking sockets and threads.

`talk` is a conversation for SECONDS, then BYTES there and back at once, half-close, end of stream; prints the digest.
"""

import hashlib
import random
import socket
import sys
import threading
import time


def serve(port):
    with socket.create_server(("0.0.0.0", port)) as listener:
        while True:
            threading.Thread(target=echo, args=(listener.accept()[0],)).start()


def echo(s):
    with s:
        while data := s.recv(65536):
            s.sendall(data)
        s.shutdown(socket.SHUT_WR)


def read(s, size):
    data = bytearray()
    while len(data) < size:
        piece = s.recv(size - len(data))
        if not piece:
            sys.exit(f"end of stream after {len(data)} of {size} bytes")
        data += piece
    return bytes(data)


def talk(host, port, seconds, size):
    s = socket.create_connection((host, port))
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    rnd, until = random.Random(5), time.monotonic() + seconds
    while time.monotonic() < until:
        message = rnd.randbytes(rnd.choice([1, 20, 500, 3000]))
        s.sendall(message)
        if read(s, len(message)) != message:
            sys.exit("another message came back")
    data = random.Random(6).randbytes(size)
    writer = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
    writer.start()
    back = read(s, size)
    if back != data or s.recv(1):
        sys.exit("other bytes came back")
    writer.join()
    print(hashlib.sha256(back).hexdigest())


if sys.argv[1] == "echo":
    serve(int(sys.argv[2]))
else:
    talk(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
