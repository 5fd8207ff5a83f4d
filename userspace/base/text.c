/* SPDX-License-Identifier: Apache-2.0 */
/* text.c: strings, numbers, growing text. */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

bool text_equal(const char *a, const char *b)
{
	if (!a || !b)
		return a == b;
	return !strcmp(a, b);
}

bool text_starts(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

bool text_ends(const char *s, const char *suffix)
{
	size_t len = strlen(s), n = strlen(suffix);

	return n <= len && !memcmp(s + len - n, suffix, n);
}

size_t text_utf8(const char *text)
{
	const unsigned char *s = (const unsigned char *)text;
	unsigned char low = 0x80, high = 0xbf;
	size_t len;

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	len = 2 + (s[0] >= 0xe0) + (s[0] >= 0xf0);
	if (s[0] == 0xe0)
		low = 0xa0;
	if (s[0] == 0xed)
		high = 0x9f;
	if (s[0] == 0xf0)
		low = 0x90;
	if (s[0] == 0xf4)
		high = 0x8f;
	for (size_t i = 1; i < len; i++, low = 0x80, high = 0xbf)
		if (s[i] < low || s[i] > high)
			return 0;
	return len;
}

/* Of the first `i` letters of a and the first of b, row by row; `row[2]` is the row of two letters before. */
unsigned text_distance(const char *a, const char *b)
{
	unsigned row[3][TEXT_WORD + 1] = {0}, *now = row[0], *last = row[1], *before = row[2];
	size_t la = strnlen(a, TEXT_WORD + 1), lb = strnlen(b, TEXT_WORD + 1);

	if (la > TEXT_WORD || lb > TEXT_WORD)
		return 3;
	for (size_t i = 0; i <= la; i++) {
		unsigned *reused = before;

		for (size_t k = 0; k <= lb; k++) {
			unsigned least = (unsigned)(i ? i + k : k);

			if (i && k) {
				least = last[k - 1] + (a[i - 1] != b[k - 1]);
				least = last[k] + 1 < least ? last[k] + 1 : least;
				least = now[k - 1] + 1 < least ? now[k - 1] + 1 : least;
				if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1] &&
				    before[k - 2] + 1 < least)
					least = before[k - 2] + 1;
			}
			now[k] = least;
		}
		before = last;
		last = now;
		now = reused;
	}
	return last[lb] < 3 ? last[lb] : 3;
}

/* A beginning of three letters is as good as the word; of a word of three, two others would be another one. */
void text_guess(struct text_guess *g, const char *name)
{
	size_t len = strlen(g->word);
	unsigned least = g->meant ? g->away : len > 3 ? 3 : 2;
	unsigned away = len > 2 && text_starts(name, g->word) ? 0 : text_distance(g->word, name);

	if (away >= least)
		return;
	g->meant = name;
	g->away = away;
}

const char *text_plural(uint64_t count)
{
	return count == 1 ? "" : "s";
}

bool text_copy(char *to, size_t size, const char *from)
{
	size_t len;

	if (!size)
		return false;
	len = strnlen(from, size);
	if (len == size) {
		memcpy(to, from, size - 1);
		to[size - 1] = 0;
		return false;
	}
	memcpy(to, from, len + 1);
	return true;
}

char *text_decimal(char *to, uint64_t n)
{
	char digits[TEXT_DIGITS], *at = digits + sizeof(digits);

	do
		*--at = (char)('0' + n % 10);
	while (n /= 10);
	return mempcpy(to, at, (size_t)(digits + sizeof(digits) - at));
}

/* The eight digits of a number, the first one at the lowest address: a nibble to each byte, then its letter. */
static uint64_t eight_digits(uint32_t n)
{
	const uint64_t ones = 0x0101010101010101ull;
	uint64_t x = n;

	x = (x | x << 16) & 0x0000ffff0000ffffull;
	x = (x | x << 8) & 0x00ff00ff00ff00ffull;
	x = (x | x << 4) & 0x0f * ones;
	x += '0' * ones + ('a' - '0' - 10) * (((x + 6 * ones) >> 4) & ones);
	return htobe64(x);
}

char *text_hex(char *to, uint64_t n, unsigned digits)
{
	for (; digits >= 8; digits -= 8, to += 8) {
		uint64_t eight = eight_digits((uint32_t)(n >> 4 * (digits - 8)));

		memcpy(to, &eight, 8);
	}
	while (digits--)
		*to++ = "0123456789abcdef"[n >> 4 * digits & 15];
	return to;
}

int text_number(const char *s, long long min, long long max, long long *ret)
{
	bool negative = *s == '-', overflow = false;
	long long n = 0;

	if (negative)
		s++;
	if (!*s)
		return -EINVAL;
	for (; *s; s++) {
		int digit = *s - '0';

		if (digit < 0 || digit > 9)
			return -EINVAL;
		/* Counted below zero: LLONG_MIN has no positive twin. */
		overflow |= __builtin_mul_overflow(n, 10, &n);
		overflow |= __builtin_sub_overflow(n, digit, &n);
	}
	if (!negative)
		overflow |= __builtin_sub_overflow(0LL, n, &n);
	if (overflow || n < min || n > max)
		return -ERANGE;
	*ret = n;
	return 0;
}

/* Room for `more` bytes and the NUL. */
static void reserve(struct text *t, size_t more)
{
	size_t need, size = t->size ? t->size : 64;

	if (__builtin_add_overflow(t->len, more, &need) || need > SIZE_MAX / 4)
		need = SIZE_MAX / 4; /* no such memory: mem_grow ends the process */
	while (size <= need)
		size *= 2;
	if (size == t->size)
		return;
	t->data = mem_grow(t->data, size, 1);
	t->size = size;
}

void text_add(struct text *t, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(t->size ? t->data + t->len : NULL, t->size - t->len, fmt, ap);
	if (n >= 0 && (size_t)n >= t->size - t->len) {
		reserve(t, (size_t)n);
		n = vsnprintf(t->data + t->len, t->size - t->len, fmt, again);
	}
	if (n > 0)
		t->len += (size_t)n;
	va_end(again);
	va_end(ap);
}

void text_add_bytes(struct text *t, const void *p, size_t len)
{
	reserve(t, len);
	if (len)
		memcpy(t->data + t->len, p, len);
	t->len += len;
	t->data[t->len] = 0;
}

void text_free(struct text *t)
{
	free(t->data);
	*t = (struct text){0};
}
