/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reader.h: the programs that see who reads a TCP socket by splice(2) (proc/reader.c, bpf/reader.bpf.c).
 *
 *	/sys/fs/bpf/weft-readers-VERSION/members, readers, misled, caught	the maps, see abi.h
 *	                                 weft_spliced ...	the links: fentry, or one watchpoint per CPU and pointer
 *
 * They serve all instances on the machine, because the hardware has four watchpoints a CPU, and outlive the daemon: as
 * long as a socket may be spliced, its readers are seen.
 */
#ifndef WEFT_READER_H
#define WEFT_READER_H

#include "probe.h"

#define READER_TEXT(number) #number
#define READER_NUMBER(number) READER_TEXT(number)
#define READER_FOLDER "/sys/fs/bpf"
#define READER_NAME "weft-readers-"
#define READER_ROOT READER_FOLDER "/" READER_NAME READER_NUMBER(ABI_VERSION)

struct reader_maps { /* fds, borrowed: of the main object, pinned there */
	int members, readers, misled, caught;
};

/*
 * Attach them, if no other instance has. The row
 * "splice readers" of `p` says how they are seen. `count_fault`: see abi_settings. false: this kernel gives no way,
 * so `auto` must not splice.
 */
bool reader_open(struct probe *p, const struct reader_maps *m, bool count_fault) must_check;

/* For --uninstall: the netns is no pod's any more. */
void reader_forget(uint64_t netns);
/* If no instance is left on the machine: nothing of it stays, nor of what other versions left. 0 or -errno */
int reader_remove(void) must_check;

#endif
