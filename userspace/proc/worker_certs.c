/* SPDX-License-Identifier: Apache-2.0 */
/* worker_certs.c: see worker_certs.h. */
#include "worker_certs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "worker.h"

#define AGAIN_NS 1000000000ull /* an answer whose files we had no room for */

struct wanted { /* an identity of pods of this node */
	char *spiffe;
	unsigned round; /* of the last update that saw it */
	struct table_link link;
};

struct worker_certs {
	struct cert_folder folder;
	struct loop *loop;
	struct link *link;
	struct loop_watch notify;
	struct certs *certs;
	/* asked of the supervisor, and not answered */
	bool due;
	struct wire_files asked;
	uint32_t seq;
	char problem[WIRE_TEXT];
	struct loop_timer again;
	struct table wanted;
	unsigned round;
};

/* ------------------------------------------------------------------ files */

static void ask(struct worker_certs *w, const char *const *name, unsigned count, const int *fds, unsigned nfds)
{
	w->asked = (struct wire_files){.count = count};
	for (unsigned i = 0; i < count; i++)
		text_copy(w->asked.name[i], WIRE_FILE_NAME, name[i]);
	w->due = true;
	worker_link_files(w->link, ++w->seq, &w->asked, fds, nfds);
}

static void folder_open(struct cert_folder *f, const char *const *name, unsigned count)
{
	ask(f->owner, name, count, NULL, 0);
}

/* Memory that is a file: the supervisor copies it, and looks at none of it. */
static int text_file(const char *text)
{
	size_t len = strlen(text);
	int fd = memfd_create("certificate", MFD_CLOEXEC), err;

	if (fd >= 0 && write(fd, text, len) == (ssize_t)len)
		return fd;
	err = -errno;
	if (fd >= 0)
		close(fd);
	return err;
}

static void folder_make(struct cert_folder *f, const char *const *name, const char *const *text, unsigned count)
{
	int fd[CERT_FOLDER_FILES];
	unsigned made = 0;

	while (made < count) {
		fd[made] = text_file(text[made]);
		if (fd[made] < 0) {
			log_error("certificates cannot be handed to weftd: %s", strerror(-fd[made]));
			break;
		}
		made++;
	}
	if (made == count) {
		ask(f->owner, name, count, fd, made);
		return;
	}
	while (made)
		close(fd[--made]);
	ask(f->owner, name, count, NULL, 0); /* what is there then says that none was made */
}

void worker_certs_got(struct worker_certs *w, const struct wire *m, const int *fds, unsigned nfds)
{
	unsigned next = 0, count = m->files.count;
	int fd[CERT_FOLDER_FILES];
	bool ours = w->due && m->seq == w->seq && count == w->asked.count;

	for (unsigned i = 0; i < count && ours; i++) {
		if (m->files.error[i])
			fd[i] = m->files.error[i] < 0 ? m->files.error[i] : -EBADMSG;
		else
			fd[i] = next < nfds ? fds[next++] : -EBADMSG;
	}
	for (unsigned i = next; i < nfds; i++)
		close(fds[i]);
	if (!ours)
		return; /* of a question that was asked again */
	if (m->number == -EMFILE) { /* see worker_link.c: it says nothing of the files, above all not of a CRL */
		loop_arm(w->loop, &w->again, AGAIN_NS);
		return;
	}
	w->due = false;
	text_copy(w->problem, sizeof(w->problem), m->text);
	w->folder.problem = w->problem[0] ? w->problem : NULL;
	w->folder.opened(&w->folder, fd, count);
}

void worker_certs_back(struct worker_certs *w)
{
	/* Without what was to be made: the source makes it anew when none is there. */
	if (w->due)
		worker_link_files(w->link, ++w->seq, &w->asked, NULL, 0);
}

static void again_due(struct loop_timer *t)
{
	worker_certs_back(container_of(t, struct worker_certs, again));
}

static void notify_ready(struct loop_watch *at, uint32_t events)
{
	struct worker_certs *w = container_of(at, struct worker_certs, notify);
	char buf[4096];

	while (read(at->fd, buf, sizeof(buf)) > 0)
		;
	w->folder.changed(&w->folder);
}

/* ------------------------------------------------------------------ identities */

static void want(struct worker_certs *w, const char *spiffe)
{
	uint64_t hash = table_hash(spiffe, strlen(spiffe));
	struct wanted *i;

	for (struct table_link *l = table_first(&w->wanted, hash); l; l = table_next_same(l)) {
		i = container_of(l, struct wanted, link);
		if (!text_equal(i->spiffe, spiffe))
			continue;
		i->round = w->round;
		return;
	}
	i = mem_alloc(sizeof(*i));
	*i = (struct wanted){.spiffe = mem_string(spiffe), .round = w->round};
	table_add(&w->wanted, &i->link, hash);
	certs_need(w->certs, spiffe);
}

void worker_certs_update(struct worker_certs *w, const struct world *world)
{
	char spiffe[CERTS_ID];

	w->round++;
	list_each(at, &world->enrolled) {
		const struct identity *id = container_of(at, struct world_pod, enrolled_link)->identity;

		if (id && spiffe_text(id->trust_domain, id->namespace, id->service_account, spiffe))
			want(w, spiffe);
	}
	list_each(at, &world->gateways) {
		const struct world_gateway *g = container_of(at, struct world_gateway, link);

		if (g->object && spiffe_text(g->identity->trust_domain, g->namespace, world_gateway_account(g), spiffe))
			want(w, spiffe);
	}
	for (struct table_link *l = table_walk(&w->wanted, NULL), *next; l; l = next) {
		struct wanted *i = container_of(l, struct wanted, link);

		next = table_walk(&w->wanted, l);
		if (i->round == w->round)
			continue;
		table_del(&w->wanted, l);
		certs_release(w->certs, i->spiffe);
		free(i->spiffe);
		free(i);
	}
}

/* ------------------------------------------------------------------ life */

struct certs *worker_certs(struct worker_certs *w)
{
	return w->certs;
}

struct worker_certs *worker_certs_open(struct loop *loop, struct link *link, const struct wire_start *start, int notify)
{
	struct worker_certs *w = mem_alloc(sizeof(*w));
	struct cert_source *source;
	int err;

	*w = (struct worker_certs){
		.folder = {.path = mem_string(start->certs), .open = folder_open, .make = folder_make, .owner = w},
		.loop = loop,
		.link = link,
		.notify = {.fd = notify, .events = EPOLLIN, .ready = notify_ready},
		.again.due = again_due,
	};
	source = start->certs_pem ? pem_source(loop, &w->folder)
				  : ca_source(loop, &w->folder, start->trust_domain, NULL);
	w->certs = certs_new(loop, source, start->trust_domain, NULL);
	err = loop_watch(loop, &w->notify);
	if (err)
		log_warning("changes in %s are noticed late: it cannot be watched: %s", start->certs, strerror(-err));
	return w;
}
