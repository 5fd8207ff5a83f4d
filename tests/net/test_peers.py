# SPDX-License-Identifier: Apache-2.0
"""The peers of the other tests: what breaks under them ends in them, too."""

import threading

import pytest

from http2_peer import Connection2
from http_message import Cut


class Breaking:
    """A socket that breaks while somebody sends, once another is in the middle of a request."""

    def __init__(self):
        self.asking = threading.Event()

    def settimeout(self, seconds):
        pass

    def sendall(self, data):
        assert self.asking.wait(10)
        raise OSError("broken")


def test_a_connection_that_breaks_under_its_reader_ends_for_a_request_too():
    sock = Breaking()
    c = Connection2(sock, reads=False, hello=False)
    ends = []

    def reader():
        with pytest.raises(Cut):
            c.send(b"what the reader answers")
        ends.append("reader")

    def request():
        with c.changed, pytest.raises(Cut):  # as begin() does
            sock.asking.set()
            c.head(1, [(":method", "GET")], True)
        ends.append("request")

    threads = [threading.Thread(target=f, daemon=True) for f in (reader, request)]
    threads[0].start()
    while not c.writing.locked():
        assert threads[0].is_alive()
    threads[1].start()
    for t in threads:
        t.join(10)
    assert sorted(ends) == ["reader", "request"]
    assert c.over == "broken"
