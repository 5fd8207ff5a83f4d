/* SPDX-License-Identifier: Apache-2.0 */
/*
 * front.h: TLS toward clients from outside (identity/front.c): the certificates of one port of a Gateway, chosen by the
 * name that a client asks for (SNI). TLS 1.3, ALPN h2 or http/1.1, tickets, no early data; clients show no certificate.
 */
#ifndef WEFT_FRONT_H
#define WEFT_FRONT_H

#include "base.h"

struct front_pair { /* PEM, borrowed */
	const char *name; /* for messages */
	const char *certificate, *key;
};
struct front_listener {
	uint32_t number;      /* tls_mark() of connections to it */
	const char *hostname; /* as in gateway.h */
	const struct front_pair *pair;
	unsigned pairs;
	char why[256]; /* set: what is wrong with one of them; "" nothing */
};

/* An SSL_CTX for handshakes of all of them, front_free() it; NULL: none of them has a usable certificate. */
void *front_new(struct front_listener *l, unsigned listeners) must_check;
void *front_hold(void *front);
void front_free(void *front); /* handshakes that are under way keep it */
/*
 * Another key for tickets, which lasts as long as the next one but one is not made: call it every hour, and once
 * before the first handshake. 0 or -errno
 */
int front_rotate(void) must_check;

#endif
