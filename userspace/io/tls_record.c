/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_record.c: records of TLS 1.3 (RFC 8446 sections 5.2, 5.3, 7.2, 7.3) with OpenSSL's AEADs.
 *
 *	header: 23 3 3 length     body: AEAD(content, type, zeros)  tag
 *	nonce: iv xor sequence    additional data: the header
 */
#include <assert.h>
#include <errno.h>
#include <string.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "tls_parts.h"

static const struct suite {
	uint16_t number;
	uint8_t key, hash;
	const EVP_CIPHER *(*cipher)(void);
	const EVP_MD *(*digest)(void);
} suites[] = {
	{0x1301, 16, 32, EVP_aes_128_gcm, EVP_sha256},
	{0x1302, 32, 48, EVP_aes_256_gcm, EVP_sha384},
	{0x1303, 32, 32, EVP_chacha20_poly1305, EVP_sha256},
};

/*
 * HKDF-Expand-Label(secret, label, "", len) of section 7.1. One block of HKDF-Expand is enough: no output is longer
 * than the hash.
 */
static bool expand(const struct tls_keys *k, const char *label, uint8_t *to, size_t len)
{
	const EVP_MD *md = k->hash == 48 ? EVP_sha384() : EVP_sha256();
	size_t n = strlen(label);
	uint8_t info[32], block[TLS_SECRET];
	unsigned made = 0;

	assert(len <= k->hash && n + 11 <= sizeof(info));
	info[0] = 0;
	info[1] = (uint8_t)len;
	info[2] = (uint8_t)(6 + n);
	memcpy(info + 3, "tls13 ", 6);
	memcpy(info + 9, label, n);
	info[9 + n] = 0;  /* no context */
	info[10 + n] = 1; /* the first block */
	if (!HMAC(md, k->secret, k->hash, info, 11 + n, block, &made) || made != k->hash)
		return false;
	memcpy(to, block, len);
	mem_wipe(block, sizeof(block));
	return true;
}

/* Key and nonce of the secret that is there; the sequence begins again. */
static int rekey(struct tls_keys *k, const EVP_CIPHER *cipher, size_t len)
{
	uint8_t key[32];
	int ok;

	k->sequence = 0;
	ok = expand(k, "key", key, len) && expand(k, "iv", k->iv, sizeof(k->iv)) &&
	     EVP_CipherInit_ex(k->aead, cipher, NULL, key, NULL, k->seals) > 0;
	mem_wipe(key, sizeof(key));
	return ok ? 0 : -EIO;
}

int tls_keys_set(struct tls_keys *k, uint16_t suite, const uint8_t *secret, size_t len, bool seals)
{
	const struct suite *s = NULL;
	unsigned i;

	for (i = 0; i < array_size(suites); i++)
		if (suites[i].number == suite)
			s = &suites[i];
	if (!s || len != s->hash)
		return -EINVAL;
	tls_keys_free(k);
	k->aead = EVP_CIPHER_CTX_new();
	k->seals = seals;
	k->hash = s->hash;
	memcpy(k->secret, secret, len);
	return k->aead ? rekey(k, s->cipher(), s->key) : -EIO;
}

int tls_keys_update(struct tls_keys *k)
{
	uint8_t next[TLS_SECRET];

	if (!expand(k, "traffic upd", next, k->hash))
		return -EIO;
	memcpy(k->secret, next, k->hash);
	mem_wipe(next, sizeof(next));
	return rekey(k, NULL, (size_t)EVP_CIPHER_CTX_get_key_length(k->aead));
}

void tls_keys_free(struct tls_keys *k)
{
	EVP_CIPHER_CTX_free(k->aead); /* wipes */
	mem_wipe(k, sizeof(*k));
}

/* Nonce and additional data of the next record. */
static bool begin(struct tls_keys *k, const uint8_t *header)
{
	uint8_t nonce[sizeof(k->iv)];
	uint64_t sequence = __builtin_bswap64(k->sequence++), low;
	int n;

	memcpy(nonce, k->iv, sizeof(nonce));
	memcpy(&low, nonce + 4, 8);
	low ^= sequence;
	memcpy(nonce + 4, &low, 8);
	return EVP_CipherInit_ex(k->aead, NULL, NULL, NULL, nonce, -1) > 0 &&
	       EVP_CipherUpdate(k->aead, NULL, &n, header, TLS_HEADER) > 0;
}

ssize_t tls_seal(struct tls_keys *k, uint8_t *to, enum tls_type type, const uint8_t *data, size_t len)
{
	size_t body = len + 1 + TLS_TAG;
	uint8_t last = (uint8_t)type, *text = to + TLS_HEADER;
	int n, all = 0;

	assert(len <= TLS_PLAIN);
	to[0] = TLS_DATA;
	to[1] = to[2] = 3;
	to[3] = (uint8_t)(body >> 8);
	to[4] = (uint8_t)body;
	if (!begin(k, to))
		return -EIO;
	if (data == text) { /* a message of ours: the type has room behind it */
		text[len] = last;
		if (EVP_EncryptUpdate(k->aead, text, &all, text, (int)len + 1) <= 0)
			return -EIO;
	} else {
		if (len && EVP_EncryptUpdate(k->aead, text, &all, data, (int)len) <= 0)
			return -EIO;
		if (EVP_EncryptUpdate(k->aead, text + all, &n, &last, 1) <= 0)
			return -EIO;
		all += n;
	}
	if (EVP_EncryptFinal_ex(k->aead, text + all, &n) <= 0 || all + n != (int)len + 1 ||
	    EVP_CIPHER_CTX_ctrl(k->aead, EVP_CTRL_AEAD_GET_TAG, TLS_TAG, text + len + 1) <= 0)
		return -EIO;
	return (ssize_t)(TLS_HEADER + body);
}

ssize_t tls_record_len(const uint8_t header[TLS_HEADER])
{
	size_t len = (size_t)header[3] << 8 | header[4];

	if (header[0] != TLS_DATA || header[1] != 3 || len < 1 + TLS_TAG)
		return -EPROTO;
	return len > TLS_BODY ? -EOVERFLOW : (ssize_t)len;
}

ssize_t tls_open(struct tls_keys *k, const uint8_t header[TLS_HEADER], const uint8_t *body, uint8_t *to,
		 enum tls_type *ret_type)
{
	size_t len = ((size_t)header[3] << 8 | header[4]) - TLS_TAG;
	uint8_t tag[TLS_TAG];
	int n = 0, last;

	memcpy(tag, body + len, sizeof(tag));
	if (!begin(k, header) || EVP_DecryptUpdate(k->aead, to, &n, body, (int)len) <= 0 ||
	    EVP_CIPHER_CTX_ctrl(k->aead, EVP_CTRL_AEAD_SET_TAG, TLS_TAG, tag) <= 0 ||
	    EVP_DecryptFinal_ex(k->aead, to + n, &last) <= 0 || n + last != (int)len)
		return -EBADMSG;
	while (len && !to[len - 1])
		len--;
	if (!len)
		return -EPROTO;
	len--;
	*ret_type = to[len];
	return len > TLS_PLAIN ? -EOVERFLOW : (ssize_t)len;
}
