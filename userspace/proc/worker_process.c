/* SPDX-License-Identifier: Apache-2.0 */
/* worker_process.c: see worker.h. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <sys/socket.h>

#include "version.h"
#include "worker.h"

static int options(int argc, char **argv)
{
	static const char *const levels[] = {"error", "warning", "info", "debug"};
	enum log_level level = LOG_INFO;
	bool json = false;

	for (int i = 1; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;
		size_t k = 0;

		if (text_equal(argv[i], "--version")) {
			printf("weft-worker %s\n", WEFT_VERSION);
			exit(0);
		}
		if (value && text_equal(argv[i], "--log-format")) {
			json = text_equal(value, "json");
		} else if (value && text_equal(argv[i], "--log-level")) {
			while (k < array_size(levels) && !text_equal(levels[k], value))
				k++;
			if (k == array_size(levels))
				return -EINVAL;
			level = (enum log_level)k;
		} else {
			return -EINVAL;
		}
		i++;
	}
	log_open("weft-worker", json, level);
	return 0;
}

int worker_options(int argc, char **argv, int sock)
{
	int type, err = options(argc, argv);
	socklen_t len = sizeof(type);

	if (err) {
		(void)fputs("weft-worker: is started by weftd; see weftd --help\n", stderr);
	} else if (getsockopt(sock, SOL_SOCKET, SO_TYPE, &type, &len) || type != SOCK_SEQPACKET) {
		(void)fputs("weft-worker: fd 3 is not a socket of weftd: weftd starts weft-worker by itself; see weftd "
			    "--help\n",
			    stderr);
		err = -EINVAL;
	}
	return err;
}

int worker_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) || signal(SIGPIPE, SIG_IGN) == SIG_ERR)
		return -errno;
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
