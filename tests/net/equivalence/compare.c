// SPDX-License-Identifier: Apache-2.0
/* compare.c: results of runs against each other: see equivalence.h. */
#include "equivalence.h"

#include <stdlib.h>
#include <string.h>

/* One row's result, as pair_run() writes it. Lines point into the text of the file. */
struct seen {
	const char *number, *name;
	const char *path, *reason;
	char **line;
	size_t lines;
};

struct results {
	struct seen *row;
	size_t rows;
	char *text;
};

enum verdict {
	EQUAL,
	ENDED,	  /* equal until weft ended the connection, which the row allows */
	ACCEPTED, /* differs by nature */
	ABSENT,	  /* not in this kernel */
	DIFFERS,
	MISSING, /* not played */
};

static const char *const verdict_name[] = {
	[EQUAL] = "equal",	       [ENDED] = "equal until ended", [ACCEPTED] = "differs by nature",
	[ABSENT] = "not in this kernel", [DIFFERS] = "DIFFERS",	      [MISSING] = "NOT PLAYED",
};

/* ------------------------------------------------------------------ reading */

static void *grow(void *at, size_t count, size_t size)
{
	void *ret = reallocarray(at, count + 1, size);

	if (!ret)
		abort();
	memset((char *)ret + count * size, 0, size);
	return ret;
}

static void take_line(struct results *r, char *line)
{
	struct seen *at = r->rows ? &r->row[r->rows - 1] : NULL;
	char *save;

	if (!strncmp(line, "row ", 4)) {
		r->row = grow(r->row, r->rows, sizeof(*r->row));
		at = &r->row[r->rows++];
		at->number = strtok_r(line + 4, " ", &save) ?: "";
		at->name = strtok_r(NULL, " ", &save) ?: "";
		at->path = at->reason = "-";
	} else if (at && !strncmp(line, "path ", 5)) {
		at->path = strtok_r(line + 5, " ", &save) ?: "-";
		at->reason = strtok_r(NULL, " ", &save) ?: "-";
	} else if (at && *line) {
		at->line = grow(at->line, at->lines, sizeof(*at->line));
		at->line[at->lines++] = line;
	}
}

static struct results load(const char *path)
{
	FILE *from = fopen(path, "r");
	struct results r = {};
	size_t len, size = 4 << 20;
	char *save;

	r.text = malloc(size);
	if (!from || !r.text) {
		perror(path);
		exit(1);
	}
	len = fread(r.text, 1, size - 1, from);
	r.text[len] = 0;
	fclose(from);
	for (char *line = strtok_r(r.text, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		take_line(&r, line);
	return r;
}

static const struct seen *find(const struct results *r, const struct row *row)
{
	for (size_t i = 0; i < r->rows; i++) {
		if (!strcmp(r->row[i].name, row->name))
			return &r->row[i];
	}
	return NULL;
}

/* ------------------------------------------------------------------ comparing */

/* The text of a line after the name of the side, NULL: another side's, or not to be compared. */
static const char *said_by(const char *who, const char *line)
{
	size_t len = strlen(who);

	if (strncmp(line, who, len) || line[len] != ' ' || line[len + 1] == '~')
		return NULL;
	return line + len + 1;
}

/* The next line of a side from *at, which then points to it; NULL: no more. */
static const char *said_at(const char *who, const struct seen *x, size_t *at)
{
	for (; x && *at < x->lines; (*at)++) {
		const char *text = said_by(who, x->line[*at]);

		if (text)
			return text;
	}
	return NULL;
}

static bool marked(const char *text)
{
	return text && !strncmp(text, "^ ", 2);
}

static const char *plain(const char *text)
{
	return marked(text) ? text + 2 : text;
}

struct difference { /* lines as they were seen, NULL: nothing; none: both NULL */
	const char *direct, *other;
	bool nature; /* only in lines that by_nature() marked */
};

/*
 * The first difference of one side that counts; where there is none, the first by nature. A marked line that the other
 * run does not have is passed over there.
 */
static struct difference differ(const char *who, const struct seen *x, const struct seen *y)
{
	struct difference first = {};
	size_t i = 0, j = 0;

	for (;;) {
		const char *a = said_at(who, x, &i), *b = said_at(who, y, &j);

		if (!a && !b)
			return first;
		if (a && b && !strcmp(a, b)) {
			i++;
			j++;
			continue;
		}
		if (!marked(a) && !marked(b))
			return (struct difference){ .direct = a, .other = b };
		if (!first.nature)
			first = (struct difference){ marked(a) ? plain(a) : NULL, marked(b) ? plain(b) : NULL, true };
		i += marked(a);
		j += marked(b);
	}
}

static const char *const sides[] = { "client", "server", "both" };

static bool is_absent(const struct seen *x)
{
	for (size_t i = 0; x && i < x->lines; i++) {
		if (strstr(x->line[i], " absent: "))
			return true;
	}
	return false;
}

static bool has_failed(const struct seen *x)
{
	for (size_t i = 0; x && i < x->lines; i++) {
		if (strstr(x->line[i], " failed: ") || !strcmp(x->line[i], "both hung"))
			return true;
	}
	return false;
}

static enum verdict judge(const struct row *row, const struct seen *direct, const struct seen *weft)
{
	enum verdict verdict = EQUAL;

	if (!direct || !weft)
		return MISSING;
	if (is_absent(direct) && is_absent(weft))
		return ABSENT;
	if (has_failed(direct)) /* nothing to be equal to */
		return DIFFERS;
	for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++) {
		struct difference d = differ(sides[i], direct, weft);

		if (!d.direct && !d.other)
			continue;
		if (d.nature && row->nature)
			verdict = ACCEPTED;
		else if ((row->flags & ROW_ENDS) && d.other && !strncmp(d.other, "ended: ", 7))
			verdict = ENDED;
		else
			return DIFFERS;
	}
	return verdict;
}

/* ------------------------------------------------------------------ showing */

static void show_difference(const struct seen *direct, const struct seen *weft, const char *indent)
{
	for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++) {
		struct difference d = differ(sides[i], direct, weft);

		if (d.direct || d.other)
			printf("%s%s: direct %s; spliced %s\n", indent, sides[i], d.direct ?: "(nothing)",
			       d.other ?: "(nothing)");
	}
}

static void show_row(const struct row *row, const struct seen *direct, const struct seen *weft,
		     const struct seen *always, bool verbose)
{
	enum verdict v = judge(row, direct, weft);
	enum verdict forced = always ? judge(row, direct, always) : MISSING;

	printf("%-4s %-26s %-19s %-3s %-16s %s\n", row->number, row->name, verdict_name[v],
	       !weft ? "" : strcmp(weft->path, "splice") ? "no" : "yes", weft ? weft->reason : "",
	       always ? verdict_name[forced] : "");
	if (!verbose && v != DIFFERS)
		return;
	if (v == DIFFERS || v == ACCEPTED)
		show_difference(direct, weft, "\t");
	for (size_t i = 0; verbose && i < direct->lines; i++)
		printf("\tdirect  %s\n", direct->line[i]);
	for (size_t i = 0; verbose && weft && i < weft->lines; i++)
		printf("\tweft    %s\n", weft->line[i]);
	for (size_t i = 0; verbose && always && i < always->lines; i++)
		printf("\talways  %s\n", always->line[i]);
}

static void cell(const char *text)
{
	for (; *text; text++)
		printf(*text == '|' ? "\\|" : "%c", *text);
}

/* Both sides' first differing lines of one run; `weft` false: of the direct one. */
static void difference_cell(const struct seen *direct, const struct seen *other, bool weft)
{
	bool some = false;

	for (size_t i = 0; i < sizeof(sides) / sizeof(sides[0]); i++) {
		struct difference d = differ(sides[i], direct, other);

		if (!d.direct && !d.other)
			continue;
		printf("%s%s: `", some ? "; " : "", sides[i]);
		cell((weft ? d.other : d.direct) ?: "nothing");
		printf("`");
		some = true;
	}
}

static void document_row(const struct row *row, const struct seen *direct, const struct seen *weft,
			 const struct seen *always)
{
	enum verdict v = judge(row, direct, weft), forced = always ? judge(row, direct, always) : MISSING;

	printf("| %s | `%s`: ", row->number, row->name);
	cell(row->text);
	if (v == ABSENT) {
		printf(" | not in this kernel | | | |\n");
		return;
	}
	printf(" | ");
	if (forced == DIFFERS || forced == ACCEPTED || forced == ENDED)
		difference_cell(direct, always, false);
	printf(" | ");
	if (forced == EQUAL)
		printf("equal");
	else if (forced == MISSING)
		printf("-");
	else
		difference_cell(direct, always, true);
	printf(" | %s | %s | ", weft && !strcmp(weft->path, "splice") ? "yes" : "no", weft ? weft->reason : "-");
	printf("%s%s%s |\n", verdict_name[v], v == ACCEPTED ? ": " : "", v == ACCEPTED ? row->nature : "");
}

static const char *heading =
	"| row | what the programs do | direct | spliced by force | eligible | reason | through weft as shipped |\n"
	"|---|---|---|---|---|---|---|\n";

int compare(const char *direct, const char *weft, const char *always, bool markdown, bool verbose)
{
	struct results d = load(direct), w = load(weft), a = always ? load(always) : (struct results){};
	int count[MISSING + 1] = {};

	if (markdown)
		fputs(heading, stdout);
	else
		printf("%-4s %-26s %-19s %-3s %-16s %s\n", "ROW", "NAME", "THROUGH WEFT", "SPLICED", "REASON",
		       always ? "BY FORCE" : "");
	for (size_t i = 0; row_at(i); i++) {
		const struct row *row = row_at(i);
		const struct seen *x = find(&d, row), *y = find(&w, row), *z = find(&a, row);

		if (!x && !y)
			continue;
		count[judge(row, x, y)]++;
		if (markdown)
			document_row(row, x, y, z);
		else
			show_row(row, x, y, z, verbose);
	}
	printf(markdown ? "\n" : "");
	printf("%d rows: %d equal, %d equal until weft ended the connection, %d differ by nature, %d not in this "
	       "kernel, %d differ%s\n",
	       count[EQUAL] + count[ENDED] + count[ACCEPTED] + count[ABSENT] + count[DIFFERS] + count[MISSING],
	       count[EQUAL], count[ENDED], count[ACCEPTED], count[ABSENT], count[DIFFERS],
	       count[MISSING] ? ", some were not played" : "");
	return count[DIFFERS] + count[MISSING];
}
