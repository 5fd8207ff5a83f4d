# SPDX-License-Identifier: Apache-2.0
"""streams.py echo PORT | talk HOST PORT SECONDS BYTES: blocking.py's job with asyncio streams."""

import asyncio
import hashlib
import random
import sys
import time


async def serve(port):
    server = await asyncio.start_server(echo, "0.0.0.0", port)
    await server.serve_forever()


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    writer.close()


async def send(writer, data):
    for at in range(0, len(data), 50_000):
        writer.write(data[at:at + 50_000])
        await writer.drain()
    writer.write_eof()


async def talk(host, port, seconds, size):
    reader, writer = await asyncio.open_connection(host, port)
    rnd, until = random.Random(5), time.monotonic() + seconds
    while time.monotonic() < until:
        message = rnd.randbytes(rnd.choice([1, 20, 500, 3000]))
        writer.write(message)
        if await reader.readexactly(len(message)) != message:
            sys.exit("another message came back")
    data = random.Random(6).randbytes(size)
    sending = asyncio.create_task(send(writer, data))
    back = await reader.read(-1)
    await sending
    if back != data:
        sys.exit("other bytes came back")
    print(hashlib.sha256(back).hexdigest())


if sys.argv[1] == "echo":
    asyncio.run(serve(int(sys.argv[2])))
else:
    asyncio.run(talk(sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])))
