/* SPDX-License-Identifier: Apache-2.0 */
/* Files of each identity: read, replaced, spoiled; through certs too, which judges what they hold. */
#include "certfiles.h"

static void put_roots(struct fixture *f)
{
	char *text = x509_text(&f->root.cert, 1);

	dir_put(&f->dir, "roots.pem", text, 0644);
	free(text);
}

static void put_pair(struct fixture *f, const char *name, const char *uri, mode_t mode)
{
	struct ca_pair leaf = pki_leaf(&f->root, uri, "serverAuth,clientAuth", NOON - HOUR, NOON + DAY);
	char *chain = x509_text(&leaf.cert, 1), *key = x509_key_text(leaf.key), file[64];

	snprintf(file, sizeof(file), "%s.pem", name);
	dir_put(&f->dir, file, chain, 0644);
	snprintf(file, sizeof(file), "%s.key", name);
	dir_put(&f->dir, file, key, mode);
	free(chain);
	x509_wipe(key);
	pki_free(&leaf);
}

static void begin_pem(struct fixture *f)
{
	begin(f);
	f->root = pki_root("root");
}

static void open_pem(struct fixture *f)
{
	read_by(f, pem_source(f->loop, &f->dir.folder));
}

static void fails(struct fixture *f, const char *spiffe, const char *expected)
{
	struct issued i = {0};

	f->source->issue(f->source, spiffe, &i, done);
	if (i.cert || !strstr(i.error, expected))
		fail_msg("\"%s\" does not hold \"%s\"", i.error, expected);
}

static void pairs_are_read(void **state)
{
	struct fixture f;
	struct issued i = {0};
	char *text;

	begin_pem(&f);
	put_roots(&f);
	put_pair(&f, "shop.web", "URI:" WEB, 0600);
	put_pair(&f, "shop.web.two", "URI:spiffe://cluster.local/ns/shop/sa/web.two", 0600);
	open_pem(&f);
	assert_null(f.source->problem);
	f.source->issue(f.source, WEB, &i, done);
	text = dir_read(&f.dir, "shop.web.pem");
	assert_string_equal(i.cert->chain, text);
	free(text);
	cert_free(i.cert);
	f.source->issue(f.source, "spiffe://cluster.local/ns/shop/sa/web.two", &i, done);
	text = dir_read(&f.dir, "shop.web.two.key");
	assert_string_equal(i.cert->key, text);
	free(text);
	cert_free(i.cert);
	text = f.source->roots(f.source);
	assert_non_null(text);
	free(text);
	assert_null(f.source->crl(f.source));
	end(&f);
}

static void what_cannot_be_read_is_named(void **state)
{
	struct fixture f;

	begin_pem(&f);
	open_pem(&f);
	assert_non_null(strstr(f.source->problem, "roots.pem is missing in /tmp/weft-certs-"));
	assert_null(f.source->roots(f.source));
	fails(&f, WEB, "shop.web.pem is missing in /tmp/weft-certs-");
	put_pair(&f, "shop.web", "URI:" WEB, 0640);
	fails(&f, WEB, "shop.web.key can be read by others");
	assert_int_equal(unlinkat(f.dir.fd, "shop.web.key", 0), 0);
	fails(&f, WEB, "shop.web.key is missing");
	fails(&f, "spiffe://cluster.local/ns/../sa/x", "no SPIFFE identity");
	f.dir.refuse = -EACCES;
	f.dir.folder.problem = "the folder is not root's";
	fails(&f, WEB, "shop.web.pem cannot be opened: the folder is not root's");
	end(&f);
}

static void one_question_at_a_time(void **state)
{
	struct fixture f;
	struct issued web = {0}, db = {0};

	begin_pem(&f);
	put_roots(&f);
	put_pair(&f, "shop.web", "URI:" WEB, 0600);
	f.dir.hold = true;
	open_pem(&f);
	f.source->issue(f.source, WEB, &web, done);
	f.source->issue(f.source, DB, &db, done);
	settle(&f);
	assert_int_equal(f.dir.opens, 1);
	dir_answer(&f.dir); /* roots; and again, because something changed */
	dir_answer(&f.dir);
	assert_int_equal(web.answers, 0);
	dir_answer(&f.dir);
	assert_int_equal(web.answers, 1);
	assert_non_null(web.cert);
	dir_answer(&f.dir);
	assert_int_equal(db.answers, 1);
	assert_null(db.cert);
	assert_false(f.dir.due);
	cert_free(web.cert);
	/* closed with questions open */
	f.source->issue(f.source, WEB, &web, done);
	f.source->issue(f.source, DB, &db, done);
	f.source->close(f.source);
	f.source = NULL;
	dir_answer(&f.dir);
	assert_int_equal(web.answers + db.answers, 2);
	end(&f);
}

static void changes_ask_again(void **state)
{
	struct fixture f;
	uint64_t leaves;
	char *crl;

	begin_pem(&f);
	put_roots(&f);
	open_pem(&f);
	leaves = f.source->leaves;
	crl = pki_crl(&f.root, NULL, 0, NOON - HOUR, NOON + HOUR);
	dir_put(&f.dir, "crl.pem", crl, 0644);
	settle(&f);
	assert_int_equal(f.changes, 1);
	assert_true(f.source->leaves > leaves);
	free(crl);
	crl = f.source->crl(f.source);
	assert_non_null(strstr(crl, "BEGIN X509 CRL"));
	free(crl);
	/* what cannot be read closes; roots stay */
	assert_int_equal(unlinkat(f.dir.fd, "crl.pem", 0), 0);
	assert_int_equal(mkdirat(f.dir.fd, "crl.pem", 0700), 0);
	assert_int_equal(unlinkat(f.dir.fd, "roots.pem", 0), 0);
	settle(&f);
	crl = f.source->crl(f.source);
	assert_string_equal(crl, "");
	free(crl);
	crl = f.source->roots(f.source);
	assert_non_null(crl);
	free(crl);
	assert_non_null(strstr(f.source->problem, "roots.pem is missing"));
	end(&f);
}

/* Without the file nothing is revoked, but a folder that has gone is no such wish. */
static void crl_that_goes_with_the_folder(void **state)
{
	struct fixture f;
	char *crl, *read;

	begin_pem(&f);
	put_roots(&f);
	crl = pki_crl(&f.root, NULL, 0, NOON - HOUR, NOON + HOUR);
	dir_put(&f.dir, "crl.pem", crl, 0644);
	open_pem(&f);
	assert_int_equal(unlinkat(f.dir.fd, "crl.pem", 0) | unlinkat(f.dir.fd, "roots.pem", 0), 0);
	settle(&f);
	read = f.source->crl(f.source);
	assert_non_null(read);
	assert_string_equal(read, crl);
	free(read);
	put_roots(&f);
	settle(&f);
	assert_null(f.source->crl(f.source));
	free(crl);
	end(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pairs_are_read),
		cmocka_unit_test(what_cannot_be_read_is_named),
		cmocka_unit_test(one_question_at_a_time),
		cmocka_unit_test(changes_ask_again),
		cmocka_unit_test(crl_that_goes_with_the_folder),
	};

	log_open("test_pem", false, LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
