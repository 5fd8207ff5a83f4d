// SPDX-License-Identifier: Apache-2.0
/*
 * completion.c: completion scripts for three shells, out of the command table. The files in completion/ are what
 * this prints; a unit test compares them.
 */
#include "ctl.h"

#include <string.h>

/* What to offer for a value. `files`: what compgen of bash is to look for beside the words. */
static const struct {
	const char *bash, *zsh, *fish, *files;
} values[] = {
	[HINT_NONE] = {"", " ", ""},
	[HINT_FLAG] = {"", " ", ""},
	[HINT_NETNS] = {"$(ls /run/netns 2>/dev/null)", "_weftctl_netns",
			"(ls /run/netns 2>/dev/null; __fish_complete_path)", "-f"},
	[HINT_POD] = {"$(weftctl $instance names --of pods 2>/dev/null)", "_weftctl_pods",
		      "(weftctl names --of pods 2>/dev/null)"},
	[HINT_SERVICE] = {"$(weftctl $instance names --of services 2>/dev/null)", "_weftctl_services",
			  "(weftctl names --of services 2>/dev/null)"},
	[HINT_SHELL] = {"bash zsh fish", "(bash zsh fish)", "bash zsh fish"},
	[HINT_FORMAT] = {"table json", "(table json)", "table json"},
	[HINT_FOLDER] = {"", "_files -/", "(__fish_complete_directories)", "-d"},
	[HINT_COMMAND] = {"$(weftctl names --of commands)", "_weftctl_commands", "(weftctl names --of commands)"},
};

/* ------------------------------------------------------------------ bash */

static void bash_words(FILE *out, const struct option *o)
{
	for (; o && o->name; o++)
		fprintf(out, "%s ", o->name);
}

static void bash_option_values(FILE *out, const struct option *o)
{
	for (; o && o->name; o++)
		if (o->value)
			fprintf(out, "\t%s) words=\"%s\"%s%s; only=1 ;;\n", o->name, values[o->hint].bash,
				values[o->hint].files ? " files=" : "",
				values[o->hint].files ? values[o->hint].files : "");
}

/* First words of two-word commands, each once. */
static bool first_of_pair(const struct command *k, size_t *ret_len)
{
	const char *space = strchr(k->name, ' ');

	if (!space)
		return false;
	*ret_len = (size_t)(space - k->name);
	for (const struct command *p = commands; p < k; p++)
		if (!strncmp(p->name, k->name, *ret_len + 1))
			return false;
	return true;
}

/* What a first word is for: its second words. */
static void seconds(FILE *out, const struct command *k, size_t len)
{
	const char *between = "";

	for (const struct command *p = k; p->name; p++)
		if (!strncmp(p->name, k->name, len + 1)) {
			fprintf(out, "%s%s", between, p->name + len + 1);
			between = ", ";
		}
}

static void bash(FILE *out)
{
	const struct command *k;
	size_t len;

	fputs("# SPDX-License-Identifier: Apache-2.0\n# made by `weftctl completion bash`\n_weftctl()\n{\n"
	      "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	      "\tlocal i word command= instance= words= files= only= skip=\n"
	      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	      "\t\tword=${COMP_WORDS[i]}\n"
	      "\t\tif [[ $skip ]]; then\n"
	      "\t\t\t[[ $skip == --instance ]] && instance=\"--instance $word\"\n"
	      "\t\t\tskip=\n"
	      "\t\t\tcontinue\n"
	      "\t\tfi\n"
	      "\t\tcase $word in\n"
	      "\t\t-o|",
	      out);
	for (const struct option *o = command_globals; o->name; o++)
		if (o->value && !text_equal(o->name, "--watch"))
			fprintf(out, "%s|", o->name);
	for (k = commands; k->name; k++)
		for (const struct option *o = k->options; o && o->name; o++)
			if (o->value)
				fprintf(out, "%s|", o->name);
	fputs("=) skip=$word ;;\n\t\t-*) ;;\n\t\t*) [[ $command == *' '* ]] || command=${command:+$command "
	      "}$word ;;\n"
	      "\t\tesac\n\tdone\n\tcase $command in\n\t'') words=\"",
	      out);
	for (k = commands; k->name; k++)
		if (!k->hidden && !strchr(k->name, ' '))
			fprintf(out, "%s ", k->name);
		else if (first_of_pair(k, &len))
			fprintf(out, "%.*s ", (int)len, k->name);
	fputs("\" ;;\n", out);
	for (k = commands; k->name; k++) {
		if (!first_of_pair(k, &len))
			continue;
		fprintf(out, "\t%.*s) words=\"", (int)len, k->name);
		for (const struct command *p = k; p->name; p++)
			if (!strncmp(p->name, k->name, len + 1))
				fprintf(out, "%s ", p->name + len + 1);
		fputs("\" ;;\n", out);
	}
	for (k = commands; k->name; k++) {
		if (k->hidden)
			continue;
		fprintf(out, "\t'%s'|'%s '*) words=\"%s%s", k->name, k->name, values[k->hint].bash,
			k->hint ? " " : "");
		bash_words(out, k->options);
		fputs("\" ;;\n", out);
	}
	fputs("\tesac\n\tcase $prev in\n", out);
	fprintf(out, "\t-o) words=\"%s\"; only=1 ;;\n", values[HINT_FORMAT].bash);
	bash_option_values(out, command_globals);
	for (k = commands; k->name; k++)
		if (!k->hidden)
			bash_option_values(out, k->options);
	fputs("\tesac\n\t[[ $only || $cur != -* ]] || words+=\" ", out);
	bash_words(out, command_globals);
	/* Not `compgen -W`, which expands its words: a file named $(...) would be run. */
	fputs("\"\n\tCOMPREPLY=()\n"
	      "\tlocal IFS=$' \\t\\n' list=()\n"
	      "\tread -r -d '' -a list <<<\"$words\"\n"
	      "\tfor word in \"${list[@]}\"; do\n"
	      "\t\t[[ $word != \"$cur\"* ]] || COMPREPLY+=(\"$word\")\n"
	      "\tdone\n"
	      "\t[[ $files ]] || return 0\n"
	      "\tcompopt -o filenames 2>/dev/null # names are quoted\n"
	      "\twhile IFS= read -r word; do\n"
	      "\t\tCOMPREPLY+=(\"$word\")\n"
	      "\tdone < <(compgen \"$files\" -- \"$cur\")\n"
	      "}\ncomplete -F _weftctl weftctl\n",
	      out);
}

/* ------------------------------------------------------------------ zsh */

/* Text inside an _arguments or _describe word: brackets, colons and quotes mean something there. */
static void zsh_text(FILE *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\'')
			fputs("'\\''", out);
		else if (strchr("[]:\\", *s))
			fprintf(out, "\\%c", *s);
		else
			fputc(*s, out);
	}
}

static void zsh_option(FILE *out, const struct option *o, const char *name)
{
	fprintf(out, " \\\n\t\t'%s%s[", o->repeats ? "*" : "", name);
	zsh_text(out, o->about);
	fputc(']', out);
	if (o->value) {
		fputs(text_equal(o->name, "--watch") ? "::" : ":", out);
		zsh_text(out, o->value);
		fprintf(out, ":%s", values[o->hint].zsh);
	}
	fputc('\'', out);
}

static void zsh_options(FILE *out, const struct option *o)
{
	for (; o && o->name; o++) {
		zsh_option(out, o, o->name);
		if (text_equal(o->name, "--output"))
			zsh_option(out, o, "-o");
	}
}

static void zsh_arguments(FILE *out, const struct command *k)
{
	fputs("_arguments", out);
	zsh_options(out, k->options);
	zsh_options(out, command_globals);
	if (k->most)
		fprintf(out, " \\\n\t\t'*:argument:%s'", values[k->hint].zsh);
	fputs(" ;;\n", out);
}

static void zsh(FILE *out)
{
	const struct command *k;
	size_t len;

	fputs("#compdef weftctl\n# SPDX-License-Identifier: Apache-2.0\n# made by `weftctl completion zsh`\n"
	      "_weftctl_pods() { compadd -- ${(f)\"$(weftctl names --of pods 2>/dev/null)\"} }\n"
	      "_weftctl_services() { compadd -- ${(f)\"$(weftctl names --of services 2>/dev/null)\"} }\n"
	      "_weftctl_commands() { compadd -- ${(f)\"$(weftctl names --of commands)\"} }\n"
	      "_weftctl_netns() { compadd -- /run/netns/*(N:t); _files }\n"
	      "_weftctl()\n{\n\tlocal curcontext=$curcontext state line\n\tlocal -a list\n\t_arguments -C",
	      out);
	zsh_options(out, command_globals);
	fputs(" \\\n\t\t'1:command:->command' '*::word:->word'\n"
	      "\tif [[ $state == command ]]; then\n\t\tlist=(\n",
	      out);
	for (k = commands; k->name; k++) {
		if (k->hidden)
			continue;
		if (strchr(k->name, ' ')) {
			if (first_of_pair(k, &len)) {
				fprintf(out, "\t\t\t'%.*s:", (int)len, k->name);
				seconds(out, k, len);
				fputs("'\n", out);
			}
			continue;
		}
		fprintf(out, "\t\t\t'%s:", k->name);
		zsh_text(out, k->about);
		fputs("'\n", out);
	}
	fputs("\t\t)\n\t\t_describe command list\n\t\treturn\n\tfi\n\tcase $words[1] in\n", out);
	for (k = commands; k->name; k++) {
		if (!k->hidden && !strchr(k->name, ' ')) {
			fprintf(out, "\t%s) ", k->name);
			zsh_arguments(out, k);
		} else if (first_of_pair(k, &len)) {
			fprintf(out, "\t%.*s)\n\t\tif (( CURRENT == 2 )); then\n\t\t\tcompadd --", (int)len,
				k->name);
			for (const struct command *p = k; p->name; p++)
				if (!strncmp(p->name, k->name, len + 1))
					fprintf(out, " %s", p->name + len + 1);
			fputs("\n\t\t\treturn\n\t\tfi\n\t\tshift words\n\t\t(( CURRENT-- ))\n\t\tcase "
			      "$words[1] in\n",
			      out);
			for (const struct command *p = k; p->name; p++) {
				if (strncmp(p->name, k->name, len + 1))
					continue;
				fprintf(out, "\t\t%s) ", p->name + len + 1);
				zsh_arguments(out, p);
			}
			fputs("\t\tesac ;;\n", out);
		}
	}
	fputs("\tesac\n}\n_weftctl \"$@\"\n", out);
}

/* ------------------------------------------------------------------ fish */

static void fish_text(FILE *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\')
			fputc('\\', out);
		fputc(*s, out);
	}
}

static void fish_options(FILE *out, const char *condition, const struct option *o)
{
	for (; o && o->name; o++) {
		fprintf(out, "complete -c weftctl%s -l %s", condition, o->name + 2);
		if (text_equal(o->name, "--output"))
			fputs(" -s o", out);
		if (o->value && !text_equal(o->name, "--watch"))
			fputs(" -x", out);
		if (*values[o->hint].fish)
			fprintf(out, " -a '%s'", values[o->hint].fish);
		fputs(" -d '", out);
		fish_text(out, o->about);
		fputs("'\n", out);
	}
}

static void fish(FILE *out)
{
	char condition[160];
	size_t len;

	fputs("# SPDX-License-Identifier: Apache-2.0\n# made by `weftctl completion fish`\ncomplete -c "
	      "weftctl -f\n",
	      out);
	fish_options(out, "", command_globals);
	for (const struct command *k = commands; k->name; k++) {
		const char *space = strchr(k->name, ' ');

		if (k->hidden)
			continue;
		if (space) {
			len = (size_t)(space - k->name);
			if (first_of_pair(k, &len)) {
				fprintf(out, "complete -c weftctl -n __fish_use_subcommand -a %.*s -d '", (int)len,
					k->name);
				seconds(out, k, len);
				fputs("'\n", out);
			}
			fprintf(out,
				"complete -c weftctl -n '__fish_seen_subcommand_from %.*s; and not "
				"__fish_seen_subcommand_from %s' -a %s -d '",
				(int)len, k->name, space + 1, space + 1);
			snprintf(condition, sizeof(condition),
				 " -n '__fish_seen_subcommand_from %.*s; and __fish_seen_subcommand_from %s'",
				 (int)len, k->name, space + 1);
		} else {
			fprintf(out, "complete -c weftctl -n __fish_use_subcommand -a %s -d '", k->name);
			snprintf(condition, sizeof(condition), " -n '__fish_seen_subcommand_from %s'",
				 k->name);
		}
		fish_text(out, k->about);
		fputs("'\n", out);
		if (*values[k->hint].fish)
			fprintf(out, "complete -c weftctl%s -a '%s'\n", condition, values[k->hint].fish);
		fish_options(out, condition, k->options);
	}
}

int completion_run(const struct ctl *c, const struct args *a)
{
	static const struct {
		const char *shell;
		void (*print)(FILE *out);
	} table[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};

	for (size_t i = 0; i < array_size(table); i++) {
		if (!text_equal(a->word[0], table[i].shell))
			continue;
		table[i].print(c->out);
		return CTL_DONE;
	}
	ctl_error("completion %s: bash, zsh or fish", a->word[0]);
	return CTL_USAGE;
}
