#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run.sh BUILD [SERIES...]: boots Debian's kernels in QEMU (no KVM needed) and loads every BPF program there with
# `weftd --probe`. One line per kernel; all of what a failing one printed. SERIES: 6.1 6.12 6.18 newest, or a full
# version such as 6.18.15. `make check-kernels KERNELS="6.1 newest"`.
#
# Kernels come by apt from sources of our own below BUILD/kernels: the machine's are not touched, nothing is installed.
# One virtual CPU: with two, 6.18 dies at boot under multi-threaded emulation (int3 while static keys are patched).

set -eu
build=$(cd "$1" && pwd)
shift
here=$(cd "$(dirname "$0")" && pwd)
[ $# -gt 0 ] || set -- 6.1 6.12 6.18 newest
dir=$build/kernels
mirror=${MIRROR:-http://deb.debian.org}
keys=/usr/share/keyrings/debian-archive-keyring.gpg
failed=0

fail() {
	printf 'check-kernels: %s\n' "$*" >&2
	exit 1
}

[ "$(uname -m)" = x86_64 ] || fail "boots x86-64 kernels only, this machine is $(uname -m)"
for tool in qemu-system-x86_64 cpio apt-get dpkg-deb ldd; do
	command -v "$tool" >/dev/null || fail "no $tool: sh tools/setup.sh check-kernels installs what is needed"
done
[ -x /bin/busybox ] || fail "no /bin/busybox: sh tools/setup.sh check-kernels installs what is needed"
[ -x "$build/weftd" ] || fail "no $build/weftd: make"

# ------------------------------------------------------------------ kernels

apt_own() {
	tool=$1
	shift
	"$tool" -q -o "Dir::Etc::sourcelist=$dir/apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o "Dir::State::lists=$dir/apt/lists" -o "Dir::State::status=$dir/apt/status" -o "Dir::Cache=$dir/apt" \
		-o APT::Architecture=amd64 -o Acquire::Languages=none -o APT::Sandbox::User=root \
		-o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}

refresh() { # package lists, once a day
	mkdir -p "$dir/apt/lists/partial" "$dir/apt/archives/partial"
	: >>"$dir/apt/status"
	for suite in "debian bookworm" "debian-security bookworm-security" "debian bookworm-backports" \
		"debian trixie" "debian-security trixie-security" "debian trixie-backports"; do
		printf 'deb [signed-by=%s] %s/%s main\n' "$keys" "$mirror" "$suite"
	done >"$dir/apt/sources.list"
	[ -z "$(find "$dir/versions" -mtime -1 2>/dev/null)" ] || return 0
	apt_own apt-get update >"$dir/apt/log" 2>&1 || {
		cat "$dir/apt/log" >&2
		fail "could not read the package lists of $mirror"
	}
	apt_own apt-cache --names-only search '^linux-(image|binary)-[0-9].*-amd64$' |
		sed -n 's/^linux-\(image\|binary\)-\([0-9.]*[-+][^ ]*\)-amd64 .*/\2/p' |
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

fetch() { # fetch VERSION: $dir/VERSION/vmlinuz
	[ ! -e "$dir/$1/vmlinuz" ] || return 0
	mkdir -p "$dir/$1"
	# Since 6.19 the kernel itself is in linux-binary.
	package=linux-binary-$1-amd64
	apt_own apt-cache show "$package" >/dev/null 2>&1 || package=linux-image-$1-amd64
	(cd "$dir/$1" && apt_own apt-get download "$package" >log 2>&1) || {
		cat "$dir/$1/log" >&2
		fail "could not download $package"
	}
	dpkg-deb --fsys-tarfile "$dir/$1/$package"_*.deb |
		tar x -C "$dir/$1" --wildcards --transform 's,.*,vmlinuz.new,' '*/vmlinuz*' ||
		fail "no kernel in $package"
	rm -f "$dir/$1"/*.deb
	mv "$dir/$1/vmlinuz.new" "$dir/$1/vmlinuz"
}

# ------------------------------------------------------------------ what runs inside

pack() { # $dir/initramfs: busybox, weftd and its libraries
	root=$dir/root
	rm -rf "$root"
	mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/run" "$root/tmp" "$root/var/lib" "$root/etc"
	cp /bin/busybox "$root/bin/"
	cp "$build/weftd" "$root/bin/"
	cp "$here/init" "$root/init"
	chmod 755 "$root/init"
	ldd "$build/weftd" | grep -oE '/[^ ]+' | grep -v ':$' | sort -u | while read -r library; do
		mkdir -p "$root$(dirname "$library")"
		cp -L "$library" "$root$library"
	done
	(cd "$root" && find . | cpio -o -H newc --quiet) >"$dir/initramfs"
}

boot() { # boot VERSION: runs it; $dir/VERSION/console has what it said
	timeout "${KERNEL_TIMEOUT:-180}" qemu-system-x86_64 -accel tcg -cpu max -smp 1 -m 1024 -nodefaults -no-reboot \
		-display none -serial "file:$dir/$1/console" -kernel "$dir/$1/vmlinuz" -initrd "$dir/initramfs" \
		-append "console=ttyS0 panic=-1 quiet" </dev/null >"$dir/$1/qemu" 2>&1
}

off() { # what the kernel lacks, by name
	sed -n 's/^probe: \(.\{14\}\) off .*/\1/p' "$1" | sed 's/ *$//; s/^/, off: /' | tr -d '\n'
}

# ------------------------------------------------------------------ all of them

refresh
pack
for series; do
	version=$(newest "$series")
	[ -n "$version" ] || fail "Debian has no kernel $series; there are: $(tr '\n' ' ' <"$dir/versions")"
	fetch "$version"
	start=$(date +%s)
	rc=0
	boot "$version" || rc=$?
	took=$(($(date +%s) - start))
	console=$dir/$version/console
	kernel=$(sed -n 's/^guest: kernel \([^[:space:]]*\).*/\1/p' "$console")
	if grep -q '^guest: passed' "$console" && ! grep -qE 'BUG:|Oops|WARNING:|Kernel panic' "$console"; then
		printf '  ok     %-8s %-24s %2d probes ok%s, %d s\n' "$series" "$kernel" \
			"$(grep -cE '^probe: .{14} ok ' "$console")" "$(off "$console")" "$took"
		continue
	fi
	failed=$((failed + 1))
	tr -d '\r' <"$console" | tail -n 60
	[ ! -s "$dir/$version/qemu" ] || cat "$dir/$version/qemu"
	[ "$rc" -ne 124 ] || echo "check-kernels: still running after ${KERNEL_TIMEOUT:-180} s"
	printf '  FAILED %-8s %-24s %s\n' "$series" "${kernel:-$version}" "$console"
done

[ "$failed" -eq 0 ] || {
	echo "check-kernels: $failed of $# kernels failed"
	exit 1
}
echo "check-kernels: all programs load on $# kernels"
