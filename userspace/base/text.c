/* SPDX-License-Identifier: Apache-2.0 */
/* text.c: strings, numbers, growing text. */
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
