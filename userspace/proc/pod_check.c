/* SPDX-License-Identifier: Apache-2.0 */
/* pod_check.c: texts and addresses of a pod that somebody wants to enrol. */
#include "pods.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Kubernetes: DNS-1123 subdomains; namespaces and most names are labels, which are subdomains too. */
static bool valid_name(const char *s)
{
	size_t len = strlen(s);

	return len && len < WIRE_NAME && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") == len &&
	       s[0] != '-' && s[0] != '.' && s[len - 1] != '-' && s[len - 1] != '.';
}

static int check_name(const char *what, const char *name, char why[PODS_WHY])
{
	if (valid_name(name))
		return 0;
	(void)snprintf(why, PODS_WHY, "%s \"%.64s\" is not a Kubernetes name: a-z, 0-9, - and . only", what, name);
	return -EINVAL;
}

static int check_annotation(const char *pair, char why[PODS_WHY])
{
	const char *value = strchr(pair, '='), *words;
	char *key;

	if (!value)
		return 0;
	key = mem_format("%.*s", (int)(value - pair), pair);
	words = wire_annotation_words(key, value + 1);
	if (words)
		(void)snprintf(why, PODS_WHY, "annotation %s must be %s, not \"%.40s\"", key, words, value + 1);
	free(key);
	return words ? -EINVAL : 0;
}

static bool multicast(const struct abi_addr *a)
{
	return addr_is_v4(a) ? a->byte[12] >= 224 : a->byte[0] == 0xff;
}

static int check_addr(const struct wire_pod *a, unsigned which, char why[PODS_WHY])
{
	const struct abi_addr *addr = &a->addr[which];
	const char *wrong = NULL;
	char text[ADDR_TEXT];

	if (addr_is_zero(addr) || addr_is_loopback(addr) || addr_is_link_local(addr) || multicast(addr))
		wrong = "cannot be a pod's address";
	for (unsigned i = 0; i < which; i++)
		if (addr_equal(addr, &a->addr[i]))
			wrong = "is given twice";
	if (wrong)
		(void)snprintf(why, PODS_WHY, "address %s %s", addr_text(addr, text), wrong);
	return wrong ? -EINVAL : 0;
}

static int check_addrs(const struct wire_pod *a, char why[PODS_WHY])
{
	char text[ADDR_TEXT];
	int err = 0, own;

	if (!a->addrs || a->addrs > WIRE_ADDRS) {
		(void)snprintf(why, PODS_WHY, "pod %.100s/%.100s has %u addresses: give it 1 to %d", a->namespace,
			       a->name, a->addrs, WIRE_ADDRS);
		return -EINVAL;
	}
	for (unsigned i = 0; !err && i < a->addrs; i++)
		err = check_addr(a, i, why);
	own = err ? -1 : netns_home_has(a->addr, a->addrs);
	if (own < 0)
		return err;
	/* all that talks with the node would be judged as talking with the pod */
	(void)snprintf(why, PODS_WHY,
		       "address %s is the node's own: a pod that has it is on the host's network, which is not weft's "
		       "business",
		       addr_text(&a->addr[own], text));
	return -EINVAL;
}

int pods_check(const struct wire_pod *a, char why[PODS_WHY])
{
	int err = check_name("namespace", a->namespace, why);

	if (!err)
		err = check_name("pod name", a->name, why);
	if (!err && a->service_account[0])
		err = check_name("service account", a->service_account, why);
	for (const char *s = NULL; !err && (s = wire_pairs_next(a->annotations, s));)
		err = check_annotation(s, why);
	return err ? err : check_addrs(a, why);
}
