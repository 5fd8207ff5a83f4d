/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pem.c: files of each identity as a source of certificates, which somebody else renews. See certs.h.
 *
 * The folder answers one question at a time: roots and CRL first, then the pairs that were asked for, in order. When
 * something changes, all of it is asked for again; who asked keeps what has not changed.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "issuer.h"

#define SETTLE_NS 50000000ull  /* a chain and its key are replaced one after the other */
#define LOOK_NS 60000000000ull /* a file system of another machine may tell us nothing */

enum file { FIRST,
	    SECOND,
	    FILES }; /* roots.pem and crl.pem, or a chain and its key */

struct order { /* a certificate that was asked for */
	char *name[FILES];
	void *asked;
	void (*done)(void *asked, struct cert *cert, const char *error);
	struct list link;
};

struct pem {
	struct cert_source source;
	struct cert_folder *folder;
	struct loop *loop;
	struct loop_timer look;
	struct list orders;
	struct order *due; /* the answer that is awaited is its; NULL and `asked`: roots and CRL */
	bool asked;
	bool roots_due;
	char *roots, *crl; /* crl "": cannot be read */
	char problem[WHY];
};

static void next(struct pem *p)
{
	static const char *const trust[FILES] = {"roots.pem", "crl.pem"};

	if (p->asked)
		return;
	if (p->roots_due) {
		p->roots_due = false;
		p->due = NULL;
		p->asked = true;
		p->folder->open(p->folder, trust, FILES);
	} else if (!list_empty(&p->orders)) {
		p->due = container_of(p->orders.next, struct order, link);
		list_del(&p->due->link);
		p->asked = true;
		p->folder->open(p->folder, (const char *const *)p->due->name, FILES);
	}
}

static void look_due(struct loop_timer *t)
{
	struct pem *p = container_of(t, struct pem, look);

	p->roots_due = true;
	loop_arm(p->loop, &p->look, LOOK_NS);
	next(p);
}

static void folder_changed(struct cert_folder *f)
{
	struct pem *p = f->reader;

	loop_arm(p->loop, &p->look, SETTLE_NS);
}

/* ------------------------------------------------------------------ answers */

/* NULL and why[], if it is empty yet. The fd is closed. */
static char *read_one(const struct pem *p, int fd, const char *name, bool secret, char why[WHY])
{
	char sentence[WHY] = "", *text = NULL;

	if (fd >= 0)
		text = x509_file(fd, name, secret, sentence);
	else if (fd == -ENOENT)
		snprintf(sentence, sizeof(sentence), "%s is missing in %.100s", name, p->folder->path);
	else
		snprintf(sentence, sizeof(sentence), "%s cannot be opened: %s", name,
			 p->folder->problem ? p->folder->problem : strerror(-fd));
	if (!why[0])
		text_copy(why, WHY, sentence);
	return text;
}

static void take_trust(struct pem *p, const int *fd)
{
	char why[WHY] = "", crl_why[WHY] = "";
	char *roots = read_one(p, fd[FIRST], "roots.pem", false, why);
	char *crl = read_one(p, fd[SECOND], "crl.pem", false, crl_why);
	bool same = text_equal(why, p->problem);

	if (!crl && fd[SECOND] != -ENOENT)
		crl = mem_string("");
	if (roots) {
		free(p->roots);
		p->roots = roots;
	}
	/* Both are gone: the folder is, or is being replaced. That revokes no less. */
	if (fd[FIRST] != -ENOENT || fd[SECOND] != -ENOENT) {
		free(p->crl);
		p->crl = crl;
	}
	text_copy(p->problem, sizeof(p->problem), why);
	p->source.problem = why[0] ? p->problem : NULL;
	if (!same && why[0])
		log_error("%s: %s%s", p->source.name, why, p->roots ? "; the last good roots stay in force" : "");
	else if (!same)
		log_info("%s: read", p->source.name);
	p->source.leaves++;
	if (p->source.changed)
		p->source.changed(&p->source);
}

static void order_free(struct order *o)
{
	free(o->name[FIRST]);
	free(o->name[SECOND]);
	free(o);
}

static void take_pair(struct order *o, const struct pem *p, const int *fd)
{
	struct cert *c = mem_alloc(sizeof(*c));
	char why[WHY] = "";

	c->chain = read_one(p, fd[FIRST], o->name[FIRST], false, why);
	c->key = read_one(p, fd[SECOND], o->name[SECOND], true, why);
	if (!c->chain || !c->key) {
		cert_free(c);
		c = NULL;
	}
	o->done(o->asked, c, c ? NULL : why);
	order_free(o);
}

static void folder_opened(struct cert_folder *f, const int *fd, unsigned count)
{
	struct pem *p = f->reader;
	int all[FILES];

	for (enum file i = FIRST; i < FILES; i++)
		all[i] = i < count ? fd[i] : -ENOENT;
	p->asked = false;
	if (p->due)
		take_pair(p->due, p, all);
	else
		take_trust(p, all);
	next(p);
}

/* ------------------------------------------------------------------ the source */

static void pem_issue(struct cert_source *s, const char *spiffe, void *asked,
		      void (*done)(void *asked, struct cert *cert, const char *error))
{
	struct pem *p = s->owner;
	struct order *o;
	struct spiffe id;

	if (spiffe_parse(spiffe, &id)) {
		done(asked, NULL, "it is no SPIFFE identity");
		return;
	}
	o = mem_alloc(sizeof(*o));
	o->asked = asked;
	o->done = done;
	o->name[FIRST] = mem_format("%s.%s.pem", id.namespace, id.service_account);
	o->name[SECOND] = mem_format("%s.%s.key", id.namespace, id.service_account);
	list_add(&p->orders, &o->link);
	next(p);
}

static char *pem_roots(struct cert_source *s)
{
	const struct pem *p = s->owner;

	return p->roots ? mem_string(p->roots) : NULL;
}

static char *pem_crl(struct cert_source *s)
{
	const struct pem *p = s->owner;

	return p->crl ? mem_string(p->crl) : NULL;
}

static void pem_close(struct cert_source *s)
{
	struct pem *p = s->owner;

	loop_disarm(p->loop, &p->look);
	p->folder->opened = NULL;
	p->folder->changed = NULL;
	p->folder->reader = NULL;
	if (p->asked && p->due)
		order_free(p->due);
	list_each_safe(at, after, &p->orders)
		order_free(container_of(at, struct order, link));
	free(p->roots);
	free(p->crl);
	free((char *)p->source.name);
	free(p);
}

struct cert_source *pem_source(struct loop *loop, struct cert_folder *folder)
{
	struct pem *p = mem_alloc(sizeof(*p));

	*p = (struct pem){
		.source = {.name = mem_format("files in %s", folder->path),
			   .issue = pem_issue,
			   .roots = pem_roots,
			   .crl = pem_crl,
			   .close = pem_close,
			   .owner = p},
		.folder = folder,
		.loop = loop,
		.look.due = look_due,
	};
	list_init(&p->orders);
	folder->reader = p;
	folder->opened = folder_opened;
	folder->changed = folder_changed;
	look_due(&p->look);
	return &p->source;
}
