#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run.sh FUZZER...: runs each for FUZZ_SECONDS (10) over tests/fuzz/corpus/NAME, which it only reads; what it finds
# goes beside the fuzzer. A crash ends with exit 1 and names the input: fix it, and put the input in the corpus.

set -u
seconds=${FUZZ_SECONDS:-10}
failed=0

for program in "$@"; do
	name=${program##*/fuzz_}
	found=$(dirname "$program")/corpus/$name
	log=$program.log
	mkdir -p "$found"
	seeds=tests/fuzz/corpus/$name
	if [ ! -d "$seeds" ]; then
		echo "  FAILED $name: no corpus, make the folder $seeds with at least one input"
		failed=1
		continue
	fi
	rc=0
	"$program" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
		-artifact_prefix="$found/../crash-$name-" "$found" "$seeds" >"$log" 2>&1 </dev/null || rc=$?
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	if [ "$rc" -ne 0 ]; then
		tail -n 60 "$log"
		echo "  FAILED fuzz_$name: see $log"
		failed=1
	else
		printf '  ok     fuzz_%-22s %10d inputs in %d s\n' "$name" "${runs:-0}" "$seconds"
	fi
done
exit $failed
