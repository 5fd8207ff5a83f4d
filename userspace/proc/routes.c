/* SPDX-License-Identifier: Apache-2.0 */
/* routes.c: see routes.h. */
#include "routes.h"

#include <errno.h>
#include <fcntl.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netns.h"

#define PREF 100
#define TABLE 15008
#define MASK 0xfff
#define BUF 8192

/*
 * Protocol of our IPv4 rule: PROTOCOL and a bit for each sysctl that we have switched on. Nobody else uses these
 * numbers (/etc/iproute2/rt_protos).
 */
#define PROTOCOL 112

static const char *const switches[] = {
	"/proc/sys/net/ipv4/tcp_fwmark_accept",
	"/proc/sys/net/ipv4/fwmark_reflect",
	"/proc/sys/net/ipv6/fwmark_reflect", /* not there without IPv6 */
};

/* ------------------------------------------------------------------ sysctls, of the netns that we are in */

static int read_switch(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), err;
	char value = 0;
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = read(fd, &value, 1);
	err = n < 0 ? -errno : n == 1 ? value != '0'
				      : -EIO;
	close(fd);
	return err;
}

static int write_switch(const char *path, bool on)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, on ? "1" : "0", 1) != 1)
		err = -errno;
	close(fd);
	return err;
}

/* ------------------------------------------------------------------ rules and routes */

struct talk {
	struct mnl_socket *sock;
	uint32_t seq;
	char buf[BUF] __attribute__((aligned(8)));
};

static struct nlmsghdr *begin(struct talk *t, uint16_t type, uint16_t flags)
{
	struct nlmsghdr *h;

	memset(t->buf, 0, sizeof(t->buf));
	h = mnl_nlmsg_put_header(t->buf);
	h->nlmsg_type = type;
	h->nlmsg_flags = NLM_F_REQUEST | flags;
	h->nlmsg_seq = ++t->seq;
	return h;
}

/* 0 or -errno as the kernel says */
static int ask(struct talk *t, const struct nlmsghdr *h, mnl_cb_t each, void *ctx)
{
	ssize_t n;
	int got;

	if (mnl_socket_sendto(t->sock, h, h->nlmsg_len) < 0)
		return -errno;
	do {
		n = mnl_socket_recvfrom(t->sock, t->buf, sizeof(t->buf));
		if (n < 0)
			return -errno;
		got = mnl_cb_run(t->buf, (size_t)n, t->seq, mnl_socket_get_portid(t->sock), each, ctx);
	} while (got > MNL_CB_STOP);
	return got < 0 ? -errno : 0;
}

static int rule(struct talk *t, bool add, uint8_t family, uint8_t protocol)
{
	struct nlmsghdr *h = begin(t, add ? RTM_NEWRULE : RTM_DELRULE,
				   add ? NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL : NLM_F_ACK);
	struct fib_rule_hdr *r = mnl_nlmsg_put_extra_header(h, sizeof(*r));

	r->family = family;
	r->action = FR_ACT_TO_TBL;
	mnl_attr_put_u32(h, FRA_PRIORITY, PREF);
	mnl_attr_put_u32(h, FRA_FWMARK, WIRE_SOCKET_MARK);
	mnl_attr_put_u32(h, FRA_FWMASK, MASK);
	mnl_attr_put_u32(h, FRA_TABLE, TABLE);
	if (add)
		mnl_attr_put_u8(h, FRA_PROTOCOL, protocol);
	return ask(t, h, NULL, NULL);
}

static int route(struct talk *t, bool add, uint8_t family)
{
	struct nlmsghdr *h = begin(t, add ? RTM_NEWROUTE : RTM_DELROUTE,
				   add ? NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL : NLM_F_ACK);
	struct rtmsg *r = mnl_nlmsg_put_extra_header(h, sizeof(*r));

	r->rtm_family = family;
	r->rtm_table = RT_TABLE_UNSPEC;
	r->rtm_protocol = RTPROT_STATIC;
	r->rtm_scope = family == AF_INET ? RT_SCOPE_HOST : RT_SCOPE_UNIVERSE;
	r->rtm_type = RTN_LOCAL;
	mnl_attr_put_u32(h, RTA_TABLE, TABLE);
	mnl_attr_put_u32(h, RTA_OIF, 1); /* lo has this index in every netns */
	return ask(t, h, NULL, NULL);
}

static int attribute(const struct nlattr *a, void *data)
{
	const struct nlattr **all = data;

	if (mnl_attr_get_type(a) <= FRA_MAX)
		all[mnl_attr_get_type(a)] = a;
	return MNL_CB_OK;
}

static bool is(const struct nlattr *a, uint32_t value)
{
	return a && mnl_attr_get_payload_len(a) == sizeof(value) && mnl_attr_get_u32(a) == value;
}

static int look(const struct nlmsghdr *h, void *data)
{
	const struct nlattr *all[FRA_MAX + 1] = {0};
	int *protocol = data;

	if (mnl_attr_parse(h, sizeof(struct fib_rule_hdr), attribute, all) == MNL_CB_OK &&
	    is(all[FRA_PRIORITY], PREF) && is(all[FRA_FWMARK], WIRE_SOCKET_MARK) && is(all[FRA_FWMASK], MASK) &&
	    is(all[FRA_TABLE], TABLE) && all[FRA_PROTOCOL])
		*protocol = mnl_attr_get_u8(all[FRA_PROTOCOL]);
	return MNL_CB_OK;
}

/* Protocol of our IPv4 rule, or -errno: -ENOENT there is none */
static int find_rule(struct talk *t)
{
	struct nlmsghdr *h = begin(t, RTM_GETRULE, NLM_F_DUMP);
	struct fib_rule_hdr *r = mnl_nlmsg_put_extra_header(h, sizeof(*r));
	int protocol = -ENOENT, err;

	r->family = AF_INET;
	err = ask(t, h, look, &protocol);
	return err ? err : protocol;
}

/* ------------------------------------------------------------------ all of it */

static int make(struct talk *t, uint8_t family, uint8_t protocol)
{
	int err = rule(t, true, family, protocol);

	if (!err || err == -EEXIST)
		err = route(t, true, family);
	return err == -EEXIST ? 0 : err;
}

/* Bits of the sysctls that are off */
static unsigned switched_off(void)
{
	unsigned off = 0;

	for (unsigned i = 0; i < array_size(switches); i++)
		if (read_switch(switches[i]) == 0)
			off |= 1u << i;
	return off;
}

/*
 * The rule is first, because it keeps what the sysctls were; a rule that is there already knows it better. Without
 * IPv6: EAFNOSUPPORT or EOPNOTSUPP of a kernel, EACCES or ENODEV of a netns where it is switched off.
 */
static int add(struct talk *t)
{
	unsigned off = switched_off();
	int protocol = find_rule(t), err, six;

	if (protocol < 0 && protocol != -ENOENT)
		return protocol;
	err = make(t, AF_INET, (uint8_t)(protocol < 0 ? PROTOCOL | off : (unsigned)protocol));
	if (err)
		return err;
	six = make(t, AF_INET6, PROTOCOL);
	if (six == -EAFNOSUPPORT || six == -EOPNOTSUPP || six == -EACCES || six == -ENODEV)
		(void)rule(t, false, AF_INET6, 0);
	else if (six)
		return six;
	for (unsigned i = 0; i < array_size(switches) && !err; i++)
		if (off & 1u << i)
			err = write_switch(switches[i], true);
	return err;
}

/* What is not there need not be removed. */
static int gone(int err)
{
	bool none = err == -ENOENT || err == -ESRCH || err == -ENODEV;

	return none || err == -EAFNOSUPPORT || err == -EOPNOTSUPP ? 0 : err;
}

static int take_away(struct talk *t)
{
	int protocol = find_rule(t), err, next;

	if (protocol < 0)
		return gone(protocol);
	err = gone(route(t, false, AF_INET6));
	next = gone(rule(t, false, AF_INET6, 0));
	err = err ? err : next;
	next = gone(route(t, false, AF_INET));
	err = err ? err : next;
	for (unsigned i = 0; i < array_size(switches); i++) {
		next = protocol & 1u << i ? write_switch(switches[i], false) : 0;
		err = err ? err : next;
	}
	return err ? err : gone(rule(t, false, AF_INET, 0));
}

struct job {
	int (*run)(struct talk *t);
};

static int inside(void *ctx)
{
	const struct job *job = ctx;
	struct talk t = {.sock = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC)};
	int err;

	if (!t.sock)
		return -errno;
	err = mnl_socket_bind(t.sock, 0, MNL_SOCKET_AUTOPID) < 0 ? -errno : job->run(&t);
	(void)mnl_socket_close(t.sock);
	return err;
}

int routes_add(int netns)
{
	return netns_run(netns, inside, &(struct job){add});
}

int routes_remove(int netns)
{
	return netns_run(netns, inside, &(struct job){take_away});
}
