/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ca.c: the embedded CA as a source of certificates. See certs.h.
 *
 *	changed, or the time is up --open--> files --none is there--> make --> files
 *	files --good, and others than those in force--> in force, changed()
 *	files --not good--> problem, changed(); the last good ones stay; looked at again, less and less often
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "issuer.h"

#define SETTLE_NS 50000000ull  /* files of a set are replaced one after the other */
#define AGAIN_NS 1000000000ull /* after a problem; doubled up to */
#define LOOK_NS 60000000000ull /* and so often when all is well: a shared folder may tell us nothing */

enum file { ROOT,
	    CERT,
	    KEY,
	    CHAIN,
	    CRL,
	    FILES };

static const char *const names[FILES] = {
	[ROOT] = "root-cert.pem",
	[CERT] = "ca-cert.pem",
	[KEY] = "ca-key.pem",
	[CHAIN] = "cert-chain.pem",
	[CRL] = "ca-crl.pem",
};

struct set {
	char *text[FILES]; /* PEM; of CRL "" if it cannot be read; NULL: no such file */
};

struct ca {
	struct cert_source source;
	struct cert_folder *folder;
	struct loop *loop;
	certs_clock *now;
	char *trust_domain;
	struct loop_timer look;
	uint64_t again_ns;
	bool asked, look_again; /* an answer is due; and something changed meanwhile */
	bool made;		/* the answer is due to a make() */
	/* in force */
	struct set set;
	struct issuer *issuer; /* NULL: none was good so far */
	char problem[WHY];
};

static void set_free(struct set *s)
{
	for (unsigned i = 0; i < FILES; i++)
		x509_wipe(s->text[i]);
	*s = (struct set){0};
}

static bool set_same(const struct set *a, const struct set *b)
{
	for (unsigned i = 0; i < FILES; i++)
		if (!text_equal(a->text[i], b->text[i]))
			return false;
	return true;
}

/* ------------------------------------------------------------------ asking for the files */

static void look(struct ca *c)
{
	if (c->asked) {
		c->look_again = true;
		return;
	}
	c->asked = true;
	c->made = false;
	loop_disarm(c->loop, &c->look);
	c->folder->open(c->folder, names, FILES);
}

static void look_due(struct loop_timer *t)
{
	look(container_of(t, struct ca, look));
}

static void folder_changed(struct cert_folder *f)
{
	struct ca *c = f->reader;

	c->again_ns = 0;
	loop_arm(c->loop, &c->look, SETTLE_NS);
}

static void make(struct ca *c)
{
	char *cert, *key, why[WHY] = "";
	const char *text[CRL];

	if (!issuer_make_root(c->trust_domain, c->now() / 1000, &cert, &key, why)) {
		text_copy(c->problem, sizeof(c->problem), why);
		return;
	}
	text[ROOT] = text[CERT] = text[CHAIN] = cert;
	text[KEY] = key;
	c->asked = c->made = true;
	c->folder->make(c->folder, names, text, CRL);
	free(cert);
	x509_wipe(key);
}

/* ------------------------------------------------------------------ what they say */

/* One file into the set. A CRL that cannot be read is the empty text, which closes. */
static void read_one(struct ca *c, enum file file, int fd, struct set *ret, char why[WHY])
{
	char sentence[WHY] = "";

	if (fd >= 0)
		ret->text[file] = x509_file(fd, names[file], file == KEY, sentence);
	else if (fd != -ENOENT)
		snprintf(sentence, sizeof(sentence), "%s cannot be %s: %s", names[file], c->made ? "made" : "opened",
			 strerror(-fd));
	if (fd < 0 && sentence[0] && c->folder->problem)
		text_copy(sentence, sizeof(sentence), c->folder->problem);
	if (sentence[0] && file == CRL)
		ret->text[file] = mem_string("");
	else if (sentence[0] && !why[0])
		text_copy(why, WHY, sentence);
}

static bool read_set(struct ca *c, const int *fd, struct set *ret, char why[WHY])
{
	unsigned missing = 0;
	enum file first = ROOT;

	for (enum file i = ROOT; i < FILES; i++)
		read_one(c, i, fd[i], ret, why);
	for (enum file i = CRL; i-- > ROOT;) {
		if (fd[i] != -ENOENT)
			continue;
		missing++;
		first = i;
	}
	if (missing == CRL)
		snprintf(why, WHY, "%s and the other files %s", names[first],
			 c->made ? "cannot be made" : "are gone");
	else if (missing && !why[0])
		snprintf(why, WHY,
			 "%s is missing: put all of root-cert.pem, ca-cert.pem, ca-key.pem and cert-chain.pem "
			 "there, or none, to have them made",
			 names[first]);
	return !why[0];
}

static bool all_missing(const int *fd)
{
	for (enum file i = ROOT; i < CRL; i++)
		if (fd[i] != -ENOENT)
			return false;
	return true;
}

static bool take(struct ca *c, struct set *set, char why[WHY])
{
	const struct issuer_files files = {
		.roots = set->text[ROOT], .cert = set->text[CERT], .key = set->text[KEY], .chain = set->text[CHAIN]};
	struct issuer *issuer = issuer_new(&files, c->now() / 1000, why);

	if (!issuer)
		return false;
	if (!issuer_same(issuer, c->issuer))
		c->source.leaves++;
	issuer_free(c->issuer);
	c->issuer = issuer;
	set_free(&c->set);
	c->set = *set;
	*set = (struct set){0};
	return true;
}

/*
 * The CRL counts at once, whatever is wrong with the rest: what it says must not wait for a key. But that it is not
 * there says nothing where others are not there either: a folder that has gone, or is being replaced, revokes no less.
 */
static bool take_crl(struct ca *c, struct set *set, const int *fd)
{
	char *was = c->set.text[CRL];

	for (enum file i = ROOT; i < CRL; i++)
		if (fd[i] == -ENOENT && fd[CRL] == -ENOENT)
			return false;
	c->set.text[CRL] = set->text[CRL];
	set->text[CRL] = was;
	return !text_equal(was, c->set.text[CRL]);
}

/* NULL: none. true if it is another one than before. */
static bool set_problem(struct ca *c, const char *why)
{
	char problem[WHY] = "";
	bool same;

	if (why)
		snprintf(problem, sizeof(problem), "%.200s%s", why,
			 c->issuer ? "; the last good CA stays in force" : "");
	same = text_equal(problem, c->problem);
	text_copy(c->problem, sizeof(c->problem), problem);
	c->source.problem = why ? c->problem : NULL;
	if (!same && why)
		log_error("CA in %s: %s", c->folder->path, problem);
	else if (!same && c->issuer)
		log_info("CA in %s: good again", c->folder->path);
	return !same;
}

static void judge(struct ca *c, const int *fd)
{
	char why[WHY] = "";
	struct set set = {0};
	bool changed = false;

	/* Good files are not looked at again: that a root has expired meanwhile is seen where it is used. */
	if (read_set(c, fd, &set, why) && (!c->issuer || !set_same(&set, &c->set))) {
		changed = take(c, &set, why);
		if (changed)
			log_info("CA in %s: %s", c->folder->path, c->made ? "made just now" : "read");
	}
	if (why[0])
		changed = take_crl(c, &set, fd);
	set_free(&set);
	changed |= set_problem(c, why[0] ? why : NULL);
	if (changed && c->source.changed)
		c->source.changed(&c->source);
}

static void look_later(struct ca *c)
{
	if (!c->problem[0])
		c->again_ns = 0;
	else
		c->again_ns = c->again_ns ? 2 * c->again_ns : AGAIN_NS;
	if (c->again_ns > LOOK_NS)
		c->again_ns = LOOK_NS;
	loop_arm(c->loop, &c->look, c->again_ns ? c->again_ns : LOOK_NS);
}

static void folder_opened(struct cert_folder *f, const int *fd, unsigned count)
{
	struct ca *c = f->reader;
	int all[FILES];

	for (enum file i = ROOT; i < FILES; i++)
		all[i] = i < count ? fd[i] : -ENOENT; /* make() answers without a CRL */
	c->asked = false;
	if (all_missing(all) && !c->issuer && !c->made) {
		if (all[CRL] >= 0)
			close(all[CRL]);
		make(c);
	} else {
		judge(c, all);
	}
	if (c->asked)
		return;
	look_later(c);
	if (c->look_again) {
		c->look_again = false;
		look(c);
	}
}

/* ------------------------------------------------------------------ the source */

static void ca_issue(struct cert_source *s, const char *spiffe, void *asked,
		     void (*done)(void *asked, struct cert *cert, const char *error))
{
	struct ca *c = s->owner;
	char why[WHY] = "";
	struct cert *cert = c->issuer ? issuer_sign(c->issuer, spiffe, c->now() / 1000, why) : NULL;

	if (!c->issuer)
		text_copy(why, sizeof(why), c->problem[0] ? c->problem : "the CA is not read yet");
	done(asked, cert, cert ? NULL : why);
}

static char *copy(const char *text)
{
	return text ? mem_string(text) : NULL;
}

static char *ca_roots(struct cert_source *s)
{
	const struct ca *c = s->owner;

	return copy(c->set.text[ROOT]);
}

static char *ca_crl(struct cert_source *s)
{
	const struct ca *c = s->owner;

	return copy(c->set.text[CRL]);
}

static void ca_close(struct cert_source *s)
{
	struct ca *c = s->owner;

	loop_disarm(c->loop, &c->look);
	c->folder->opened = NULL;
	c->folder->changed = NULL;
	c->folder->reader = NULL;
	issuer_free(c->issuer);
	set_free(&c->set);
	free((char *)c->source.name);
	free(c->trust_domain);
	free(c);
}

struct cert_source *ca_source(struct loop *loop, struct cert_folder *folder, const char *trust_domain, certs_clock *now)
{
	struct ca *c = mem_alloc(sizeof(*c));

	*c = (struct ca){
		.source = {.name = mem_format("embedded CA in %s", folder->path),
			   .issues = true,
			   .renews = true,
			   .issue = ca_issue,
			   .roots = ca_roots,
			   .crl = ca_crl,
			   .close = ca_close,
			   .owner = c},
		.folder = folder,
		.loop = loop,
		.now = now ? now : clock_wall,
		.trust_domain = mem_string(trust_domain),
		.look.due = look_due,
	};
	folder->reader = c;
	folder->opened = folder_opened;
	folder->changed = folder_changed;
	look(c);
	return &c->source;
}
