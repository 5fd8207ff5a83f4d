#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# sysroot.sh DIR: what weft is built with and runs on, from Debian's packages for arm64, below DIR/root: for a cross
# compiler (--sysroot) and for the virtual machines. Of the Debian that runs here. Nothing is installed.

set -eu
here=$(cd "$(dirname "$0")" && pwd)
arch=arm64
mkdir -p "$1"
dir=$(cd "$1" && pwd)
apt=$dir/apt
packages="libc6-dev libbpf-dev libelf-dev zlib1g-dev libmnl-dev libxxhash-dev libjansson-dev libyaml-dev libnghttp2-dev
	libpcre2-dev libssl-dev liburcu-dev busybox-static iproute2"

fail() {
	printf 'check-arm64: %s\n' "$*" >&2
	exit 1
}

# shellcheck source=tests/kernels/debian.sh
. "$here/debian.sh"

code=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
case $code in
bookworm | trixie) ;;
*) fail "this is neither Debian 12 nor 13" ;;
esac
stamp="$code $packages"
[ "$(cat "$dir/has" 2>/dev/null)" != "$stamp" ] || exit 0
echo "  fetching Debian's packages for $arch"
rm -rf "$dir/root" "$dir/has"
apt_lists "debian $code" "debian-security $code-security"
# shellcheck disable=SC2086
apt_own apt-get -y --no-install-recommends --download-only install $packages >"$apt/log" 2>&1 || {
	cat "$apt/log" >&2
	fail "could not download the packages"
}
mkdir -p "$dir/root/usr/lib" "$dir/root/usr/bin" "$dir/root/usr/sbin"
for folder in lib bin sbin; do # as Debian has it
	ln -s "usr/$folder" "$dir/root/$folder"
done
for package in "$apt"/archives/*.deb; do
	dpkg-deb --fsys-tarfile "$package" | tar x --keep-directory-symlink -C "$dir/root" || fail "broken: $package"
done
rm -f "$apt"/archives/*.deb
echo "$stamp" >"$dir/has"
