# SPDX-License-Identifier: Apache-2.0
#
# node.sh: a node with five pods in one virtual machine, and what weft must do there on any kernel. Run by init.
#
# On the console: "guest: ok PART WHAT" or "guest: FAILED PART WHY", and then before it everything that the part has
# printed, behind "guest| "; "guest: program NAME INSTRUCTIONS BYTES" for each BPF program. run.sh reads these lines.

NODE=10.244.1.1
NODE6=fd00:244:0:1::1
VIP=10.96.0.10
EMPTY=10.96.0.11
THROUGH=10.96.0.12
PINS=/sys/fs/bpf/weft/default
CGROUP=/sys/fs/cgroup/pods
DAEMON=/sys/fs/cgroup/weftd
MANIFESTS=/etc/weft/manifests

ip() { /weft/ip "$@"; } # busybox's knows no netns

option() { # option NAME DEFAULT: from the kernel's command line
	value=$(sed -n "s/.*weft\.$1=\([^ ]*\).*/\1/p" /proc/cmdline)
	echo "${value:-$2}"
}

say() { # the part's result, beside its "ok"
	printf '%s ' "$*" >>/tmp/said
}

fail() {
	echo "$*"
	exit 1
}

wait_for() { # wait_for SECONDS WHAT COMMAND...: until the command succeeds
	seconds=$1
	what=$2
	shift 2
	end=$(($(seconds_up) + seconds))
	until "$@" >/tmp/last 2>&1; do
		if [ "$(seconds_up)" -ge "$end" ]; then
			cat /tmp/last
			fail "not within $seconds s: $what"
		fi
		usleep 50000
	done
}

seconds_up() { cut -d. -f1 /proc/uptime; }

same() { # same WHAT EXPECTED SEEN
	[ "$2" = "$3" ] || fail "$1: expected $2, saw $3"
}

# ------------------------------------------------------------------ the node

become() { # become POD COMMAND...: this process, in the pod's netns and cgroup, as an app there
	pod=$1
	shift
	exec sh -c 'echo 0 >"$0" && exec "$@"' "$CGROUP/$pod/cgroup.procs" nsenter --net="/run/netns/$pod" "$@"
}

inside() { (become "$@"); }

address() {
	case $1 in
	client) echo 10.244.1.10 ;;
	other) echo 10.244.1.11 ;;
	a) echo 10.244.1.12 ;;
	b) echo 10.244.1.13 ;;
	eager) echo 10.244.1.14 ;;
	plain-*) echo "10.244.1.2${1#plain-}" ;;
	auto-*) echo "10.244.1.3${1#auto-}" ;;
	esac
}

address6() { address "$1" | sed 's/.*\./fd00:244:0:1::/'; }

ask() { # ask POD ADDRESS PORT [COUNT]: each answer once
	inside "$1" guest ask "$2" "$3" "${4:-1}" | sort -u | tr '\n' ';'
}

kill_pods() {
	for file in "$CGROUP"/*/cgroup.kill; do
		[ ! -e "$file" ] || echo 1 >"$file"
	done
}

make_pod() { # a veth to the node, host routes, as a CNI plugin without a bridge does it
	mkdir "$CGROUP/$1"
	ip -batch - <<-END
		netns add $1
		link add v-$1 type veth peer name eth0 netns $1
		addr add $NODE/32 dev v-$1
		addr add $NODE6/128 dev v-$1 nodad
		link set v-$1 up
		route add $(address "$1")/32 dev v-$1
		route add $(address6 "$1")/128 dev v-$1
	END
	ip -n "$1" -batch - <<-END
		link set lo up
		link set eth0 up
		addr add $(address "$1")/32 dev eth0
		addr add $(address6 "$1")/128 dev eth0 nodad
		route add default via $NODE dev eth0 onlink
		route add default via $NODE6 dev eth0 onlink
	END
}

enrol() { # enrol POD OPTION...
	pod=$1
	shift
	weftctl pod add "default/$pod" --netns "/run/netns/$pod" --ip "$(address "$pod"),$(address6 "$pod")" "$@"
}

start_weftd() {
	# The hooks are at the root, so that they see weftd's own sockets too.
	# Before the pods: the one CPU is emulated, and thirty busy processes are more to it than to a real one.
	sh -c "echo 0 >$DAEMON/cgroup.procs && renice -n -10 -p \$\$ && exec weftd --cgroup /sys/fs/cgroup --node node \
		--manifests $MANIFESTS" >>/tmp/weftd.log 2>&1 &
	weftctl status --wait 60s >/tmp/status || fail "weftd does not get ready: $(head -n 1 /tmp/status)"
}

manifest() { # manifest NAME <TEXT: as a careful operator writes it
	cat >"$MANIFESTS/.$1.new"
	mv "$MANIFESTS/.$1.new" "$MANIFESTS/$1"
}

verdict() { # verdict allowed|refused POD DESTINATION: is that what weft would say?
	weftctl explain "default/$2" "$3" | grep -q "=> $1"
}

# ------------------------------------------------------------------ parts

part_probe() {
	mount -t bpf bpf /sys/fs/bpf
	mkdir -p /sys/fs/cgroup
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	weftd --probe >/tmp/probe || fail "$(cat /tmp/probe)"
	# init has loaded it, whatever else this kernel has: it is seen, and not used
	same "kernel TLS" "there, but not used: the worker encrypts" "$(sed -n 's/^kernel TLS  *off  *//p' /tmp/probe)"
	sed 's/^/guest: probe /' /tmp/probe >>/tmp/lines
	say "$(rows ok /tmp/probe | wc -l) ok$(rows off /tmp/probe | sed 's/ *$//; s/^/, off: /' | tr -d '\n')"
	same "things left in bpffs" 0 "$(find /sys/fs/bpf -mindepth 1 | wc -l)"
}

rows() { # rows STATE FILE: names of the rows of a table NAME STATE DETAIL
	awk -v state=" $1 " '{ at = index($0, state) } at && at < 24 { print substr($0, 1, at) }' "$2"
}

part_node() {
	mkdir -p "$CGROUP" "$DAEMON" "$MANIFESTS" /var/lib
	echo 1 >/proc/sys/net/ipv4/ip_forward
	echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
	for pod in client other a b eager; do
		make_pod $pod
	done
	start_weftd
	enrol client --service-account client
	enrol other --service-account other
	enrol a --label app=web
	enrol b --label app=web
	enrol eager --label app=eager --annotation weft.io/splice=always
	weftctl status --wait 30s
	guest inspect programs | sed 's/^/guest: program /' >>/tmp/lines
	say "5 pods, $(grep -c 'guest: program' /tmp/lines) programs,"
	if [ "$(splice_auto)" = ok ]; then say splice auto on; else say splice auto off; fi
}

splice_auto() { weftctl status | sed -n 's/^splice auto *\([a-zA-Z]*\) .*/\1/p'; }

part_services() {
	become a guest greet a 8080 8081 &
	become b guest greet b 8080 8081 &
	become eager guest greet eager 8080 &
	manifest services.yaml <<-END
		apiVersion: v1
		kind: Service
		metadata: { name: web, namespace: default }
		spec: { clusterIP: $VIP, selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }
		---
		apiVersion: v1
		kind: Service
		metadata: { name: empty, namespace: default }
		spec: { clusterIP: $EMPTY, selector: { app: nobody }, ports: [{ port: 80, targetPort: 8080 }] }
	END
	wait_for 30 "service web with two endpoints" two_endpoints
	wait_for 30 "greeters" greeted
	same "40 connections to the service" "a 8080 $VIP 80;b 8080 $VIP 80;" "$(ask client $VIP 80 40)"
	same "a service without endpoints" "ECONNREFUSED;" "$(ask client $EMPTY 80)"
	same "a port that the service has not" "ECONNREFUSED;" "$(ask client $VIP 81)"
	same "a pod at its own address" "a 8081 $(address a) 8081;" "$(ask client "$(address a)" 8081)"
	same "a pod by IPv6" "b 8081 $(address6 b) 8081;" "$(ask client "$(address6 b)" 8081)"
	say "spread over two endpoints, getpeername, refused without"
}

two_endpoints() {
	weftctl services | awk '$1 == "default/web" && $3 == 2 { found = 1 } END { exit !found }'
}

greeted() { listens a 8081 && listens b 8081 && listens eager 8080; }

policies() {
	manifest policies.yaml <<-END
		apiVersion: security.istio.io/v1
		kind: AuthorizationPolicy
		metadata: { name: clients, namespace: default }
		spec:
		  selector: { matchLabels: { app: web } }
		  rules: [{ from: [{ source: { principals: [cluster.local/ns/default/sa/client] } }] }]
		---
		apiVersion: security.istio.io/v1
		kind: AuthorizationPolicy
		metadata: { name: port, namespace: default }
		spec:
		  selector: { matchLabels: { app: web } }
		  action: DENY
		  rules: [{ to: [{ operation: { ports: ["8081"] } }] }]
		---
		apiVersion: security.istio.io/v1
		kind: AuthorizationPolicy
		metadata: { name: block, namespace: default }
		spec:
		  selector: { matchLabels: { app: eager } }
		  action: DENY
		  rules: [{ from: [{ source: { ipBlocks: [$(address other)/32] } }] }]
	END
}

decided() { # by the kernel, with or without its daemon
	same "the account that is allowed" "a 8080 $VIP 80;b 8080 $VIP 80;" "$(ask client $VIP 80 20)"
	same "another account" "ECONNREFUSED;" "$(ask other $VIP 80 5)"
	same "another account, IPv6" "ECONNREFUSED;" "$(ask other "$(address6 a)" 8080)"
	same "a port that is denied" "ECONNREFUSED;" "$(ask client "$(address a)" 8081)"
	same "an address that is denied" "ECONNREFUSED;" "$(ask other "$(address eager)" 8080)"
	same "an address that is not" "eager 8080 $(address eager) 8080;" "$(ask client "$(address eager)" 8080)"
	same "a service without endpoints" "ECONNREFUSED;" "$(ask client $EMPTY 80)"
}

part_policy() {
	become a guest greet a 8080 8081 &
	become b guest greet b 8080 8081 &
	become eager guest greet eager 8080 &
	wait_for 30 "greeters" greeted
	policies
	wait_for 30 "three policies in force" in_force
	decided
	say "account, port and block, IPv4 and IPv6;"
	echo 1 >$DAEMON/cgroup.kill
	wait_for 30 "end of weftd" gone "$(cat /run/weft/default/lock)" "$(cat /run/weft/default/worker.pid)"
	decided
	start_weftd
	same "enrolled pods after the new start" 5 "$(weftctl pods | grep -c '^default/')"
	decided
	rm "$MANIFESTS/policies.yaml"
	wait_for 30 "no policy in force" not_in_force
	say "the same after kill -9 of both processes and with the next weftd"
}

in_force() {
	verdict refused other default/a:8080 && verdict refused client default/a:8081 &&
		verdict refused other default/eager:8080 && verdict allowed client default/a:8080
}

not_in_force() { verdict allowed other default/a:8080 && verdict allowed other default/eager:8080; }

gone() {
	for pid; do
		[ ! -e "/proc/$pid" ] || return 1
	done
}

# ---- splice

shown() { # the path and the reason of the connections to POD
	weftctl connections | awk -v to="default/$1:" 'index($2, to) == 1 { print $4, $5 }' | sort -u | tr '\n' ';'
}

is_shown() { # is_shown POD PATH-AND-REASON
	[ "$(shown "$1")" = "$2;" ]
}

talk_to() { # a conversation with POD in the background; its process is $talker
	become client guest traffic run "$(address "$1")" 7000 >"/tmp/talk-$1" 2>&1 &
	talker=$!
}

hang_up() { # orderly: both sides have seen every byte
	kill -TERM "$talker"
	wait "$talker" || fail "traffic with $1: $(cat "/tmp/talk-$1")"
}

# Where an iterator over sockets may crash the kernel nobody enters, whatever the annotation says.
never_spliced() { weftctl status | grep -q '^ *socket iterators *off'; }

forced() {
	if never_spliced; then echo "tcp switched_off"; else echo "splice spliced"; fi
}

part_splice() {
	become a guest traffic serve 7000 &
	become eager guest traffic serve 7000 &
	wait_for 30 "listener of a" listens a 7000
	wait_for 30 "listener of eager" listens eager 7000
	expected="tcp kernel_unsafe"
	[ "$(splice_auto)" != ok ] || expected="splice spliced"
	! never_spliced || expected="tcp switched_off"
	talk_to a
	wait_for 30 "a conversation that is shown as $expected" is_shown a "$expected"
	hang_up a
	! never_spliced || weftctl status | grep -q "^splice *off: this kernel cannot" || fail "$(weftctl status)"
	say "auto: $expected;"
	talk_to eager
	wait_for 30 "a conversation with the annotation always that is shown as $(forced)" is_shown eager "$(forced)"
	hang_up eager
	say "always: $(forced)"
}

listens() { # listens POD PORT
	nsenter --net="/run/netns/$1" cat /proc/net/tcp6 | grep -q ":$(printf %04X "$2") .* 0A "
}

# ---- through the worker: captured, taken by its thread, delivered from the client's address

part_proxy() {
	become eager guest greet eager 8080 &
	become eager guest traffic serve 7000 &
	manifest through.yaml <<-END
		apiVersion: v1
		kind: Service
		metadata: { name: through, namespace: default, annotations: { weft.io/proxy: always } }
		spec:
		  clusterIP: $THROUGH
		  selector: { app: eager }
		  ports: [{ name: a, port: 80, targetPort: 8080 }, { name: b, port: 7000 }]
	END
	wait_for 30 "greeter" listens eager 8080
	wait_for 30 "listener of eager" listens eager 7000
	wait_for 30 "the way through the worker" proxied
	same "20 connections through the worker" "eager 8080 $THROUGH 80;" "$(ask client $THROUGH 80 20)"
	same "a port of weft's own" "ECONNREFUSED;" "$(ask client "$(address eager)" 15001)"
	become client guest traffic run $THROUGH 7000 >/tmp/talk-eager 2>&1 &
	talker=$!
	wait_for 30 "a conversation that is shown as proxied" is_shown eager "proxy proxied"
	hang_up eager
	rm "$MANIFESTS/through.yaml"
	wait_for 30 "end of the service" not_proxied
	say "20 connections, a checked conversation"
}

proxied() { weftctl explain default/client $THROUGH:80 | grep -q "=> allowed.*proxied"; }

not_proxied() { ! weftctl services | grep -q default/through; }

part_bytes() {
	before=$(redirected)
	become eager guest traffic serve 7000 &
	wait_for 30 "listener of eager" listens eager 7000
	talk_to eager
	wait_for 30 "$(forced)" is_shown eager "$(forced)"
	kill -USR1 "$talker"
	end=$(($(seconds_up) + $(option bytes 8)))
	toggles=0
	while [ "$(seconds_up)" -lt "$end" ]; do
		weftctl splice off
		usleep 150000
		weftctl splice on
		usleep 350000
		toggles=$((toggles + 1))
		kill -0 "$talker" || fail "traffic ended: $(cat /tmp/talk-eager)"
	done
	hang_up eager
	! never_spliced || weftctl splice off # as weftd had left it
	never_spliced || wait_for 30 "its connection in the counters" more_redirected "$before"
	say "$(cat /tmp/talk-eager), $(($(redirected) - before)) redirected; splice off and on $toggles times"
}

redirected() { # bytes that closed connections had spliced
	weftctl -o json traffic | sed -n 's/.*"spliced_bytes": \([0-9]*\).*/\1/p' |
		awk '{ sum += $1 } END { print sum + 0 }'
}

more_redirected() { [ "$(redirected)" -gt "$1" ]; }

# A new policy ends what it forbids, spliced or not.
part_ended() {
	become eager guest traffic serve 7000 &
	wait_for 30 "listener of eager" listens eager 7000
	talk_to eager
	wait_for 30 "$(forced)" is_shown eager "$(forced)"
	manifest deny.yaml <<-END
		apiVersion: security.istio.io/v1
		kind: AuthorizationPolicy
		metadata: { name: nobody, namespace: default }
		spec:
		  selector: { matchLabels: { app: eager } }
		  action: DENY
		  rules: [{ to: [{ operation: { ports: ["7000"] } }] }]
	END
	wait_for 30 "end of the connection that the policy forbids" gone "$talker"
	if wait "$talker"; then fail "it ended in order: $(cat /tmp/talk-eager)"; fi
	rm "$MANIFESTS/deny.yaml"
	wait_for 30 "no policy in force" verdict allowed client default/eager:7000
	say "a connection ($(forced)) ends with the policy that forbids it"
}

# Every row of tests/net/equivalence between two pods that weft does not know, and between two that it does.
part_equivalence() {
	for pod in plain-1 plain-2 auto-1 auto-2; do
		make_pod $pod
	done
	play plain >/tmp/direct
	enrol auto-1
	enrol auto-2
	play auto --ask "weftctl -o json connections" >/tmp/auto
	weftctl pod del default/auto-1
	weftctl pod del default/auto-2
	equivalence compare /tmp/direct /tmp/auto >/tmp/compared || fail "$(cat /tmp/compared)"
	sed 's/^/guest: row /' /tmp/compared >>/tmp/lines
	say "$(tail -n 1 /tmp/compared)"
}

play() { # play PAIR OPTION...: rows are slow on an emulated CPU, and those that want pods of their own come last
	pair=$1
	shift
	equivalence run --client-netns "$pair-1" --client-cgroup "$CGROUP/$pair-1" --server-netns "$pair-2" \
		--server-cgroup "$CGROUP/$pair-2" --server-address "$(address "$pair-2")" --jobs 6 --patience 5000 \
		--limit 60000 "$@"
}

empty_maps() {
	[ "$(guest inspect count $PINS/conns)" -eq 0 ] && [ "$(guest inspect count $PINS/splices)" -eq 0 ]
}

races_round() { # adds to $opened, $spliced, $by_clients, $by_servers
	become eager guest races serve 7100 >/tmp/races-server 2>&1 &
	server=$!
	wait_for 30 "listener of eager" listens eager 7100
	inside client guest races run "$(address eager)" 7100 200 "$(option races 10)" 24 \
		>/tmp/races-client 2>&1 || fail "client: $(cat /tmp/races-client)"
	kill -TERM "$server"
	wait "$server" || fail "server: $(cat /tmp/races-server)"
	sed 's/^/guest: races /' /tmp/races-client /tmp/races-server >>/tmp/lines
	kill_pods
	wait_for 30 "empty maps conns and splices" empty_maps
	opened=$((opened + $(sed 's/ .*//' /tmp/races-client)))
	spliced=$((spliced + $(sed 's/.*; \([0-9]*\) spliced.*/\1/' /tmp/races-client)))
	by_clients=$((by_clients + $(cut -d, -f2 /tmp/races-client | tr -dc 0-9)))
	by_servers=$((by_servers + $(cut -d, -f2 /tmp/races-server | tr -dc 0-9)))
}

# Where the emulated CPU has little of a busy machine, most connections end before weft has looked at them.
part_races() {
	opened=0 spliced=0 by_clients=0 by_servers=0
	for round in 1 2 3 4 5 6; do
		races_round
		[ "$spliced" -lt 100 ] || break
	done
	[ "$spliced" -ge 100 ] || never_spliced ||
		fail "only $spliced of $opened connections were spliced, in $round rounds"
	weftctl status --wait 30s
	say "$by_clients ends by clients, $by_servers by servers; $spliced of $opened connections were spliced"
}

part_end() {
	kill_pods
	wait_for 30 "empty maps conns and splices" empty_maps
	for pod in client other a b eager; do
		weftctl pod del default/$pod
	done
	supervisor=$(cat /run/weft/default/lock)
	kill -TERM "$supervisor"
	wait_for 30 "end of weftd" gone "$supervisor"
	weftd --uninstall
	same "things left in bpffs" 0 "$(find /sys/fs/bpf -mindepth 1 | wc -l)"
	wait_for 30 "end of the last program" no_programs
	say "no entry, no program, no pin left"
}

no_programs() { [ -z "$(guest inspect programs)" ]; }

COMPLAINTS='BUG|Oops|WARNING:|Call Trace|general protection|blocked for more than|soft lockup|detected stall'
COMPLAINTS="$COMPLAINTS|refcount_t|UBSAN|list_(add|del) corruption|Poison overwritten|Redzone|use-after-free"

# Whatever the kernel has complained about since it was booted.
part_kernel() {
	dmesg >/tmp/dmesg
	if grep -E "$COMPLAINTS" /tmp/dmesg; then
		tail -n 100 /tmp/dmesg
		fail "the kernel complained"
	fi
	tasks=$(cat /proc/[0-9]*/stat | awk '{ sub(/.*\) /, "") } $1 == "D" && $2 != 2' | wc -l)
	same "tasks that sleep for ever" 0 "$tasks"
	say "no complaint"
}

# ------------------------------------------------------------------ all of them

part() {
	: >/tmp/said
	: >/tmp/lines
	(
		set -eu
		"part_$1"
	) >/tmp/out 2>&1
	rc=$?
	kill_pods
	cat /tmp/lines
	if [ "$rc" -eq 0 ]; then
		echo "guest: ok $1 $(cat /tmp/said)[$(seconds_up) s]"
		return
	fi
	{
		cat /tmp/out
		echo "--- weftd"
		tail -n 30 /tmp/weftd.log
		echo "--- status"
		timeout 5 weftctl status
		echo "--- connections"
		timeout 5 weftctl connections
		echo "--- dmesg"
		dmesg | tail -n 10
	} 2>&1 | sed 's/^/guest| /'
	echo "guest: FAILED $1 $(tail -n 1 /tmp/out)"
}

echo 20 >/proc/sys/kernel/hung_task_timeout_secs
for name in $(option parts probe | tr , ' '); do
	part "$name"
	[ "$name" != node ] || [ "$rc" -eq 0 ] || break # nothing else can work
done
echo "guest: done"
