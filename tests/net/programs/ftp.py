# SPDX-License-Identifier: Apache-2.0
"""ftp.py HOST PORT: 2 000 commands on one control connection (Python's ftplib: blocking sockets)."""

import ftplib
import sys

with ftplib.FTP(timeout=20) as ftp:
    ftp.connect(sys.argv[1], int(sys.argv[2]))
    ftp.login()
    ftp.cwd("down")
    ftp.voidcmd("TYPE I")
    sizes = {name: ftp.size(name) for name in ftp.nlst()}
    for n in range(2000):
        name = str(n % len(sizes))
        if ftp.size(name) != sizes[name]:
            sys.exit(f"size of {name} changed")
    print(sorted(sizes.items()))
