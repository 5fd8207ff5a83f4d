# SPDX-License-Identifier: Apache-2.0
"""
gRPC by Python's grpcio, run in pods: `server PORT NAME`, or `client HOST:PORT CASE...`, which prints {case: "passed",
or what was wrong} as JSON. The cases are those of gRPC's interop suite; messages are bytes, of which a request's first
four say how many the answer has.
"""

import concurrent.futures
import json
import struct
import sys
import threading
import time

import grpc

SERVICE = "grpc.testing.TestService"
ECHO, ECHO_BIN, STATUS, SLEEP = "x-grpc-test-echo-initial", "x-grpc-test-echo-trailing-bin", "x-status", "x-sleep"
SPECIAL = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"


def message(answer, size=0):
    return struct.pack("!I", answer) + bytes(size)


def answer_of(request):
    return bytes(struct.unpack("!I", request[:4])[0]) if request else b""


# ------------------------------------------------------------------ server


class Server(grpc.GenericRpcHandler):
    def __init__(self, name):
        self.name, self.cancelled = name, threading.Event()
        self.calls = {"EmptyCall": grpc.unary_unary_rpc_method_handler(self.unary),
                      "UnaryCall": grpc.unary_unary_rpc_method_handler(self.unary),
                      "WhoAmI": grpc.unary_unary_rpc_method_handler(self.who),
                      "WasCancelled": grpc.unary_unary_rpc_method_handler(self.was_cancelled),
                      "StreamingInputCall": grpc.stream_unary_rpc_method_handler(self.sum),
                      "StreamingOutputCall": grpc.unary_stream_rpc_method_handler(self.several),
                      "FullDuplexCall": grpc.stream_stream_rpc_method_handler(self.duplex)}

    def service(self, details):
        service, method = details.method[1:].split("/")
        return self.calls.get(method) if service in (SERVICE, "grpc.testing.Other") else None

    def begin(self, context):
        """Metadata that asks for something. True: the call has been answered."""
        asked = dict(context.invocation_metadata())
        context.add_callback(lambda: None if context.code() is not None else self.cancelled.set())
        if ECHO in asked:
            context.send_initial_metadata([(ECHO, asked[ECHO])])
        if ECHO_BIN in asked:
            context.set_trailing_metadata([(ECHO_BIN, asked[ECHO_BIN])])
        if asked.get("x-compress"):
            context.set_compression(grpc.Compression.Gzip)
        if SLEEP in asked:
            time.sleep(float(asked[SLEEP]))  # the server that sleeps, of the cases
        if STATUS in asked:
            code, _, words = asked[STATUS].partition(" ")
            code = next(c for c in grpc.StatusCode if c.value[0] == int(code))
            context.abort(code, SPECIAL if words == "special" else words)

    def unary(self, request, context):
        self.begin(context)
        return answer_of(request)

    def who(self, request, context):
        asked = {k: v for k, v in context.invocation_metadata() if isinstance(v, str)}
        return json.dumps({"who": self.name, "metadata": asked, "peer": context.peer()}).encode()

    def was_cancelled(self, request, context):
        """Waits until a call was given up by its client."""
        came = self.cancelled.wait(15)
        self.cancelled.clear()
        return b"yes" if came else b"no"

    def sum(self, requests, context):
        self.begin(context)
        return struct.pack("!I", sum(len(r) - 4 for r in requests))

    def several(self, request, context):
        self.begin(context)
        for size in struct.unpack(f"!{len(request) // 4}I", request):
            yield bytes(size)

    def duplex(self, requests, context):
        self.begin(context)
        for request in requests:
            yield answer_of(request)


def serve(port, name):
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(32), options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers([Server(name)])
    server.add_insecure_port(f"[::]:{port}")
    server.start()
    server.wait_for_termination()


# ------------------------------------------------------------------ client


class Client:
    def __init__(self, to, authority="web"):
        self.channel = grpc.insecure_channel(to, options=[
            ("grpc.default_authority", authority), ("grpc.max_receive_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0)])

    def call(self, method, kind="unary_unary", service=SERVICE):
        return getattr(self.channel, kind)(f"/{service}/{method}")

    def ask(self, method="UnaryCall", request=b"", service=SERVICE, **more):
        return self.call(method, service=service)(request, timeout=more.pop("timeout", 20), wait_for_ready=False,
                                                  **more)

    def fails(self, code, method="UnaryCall", **more):
        try:
            self.ask(method, **more)
        except grpc.RpcError as e:
            assert e.code() == code, f"{e.code()} {e.details()}"
            return e
        raise AssertionError(f"no {code}")

    # ---- the cases

    def empty_unary(self):
        assert self.ask("EmptyCall") == b""

    def large_unary(self):
        assert self.ask(request=message(314159, 271828)) == bytes(314159)

    def huge_unary(self):
        assert self.ask(request=message(20_000_000, 20_000_000), timeout=60) == bytes(20_000_000)

    def client_streaming(self):
        sizes = (27182, 8, 1828, 45904)
        got = self.call("StreamingInputCall", "stream_unary")((message(0, n) for n in sizes), timeout=20)
        assert struct.unpack("!I", got)[0] == sum(sizes)

    def server_streaming(self):
        sizes = (31415, 9, 2653, 58979)
        got = self.call("StreamingOutputCall", "unary_stream")(struct.pack("!4I", *sizes), timeout=20)
        assert [len(m) for m in got] == list(sizes)

    def ping_pong(self):
        turn = threading.Semaphore(0)
        sizes = ((27182, 31415), (8, 9), (1828, 2653), (45904, 58979))

        def requests():
            for size, answer in sizes:
                yield message(answer, size)
                turn.acquire(timeout=15)

        for got, (_, answer) in zip(self.call("FullDuplexCall", "stream_stream")(requests(), timeout=20), sizes):
            assert len(got) == answer
            turn.release()

    def empty_stream(self):
        assert not list(self.call("FullDuplexCall", "stream_stream")(iter(()), timeout=20))

    def cancel_after_begin(self):
        wait = threading.Event()

        def requests():
            wait.wait(15)
            yield from ()

        call = self.call("StreamingInputCall", "stream_unary").future(requests(), timeout=20)
        call.cancel()
        wait.set()
        assert call.code() == grpc.StatusCode.CANCELLED, call.code()

    def cancel_after_first_response(self):
        wait = threading.Event()

        def requests():
            yield message(31415, 27182)
            wait.wait(15)

        self.ask("EmptyCall")
        call = self.call("FullDuplexCall", "stream_stream")(requests(), timeout=20)
        assert len(next(call)) == 31415
        call.cancel()
        wait.set()
        try:
            next(call)
            raise AssertionError("one more")
        except grpc.RpcError as e:
            assert e.code() == grpc.StatusCode.CANCELLED, e.code()
        assert self.ask("WasCancelled") == b"yes", "the server never heard of it"

    def timeout_on_sleeping_server(self):
        began = time.monotonic()
        self.fails(grpc.StatusCode.DEADLINE_EXCEEDED, request=message(1), timeout=0.3, metadata=[(SLEEP, "2")])
        assert time.monotonic() - began < 1.9

    def status_code_and_message(self):
        e = self.fails(grpc.StatusCode.UNKNOWN, request=message(1), metadata=[(STATUS, "2 test status message")])
        assert e.details() == "test status message", e.details()
        call = self.call("FullDuplexCall", "stream_stream")(
            iter([message(1)]), timeout=20, metadata=[(STATUS, "2 test status message")])
        try:
            list(call)
            raise AssertionError("no status")
        except grpc.RpcError as error:
            assert (error.code(), error.details()) == (grpc.StatusCode.UNKNOWN, "test status message")

    def special_status_message(self):
        e = self.fails(grpc.StatusCode.UNKNOWN, request=message(1), metadata=[(STATUS, "2 special")])
        assert e.details() == SPECIAL, repr(e.details())

    def every_status(self):
        for code in grpc.StatusCode:
            if code != grpc.StatusCode.OK:
                self.fails(code, request=message(1), metadata=[(STATUS, f"{code.value[0]} words")])

    def custom_metadata(self):
        sent = [(ECHO, "test_initial_metadata_value"), (ECHO_BIN, b"\xab\xab\xab\0\r\n")]
        got, call = self.call("UnaryCall").with_call(message(314159, 271828), metadata=sent, timeout=20)
        assert len(got) == 314159
        assert dict(call.initial_metadata())[ECHO] == sent[0][1]
        assert dict(call.trailing_metadata())[ECHO_BIN] == sent[1][1]
        stream = self.call("FullDuplexCall", "stream_stream")(iter([message(314159, 271828)]), metadata=sent,
                                                              timeout=20)
        assert dict(stream.initial_metadata())[ECHO] == sent[0][1]
        assert [len(m) for m in stream] == [314159]
        assert dict(stream.trailing_metadata())[ECHO_BIN] == sent[1][1]

    def unimplemented_method(self):
        self.fails(grpc.StatusCode.UNIMPLEMENTED, "UnimplementedCall")

    def unimplemented_service(self):
        self.fails(grpc.StatusCode.UNIMPLEMENTED, service="grpc.testing.UnimplementedService")

    def client_compressed_unary(self):
        for how in (grpc.Compression.Gzip, grpc.Compression.NoCompression, grpc.Compression.Deflate):
            assert self.ask(request=message(314159, 271828), compression=how) == bytes(314159)

    def server_compressed_unary(self):
        for want in ("1", ""):
            assert self.ask(request=message(314159, 10), metadata=[("x-compress", want)]) == bytes(314159)

    def client_compressed_streaming(self):
        got = self.call("StreamingInputCall", "stream_unary")(
            (message(0, n) for n in (27182, 45904)), timeout=20, compression=grpc.Compression.Gzip)
        assert struct.unpack("!I", got)[0] == 27182 + 45904

    def server_compressed_streaming(self):
        got = self.call("StreamingOutputCall", "unary_stream")(
            struct.pack("!2I", 31415, 92653), metadata=[("x-compress", "1")], timeout=20)
        assert [len(m) for m in got] == [31415, 92653]

    def soak(self):
        for _ in range(200):
            assert self.ask(request=message(3140, 2718)) == bytes(3140)

    def soak_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(20) as pool:
            done = list(pool.map(lambda _: self.ask(request=message(31415, 2718)), range(200)))
        assert done == [bytes(31415)] * 200


CASES = [name for name in vars(Client) if name not in ("call", "ask", "fails") and name[0] != "_"]


def play(to, names):
    shared, found = Client(to), {}
    for name in names or CASES:
        try:
            getattr(shared, name)()
            found[name] = "passed"
        except Exception as e:  # grpc's or an assertion: it is what the test shows
            found[name] = f"{type(e).__name__}: {e}"[:400]
    print(json.dumps(found))


def whoami(to, count, metadata):
    """Asks WhoAmI that often; who answered how often, or with which status."""
    c, found = Client(to), {}
    for _ in range(count):
        try:
            key = json.loads(c.ask("WhoAmI", metadata=metadata))["who"]
        except grpc.RpcError as e:
            key = e.code().name
        found[key] = found.get(key, 0) + 1
    print(json.dumps(found))


def one(to, method, metadata):
    """One call; its answer, or status and words."""
    c = Client(to)
    service, _, method = method.rpartition("/")
    try:
        print(json.dumps(json.loads(c.ask(method, service=service or SERVICE, metadata=metadata) or b"{}")))
    except grpc.RpcError as e:
        print(json.dumps({"status": e.code().name, "message": e.details()}))


if __name__ == "__main__":
    what, args = sys.argv[1], sys.argv[2:]
    pairs = [tuple(a.split("=", 1)) for a in args[2:]]
    if what == "server":
        serve(int(args[0]), args[1])
    elif what == "client":
        play(args[0], args[1:])
    elif what == "who":
        whoami(args[0], int(args[1]), pairs)
    else:
        one(args[0], args[1], pairs)
