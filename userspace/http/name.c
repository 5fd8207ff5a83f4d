/* SPDX-License-Identifier: Apache-2.0 */
/*
 * name.c: what a field is, by its name.
 *
 * At most four names have the same length. So: the length, then one comparison of its words for each; no hash, nothing
 * that a peer could aim at.
 */
#include <string.h>

#include "http.h"

#define LONGEST 32 /* the longest name, padded */
#define WORDS (LONGEST / 8)

/* Padded with zeroes. */
static const char text[HTTP_NAME_COUNT][LONGEST] __attribute__((aligned(LONGEST))) = {
#define X(symbol, string) [HTTP_NAME_##symbol] = string,
	HTTP_NAMES(X)
#undef X
};

/* Each name at its length; tests/unit/test_name.c asks for all of them. */
static const uint8_t by_length[LONGEST + 1][4] = {
	[2] = {HTTP_NAME_TE},
	[3] = {HTTP_NAME_VIA},
	[4] = {HTTP_NAME_HOST, HTTP_NAME_DATE, HTTP_NAME_VARY},
	[6] = {HTTP_NAME_COOKIE, HTTP_NAME_SERVER, HTTP_NAME_ORIGIN, HTTP_NAME_EXPECT},
	[7] = {HTTP_NAME_UPGRADE, HTTP_NAME_TRAILER},
	[8] = {HTTP_NAME_LOCATION},
	[9] = {HTTP_NAME_FORWARDED},
	[10] = {HTTP_NAME_CONNECTION, HTTP_NAME_KEEP_ALIVE},
	[11] = {HTTP_NAME_GRPC_STATUS, HTTP_NAME_TRACEPARENT},
	[12] = {HTTP_NAME_CONTENT_TYPE, HTTP_NAME_X_REQUEST_ID, HTTP_NAME_GRPC_TIMEOUT, HTTP_NAME_GRPC_MESSAGE},
	[13] = {HTTP_NAME_AUTHORIZATION},
	[14] = {HTTP_NAME_CONTENT_LENGTH, HTTP_NAME_HTTP2_SETTINGS},
	[15] = {HTTP_NAME_ACCEPT_ENCODING, HTTP_NAME_X_FORWARDED_FOR},
	[16] = {HTTP_NAME_X_FORWARDED_HOST, HTTP_NAME_PROXY_CONNECTION},
	[17] = {HTTP_NAME_TRANSFER_ENCODING, HTTP_NAME_X_FORWARDED_PROTO, HTTP_NAME_SEC_WEBSOCKET_KEY},
	[20] = {HTTP_NAME_SEC_WEBSOCKET_ACCEPT},
	[23] = {HTTP_NAME_X_FORWARDED_CLIENT_CERT},
	[29] = {HTTP_NAME_ACCESS_CONTROL_REQUEST_METHOD},
	[30] = {HTTP_NAME_ACCESS_CONTROL_REQUEST_HEADERS},
};

/* Eight characters in lower case; what is no letter of ASCII stays. */
static uint64_t lower(uint64_t x)
{
	const uint64_t ones = 0x0101010101010101ull;
	uint64_t seven = x & 0x7f * ones;
	uint64_t from_a = seven + (0x80 - 'A') * ones, above_z = seven + (0x7f - 'Z') * ones;

	return x | ((from_a & ~above_z & ~x & 0x80 * ones) >> 2);
}

static uint64_t differs(const uint64_t word[2], const char *is)
{
	uint64_t is_word[2];

	memcpy(is_word, is, sizeof(is_word));
	return (word[0] ^ is_word[0]) | (word[1] ^ is_word[1]);
}

enum http_name http_name(const char *at, size_t len)
{
	uint64_t word[WORDS] = {0};
	const uint8_t *name;

	if (len >= LONGEST || !by_length[len][0])
		return HTTP_NAME_OTHER;
	memcpy(word, at, len);
	word[0] = lower(word[0]);
	word[1] = lower(word[1]);
	if (len > 16) {
		word[2] = lower(word[2]);
		word[3] = lower(word[3]);
	}
	for (name = by_length[len]; name < by_length[len + 1] && *name; name++)
		if (!differs(word, text[*name]) && (len <= 16 || !differs(word + 2, text[*name] + 16)))
			return *name;
	return HTTP_NAME_OTHER;
}
