# SPDX-License-Identifier: Apache-2.0
"""WebSocket by python3-websockets, run in pods: `server PORT NAME` echoes, `client URL NAME` says "all right"."""

import asyncio
import sys

import websockets

SIZES = (0, 1, 125, 126, 65535, 65536, 1 << 20)


async def serve(port, name):
    async def echo(ws, path=None):
        await ws.send(name)
        async for message in ws:
            if message == "close":
                await ws.close(4001, "as you wish")
                return
            await ws.send(message)

    async with websockets.serve(echo, None, port, subprotocols=["chat"], max_size=1 << 22):
        await asyncio.Future()


async def talk(url, name):
    async with websockets.connect(url, subprotocols=["chat"], max_size=1 << 22, compression="deflate") as ws:
        assert ws.subprotocol == "chat"
        assert await ws.recv() == name
        for size in SIZES:
            for message in (bytes(i & 255 for i in range(size)), "\u263a" * (size // 3)):
                await ws.send(message)
                assert await ws.recv() == message, size
        await ws.send(["one", "two", "three"])
        assert await ws.recv() == "onetwothree"
        await asyncio.wait_for(await ws.ping(b"here?"), 20)
    async with websockets.connect(url, subprotocols=["chat"], compression=None) as ws:
        assert await ws.recv() == name
        await ws.send("close")
        try:
            await ws.recv()
            raise AssertionError("it did not close")
        except websockets.ConnectionClosed:
            assert (ws.close_code, ws.close_reason) == (4001, "as you wish"), ws.close_code
    several = await asyncio.gather(*(websockets.connect(url, subprotocols=["chat"]) for _ in range(20)))
    for number, ws in enumerate(several):
        await ws.send(str(number))
    for number, ws in enumerate(several):
        assert [await ws.recv(), await ws.recv()] == [name, str(number)]
        await ws.close()
    print("all right")


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[2]), sys.argv[3]) if sys.argv[1] == "server" else talk(*sys.argv[2:4]))
