/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peer.c: who a certificate says that it is. Its chain was found good before; here only its URI SANs count, as
 * facts/ambient.md section 2.1 has it. The bytes come from a peer: a SAN may hold NULs, be long, or be no URI at all.
 */
#include <errno.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <strings.h>

#include "certs.h"

#define SANS 64 /* certificates of a mesh have one or two; who sends more is not of one */

/*
 * The URI SANs that say they are SPIFFE, one after the other. `each` returns true to stop. 0; -ENOENT: there is none;
 * -EINVAL: one of them is malformed, or there are too many names, or the extension is there twice.
 */
static int uris(void *x509, bool (*each)(void *ctx, const char *uri, const struct spiffe *id), void *ctx)
{
	GENERAL_NAMES *names;
	int critical, found = 0, err = 0;

	names = X509_get_ext_d2i(x509, NID_subject_alt_name, &critical, NULL);
	if (!names)
		return critical == -1 ? -ENOENT : -EINVAL; /* -2: twice; else it does not parse */
	if (sk_GENERAL_NAME_num(names) > SANS)
		err = -EINVAL;
	for (int i = 0; !err && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		const char *data;
		struct spiffe id;
		char uri[CERTS_ID];
		size_t len;

		if (name->type != GEN_URI)
			continue;
		data = (const char *)ASN1_STRING_get0_data(name->d.uniformResourceIdentifier);
		len = (size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier);
		if (len < 7 || strncasecmp(data, "spiffe:", 7))
			continue;
		if (len >= sizeof(uri) || memchr(data, '\0', len)) {
			err = -EINVAL;
			break;
		}
		memcpy(uri, data, len);
		uri[len] = '\0';
		err = spiffe_parse(uri, &id);
		if (err)
			break;
		found++;
		if (each(ctx, uri, &id))
			break;
	}
	GENERAL_NAMES_free(names);
	return err ? err : found ? 0
				 : -ENOENT;
}

static bool take_first(void *ctx, const char *uri, const struct spiffe *id)
{
	text_copy(ctx, CERTS_ID, uri);
	return true;
}

int certs_peer(void *x509, char ret[CERTS_ID])
{
	ret[0] = '\0';
	return uris(x509, take_first, ret) ? -EINVAL : 0;
}

/*
 * X.509-SVID section 5.2: who signs for others is not one of them. OpenSSL takes a CA's certificate for a leaf's, if
 * its purpose fits.
 */
static bool is_ca(X509 *x)
{
	uint32_t flags = X509_get_extension_flags(x);

	return flags & EXFLAG_CA ||
	       (flags & EXFLAG_KUSAGE && X509_get_key_usage(x) & (KU_KEY_CERT_SIGN | KU_CRL_SIGN));
}

/* ------------------------------------------------------------------ a client, seen by its server */

struct client {
	const char *trust_domain;
	char *first;
	bool ours;
};

static bool look_at_client(void *ctx, const char *uri, const struct spiffe *id)
{
	struct client *c = ctx;

	if (!c->first[0])
		text_copy(c->first, CERTS_ID, uri);
	c->ours |= text_equal(id->trust_domain, c->trust_domain);
	return false; /* all of them: a malformed one behind a good one is refused too */
}

const char *certs_verify_client(void *x509, const char *trust_domain, char ret[CERTS_ID])
{
	struct client c = {.trust_domain = trust_domain, .first = ret};
	int err;

	ret[0] = '\0';
	if (is_ca(x509))
		return CERTS_OF_A_CA;
	err = uris(x509, look_at_client, &c);
	if (!err && c.ours)
		return NULL;
	ret[0] = '\0';
	return err == -ENOENT ? CERTS_NO_IDENTITY : err ? CERTS_MALFORMED
							: CERTS_TRUST_DOMAIN;
}

/* ------------------------------------------------------------------ a server, seen by its client */

struct server {
	const char *const *want;
	unsigned count;
	bool found;
};

static bool look_at_server(void *ctx, const char *uri, const struct spiffe *id)
{
	struct server *s = ctx;

	for (unsigned i = 0; i < s->count; i++)
		s->found |= text_equal(uri, s->want[i]);
	return false;
}

const char *certs_verify_server(void *x509, const char *const *want, unsigned count)
{
	struct server s = {.want = want, .count = count};
	int err;

	if (is_ca(x509))
		return CERTS_OF_A_CA;
	err = uris(x509, look_at_server, &s);
	if (err)
		return err == -ENOENT ? CERTS_NO_IDENTITY : CERTS_MALFORMED;
	return s.found ? NULL : CERTS_OTHER_IDENTITY;
}
