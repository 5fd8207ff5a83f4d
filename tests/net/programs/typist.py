# SPDX-License-Identifier: Apache-2.0
"""typist.py COUNT COMMAND...: writes lines to a command that echoes them, each after the one before came back."""

import subprocess
import sys


def main(count, command):
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as echo:
        for n in range(count):
            line = b"line %d %s\n" % (n, b"x" * (n * 37 % 200))
            echo.stdin.write(line)
            echo.stdin.flush()
            back = echo.stdout.readline()
            if back != line:
                sys.exit(f"wrote {line}, got {back}")
        echo.stdin.close()
        rest = echo.stdout.read()
    print(count, "lines came back; then", len(rest), "bytes, exit code", echo.returncode)


main(int(sys.argv[1]), sys.argv[2:])
