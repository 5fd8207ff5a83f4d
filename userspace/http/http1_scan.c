/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http1_scan.c: which characters may stand where, many at once.
 *
 * Values of fields are most of a head: 16 bytes in one step with SSE2, which every x86-64 has, 8 elsewhere. Names are
 * short, and looked up by the character.
 */
#include <string.h>

#include "http1_parts.h"

/* RFC 9110 section 5.6.2 */
const bool http1_token[256] = {
	['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1, ['&'] = 1, ['\''] = 1, ['*'] = 1, ['+'] = 1, ['-'] = 1,
	['.'] = 1, ['^'] = 1, ['_'] = 1, ['`'] = 1, ['|'] = 1, ['~'] = 1,
	['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1,
};

bool http1_is_token(const char *data, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if (!http1_token[(uint8_t)data[i]])
			return false;
	return len;
}

bool http_may_switch_to(struct http_text protocol)
{
	static const struct http_text never[] = {HTTP_TEXT("h2c"), HTTP_TEXT("h2"), HTTP_TEXT("HTTP"),
						 HTTP_TEXT("TLS")};
	const char *slash = protocol.len ? memchr(protocol.at, '/', protocol.len) : NULL;
	struct http_text name = {protocol.at, slash ? (size_t)(slash - protocol.at) : protocol.len};

	for (size_t i = 0; i < array_size(never); i++)
		if (http_text_equal_nocase(name, never[i]))
			return false;
	return http1_is_token(name.at, name.len) &&
	       (!slash || http1_is_token(slash + 1, protocol.len - name.len - 1));
}

static bool is_control(uint8_t c)
{
	return (c < ' ' && c != '\t') || c == 0x7f;
}

#ifdef __SSE2__
#include <emmintrin.h>

#define STEP 16
/* A bit for each byte of 16 that may be a control character (HTAB among them). */
static unsigned controls(const char *data)
{
	__m128i v = _mm_loadu_si128((const __m128i *)data);
	__m128i low = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(0x1f)), v);

	return (unsigned)_mm_movemask_epi8(_mm_or_si128(low, _mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f))));
}
#else
#define STEP 8
/* The same of 8, with any machine: bytes below 0x20, or 0x7f, have their high bit set; a bit for each. */
static unsigned controls(const char *data)
{
	const uint64_t ones = 0x0101010101010101ull, high = 0x80 * ones;
	uint64_t v, seven, low, del;
	unsigned bits = 0, i;

	memcpy(&v, data, sizeof(v));
	seven = v & ~high;
	low = ~(seven + 0x60 * ones) & ~v & high;
	del = (seven + ones) & ~v & high;
	if (!(low | del))
		return 0;
	for (i = 0; i < 8; i++)
		bits |= (unsigned)((uint8_t)data[i] < 0x20 || data[i] == 0x7f) << i;
	return bits;
}
#endif

size_t http1_scan_value(const char *data, size_t len)
{
	size_t i = 0;

	while (i + STEP <= len) {
		unsigned bits = controls(data + i);

		for (; bits; bits &= bits - 1) {
			size_t at = i + (unsigned)__builtin_ctz(bits);

			if (data[at] != '\t')
				return at;
		}
		i += STEP;
	}
	while (i < len && !is_control((uint8_t)data[i]))
		i++;
	return i;
}
