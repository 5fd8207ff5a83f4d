/* SPDX-License-Identifier: Apache-2.0 */
/* SPIFFE URIs: what is one, and what looks like one. Inputs end at an unreadable page. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "certs.h"

static char *page; /* the last byte before a page that cannot be read is page[-1] */

static int setup(void **state)
{
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	char *p = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	assert_true(p != MAP_FAILED);
	assert_int_equal(mprotect(p + size, size, PROT_NONE), 0);
	page = p + size;
	return 0;
}

static int parse(const char *s, struct spiffe *ret)
{
	size_t len = strlen(s) + 1;

	return spiffe_parse(memcpy(page - len, s, len), ret);
}

static void takes_five_parts(void **state)
{
	struct spiffe s;

	assert_int_equal(parse("spiffe://cluster.local/ns/shop/sa/web", &s), 0);
	assert_string_equal(s.trust_domain, "cluster.local");
	assert_string_equal(s.namespace, "shop");
	assert_string_equal(s.service_account, "web");
	assert_int_equal(parse("spiffe://a/ns/b/sa/c", &s), 0);
	assert_int_equal(parse("spiffe://a_b-c.9/ns/B.x_y-1/sa/...c", &s), 0);
	assert_string_equal(s.service_account, "...c");
}

static void refuses_what_is_none(void **state)
{
	static const char *const bad[] = {
		"",
		"spiffe",
		"spiffe://",
		"spiffe:///ns/a/sa/b",
		"spiffe://td",
		"spiffe://td/",
		"spiffe://td/ns",
		"spiffe://td/ns/a",
		"spiffe://td/ns/a/sa",
		"spiffe://td/ns/a/sa/",
		"spiffe://td/ns//sa/b",
		"spiffe://td/ns/a/sa/b/",
		"spiffe://td/ns/a/sa/b/c",
		"spiffe://td//ns/a/sa/b",
		"spiffe://td/sa/a/ns/b",
		"spiffe://td/NS/a/sa/b",
		"SPIFFE://td/ns/a/sa/b",
		"Spiffe://td/ns/a/sa/b",
		"spiffe:/td/ns/a/sa/b",
		"https://td/ns/a/sa/b",
		" spiffe://td/ns/a/sa/b",
		"spiffe://td/ns/a/sa/b ",
		"spiffe://td/ns/a/sa/b\n",
		"spiffe://Td/ns/a/sa/b",
		"spiffe://user@td/ns/a/sa/b",
		"spiffe://td:443/ns/a/sa/b",
		"spiffe://td/ns/a/sa/b?q",
		"spiffe://td/ns/a/sa/b#f",
		"spiffe://td/ns/a/sa/%62",
		"spiffe://t%64/ns/a/sa/b",
		"spiffe://td/ns/./sa/b",
		"spiffe://td/ns/../sa/b",
		"spiffe://td/ns/a/sa/..",
		"spiffe://../ns/a/sa/b",
		"spiffe://td/ns/a/sa/\xc3\xa4",
		"spiffe://td/ns/a b/sa/c",
	};
	struct spiffe s;

	for (size_t i = 0; i < array_size(bad); i++)
		if (parse(bad[i], &s) != -EINVAL)
			fail_msg("\"%s\" was taken", bad[i]);
}

static void parts_have_lengths(void **state)
{
	char uri[1024], part[512];
	struct spiffe s;

	for (size_t len = 1; len < 300; len++) {
		memset(part, 'x', len);
		part[len] = '\0';
		snprintf(uri, sizeof(uri), "spiffe://%s/ns/a/sa/b", part);
		assert_int_equal(parse(uri, &s), len <= 255 ? 0 : -EINVAL);
		snprintf(uri, sizeof(uri), "spiffe://td/ns/%s/sa/b", part);
		assert_int_equal(parse(uri, &s), len <= 63 ? 0 : -EINVAL);
		snprintf(uri, sizeof(uri), "spiffe://td/ns/a/sa/%s", part);
		assert_int_equal(parse(uri, &s), len <= 253 ? 0 : -EINVAL);
	}
	/* each part fits, the whole does not */
	memset(part, 'x', 255);
	part[255] = '\0';
	snprintf(uri, sizeof(uri), "spiffe://%s/ns/a/sa/%.250s", part, part);
	assert_true(strlen(uri) > CERTS_ID);
	assert_int_equal(parse(uri, &s), -EINVAL);
}

static void text_and_back(void **state)
{
	struct spiffe s;
	char uri[CERTS_ID];

	assert_true(spiffe_text("cluster.local", "shop", "web", uri));
	assert_string_equal(uri, "spiffe://cluster.local/ns/shop/sa/web");
	assert_int_equal(parse(uri, &s), 0);
	assert_false(spiffe_text("cluster.local", "shop/sa/x", "web", uri));
	assert_string_equal(uri, "");
	assert_false(spiffe_text("", "shop", "web", uri));
	assert_false(spiffe_text("td", "shop", "", uri));
}

static void trust_domains(void **state)
{
	assert_true(spiffe_trust_domain("cluster.local"));
	assert_true(spiffe_trust_domain("a"));
	assert_false(spiffe_trust_domain(""));
	assert_false(spiffe_trust_domain("Cluster.local"));
	assert_false(spiffe_trust_domain("a/b"));
	assert_false(spiffe_trust_domain("a:1"));
	assert_false(spiffe_trust_domain(".."));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_five_parts),
		cmocka_unit_test(refuses_what_is_none),
		cmocka_unit_test(parts_have_lengths),
		cmocka_unit_test(text_and_back),
		cmocka_unit_test(trust_domains),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
