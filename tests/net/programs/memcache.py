# SPDX-License-Identifier: Apache-2.0
"""memcache.py HOST PORT: sets, gets and counts through one non-blocking connection, checks every answer."""

import asyncio
import hashlib
import json
import random
import sys


async def main(host, port):
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 23)
    rnd, held, seen = random.Random(11), {}, hashlib.sha256()

    async def ask(request):
        writer.write(request)
        await writer.drain()
        return await reader.readline()

    assert await ask(b"set count 0 0 1\r\n0\r\n") == b"STORED\r\n"
    for n in range(2000):
        key, size = b"key%d" % rnd.randrange(200), rnd.choice([1, 10, 100, 1000, 5000])
        if n % 250 == 249:  # after the conversation is one
            size = 2 << 20
        held[key] = rnd.randbytes(size)
        assert await ask(b"set %s 0 0 %d\r\n%s\r\n" % (key, size, held[key])) == b"STORED\r\n"
        key = rnd.choice(list(held))
        assert await ask(b"get %s\r\n" % key) == b"VALUE %s 0 %d\r\n" % (key, len(held[key]))
        got = await reader.readexactly(len(held[key]) + 7)
        assert got == held[key] + b"\r\nEND\r\n"
        seen.update(got)
        assert await ask(b"incr count 1\r\n") == b"%d\r\n" % (n + 1)
    writer.write(b"quit\r\n")
    rest = await reader.read()
    print(json.dumps([seen.hexdigest(), rest.hex()]))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
