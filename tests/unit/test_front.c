/* SPDX-License-Identifier: Apache-2.0 */
/* The certificates of a port: which one is shown for which name, who is refused, tickets, what is wrong with one. */
#include "front.h"
#include "pki.h"

#define MOST 8

static struct ca_pair root;

struct shop { /* what a front is made of */
	struct front_listener listener[MOST];
	struct front_pair pair[MOST];
	char *text[2 * MOST];
	unsigned listeners, pairs;
};

static int64_t now(void)
{
	return clock_wall() / 1000;
}

/* A listener of a name with a certificate for others. `key`: another one; NULL: its own. */
static void add(struct shop *s, const char *hostname, const char *san, int64_t from, int64_t to, const char *key)
{
	struct ca_pair leaf = pki_leaf(&root, san, "serverAuth", from, to);
	struct front_listener *l = &s->listener[s->listeners];
	struct front_pair *p = &s->pair[s->pairs];

	s->text[2 * s->pairs] = x509_text(&leaf.cert, 1);
	s->text[2 * s->pairs + 1] = key ? mem_string(key) : x509_key_text(leaf.key);
	*p = (struct front_pair){
		.name = "shop/s", .certificate = s->text[2 * s->pairs], .key = s->text[2 * s->pairs + 1]};
	s->pairs++;
	pki_free(&leaf);
	if (s->listeners && text_equal(l[-1].hostname, hostname)) {
		l[-1].pairs++;
		return;
	}
	*l = (struct front_listener){.number = s->listeners + 1, .hostname = hostname, .pair = p, .pairs = 1};
	s->listeners++;
}

static void good(struct shop *s, const char *hostname, const char *san)
{
	add(s, hostname, san, now() - HOUR, now() + HOUR, NULL);
}

static SSL_CTX *made(struct shop *s)
{
	SSL_CTX *ctx = front_new(s->listener, s->listeners);

	for (unsigned i = 0; i < 2 * s->pairs; i++)
		x509_wipe(s->text[i]); /* they are borrowed for the call only */
	return ctx;
}

/* ------------------------------------------------------------------ a client */

struct asks {
	const char *name, *alpn; /* NULL: none */
	SSL_SESSION *session;
	int most; /* version; 0: TLS 1.3 */
};
struct told {
	bool done, resumed;
	char shown[64];	   /* first DNS name of the certificate */
	char alpn[16], alert[64];
	SSL_SESSION *session;
};

static SSL_SESSION *kept;

static int keep(SSL *ssl, SSL_SESSION *s)
{
	SSL_SESSION_free(kept);
	kept = s;
	return 1;
}

static void shown(X509 *x, char buf[64])
{
	GENERAL_NAMES *all = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	const ASN1_STRING *s = sk_GENERAL_NAME_value(all, 0)->d.dNSName;

	snprintf(buf, 64, "%.*s", ASN1_STRING_length(s), (const char *)ASN1_STRING_get0_data(s));
	GENERAL_NAMES_free(all);
}

/* The server's alert, as the client hears of it. */
static void hear(SSL *client, char buf[64])
{
	char c;

	if (!ERR_peek_error())
		(void)SSL_read(client, &c, 1);
	text_copy(buf, 64, ERR_reason_error_string(ERR_peek_error()) ? ERR_reason_error_string(ERR_peek_error()) : "");
}

static struct told ask(SSL_CTX *front, struct asks a)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	BIO *x, *y;
	struct told t = {0};
	SSL *client, *server;
	const unsigned char *alpn;
	unsigned len;
	char c;

	X509_STORE_add_cert(SSL_CTX_get_cert_store(ctx), root.cert);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, keep);
	if (a.most)
		SSL_CTX_set_max_proto_version(ctx, a.most);
	client = SSL_new(ctx);
	server = SSL_new(front);
	assert_int_equal(BIO_new_bio_pair(&x, 0, &y, 0), 1);
	SSL_set_connect_state(client);
	SSL_set_accept_state(server);
	SSL_set_bio(client, x, x);
	SSL_set_bio(server, y, y);
	if (a.name)
		SSL_set_tlsext_host_name(client, a.name);
	if (a.alpn)
		SSL_set_alpn_protos(client, (const unsigned char *)a.alpn, (unsigned)strlen(a.alpn));
	if (a.session)
		SSL_set_session(client, a.session);
	ERR_clear_error();
	for (int i = 0; i < 10 && !ERR_peek_error(); i++) {
		t.done = SSL_do_handshake(client) == 1;
		if (!ERR_peek_error()) {
			t.done &= SSL_do_handshake(server) == 1;
			ERR_clear_error(); /* the server's own word: the client's is asked for */
		}
	}
	if (t.done) {
		assert_int_equal(SSL_read(client, &c, 1), -1); /* takes the ticket */
		shown(SSL_get0_peer_certificate(client), t.shown);
		SSL_get0_alpn_selected(client, &alpn, &len);
		snprintf(t.alpn, sizeof(t.alpn), "%.*s", (int)len, (const char *)alpn);
		t.resumed = SSL_session_reused(server);
		t.session = kept;
		kept = NULL;
	} else {
		hear(client, t.alert);
	}
	ERR_clear_error();
	SSL_set_shutdown(client, SSL_SENT_SHUTDOWN); /* else there is nothing to resume */
	SSL_free(client);
	SSL_free(server);
	SSL_CTX_free(ctx);
	return t;
}

static void is_shown(SSL_CTX *front, const char *name, const char *want)
{
	struct told t = ask(front, (struct asks){.name = name, .alpn = "\x02h2"});

	if (want && (!t.done || !text_equal(t.shown, want)))
		fail_msg("%s: got \"%s\" (%s), not %s", name ? name : "no name", t.shown, t.alert, want);
	if (!want && (t.done || !text_equal(t.alert, "tlsv1 unrecognized name")))
		fail_msg("%s: got \"%s\" (%s), not an alert", name ? name : "no name", t.shown, t.alert);
	SSL_SESSION_free(t.session);
}

/* ------------------------------------------------------------------ which one */

static void names(void **state)
{
	char longest[300] = "";
	struct shop s = {0};
	SSL_CTX *front;

	good(&s, "*.example", "DNS:any.example");
	good(&s, "a.example", "DNS:a.example");
	good(&s, "*.deep.example", "DNS:deep.example");
	good(&s, "two.example", "DNS:first.example");
	good(&s, "two.example", "DNS:two.example");
	good(&s, "none.example", "DNS:other.example");
	front = made(&s);
	is_shown(front, "a.example", "a.example");
	is_shown(front, "A.Example", "a.example");
	is_shown(front, "a.example.", "a.example");
	is_shown(front, "b.example", "any.example");
	is_shown(front, "x.deep.example", "deep.example");
	is_shown(front, "y.x.deep.example", "deep.example");
	is_shown(front, "deep.example", "any.example");
	is_shown(front, "two.example", "two.example"); /* the one that is for the name */
	is_shown(front, "none.example", "other.example"); /* or the first: the client judges */
	is_shown(front, "example", NULL);
	is_shown(front, "a.other", NULL);
	is_shown(front, "a.example:443", "a.example"); /* which no client should send, and some do */
	is_shown(front, "a_b.exa mple", NULL);
	is_shown(front, "\x80\xff.example", NULL);
	memset(longest, 'a', 247); /* no label is that long, TLS carries it */
	memcpy(longest + 247, ".example", 9);
	is_shown(front, longest, "any.example");
	is_shown(front, NULL, NULL);
	front_free(front);
}

static void a_listener_of_all_names(void **state)
{
	struct shop s = {0};
	SSL_CTX *front;

	good(&s, "", "DNS:all.example");
	good(&s, "a.example", "DNS:a.example");
	front = made(&s);
	is_shown(front, NULL, "all.example");
	is_shown(front, "10.0.0.1", "all.example");
	is_shown(front, "b.example", "all.example");
	is_shown(front, "a.example", "a.example");
	front_free(front);
}

static void what_is_spoken(void **state)
{
	static const struct {
		const char *offered, *chosen;
	} rows[] = {{"\x02h2\x08http/1.1", "h2"}, {"\x08http/1.1\x02h2", "h2"}, {"\x08http/1.1", "http/1.1"},
		    {"\x03"
		     "foo\x08http/1.1",
		     "http/1.1"},
		    {NULL, ""},	{"\x03"
				 "foo",
				 NULL}};
	struct shop s = {0};
	SSL_CTX *front;
	struct told t;

	good(&s, "", "DNS:a.example");
	front = made(&s);
	for (size_t i = 0; i < array_size(rows); i++) {
		t = ask(front, (struct asks){.name = "a.example", .alpn = rows[i].offered});
		assert_int_equal(t.done, rows[i].chosen != NULL);
		assert_string_equal(t.done ? t.alpn : t.alert,
				    t.done ? rows[i].chosen : "tlsv1 alert no application protocol");
		SSL_SESSION_free(t.session);
	}
	t = ask(front, (struct asks){.name = "a.example", .most = TLS1_2_VERSION});
	assert_string_equal(t.alert, "tlsv1 alert protocol version");
	front_free(front);
}

/* ------------------------------------------------------------------ tickets */

/* OpenSSL's client uses each session once, which no other client need do. */
static struct told again(SSL_CTX *front, const char *name, SSL_SESSION *session)
{
	SSL_SESSION *copy = session ? SSL_SESSION_dup(session) : NULL;
	struct told t = ask(front, (struct asks){.name = name, .alpn = "\x02h2", .session = copy});

	SSL_SESSION_free(copy);
	return t;
}

static void tickets(void **state)
{
	struct shop s = {0}, other = {0};
	struct told first, t;
	SSL_CTX *front, *changed;

	good(&s, "a.example", "DNS:a.example");
	good(&s, "b.example", "DNS:b.example");
	front = made(&s);
	good(&other, "a.example", "DNS:new.example");
	changed = made(&other);
	first = again(front, "a.example", NULL);
	assert_true(first.done && !first.resumed);
	assert_non_null(first.session);
	assert_int_equal(SSL_SESSION_get_max_early_data(first.session), 0);
	t = again(front, "a.example", first.session);
	assert_true(t.done && t.resumed);
	SSL_SESSION_free(t.session);
	t = again(changed, "a.example", first.session); /* the Secret changed: keys of tickets are everybody's */
	assert_true(t.done && t.resumed);
	SSL_SESSION_free(t.session);
	/* no way past the name */
	t = again(front, "c.example", first.session);
	assert_false(t.done);
	/* the next keys but one still open it, later ones do not */
	for (int turn = 0; turn < 3; turn++) {
		assert_int_equal(front_rotate(), 0);
		t = again(front, "a.example", first.session);
		assert_true(t.done);
		assert_int_equal(t.resumed, turn < 2);
		SSL_SESSION_free(t.session);
	}
	SSL_SESSION_free(first.session);
	front_free(front);
	front_free(changed);
}

/* ------------------------------------------------------------------ what is wrong */

static void bad_pairs(void **state)
{
	static const char *const junk[] = {
		"", "x", "-----BEGIN CERTIFICATE-----\n",
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"};
	EVP_PKEY *small = EVP_RSA_gen(1024);
	char *other = x509_key_text(root.key), *weak = x509_key_text(small);
	struct shop s = {0};
	SSL_CTX *front;

	good(&s, "good", "DNS:good");
	add(&s, "mixed", "DNS:mixed", now() - HOUR, now() + HOUR, other);
	add(&s, "weak", "DNS:weak", now() - HOUR, now() + HOUR, weak);
	add(&s, "keyless", "DNS:keyless", now() - HOUR, now() + HOUR, "PRIVATE");
	add(&s, "late", "DNS:late", now() - 2 * HOUR, now() - HOUR, NULL);
	add(&s, "early", "DNS:early", now() + HOUR, now() + 2 * HOUR, NULL);
	front = made(&s);
	assert_string_equal(s.listener[0].why, "");
	assert_string_equal(s.listener[1].why, "shop/s: tls.crt and tls.key do not belong together");
	assert_non_null(strstr(s.listener[2].why, "shop/s: a key of RSA with 1024 bits"));
	assert_string_equal(s.listener[3].why, "shop/s holds no private key in PEM");
	assert_non_null(strstr(s.listener[4].why, "shop/s expired on"));
	assert_non_null(strstr(s.listener[5].why, "shop/s is not valid before"));
	is_shown(front, "good", "good");
	is_shown(front, "mixed", NULL); /* no other certificate takes its place */
	is_shown(front, "weak", NULL);
	is_shown(front, "keyless", NULL);
	is_shown(front, "late", "late");
	is_shown(front, "early", "early");
	front_free(front);
	for (size_t i = 0; i < array_size(junk); i++) {
		struct front_pair p = {.name = "shop/s", .certificate = junk[i], .key = other};
		struct front_listener l = {.number = 1, .hostname = "", .pair = &p, .pairs = 1};

		assert_null(front_new(&l, 1)); /* none is left */
		assert_true(*l.why);
		assert_null(strstr(l.why, "BEGIN"));
	}
	assert_null(front_new(NULL, 0));
	x509_wipe(other);
	x509_wipe(weak);
	EVP_PKEY_free(small);
}

/* The port's last word is a handshake's. */
static void kept_by_handshakes(void **state)
{
	struct shop s = {0};
	SSL_CTX *front;
	SSL *under_way;

	good(&s, "", "DNS:a.example");
	front = front_hold(made(&s));
	front_free(front);
	is_shown(front, "a.example", "a.example");
	under_way = SSL_new(front);
	front_free(front);
	assert_non_null(SSL_get_SSL_CTX(under_way));
	SSL_free(under_way);
}

static int begin(void **state)
{
	root = pki_root("root");
	return front_rotate();
}

static int end(void **state)
{
	pki_free(&root);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(a_listener_of_all_names),
		cmocka_unit_test(what_is_spoken),
		cmocka_unit_test(tickets),
		cmocka_unit_test(bad_pairs),
		cmocka_unit_test(kept_by_handshakes),
	};

	return cmocka_run_group_tests(tests, begin, end);
}
