/* SPDX-License-Identifier: Apache-2.0 */
/* The embedded CA over a folder of files: made once, read, replaced, spoiled. */
#include "certfiles.h"

static void open_ca(struct fixture *f)
{
	read_by(f, ca_source(f->loop, &f->dir.folder, TD, pki_clock));
}

static struct issued issue(struct fixture *f)
{
	struct issued i = {0};

	f->source->issue(f->source, WEB, &i, done);
	return i;
}

static void assert_problem(struct fixture *f, const char *expected)
{
	if (!f->source->problem || !strstr(f->source->problem, expected))
		fail_msg("problem \"%s\" does not hold \"%s\"",
			 f->source->problem ? f->source->problem : "none", expected);
}

static void made_when_the_folder_is_empty(void **state)
{
	struct fixture f;
	struct issued i;
	char *roots, *file;
	struct stat st;

	begin(&f);
	open_ca(&f);
	assert_null(f.source->problem);
	assert_int_equal(f.dir.makes, 1);
	i = issue(&f);
	assert_non_null(i.cert);
	cert_free(i.cert);
	roots = f.source->roots(f.source);
	file = dir_read(&f.dir, "root-cert.pem");
	assert_string_equal(roots, file);
	assert_null(f.source->crl(f.source));
	assert_int_equal(fstatat(f.dir.fd, "ca-key.pem", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	free(file);

	/* who comes second finds it, and does not make another */
	f.source->close(f.source);
	open_ca(&f);
	assert_int_equal(f.dir.makes, 1);
	file = f.source->roots(f.source);
	assert_string_equal(roots, file);
	free(roots);
	free(file);
	end(&f);
}

static void dir_slow(struct cert_folder *f, const char *const *name, const char *const *text, unsigned count)
{
	dir_open(f, name, count);
}

/* Another node was faster: make() answers with what that one made. */
static void two_at_once(void **state)
{
	struct ca_pair root = pki_root("other");
	struct fixture f;
	char *roots, *text = x509_text(&root.cert, 1);

	begin(&f);
	f.dir.hold = true;
	open_ca(&f);
	f.dir.folder.make = dir_slow;
	dir_answer(&f.dir); /* nothing there: so make() was asked for */
	dir_put_ca(&f.dir, &root.cert, 1, &root, NULL, 0);
	dir_answer(&f.dir);
	assert_null(f.source->problem);
	roots = f.source->roots(f.source);
	assert_string_equal(roots, text);
	free(roots);
	free(text);
	pki_free(&root);
	end(&f);
}

static void folder_that_cannot_be_written(void **state)
{
	struct fixture f;
	struct issued i;

	begin(&f);
	f.dir.hold = true;
	open_ca(&f);
	dir_answer(&f.dir);
	f.dir.refuse = -EROFS;
	dir_answer(&f.dir);
	assert_problem(&f, "root-cert.pem cannot be made: Read-only file system");
	i = issue(&f);
	assert_null(i.cert);
	assert_non_null(strstr(i.error, "Read-only"));
	end(&f);
}

static void half_a_set(void **state)
{
	struct ca_pair root = pki_root("root");
	struct fixture f;

	begin(&f);
	dir_put_ca(&f.dir, &root.cert, 1, &root, NULL, 0);
	assert_int_equal(unlinkat(f.dir.fd, "ca-key.pem", 0), 0);
	open_ca(&f);
	assert_problem(&f, "ca-key.pem is missing: put all of");
	assert_int_equal(f.dir.makes, 0);
	pki_free(&root);
	end(&f);
}

static void key_that_others_can_read(void **state)
{
	static const mode_t modes[] = {0644, 0640, 0604, 0660, 0601};
	struct ca_pair root = pki_root("root");
	struct fixture f;

	for (size_t i = 0; i < array_size(modes); i++) {
		begin(&f);
		dir_put_ca(&f.dir, &root.cert, 1, &root, NULL, 0);
		assert_int_equal(fchmodat(f.dir.fd, "ca-key.pem", modes[i], 0), 0);
		open_ca(&f);
		assert_problem(&f, "chmod 600");
		end(&f);
	}
	pki_free(&root);
}

static void files_of_no_sense(void **state)
{
	struct ca_pair root = pki_root("root");
	char *large = mem_alloc(X509_FILE + 2);
	struct fixture f;

	memset(large, 'x', X509_FILE + 1);
	begin(&f);
	dir_put_ca(&f.dir, &root.cert, 1, &root, NULL, 0);
	dir_put(&f.dir, "root-cert.pem", large, 0600);
	open_ca(&f);
	assert_problem(&f, "root-cert.pem is larger than");
	f.source->close(f.source);
	f.source = NULL;
	assert_int_equal(unlinkat(f.dir.fd, "root-cert.pem", 0), 0);
	assert_int_equal(mkdirat(f.dir.fd, "root-cert.pem", 0700), 0);
	open_ca(&f);
	assert_problem(&f, "root-cert.pem is not a file");
	free(large);
	pki_free(&root);
	end(&f);
}

static void replaced_while_it_runs(void **state)
{
	struct ca_pair root = pki_root("first"), second = pki_root("second");
	X509 *both[] = {root.cert, second.cert};
	struct fixture f;
	uint64_t leaves;
	char *roots, *text;

	begin(&f);
	dir_put_ca(&f.dir, both, 1, &root, NULL, 0);
	open_ca(&f);
	leaves = f.source->leaves;

	/* both roots are believed: nothing that was issued changes */
	text = x509_text(both, 2);
	dir_put(&f.dir, "root-cert.pem", text, 0644);
	settle(&f);
	assert_int_equal(f.changes, 1);
	assert_int_equal(f.source->leaves, leaves);
	roots = f.source->roots(f.source);
	assert_string_equal(roots, text);
	free(roots);
	free(text);

	/* nothing changed */
	settle(&f);
	assert_int_equal(f.changes, 1);

	/* the other one signs */
	dir_put_ca(&f.dir, both, 2, &second, NULL, 0);
	settle(&f);
	assert_int_equal(f.changes, 2);
	assert_true(f.source->leaves > leaves);

	/* spoiled: the last good one goes on */
	dir_put(&f.dir, "ca-key.pem", "gone", 0600);
	settle(&f);
	assert_int_equal(f.changes, 3);
	assert_problem(&f, "the last good CA stays in force");
	struct issued i = issue(&f);
	assert_non_null(i.cert);
	cert_free(i.cert);

	/* and mended */
	dir_put_ca(&f.dir, both, 2, &second, NULL, 0);
	settle(&f);
	assert_null(f.source->problem);
	assert_int_equal(f.changes, 4);
	pki_free(&root);
	pki_free(&second);
	end(&f);
}

static void crl_counts_whatever_is_wrong_with_the_rest(void **state)
{
	struct ca_pair root = pki_root("root");
	struct fixture f;
	char *crl = pki_crl(&root, NULL, 0, NOON - HOUR, NOON + HOUR), *read;

	begin(&f);
	dir_put_ca(&f.dir, &root.cert, 1, &root, NULL, 0);
	open_ca(&f);
	assert_null(f.source->crl(f.source));
	dir_put(&f.dir, "ca-crl.pem", crl, 0644);
	dir_put(&f.dir, "ca-cert.pem", "spoiled", 0644);
	settle(&f);
	assert_problem(&f, "ca-cert.pem holds no certificate");
	read = f.source->crl(f.source);
	assert_string_equal(read, crl);
	free(read);
	assert_int_equal(unlinkat(f.dir.fd, "ca-crl.pem", 0), 0);
	assert_int_equal(mkdirat(f.dir.fd, "ca-crl.pem", 0700), 0);
	settle(&f);
	read = f.source->crl(f.source);
	assert_string_equal(read, ""); /* closes */
	free(read);
	free(crl);
	pki_free(&root);
	end(&f);
}

/* Without the file nothing is revoked, but a folder that has gone, or of which some files have, is no such wish. */
static void crl_that_goes_with_the_folder(void **state)
{
	static const char *const gone[] = {
		"ca-crl.pem", "root-cert.pem", "ca-cert.pem", "ca-key.pem", "cert-chain.pem"};
	struct ca_pair root = pki_root("root");
	char *crl = pki_crl(&root, NULL, 0, NOON - HOUR, NOON + HOUR), *read;
	struct fixture f;

	begin(&f);
	dir_put_ca(&f.dir, &root.cert, 1, &root, NULL, 0);
	dir_put(&f.dir, "ca-crl.pem", crl, 0644);
	open_ca(&f);
	for (int all = 0; all < 2; all++) {
		for (size_t i = 0; i < (all ? array_size(gone) : 2); i++)
			assert_int_equal(unlinkat(f.dir.fd, gone[i], 0), 0);
		settle(&f);
		assert_problem(&f, all ? "are gone" : "root-cert.pem is missing");
		read = f.source->crl(f.source);
		assert_non_null(read);
		assert_string_equal(read, crl);
		free(read);
		dir_put_ca(&f.dir, &root.cert, 1, &root, NULL, 0);
		dir_put(&f.dir, "ca-crl.pem", crl, 0644);
		settle(&f);
		assert_null(f.source->problem);
	}
	assert_int_equal(unlinkat(f.dir.fd, "ca-crl.pem", 0), 0);
	settle(&f);
	assert_null(f.source->crl(f.source));
	free(crl);
	pki_free(&root);
	end(&f);
}

/* A change while an answer is due is not lost, and asks once. */
static void changes_while_it_reads(void **state)
{
	struct ca_pair root = pki_root("first"), second = pki_root("second");
	struct fixture f;
	char *roots, *text = x509_text(&second.cert, 1);

	begin(&f);
	dir_put_ca(&f.dir, &root.cert, 1, &root, NULL, 0);
	f.dir.hold = true;
	open_ca(&f);
	settle(&f);
	settle(&f);
	assert_int_equal(f.dir.opens, 1);
	dir_answer(&f.dir);
	assert_int_equal(f.dir.opens, 2);
	dir_put_ca(&f.dir, &second.cert, 1, &second, NULL, 0);
	dir_answer(&f.dir);
	assert_false(f.dir.due);
	roots = f.source->roots(f.source);
	assert_string_equal(roots, text);
	free(roots);
	free(text);
	pki_free(&root);
	pki_free(&second);
	end(&f);
}

static void closed_while_it_reads(void **state)
{
	struct fixture f;

	begin(&f);
	f.dir.hold = true;
	open_ca(&f);
	f.source->close(f.source);
	f.source = NULL;
	dir_answer(&f.dir);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(made_when_the_folder_is_empty),
		cmocka_unit_test(two_at_once),
		cmocka_unit_test(folder_that_cannot_be_written),
		cmocka_unit_test(half_a_set),
		cmocka_unit_test(key_that_others_can_read),
		cmocka_unit_test(files_of_no_sense),
		cmocka_unit_test(replaced_while_it_runs),
		cmocka_unit_test(crl_counts_whatever_is_wrong_with_the_rest),
		cmocka_unit_test(crl_that_goes_with_the_folder),
		cmocka_unit_test(changes_while_it_reads),
		cmocka_unit_test(closed_while_it_reads),
	};

	log_open("test_ca", false, (enum log_level) - 1); /* what it says is what is tested */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
