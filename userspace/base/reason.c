/* SPDX-License-Identifier: Apache-2.0 */
/* reason.c: names of what abi.h numbers. */
#include "base.h"

static const char *const names[ABI_REASON_MAX] = {
#define NAME(number, symbol, name, text) [number] = name,
	ABI_REASONS(NAME)
#undef NAME
};

static const char *const texts[ABI_REASON_MAX] = {
#define TEXT(number, symbol, name, text) [number] = text,
	ABI_REASONS(TEXT)
#undef TEXT
};

static const char *const paths[] = {
	[ABI_PATH_NONE] = "none",
	[ABI_PATH_SPLICE] = "splice",
	[ABI_PATH_TCP] = "tcp",
	[ABI_PATH_PROXY] = "proxy",
	[ABI_PATH_TUNNEL] = "tunnel",
	[ABI_PATH_DIRECT] = "direct",
};

static const char *const splices[] = {
	[ABI_SPLICE_AUTO] = "auto",
	[ABI_SPLICE_ALWAYS] = "always",
	[ABI_SPLICE_OFF] = "off",
};

/* "reason-77". Good until the thread asks for four more: one line of output may name several. */
static const char *unknown(const char *what, unsigned number)
{
	static _Thread_local char buf[4][32];
	static _Thread_local unsigned turn;
	char *s = buf[turn++ % array_size(buf)];

	snprintf(s, sizeof(buf[0]), "%s-%u", what, number);
	return s;
}

const char *reason_name(unsigned reason)
{
	if (reason >= array_size(names) || !names[reason])
		return unknown("reason", reason);
	return names[reason];
}

const char *reason_text(unsigned reason)
{
	if (reason >= array_size(texts) || !texts[reason])
		return "a reason that this version does not know";
	return texts[reason];
}

const char *path_name(unsigned path)
{
	return path < array_size(paths) ? paths[path] : unknown("path", path);
}

const char *splice_name(unsigned splice)
{
	return splice < array_size(splices) ? splices[splice] : unknown("splice", splice);
}
