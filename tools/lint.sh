#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# lint.sh: the house rules as greps, and clang-format. Prints FILE:LINE: what is wrong; exit 1 if anything is.
#	--list-c	only prints the C files

set -u
cd "$(dirname "$0")/.." || exit 1
export LC_ALL=C

# The tree, not git: it must work from a tarball too. build* and what .gitignore names is not ours.
everything=$(find . \( -name .git -o -path './build*' -o -name __pycache__ -o -name .pytest_cache \) -prune -o \
	-type f -print | sed 's,^\./,,' | grep -v '^tests/fuzz/corpus/' | sort)
c_files=$(printf '%s\n' "$everything" | grep -E '^(headers|bpf|userspace|tools|tests)/.*\.[ch]$')
if [ "${1:-}" = --list-c ]; then
	printf '%s\n' "$c_files"
	exit 0
fi
scripts=$(printf '%s\n' "$everything" | while read -r f; do
	case $f in
	*.sh | *.py | .ci/run) echo "$f" ;;
	*.*) ;;
	*) head -c 2 "$f" | grep -q '^#!' && echo "$f" ;;
	esac
done)
makefiles=$(printf '%s\n' "$everything" | grep -E '(^|/)Makefile$|\.mk$')
sources="$c_files
$scripts
$makefiles"
tests=$(printf '%s\n' "$sources" | grep -E '^(tests|\.ci)/')

bad=$(mktemp) || exit 1
work=$(mktemp -d) || exit 1
trap 'rm -rf "$bad" "$work"' EXIT INT TERM

# rule WHAT PATTERN FILES: no line of FILES may match the extended regular expression.
rule() {
	[ -n "$3" ] || return 0
	printf '%s\n' "$3" | xargs grep -nHE -e "$2" 2>/dev/null |
		awk -F: -v what="$1" '{ print $1 ":" $2 ": " what }' >>"$bad"
}

# ------------------------------------------------------------------ licences

for f in $sources; do
	case $f in
	bpf/* | headers/abi.h) want='GPL-2.0-only OR BSD-2-Clause' ;;
	*) want='Apache-2.0' ;;
	esac
	head -n 3 "$f" | grep -q "SPDX-License-Identifier: $want\( \*/\)\{0,1\}\$" ||
		echo "$f:1: first lines want SPDX-License-Identifier: $want" >>"$bad"
done

# ------------------------------------------------------------------ text

text=$(printf '%s\n' "$everything" | grep -vE '\.(png|svg|bin|gz|html)$|^(LICENSE|LICENSES/)')
rule "blank at the end of the line" '[[:blank:]]+$' "$(printf '%s\n' "$text" | grep -v '\.md$')"
rule "carriage return" "$(printf '\r')\$" "$text"
for f in $text; do
	[ ! -s "$f" ] || [ -z "$(tail -c 1 "$f")" ] || echo "$f:1: no newline at the end of the file" >>"$bad"
done
for f in $c_files $scripts; do
	expand "$f" | awk -v f="$f" 'length($0) > 120 {
		print f ":" NR ": line of " length($0) " columns, 120 are enough"
	}'
done >>"$bad"

# A link of a document leads somewhere.
for f in $(printf '%s\n' "$text" | grep '\.md$'); do
	grep -noE '\]\([^):# ]+' "$f" | sed 's/](//' | while IFS=: read -r line to; do
		[ -e "$(dirname "$f")/$to" ] || echo "$f:$line: no $to"
	done
done >>"$bad"

# ------------------------------------------------------------------ C

rule "strcpy, strcat, sprintf, alloca, gets: say the size" \
	'(^|[^a-z_])(strcpy|strcat|sprintf|vsprintf|alloca|gets|strtok)[[:blank:]]*\(' "$c_files"
rule "atoi, atol, atof do not tell errors: text_number" '(^|[^a-z_])(atoi|atol|atof)[[:blank:]]*\(' "$c_files"
rule "typedef of a struct: write struct x" \
	'^typedef[[:blank:]]+(struct|union|enum)[[:blank:]]+[a-z_]+[[:blank:]]+[a-z_]+;' "$c_files"
rule "spaces in place of a tab" '^( {8}|	* +	)' "$c_files"
rule "comment is /* */" '^[[:blank:]]*//([^ ]| [^S])' "$c_files"
rule "finish it or say it in the issue" '\<(TODO|FIXME|XXX|HACK)\>' "$c_files"
rule "system() and popen() run a shell" '(^|[^a-z_])(system|popen)[[:blank:]]*\(' \
	"$(printf '%s\n' "$c_files" | grep -E '^(userspace|tools/weftctl)/')"
printf '%s\n' "$everything" | grep -E '(^|/)(utils?|common|helpers?|misc)(\.[a-z]+)?(/|$)' |
	sed 's/$/:1: a file is named after one idea/' >>"$bad"
for f in $c_files; do
	lines=$(wc -l <"$f")
	[ "$lines" -le 700 ] || echo "$f:700: $lines lines; is it still one idea?" >>"$bad"
done

# Functions of more than 80 lines: from a { in the first column to its }. A test may be one long table.
printf '%s\n' "$c_files" | grep -v '^tests/' | while read -r f; do
	awk -v f="$f" '
	/^\{$/ { start = NR }
	/^\}/ && start {
		if (NR - start - 1 > 80)
			print f ":" start ": function of " NR - start - 1 " lines, 80 are enough"
		start = 0
	}' "$f"
done >>"$bad"

# ------------------------------------------------------------------ tests and scripts

rule "a test that cannot fail: || true" \
	'\|\|[[:blank:]]*(true|:)([^a-z]|$)' "$(printf '%s\n' "$tests" | grep -v '^tests/.*\.[ch]$')"
rule "a test does not skip in silence" \
	'pytest\.(skip|mark\.skip|importorskip|mark\.xfail)|^[^/]*[^_a-z]skip\(\)' "$tests"
rule "wait for a condition; a sleep that is none says what it is, on its line" \
	'(^|[^a-z_.])time\.sleep\([^#]*$' \
	"$(printf '%s\n' "$tests" | grep -E '\.py$' | grep -v '^tests/net/conftest\.py$')"
# Tests that the documents name are there.
grep -oE 'tests/[a-z0-9_/]+\.(py|c)::[a-z0-9_]+' docs/*.md | sort -u | while IFS=: read -r page f _ name; do
	grep -qE "^(def|static void) $name\(" "$f" 2>/dev/null || echo "$page:1: there is no test $f::$name"
done >>"$bad"
for f in $scripts; do
	case $(head -n 1 "$f") in
	'#!/bin/sh'*) sh -n "$f" 2>>"$bad" ;;
	*python3*) python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' "$f" 2>>"$bad" ;;
	esac
done

# ------------------------------------------------------------------ clang-format
#
# What it says about spaces between tokens; where a line breaks, tables, trailing comments and backslashes of macros
# are the author's, and versions 14 to 19 differ there.

clang_format=${CLANG_FORMAT:-clang-format}
command -v "$clang_format" >/dev/null 2>&1 || {
	echo "lint: no clang-format: sh tools/setup.sh lint installs it" >&2
	exit 1
}
plain() { sed -E 's/\<not\>/not_/g' "$1"; } # `not` is an operator to it
spaces() { # one blank between tokens, none inside brackets, a line for each statement
	sed 's/[[:blank:]]*\\$//' | tr -s '\n\t ' '   ' |
		sed -E 's/([[({]) /\1/g; s/ ([])}])/\1/g; s/,?\}/}/g; s/\) ?- ?([^>-])/) - \1/g' |
		sed -E 's/([;{}])/\1\n/g; s/ #/\n#/g' |
		sed 's/^ //'
}
for f in $c_files; do
	plain "$f" >"$work/was.c"
	"$clang_format" --style=file --assume-filename="$f" <"$work/was.c" >"$work/new.c" || {
		echo "$f:1: clang-format failed" >>"$bad"
		continue
	}
	cmp -s "$work/was.c" "$work/new.c" && continue
	spaces <"$work/was.c" >"$work/a"
	spaces <"$work/new.c" >"$work/b"
	cmp -s "$work/a" "$work/b" && continue
	line=$(diff "$work/a" "$work/b" | sed -n 's/^\([0-9]*\).*/\1/p' | head -n 1)
	echo "$f:1: spaces: $(sed -n "${line}p" "$work/a") should be: $(sed -n "${line}p" "$work/b")" >>"$bad"
done

if [ -s "$bad" ]; then
	cat "$bad"
	echo "lint: $(grep -cE '^[^<> ][^ ]*:[0-9]+:' "$bad") places to mend"
	exit 1
fi
echo "lint: $(printf '%s\n' "$sources" | grep -c .) files, no complaint"
