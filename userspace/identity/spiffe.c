/* SPDX-License-Identifier: Apache-2.0 */
/* spiffe.c: the text of an identity. Strict, as the SPIFFE-ID standard section 2 and Istio's form have it. */
#include <errno.h>
#include <string.h>

#include "certs.h"

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGIT "0123456789"
#define IN_DOMAIN LOWER DIGIT "-._"
#define IN_SEGMENT IN_DOMAIN "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

/* One part up to the next slash or the end: characters, length, and what a path may not hold. */
static int part(const char **at, const char *characters, char *ret, size_t size)
{
	size_t len = strcspn(*at, "/");

	if (!len || len >= size || strspn(*at, characters) < len)
		return -EINVAL;
	memcpy(ret, *at, len);
	ret[len] = '\0';
	if (text_equal(ret, ".") || text_equal(ret, ".."))
		return -EINVAL;
	*at += len;
	return 0;
}

static int literal(const char **at, const char *expected)
{
	if (!text_starts(*at, expected))
		return -EINVAL;
	*at += strlen(expected);
	return 0;
}

int spiffe_parse(const char *uri, struct spiffe *ret)
{
	const char *at = uri;
	struct spiffe s;

	if (strnlen(uri, CERTS_ID) == CERTS_ID || literal(&at, "spiffe://") ||
	    part(&at, IN_DOMAIN, s.trust_domain, sizeof(s.trust_domain)) || literal(&at, "/ns/") ||
	    part(&at, IN_SEGMENT, s.namespace, sizeof(s.namespace)) || literal(&at, "/sa/") ||
	    part(&at, IN_SEGMENT, s.service_account, sizeof(s.service_account)) || *at)
		return -EINVAL;
	*ret = s;
	return 0;
}

bool spiffe_text(const char *trust_domain, const char *namespace, const char *service_account, char buf[CERTS_ID])
{
	struct spiffe s;
	int n = snprintf(buf, CERTS_ID, "spiffe://%s/ns/%s/sa/%s", trust_domain, namespace, service_account);

	if (n < CERTS_ID && !spiffe_parse(buf, &s))
		return true;
	buf[0] = '\0';
	return false;
}

bool spiffe_trust_domain(const char *s)
{
	struct spiffe whole;
	const char *at = s;

	return !part(&at, IN_DOMAIN, whole.trust_domain, sizeof(whole.trust_domain)) && !*at;
}
