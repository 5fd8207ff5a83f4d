/* SPDX-License-Identifier: Apache-2.0 */
/*
 * supervisor.h: options of weftd (proc/options.c) and its life (proc/supervisor.c, clients.c, channel.c).
 */
#ifndef WEFT_SUPERVISOR_H
#define WEFT_SUPERVISOR_H

#include "wire.h"

enum options_mode { OPTIONS_RUN,
		    OPTIONS_UNINSTALL,
		    OPTIONS_PROBE,
		    OPTIONS_DONE };

struct options {
	enum options_mode mode; /* OPTIONS_DONE: --help or --version was printed */
	char instance[64];
	char node[WIRE_NAME];
	char manifests[WIRE_PATH]; /* empty: not given */
	char ca_dir[WIRE_PATH]; /* empty: in the state folder, unless certs_dir is given */
	char certs_dir[WIRE_PATH];
	char trust_domain[WIRE_NAME];
	char root_namespace[WIRE_NAME];
	char cgroup[WIRE_PATH]; /* empty: found in /proc/mounts */
	unsigned threads; /* of the worker's data plane */
	bool log_json;
	enum log_level log_level;
};

/* 0, or 2 after one line on stderr: the exit code */
int options_parse(struct options *o, int argc, char **argv) must_check;

/* Exit code: 0 ended in order, 1 failed (logged) */
int supervisor_run(const struct options *o) must_check;
int supervisor_uninstall(const struct options *o) must_check;
int supervisor_probe(const struct options *o) must_check;

/* -------- clients.c: weftctl and CNI plugins at weftd.sock */

struct clients;
struct pod;
struct pods;
struct loop;
struct clients_plan {
	struct loop *loop;
	struct pods *pods;
	int listener; /* borrowed */
	void (*status)(void *ctx, struct wire_status *ret);
	int (*splice)(void *ctx, bool on);
	void *ctx;
};
struct clients *clients_open(const struct clients_plan *plan) must_check;
void clients_enrolled(struct clients *c, const struct pod *pod, int error, const char *why);
void clients_released(struct clients *c, const struct pod *pod);
void clients_close(struct clients *c);

#endif
