/* SPDX-License-Identifier: Apache-2.0 */
/* Records of TLS 1.3: the ones of RFC 8448, each length, and every bit that was touched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "../../userspace/io/tls_parts.h"

static const uint16_t suites[] = {0x1301, 0x1302, 0x1303};
static uint8_t content[TLS_PLAIN], record[TLS_HEADER + TLS_BODY], plain[TLS_BODY];

static size_t unhex(const char *hex, uint8_t *to)
{
	size_t n;
	unsigned byte;

	for (n = 0; hex[2 * n]; n++) {
		assert_int_equal(sscanf(hex + 2 * n, "%2x", &byte), 1);
		to[n] = (uint8_t)byte;
	}
	return n;
}

/* RFC 8448 section 3: "client send application_data record"; the content is 0, 1, 2 ... 49. */
static void as_the_rfc(void **state)
{
	const char *hex = "1703030043a23f7054b62c94d0affafe8228ba55cbefacea42f914aa66bcab3f2b9819a8a5b46b395bd5"
			  "4a9a20441e2b62974e1f5a6292a2977014bd1e3deae63aeebb21694915e4";
	struct tls_keys out = {0}, in = {0};
	uint8_t want[128], secret[32];
	enum tls_type type;
	size_t len, i;

	assert_int_equal(unhex("9e40646ce79a7f9dc05af8889bce6552875afa0b06df0087f792ebb7c17504a5", secret), 32);
	len = unhex(hex, want);
	for (i = 0; i < 50; i++)
		content[i] = (uint8_t)i;
	assert_int_equal(tls_keys_set(&out, 0x1301, secret, 32, true), 0);
	assert_int_equal(tls_keys_set(&in, 0x1301, secret, 32, false), 0);
	assert_int_equal(tls_seal(&out, record, TLS_DATA, content, 50), len);
	assert_memory_equal(record, want, len);
	assert_int_equal(tls_record_len(record), len - TLS_HEADER);
	assert_int_equal(tls_open(&in, record, record + TLS_HEADER, plain, &type), 50);
	assert_int_equal(type, TLS_DATA);
	assert_memory_equal(plain, content, 50);
	tls_keys_free(&out);
	tls_keys_free(&in);
}

static void both(struct tls_keys *out, struct tls_keys *in, unsigned suite)
{
	static const uint8_t secret[TLS_SECRET] = "a secret of no great quality, of 48 bytes......";
	size_t len = suites[suite] == 0x1302 ? 48 : 32;

	*out = *in = (struct tls_keys){0};
	assert_int_equal(tls_keys_set(out, suites[suite], secret, len, true), 0);
	assert_int_equal(tls_keys_set(in, suites[suite], secret, len, false), 0);
}

static void every_length_there_and_back(void **state)
{
	struct tls_keys out, in;
	enum tls_type type;
	unsigned suite;
	size_t len, i;

	for (i = 0; i < sizeof(content); i++)
		content[i] = (uint8_t)(i * 31);
	for (suite = 0; suite < array_size(suites); suite++) {
		both(&out, &in, suite);
		for (len = 0; len <= TLS_PLAIN; len += len < 300 || len > TLS_PLAIN - 20 ? 1 : 997) {
			bool in_place = len % 2;
			const uint8_t *from;

			if (in_place)
				memcpy(record + TLS_HEADER, content, len);
			from = in_place ? record + TLS_HEADER : content;
			assert_int_equal(tls_seal(&out, record, TLS_ALERT, from, len), len + TLS_OVERHEAD);
			assert_int_equal(tls_record_len(record), len + TLS_OVERHEAD - TLS_HEADER);
			if (len % 3) {
				memcpy(plain, record + TLS_HEADER, len + TLS_OVERHEAD - TLS_HEADER);
				assert_int_equal(tls_open(&in, record, plain, plain, &type), len);
			} else {
				assert_int_equal(tls_open(&in, record, record + TLS_HEADER, plain, &type), len);
			}
			assert_int_equal(type, TLS_ALERT);
			assert_memory_equal(plain, content, len);
		}
		tls_keys_free(&out);
		tls_keys_free(&in);
	}
}

static void a_bit_that_was_touched(void **state)
{
	struct tls_keys out, in;
	enum tls_type type;
	unsigned suite, i;

	for (suite = 0; suite < array_size(suites); suite++)
		for (i = 0; i < 8 * (100 + TLS_OVERHEAD); i += 3) {
			both(&out, &in, suite);
			assert_int_equal(tls_seal(&out, record, TLS_DATA, content, 100), 100 + TLS_OVERHEAD);
			record[i / 8] ^= (uint8_t)(1 << i % 8);
			/* The body is what was sent; a changed length in the header changes what is authenticated. */
			if (tls_record_len(record) == 100 + TLS_OVERHEAD - TLS_HEADER)
				assert_int_equal(tls_open(&in, record, record + TLS_HEADER, plain, &type), -EBADMSG);
			tls_keys_free(&out);
			tls_keys_free(&in);
		}
}

static void order_matters(void **state)
{
	struct tls_keys out, in;
	enum tls_type type;
	uint8_t second[64];

	both(&out, &in, 0);
	assert_true(tls_seal(&out, record, TLS_DATA, content, 10) > 0);
	assert_true(tls_seal(&out, second, TLS_DATA, content, 10) > 0);
	assert_int_equal(tls_open(&in, second, second + TLS_HEADER, plain, &type), -EBADMSG);
	tls_keys_free(&out);
	tls_keys_free(&in);
}

static void keys_are_updated(void **state)
{
	struct tls_keys out, in;
	enum tls_type type;
	unsigned suite, i;

	for (suite = 0; suite < array_size(suites); suite++) {
		both(&out, &in, suite);
		for (i = 0; i < 5; i++) {
			assert_int_equal(tls_keys_update(&out), 0);
			assert_true(tls_seal(&out, record, TLS_DATA, content, 100) > 0);
			if (i == 4) { /* the other one has not */
				assert_int_equal(tls_open(&in, record, record + TLS_HEADER, plain, &type), -EBADMSG);
				break;
			}
			assert_int_equal(tls_keys_update(&in), 0);
			assert_int_equal(tls_open(&in, record, record + TLS_HEADER, plain, &type), 100);
		}
		tls_keys_free(&out);
		tls_keys_free(&in);
	}
}

static void headers_that_are_none(void **state)
{
	static const struct {
		uint8_t header[TLS_HEADER];
		ssize_t want;
	} rows[] = {
		{{23, 3, 3, 0, 17}, 17},
		{{23, 3, 1, 0, 17}, 17},
		{{23, 3, 3, 0x41, 0}, TLS_BODY},
		{{23, 3, 3, 0x41, 1}, -EOVERFLOW},
		{{23, 3, 3, 255, 255}, -EOVERFLOW},
		{{23, 3, 3, 0, 16}, -EPROTO},
		{{21, 3, 3, 0, 20}, -EPROTO},
		{{20, 3, 3, 0, 1}, -EPROTO},
		{{22, 3, 3, 0, 40}, -EPROTO},
		{{23, 2, 3, 0, 40}, -EPROTO},
		{{'G', 'E', 'T', ' ', '/'}, -EPROTO},
	};
	unsigned i;

	for (i = 0; i < array_size(rows); i++)
		assert_int_equal(tls_record_len(rows[i].header), rows[i].want);
}

/* Content of nothing but zeros has no type; one that is too long with its padding taken off is one too. */
static void padding(void **state)
{
	struct tls_keys out, in;
	enum tls_type type;
	uint8_t zeros[64] = {0};

	both(&out, &in, 0);
	assert_true(tls_seal(&out, record, 0, zeros, 40) > 0);
	assert_int_equal(tls_open(&in, record, record + TLS_HEADER, plain, &type), -EPROTO);
	zeros[10] = TLS_DATA; /* ten bytes, a type, padding */
	assert_true(tls_seal(&out, record, 0, zeros, 40) > 0);
	assert_int_equal(tls_open(&in, record, record + TLS_HEADER, plain, &type), 10);
	assert_int_equal(type, TLS_DATA);
	tls_keys_free(&out);
	tls_keys_free(&in);
}

static void suites_that_we_do_not_have(void **state)
{
	static const uint8_t secret[48];
	struct tls_keys k = {0};

	assert_int_equal(tls_keys_set(&k, 0x1304, secret, 32, true), -EINVAL);
	assert_int_equal(tls_keys_set(&k, 0x1301, secret, 48, true), -EINVAL);
	assert_int_equal(tls_keys_set(&k, 0x1302, secret, 0, true), -EINVAL);
	assert_null(k.aead);
	tls_keys_free(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_the_rfc),
		cmocka_unit_test(every_length_there_and_back),
		cmocka_unit_test(a_bit_that_was_touched),
		cmocka_unit_test(order_matters),
		cmocka_unit_test(keys_are_updated),
		cmocka_unit_test(headers_that_are_none),
		cmocka_unit_test(padding),
		cmocka_unit_test(suites_that_we_do_not_have),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
