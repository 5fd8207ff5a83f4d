/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tls_parts.h: what io/tls*.c share: records of TLS 1.3 (RFC 8446 section 5), the handshake, one connection.
 */
#ifndef WEFT_TLS_PARTS_H
#define WEFT_TLS_PARTS_H

#include <openssl/ssl.h>

#include "stream.h"

#define TLS_HEADER 5
#define TLS_PLAIN 16384 /* most content of one record */
#define TLS_TAG 16	/* of every suite of TLS 1.3 */
#define TLS_OVERHEAD (TLS_HEADER + 1 + TLS_TAG)
#define TLS_BODY (TLS_PLAIN + 256)     /* most bytes behind a header (5.2) */
#define TLS_SECRET 48		       /* SHA-384 */
#define TLS_RECORDS_PER_KEY (1u << 24) /* RFC 8446 section 5.5: 2^24.5 full records for AES-GCM */

enum tls_type { TLS_CCS = 20,
		TLS_ALERT = 21,
		TLS_HANDSHAKE = 22,
		TLS_DATA = 23 };
enum tls_message { TLS_NEW_SESSION_TICKET = 4,
		   TLS_KEY_UPDATE = 24 };
enum tls_alert {
	TLS_CLOSE_NOTIFY = 0,
	TLS_UNEXPECTED_MESSAGE = 10,
	TLS_BAD_RECORD_MAC = 20,
	TLS_RECORD_OVERFLOW = 22,
	TLS_ACCESS_DENIED = 49,
	TLS_DECODE_ERROR = 50,
	TLS_INTERNAL_ERROR = 80,
	TLS_USER_CANCELED = 90,
};

/* ------------------------------------------------------------------ io/tls_record.c */

/* Keys of one direction. Wiped by tls_keys_free(). Zeroed: none. */
struct tls_keys {
	void *aead; /* EVP_CIPHER_CTX */
	uint64_t sequence;
	uint8_t iv[12];
	uint8_t hash; /* bytes of a secret */
	bool seals;
	uint8_t secret[TLS_SECRET];
};

/* The traffic secret of that suite (number as in RFC 8446 B.4). 0; -EINVAL: no suite that we have, or wrong length. */
int tls_keys_set(struct tls_keys *k, uint16_t suite, const uint8_t *secret, size_t len, bool seals) must_check;
int tls_keys_update(struct tls_keys *k) must_check; /* section 7.2; 0 or -EIO */
void tls_keys_free(struct tls_keys *k);
/*
 * One record of `len` <= TLS_PLAIN bytes; len + TLS_OVERHEAD bytes go to `to`: how many, or -EIO. `data` may be
 * to + TLS_HEADER, else the two do not overlap.
 */
ssize_t tls_seal(struct tls_keys *k, uint8_t *to, enum tls_type type, const uint8_t *data, size_t len) must_check;
/*
 * The body behind `header`, whose length was found good by tls_record_len(); the content goes to `to`, which has room
 * for the body; it may be the same place. Bytes of content, or -EBADMSG: not with this key; -EPROTO: nothing but
 * padding; -EOVERFLOW.
 */
ssize_t tls_open(struct tls_keys *k, const uint8_t header[TLS_HEADER], const uint8_t *body, uint8_t *to,
		 enum tls_type *ret_type) must_check;
/* Bytes of the body behind an encrypted record's header; -EPROTO: not such a record; -EOVERFLOW: too long. */
ssize_t tls_record_len(const uint8_t header[TLS_HEADER]) must_check;

/* ------------------------------------------------------------------ io/tls_handshake.c */

struct tls;

/* OpenSSL's handshake, in memory. Freed when it is done: what is open needs nothing of it. */
struct tls_handshake {
	SSL *ssl;
	struct loop_timer later; /* its next step, when this turn has done enough of them */
	struct tls *connection;
	const char *why; /* of a failure: a constant */
	bool server, anonymous;
	uint8_t hash; /* bytes of a secret; 0: not yet known */
	unsigned tickets; /* records that were written with the server's last key */
	uint8_t client_secret[TLS_SECRET], server_secret[TLS_SECRET];
	size_t eaten;
};

struct tls_handshake *tls_handshake_new(SSL_CTX *ctx, bool server, bool anonymous) must_check;
uint32_t tls_handshake_mark(const struct tls_handshake *h); /* done: see tls_mark() */
void tls_handshake_free(struct tls_handshake *h);
void tls_handshake_eat(struct tls_handshake *h, const uint8_t *data, size_t len); /* from the peer */
/* As far as it goes: 1 done, 0 it needs more, -EPROTO failed (`why`). There may be something to say then too. */
int tls_handshake_step(struct tls_handshake *h) must_check;
size_t tls_handshake_says(struct tls_handshake *h, uint8_t *to, size_t len); /* to the peer; 0: no more */
/* Done: what was eaten and belongs to the records that follow; 0: no more. */
size_t tls_handshake_left(struct tls_handshake *h, uint8_t *to, size_t len);
/* Done: the keys of both directions. */
int tls_handshake_keys(struct tls_handshake *h, struct tls_keys *in, struct tls_keys *out) must_check;

/* ------------------------------------------------------------------ io/tls_error.c */

/* Why SSL_do_handshake() failed, from the thread's queue of errors, which is emptied. A constant. */
const char *tls_why(const SSL *ssl);
const char *tls_alert_why(unsigned alert); /* "tls: peer sent alert bad_certificate" */

/* ------------------------------------------------------------------ one connection (io/tls.c) */

enum tls_state {
	TLS_SHAKES, /* also while below still connects */
	TLS_OPEN,
	TLS_FAILED, /* `why` is set; the owner is told at the end of this turn, or was */
	TLS_DRAINS, /* the owner has closed it; what was written is still on its way */
	TLS_CLOSED, /* freed at the end of this turn */
};

struct tls {
	struct stream stream;
	struct stream *below;
	enum tls_state state;
	bool want_read, want_write;
	bool server;
	bool began;		/* the handshake; below is open */
	bool peer_ended;	/* close_notify came */
	bool answer_key_update; /* before we write again */
	bool alerted;		/* we have said why it ends */
	bool said_close;	/* close_notify is written */
	uint8_t idle_records;
	uint8_t looks; /* TLS_DRAINS */
	size_t lent; /* of SCRATCH_PLAIN, or of plain, to the owner */
	bool lent_plain;
	struct buf in, plain, out;
	size_t sealed, open; /* bytes in SCRATCH_CIPHER: of whole records, of content behind them */
	struct tls_keys read, write;
	union {
		size_t skip;   /* bytes left of a message that is of no interest */
		size_t waited; /* TLS_DRAINS: bytes in `out` when it was looked at */
	};
	struct loop_task task, flush;
	struct loop_timer deadline;
	struct thread_orphan orphan;
	struct tls_handshake *handshake;
	const char *(*verify)(void *arg, void *x509);
	void *verify_arg;
	X509 *peer;
	const char *cipher;
	char alpn[16], group[24];
	uint32_t mark;
};

/* ------------------------------------------------------------------ io/tls_out.c: records to below */

void tls_set_state(struct tls *c, enum tls_state to);
void tls_fail(struct tls *c, const char *why); /* the owner is told at the end of this turn */
void tls_fail_with(struct tls *c, enum tls_alert alert, const char *why);
void tls_say_alert(struct tls *c, enum tls_alert alert);
size_t tls_out_room(struct tls *c); /* bytes that tls_out() takes for sure */
size_t tls_out(struct tls *c, const struct stream_bytes *run, unsigned runs);
/* What is in the scratch goes down; the scratch is nobody's after it. Does nothing if it was not ours. */
void tls_flush(struct tls *c);
bool tls_push(struct tls *c); /* what waits in `out`. true: nothing any more */
void tls_end_of_turn(struct loop_task *task);

/* ------------------------------------------------------------------ io/tls_in.c: records from below */

unsigned tls_in_peek(struct tls *c, struct stream_bytes run[STREAM_RUNS], size_t most);
void tls_in_consume(struct tls *c, size_t len);

#endif
