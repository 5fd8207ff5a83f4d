/* SPDX-License-Identifier: Apache-2.0 */
/* What is spoken, told by every beginning of what protocols say; the name in a ClientHello, cut in every way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <openssl/ssl.h>

#include "http.h"

#define PREFACE "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

static enum http_spoken at_end_of_memory(const void *data, size_t len)
{
	uint8_t *p = malloc(len ? len : 1);
	enum http_spoken r;

	memcpy(p, data, len);
	r = http_detect(p, len);
	free(p);
	return r;
}

/* `tells`: so many bytes are needed, and all beginnings before that say UNKNOWN. */
static void spoken(void **state)
{
	static const struct {
		const char *text;
		enum http_spoken is;
		size_t tells;
	} all[] = {
		{"GET / HTTP/1.1\r\n", HTTP_SPOKEN_HTTP1, 11},
		{"\r\nGET / HTTP/1.0\r\n", HTTP_SPOKEN_HTTP1, 13},
		{"OPTIONS * HTTP/1.1\r\n", HTTP_SPOKEN_HTTP1, 15},
		{"CONNECT a:80 HTTP/1.1\r\n", HTTP_SPOKEN_HTTP1, 18},
		{"M-SEARCH http://a/ HTTP/1.1\r\n", HTTP_SPOKEN_HTTP1, 24},
		{"PRI /x HTTP/1.1\r\n", HTTP_SPOKEN_HTTP1, 12},
		{PREFACE, HTTP_SPOKEN_HTTP2, 24},
		{"PING\r\n", HTTP_SPOKEN_OTHER, 5},		       /* Redis */
		{"*1\r\n$4\r\nPING\r\n", HTTP_SPOKEN_OTHER, 3},	       /* Redis */
		{"get key\r\n", HTTP_SPOKEN_OTHER, 8},		       /* memcached */
		{"set key 0 0 5\r\n", HTTP_SPOKEN_OTHER, 9},	       /* memcached */
		{"EHLO client.example\r\n", HTTP_SPOKEN_OTHER, 20},    /* SMTP */
		{"USER guest 0 * :Guest\r\n", HTTP_SPOKEN_OTHER, 12},  /* IRC */
		{"SSH-2.0-OpenSSH_9.2 Debian-2\r\n", HTTP_SPOKEN_OTHER, 29},
		{"\003\0\0\054\047\340", HTTP_SPOKEN_OTHER, 1},	       /* RDP */
		{"\020\014MQTT", HTTP_SPOKEN_OTHER, 1},
		{"AMQP\0\0\x09\1", HTTP_SPOKEN_OTHER, 5},
		{" GET / HTTP/1.1\r\n", HTTP_SPOKEN_OTHER, 1},
		{"GET  / HTTP/1.1\r\n", HTTP_SPOKEN_OTHER, 5},
		{"\rGET", HTTP_SPOKEN_OTHER, 2},
		{"\r\n\r\n", HTTP_SPOKEN_OTHER, 3},
		{"PRI * HTTP/2.1", HTTP_SPOKEN_HTTP1, 14}, /* whose parser says 505 */
		{"\x16\3\1\2\0\1", HTTP_SPOKEN_TLS, 6},
		{"\x16\3\1\2\0\2", HTTP_SPOKEN_OTHER, 6},
		{"\x16\3\5\2\0\1", HTTP_SPOKEN_OTHER, 3},
		{"\x16\2\1\2\0\1", HTTP_SPOKEN_OTHER, 2},
		{"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA / HTTP/1.1", HTTP_SPOKEN_OTHER, 33},
	};

	assert_int_equal(http_detect(NULL, 0), HTTP_SPOKEN_UNKNOWN);
	for (size_t i = 0; i < array_size(all); i++) {
		for (size_t len = 1; len < all[i].tells; len++)
			if (at_end_of_memory(all[i].text, len) != HTTP_SPOKEN_UNKNOWN)
				fail_msg("row %zu: %zu bytes tell already", i, len);
		if (at_end_of_memory(all[i].text, all[i].tells) != all[i].is)
			fail_msg("row %zu", i);
	}
}

static void long_lines(void **state)
{
	uint8_t line[5000];

	memset(line, 'x', sizeof(line));
	memcpy(line, "GET /", 5);
	assert_int_equal(http_detect(line, 1000), HTTP_SPOKEN_UNKNOWN);
	assert_int_equal(http_detect(line, sizeof(line)), HTTP_SPOKEN_HTTP1);
	line[4] = 'x';
	assert_int_equal(http_detect(line, sizeof(line)), HTTP_SPOKEN_OTHER);
}

/* ------------------------------------------------------------------ ClientHello */

static size_t hello(const char *name, uint8_t *to, size_t size)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL *ssl = SSL_new(ctx);
	int n;

	SSL_set_bio(ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	if (name)
		SSL_set_tlsext_host_name(ssl, name);
	assert_int_equal(SSL_connect(ssl), -1);
	n = BIO_read(SSL_get_wbio(ssl), to, (int)size);
	assert_true(n > 0);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	return (size_t)n;
}

static int sni(const uint8_t *data, size_t len, char name[256])
{
	uint8_t *p = malloc(len ? len : 1);
	int r;

	memcpy(p, data, len);
	r = http_sni(p, len, name);
	free(p);
	return r;
}

/* The same handshake in records of `most` bytes. */
static size_t cut(const uint8_t *data, size_t len, size_t most, uint8_t *to)
{
	size_t out = 0;

	for (data += 5, len -= 5; len;) {
		size_t n = len < most ? len : most;

		memcpy(to + out, (uint8_t[]){22, 3, 1, (uint8_t)(n >> 8), (uint8_t)n}, 5);
		memcpy(to + out + 5, data, n);
		out += 5 + n;
		data += n;
		len -= n;
	}
	return out;
}

static void names(void **state)
{
	uint8_t data[4096], parts[6 * 4096]; /* OpenSSL 3.5 sends a share of ML-KEM, too */
	char name[256];
	size_t len = hello("Shop.Example.COM", data, sizeof(data)), n, i;

	assert_int_equal(http_detect(data, len), HTTP_SPOKEN_TLS);
	for (i = 0; i < len; i++)
		assert_int_equal(sni(data, i, name), 0);
	assert_int_equal(sni(data, len, name), 16);
	assert_string_equal(name, "shop.example.com");
	for (size_t most = len / 30; most < len; most += 7) {
		n = cut(data, len, most, parts);
		for (i = 0; i < n; i++)
			assert_int_equal(sni(parts, i, name), 0);
		assert_int_equal(sni(parts, n, name), 16);
	}
	n = cut(data, len, 1, parts); /* more records than anybody sends */
	assert_int_equal(sni(parts, n, name), -1);
	len = hello(NULL, data, sizeof(data));
	assert_int_equal(sni(data, len, name), -1);
}

static void no_hello(void **state)
{
	uint8_t data[4096];
	char name[256];
	size_t len = hello("a.example", data, sizeof(data)), at;
	uint8_t *host = memmem(data, len, "a.example", 9);

	assert_int_equal(sni((const uint8_t *)"GET / HTTP/1.1\r\n", 16, name), -1);
	assert_int_equal(sni((const uint8_t *)"\x16\3\1\0\0", 5, name), -1); /* an empty record */
	assert_int_equal(sni((const uint8_t *)"\x16\3\1\0\4\2\0\0\0", 9, name), -1); /* ServerHello */
	assert_int_equal(sni((const uint8_t *)"\x16\3\1\0\4\1\1\0\0", 9, name), -1); /* 64 KiB of it */
	assert_non_null(host);
	for (at = 0; at < 4; at++) {
		static const uint8_t odd[] = {0, '\n', ':', ','};

		host[1] = odd[at];
		assert_int_equal(sni(data, len, name), -1);
	}
	/* Any byte changed, and any length: never more than what is there. */
	len = hello("a.example", data, sizeof(data));
	for (at = 0; at < len; at++) {
		for (int step = 0; step < 3; step++) {
			uint8_t was = data[at];
			int r;

			data[at] = step == 0 ? 0 : step == 1 ? 255 : (uint8_t)(was + 1);
			r = sni(data, len, name);
			assert_true(r < 256);
			if (r > 0)
				assert_int_equal(strlen(name), r);
			data[at] = was;
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spoken),
		cmocka_unit_test(long_lines),
		cmocka_unit_test(names),
		cmocka_unit_test(no_hello),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
