// SPDX-License-Identifier: Apache-2.0
/* load.c: command line of the load programs. See load.h. */
#include "load.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	int (*run)(const struct load *l);
} roles[] = {
	{ "pingpong", pingpong_client }, { "echo", pingpong_echo },  { "stream", stream_client },
	{ "sink", stream_sink },	 { "crr", crr_client },	     { "answer", crr_answer },
	{ "flood", flood_client },	 { "hold", flood_hold },     { "crowd", crowd_server },
	{ "bulk", crowd_bulk },		 { "idle", crowd_idle },     { "relay", relay },
};

static int usage(void)
{
	fprintf(stderr, "load: usage: load pingpong|echo|stream|sink|crr|answer|flood|hold|crowd|bulk|idle|relay "
			"ENDPOINT [--size BYTES] [--seconds S] [--bytes TOTAL] [--clients N] [--reverse] "
			"[--to ENDPOINT] [--threads N] [--nodelay] [--blocking] [--check] [--told]\n");
	return 2;
}

static bool options(int argc, char **argv, struct load *l)
{
	static const struct option known[] = {
		{ "size", required_argument, NULL, 's' },   { "seconds", required_argument, NULL, 't' },
		{ "clients", required_argument, NULL, 'c' }, { "bytes", required_argument, NULL, 'b' },
		{ "nodelay", no_argument, NULL, 'n' },	    { "blocking", no_argument, NULL, 'B' },
		{ "check", no_argument, NULL, 'C' },	    { "told", no_argument, NULL, 'T' },
		{ "reverse", no_argument, NULL, 'r' },	    { "to", required_argument, NULL, 'o' },
		{ "threads", required_argument, NULL, 'p' }, {},
	};
	int c;

	while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (c) {
		case 's':
			l->size = strtoul(optarg, NULL, 10);
			break;
		case 't':
			l->seconds = strtod(optarg, NULL);
			break;
		case 'c':
			l->clients = (unsigned)strtoul(optarg, NULL, 10);
			break;
		case 'b':
			l->bytes = strtoull(optarg, NULL, 10);
			break;
		case 'n':
			l->nodelay = true;
			break;
		case 'B':
			l->blocking = true;
			break;
		case 'C':
			l->check = true;
			break;
		case 'T':
			l->told = true;
			break;
		case 'r':
			l->reverse = true;
			break;
		case 'o':
			l->to = optarg;
			break;
		case 'p':
			l->threads = (unsigned)strtoul(optarg, NULL, 10);
			break;
		default:
			return false;
		}
	}
	return l->size > 0 && l->size <= PATTERN_SPAN && l->seconds > 0 && l->clients > 0 && l->clients <= 20000 &&
	       l->threads > 0 && l->threads <= 64 && optind + 2 == argc;
}

int main(int argc, char **argv)
{
	struct load l = { .size = 1024, .seconds = 1, .clients = 16, .threads = 1 };

	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (!options(argc, argv, &l))
		return usage();
	l.endpoint = argv[optind + 1];
	for (size_t i = 0; i < sizeof(roles) / sizeof(roles[0]); i++) {
		if (!strcmp(argv[optind], roles[i].name))
			return roles[i].run(&l);
	}
	return usage();
}
