/* SPDX-License-Identifier: Apache-2.0 */
/* Handshakes: what two of ours agree on, and which strangers are refused, by whom and why. */
#include "pki.h"

struct fixture {
	struct ca_pair root, ca;
	struct trust *trust;
	SSL_CTX *ours;
};

/* A context of ours for a leaf by `by`. */
static SSL_CTX *context(struct fixture *f, const struct ca_pair *by, const char *uri, const char *purposes,
			int64_t from, int64_t to)
{
	struct ca_pair leaf = pki_leaf(by, uri, purposes, from, to);
	STACK_OF(X509) *chain = sk_X509_new_null();
	char why[WHY] = "";
	SSL_CTX *ctx;

	sk_X509_push(chain, leaf.cert);
	if (by != &f->root)
		sk_X509_push(chain, by->cert);
	ctx = context_new(chain, leaf.key, f->trust, why);
	assert_string_equal(why, "");
	sk_X509_free(chain);
	pki_free(&leaf);
	return ctx;
}

static void begin(struct fixture *f)
{
	char *roots, why[WHY] = "";

	pki_now = NOON;
	f->root = pki_root("root");
	f->ca = pki_ca("node", "P-256", &f->root, NOON - DAY, NOON + DAY);
	roots = x509_text(&f->root.cert, 1);
	f->trust = trust_new(roots, NULL, pki_clock, why);
	f->ours = context(f, &f->ca, "URI:" WEB, "serverAuth,clientAuth", NOON - HOUR, NOON + HOUR);
	free(roots);
}

static void end(struct fixture *f)
{
	SSL_CTX_free(f->ours);
	trust_unref(f->trust);
	pki_free(&f->root);
	pki_free(&f->ca);
}

/* A stranger: our certificate, but none of our rules. */
static SSL_CTX *stranger(struct fixture *f)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	STACK_OF(X509) *chain = NULL;

	SSL_CTX_get0_chain_certs(f->ours, &chain);
	assert_int_equal(SSL_CTX_use_cert_and_key(ctx, SSL_CTX_get0_certificate(f->ours),
						  SSL_CTX_get0_privatekey(f->ours), chain, 1),
			 1);
	assert_int_equal(SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x02h2", 3), 0);
	return ctx;
}

static int pick_any(SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned len,
		    void *arg)
{
	*out = in + 1;
	*out_len = in[0];
	return SSL_TLSEXT_ERR_OK;
}

static void two_of_ours_agree(void **state)
{
	struct fixture f;
	struct ends e;
	const unsigned char *alpn;
	unsigned len;
	char id[CERTS_ID], c;
	X509 *peer;

	begin(&f);
	assert_true(ends_meet(&e, f.ours, f.ours));
	assert_int_equal(SSL_version(e.client), TLS1_3_VERSION);
	assert_string_equal(SSL_get_cipher_name(e.client), "TLS_AES_128_GCM_SHA256");
	SSL_get0_alpn_selected(e.client, &alpn, &len);
	assert_int_equal(len, 2);
	assert_memory_equal(alpn, "h2", 2);
	peer = SSL_get1_peer_certificate(e.server);
	assert_null(certs_verify_client(peer, TD, id));
	assert_string_equal(id, WEB);
	X509_free(peer);
	/* no ticket comes behind the handshake, and nothing can be resumed */
	assert_int_equal(SSL_read(e.client, &c, 1), -1);
	assert_false(SSL_SESSION_is_resumable(SSL_get_session(e.client)));
	assert_int_equal(SSL_CTX_get_max_early_data(f.ours), 0);
	/* the root is not sent */
	assert_int_equal(sk_X509_num(SSL_get_peer_cert_chain(e.client)), 2);
	ends_free(&e);
	end(&f);
}

/* Hybrid where this OpenSSL can (3.5), and then at once: no second hello. Else, and with who cannot: X25519. */
static void key_exchange_is_the_best_that_both_have(void **state)
{
	SSL_CTX *bare = SSL_CTX_new(TLS_method()), *classic;
	bool hybrid = SSL_CTX_set1_groups_list(bare, "X25519MLKEM768") == 1;
	struct fixture f;
	struct ends e;

	begin(&f);
	for (unsigned i = 0; i < 3; i++) { /* ours with ours; with a server and with a client that have none of it */
		const char *want = hybrid && !i ? "X25519MLKEM768" : "x25519", *got;

		classic = stranger(&f);
		SSL_CTX_set_alpn_select_cb(classic, pick_any, NULL);
		assert_int_equal(SSL_CTX_set1_groups_list(classic, "X25519"), 1);
		assert_true(ends_meet(&e, i == 2 ? classic : f.ours, i == 1 ? classic : f.ours));
		got = SSL_group_to_name(e.client, (int)SSL_get_negotiated_group(e.client));
		assert_int_equal(strcasecmp(got, want), 0);
		ends_free(&e);
		SSL_CTX_free(classic);
	}
	end(&f);
	SSL_CTX_free(bare);
}

enum who { CLIENT,
	   SERVER };

/* `other` meets ours; how it ends for ours: X509_V_... or -1: it did not come to certificates, 0: good. */
static int meets(struct fixture *f, enum who other, SSL_CTX *ctx)
{
	struct ends e;
	bool good = other == CLIENT ? ends_meet(&e, ctx, f->ours) : ends_meet(&e, f->ours, ctx);
	long result = SSL_get_verify_result(other == CLIENT ? e.server : e.client);

	ends_free(&e);
	SSL_CTX_free(ctx);
	return good ? 0 : result == X509_V_OK ? -1
					      : (int)result;
}

static void strangers_with_other_rules(void **state)
{
	struct fixture f;
	SSL_CTX *ctx;

	begin(&f);
	assert_int_equal(meets(&f, CLIENT, stranger(&f)), 0);
	ctx = stranger(&f);
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	assert_int_equal(meets(&f, CLIENT, ctx), -1);
	ctx = stranger(&f);
	SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x08http/1.1", 9);
	assert_int_equal(meets(&f, CLIENT, ctx), -1);
	ctx = stranger(&f);
	SSL_CTX_set_alpn_protos(ctx, NULL, 0); /* says nothing of ALPN */
	assert_int_equal(meets(&f, CLIENT, ctx), X509_V_ERR_APPLICATION_VERIFICATION);
	ctx = stranger(&f);
	SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x03h2c\x08http/1.1\x02h2", 16);
	assert_int_equal(meets(&f, CLIENT, ctx), 0);
	ctx = stranger(&f);
	SSL_CTX_set_ciphersuites(ctx, "TLS_CHACHA20_POLY1305_SHA256");
	assert_int_equal(meets(&f, CLIENT, ctx), -1);
	ctx = stranger(&f);
	SSL_CTX_set_ciphersuites(ctx, "TLS_AES_256_GCM_SHA384");
	assert_int_equal(meets(&f, CLIENT, ctx), 0);
	ctx = stranger(&f);
	SSL_CTX_set1_groups_list(ctx, "P-384");
	assert_int_equal(meets(&f, CLIENT, ctx), -1);
	ctx = stranger(&f);
	SSL_CTX_set1_groups_list(ctx, "P-384:P-256"); /* asked again (HelloRetryRequest) */
	assert_int_equal(meets(&f, CLIENT, ctx), 0);
	/* servers */
	ctx = stranger(&f);
	SSL_CTX_set_alpn_select_cb(ctx, pick_any, NULL);
	assert_int_equal(meets(&f, SERVER, ctx), 0);
	assert_int_equal(meets(&f, SERVER, stranger(&f)), X509_V_ERR_APPLICATION_VERIFICATION);
	ctx = stranger(&f);
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	assert_int_equal(meets(&f, SERVER, ctx), -1);
	end(&f);
}

static void client_without_a_certificate(void **state)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	struct fixture f;

	begin(&f);
	assert_int_equal(SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x02h2", 3), 0);
	assert_int_equal(meets(&f, CLIENT, ctx), -1);
	end(&f);
}

static void certificates_that_are_refused(void **state)
{
	struct fixture f;
	struct ca_pair other = pki_root("root"), leaf;
	struct ca_pair old = {0};
	enum who who;

	begin(&f);
	old = pki_ca("old", "P-256", &f.root, NOON - 2 * DAY, NOON - DAY);
	for (who = CLIENT; who <= SERVER; who++) {
		const char *both = "serverAuth,clientAuth", *right = who == CLIENT ? "clientAuth" : "serverAuth";
		const char *wrong = who == CLIENT ? "serverAuth" : "clientAuth";

		assert_int_equal(meets(&f, who, context(&f, &f.ca, "URI:" WEB, right, NOON - 9, NOON + 9)), 0);
		assert_int_equal(meets(&f, who, context(&f, &f.root, "URI:" WEB, both, NOON - 9, NOON + 9)), 0);
		assert_int_equal(meets(&f, who, context(&f, &f.ca, "URI:" WEB, wrong, NOON - 9, NOON + 9)),
				 X509_V_ERR_INVALID_PURPOSE);
		assert_int_equal(meets(&f, who, context(&f, &f.ca, "URI:" WEB, both, NOON - 9, NOON - 1)),
				 X509_V_ERR_CERT_HAS_EXPIRED);
		assert_int_equal(meets(&f, who, context(&f, &f.ca, "URI:" WEB, both, NOON + 1, NOON + 9)),
				 X509_V_ERR_CERT_NOT_YET_VALID);
		assert_int_equal(meets(&f, who, context(&f, &other, "URI:" WEB, both, NOON - 9, NOON + 9)),
				 X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN);
		assert_int_equal(meets(&f, who, context(&f, &old, "URI:" WEB, both, NOON - 9, NOON + 9)),
				 X509_V_ERR_CERT_HAS_EXPIRED);
	}
	/* a leaf that signs */
	leaf = pki_leaf(&f.ca, "URI:" WEB, "serverAuth,clientAuth", NOON - 9, NOON + 9);
	assert_int_not_equal(meets(&f, CLIENT, context(&f, &leaf, "URI:" DB, "clientAuth", NOON - 9, NOON + 9)), 0);
	pki_free(&leaf);
	pki_free(&other);
	pki_free(&old);
	end(&f);
}

/* It begins with the clock of certs, whatever the wall clock of the machine says. */
static void clock_is_the_one_that_was_given(void **state)
{
	struct fixture f;
	struct ends e;

	begin(&f);
	pki_now = NOON + 2 * HOUR;
	assert_false(ends_meet(&e, f.ours, f.ours));
	assert_int_equal(SSL_get_verify_result(e.client), X509_V_ERR_CERT_HAS_EXPIRED);
	ends_free(&e);
	end(&f);
}

static void chain_of_many_bytes(void **state)
{
	struct fixture f;
	struct ca_pair leaf;
	SSL_CTX *ctx = SSL_CTX_new(TLS_method());
	static char uris[40000];

	begin(&f);
	snprintf(uris, sizeof(uris), "URI:spiffe://cluster.local/");
	memset(uris + strlen(uris), 'x', sizeof(uris) - strlen(uris) - 1);
	const char *extension[] = {"extendedKeyUsage=clientAuth", uris};
	char *san = mem_format("subjectAltName=%s", uris);

	extension[1] = san;
	leaf = pki_sign(NULL, pki_key("P-256"), &f.ca, NOON - 9, NOON + 9, extension, 2);
	assert_int_equal(SSL_CTX_use_cert_and_key(ctx, leaf.cert, leaf.key, NULL, 1), 1);
	SSL_CTX_set_alpn_protos(ctx, (const unsigned char *)"\x02h2", 3);
	assert_int_equal(meets(&f, CLIENT, ctx), -1);
	free(san);
	pki_free(&leaf);
	end(&f);
}

/* The trust lives as long as a context or a connection has it. */
static void trust_outlives_its_owner(void **state)
{
	struct fixture f;
	struct ends e;
	SSL_CTX *ours;

	begin(&f);
	ours = f.ours;
	SSL_CTX_up_ref(ours);
	end(&f);
	assert_true(ends_meet(&e, ours, ours));
	SSL_CTX_free(ours);
	ends_free(&e);
}

size_t __sanitizer_get_current_allocated_bytes(void); /* ASan: of the whole process */

/* A tunnel stands for weeks, and a CRL comes each hour: those that came since must not be kept for it. */
static void a_connection_keeps_its_own_trust_alone(void **state)
{
	char *roots, *crl, why[WHY];
	struct trust *now, *was;
	struct fixture f;
	size_t few = 0;

	begin(&f); /* f.ours has the first */
	roots = x509_text(&f.root.cert, 1);
	crl = pki_crl(&f.root, NULL, 0, NOON - HOUR, NOON + HOUR);
	now = trust_ref(f.trust);
	for (unsigned i = 0; i < 100; i++) {
		was = now;
		now = trust_new(roots, crl, pki_clock, why);
		assert_non_null(now);
		trust_follow(now, was);
		trust_unref(was);
		if (i == 9)
			few = __sanitizer_get_current_allocated_bytes();
	}
	assert_in_range(__sanitizer_get_current_allocated_bytes(), 0, few + 1000);
	trust_unref(now);
	free(crl);
	free(roots);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_of_ours_agree),
		cmocka_unit_test(key_exchange_is_the_best_that_both_have),
		cmocka_unit_test(strangers_with_other_rules),
		cmocka_unit_test(client_without_a_certificate),
		cmocka_unit_test(certificates_that_are_refused),
		cmocka_unit_test(clock_is_the_one_that_was_given),
		cmocka_unit_test(chain_of_many_bytes),
		cmocka_unit_test(trust_outlives_its_owner),
		cmocka_unit_test(a_connection_keeps_its_own_trust_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
