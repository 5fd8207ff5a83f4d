# SPDX-License-Identifier: Apache-2.0
#
# debian.sh: packages of Debian for $arch from sources of our own below $apt, for the scripts that source this and have
# fail(). What the machine has installed, and where from, is not touched.

mirror=${MIRROR:-http://deb.debian.org}
keys=/usr/share/keyrings/debian-archive-keyring.gpg

apt_own() { # apt_own TOOL ARGUMENT...
	tool=$1
	shift
	"$tool" -q -o "Dir::Etc::sourcelist=$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o "Dir::State::lists=$apt/lists" -o "Dir::State::status=$apt/status" -o "Dir::Cache=$apt" \
		-o "APT::Architecture=$arch" -o "APT::Architectures=$arch" -o Acquire::Languages=none \
		-o APT::Sandbox::User=root -o Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false "$@"
}

apt_lists() { # apt_lists "ARCHIVE SUITE"...: reads what there is
	mkdir -p "$apt/lists/partial" "$apt/archives/partial"
	: >>"$apt/status"
	for suite; do
		printf 'deb [signed-by=%s] %s/%s main\n' "$keys" "$mirror" "$suite"
	done >"$apt/sources.list"
	apt_own apt-get update >"$apt/log" 2>&1 || {
		cat "$apt/log" >&2
		fail "could not read the package lists of $mirror"
	}
}
