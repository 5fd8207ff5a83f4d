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

mounted=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
[ -n "$mounted" ] || {
	echo "check-setup: needs cgroup v2: mount -t cgroup2 none /sys/fs/cgroup/unified" >&2
	exit 1
}
home=$mounted$(sed -n 's/^0:://p' /proc/self/cgroup)
cgroup=$mounted/weft-setup
mkdir -p "$cgroup"

top=$(mktemp -d /var/tmp/weft-setup.XXXXXX)
trap 'echo $$ >"$home/cgroup.procs"; rm -rf --one-file-system "$top"; rmdir "$cgroup"' EXIT
trap 'exit 130' INT TERM HUP

# In the fresh Debian as if it were a machine: nothing of the host's cgroups, pins and run folders, mounts that end
# with it. Who keeps a registry's certificates in the usual place has them there too.
inside() { # inside COMMAND
	echo $$ >"$cgroup/cgroup.procs"
	unshare --mount --pid --cgroup --fork --kill-child sh -euc '
		mount --make-rprivate /
		mount --bind "$1" "$1"
		mount -t proc proc "$1/proc"
		mount -t sysfs sysfs "$1/sys"
		mount -t tmpfs tmpfs "$1/sys/fs/cgroup"
		mkdir "$1/sys/fs/cgroup/unified"
		mount --bind "$3" "$1/sys/fs/cgroup/unified"
		for fs in bpf:/sys/fs/bpf debugfs:/sys/kernel/debug tracefs:/sys/kernel/tracing; do
			mount -t "${fs%%:*}" "${fs%%:*}" "$1${fs#*:}"
		done
		mount --rbind /dev "$1/dev"
		mkdir -p "$1/host"
		cd "$1"
		pivot_root . host
		umount -l /host
		certificates=/etc/ssl/certs/ca-certificates.crt
		exec env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin SSL_CERT_FILE=$certificates \
			PIP_CERT=$certificates sh -ec "cd /weft; $2"
	' sh "$root" "$1" "$cgroup"
	rc=$?
	echo $$ >"$home/cgroup.procs"
	return $rc
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
	expect "also of --packages" 'rc=0; sh tools/setup.sh --packages nonsense || rc=$?; [ $rc = 2 ]'
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
	[ ! -d /usr/local/share/ca-certificates ] || cp -r /usr/local/share/ca-certificates "$root/usr/local/share/"
	expect "check, whole" 'update-ca-certificates; sh tools/setup.sh check'
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
