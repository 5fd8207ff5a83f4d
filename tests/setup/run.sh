#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run.sh [RELEASE...]: tools/setup.sh on fresh Debians (bookworm trixie): a debootstrap of each, the tree copied in
# without .git, then: what setup.sh promises. Needs root, debootstrap and a Debian mirror (MIRROR). `make check-setup`.

set -eu
cd "$(dirname "$0")/../.."
MIRROR=${MIRROR:-http://deb.debian.org/debian}
[ $# -gt 0 ] || set -- bookworm trixie
[ "$(id -u)" -eq 0 ] || {
	echo "check-setup: needs root: sudo make check-setup" >&2
	exit 1
}
command -v debootstrap >/dev/null || {
	echo "check-setup: needs debootstrap: apt-get install debootstrap" >&2
	exit 1
}

top=$(mktemp -d /var/tmp/weft-setup.XXXXXX)
trap 'rm -rf --one-file-system "$top"' EXIT
trap 'exit 130' INT TERM HUP

inside() { # inside COMMAND: in the fresh Debian, with mounts that end with it
	unshare --mount --pid --fork --kill-child sh -euc '
		mount --bind "$1" "$1" # "/" of the chroot is a mount then, as a lab expects
		mount -t proc proc "$1/proc"
		mount --rbind /sys "$1/sys"
		mount --make-rslave "$1/sys"
		mount --rbind /dev "$1/dev"
		mount --make-rslave "$1/dev"
		exec chroot "$1" /usr/bin/env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin sh -ec "cd /weft; $2"
	' sh "$root" "$1"
}

failed=0
expect() { # expect WHAT COMMAND: the command inside succeeds
	start=$(date +%s)
	if inside "$2" >"$top/log" 2>&1 </dev/null; then
		printf '  ok     %-9s %-58s %4d s\n' "$release" "$1" $(($(date +%s) - start))
		return
	fi
	failed=$((failed + 1))
	tail -n 40 "$top/log"
	printf '  FAILED %-9s %s\n' "$release" "$1"
}

for release; do
	root=$top/$release
	debootstrap --variant=minbase "$release" "$root" "$MIRROR" >"$top/log" 2>&1 || {
		tail -n 20 "$top/log"
		echo "check-setup: debootstrap of $release failed" >&2
		exit 1
	}
	cp /etc/resolv.conf "$root/etc/resolv.conf"
	mkdir "$root/weft"
	tar c --exclude=./.git --exclude='./build*' --exclude=__pycache__ . | tar x -C "$root/weft"

	expect "unknown target: usage, exit 2" 'rc=0; sh tools/setup.sh nonsense || rc=$?; [ $rc = 2 ]'
	expect "no apt: one sentence, exit 1" '
		mkdir /tmp/bare && for p in sh dirname tr; do ln -s /bin/$p /tmp/bare/; done
		rc=0; said=$(PATH=/tmp/bare /tmp/bare/sh tools/setup.sh check 2>&1) || rc=$?
		echo "$said"; [ $rc = 1 ] && case $said in *"no apt here"*) ;; *) exit 1 ;; esac'
	expect "no mirror: one sentence, no policy-rc.d left" '
		cp -a /etc/apt/sources.list /tmp/ && echo "deb http://127.0.0.1:1/ nowhere main" >/etc/apt/sources.list
		rc=0; said=$(sh tools/setup.sh bpf 2>&1) || rc=$?; cp -a /tmp/sources.list /etc/apt/
		echo "$said"; [ $rc = 1 ] && [ ! -e /usr/sbin/policy-rc.d ] &&
		case $said in *"is there a network"*) ;; *) exit 1 ;; esac'
	expect "a policy-rc.d that lets services start is not replaced" '
		printf "#!/bin/sh\nexit 0\n" >/usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d; apt-get update
		rc=0; said=$(sh tools/setup.sh demo 2>&1) || rc=$?; echo "$said"
		[ $rc = 1 ] && [ "$(cat /usr/sbin/policy-rc.d)" = "#!/bin/sh
exit 0" ] && case $said in *"lets new services start"*) rm /usr/sbin/policy-rc.d ;; *) exit 1 ;; esac'
	expect "all" 'sh tools/setup.sh all && [ -x build/weftd ] && [ -x build/weft-worker ] && build/weftctl help'
	expect "what check needs, over a policy of a killed setup.sh" '
		printf "#!/bin/sh\n%s\nexit 101\n" "$(sed -n "s/^OWN_POLICY=.\(.*\).$/\1/p" tools/setup.sh)" \
			>/usr/sbin/policy-rc.d
		sh tools/setup.sh --install $(sh tools/setup.sh --packages check)'
	expect "no policy-rc.d left" '[ ! -e /usr/sbin/policy-rc.d ]'
	expect "no service enabled by it" '
		! ls /etc/rc[2-5].d/S*nginx /etc/rc[2-5].d/S*iperf3 && ! find /etc/systemd | grep -E "nginx|iperf3" &&
		! ls /etc/rc[2-5].d/S*redis-server /etc/rc[2-5].d/S*postgresql &&
		! find /etc/systemd -path "*.wants/*" | grep -E "redis|postgresql"'
	expect "still disabled after a reinstallation" '
		apt-get install -y --reinstall nginx nginx-common && ! ls /etc/rc[2-5].d/S*nginx &&
		! find /etc/systemd | grep nginx'
	expect "no server runs" '! grep -lsxE "nginx|redis-server|postgres" /proc/[0-9]*/comm'
	expect "nothing missing: neither root nor network needed" '
		useradd -m someone && chown -R someone /weft && mv /etc/apt/sources.list /tmp/ &&
		setpriv --reuid someone --regid someone --clear-groups env HOME=/home/someone sh tools/setup.sh bpf'
	expect "not root and no sudo: one sentence" '
		set -- setpriv --reuid someone --regid someone --clear-groups
		rc=0; said=$("$@" sh tools/setup.sh check-arm64 2>&1) || rc=$?
		echo "$said"; [ $rc = 1 ] && case $said in *"there is no sudo"*) ;; *) exit 1 ;; esac'
	expect "the demo" 'make demo'
	expect "two nodes, certificates, HTTP, Gateways" '
		make -j"$(nproc)" all bench-programs kernel-programs equivalence build/tests/net/soak
		python3 -B -m pytest -q -p no:cacheprovider tests/net/test_tunnel.py tests/net/test_certs.py \
			tests/net/test_http.py tests/net/test_gateway.py'
	expect "unit tests" 'make -j"$(nproc)" test'
	expect "lint" 'make lint'
	expect "install and uninstall" '
		make install PREFIX=/usr
		/usr/sbin/weftd --version
		weftctl version
		make uninstall PREFIX=/usr
		left=$(find / -xdev \( -path /weft -o -path /tmp -o -path /run/lock -o -path /run/weft-lab \) \
			-prune -o -name "*weft*" -print)
		echo "$left"; [ -z "$left" ]'
	rm -rf --one-file-system "$root"
done
[ "$failed" -eq 0 ] || {
	echo "check-setup: $failed failed"
	exit 1
}
echo "check-setup: $* pass"
