/* SPDX-License-Identifier: Apache-2.0 */
/*
 * http2_head.h: heads and trailers between HPACK and struct http_head (http2_head.c).
 *
 * What came is not copied: its texts lie in nghttp2's counted buffers, those of the table among them. So a head costs
 * what its fields cost, however long they are: a hundred bytes on the wire that say the same 4 KB a hundred times are
 * 4 KB here.
 */
#ifndef WEFT_HTTP2_HEAD_H
#define WEFT_HTTP2_HEAD_H

#include "http2_parts.h"

#define HTTP2_HEAD_FIELDS 14 /* of which there is room at once: so many that malloc() has its size at hand */
#define HTTP2_HEAD_TEXTS 24  /* the same: of texts that are not in HPACK's static table */
#define HTTP2_OWN_FIELDS 8   /* most that we add to those of a head: pseudo fields, content-length, te */
#define HTTP2_NUMBER 32      /* the texts of a length and a status */

struct http2_head {
	struct http2_head *next;
	struct http_head h;
	struct http_text host, protocol, crumb;
	unsigned crumbs; /* fields `cookie`; the first one's place is `cookie` */
	unsigned cookie;
	size_t crumb_bytes;
	char *joined; /* all of them as one */
	bool large;
	unsigned texts, text_room;
	nghttp2_rcbuf **text; /* held */
	struct http_field first_field[HTTP2_HEAD_FIELDS];
	nghttp2_rcbuf *first_text[HTTP2_HEAD_TEXTS];
};

struct http2_head *http2_head_new(void) must_check;
void http2_head_free(struct http2_head *in); /* NULL: nothing */
/* A field that nghttp2 has found valid, pseudo fields too. `large`: nothing of it is kept any more. */
void http2_head_add(struct http2_head *in, const struct http2_text *name, const struct http2_text *value, uint8_t flags,
		    bool large);
/* It has come: fills in what follows from its fields. 0, or the status of the answer that refuses it. */
int http2_head_request(struct http2_head *in, bool ended) must_check;
/* `asked`: the method of the request, upgrade: it was extended CONNECT. false: no answer to it. */
bool http2_head_answer(struct http2_head *in, enum http_method asked, bool upgrade, bool ended) must_check;
void http2_head_join(struct http2_head *in); /* crumbs of cookies (RFC 9113 section 8.2.3), just before it is shown */

/*
 * What is sent: `to` has room for HTTP2_OWN_FIELDS more than the head has. Texts are those of the head and of `number`,
 * good until nghttp2 has copied them. How many.
 */
size_t http2_head_ask(const struct http_head *h, bool extended, nghttp2_nv *to, char number[HTTP2_NUMBER]) must_check;
size_t http2_head_say(const struct http_head *h, unsigned status, nghttp2_nv *to, char number[HTTP2_NUMBER]) must_check;
size_t http2_head_fields(const struct http_field *field, unsigned fields, nghttp2_nv *to) must_check; /* trailers */

#endif
