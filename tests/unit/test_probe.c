/* SPDX-License-Identifier: Apache-2.0 */
/* Which kernels carry the fix that no test can see. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "probe.h"

static void versions(void **state)
{
	static const struct {
		unsigned version[3];
		bool fixed;
	} table[] = {
		{{5, 10, 262}, false}, {{6, 1, 0}, false},   {{6, 1, 182}, false},  {{6, 1, 183}, true},
		{{6, 1, 192}, true},   {{6, 2, 200}, false}, {{6, 6, 200}, false},  {{6, 12, 103}, false},
		{{6, 12, 104}, true},  {{6, 12, 117}, true}, {{6, 13, 200}, false}, {{6, 18, 15}, false},
		{{6, 18, 43}, false},  {{6, 18, 44}, true},  {{6, 19, 200}, false}, {{7, 0, 200}, false},
		{{7, 1, 200}, false},  {{7, 2, 0}, true},    {{7, 3, 4}, true},	    {{8, 0, 0}, true},
	};

	for (size_t i = 0; i < array_size(table); i++)
		if (probe_has_fixes(table[i].version) != table[i].fixed)
			fail_msg("%u.%u.%u", table[i].version[0], table[i].version[1], table[i].version[2]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(versions)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
