#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# floors.sh OBJECT...: an object may use symbols only of objects before it (or of libraries). Prints each use that
# goes up, with the symbol; exit 1 if there is one. No exceptions, so no list of them.

set -eu
[ $# -gt 0 ] || {
	echo "floors: no objects: make floors" >&2
	exit 2
}

number=0
for object; do
	number=$((number + 1))
	name=${object#*/obj/}
	nm -P "$object" | sed "s|^|$number ${name%.o} |"
done | awk '
{
	order[$1] = $2
	if ($3 == "main")
		next
	if ($4 ~ /^[TDBRVWC]$/) {
		if ($3 in place && place[$3] != $1 && $4 !~ /^[VW]$/) {
			print "floors: " $3 " is defined in " order[place[$3]] " and again in " $2
			bad++
		}
		if (!($3 in place))
			place[$3] = $1
	} else if ($4 == "U")
		uses[++n] = $1 " " $3
}
END {
	for (i = 1; i <= n; i++) {
		split(uses[i], u, " ")
		if (!(u[2] in place) || place[u[2]] <= u[1])
			continue
		print "floors: " order[u[1]] " uses " u[2] " of " order[place[u[2]]] ", which stands above it"
		bad++
	}
	if (bad) {
		print "floors: " bad " uses go up: move the code, or the place in FLOORS of the Makefile"
		exit 1
	}
	count = 0
	for (o in order)
		count++
	print "floors: " count " objects, none uses a later one"
}'
