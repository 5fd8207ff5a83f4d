// SPDX-License-Identifier: Apache-2.0
/* unit.c: see unit.h */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct step {
	double size;
	const char *name;
};

/* Two significant digits below 10, whole numbers above: enough to compare, short enough to read. */
static const char *scale(double value, const struct step *step, unsigned steps, char buf[UNIT_TEXT])
{
	unsigned i = 0;

	/* 9.96 would print as 10.0, 1023.7 as 1024: go by what is printed */
	while (i + 1 < steps && value / step[i].size + 0.5 >= step[i + 1].size / step[i].size)
		i++;
	value /= step[i].size;
	if (i && value < 9.95)
		snprintf(buf, UNIT_TEXT, "%.1f %s", value, step[i].name);
	else
		snprintf(buf, UNIT_TEXT, "%.0f %s", value, step[i].name);
	return buf;
}

const char *unit_bytes(uint64_t bytes, char buf[UNIT_TEXT])
{
	static const struct step step[] = {
		{1, "B"},
		{1024.0, "KiB"},
		{1024.0 * 1024, "MiB"},
		{1024.0 * 1024 * 1024, "GiB"},
		{1024.0 * 1024 * 1024 * 1024, "TiB"},
	};

	return scale((double)bytes, step, array_size(step), buf);
}

const char *unit_time(uint64_t ns, char buf[UNIT_TEXT])
{
	static const struct step step[] = {
		{1, "ns"},
		{1e3, "us"},
		{1e6, "ms"},
		{1e9, "s"},
		{60e9, "min"},
		{3600e9, "h"},
		{86400e9, "d"},
	};

	return scale((double)ns, step, array_size(step), buf);
}

const char *unit_count(uint64_t n, char buf[UNIT_TEXT])
{
	char digits[UNIT_TEXT];
	int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
	int out = 0;

	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			buf[out++] = ' ';
		buf[out++] = digits[i];
	}
	buf[out] = '\0';
	return buf;
}

int unit_duration(const char *s, unsigned *ret_ms)
{
	static const struct {
		const char *name;
		double ms;
	} units[] = {{"ms", 1}, {"s", 1000}, {"", 1000}, {"m", 60e3}, {"min", 60e3}, {"h", 3600e3}};
	char *end;
	double n;

	if (*s < '0' || *s > '9')
		return -EINVAL;
	for (const char *p = s; (*p >= '0' && *p <= '9') || *p == '.'; p++)
		if (p - s > 12)
			return -EINVAL;
	if (s[0] == '0' && (s[1] == 'x' || s[1] == 'X'))
		return -EINVAL;
	n = strtod(s, &end);
	for (size_t i = 0; i < array_size(units); i++) {
		if (!text_equal(end, units[i].name))
			continue;
		if (!(n * units[i].ms <= 86400e3))
			return -EINVAL;
		*ret_ms = (unsigned)(n * units[i].ms);
		return 0;
	}
	return -EINVAL;
}
