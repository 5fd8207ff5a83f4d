#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# version.sh: the version on one line: the newest of CHANGELOG.md, and the commit where git knows it.

cd "$(dirname "$0")/.." || exit 1
version=$(sed -n 's/^## \([0-9][0-9.a-z-]*\).*/\1/p' CHANGELOG.md 2>/dev/null | head -n 1)
commit=$(git -c safe.directory="$PWD" rev-parse --short=9 HEAD 2>/dev/null)
echo "${version:-0.0.0}${commit:+-g$commit}"
