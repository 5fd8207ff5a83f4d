/* SPDX-License-Identifier: Apache-2.0 */
/* Which kernels carry the fix that no test can see; why a load failed, out of all that is said of it. */
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

/* What libbpf 1.1 says of a program that the verifier refuses, in this order. */
static void refused_by_the_verifier(void **state)
{
	static const char *const said[] = {
		"libbpf: prog 'weft_enter': BPF program load failed: Invalid argument\n",
		"libbpf: prog 'weft_enter': -- BEGIN PROG LOAD LOG --\n"
		"; if (bpf_skb_load_bytes(skb))\n0: R1=ctx()\n\ncannot update sockmap in this context\n"
		"processed 12 insns (limit 1000000) max_states_per_insn 0\n-- END PROG LOAD LOG --\n",
		"libbpf: prog 'weft_enter': failed to load: -22\n",
		"libbpf: failed to load object 'weft_bpf'\n",
	};
	char words[160] = "", shortened[16] = "";

	probe_hear(said[0], words, sizeof(words));
	assert_string_equal(words, "libbpf: prog 'weft_enter': BPF program load failed: Invalid argument");
	for (size_t i = 1; i < array_size(said); i++)
		probe_hear(said[i], words, sizeof(words));
	assert_string_equal(words, "cannot update sockmap in this context");
	probe_hear(said[1], shortened, sizeof(shortened));
	assert_string_equal(shortened, "cannot update s");
}

static void refused_without_a_log(void **state)
{
	char words[160] = "";

	probe_hear("\n", words, sizeof(words));
	assert_string_equal(words, "");
	probe_hear("libbpf: map 'conns': failed to create: Operation not permitted(-1)\n", words, sizeof(words));
	probe_hear("libbpf: prog 'a': -- BEGIN PROG LOAD LOG --\n-- END PROG LOAD LOG --\n", words, sizeof(words));
	probe_hear("libbpf: failed to load object 'weft_bpf'\n", words, sizeof(words));
	assert_string_equal(words, "libbpf: map 'conns': failed to create: Operation not permitted(-1)");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(versions), cmocka_unit_test(refused_by_the_verifier),
					   cmocka_unit_test(refused_without_a_log)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
