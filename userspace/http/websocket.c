/* SPDX-License-Identifier: Apache-2.0 */
/* websocket.c: the handshake of RFC 6455, which HTTP/2 (RFC 8441) does without. */
#include <string.h>

#include <openssl/evp.h>

#include "http.h"

#define KEY 24 /* 16 bytes in base64 */
#define SHA1 20

static const struct http_text key_name = HTTP_TEXT("sec-websocket-key");
static const struct http_text accept_name = HTTP_TEXT("sec-websocket-accept");

void websocket_accept(struct http_text key, char accept[29])
{
	static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
	uint8_t digest[SHA1];
	char both[KEY + sizeof(guid)];

	/* Who calls has looked at its length; an answer to another one is of no use, but must not overflow. */
	memset(both, 0, sizeof(both));
	memcpy(both, key.at, key.len < KEY ? key.len : KEY);
	memcpy(both + KEY, guid, sizeof(guid) - 1);
	if (!EVP_Digest(both, KEY + sizeof(guid) - 1, digest, NULL, EVP_sha1(), NULL))
		memset(digest, 0, sizeof(digest)); /* no SHA-1 in this build of OpenSSL: nobody accepts that */
	EVP_EncodeBlock((unsigned char *)accept, digest, SHA1);
}

/* Base64 of 16 bytes: 22 characters, of which the last has four bits only, and "==". */
static bool is_key(struct http_text t)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	if (t.len != KEY || memcmp(t.at + KEY - 2, "==", 2) != 0 || !memchr("AQgw", t.at[KEY - 3], 4))
		return false;
	for (size_t i = 0; i < KEY - 3; i++)
		if (!memchr(digits, t.at[i], sizeof(digits) - 1))
			return false;
	return true;
}

static bool asks(const struct http_head *request)
{
	static const struct http_text protocol = HTTP_TEXT("websocket");

	return http_text_equal_nocase(request->upgrade, protocol);
}

const char *websocket_request(struct arena *a, struct http_head *request, enum http_version to,
			      const uint8_t random[16], struct websocket *ret)
{
	const struct http_field *key;
	char *made;

	*ret = (struct websocket){0};
	if (!asks(request) || (request->version == HTTP_2) == (to == HTTP_2))
		return NULL;
	if (to == HTTP_2) {
		key = http_field(request, HTTP_NAME_SEC_WEBSOCKET_KEY, NULL);
		if (!key || http_field(request, HTTP_NAME_SEC_WEBSOCKET_KEY, key) || !is_key(key->value))
			return "websocket: sec-websocket-key is not one of 16 bytes";
		websocket_accept(key->value, ret->accept);
		ret->add = true;
		http_field_remove(request, key_name);
		return NULL;
	}
	made = arena_alloc(a, KEY + 1);
	EVP_EncodeBlock((unsigned char *)made, random, 16);
	http_field_remove(request, key_name); /* RFC 8441 section 5: of no meaning there */
	if (!http_field_add(request, key_name, (struct http_text){made, KEY}))
		return "websocket: too many fields";
	websocket_accept((struct http_text){made, KEY}, ret->accept);
	ret->verify = true;
	return NULL;
}

const char *websocket_answer(const struct websocket *w, struct http_head *answer)
{
	const struct http_text ours = {w->accept, sizeof(w->accept) - 1};
	const struct http_field *theirs;

	if (answer->status != 101 || (!w->add && !w->verify))
		return NULL;
	if (w->verify) {
		theirs = http_field(answer, HTTP_NAME_SEC_WEBSOCKET_ACCEPT, NULL);
		if (!theirs || http_field(answer, HTTP_NAME_SEC_WEBSOCKET_ACCEPT, theirs) ||
		    !http_text_equal(theirs->value, ours))
			return "websocket: the server's sec-websocket-accept is not of the key that it got";
	}
	http_field_remove(answer, accept_name);
	if (w->add && !http_field_add(answer, accept_name, ours))
		return "websocket: too many fields";
	return NULL;
}
