/* SPDX-License-Identifier: Apache-2.0 */
/* The embedded CA: which files make one, what is said of those that do not, and what a leaf looks like. */
#include "pki.h"

struct files {
	char *roots, *cert, *key, *chain;
};

static void files_free(struct files *f)
{
	free(f->roots);
	free(f->cert);
	x509_wipe(f->key);
	free(f->chain);
}

static struct files files_of(X509 *root, const struct ca_pair *ca, X509 *const *chain, unsigned chained)
{
	return (struct files){.roots = x509_text(&root, 1),
			      .cert = x509_text(&ca->cert, 1),
			      .key = x509_key_text(ca->key),
			      .chain = x509_text(chain, chained)};
}

static struct issuer *make(const struct files *f, int64_t now, char why[WHY])
{
	why[0] = '\0';
	return issuer_new(&(struct issuer_files){f->roots, f->cert, f->key, f->chain}, now, why);
}

/* Each of what is read in `chain` verifies up to the root for both purposes; the leaf. */
static X509 *leaf_of(const struct cert *c, X509 *root, int64_t now, int expected)
{
	char why[WHY] = "";
	STACK_OF(X509) *chain = x509_read(c->chain, "chain", why);
	X509_STORE *store = X509_STORE_new();
	X509_STORE_CTX *ctx = X509_STORE_CTX_new();
	EVP_PKEY *key = x509_key(c->key, "key", why);
	X509 *leaf;

	assert_non_null(chain);
	assert_int_equal(sk_X509_num(chain), expected);
	leaf = sk_X509_value(chain, 0);
	assert_true(x509_fits(leaf, key));
	assert_int_equal(X509_STORE_add_cert(store, root), 1);
	for (int purpose = X509_PURPOSE_SSL_CLIENT; purpose <= X509_PURPOSE_SSL_SERVER; purpose++) {
		assert_int_equal(X509_STORE_CTX_init(ctx, store, leaf, chain), 1);
		X509_STORE_CTX_set_time(ctx, 0, (time_t)now);
		X509_STORE_CTX_set_flags(ctx, X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE);
		assert_int_equal(X509_STORE_CTX_set_purpose(ctx, purpose), 1);
		if (X509_verify_cert(ctx) != 1)
			fail_msg("%s", X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
		X509_STORE_CTX_cleanup(ctx);
	}
	X509_up_ref(leaf);
	X509_STORE_CTX_free(ctx);
	X509_STORE_free(store);
	EVP_PKEY_free(key);
	x509_free(chain);
	return leaf;
}

static void made_root_signs(void **state)
{
	char *cert, *key, why[WHY] = "", id[CERTS_ID], subject[128];
	struct files f;
	struct issuer *i;
	struct cert *c;
	STACK_OF(X509) * roots;
	X509 *leaf, *root;

	assert_true(issuer_make_root(TD, NOON, &cert, &key, why));
	f = (struct files){.roots = cert, .cert = mem_string(cert), .key = key, .chain = mem_string(cert)};
	i = make(&f, NOON, why);
	assert_string_equal(why, "");
	c = issuer_sign(i, WEB, NOON, why);
	assert_non_null(c);
	roots = x509_read(cert, "root", why);
	root = sk_X509_value(roots, 0);
	leaf = leaf_of(c, root, NOON, 1); /* the root itself is not sent */
	x509_subject(root, subject);
	assert_non_null(strstr(subject, "O=cluster.local"));
	assert_non_null(strstr(subject, "CN=weft root "));
	assert_int_equal(x509_time(X509_get0_notAfter(root)), NOON + ROOT_SECONDS);

	assert_int_equal(X509_NAME_entry_count(X509_get_subject_name(leaf)), 0);
	assert_true(X509_EXTENSION_get_critical(
		X509_get_ext(leaf, X509_get_ext_by_NID(leaf, NID_subject_alt_name, -1))));
	assert_int_equal(certs_peer(leaf, id), 0);
	assert_string_equal(id, WEB);
	assert_int_equal(X509_get_key_usage(leaf), KU_DIGITAL_SIGNATURE);
	assert_int_equal(X509_get_extended_key_usage(leaf), XKU_SSL_SERVER | XKU_SSL_CLIENT);
	assert_int_equal(X509_check_ca(leaf), 0);
	assert_int_equal(x509_time(X509_get0_notAfter(leaf)), NOON + DAY);
	assert_int_equal(x509_time(X509_get0_notBefore(leaf)), NOON - SKEW_SECONDS);
	assert_int_equal(EVP_PKEY_get_bits(X509_get0_pubkey(leaf)), 256);
	X509_free(leaf);
	x509_free(roots);
	cert_free(c);
	issuer_free(i);
	files_free(&f);
}

static void serials_differ(void **state)
{
	struct ca_pair root = pki_root("root");
	struct files f = files_of(root.cert, &root, NULL, 0);
	char why[WHY], serial[2][48];
	struct issuer *i = make(&f, NOON, why);

	for (int k = 0; k < 2; k++) {
		struct cert *c = issuer_sign(i, WEB, NOON, why);
		X509 *leaf = leaf_of(c, root.cert, NOON, 1);

		x509_serial(leaf, serial[k]);
		assert_int_equal(strlen(serial[k]), 32);
		X509_free(leaf);
		cert_free(c);
	}
	assert_string_not_equal(serial[0], serial[1]);
	issuer_free(i);
	files_free(&f);
	pki_free(&root);
}

static void every_kind_of_key_with_intermediates(void **state)
{
	static const char *const kinds[] = {"P-256", "P-384", "RSA"};

	for (size_t k = 0; k < array_size(kinds); k++) {
		struct ca_pair root = pki_ca("root", kinds[k / 2], NULL, NOON - DAY, NOON + 30 * DAY);
		struct ca_pair middle = pki_ca("middle", "P-256", &root, NOON - DAY, NOON + 20 * DAY);
		struct ca_pair ca = pki_ca("node", kinds[k], &middle, NOON - DAY, NOON + 10 * DAY);
		/* in any order, with the root or without, as people put them together */
		X509 *const mixed[] = {root.cert, middle.cert, ca.cert};
		struct files f = files_of(root.cert, &ca, mixed, 3);
		char why[WHY];
		struct issuer *i = make(&f, NOON, why);
		struct cert *c;
		X509 *leaf;

		assert_string_equal(why, "");
		c = issuer_sign(i, WEB, NOON, why);
		leaf = leaf_of(c, root.cert, NOON, 3);
		X509_free(leaf);
		cert_free(c);
		issuer_free(i);
		files_free(&f);
		pki_free(&root);
		pki_free(&middle);
		pki_free(&ca);
	}
}

static void leaf_does_not_outlive_its_ca(void **state)
{
	struct ca_pair root = pki_ca("root", "P-256", NULL, NOON - 60, NOON + HOUR);
	struct ca_pair ca = pki_ca("node", "P-256", &root, NOON - 10, NOON + DAY);
	struct files f = files_of(root.cert, &ca, NULL, 0);
	char why[WHY];
	struct issuer *i = make(&f, NOON, why);
	struct cert *c = issuer_sign(i, WEB, NOON, why);
	X509 *leaf = leaf_of(c, root.cert, NOON, 2);

	assert_int_equal(x509_time(X509_get0_notAfter(leaf)), NOON + HOUR);
	assert_int_equal(x509_time(X509_get0_notBefore(leaf)), NOON - 10);
	assert_null(issuer_sign(i, WEB, NOON + HOUR, why));
	assert_non_null(strstr(why, "expired on 2027-01-15 09:00 UTC"));
	assert_null(issuer_sign(i, "spiffe://cluster.local/ns/a,b/sa/c", NOON, why));
	X509_free(leaf);
	cert_free(c);
	issuer_free(i);
	files_free(&f);
	pki_free(&root);
	pki_free(&ca);
}

/* Nothing says that a CA has a key identifier. */
static void ca_without_key_identifier(void **state)
{
	static const char *const extension[] = {"basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"};
	struct ca_pair root = pki_sign("root", pki_key("P-256"), NULL, NOON - DAY, NOON + DAY, extension, 2);
	struct files f = files_of(root.cert, &root, NULL, 0);
	char why[WHY];
	struct issuer *i = make(&f, NOON, why);
	struct cert *c = issuer_sign(i, WEB, NOON, why);

	assert_non_null(c);
	cert_free(c);
	issuer_free(i);
	files_free(&f);
	pki_free(&root);
}

static void refused(struct files f, int64_t now, const char *expected)
{
	char why[WHY];
	struct issuer *i = make(&f, now, why);

	if (i || !strstr(why, expected))
		fail_msg("\"%s\" does not hold \"%s\"", why, expected);
	files_free(&f);
}

static void files_that_make_no_ca(void **state)
{
	struct ca_pair root = pki_root("root"), other = pki_root("root"), ca, leaf, old;
	struct files f;
	char why[WHY];

	ca = pki_ca("node", "P-256", &root, NOON - DAY, NOON + 10 * DAY);
	old = pki_ca("old", "P-256", NULL, NOON - 10 * DAY, NOON - DAY);
	leaf = pki_leaf(&root, "URI:" WEB, "serverAuth,clientAuth", NOON - DAY, NOON + DAY);

	f = files_of(root.cert, &ca, NULL, 0);
	x509_wipe(f.key);
	f.key = x509_key_text(root.key);
	refused(f, NOON, "ca-key.pem is not the key of ca-cert.pem");
	refused(files_of(root.cert, &leaf, NULL, 0), NOON, "not of a CA");
	refused(files_of(other.cert, &ca, NULL, 0), NOON, "CN=node");
	refused(files_of(old.cert, &old, NULL, 0), NOON, "ca-cert.pem expired on");
	refused(files_of(root.cert, &ca, NULL, 0), NOON + 11 * DAY, "ca-cert.pem expired on");
	refused(files_of(root.cert, &ca, NULL, 0), NOON - 2 * DAY, "is not valid before");
	f = files_of(root.cert, &ca, NULL, 0);
	text_copy(f.roots, 2, "x");
	refused(f, NOON, "root-cert.pem holds no certificate");
	f = files_of(root.cert, &ca, NULL, 0);
	memset(f.cert + 60, '!', 8);
	refused(f, NOON, "ca-cert.pem: certificate 1 does not parse");
	f = files_of(root.cert, &ca, NULL, 0);
	text_copy(f.key, 2, "x");
	refused(f, NOON, "ca-key.pem holds no private key");
	pki_free(&ca);
	ca = pki_ca("node", "P-256", &old, NOON - DAY, NOON + 10 * DAY);
	refused(files_of(old.cert, &ca, NULL, 0), NOON, "\"CN=old\" of root-cert.pem or cert-chain.pem expired on");
	pki_free(&ca);
	ca = pki_ca("node", "P-521", &root, NOON - DAY, NOON + 10 * DAY);
	f = files_of(root.cert, &ca, NULL, 0);
	issuer_free(make(&f, NOON, why));
	assert_string_equal(why, "");
	files_free(&f);
	pki_free(&ca);
	pki_free(&old);
	pki_free(&leaf);
	pki_free(&root);
	pki_free(&other);
}

static void keys_that_are_refused(void **state)
{
	EVP_PKEY *small = EVP_RSA_gen(1024), *edwards = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	EVP_PKEY *good = pki_key("P-256");
	BIO *bio = BIO_new(BIO_s_mem());
	char *text, *data, why[WHY];

	text = x509_key_text(small);
	assert_null(x509_key(text, "ca-key.pem", why));
	assert_non_null(strstr(why, "RSA with 1024 bits"));
	x509_wipe(text);
	text = x509_key_text(edwards);
	assert_null(x509_key(text, "ca-key.pem", why));
	x509_wipe(text);
	assert_int_equal(
		PEM_write_bio_PrivateKey(bio, good, EVP_aes_128_cbc(), (unsigned char *)"x", 1, NULL, NULL), 1);
	BIO_write(bio, "", 1);
	BIO_get_mem_data(bio, &data);
	assert_null(x509_key(data, "ca-key.pem", why)); /* does not ask at a terminal */
	assert_non_null(strstr(why, "is encrypted"));
	BIO_free(bio);
	EVP_PKEY_free(small);
	EVP_PKEY_free(edwards);
	EVP_PKEY_free(good);
}

/* Bytes from files: a byte changed anywhere never crashes, and never makes another CA of it. */
static void changed_bytes(void **state)
{
	struct ca_pair root = pki_root("root"), ca = pki_ca("node", "P-256", &root, NOON - DAY, NOON + DAY);
	struct files f = files_of(root.cert, &ca, NULL, 0);
	size_t len = strlen(f.cert);

	for (size_t at = 0; at < len; at += 31) {
		char was = f.cert[at], why[WHY];

		f.cert[at] ^= 1;
		if (f.cert[at]) {
			struct issuer *i = make(&f, NOON, why);

			/* only what is outside of the base64 may change */
			if (i && at > 28 && at < len - 28)
				fail_msg("byte %zu of %zu", at, len);
			issuer_free(i);
		}
		f.cert[at] = was;
	}
	files_free(&f);
	pki_free(&root);
	pki_free(&ca);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(made_root_signs),
		cmocka_unit_test(serials_differ),
		cmocka_unit_test(every_kind_of_key_with_intermediates),
		cmocka_unit_test(leaf_does_not_outlive_its_ca),
		cmocka_unit_test(ca_without_key_identifier),
		cmocka_unit_test(files_that_make_no_ca),
		cmocka_unit_test(keys_that_are_refused),
		cmocka_unit_test(changed_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
