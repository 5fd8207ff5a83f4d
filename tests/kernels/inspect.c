/* SPDX-License-Identifier: Apache-2.0 */
/* inspect.c: what the kernel holds, by bpf(2) alone; see guest.h. */
#include "guest.h"

#include <errno.h>
#include <linux/bpf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OURS "weft_"

static long bpf(int what, union bpf_attr *attr)
{
	return syscall(SYS_bpf, what, attr, sizeof(*attr));
}

/*
 * Every program of weft that is loaded now, whoever holds it: "NAME VERIFIED-INSTRUCTIONS JITED-BYTES". The first
 * figure is what the verifier walked through, the one that has a limit (a million) and grows unseen (5.16+).
 */
static int programs(void)
{
	union bpf_attr next = {0};

	while (!bpf(BPF_PROG_GET_NEXT_ID, &next)) {
		union bpf_attr open = {.prog_id = next.next_id};
		struct bpf_prog_info info = {0};
		union bpf_attr ask_info = {.info.info_len = sizeof(info), .info.info = (uintptr_t)&info};
		long fd = bpf(BPF_PROG_GET_FD_BY_ID, &open);

		next.start_id = next.next_id;
		if (fd < 0)
			continue; /* it has gone */
		ask_info.info.bpf_fd = (uint32_t)fd;
		if (bpf(BPF_OBJ_GET_INFO_BY_FD, &ask_info))
			die("program %u", next.next_id);
		close((int)fd);
		if (!strncmp(info.name, OURS, strlen(OURS)))
			(void)printf("%.16s %u %u\n", info.name, info.verified_insns, info.jited_prog_len);
	}
	if (errno != ENOENT)
		die("list of programs");
	return 0;
}

static int map_open(const char *path, struct bpf_map_info *info)
{
	union bpf_attr open = {.pathname = (uintptr_t)path};
	union bpf_attr ask_info = {.info.info_len = sizeof(*info), .info.info = (uintptr_t)info};
	int fd = (int)bpf(BPF_OBJ_GET, &open);

	if (fd < 0)
		die("%s", path);
	ask_info.info.bpf_fd = (uint32_t)fd;
	if (bpf(BPF_OBJ_GET_INFO_BY_FD, &ask_info))
		die("%s", path);
	return fd;
}

/* Keys, not values: those of a sockhash cannot be read. */
static int count(const char *path)
{
	struct bpf_map_info info = {0};
	int fd = map_open(path, &info);
	uint8_t *key = calloc(2, info.key_size);
	union bpf_attr next = {.map_fd = (uint32_t)fd, .next_key = (uintptr_t)(key + info.key_size)};
	unsigned n = 0;

	while (!bpf(BPF_MAP_GET_NEXT_KEY, &next)) {
		memcpy(key, key + info.key_size, info.key_size);
		next.key = (uintptr_t)key;
		n++;
	}
	if (errno != ENOENT)
		die("%s", path);
	free(key);
	(void)printf("%u\n", n);
	return 0;
}

int inspect(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "programs"))
		return programs();
	if (argc == 3 && !strcmp(argv[1], "count"))
		return count(argv[2]);
	errno = 0;
	die("usage: inspect programs | count MAP");
}
