/* SPDX-License-Identifier: Apache-2.0 */
/* Who a certificate says that it is: SANs as a hostile peer may write them, byte for byte. */
#include <errno.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "certs.h"

#define TD "cluster.local"
#define WEB "spiffe://cluster.local/ns/shop/sa/web"
#define DB "spiffe://cluster.local/ns/shop/sa/db"
#define FAR "spiffe://far.away/ns/shop/sa/web"

struct san {
	int type; /* GEN_URI ... */
	const char *bytes;
	size_t len; /* 0: strlen */
};

/* Not signed: who asks here has had the chain verified. */
static X509 *certificate(const struct san *san, unsigned count)
{
	X509 *x = X509_new();
	GENERAL_NAMES *names = sk_GENERAL_NAME_new_null();

	for (unsigned i = 0; i < count; i++) {
		GENERAL_NAME *name = GENERAL_NAME_new();
		ASN1_IA5STRING *s = ASN1_IA5STRING_new();

		assert_true(ASN1_STRING_set(s, san[i].bytes, (int)(san[i].len ? san[i].len : strlen(san[i].bytes))));
		GENERAL_NAME_set0_value(name, san[i].type, s);
		assert_true(sk_GENERAL_NAME_push(names, name) > 0);
	}
	if (count)
		assert_int_equal(X509_add1_ext_i2d(x, NID_subject_alt_name, names, 1, 0), 1);
	GENERAL_NAMES_free(names);
	return x;
}

static const char *verify_client(const struct san *san, unsigned count, char ret[CERTS_ID])
{
	X509 *x = certificate(san, count);
	const char *why = certs_verify_client(x, TD, ret);

	X509_free(x);
	return why;
}

static const char *verify_server(const struct san *san, unsigned count, const char *const *want, unsigned wanted)
{
	X509 *x = certificate(san, count);
	const char *why = certs_verify_server(x, want, wanted);

	X509_free(x);
	return why;
}

static void client_is_its_first_identity(void **state)
{
	const struct san one[] = {{GEN_URI, WEB}};
	const struct san mixed[] = {{GEN_DNS, "web.shop"}, {GEN_URI, "https://x/"}, {GEN_URI, DB}, {GEN_URI, WEB}};
	/* the trust domain may be that of another than the first: ambient.md 2.1 */
	const struct san second[] = {{GEN_URI, FAR}, {GEN_URI, WEB}};
	char id[CERTS_ID];

	assert_null(verify_client(one, 1, id));
	assert_string_equal(id, WEB);
	assert_null(verify_client(mixed, 4, id));
	assert_string_equal(id, DB);
	assert_null(verify_client(second, 2, id));
	assert_string_equal(id, FAR);
}

static void client_is_refused(void **state)
{
	static char endless[70000];
	const struct {
		struct san san[2];
		const char *why;
	} row[] = {
		{{{GEN_DNS, "web.shop"}, {GEN_URI, "https://cluster.local/"}}, CERTS_NO_IDENTITY},
		{{{GEN_DNS, WEB}, {GEN_EMAIL, WEB}}, CERTS_NO_IDENTITY},
		{{{GEN_URI, FAR}, {GEN_DNS, "x"}}, CERTS_TRUST_DOMAIN},
		{{{GEN_URI, "spiffe://cluster.local.evil/ns/shop/sa/web"}, {GEN_DNS, "x"}}, CERTS_TRUST_DOMAIN},
		{{{GEN_URI, WEB "\0.evil", sizeof(WEB) + 5}, {GEN_DNS, "x"}}, CERTS_MALFORMED},
		{{{GEN_URI, WEB "\0", sizeof(WEB)}, {GEN_DNS, "x"}}, CERTS_MALFORMED},
		{{{GEN_URI, "SPIFFE://cluster.local/ns/shop/sa/web"}, {GEN_URI, WEB}}, CERTS_MALFORMED},
		{{{GEN_URI, WEB}, {GEN_URI, "spiffe://cluster.local/ns/shop"}}, CERTS_MALFORMED},
		{{{GEN_URI, "spiffe://cluster.local/ns/shop/sa/%77eb"}, {GEN_URI, WEB}}, CERTS_MALFORMED},
		{{{GEN_URI, "spiffe://cluster.local/ns//sa/web"}, {GEN_URI, WEB}}, CERTS_MALFORMED},
		{{{GEN_URI, endless}, {GEN_URI, WEB}}, CERTS_MALFORMED},
	};
	char id[CERTS_ID];

	snprintf(endless, sizeof(endless), "spiffe://cluster.local/ns/shop/sa/");
	memset(endless + strlen(endless), 'a', sizeof(endless) - strlen(endless) - 1);
	for (size_t i = 0; i < array_size(row); i++) {
		const char *why = verify_client(row[i].san, 2, id);

		if (!text_equal(why, row[i].why))
			fail_msg("row %zu: %s", i, why ? why : "taken");
		assert_string_equal(id, "");
	}
	assert_string_equal(verify_client(NULL, 0, id), CERTS_NO_IDENTITY);
}

static void many_names_are_refused(void **state)
{
	struct san many[65];
	char id[CERTS_ID];

	for (size_t i = 0; i < array_size(many); i++)
		many[i] = (struct san){GEN_URI, WEB};
	assert_null(verify_client(many, 64, id));
	assert_string_equal(verify_client(many, 65, id), CERTS_MALFORMED);
}

static void extension_twice_is_refused(void **state)
{
	const struct san web[] = {{GEN_URI, WEB}};
	X509 *x = certificate(web, 1);
	X509_EXTENSION *again = X509_EXTENSION_dup(X509_get_ext(x, 0));
	char id[CERTS_ID];

	assert_int_equal(X509_add_ext(x, again, -1), 1);
	assert_string_equal(certs_verify_client(x, TD, id), CERTS_MALFORMED);
	assert_int_equal(certs_peer(x, id), -EINVAL);
	X509_EXTENSION_free(again);
	X509_free(x);
}

static void extension_that_is_no_names_is_refused(void **state)
{
	X509 *x = X509_new();
	ASN1_OCTET_STRING *bytes = ASN1_OCTET_STRING_new();
	X509_EXTENSION *ext;
	char id[CERTS_ID];

	assert_true(ASN1_OCTET_STRING_set(bytes, (const unsigned char *)"\x30\x03\x86\x7f\x00", 5));
	ext = X509_EXTENSION_create_by_NID(NULL, NID_subject_alt_name, 1, bytes);
	assert_int_equal(X509_add_ext(x, ext, -1), 1);
	assert_string_equal(certs_verify_client(x, TD, id), CERTS_MALFORMED);
	X509_EXTENSION_free(ext);
	ASN1_OCTET_STRING_free(bytes);
	X509_free(x);
}

static void server_is_one_that_was_asked_for(void **state)
{
	const struct san both[] = {{GEN_URI, DB}, {GEN_URI, WEB}}, nul[] = {{GEN_URI, WEB "\0", sizeof(WEB)}};
	const struct san none[] = {{GEN_DNS, WEB}};
	const char *const web[] = {FAR, WEB}, *const far[] = {FAR};

	assert_null(verify_server(both, 2, web, 2));
	assert_string_equal(verify_server(both, 2, far, 1), CERTS_OTHER_IDENTITY);
	assert_string_equal(verify_server(both, 2, far, 0), CERTS_OTHER_IDENTITY);
	assert_string_equal(verify_server(nul, 1, web, 2), CERTS_MALFORMED);
	assert_string_equal(verify_server(none, 1, web, 2), CERTS_NO_IDENTITY);
}

/* A CA in the middle whose certificate has somebody's identity is not him; nor is who may sign certificates or CRLs. */
static void a_ca_is_nobody(void **state)
{
	static const struct {
		bool constraints, ca; /* basicConstraints: there, CA:TRUE */
		int usage;	      /* KU_...; 0: no keyUsage */
		bool leaf;
	} row[] = {
		{false, false, 0, true},
		{true, false, 0, true},
		{true, false, KU_DIGITAL_SIGNATURE, true},
		{true, true, 0, false},
		{true, true, KU_DIGITAL_SIGNATURE, false},
		{true, true, KU_KEY_CERT_SIGN | KU_CRL_SIGN, false},
		{false, false, KU_DIGITAL_SIGNATURE | KU_KEY_CERT_SIGN, false},
		{true, false, KU_DIGITAL_SIGNATURE | KU_CRL_SIGN, false},
	};
	const struct san web[] = {{GEN_URI, WEB}};
	const char *const want[] = {WEB};
	char id[CERTS_ID];

	for (size_t i = 0; i < array_size(row); i++) {
		BASIC_CONSTRAINTS *constraints = BASIC_CONSTRAINTS_new();
		ASN1_BIT_STRING *usage = ASN1_BIT_STRING_new();
		X509 *x = certificate(web, 1);
		const char *client, *server;

		constraints->ca = row[i].ca ? 0xff : 0;
		if (row[i].constraints)
			assert_int_equal(X509_add1_ext_i2d(x, NID_basic_constraints, constraints, 1, 0), 1);
		for (int bit = 0; bit < 8; bit++)
			assert_int_equal(ASN1_BIT_STRING_set_bit(usage, bit, row[i].usage >> (7 - bit) & 1), 1);
		if (row[i].usage)
			assert_int_equal(X509_add1_ext_i2d(x, NID_key_usage, usage, 1, 0), 1);
		client = certs_verify_client(x, TD, id);
		server = certs_verify_server(x, want, 1);
		if (!text_equal(client, row[i].leaf ? NULL : CERTS_OF_A_CA) || !text_equal(server, client))
			fail_msg("row %zu: %s, %s", i, client ? client : "taken", server ? server : "taken");
		assert_string_equal(id, row[i].leaf ? WEB : "");
		BASIC_CONSTRAINTS_free(constraints);
		ASN1_BIT_STRING_free(usage);
		X509_free(x);
	}
}

static void first_identity(void **state)
{
	const struct san san[] = {{GEN_URI, "urn:x"}, {GEN_URI, FAR}, {GEN_URI, WEB}};
	X509 *x = certificate(san, 3);
	char id[CERTS_ID];

	assert_int_equal(certs_peer(x, id), 0);
	assert_string_equal(id, FAR);
	X509_free(x);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(client_is_its_first_identity),
		cmocka_unit_test(client_is_refused),
		cmocka_unit_test(many_names_are_refused),
		cmocka_unit_test(extension_twice_is_refused),
		cmocka_unit_test(extension_that_is_no_names_is_refused),
		cmocka_unit_test(server_is_one_that_was_asked_for),
		cmocka_unit_test(a_ca_is_nobody),
		cmocka_unit_test(first_identity),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
