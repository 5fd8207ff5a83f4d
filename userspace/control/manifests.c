/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifests.c: a folder of YAML and JSON as a source of objects.
 *
 * inotify says which names to look at; what changed is then decided by looking (fstat, hashes), so an event too
 * many costs nothing and a lost one (queue overflow) only a look at every file. Events of one batch are applied
 * together, when the last of their files has been read.
 *
 * A file is read when its writer has closed it. One that changes while it is read is left as it was: the close
 * that is still to come will bring us back. So is one in place of one that was renamed away or removed, as many editors
 * write: what it is to be may not stand in it yet.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "documents.h"
#include "names.h"
#include "source.h"
#include "stamp.h"

#define OPENS_MAX 16 /* answers waited for at a time */
#define READS_MAX 64 /* of the event queue in one turn */
#define RENAME_MS 200 /* between the two events of a rename, where the one who renames is interrupted */
#define REMOVE_MS 20  /* between those of one who removes a file to write it anew, as git does */
#define PATIENCE_NS 1000000000ull /* of all that: who goes on for long is not waited for, the worker must beat */

enum seen { /* in the folder, or by an event: bits */
	SEEN_THERE = 1, /* its content may be read as it is: its writer has closed it, or nobody knows */
	SEEN_GONE = 2,  /* that it is not there is explained: removed, or its other name is known */
	SEEN_CAME = 4,  /* beside SEEN_THERE: by a rename */
	SEEN_SWAPPED = 8, /* it went by one right after it had come: or two changed places, which is told alike */
};

struct file {
	struct table_link link;
	struct list dirty;    /* while it is to be looked at */
	struct list troubled; /* while something is wrong with it */
	struct stamp stamp;
	struct documents documents;
	bool waiting;		 /* for manifests_opened */
	bool explained;		 /* SEEN_GONE, by the last event */
	bool there;		 /* SEEN_THERE, by the last event since it was opened; */
	bool take;		 /* by the last before that: what was opened is read, whoever may be writing it */
	bool came, swapped;	 /* SEEN_CAME, by the last event; SEEN_SWAPPED, and nobody has made it anew */
	bool dangles;		 /* a link that led nowhere when it was looked at last */
	bool missing;		 /* that, or it was not there at all */
	bool again;		 /* look at it once more after that */
	bool read;		 /* stamp is valid, and was old enough: a later write has another time */
	uint64_t bytes;		 /* counted in manifests.bytes */
	struct problem *problem; /* with the file as a whole, or NULL */
	char name[];
};

struct manifests {
	struct source source;
	struct manifests_config config;
	char *path;
	struct claims *claims;
	struct table files;
	struct list dirty, troubled;
	struct list missing; /* file.dirty: looked at once more before that is said */
	unsigned waiting;
	uint64_t bytes; /* of all files */
	int room;	/* for problems */
	int patience;	/* ms: a file was not there, and may be again, or have another name */
	uint32_t cookie; /* of the last IN_MOVED_FROM */
	char *moved;	/* and its name */
	bool changed;	/* since the last settling: objects or problems */
	struct problem *folder_problem;
	struct problem *listed; /* answer of source_problems, made when asked */
	unsigned errors, warnings;
	bool listed_valid;
};

static struct manifests *of(const struct source *s)
{
	return container_of(s, struct manifests, source);
}

/* ------------------------------------------------------------------ files */

static bool eligible(const char *name)
{
	return name[0] != '.' && strlen(name) < sizeof(((struct problem *)0)->file) &&
	       (text_ends(name, ".yaml") || text_ends(name, ".yml") || text_ends(name, ".json"));
}

static struct file *file_get(const struct manifests *m, const char *name)
{
	struct table_link *l = table_first(&m->files, table_hash(name, strlen(name)));

	for (; l; l = table_next_same(l)) {
		struct file *f = container_of(l, struct file, link);

		if (!strcmp(f->name, name))
			return f;
	}
	return NULL;
}

static struct file *file_new(struct manifests *m, const char *name)
{
	size_t len = strlen(name) + 1;
	struct file *f = mem_alloc(sizeof(*f) + len);

	memcpy(f->name, name, len);
	documents_init(&f->documents, f->name);
	list_init(&f->dirty);
	list_init(&f->troubled);
	table_add(&m->files, &f->link, table_hash(name, len - 1));
	return f;
}

static void file_free(struct manifests *m, struct file *f)
{
	documents_drop(&f->documents, m->claims, &m->room);
	table_del(&m->files, &f->link);
	list_del(&f->dirty);
	list_del(&f->troubled);
	m->bytes -= f->bytes;
	m->waiting -= f->waiting;
	free(f->problem);
	free(f);
	m->changed = true;
}

static void mark(struct manifests *m, const char *name, unsigned seen)
{
	struct file *f = file_get(m, name);

	if (!f && m->files.count >= MANIFESTS_MAX_FILES)
		return; /* list_folder reports it */
	f = f ? f : file_new(m, name);
	f->explained = seen & SEEN_GONE;
	f->there = seen & SEEN_THERE;
	f->came = seen & SEEN_CAME;
	f->swapped = !f->there && (f->swapped || seen & SEEN_SWAPPED);
	if (f->missing)
		list_del(&f->dirty);
	if (list_empty(&f->dirty))
		list_add(&m->dirty, &f->dirty);
}

/* Says what is wrong with a whole file (or the folder: name ""); NULL: nothing any more. */
static void set_problem(struct manifests *m, struct problem **where, const char *name, const char *fmt, ...)
	printf_like(4, 5);
static void set_problem(struct manifests *m, struct problem **where, const char *name, const char *fmt, ...)
{
	struct problem *p = NULL;
	va_list ap;

	if (fmt) {
		p = mem_alloc(sizeof(*p));
		text_copy(p->file, sizeof(p->file), *name ? name : m->path);
		va_start(ap, fmt);
		vsnprintf(p->reason, sizeof(p->reason), fmt, ap);
		va_end(ap);
		if (!*where || !text_equal((*where)->reason, p->reason))
			log_error("%s: %s", p->file, p->reason);
	}
	m->changed = m->changed || p || *where;
	free(*where);
	*where = p;
}

/* ------------------------------------------------------------------ reading one file */

static bool check_file(struct manifests *m, struct file *f, const struct stat *st)
{
	uint64_t others = m->bytes - f->bytes, size = (uint64_t)st->st_size;

	if (S_ISDIR(st->st_mode)) {
		set_problem(m, &f->problem, f->name, "is a folder: weft reads the files of one folder only");
		return false;
	}
	if (!S_ISREG(st->st_mode)) {
		set_problem(m, &f->problem, f->name, "is not a regular file");
		return false;
	}
	if (size > DOC_MAX_BYTES) {
		set_problem(m, &f->problem, f->name,
			    "has %.1f MiB; weft reads at most %u MiB of one file: split it",
			    (double)size / (1 << 20), DOC_MAX_BYTES >> 20);
		return false;
	}
	if (others + size > MANIFESTS_MAX_BYTES) {
		set_problem(m, &f->problem, f->name, "makes more than %u MiB of all files together: not read",
			    MANIFESTS_MAX_BYTES >> 20);
		return false;
	}
	return true;
}

/* A file that changes while it is read is left as it was: its writer has still to close it. */
static int read_documents(struct manifests *m, struct file *f, int fd, const struct stamp *before)
{
	struct reading *r = documents_begin(&f->documents, m->claims, text_ends(f->name, ".json"), &m->room);
	struct content content;
	struct stamp after;
	struct stat st;
	int rc = content_open(&content, fd, (size_t)before->size);

	if (!rc) {
		rc = documents_read(r, &content);
		content_close(&content);
	}
	if (!fstat(fd, &st)) {
		after = stamp_of(&st);
		after.changed = before->changed; /* another name or mode does not matter */
		if (!stamp_same(before, &after))
			rc = -EAGAIN; /* whatever was seen of it */
	} else if (!rc) {
		rc = -errno;
	}
	if (rc)
		documents_abort(r);
	else if (documents_commit(r))
		m->changed = true;
	return rc;
}

static void read_file(struct manifests *m, struct file *f, int fd)
{
	struct stamp stamp;
	struct stat st;
	int rc;

	if (fstat(fd, &st)) {
		set_problem(m, &f->problem, f->name, "cannot be read: %s", strerror(errno));
		return;
	}
	stamp = stamp_of(&st);
	if (!check_file(m, f, &st))
		return;
	if (f->read && !f->problem && stamp_same(&stamp, &f->stamp))
		return;
	rc = read_documents(m, f, fd, &stamp);
	if (rc == -EAGAIN) {
		log_info("%s: is being written; it is read when its writer closes it", f->name);
		return;
	}
	if (rc == -E2BIG) {
		set_problem(m, &f->problem, f->name, "has more than %u documents: split it", DOCUMENTS_MAX);
		return;
	}
	if (rc) {
		set_problem(m, &f->problem, f->name, "cannot be read: %s", strerror(-rc));
		return;
	}
	m->bytes += (uint64_t)stamp.size - f->bytes;
	f->bytes = (uint64_t)stamp.size;
	f->stamp = stamp;
	f->read = stamp_old_enough(&stamp);
	set_problem(m, &f->problem, f->name, NULL);
}

/* Its writer will close it: see the head. */
static bool is_unfinished(const struct manifests *m, const struct file *f, int fd, bool link)
{
	struct stat st;

	return !f->take && !link && names_is_link(m->config.folder, f->name) <= 0 && !fstat(fd, &st) &&
	       S_ISREG(st.st_mode) && st.st_nlink == 1;
}

/* What was there a moment ago may have another name, or be written anew: to be looked at once more. */
static void be_patient(struct manifests *m, struct file *f, int fd)
{
	int ms = (f->explained || fd >= 0) && !f->dangles ? REMOVE_MS : RENAME_MS;

	if (fd >= 0)
		close(fd);
	m->patience = ms > m->patience ? ms : m->patience;
	list_del(&f->dirty); /* of one with f->again */
	list_add(&m->missing, &f->dirty);
}

/* `fd` is taken, or -errno. `link`: weftd says so. May free the file. */
static void look(struct manifests *m, struct file *f, int fd, bool link)
{
	bool missed = f->missing;

	f->dangles = names_dangle(m->config.folder, f->name, fd);
	f->missing = fd == -ENOENT || f->dangles || (f->swapped && !missed);
	f->take |= f->swapped; /* one that was made meanwhile would be told of by now */
	/* The kubelet renames ..data and then removes the links of files that are gone. */
	if (f->missing && !missed && (m->source.loaded || !f->dangles)) {
		be_patient(m, f, fd);
		return;
	}
	f->swapped = false;
	if (fd == -ENOENT && !f->dangles) {
		if (list_empty(&f->dirty)) /* else (f->again) it may be there by now */
			file_free(m, f);
		return;
	}
	if (fd >= 0) {
		if (!is_unfinished(m, f, fd, link))
			read_file(m, f, fd);
		close(fd);
	} else if (f->dangles) {
		set_problem(m, &f->problem, f->name, "is a link that leads nowhere");
	} else if (fd == -ENXIO) { /* a socket */
		set_problem(m, &f->problem, f->name, "is not a regular file");
	} else if (fd == -EXDEV) { /* as weftd says, who opens it where we may not */
		set_problem(m, &f->problem, f->name,
			    "is a link that leads out of the folder: put the file itself there");
	} else {
		set_problem(m, &f->problem, f->name, "cannot be opened: %s%s", strerror(-fd),
			    fd == -EACCES ? " (make it readable for weft's user)" : "");
	}
	list_del(&f->troubled);
	if (f->problem || f->documents.errors || f->documents.warnings)
		list_add(&m->troubled, &f->troubled);
}

static int open_file(struct manifests *m, const char *name)
{
	int fd;

	if (m->config.open)
		return m->config.open(m->config.ctx, name);
	/* Neither a FIFO nor a terminal may hold us. */
	fd = openat(m->config.folder, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

/* ------------------------------------------------------------------ settling */

/* Looks at all dirty files, as far as their opens are answered. */
static void look_at_dirty(struct manifests *m)
{
	while (!list_empty(&m->dirty) && m->waiting < OPENS_MAX) {
		struct file *f = container_of(m->dirty.next, struct file, dirty);
		int fd;

		list_del(&f->dirty);
		f->again = f->waiting; /* the answer may be from before the event */
		if (f->waiting)
			continue;
		f->take = f->there;
		f->there = f->came = false;
		fd = open_file(m, f->name);
		if (fd != -EINPROGRESS) {
			look(m, f, fd, false);
			continue;
		}
		f->waiting = true;
		m->waiting++;
	}
}

static int read_events(struct manifests *m);

/*
 * A file that is not there was deleted, or has another name now, here or elsewhere: a rename is two events, and we may
 * be between them, or late. Or it is about to be written anew. To settle now would take its objects away for a moment,
 * so what comes next is waited for.
 */
static bool missed_more(struct manifests *m, uint64_t since_ns)
{
	struct pollfd p = {.fd = m->config.notify, .events = POLLIN};
	int ms = clock_ns() - since_ns < PATIENCE_NS ? m->patience : 0;

	m->patience = 0;
	return ms && p.fd >= 0 && poll(&p, 1, ms) > 0 && !read_events(m);
}

/* What no event has explained meanwhile. */
static bool look_again(struct manifests *m)
{
	bool any = !list_empty(&m->missing);

	list_each_safe(pos, next, &m->missing) {
		list_del(pos);
		list_add(&m->dirty, pos);
	}
	return any;
}

/* >0 changed, 0 not, or not yet. */
static int settle(struct manifests *m)
{
	unsigned turns = 0;
	uint64_t start = clock_ns();
	bool changed;

	do {
		look_at_dirty(m);
		if (m->waiting)
			return 0;
	} while ((turns++ < READS_MAX && missed_more(m, start)) || look_again(m));
	m->source.loaded = true;
	changed = claims_settle(m->claims) || m->changed;
	if (changed)
		claims_log(m->claims);
	m->changed = false;
	m->listed_valid = m->listed_valid && !changed;
	return changed;
}

/* ------------------------------------------------------------------ the folder */

/* Marks every file that is there, and every file that was, in order of name. 0 or -errno. */
static int list_folder(struct manifests *m)
{
	struct names names;
	int rc = names_read(&names, m->config.folder, MANIFESTS_MAX_FILES, eligible);

	if (rc)
		return rc;
	if (names.more)
		set_problem(m, &m->folder_problem, "", "has more than %u files: the others are not read",
			    MANIFESTS_MAX_FILES);
	for (size_t i = 0; i < names.count; i++)
		mark(m, names.name[i], SEEN_THERE);
	names_free(&names);
	for (struct table_link *l = table_walk(&m->files, NULL); l; l = table_walk(&m->files, l)) {
		const struct file *f = container_of(l, struct file, link);

		/* what the event of this batch has explained stays so */
		mark(m, f->name, f->explained && !list_empty(&f->dirty) ? SEEN_THERE | SEEN_GONE : SEEN_THERE);
	}
	return 0;
}

static void look_at_folder(struct manifests *m)
{
	struct stat st;
	int rc = 0;

	if (fstat(m->config.folder, &st))
		rc = -errno;
	else if (!st.st_nlink)
		rc = -ENOENT;
	if (!rc)
		set_problem(m, &m->folder_problem, "", NULL);
	if (!rc)
		rc = list_folder(m);
	if (rc == -ENOENT)
		set_problem(m, &m->folder_problem, "",
			    "the folder is gone; its objects stay in force: make it again and send weftd SIGHUP");
	else if (rc)
		set_problem(m, &m->folder_problem, "", "the folder cannot be listed: %s", strerror(-rc));
}

static int on_load(struct source *s)
{
	struct manifests *m = of(s);

	look_at_folder(m);
	return settle(m);
}

/* A new name is marked when its content is there at once, or only weftd can see whether it is. */
static void on_create(struct manifests *m, const char *name)
{
	int link = names_is_link(m->config.folder, name);
	struct file *f = file_get(m, name);

	if (f)
		f->swapped = false;
	if (link)
		mark(m, name, link > 0 ? SEEN_THERE : 0);
}

/* Both events of a rename: the old name is explained. Not by a name that is not read: an editor keeps it there. */
static void on_move(struct manifests *m, const struct inotify_event *e, const char *name)
{
	if (e->mask & IN_MOVED_TO && e->cookie == m->cookie && m->moved && eligible(m->moved) && eligible(name))
		mark(m, m->moved, SEEN_GONE);
	if (e->mask & IN_MOVED_FROM) {
		free(m->moved);
		m->moved = mem_string(name);
		m->cookie = e->cookie;
	}
}

static unsigned how_seen(const struct manifests *m, uint32_t mask, const char *name)
{
	const struct file *f = mask & IN_MOVED_FROM ? file_get(m, name) : NULL;

	if (mask & (IN_DELETE | IN_MOVED_FROM))
		return mask & IN_DELETE ? SEEN_GONE : f && f->came ? SEEN_SWAPPED : 0;
	return mask & IN_MOVED_TO ? SEEN_THERE | SEEN_CAME : SEEN_THERE;
}

static void on_event(struct manifests *m, const struct inotify_event *e, bool *ret_all)
{
	const char *name = e->len ? e->name : "";

	if (e->mask & IN_Q_OVERFLOW) {
		log_warning("%s: too many changes at once; looking at every file", m->path);
		*ret_all = true;
	} else if (e->mask & (IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)) {
		set_problem(m, &m->folder_problem, "",
			    "the folder was moved or removed; its objects stay in force: send weftd SIGHUP "
			    "to read the one that is there now");
	} else if (text_starts(name, "..")) {
		*ret_all = true; /* a mounted ConfigMap: all files changed when ..data did */
	} else if (eligible(name) && e->mask & IN_CREATE) {
		on_create(m, name);
	} else if (eligible(name)) {
		mark(m, name, how_seen(m, e->mask, name));
	}
	on_move(m, e, name);
}

static int read_events(struct manifests *m)
{
	_Alignas(struct inotify_event) char buf[32768];
	bool all = false;

	for (unsigned i = 0; i < READS_MAX; i++) {
		ssize_t n = read(m->config.notify, buf, sizeof(buf));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN)
			return -errno;
		if (n <= 0)
			break;
		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *e = (const void *)(buf + at);

			on_event(m, e, &all);
			at += (ssize_t)(sizeof(*e) + e->len);
		}
	}
	if (all)
		look_at_folder(m);
	return 0;
}

static int on_ready(struct source *s)
{
	struct manifests *m = of(s);
	int rc = read_events(m);

	return rc ? rc : settle(m);
}

int manifests_opened(struct source *s, const char *name, int fd, bool link)
{
	struct manifests *m = of(s);
	struct file *f = file_get(m, name);

	if (!f || !f->waiting) { /* gone meanwhile */
		if (fd >= 0)
			close(fd);
		return settle(m);
	}
	f->waiting = false;
	m->waiting--;
	if (f->again)
		mark(m, name, (f->explained ? SEEN_GONE : 0) | (f->there ? SEEN_THERE : 0));
	look(m, f, fd, link);
	return settle(m);
}

void manifests_unanswered(struct source *s)
{
	struct manifests *m = of(s);

	for (struct table_link *l = table_walk(&m->files, NULL); l; l = table_walk(&m->files, l))
		container_of(l, struct file, link)->waiting = false;
	m->waiting = 0;
}

/* ------------------------------------------------------------------ problems */

struct listing {
	struct problem *item;
	unsigned count, room;
};

static void list_problem(void *ctx, const struct problem *p)
{
	struct listing *l = ctx;

	if (l->count == SOURCE_PROBLEMS)
		return;
	if (l->count == l->room) {
		l->room = l->room ? 2 * l->room : 16;
		l->item = mem_grow(l->item, l->room, sizeof(*l->item));
	}
	l->item[l->count++] = *p;
}

static void list_loser(void *ctx, struct claim *loser, const struct object *winner)
{
	const struct object *o = loser->object;
	struct problem p = {.line = o->line};

	text_copy(p.file, sizeof(p.file), o->file);
	snprintf(p.object, sizeof(p.object), "%.32s %.63s%s%.200s", object_kind_name(o->kind), o->namespace,
		 *o->namespace ? "/" : "", o->name);
	text_copy(p.field, sizeof(p.field), "metadata.name");
	snprintf(p.reason, sizeof(p.reason), "is already given in %.120s line %u: this one is not used",
		 winner->file, winner->line);
	list_problem(ctx, &p);
}

static int by_place(const void *a, const void *b)
{
	const struct problem *x = a, *y = b;
	int order = strcmp(x->file, y->file);

	return order ? order : (x->line > y->line) - (x->line < y->line);
}

static void list_problems(struct manifests *m)
{
	struct listing l = {0};

	m->errors = claims_losers(m->claims, list_loser, &l) + !!m->folder_problem;
	m->warnings = 0;
	if (m->folder_problem)
		list_problem(&l, m->folder_problem);
	list_each(pos, &m->troubled) {
		const struct file *f = container_of(pos, struct file, troubled);

		m->errors += f->documents.errors + !!f->problem;
		m->warnings += f->documents.warnings;
		if (f->problem)
			list_problem(&l, f->problem);
		documents_problems(&f->documents, list_problem, &l);
	}
	if (l.count)
		qsort(l.item, l.count, sizeof(*l.item), by_place);
	for (unsigned i = 0; i < l.count; i++)
		l.item[i].next = i + 1 < l.count ? &l.item[i + 1] : NULL;
	free(m->listed);
	m->listed = l.item;
	m->listed_valid = true;
}

static const struct problem *on_problems(const struct source *s, unsigned *ret_errors, unsigned *ret_warnings)
{
	struct manifests *m = of((struct source *)s); /* the list is a cache */

	if (!m->listed_valid)
		list_problems(m);
	*ret_errors = m->errors;
	*ret_warnings = m->warnings;
	return m->listed;
}

/* ------------------------------------------------------------------ life */

static void on_free(struct source *s)
{
	struct manifests *m = of(s);
	struct table_link *next;

	for (struct table_link *l = table_walk(&m->files, NULL); l; l = next) {
		next = table_walk(&m->files, l);
		file_free(m, container_of(l, struct file, link));
	}
	table_free(&m->files);
	claims_free(m->claims);
	free(m->folder_problem);
	free(m->listed);
	free(m->path);
	free(m->moved);
	free((char *)m->source.name);
	close(m->config.folder);
	if (m->config.notify >= 0)
		close(m->config.notify);
	free(m);
}

static const struct source_ops ops = {.load = on_load, .ready = on_ready, .problems = on_problems, .free = on_free};

struct source *manifests_source(const struct manifests_config *c)
{
	struct manifests *m = mem_alloc(sizeof(*m));

	m->config = *c;
	m->path = mem_string(c->path);
	m->config.path = m->path;
	m->claims = claims_new(c->store);
	m->room = SOURCE_PROBLEMS;
	list_init(&m->dirty);
	list_init(&m->troubled);
	list_init(&m->missing);
	m->source.name = mem_format("folder %s", c->path);
	m->source.fd = c->notify;
	m->source.ops = &ops;
	return &m->source;
}
