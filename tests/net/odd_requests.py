# SPDX-License-Identifier: Apache-2.0
"""
Requests of HTTP/1 that are odd: ACCEPTED are right by RFC 9112, however rare; REFUSED must be answered with 400 (501: a
coding) and the end of the connection; generated() makes many of which nobody knows beforehand what they are.
"""

import itertools
import random

INNER = b"GET /smuggled HTTP/1.1\r\nHost: inner\r\n\r\n"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"


def post(*lines, body=b"", version=b"1.1", host=b"Host: odd", target=b"/odd"):
    head = b"\r\n".join([b"POST %s HTTP/%s" % (target, version), *([host] if host else []),
                         *(line.encode("latin-1") if isinstance(line, str) else line for line in lines)])
    return head + b"\r\n\r\n" + body


def get(*lines, **more):
    return post(*lines, **more).replace(b"POST", b"GET", 1)


def chunked(body, *lines):
    return post("Transfer-Encoding: chunked", *lines, body=body)


ACCEPTED = {
    "plain": get(), "empty value": get("X-Empty:"), "blanks around a value": get("X:  \t a \t "),
    "no blank": get("X:a"), "tchar name": get("!#$%&'*+-.^_`|~09aZ: x"), "high bytes in a value": get(b"X: \x80\xff"),
    "absolute form": get(target=b"http://odd/odd"), "absolute form wins over Host": get(target=b"http://odd/x"),
    "host with port": get(host=b"Host: odd:80"), "IPv6 host": get(host=b"Host: [::1]:80"),
    "a method of its own": get().replace(b"GET", b"X-YZ", 1), "empty lines before": b"\r\n" + get(),
    "cl": post("Content-Length: 5", body=b"hello"), "cl zero": post("Content-Length: 0"),
    "cl leading zeros": post("Content-Length: 0005", body=b"hello"),
    "chunked": chunked(CHUNKS), "Chunked": post("Transfer-Encoding: Chunked", body=CHUNKS),
    "chunk leading zeros": chunked(b"0005\r\nhello\r\n000\r\n\r\n"), "chunk hex": chunked(b"A\r\n0123456789\r\na\r\n"
                                                                                       b"0123456789\r\n0\r\n\r\n"),
    "chunk extension": chunked(b"5;a=b;c=\"d\"\r\nhello\r\n0;last\r\n\r\n"),
    "trailers": chunked(b"5\r\nhello\r\n0\r\nX-T: 1\r\n\r\n"), "1.0": get(version=b"1.0"),
    "1.0 without host": get(version=b"1.0", host=None), "query of everything": get(target=b"/odd?a=b&c[]=%20/?:@"),
    "expect": post("Expect: 100-continue", "Content-Length: 5", body=b"hello"),
}

_lengths = ["+5", "-5", "0x5", "5 5", "5,", ",5", "5;", "5.0", "1_0", "18446744073709551616", "18446744073709551621",
            "99999999999999999999999", "five", "\"5\"", "5\x0b", "", "5, 6", "0, 5"]
_codings = ["chunked, identity", "identity", "xchunked", "chunkedx", "gzip", ", chunked, ", "chunked, chunked",
            "identity, chunked, identity", "\x0bchunked", "chunked\x0b", "\"chunked\"", "chunked;q=1", "chunk ed", ""]
_sizes = [b"+5", b"-5", b"0x5", b" 5", b"5 x", b"5\t\t!", b"", b"g", b"5,", b"fffffffffffffffff", b"10000000000000005",
          b"8000000000000000", b"5_", b"\x005", b"5\x00", b"5\r;", b"5;\x00", b"5;a\rb"]

REFUSED = {
    **{f"cl {v!r}": post(f"Content-Length: {v}", body=b"hello") for v in _lengths},
    **{f"te {v!r}": post(f"Transfer-Encoding: {v}", body=CHUNKS) for v in _codings},
    **{f"chunk size {s!r}": chunked(s + b"\r\nhello\r\n0\r\n\r\n") for s in _sizes},
    "cl and te": post("Content-Length: 5", "Transfer-Encoding: chunked", body=CHUNKS + INNER),
    "te and cl": post("Transfer-Encoding: chunked", "Content-Length: 43", body=CHUNKS + INNER),
    "cl twice": post("Content-Length: 5", "Content-Length: 6", body=b"hello!"),
    "cl list": post("Content-Length: 5, 6", body=b"hello!"),
    "te twice": post("Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=CHUNKS),
    "te twice, last identity": post("Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=CHUNKS),
    "te in 1.0": post("Transfer-Encoding: chunked", version=b"1.0", body=CHUNKS),
    "te in 1.0 with cl": post("Transfer-Encoding: chunked", "Content-Length: 5", version=b"1.0", body=CHUNKS),
    "te space before colon": post("Transfer-Encoding : chunked", body=CHUNKS),
    "cl space before colon": post("Content-Length : 5", body=b"hello"),
    "te by obs-fold": post("Transfer-Encoding:\r\n chunked", body=CHUNKS),
    "obs-fold": get("X: a\r\n b"), "obs-fold by tab": get("X: a\r\n\tb"), "first line begins with blank": get(
        host=b" Host: odd"), "blank first header": get(host=None).replace(b"\r\n", b"\r\n X: y\r\nHost: odd\r\n", 1),
    "bare LF in the head": get("X: a\nY: b"), "bare LF all": get("X: a").replace(b"\r\n", b"\n"),
    "bare LF ends the head": b"GET /odd HTTP/1.1\r\nHost: odd\n\n", "bare CR in a value": get(b"X: a\rb"),
    "CR CR LF": get(b"X: a\r"), "NUL in a value": get(b"X: a\x00b"), "NUL in a name": get(b"X\x00: a"),
    "DEL in a value": get(b"X: a\x7fb"), "control in a value": get(b"X: a\x01b"),
    "no colon": get("nocolon"), "empty name": get(": x"), "name with blank": get("X Y: z"),
    "name with quote": get('"X": z'),
    "name with high byte": get(b"X\xe9: z"), "name with at": get("X@: z"), "name with bracket": get("X[]: z"),
    "no host": get(host=None), "two hosts": get("Host: other"), "two equal hosts": get("Host: odd"),
    "host with list": get(host=b"Host: a,b"), "host with blank": get(host=b"Host: a b"),
    "host with slash": get(host=b"Host: a/b"), "host with at": get(host=b"Host: a@b"),
    "host with bad port": get(host=b"Host: a:99999"), "host with letters as port": get(host=b"Host: a:b"),
    "absolute form with user": get(target=b"http://u@odd/"),
    "two blanks in the line": get().replace(b"/odd ", b"/odd  ", 1),
    "tab in the line": get().replace(b" /odd", b"\t/odd", 1), "blank at the end of the line": get().replace(
        b"1.1\r", b"1.1 \r", 1), "no version": b"GET /odd\r\nHost: odd\r\n\r\n", "lower case http": get().replace(
        b"HTTP", b"http", 1), "1.10": get(version=b"1.10"), "01.1": get(version=b"01.1"), "1,1": get(version=b"1,1"),
    "1.": get(version=b"1."), "target without slash": get(target=b"odd"), "empty target": get(target=b""),
    "control in target": get(target=b"/a\x01b"), "NUL in target": get(target=b"/a\x00b"),
    "fragment in target": get(target=b"/a#b"), "method with colon": get().replace(b"GET", b"G:T", 1),
    "high byte in the method": get().replace(b"GET", b"G\xc9T", 1), "star of GET": get(target=b"*"),
    "%00": get(target=b"/a%00b"), "%2F": get(target=b"/a%2fb"), "%5C": get(target=b"/a%5cb"), "backslash": get(
        target=b"/a\\b"), "bad escape": get(target=b"/a%zz"), "half an escape": get(target=b"/a%2"),
    "above the root": get(target=b"/../etc"), "above the root, encoded": get(target=b"/%2e%2e/etc"),
    "chunk without CRLF": chunked(b"5\r\nhello0\r\n\r\n"),
    "chunk with other two bytes": chunked(b"5\r\nhelloXX0\r\n\r\n"),
    "chunk bare LF": chunked(b"5\nhello\n0\n\n"), "chunk data bare LF": chunked(b"5\r\nhello\n0\r\n\r\n"),
    "chunk size bare LF": chunked(b"5\nhello\r\n0\r\n\r\n"), "extra CRLF before the last chunk": chunked(
        b"5\r\nhello\r\n\r\n0\r\n\r\n"), "trailer without colon": chunked(b"0\r\nbad\r\n\r\n"),
    "trailer by obs-fold": chunked(b"0\r\nX: a\r\n b\r\n\r\n"),
}


def generated(count, seed=1):
    """`count` requests of random odd parts, most with a second request in what may be a body."""
    r = random.Random(seed)
    names = ["Content-Length", "content-length", "Content-Length ", " Content-Length", "Content_Length",
             "Content-Length\0",
             "Transfer-Encoding", "transfer-encoding", "Transfer-Encoding ", "\tTransfer-Encoding", "Transfer_Encoding",
             "Transfer-Encoding\r", "X\nTransfer-Encoding", "X\rContent-Length", "TE", "Connection", "Expect",
             "Upgrade"]
    values = ["5", "0", str(len(INNER)), str(len(INNER) + 5), "chunked", "Chunked", "identity", "gzip, chunked",
              "close", "keep-alive", "Content-Length", "Transfer-Encoding", "100-continue", "h2c", "websocket",
              *_lengths, *_codings]
    colons = [":", ": ", ": ", ":\t", " : "]
    ends = ["\r\n", "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n", "\r\n ", "\0\r\n"]
    pieces = [b"", b"hello", CHUNKS, INNER, CHUNKS + INNER, b"0\r\n\r\n" + INNER, b"5\r\nhello\r\n" + INNER,
              b"%x\r\n" % len(INNER) + INNER + b"\r\n0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b"0\r\n\r\n\r\n" + INNER,
              *(s + b"\r\nhello\r\n0\r\n\r\n" + INNER for s in _sizes)]
    targets = ["/odd", "/odd", "/odd", "/odd?x", "http://odd/odd", "*", "//odd", "/./odd", "/a/../odd", "/%6fdd",
               "/odd;x",
               "/odd%20", "odd:80", "/odd%0d%0aX:%20y", "/odd\x80"]
    for _ in range(count):
        method = r.choice(["GET", "POST", "POST", "POST", "PUT", "HEAD", "OPTIONS", "DELETE", "CONNECT", "TRACE",
                           "X-YZ"])
        head = f"{method} {r.choice(targets)} HTTP/{r.choice(['1.1'] * 8 + ['1.0', '1.2', '0.9', '2.0', '1'])}\r\n"
        lines = [r.choice(names) + r.choice(colons) + r.choice(values) + r.choice(ends)
                 for _ in range(r.choice([1, 1, 2, 2, 3]))]
        lines.insert(r.randrange(len(lines) + 1), r.choice(["Host: odd\r\n"] * 9 + ["", "Host: a\r\nHost: b\r\n"]))
        made = (head + "".join(lines) + r.choice(["\r\n"] * 9 + ["\n"])).encode("latin-1") + r.choice(pieces)
        if r.random() < 0.1:  # one byte changed, anywhere
            at = r.randrange(len(made))
            made = made[:at] + bytes([r.choice([0, 9, 10, 13, 32, 44, 58, 127, 255])]) + made[at + 1:]
        yield made + (get() if r.random() < 0.3 else b"")


def truncated():
    """Every beginning of some requests."""
    for name in ("cl", "trailers", "chunk extension", "absolute form"):
        whole = ACCEPTED[name]
        yield from (whole[:n] for n in range(1, len(whole)))


def everything(count):
    return list(itertools.chain(ACCEPTED.values(), REFUSED.values(), truncated(), generated(count)))
