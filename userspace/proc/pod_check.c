/* SPDX-License-Identifier: Apache-2.0 */
/* pod_check.c: the texts of a pod that somebody wants to enrol. */
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

int pods_check(const struct wire_pod *a, char why[PODS_WHY])
{
	int err = check_name("namespace", a->namespace, why);

	if (!err)
		err = check_name("pod name", a->name, why);
	if (!err && a->service_account[0])
		err = check_name("service account", a->service_account, why);
	for (const char *s = NULL; !err && (s = wire_pairs_next(a->annotations, s));)
		err = check_annotation(s, why);
	return err;
}
