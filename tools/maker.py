# SPDX-License-Identifier: Apache-2.0
"""
maker: sockets of a pod for a process that is outside. A child has to go inside and make them, and to fork takes the
longer the more memory a process has: a run of all tests has a gigabyte in the end, and 30 ms for each socket. So one
process is forked while we are small, and it forks for us.
"""

import array
import os
import pickle
import signal
import socket
import threading

AT_ONCE = 200  # file descriptors in a message; the kernel takes 253


def make(answer, enter, place, count, kind):
    enter(*place)
    for left in range(count, 0, -AT_ONCE):
        made = [socket.socket(*kind) for _ in range(min(left, AT_ONCE))]
        answer.sendmsg([b"s"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [s.fileno() for s in made]))])
        del made


def serve(control, enter):
    """Until whoever forked us has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        asked, rights, _, _ = control.recvmsg(65536, socket.CMSG_SPACE(4))
        if not asked:
            return
        with socket.socket(fileno=array.array("i", rights[0][2])[0]) as answer:
            child = os.fork()
            if not child:
                try:
                    make(answer, enter, *pickle.loads(asked))
                finally:
                    os._exit(0)
            os.waitpid(child, 0)  # it has left the pod before the answer ends


class Maker:
    def __init__(self, enter):
        self.enter = enter
        self.control = None
        self.lock = threading.Lock()

    def start(self):
        with self.lock:
            if self.control:
                return
            self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            if not os.fork():
                try:
                    self.control.close()
                    serve(theirs, self.enter)
                finally:
                    os._exit(0)
            theirs.close()

    def sockets(self, place, count, *kind):
        """File descriptors of `count` sockets; fewer if it could not make them. kind: family, type, protocol."""
        self.start()
        fds = []
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                self.control.sendmsg([pickle.dumps((tuple(place), count, tuple(map(int, kind))))],
                                     [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))])
            while True:
                data, control, _, _ = ours.recvmsg(1, socket.CMSG_SPACE(AT_ONCE * 4))
                if not data:
                    return fds
                for _, _, payload in control:
                    fds += array.array("i", payload).tolist()
