#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run.sh PROGRAM...: runs each test program, one line each with its time; all of a failing one's output. Ends with
# the number of cmocka's tests. Exit 1 if one failed.

set -u
log=$(mktemp) || exit 1
trap 'rm -f "$log"' EXIT INT TERM
failed=0
tests=0
began=$(date +%s%N)

for program in "$@"; do
	start=$(date +%s%N)
	rc=0
	timeout "${TEST_TIMEOUT:-120}" "$program" >"$log" 2>&1 </dev/null || rc=$?
	ms=$((($(date +%s%N) - start) / 1000000))
	count=$(sed -n 's/^\[=*\] .*\<\([0-9]*\) test(s) run\.$/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
	tests=$((tests + count))
	if [ "$rc" -eq 0 ] && [ "$count" -gt 0 ]; then
		printf '  ok     %-28s %3d tests %6d ms\n' "${program##*/}" "$count" "$ms"
		continue
	fi
	failed=$((failed + 1))
	case $rc in
	0) why="ran no test" ;;
	124) why="still running after ${TEST_TIMEOUT:-120} s" ;;
	*) why="exit code $rc" ;;
	esac
	cat "$log"
	printf '  FAILED %-28s %s (%d ms)\n' "${program##*/}" "$why" "$ms"
done

ms=$((($(date +%s%N) - began) / 1000000))
if [ "$failed" -gt 0 ]; then
	echo "$failed of $# test programs failed, $tests tests ran in $ms ms"
	exit 1
fi
echo "$# test programs passed, $tests tests ran in $ms ms"
