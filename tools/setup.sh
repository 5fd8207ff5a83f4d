#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# setup.sh TARGET: installs the Debian packages that `make TARGET` needs and the machine lacks, then runs it.
#
#	sh tools/setup.sh demo		sh tools/setup.sh check		sh tools/setup.sh --packages check
#
# Needs sh, apt and, if you are not root, sudo. Works on Debian 12 and 13. Starts no service and leaves none
# enabled: what the packages bring is switched off before anybody else sees it. Installs nothing when nothing is
# missing, and then needs neither root nor network for targets that do not need them.

set -eu

POLICY=/usr/sbin/policy-rc.d
OWN_POLICY='# made by weft tools/setup.sh while it installs packages; remove it if no setup.sh is running'

say() { printf '%s\n' "$*"; }
fail() { # one sentence that says what to do
	printf 'setup: %s\n' "$*" >&2
	exit 1
}

usage() {
	cat >&2 <<'END'
usage: sh tools/setup.sh TARGET		install what is missing, then make TARGET
       sh tools/setup.sh --packages TARGET	only print the packages
targets: all demo check test bpf-native net interop bench lint floors fuzz check-asan check-kernels check-arm64
         install bpf
END
	exit 2
}

# ------------------------------------------------------------------ what a target needs

BUILD="make gcc libc6-dev clang bpftool libbpf-dev libelf-dev zlib1g-dev libmnl-dev libjansson-dev libyaml-dev
	libxxhash-dev libnghttp2-dev libpcre2-dev libssl-dev liburcu-dev"
TEST="libcmocka-dev"
LINT="clang-format"
NET="python3 python3-h2 iproute2 procps curl nginx wrk iperf3 tcpdump openssl"
BENCH="redis-server redis-tools postgresql haproxy nghttp2-client apache2-utils python3-venv
	$(command -v go >/dev/null || echo golang-go)"
# The other real programs of tests/net/programs.
PROGRAMS="mariadb-server mariadb-client memcached openssh-server openssh-client rsync vsftpd mosquitto
	mosquitto-clients socat git nodejs default-jdk-headless apache2-bin systemd
	python3-grpcio python3-websockets node-ws"
KERNELS="qemu-system-x86 busybox-static cpio iproute2"

packages() {
	case $1 in
	all | bpf | install | floors) echo "$BUILD" ;;
	test | bpf-native) echo "$BUILD $TEST" ;;
	lint) echo "make $LINT" ;;
	demo) echo "$BUILD $NET" ;;
	bench) echo "$BUILD $NET $BENCH" ;;
	interop) echo "$BUILD $NET python3-venv python3-pytest" ;;
	net | check-asan) echo "$BUILD $NET $BENCH $PROGRAMS python3-pytest groff-base" ;;
	check) echo "$BUILD $TEST $LINT $NET $BENCH $PROGRAMS $KERNELS python3-pytest groff-base" ;;
	fuzz) echo "$BUILD libclang-rt-$(clang_version)-dev" ;;
	check-kernels) echo "$BUILD $KERNELS" ;;
	check-arm64) echo "$BUILD cpio gcc-aarch64-linux-gnu qemu-system-arm" ;;
	*) usage ;;
	esac
}

needs_root() { # targets that make network namespaces or BPF maps
	case $1 in demo | bench | net | check-asan | interop | test | check | install) return 0 ;; esac
	return 1
}

clang_version() { # the one that Debian's package clang stands for
	apt-cache depends clang | sed -n 's/^ *Depends: clang-\([0-9][0-9]*\)$/\1/p' | head -n 1
}

missing() {
	for package; do
		case $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) in
		"install ok installed") ;;
		*) printf '%s ' "$package" ;;
		esac
	done
}

unknown() { # packages that apt has no candidate for
	for package; do
		case $(LC_ALL=C apt-cache policy "$package" 2>/dev/null) in
		*"Candidate: (none)"* | "") printf '%s ' "$package" ;;
		esac
	done
}

# ------------------------------------------------------------------ installing, as root

installed() { dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^.i. //p' | sort -u; }

# While packages are installed, invoke-rc.d asks policy-rc.d whether to start their services; 101 means no. A policy
# that the machine already has is asked, never replaced.
hold_services() {
	if [ -e "$POLICY" ] || [ -L "$POLICY" ]; then
		if grep -qF "$OWN_POLICY" "$POLICY" 2>/dev/null; then
			held=yes # of a setup.sh that was killed: ours to remove
			return
		fi
		rc=0
		"$POLICY" nginx start >/dev/null 2>&1 </dev/null || rc=$?
		[ "$rc" -eq 101 ] ||
			fail "$POLICY of this machine lets new services start;" \
				"install these yourself, then run me again: $*"
		return
	fi
	held=yes
	printf '#!/bin/sh\n%s\nexit 101\n' "$OWN_POLICY" >"$POLICY.weft"
	chmod 755 "$POLICY.weft"
	mv "$POLICY.weft" "$POLICY"
}

# It wants to be called by dpkg; without systemd on the machine there is no systemctl, but there is this.
systemd_helper() { DPKG_MAINTSCRIPT_PACKAGE=weft deb-systemd-helper "$@"; }

# Not started is not enough: the next boot must not start them either.
disable_new() {
	[ -n "$before" ] || return 0
	for package in $(installed | comm -13 "$before" -); do
		for file in $(dpkg-query -L "$package" 2>/dev/null); do
			case $file in
			*/lib/systemd/system/*@.* | */lib/systemd/system/*.*/*) ;;
			*/lib/systemd/system/*.service | */lib/systemd/system/*.socket | */lib/systemd/system/*.timer)
				unit=${file##*/}
				if systemd_helper --quiet is-enabled "$unit" 2>/dev/null; then
					systemd_helper disable "$unit" >/dev/null 2>&1 ||
						say "setup: could not disable $unit: systemctl disable $unit" >&2
				fi
				;;
			/etc/init.d/*)
				name=${file##*/}
				if ls /etc/rc[2-5].d/S??"$name" >/dev/null 2>&1; then
					update-rc.d "$name" disable >/dev/null 2>&1 ||
						say "setup: could not disable $name: update-rc.d $name disable" >&2
				fi
				;;
			esac
		done
	done
}

finish() {
	disable_new
	[ -z "$held" ] || rm -f "$POLICY" "$POLICY.weft"
	[ -z "$before" ] || rm -f "$before"
	held=
	before=
}

apt() { DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" </dev/null; }

install_packages() {
	held=
	before=
	mkdir -p /run/lock # a container may have an empty /run
	exec 9>/run/lock/weft-setup.lock
	flock 9 # one at a time: each removes its own policy
	trap finish EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	if [ -n "$(unknown "$@")" ]; then
		say "setup: apt-get update"
		apt update || fail "apt-get update failed: is there a network, and is /etc/apt right?"
		none=$(unknown "$@")
		[ -z "$none" ] ||
			fail "apt knows no package $none- is there a network, and Debian's main component in /etc/apt?"
	fi
	hold_services "$@"
	before=$(mktemp)
	installed >"$before"
	say "setup: installing $*"
	apt install -y --no-install-recommends "$@" && return
	say "setup: trying again with fresh package lists"
	apt update || fail "apt-get update failed: is there a network, and is /etc/apt right?"
	apt install -y --no-install-recommends "$@" ||
		fail "apt-get could not install: $*; is there a network? What it said is above"
}

# ------------------------------------------------------------------ main

root() { # run as root, asking sudo if we are not
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null 2>&1; then
		sudo -- "$@"
	else
		fail "this needs root and there is no sudo: become root (su -), then run me again"
	fi
}

[ $# -ge 1 ] || usage
self=$(cd "$(dirname "$0")" && pwd)/setup.sh
cd "$(dirname "$self")/.."
PATH=$PATH:/usr/sbin:/sbin
export PATH

case $1 in
--install) # the part that runs as root
	shift
	install_packages "$@"
	exit 0
	;;
--packages)
	[ $# -eq 2 ] || usage
	need=$(packages "$2") || exit $?
	# shellcheck disable=SC2086
	set -- $need
	say "$@"
	exit 0
	;;
-*) usage ;;
esac
[ $# -eq 1 ] || usage
target=$1

need=$(packages all)
command -v apt-get >/dev/null 2>&1 ||
	fail "no apt here: weft builds on Debian 12 and 13. Elsewhere install the counterparts of" \
		"$(echo "$need" | tr -s '\n\t ' ' ')and run make $target"
if [ "$target" = fuzz ] && [ -z "$(clang_version)" ]; then
	root sh "$self" --install clang # its version names the package of the fuzzer's runtime
fi
need=$(packages "$target") || exit $?
# shellcheck disable=SC2086
lacks=$(missing $need)
if [ -n "$lacks" ]; then
	# shellcheck disable=SC2086
	root sh "$self" --install $lacks
fi

jobs=$(nproc 2>/dev/null || echo 1)
case $target in # as the user who asked, and in parallel; root then finds it done
demo | install) make -j"$jobs" all bench-programs ;;
check-kernels) make -j"$jobs" all kernel-programs ;;
interop) make -j"$jobs" all bench-programs kernel-programs peers ;;
bench | net) make -j"$jobs" all bench-programs bench-grpc peers kernel-programs ;;
test) make -j"$jobs" all bench-programs tests ;;
check) make -j"$jobs" all bench-programs bench-grpc peers kernel-programs tests ;;
esac
if needs_root "$target"; then
	root make PYTHON=/usr/bin/python3 "$target"
else
	make -j"$jobs" PYTHON=/usr/bin/python3 "$target"
fi
