// SPDX-License-Identifier: Apache-2.0
/* weftctl.c: the command line tool of weft: main(), --watch. The commands stand in command.c. */
#include "ctl.h"

#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static void terminal(struct ctl *c)
{
	const char *term = getenv("TERM");
	struct winsize w;

	c->utf8 = text_equal(nl_langinfo(CODESET), "UTF-8");
	if (!isatty(STDOUT_FILENO))
		return;
	c->colour = !getenv("NO_COLOR") && term && !text_equal(term, "dumb");
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w))
		return;
	c->width = w.ws_col;
	c->height = w.ws_row;
}

/* One screen: made in memory and written at once, so that it does not flicker. */
static int screen(struct ctl *c, const struct args *a)
{
	char *data = NULL;
	size_t len = 0;
	bool clears;
	int code;

	c->out = open_memstream(&data, &len);
	if (!c->out)
		abort();
	terminal(c);
	clears = c->colour && !c->json;
	code = a->command->run(c, a);
	fclose(c->out);
	c->out = stdout;
	if (clears)
		fputs("\033[H\033[J", c->out);
	else
		c->height = 0;
	screen_print(c, data, len);
	free(data);
	return code;
}

static int watch(struct ctl *c, const struct args *a)
{
	struct timespec every = {.tv_sec = c->watch_ms / 1000,
				 .tv_nsec = (long)(c->watch_ms % 1000) * 1000000};

	for (;;) {
		int code = screen(c, a);

		if (fflush(stdout) || ferror(stdout))
			return CTL_FAILED;
		if (code == CTL_USAGE)
			return code;
		if (nanosleep(&every, NULL) && errno != EINTR)
			return CTL_FAILED;
		if (!c->json && !c->colour)
			fputc('\n', stdout);
	}
}

static int run(struct ctl *c, const struct args *a)
{
	if (command_given(a, "--help"))
		return command_help(c, a);
	if (command_given(a, "--version"))
		return command_version(c, a);
	return c->watch ? watch(c, a) : a->command->run(c, a);
}

int main(int argc, char **argv)
{
	const char *instance = getenv("WEFT_INSTANCE");
	struct ctl c = {
		.run = "/run/weft", .instance = instance && *instance ? instance : "default", .out = stdout};
	struct args a;
	int code;

	setlocale(LC_CTYPE, "");
	code = command_parse(&c, &a, argc, argv);
	if (code)
		return code;
	terminal(&c);
	code = run(&c, &a);
	/* A full disk or a closed pipe must not look like success. */
	if (fflush(stdout) || ferror(stdout)) {
		if (errno != EPIPE)
			ctl_error("cannot write the output: %s", strerror(errno));
		return CTL_FAILED;
	}
	return code;
}
