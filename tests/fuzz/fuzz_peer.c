/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any bytes as the subject alternative names of a certificate that a peer shows, and as a SPIFFE URI. Whatever is taken
 * is exactly five parts and says the same when it is put together again.
 */
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#include "certs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool holds)
{
	if (!holds)
		abort();
}

static void as_uri(const uint8_t *data, size_t size)
{
	char *uri = malloc(size + 1), again[CERTS_ID];
	struct spiffe id;

	memcpy(uri, data, size);
	uri[size] = '\0';
	if (!spiffe_parse(uri, &id)) {
		must(spiffe_text(id.trust_domain, id.namespace, id.service_account, again));
		must(!strcmp(uri, again));
		must(spiffe_trust_domain(id.trust_domain));
	}
	free(uri);
}

static void as_names(const uint8_t *data, size_t size)
{
	ASN1_OCTET_STRING *bytes = ASN1_OCTET_STRING_new();
	X509_EXTENSION *ext;
	X509 *x = X509_new();
	char first[CERTS_ID], peer[CERTS_ID];
	struct spiffe id;

	must(ASN1_OCTET_STRING_set(bytes, data, (int)size));
	ext = X509_EXTENSION_create_by_NID(NULL, NID_subject_alt_name, 1, bytes);
	must(X509_add_ext(x, ext, -1) == 1);
	if (!certs_peer(x, first))
		must(!spiffe_parse(first, &id));
	else
		must(!first[0]);
	if (!certs_verify_client(x, "td", peer)) {
		const char *const want[] = {peer};

		must(!strcmp(first, peer));
		must(!certs_verify_server(x, want, 1));
	}
	X509_EXTENSION_free(ext);
	ASN1_OCTET_STRING_free(bytes);
	X509_free(x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 100000)
		return 0;
	as_uri(data, size);
	as_names(data, size);
	return 0;
}
