/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content.h: the bytes of one file while it is read (control/content.c).
 *
 * A large file is looked at where the kernel has it (mmap): read(2) takes several times as long as to hash what it
 * copies. The price is that the bytes are not ours: somebody may write them while we look, or shorten the file, which
 * takes them away (SIGBUS, caught in here). So they are only compared; what shall be decoded is copied first.
 */
#ifndef WEFT_CONTENT_H
#define WEFT_CONTENT_H

#include "base.h"

struct content {
	size_t begin, size; /* the first byte behind the mark of UTF-8, if there is one; of the file */
	const char *bytes;  /* of the whole file; not for others to look at */
	bool mapped;
	char *copy; /* of the last part, if mapped */
	size_t room;
};

/* The file has `size` bytes. 0, -EAGAIN if it has another size by now, or what read says. */
int content_open(struct content *ret, int fd, size_t size) must_check;
void content_close(struct content *c);

/*
 * Does the YAML document that starts at `at` have these `len` bytes, by their table_hash, and end there? "No" where
 * that cannot be seen from them and from the marker that follows alone. 1 yes, 0 no, -EIO: it cannot be read.
 */
int content_same(const struct content *c, size_t at, size_t len, uint64_t hash) must_check;
/*
 * The document that starts at `at` (doc_split): *ret_len > 0 bytes at *ret, ours until the next call. 0, or -EIO: it
 * cannot be read (the file is shorter by now, or the disk failed).
 */
int content_document(struct content *c, size_t at, bool json, const char **ret, size_t *ret_len) must_check;

/* The same for parts of a YAML List; all are 1 yes, 0 no, -EIO. Do these bytes stand there? */
int content_equal(const struct content *c, size_t at, size_t len, uint64_t hash) must_check;
/* Does a line start here, and in it an item (doc_item_starts), or the next document, or does the file end? */
int content_item_starts(const struct content *c, size_t at, size_t dash) must_check;
int content_document_ends(const struct content *c, size_t at) must_check;
int content_item(const struct content *c, size_t at, size_t dash, size_t *ret_len) must_check; /* doc_item */
/* The bytes themselves, ours until the next call: 0 or -EIO. */
int content_copy(struct content *c, size_t at, size_t len, const char **ret) must_check;

#endif
