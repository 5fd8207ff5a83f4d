/* SPDX-License-Identifier: Apache-2.0 */
/* x509.c: see issuer.h. */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "issuer.h"

#define LONELY 077 /* permission bits that a key may not have */

/* ------------------------------------------------------------------ files */

static char *read_all(int fd, size_t size)
{
	char *text = mem_alloc(size + 1);
	size_t len = 0;

	while (len < size) {
		ssize_t n = pread(fd, text + len, size - len, (off_t)len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	if (len == size && !memchr(text, '\0', len))
		return text;
	mem_wipe(text, size);
	free(text);
	return NULL;
}

char *x509_file(int fd, const char *name, bool secret, char why[WHY])
{
	char *text = NULL;
	struct stat st;

	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		snprintf(why, WHY, "%s is not a file", name);
	else if (st.st_size > X509_FILE)
		snprintf(why, WHY, "%s is larger than %d bytes", name, X509_FILE);
	else if (secret && st.st_mode & LONELY)
		snprintf(why, WHY,
			 "%s can be read by others than its owner (mode %03o): chmod 600 it (a Secret volume: "
			 "defaultMode 0400), and make a new key if others could read it",
			 name, st.st_mode & 0777);
	else
		text = read_all(fd, (size_t)st.st_size);
	if (!text && !why[0])
		snprintf(why, WHY, "%s cannot be read, or changes while it is read, or is no text", name);
	close(fd);
	return text;
}

void x509_wipe(char *pem)
{
	if (pem)
		mem_wipe(pem, strlen(pem));
	free(pem);
}

void cert_free(struct cert *c)
{
	if (!c)
		return;
	free(c->chain);
	x509_wipe(c->key);
	free(c);
}

/* ------------------------------------------------------------------ PEM */

STACK_OF(X509) * x509_read(const char *pem, const char *name, char why[WHY])
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	STACK_OF(X509) *all = sk_X509_new_null();
	bool good;
	X509 *x;

	ERR_clear_error();
	while (sk_X509_num(all) < X509_MOST && (x = PEM_read_bio_X509(bio, NULL, NULL, NULL)))
		if (sk_X509_push(all, x) <= 0)
			abort(); /* out of memory */
	/* The end is an error too: no more "-----BEGIN". */
	good = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
	ERR_clear_error();
	BIO_free(bio);
	if (good)
		return all;
	if (sk_X509_num(all) < X509_MOST)
		snprintf(why, WHY, "%s: certificate %d does not parse", name, sk_X509_num(all) + 1);
	else
		snprintf(why, WHY, "%s: %d certificates or more", name, X509_MOST);
	x509_free(all);
	return NULL;
}

void x509_free(STACK_OF(X509) * all)
{
	sk_X509_pop_free(all, X509_free);
}

static int no_passphrase(char *buf, int size, int writing, void *asked)
{
	*(bool *)asked = true;
	return -1;
}

EVP_PKEY *x509_key(const char *pem, const char *name, char why[WHY])
{
	BIO *bio = BIO_new_mem_buf(pem, -1);
	bool asked = false;
	EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &asked);

	BIO_free(bio);
	ERR_clear_error();
	if (!key) {
		if (asked)
			snprintf(why, WHY,
				 "%s is encrypted and weft has no passphrase: decrypt it (openssl pkey), mode 600",
				 name);
		else
			snprintf(why, WHY, "%s holds no private key in PEM", name);
		return NULL;
	}
	if (EVP_PKEY_is_a(key, "EC") || (EVP_PKEY_is_a(key, "RSA") && EVP_PKEY_get_bits(key) >= 2048))
		return key;
	snprintf(why, WHY, "%s: a key of %s with %d bits: ECDSA, or RSA of 2048 bits or more", name,
		 EVP_PKEY_get0_type_name(key), EVP_PKEY_get_bits(key));
	EVP_PKEY_free(key);
	return NULL;
}

bool x509_fits(const X509 *cert, const EVP_PKEY *key)
{
	EVP_PKEY *public = X509_get0_pubkey(cert);
	bool same = public && EVP_PKEY_eq(public, key) == 1;

	ERR_clear_error();
	return same;
}

char *x509_text(X509 *const *cert, unsigned count)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *data, *text;
	long len;

	for (unsigned i = 0; i < count; i++)
		if (PEM_write_bio_X509(bio, cert[i]) != 1)
			abort(); /* out of memory */
	len = BIO_get_mem_data(bio, &data);
	text = mem_alloc((size_t)len + 1);
	if (len)
		memcpy(text, data, (size_t)len);
	BIO_free(bio);
	return text;
}

char *x509_key_text(EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_secmem());
	char *data, *text = NULL;
	long len;

	if (bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1) {
		len = BIO_get_mem_data(bio, &data);
		text = mem_alloc((size_t)len + 1);
		memcpy(text, data, (size_t)len);
		mem_wipe(data, (size_t)len);
	}
	BIO_free(bio);
	return text;
}

/* ------------------------------------------------------------------ fields */

int64_t x509_time(const ASN1_TIME *t)
{
	struct tm tm;

	return t && ASN1_TIME_to_tm(t, &tm) == 1 ? (int64_t)timegm(&tm) : INT64_MAX;
}

void x509_date(int64_t t, char buf[32])
{
	time_t seconds = (time_t)t;
	struct tm tm;

	if (!gmtime_r(&seconds, &tm) || !strftime(buf, 32, "%Y-%m-%d %H:%M UTC", &tm))
		text_copy(buf, 32, "no date");
}

void x509_subject(const X509 *cert, char buf[128])
{
	BIO *bio = BIO_new(BIO_s_mem());
	int n;

	X509_NAME_print_ex(bio, X509_get_subject_name(cert), 0, XN_FLAG_RFC2253);
	n = BIO_read(bio, buf, 127);
	buf[n > 0 ? n : 0] = '\0';
	BIO_free(bio);
}

void x509_serial(const X509 *cert, char buf[48])
{
	const ASN1_INTEGER *serial = X509_get0_serialNumber(cert);
	const unsigned char *data = ASN1_STRING_get0_data(serial);
	int len = ASN1_STRING_length(serial);

	buf[0] = '\0';
	for (int i = 0; i < len && i < 23; i++)
		snprintf(buf + 2 * i, 3, "%02x", data[i]);
}

void x509_fingerprint(const X509 *cert, char buf[65])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	buf[0] = '\0';
	if (X509_digest(cert, EVP_sha256(), digest, &len) != 1)
		return;
	for (unsigned i = 0; i < len; i++)
		snprintf(buf + 2 * i, 3, "%02x", digest[i]);
}

bool x509_lasts(const X509 *cert, int64_t now, const char *name, char why[WHY])
{
	int64_t from = x509_time(X509_get0_notBefore(cert)), to = x509_time(X509_get0_notAfter(cert));
	char date[32];

	if (now >= from && now < to)
		return true;
	x509_date(now < from ? from : to, date);
	if (now < from)
		snprintf(why, WHY, "%s is not valid before %s: is the clock of this node right?", name, date);
	else
		snprintf(why, WHY, "%s expired on %s", name, date);
	return false;
}
