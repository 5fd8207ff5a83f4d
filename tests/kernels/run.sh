#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run.sh [OPTION]... BUILD [SERIES...]: boots Debian's kernels in QEMU (no KVM needed), makes a node with five pods in
# each and drives weft there with real sockets: init and node.sh have what is done, guest.h the program that speaks for
# the pods. A line per kernel and part; all of what a failing part printed. SERIES: 6.1 6.12 6.18 newest, or a full
# version such as 6.18.15. `make check-kernels KERNELS="6.1 newest"`.
#
#	--parts A,B	only these (probe and node are what the others stand on)
#	--without PART	all but that
#	--races SECONDS	of the race test, in guest time (default 10)
#	--record	write what the verifier walked through into verifier.ARCH.txt, instead of comparing with it
#
# Kernels come by apt from sources of our own below BUILD/kernels: the machine's are not touched, nothing is installed.
# They are those of the machine that BUILD was made for: amd64, or arm64, with BUILD/sysroot (sysroot.sh) where that is
# another one than this. `make check-arm64` does all of it.
# One virtual CPU: with two, 6.18 dies at boot under multi-threaded emulation (int3 while static keys are patched).
# Slabs are poisoned and checked, so that a use after free in the kernel does not pass unseen.

set -eu
parts=probe,node,services,policy,splice,proxy,bytes,ended,equivalence,races,end,kernel
races=10
record=
while :; do
	case $1 in
	--parts) parts=$2 && shift 2 ;;
	--races) races=$2 && shift 2 ;;
	--without) parts=$(printf '%s\n' "$parts" | tr , '\n' | grep -vxF "$2" | paste -sd,) && shift 2 ;;
	--record) record=yes && shift ;;
	*) break ;;
	esac
done
build=$(cd "$1" && pwd)
shift
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- 6.1 6.12 6.18 newest
dir=$build/kernels
apt=$dir/apt
arguments="panic=-1 oops=panic quiet slub_debug=FZP,kmalloc-*"
modules="veth inet_diag tcp_diag tls kcm gcm ghash-generic" # and what they depend on, where it is not built in
limit=$((${KERNEL_TIMEOUT:-480} + 3 * races))
failed=0

fail() {
	printf 'check-kernels: %s\n' "$*" >&2
	exit 1
}

for program in weftd weft-worker weftctl tests/kernels/guest tests/equivalence; do
	[ -x "$build/$program" ] || fail "no $build/$program: make all kernel-programs"
done
case $(od -An -tx1 -j18 -N1 "$build/weftd") in # e_machine (elf.h)
*3e) arch=amd64 machine=x86_64 qemu="qemu-system-x86_64 -cpu max" console=ttyS0 prefix= ;;
*b7)
	arch=arm64 machine=aarch64 console=ttyAMA0 prefix=aarch64-linux-gnu-
	qemu="qemu-system-aarch64 -M virt -cpu neoverse-n1" # with pointer authentication it takes ten times as long
	;;
*) fail "$build/weftd is neither for x86-64 nor for arm64" ;;
esac
arguments="console=$console $arguments"
table=$here/verifier.$arch.txt
sysroot=
libraries=$machine-linux-gnu
target=check-kernels # of tools/setup.sh
if [ "$(uname -m)" = "$machine" ]; then
	prefix=
else
	sysroot=$build/sysroot/root target=check-arm64
fi
for tool in ${qemu%% *} cpio apt-get dpkg-deb "${prefix}readelf" "${prefix}strip"; do
	command -v "$tool" >/dev/null || fail "no $tool: sh tools/setup.sh $target installs what is needed"
done
[ -x "$sysroot/bin/busybox" ] || fail "no $sysroot/bin/busybox: sh tools/setup.sh $target installs what is needed"
ip=$(ls "$sysroot/sbin/ip" "$sysroot/bin/ip" 2>/dev/null | head -n 1)
[ -n "$ip" ] || fail "no $sysroot/sbin/ip: sh tools/setup.sh $target installs what is needed"

# shellcheck source=tests/kernels/debian.sh
. "$here/debian.sh"

# ------------------------------------------------------------------ kernels

refresh() { # package lists, once a day
	[ -z "$(find "$dir/versions" -mtime -1 2>/dev/null)" ] || return 0
	mkdir -p "$dir"
	apt_lists "debian bookworm" "debian-security bookworm-security" "debian bookworm-backports" \
		"debian trixie" "debian-security trixie-security" "debian trixie-backports"
	apt_own apt-cache --names-only search "^linux-(image|binary)-[0-9].*-$arch\$" |
		sed -n "s/^linux-\(image\|binary\)-\([0-9.]*[-+][^ ]*\)-$arch .*/\2/p" |
		grep -vE 'rt$|cloud$' | sort -Vu >"$dir/versions.new"
	[ -s "$dir/versions.new" ] || fail "no kernels in the package lists of $mirror: $dir/apt/log"
	mv "$dir/versions.new" "$dir/versions"
}

newest() { # newest SERIES: the newest package version of a series
	case $1 in
	newest) tail -n 1 "$dir/versions" ;;
	*) grep -E "^$(printf '%s' "$1" | sed 's/\./\\./g')[.+-]" "$dir/versions" | tail -n 1 ;;
	esac
}

package() { # package VERSION PACKAGE...: downloads the first of them that there is; prints its file
	for name in "$2-$1-$arch" "$3-$1-$arch"; do
		apt_own apt-cache show "$name" >/dev/null 2>&1 || continue
		[ -n "$(find "$dir/$1" -name "${name}_*.deb")" ] ||
			(cd "$dir/$1" && apt_own apt-get download "$name" >log 2>&1) || {
			cat "$dir/$1/log" >&2
			fail "could not download $name"
		}
		find "$dir/$1" -name "${name}_*.deb"
		return
	done
	fail "Debian has neither $2-$1-$arch nor $3-$1-$arch"
}

# add_module DIR NAME: from DIR/all into DIR/root/modules, and its name into `order` there, after those that it needs. A
# module that is not there is built into this kernel.
add_module() {
	from=$(find "$1/all" -name "$(printf '%s' "$2" | tr _ -).ko*" -o -name "$(printf '%s' "$2" | tr - _).ko*")
	to=$1/root/modules/$2.ko
	[ -n "$from" ] && [ ! -e "$to" ] || return 0
	case $from in
	*.xz) busybox xzcat "$from" >"$to" ;;
	*) cp "$from" "$to" ;;
	esac
	for needed in $(tr '\0' '\n' <"$to" | sed -n 's/^depends=//p' | tr , ' '); do
		add_module "$1" "$needed"
	done
	echo "$2" >>"$1/root/modules/order"
}

# fetch VERSION: $dir/VERSION/vmlinuz, and modules.cpio beside it. Since 6.19 the two are packages of their own.
fetch() {
	[ ! -e "$dir/$1/vmlinuz" ] || [ "$(cat "$dir/$1/modules" 2>/dev/null)" != "$modules" ] || return 0
	rm -rf "${dir:?}/$1/root" "$dir/$1/all"
	mkdir -p "$dir/$1/root/modules" "$dir/$1/all"
	echo "  fetching Debian's kernel $1"
	kernel=$(package "$1" linux-binary linux-image)
	dpkg-deb --fsys-tarfile "$kernel" |
		tar x -C "$dir/$1" --wildcards --transform 's,.*,vmlinuz.new,' '*/vmlinuz*' ||
		fail "no kernel in $kernel"
	kernel=$(package "$1" linux-modules linux-image)
	dpkg-deb --fsys-tarfile "$kernel" | tar x -C "$dir/$1/all" --wildcards --transform 's,.*/,,' '*.ko*' ||
		fail "no modules in $kernel"
	for module in $modules; do
		add_module "$dir/$1" "$module"
	done
	for module in veth tcp_diag tls kcm; do
		[ -e "$dir/$1/root/modules/$module.ko" ] || fail "no $module.ko in $kernel"
	done
	(cd "$dir/$1/root" && find . | cpio -o -H newc --quiet) >"$dir/$1/modules.cpio"
	rm -rf "$dir/$1"/*.deb "$dir/$1/root" "$dir/$1/all"
	mv "$dir/$1/vmlinuz.new" "$dir/$1/vmlinuz"
	echo "$modules" >"$dir/$1/modules"
}

# ------------------------------------------------------------------ what runs inside

add_library() { # and those that it needs
	[ ! -e "$root/lib/$libraries/$1" ] || return 0
	from=$(find "$sysroot/lib/$libraries/" "$sysroot/usr/lib/$libraries/" -name "$1" | head -n 1)
	[ -n "$from" ] || fail "no $1 below $sysroot/lib/$libraries"
	cp -L "$from" "$root/lib/$libraries/"
	for needed in $("${prefix}readelf" -d "$from" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'); do
		add_library "$needed"
	done
}

pack() { # $dir/initramfs: busybox, ip, weft and their libraries, the pods' program
	root=$dir/root
	rm -rf "$root"
	mkdir -p "$root/bin" "$root/weft" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" "$root/var/lib" \
		"$root/etc"
	cp "$sysroot/bin/busybox" "$root/bin/"
	cp -L "$ip" "$build/weftd" "$build/weft-worker" "$build/weftctl" "$build/tests/kernels/guest" \
		"$build/tests/equivalence" "$here/node.sh" "$root/weft/"
	cp "$here/init" "$root/init"
	chmod 755 "$root/init"
	"${prefix}strip" "$root/weft/weftd" "$root/weft/weft-worker" "$root/weft/weftctl" "$root/weft/guest"
	mkdir -p "$root/lib/$libraries"
	for program in ip weftd weft-worker weftctl; do
		"${prefix}readelf" -ld "$root/weft/$program" >"$dir/elf"
		loader=$(sed -n 's/.*Requesting program interpreter: \(.*\)\]/\1/p' "$dir/elf")
		mkdir -p "$root$(dirname "$loader")"
		cp -L "$sysroot$loader" "$root$loader"
		for needed in $(sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' "$dir/elf"); do
			add_library "$needed"
		done
	done
	(cd "$root" && find . | cpio -o -H newc --quiet) >"$dir/initramfs"
}

# boot VERSION: runs it; $dir/VERSION/console has what it said. Shows the parts as they end.
boot() {
	console=$dir/$1/console
	cat "$dir/initramfs" "$dir/$1/modules.cpio" >"$dir/$1/initramfs"
	: >"$console"
	rm -f "$dir/$1/code"
	{
		# shellcheck disable=SC2086
		timeout "$limit" $qemu -accel tcg -smp 1 -m 1024 -nodefaults -no-reboot \
			-display none -serial stdio -kernel "$dir/$1/vmlinuz" -initrd "$dir/$1/initramfs" \
			-append "$arguments weft.parts=$parts weft.races=$races" \
			</dev/null 2>"$dir/$1/qemu" || echo $? >"$dir/$1/code"
	} | while IFS= read -r line; do
		line=${line%"$(printf '\r')"}
		printf '%s\n' "$line" >>"$console"
		case $line in
		*"guest: kernel "*) line=${line#*guest: kernel } && show ok boot "$line" ;;
		"guest: ok "*) line=${line#guest: ok } && show ok "${line%% *}" "${line#* }" ;;
		"guest| "*) printf '    %s\n' "${line#guest| }" ;;
		"guest: FAILED "*) line=${line#guest: FAILED } && show FAILED "${line%% *}" "${line#* }" ;;
		esac
	done
	rm -f "$dir/$1/initramfs"
}

show() { # show ok|FAILED PART WHAT
	printf '  %-6s %-8s %-11s %3d s  %s\n' "$1" "$series" "$2" $(($(date +%s) - start)) "$3"
}

# ------------------------------------------------------------------ the verifier's work

# verifier KERNEL: what it walked through for each program, against verifier.ARCH.txt: at most a tenth more than
# recorded there, and none missing. A kernel that is not there is compared with the newest one that is older.
verifier() {
	key=$(printf '%s' "$1" | grep -oE '^[0-9]+\.[0-9]+')
	tr -d '\r' <"$dir/$version/console" | sed -n 's/^guest: program //p' | sort >"$dir/$version/programs"
	if [ -n "$record" ]; then
		grep -v "^$key " "$table" >"$table.new" || [ $? -eq 1 ]
		awk -v key="$key" '{ print key, $1, $2 }' "$dir/$version/programs" >>"$table.new"
		{
			grep '^#' "$table.new"
			grep -v '^#' "$table.new" | sort -V
		} >"$table.sorted"
		mv "$table.sorted" "$table"
		rm -f "$table.new"
	fi
	recorded=$({
		grep -v '^#' "$table" | cut -d' ' -f1
		echo "$key"
	} | sort -Vu | sed "/^$key\$/q" |
		if grep -q "^$key " "$table"; then tail -n 1; else tail -n 2 | head -n 1; fi)
	awk -v key="$recorded" '
	FNR == NR { if ($1 == key) was[$2] = $3; next }
	{ now[$1] = $2; all += $2; n++; if ($2 > most) { most = $2; who = $1 } }
	END {
		for (p in now)
			if (!(p in was))
				print "    " p " is not recorded: " now[p] " instructions"
			else if (now[p] * 10 > was[p] * 11)
				print "    " p ": " now[p] " instructions, recorded " was[p] \
					sprintf(" (%+.0f %%)", 100 * (now[p] / was[p] - 1))
		for (p in was)
			if (!(p in now))
				print "    " p " was not loaded"
		if (!n)
			print "    no program was seen"
		printf "%d programs, %d instructions verified, most by %s: %d; compared with %s\n", \
			n, all, who, most, key
	}' "$table" "$dir/$version/programs" >"$dir/$version/verified"
	grep '^    ' "$dir/$version/verified" || {
		show ok verifier "$(tail -n 1 "$dir/$version/verified")"
		return 0
	}
	show FAILED verifier "$(tail -n 1 "$dir/$version/verified"); --record accepts it"
	return 1
}

# ------------------------------------------------------------------ all of them

refresh
pack
for series; do
	version=$(newest "$series")
	[ -n "$version" ] || fail "Debian has no kernel $series; there are: $(tr '\n' ' ' <"$dir/versions")"
	fetch "$version"
	start=$(date +%s)
	boot "$version"
	bad=0
	if ! grep -q '^guest: done' "$console"; then
		tail -n 60 "$console"
		cat "$dir/$version/qemu"
		[ "$(cat "$dir/$version/code" 2>/dev/null)" != 124 ] ||
			echo "check-kernels: still running after $limit s"
		show FAILED boot "it did not come to its end: $console"
		bad=1
	elif grep -q '^guest: FAILED' "$console" ||
		[ "$(grep -c '^guest: ok ' "$console")" -ne "$(printf '%s\n' "$parts" | tr , '\n' | grep -c .)" ]; then
		bad=1
	fi
	case ,$parts, in
	*,node,*) verifier "$(sed -n 's/.*guest: kernel //p' "$console")" || bad=1 ;;
	esac
	failed=$((failed + bad))
done

[ "$failed" -eq 0 ] || {
	echo "check-kernels: $failed of $# kernels failed"
	exit 1
}
echo "check-kernels: $# kernels, parts $parts: all ok"
