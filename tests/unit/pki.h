/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pki.h: CAs, leaves and CRLs of every sort, a clock that stands still, a folder of files, and two ends of TLS in
 * memory. All functions are static.
 */
#ifndef WEFT_TEST_PKI_H
#define WEFT_TEST_PKI_H

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "issuer.h"

#define PKI_FN static __attribute__((unused))
#define TD "cluster.local"
#define WEB "spiffe://cluster.local/ns/shop/sa/web"
#define DB "spiffe://cluster.local/ns/shop/sa/db"
#define FAR "spiffe://far.away/ns/shop/sa/web"
#define NOON 1800000000ll /* when tests begin, seconds since 1970 */
#define HOUR 3600
#define DAY (24 * HOUR)

static int64_t pki_now = NOON; /* seconds */

PKI_FN int64_t pki_clock(void)
{
	return __atomic_load_n(&pki_now, __ATOMIC_RELAXED) * 1000;
}

struct ca_pair {
	X509 *cert;
	EVP_PKEY *key;
};

PKI_FN void pki_free(struct ca_pair *c)
{
	X509_free(c->cert);
	EVP_PKEY_free(c->key);
	*c = (struct ca_pair){0};
}

PKI_FN EVP_PKEY *pki_key(const char *kind)
{
	EVP_PKEY *key = text_equal(kind, "RSA") ? EVP_RSA_gen(2048) : EVP_EC_gen(kind);

	assert_non_null(key);
	return key;
}

/* `by` NULL: signed by itself. Takes the key. */
PKI_FN struct ca_pair pki_sign(const char *common, EVP_PKEY *key, const struct ca_pair *by, int64_t from, int64_t to,
			       const char *const *extension, unsigned extensions)
{
	struct ca_pair c = {.cert = issuer_blank(from, to, key), .key = key};

	if (!by)
		by = &c;
	assert_non_null(c.cert);
	if (common)
		X509_NAME_add_entry_by_txt(X509_get_subject_name(c.cert), "CN", MBSTRING_UTF8,
					   (const unsigned char *)common, -1, -1, 0);
	assert_int_equal(X509_set_issuer_name(c.cert, X509_get_subject_name(by->cert)), 1);
	for (unsigned i = 0; i < extensions; i++) {
		char name[32];
		const char *value = strchr(extension[i], '=') + 1;

		text_copy(name, (size_t)(value - extension[i]), extension[i]);
		if (!issuer_extend(c.cert, by->cert, OBJ_sn2nid(name), value))
			fail_msg("extension %s", extension[i]);
	}
	assert_true(X509_sign(c.cert, by->key, EVP_sha256()) > 0);
	return c;
}

PKI_FN struct ca_pair pki_ca(const char *common, const char *kind, const struct ca_pair *by, int64_t from, int64_t to)
{
	static const char *const extension[] = {"basicConstraints=critical,CA:TRUE",
						"keyUsage=critical,keyCertSign,cRLSign", "subjectKeyIdentifier=hash",
						"authorityKeyIdentifier=keyid"};

	return pki_sign(common, pki_key(kind), by, from, to, extension, by ? 4 : 3);
}

PKI_FN struct ca_pair pki_root(const char *common)
{
	return pki_ca(common, "P-256", NULL, NOON - DAY, NOON + 365 * DAY);
}

/* A leaf with these URIs ("URI:...,URI:..."; NULL none) and purposes. */
PKI_FN struct ca_pair pki_leaf(const struct ca_pair *by, const char *uris, const char *purposes, int64_t from,
			       int64_t to)
{
	char san[1024], eku[128];
	const char *extension[] = {eku, "keyUsage=critical,digitalSignature", "subjectKeyIdentifier=hash",
				   "authorityKeyIdentifier=keyid", san};

	snprintf(san, sizeof(san), "subjectAltName=critical,%s", uris ? uris : "");
	snprintf(eku, sizeof(eku), "extendedKeyUsage=%s", purposes);
	return pki_sign(NULL, pki_key("P-256"), by, from, to, extension, uris ? 5 : 4);
}

PKI_FN char *pki_crl(const struct ca_pair *by, const X509 *const *revoked, unsigned count, int64_t from, int64_t to)
{
	X509_CRL *crl = X509_CRL_new();
	BIO *bio = BIO_new(BIO_s_mem());
	ASN1_TIME *t = ASN1_TIME_set(NULL, (time_t)from);
	char *data, *text;
	long len;

	X509_CRL_set_version(crl, 1);
	X509_CRL_set_issuer_name(crl, X509_get_subject_name(by->cert));
	X509_CRL_set1_lastUpdate(crl, t);
	ASN1_TIME_set(t, (time_t)to);
	X509_CRL_set1_nextUpdate(crl, t);
	for (unsigned i = 0; i < count; i++) {
		X509_REVOKED *r = X509_REVOKED_new();

		ASN1_TIME_set(t, (time_t)from);
		X509_REVOKED_set_serialNumber(r, (ASN1_INTEGER *)X509_get0_serialNumber(revoked[i]));
		X509_REVOKED_set_revocationDate(r, t);
		X509_CRL_add0_revoked(crl, r);
	}
	assert_true(X509_CRL_sign(crl, by->key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_bio_X509_CRL(bio, crl), 1);
	len = BIO_get_mem_data(bio, &data);
	text = mem_alloc((size_t)len + 1);
	memcpy(text, data, (size_t)len);
	ASN1_TIME_free(t);
	BIO_free(bio);
	X509_CRL_free(crl);
	return text;
}

/* ------------------------------------------------------------------ a folder of files */

struct dir {
	struct cert_folder folder;
	char path[64];
	int fd;
	int refuse; /* -errno for every file */
	bool hold;  /* answers wait for dir_answer() */
	bool due;
	const char *name[CERT_FOLDER_FILES];
	unsigned count, opens, makes;
};

PKI_FN void dir_answer(struct dir *d)
{
	int fd[CERT_FOLDER_FILES];

	assert_true(d->due);
	d->due = false;
	for (unsigned i = 0; i < d->count; i++) {
		fd[i] = d->refuse ? d->refuse : openat(d->fd, d->name[i], O_RDONLY | O_CLOEXEC);
		if (fd[i] == -1)
			fd[i] = -errno;
	}
	if (d->folder.opened)
		d->folder.opened(&d->folder, fd, d->count);
	else
		for (unsigned i = 0; i < d->count; i++)
			close(fd[i]);
}

PKI_FN void dir_open(struct cert_folder *f, const char *const *name, unsigned count)
{
	struct dir *d = f->owner;

	assert_false(d->due); /* one at a time */
	d->opens++;
	memcpy(d->name, name, count * sizeof(*name));
	d->count = count;
	d->due = true;
	if (!d->hold)
		dir_answer(d);
}

PKI_FN void dir_put(struct dir *d, const char *name, const char *text, mode_t mode)
{
	char fresh[64];
	int fd;

	snprintf(fresh, sizeof(fresh), ".%.50s", name);
	fd = openat(d->fd, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
	assert_true(fd >= 0);
	assert_int_equal(fchmod(fd, mode), 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
	assert_int_equal(renameat(d->fd, fresh, d->fd, name), 0);
}

PKI_FN void dir_make(struct cert_folder *f, const char *const *name, const char *const *text, unsigned count)
{
	struct dir *d = f->owner;

	d->makes++;
	for (unsigned i = 0; i < count && !d->refuse; i++)
		dir_put(d, name[i], text[i], 0600);
	dir_open(f, name, count);
}

PKI_FN void dir_begin(struct dir *d)
{
	static unsigned count;

	*d = (struct dir){.folder = {.path = d->path, .open = dir_open, .make = dir_make, .owner = d}};
	snprintf(d->path, sizeof(d->path), "/tmp/weft-certs-%d-%u", (int)getpid(), count++);
	assert_int_equal(mkdir(d->path, 0700), 0);
	d->fd = open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

PKI_FN void dir_end(struct dir *d)
{
	char command[96];

	close(d->fd);
	snprintf(command, sizeof(command), "rm -rf %s", d->path);
	assert_int_equal(system(command), 0);
}

PKI_FN char *dir_read(struct dir *d, const char *name)
{
	char why[WHY] = "";
	int fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC);
	char *text;

	assert_true(fd >= 0);
	text = x509_file(fd, name, false, why);
	assert_string_equal(why, "");
	return text;
}

/* A whole set of CA files. `chain`: what stands in cert-chain.pem. */
PKI_FN void dir_put_ca(struct dir *d, X509 *const *roots, unsigned count, const struct ca_pair *ca, X509 *const *chain,
		       unsigned chained)
{
	char *root = x509_text(roots, count), *cert = x509_text(&ca->cert, 1), *key = x509_key_text(ca->key);
	char *between = x509_text(chain, chained);

	dir_put(d, "root-cert.pem", root, 0644);
	dir_put(d, "ca-cert.pem", cert, 0644);
	dir_put(d, "ca-key.pem", key, 0600);
	dir_put(d, "cert-chain.pem", between, 0644);
	free(root);
	free(cert);
	x509_wipe(key);
	free(between);
}

/* ------------------------------------------------------------------ two ends of TLS */

struct ends {
	SSL *client, *server;
	int client_error, server_error; /* SSL_ERROR_...; 0: the handshake is done */
};

PKI_FN int step(SSL *s)
{
	int n = SSL_do_handshake(s), error = n == 1 ? 0 : SSL_get_error(s, n);

	return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? -1 : error;
}

PKI_FN void ends_free(struct ends *e)
{
	SSL_free(e->client);
	SSL_free(e->server);
	ERR_clear_error();
}

/* Takes neither context. true: both ends say that it is done. The client's last flight reaches the server. */
PKI_FN bool ends_meet(struct ends *e, SSL_CTX *client, SSL_CTX *server)
{
	BIO *a, *b;

	assert_int_equal(BIO_new_bio_pair(&a, 0, &b, 0), 1);
	*e = (struct ends){
		.client = SSL_new(client), .server = SSL_new(server), .client_error = -1, .server_error = -1};
	SSL_set_connect_state(e->client);
	SSL_set_accept_state(e->server);
	SSL_set_bio(e->client, a, a);
	SSL_set_bio(e->server, b, b);
	for (int i = 0; i < 20; i++) {
		if (e->client_error < 0)
			e->client_error = step(e->client);
		if (e->server_error < 0)
			e->server_error = step(e->server);
	}
	if (e->client_error == 0 && e->server_error > 0) { /* TLS 1.3: the client learns it when it reads */
		char c;

		e->client_error = SSL_get_error(e->client, SSL_read(e->client, &c, 1));
	}
	return !e->client_error && !e->server_error;
}

#endif
