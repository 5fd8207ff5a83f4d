/* SPDX-License-Identifier: Apache-2.0 */
/* certfiles.h: certificates from a folder: who reads them, and what it was asked for. All functions are static. */
#ifndef WEFT_TEST_CERTFILES_H
#define WEFT_TEST_CERTFILES_H

#include "pki.h"

struct fixture {
	struct ca_pair root; /* of whom the files are, where there is no CA that weft makes */
	struct loop *loop;
	struct dir dir;
	struct cert_source *source;
	unsigned changes;
};

static void changed(struct cert_source *s)
{
	struct fixture *f = s->reader;

	f->changes++;
}

static void begin(struct fixture *f)
{
	*f = (struct fixture){.loop = loop_new()};
	dir_begin(&f->dir);
	pki_now = NOON;
}

static void read_by(struct fixture *f, struct cert_source *s)
{
	f->source = s;
	s->reader = f;
	s->changed = changed;
}

static void end(struct fixture *f)
{
	if (f->source)
		f->source->close(f->source);
	dir_end(&f->dir);
	pki_free(&f->root);
	loop_free(f->loop);
}

struct settling {
	struct loop_timer timer;
	struct loop *loop;
};

static void stop(struct loop_timer *t)
{
	loop_stop(container_of(t, struct settling, timer)->loop);
}

/* Lets the loop's timers come due. */
static void settle(struct fixture *f)
{
	struct settling s = {.timer.due = stop, .loop = f->loop};

	f->dir.folder.changed(&f->dir.folder);
	loop_arm(f->loop, &s.timer, 60000000);
	assert_int_equal(loop_run(f->loop), 0);
}

struct issued {
	struct cert *cert;
	char error[WHY];
	unsigned answers;
};

static void done(void *asked, struct cert *cert, const char *error)
{
	struct issued *i = asked;

	i->cert = cert;
	i->answers++;
	text_copy(i->error, sizeof(i->error), error ? error : "");
}

#endif
