/* SPDX-License-Identifier: Apache-2.0 */
/* Paths and hosts: what is taken is its own form, holds nothing ambiguous, and is never longer than what came. */
#include <stdlib.h>
#include <string.h>

#include "http.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must(bool law)
{
	if (!law)
		abort();
}

static void one_path(struct http_text in, bool merge)
{
	char *to = mem_alloc(in.len), *again = mem_alloc(in.len);
	struct http_text path, query, path2, query2;
	const char *why;

	if (http_path_normalise(in, merge, to, &path, &query, &why)) {
		size_t all = path.len + (query.at ? 1 + query.len : 0), i;

		must(!why && path.len && all <= in.len && path.at == to);
		must(path.at[0] == '/' || path.len == 1);
		for (i = 0; i < all; i++)
			must(to[i] > ' ' && to[i] < 0x7f && to[i] != '#');
		must(!memmem(to, path.len, "/../", 4) && !memmem(to, path.len, "/./", 3));
		must(!memmem(to, path.len, "%2F", 3) && !memmem(to, path.len, "%5C", 3) && !memchr(to, '\\', path.len));
		must(!merge || !memmem(to, path.len, "//", 2));
		must(http_path_normalise((struct http_text){to, all}, merge, again, &path2, &query2, &why));
		must(http_text_equal(path, path2) && http_text_equal(query, query2) && !query.at == !query2.at);
	} else {
		must(why && *why);
	}
	free(to);
	free(again);
}

static void one_host(struct http_text in)
{
	char to[256], again[256];
	struct http_text host, host2;
	uint16_t port, port2;

	if (!http_host(in, to, &host, &port))
		return;
	must(host.len && host.len <= 255 && host.len <= in.len);
	must(http_host(host, again, &host2, &port2) && http_text_equal(host, host2) && !port2);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	char *in = mem_alloc(len);

	if (len)
		memcpy(in, data, len);
	one_path((struct http_text){in, len}, false);
	one_path((struct http_text){in, len}, true);
	one_host((struct http_text){in, len});
	free(in);
	return 0;
}
