/* SPDX-License-Identifier: Apache-2.0 */
/* weftd.c: main of the supervisor. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "supervisor.h"

/* 0, 1 and 2 are open from here on: what weftd opens never takes their place. */
static bool standard_fds(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= 2);
	return fd >= 0 && !close(fd);
}

int main(int argc, char **argv)
{
	struct options o;
	int code;

	if (!standard_fds())
		return 1;
	code = options_parse(&o, argc, argv);
	if (code || o.mode == OPTIONS_DONE)
		return code;
	(void)umask(077); /* sockets and files of the run folder are root's alone */
	log_open("weftd", o.log_json, o.log_level);
	switch (o.mode) {
	case OPTIONS_UNINSTALL:
		return supervisor_uninstall(&o);
	case OPTIONS_PROBE:
		return supervisor_probe(&o);
	default:
		return supervisor_run(&o);
	}
}
