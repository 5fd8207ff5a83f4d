#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run.sh FUZZER...: runs each for FUZZ_SECONDS (60) over tests/fuzz/corpus/NAME, which it only reads; what it finds
# goes beside the fuzzer. A line every 20 s says how far one is: inputs as its log gave them last. A crash ends with
# exit 1 and names the input: fix it, and put the input in the corpus.

set -u
seconds=${FUZZ_SECONDS:-60}
failed=0
number=0
pid=

case $seconds in
'' | 0* | *[!0-9]*)
	echo "run.sh: FUZZ_SECONDS=$seconds: give a number of seconds, 1 or more" >&2
	exit 2
	;;
esac
trap '[ -z "$pid" ] || kill "$pid" 2>/dev/null; exit 130' INT TERM

# progress PID NAME LOG: until it has ended.
progress() {
	past=0
	while kill -0 "$1" 2>/dev/null; do
		sleep 1
		past=$((past + 1))
		[ $((past % 20)) -eq 0 ] && [ "$past" -lt "$seconds" ] || continue
		inputs=$(sed -n 's/^#\([0-9][0-9]*\)[[:blank:]].*/\1/p' "$3" | tail -n 1)
		printf '  ...    fuzz_%-22s %10d inputs in %3d s of %d\n' "$2" "${inputs:-0}" "$past" "$seconds"
	done
}

for program in "$@"; do
	number=$((number + 1))
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
	"$program" -max_total_time="$seconds" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 \
		-artifact_prefix="$found/../crash-$name-" "$found" "$seeds" >"$log" 2>&1 </dev/null &
	pid=$!
	progress "$pid" "$name" "$log"
	rc=0
	wait "$pid" || rc=$?
	pid=
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
	if [ "$rc" -ne 0 ]; then
		tail -n 60 "$log"
		echo "  FAILED fuzz_$name: see $log"
		failed=1
	else
		printf '  ok     fuzz_%-22s %10d inputs in %3d s (%d of %d)\n' "$name" "${runs:-0}" "$seconds" \
			"$number" $#
	fi
done
exit $failed
