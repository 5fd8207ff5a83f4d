// SPDX-License-Identifier: Apache-2.0
/* owners.c: rows about what else may sit on a socket: kTLS, filters, MD5, KCM, a sockmap of the program's own. */
#include "rows.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/kcm.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <linux/tls.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef AF_KCM
#define AF_KCM 41
#endif

static void exchange_text(struct side *s)
{
	char data[5];

	if (s->client)
		put_text(s, "hello");
	get(s, data, 5);
	saw(s, "\"%s\"", quoted(data, 5));
	if (!s->client)
		put_text(s, "world");
}

/* ------------------------------------------------------------------ 28: kTLS */

static void tls_on(struct side *s)
{
	struct tls12_crypto_info_aes_gcm_128 key = {
		.info = { .version = TLS_1_2_VERSION, .cipher_type = TLS_CIPHER_AES_GCM_128 },
		.iv = "weft-iv", .key = "weft-test-key-0", .salt = "wef",
	};
	int rc = setsockopt(s->fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls"));

	if (rc && errno == ENOENT)
		absent(s, "TCP_ULP tls: %s", result(rc));
	saw(s, "TCP_ULP tls = %s", result(rc));
	saw(s, "TLS_TX = %s", result(setsockopt(s->fd, SOL_TLS, TLS_TX, &key, sizeof(key))));
	saw(s, "TLS_RX = %s", result(setsockopt(s->fd, SOL_TLS, TLS_RX, &key, sizeof(key))));
}

static void tls_live(struct side *s)
{
	by_nature(s, true);
	tls_on(s);
	by_nature(s, false);
	meet(s);
	exchange_text(s);
}

static void tls_before(struct side *s)
{
	meet(s);
	exchange_text(s);
}

/* ------------------------------------------------------------------ 37: filters, MD5, capture */

static int filter(struct side *s, unsigned verdict)
{
	struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, verdict) };
	struct sock_fprog prog = { .len = 1, .filter = code };
	int rc = setsockopt(s->fd, SOL_SOCKET, SO_ATTACH_FILTER, &prog, sizeof(prog));

	saw(s, "SO_ATTACH_FILTER, %s = %s", verdict ? "pass" : "drop", result(rc));
	return rc;
}

static void filter_before(struct side *s)
{
	if (!s->client)
		filter(s, ~0u);
}

static void send_into_filter(struct side *s)
{
	hear(s);
	put_text(s, "abcde");
	tell(s, 0);
	hear(s);
	delivered(s);
	tell(s, 0);
}

/* Nothing comes through; when the filter is gone, TCP sends it again. */
static void drop_then_pass(struct side *s)
{
	filter(s, 0);
	tell(s, 0);
	hear(s);
	see_poll(s, POLLIN, 100);
	saw(s, "SO_DETACH_FILTER = %s", result(setsockopt(s->fd, SOL_SOCKET, SO_DETACH_FILTER, &(int){ 0 }, 4)));
	tell(s, 0);
	hear(s);
	see_recv(s, 100, 0);
}

static void signed_segments(struct side *s)
{
	struct tcp_md5sig m = { .tcpm_keylen = 4, .tcpm_key = "weft" };
	int option = TCP_MD5SIG;
	int rc;

	memcpy(&m.tcpm_addr, &s->address, s->address_len);
	if (!s->dials) { /* whoever comes */
		m.tcpm_flags = TCP_MD5SIG_FLAG_PREFIX;
		option = TCP_MD5SIG_EXT;
		if (s->address.ss_family == AF_INET6)
			((struct sockaddr_in6 *)&m.tcpm_addr)->sin6_addr = in6addr_any;
		else
			((struct sockaddr_in *)&m.tcpm_addr)->sin_addr.s_addr = htonl(INADDR_ANY);
	}
	rc = setsockopt(s->fd, IPPROTO_TCP, option, &m, sizeof(m));
	if (rc && errno == ENOPROTOOPT)
		absent(s, "TCP_MD5SIG: %s", result(rc));
	saw(s, "TCP_MD5SIG = %s", result(rc));
}

#define NEEDLE "needle-in-a-packet"

static void send_needle(struct side *s)
{
	hear(s);
	arrive(s, NEEDLE);
}

static void capture(struct side *s)
{
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
	bool found = false;
	char data[4096];
	ssize_t n;

	if (fd < 0)
		absent(s, "packet socket: %s", result(fd));
	tell(s, 0);
	await(s);
	while ((n = recv(fd, data, sizeof(data), 0)) > 0)
		found = found || memmem(data, (size_t)n, NEEDLE, sizeof(NEEDLE) - 1);
	by_nature(s, true);
	saw(s, "a packet socket %s it", found ? "sees" : "does not see");
	by_nature(s, false);
	see_recv(s, 100, 0);
}

/* ------------------------------------------------------------------ BPF, by hand: nothing but libc is linked */

static int bpf(int command, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, command, attr, sizeof(*attr));
}

/* return `value`; */
static int load_program(int type, int attach, int value)
{
	struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = value },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr a = {
		.prog_type = (unsigned)type, .expected_attach_type = (unsigned)attach, .insn_cnt = 2,
		.insns = (unsigned long)code, .license = (unsigned long)"Apache-2.0",
	};

	return bpf(BPF_PROG_LOAD, &a);
}

/* ------------------------------------------------------------------ 40: a sockmap of the program's own */

static void own_map(struct side *s)
{
	union bpf_attr a = { .map_type = BPF_MAP_TYPE_SOCKMAP, .key_size = 4, .value_size = 4, .max_entries = 1 };
	int map = (int)must(s, bpf(BPF_MAP_CREATE, &a));
	int program = (int)must(s, load_program(BPF_PROG_TYPE_SK_MSG, BPF_SK_MSG_VERDICT, 1));
	unsigned key = 0, value = (unsigned)s->fd;

	a = (union bpf_attr){ .target_fd = (unsigned)map, .attach_bpf_fd = (unsigned)program,
			      .attach_type = BPF_SK_MSG_VERDICT };
	must(s, bpf(BPF_PROG_ATTACH, &a));
	a = (union bpf_attr){ .map_fd = (unsigned)map, .key = (unsigned long)&key, .value = (unsigned long)&value };
	saw(s, "the program's own sockmap takes its socket: %s", result(bpf(BPF_MAP_UPDATE_ELEM, &a)));
}

static void own_map_before(struct side *s)
{
	if (s->client)
		own_map(s);
}

static void own_map_live(struct side *s)
{
	by_nature(s, true);
	if (s->client)
		own_map(s);
	by_nature(s, false);
	exchange_text(s);
}

/* ------------------------------------------------------------------ 39: the kernel reads */

static void kernel_connection(struct side *s)
{
	char data[16];
	struct kcm_attach attach = { .fd = s->fd };
	int kcm = socket(AF_KCM, SOCK_DGRAM | SOCK_CLOEXEC, KCMPROTO_CONNECTED);
	ssize_t n;

	if (kcm < 0)
		absent(s, "KCM, a reader of TCP inside the kernel: %s", result(kcm));
	attach.bpf_fd = load_program(BPF_PROG_TYPE_SOCKET_FILTER, 0, 5); /* every message has 5 bytes */
	must(s, attach.bpf_fd);
	saw(s, "SIOCKCMATTACH = %s", result(ioctl(kcm, SIOCKCMATTACH, &attach)));
	tell(s, 0);
	for (int i = 0; i < 2; i++) {
		n = wait_for(kcm, POLLIN, 2000) ? recv(kcm, data, sizeof(data), MSG_DONTWAIT) : -1;
		saw(s, "from KCM: %s \"%s\"", n < 0 ? "nothing" : result(n), n > 0 ? quoted(data, (size_t)n) : "");
	}
}

static void send_to_kernel(struct side *s)
{
	hear(s);
	put_text(s, "abcde");
	put_text(s, "fghij");
	meet(s);
}

static void read_by_kernel(struct side *s)
{
	by_nature(s, true);
	kernel_connection(s);
	by_nature(s, false);
	meet(s);
}

#define LATE_TLS "a socket that is in a sockmap takes no keys (EINVAL); OpenSSL then encrypts itself, as without kTLS"
#define CAPTURE "packet capture and counters of netfilter see packets, and a splice makes none; weft counts the bytes"
#define FIRST "one socket has one owner; who comes second gets EBUSY, as with any two sockmaps"

const struct row owners_rows[] = {
	{ "28", "ktls", "kTLS from the start", tls_before, tls_before, .early = tls_on, .flags = ROW_SILENT },
	{ "28", "ktls-live", "TCP_ULP \"tls\" and keys after a conversation, as STARTTLS does", tls_live, tls_live,
	  .nature = LATE_TLS },
	{ "37", "filter", "SO_ATTACH_FILTER set on the listener", exchange_text, exchange_text,
	  .before = filter_before },
	{ "37", "filter-live", "a filter that drops everything, attached after a conversation and taken away",
	  send_into_filter, drop_then_pass },
	{ "37", "md5", "TCP-MD5 signatures", exchange_text, exchange_text, .before = signed_segments },
	{ "37", "capture", "a packet socket in the server's pod", send_needle, capture, .nature = CAPTURE },
	{ "39", "kernel-reader", "the kernel reads the socket (KCM) after a conversation",
	  send_to_kernel, read_by_kernel, .nature = FIRST },
	{ "40", "own-sockmap", "the program enters its socket into a sockmap of its own right after connect",
	  exchange_text, exchange_text, .early = own_map_before },
	{ "40", "own-sockmap-live", "the same after a conversation", own_map_live, own_map_live, .nature = FIRST },
	{},
};
