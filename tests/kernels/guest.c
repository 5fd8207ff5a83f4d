/* SPDX-License-Identifier: Apache-2.0 */
/* guest.c: see guest.h. */
#include "guest.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"greet", greet}, {"ask", ask}, {"traffic", traffic}, {"races", races}, {"inspect", inspect},
};

static const char *command = "guest";

void die(const char *fmt, ...)
{
	int err = errno;
	va_list args;

	(void)fprintf(stderr, "%s: ", command);
	va_start(args, fmt);
	(void)vfprintf(stderr, fmt, args);
	va_end(args);
	(void)fprintf(stderr, "%s%s\n", err ? ": " : "", err ? strerror(err) : "");
	exit(1);
}

unsigned long number(const char *text, unsigned long least, unsigned long most)
{
	char *end = NULL;
	unsigned long n;

	errno = 0;
	n = strtoul(text, &end, 10);
	if (!end || end == text || *end || errno || n < least || n > most) {
		errno = 0;
		die("\"%s\" is no number from %lu to %lu", text, least, most);
	}
	return n;
}

uint64_t now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
	(void)signal(SIGPIPE, SIG_IGN);
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++) {
		if (strcmp(argv[1], commands[i].name))
			continue;
		command = commands[i].name;
		return commands[i].run(argc - 1, argv + 1);
	}
	(void)fprintf(stderr, "usage: guest greet|ask|traffic|races|inspect ...: see guest.h\n");
	return 2;
}
