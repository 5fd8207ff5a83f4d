/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ctl.h: what all of weftctl's files share: the options that hold for every command, the command table, and the
 * parsed command line.
 *
 * Every command returns an exit code (CTL_*). What went wrong is one line on stderr (ctl_error).
 */
#ifndef WEFTCTL_CTL_H
#define WEFTCTL_CTL_H

#include <jansson.h>
#include <stdio.h>

#include "base.h"

#define CTL_DONE 0
#define CTL_FAILED 1
#define CTL_USAGE 2

#define CTL_WORDS 4
#define CTL_GIVEN 256 /* options of one command line */

struct ctl {
	const char *run;      /* /run/weft */
	const char *instance; /* "default" */
	bool json;	      /* -o json */
	bool watch;
	unsigned watch_ms;
	bool colour;	/* the output is a terminal that wants it */
	bool utf8;	/* it shows UTF-8 */
	unsigned width; /* columns; 0: lines are not cut */
	unsigned height; /* rows; 0: as many as there are */
	FILE *out;
};

/* ------------------------------------------------------------------ command.c: the table */

enum option_hint { /* what completes the value */
		   HINT_NONE,
		   HINT_FLAG, /* takes no value */
		   HINT_NETNS,
		   HINT_POD,
		   HINT_SERVICE,
		   HINT_SHELL,
		   HINT_FORMAT,
		   HINT_FOLDER,
		   HINT_COMMAND,
};

struct option {
	const char *name;  /* "--netns" */
	const char *value; /* "PATH"; NULL: a flag */
	const char *about;
	enum option_hint hint;
	bool needed, repeats;
};

struct args;
struct command {
	const char *name;     /* "pod add" */
	const char *words;    /* "NAMESPACE/NAME", for the usage line */
	const char *about;    /* one line */
	const char *more;     /* paragraph for `weftctl help COMMAND`, NULL none */
	unsigned least, most; /* words */
	enum option_hint hint;
	bool watches; /* --watch makes sense */
	bool hidden;
	const struct option *options; /* ends with name NULL; NULL: none */
	int (*run)(const struct ctl *c, const struct args *a);
};
extern const struct command commands[];	      /* ends with name NULL */
extern const struct option command_globals[]; /* likewise */

struct args {
	const struct command *command;
	const char *word[CTL_WORDS];
	unsigned words;
	struct {
		const struct option *option;
		const char *value;
	} given[CTL_GIVEN];
	unsigned givens;
};

/*
 * Whole command line into c and a. CTL_DONE, or CTL_USAGE after one line on stderr. a->command may be NULL only if
 * --help or --version was given, which is in a->given.
 */
int command_parse(struct ctl *c, struct args *a, int argc, char **argv) must_check;
/* Value of the option (the last one, if it repeats), NULL if it was not given; "" for a flag. */
const char *command_given(const struct args *a, const char *name);
/* Next value of an option that repeats, after index *at (starts at 0). */
const char *command_each(const struct args *a, const char *name, unsigned *at);
const struct command *command_find(const char *name);
int command_help(const struct ctl *c, const struct args *a);
int command_version(const struct ctl *c, const struct args *a);

/* ------------------------------------------------------------------ the commands, by file */

int status_run(const struct ctl *c, const struct args *a);
int list_pods(const struct ctl *c, const struct args *a);
int list_services(const struct ctl *c, const struct args *a);
int list_connections(const struct ctl *c, const struct args *a);
int list_tunnels(const struct ctl *c, const struct args *a);
int certs_list(const struct ctl *c, const struct args *a);
int certs_issue(const struct ctl *c, const struct args *a);
int routes_list(const struct ctl *c, const struct args *a);
int gateways_list(const struct ctl *c, const struct args *a);
int list_policy(const struct ctl *c, const struct args *a);
int list_traffic(const struct ctl *c, const struct args *a);
int list_names(const struct ctl *c, const struct args *a);
int list_reasons(const struct ctl *c, const struct args *a);
int explain_run(const struct ctl *c, const struct args *a);
int pod_add(const struct ctl *c, const struct args *a);
int pod_del(const struct ctl *c, const struct args *a);
int pod_splice_on(const struct ctl *c, const struct args *a);
int pod_splice_off(const struct ctl *c, const struct args *a);
int completion_run(const struct ctl *c, const struct args *a);

/* ------------------------------------------------------------------ screen.c */

/* As many whole lines as the terminal has rows for, and how many are left out; all, where it has no height. */
void screen_print(const struct ctl *c, const char *data, size_t len);

/* ------------------------------------------------------------------ ask.c: the two sockets */

struct wire;
/* One line on stderr: "weftctl: ...". */
void ctl_error(const char *fmt, ...) printf_like(1, 2);
/*
 * Send one message to the supervisor and receive its answer into *ret. CTL_DONE, or CTL_FAILED (said); with
 * `quiet` nothing is said.
 */
int ask_supervisor(const struct ctl *c, const struct wire *m, const int *fds, unsigned nfds, struct wire *ret,
		   bool quiet) must_check;
/*
 * Send one request to the worker. CTL_DONE with *ret (json_decref it), or CTL_FAILED with the sentence in why[].
 * `request` is taken.
 */
#define ASK_WHY 512
int ask_worker(const struct ctl *c, json_t *request, json_t **ret, char why[ASK_WHY]) must_check;
/* As ask_worker, but what went wrong is said. */
int ask_worker_said(const struct ctl *c, json_t *request, json_t **ret) must_check;
void ask_print_json(const struct ctl *c, const json_t *answer); /* as it is */
/* {"command": COMMAND, KEY: the first word}, the latter if there is one; key NULL: never. */
json_t *ask_request(const char *command, const char *key, const struct args *a);
/* As ask_worker_said; with -o json it prints as well. CTL_DONE with *ret NULL: there is nothing left to do. */
int ask_fetch(const struct ctl *c, json_t *request, json_t **ret) must_check;
/* The same of what may have been named: where it is not there that is an error, with -o json too. */
struct ask_name {
	const char *name;  /* NULL: all are asked for */
	const char *array; /* of the answer, which is empty then */
	const char *what, *doubt; /* "there is no WHAT NAME DOUBT" */
};
int ask_named(const struct ctl *c, const struct ask_name *n, json_t *request, json_t **ret) must_check;
const char *string_of(const json_t *o, const char *key); /* "": none */
uint64_t number_of(const json_t *o, const char *key);	 /* 0: none, or less */

#endif
