/* SPDX-License-Identifier: Apache-2.0 */
/* tls_error.c: what was wrong with a handshake, in constants that people read. */
#include <openssl/err.h>
#include <openssl/x509_vfy.h>

#include "tls_parts.h"

/* RFC 8446 section 6, and the older ones that peers still send. */
static const char *const alerts[256] = {
	[0] = "tls: peer sent alert close_notify",
	[10] = "tls: peer sent alert unexpected_message",
	[20] = "tls: peer sent alert bad_record_mac",
	[22] = "tls: peer sent alert record_overflow",
	[40] = "tls: peer sent alert handshake_failure",
	[42] = "tls: peer sent alert bad_certificate",
	[43] = "tls: peer sent alert unsupported_certificate",
	[44] = "tls: peer sent alert certificate_revoked",
	[45] = "tls: peer sent alert certificate_expired",
	[46] = "tls: peer sent alert certificate_unknown",
	[47] = "tls: peer sent alert illegal_parameter",
	[48] = "tls: peer sent alert unknown_ca",
	[49] = "tls: peer sent alert access_denied",
	[50] = "tls: peer sent alert decode_error",
	[51] = "tls: peer sent alert decrypt_error",
	[70] = "tls: peer sent alert protocol_version",
	[71] = "tls: peer sent alert insufficient_security",
	[80] = "tls: peer sent alert internal_error",
	[86] = "tls: peer sent alert inappropriate_fallback",
	[90] = "tls: peer sent alert user_canceled",
	[109] = "tls: peer sent alert missing_extension",
	[110] = "tls: peer sent alert unsupported_extension",
	[112] = "tls: peer sent alert unrecognized_name",
	[113] = "tls: peer sent alert bad_certificate_status_response",
	[115] = "tls: peer sent alert unknown_psk_identity",
	[116] = "tls: peer sent alert certificate_required",
	[120] = "tls: peer sent alert no_application_protocol",
};

const char *tls_alert_why(unsigned alert)
{
	if (alert < array_size(alerts) && alerts[alert])
		return alerts[alert];
	return "tls: peer sent an unknown alert";
}

static const struct {
	long code;
	const char *why;
} verdicts[] = {
	{X509_V_ERR_CERT_HAS_EXPIRED, "tls: certificate has expired"},
	{X509_V_ERR_CERT_NOT_YET_VALID, "tls: certificate is not yet valid"},
	{X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, "tls: unknown ca"},
	{X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY, "tls: unknown ca"},
	{X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE, "tls: unknown ca"},
	{X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, "tls: unknown ca"},
	{X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, "tls: unknown ca"},
	{X509_V_ERR_CERT_SIGNATURE_FAILURE, "tls: certificate signature does not verify"},
	{X509_V_ERR_CERT_REVOKED, "tls: certificate is revoked"},
	{X509_V_ERR_UNABLE_TO_GET_CRL, "tls: no CRL of the certificate's CA"},
	{X509_V_ERR_CRL_HAS_EXPIRED, "tls: the CRL has expired"},
	{X509_V_ERR_CRL_NOT_YET_VALID, "tls: the CRL is not yet valid"},
	{X509_V_ERR_CRL_SIGNATURE_FAILURE, "tls: the CRL's signature does not verify"},
	{X509_V_ERR_INVALID_CA, "tls: the issuer is no CA"},
	{X509_V_ERR_INVALID_PURPOSE, "tls: certificate is not for this use"},
	{X509_V_ERR_APPLICATION_VERIFICATION, "tls: peer does not speak the protocol (ALPN)"}, /* identity/certs.c */
	{X509_V_ERR_PATH_LENGTH_EXCEEDED, "tls: certificate chain is longer than its CA allows"},
	{X509_V_ERR_CERT_CHAIN_TOO_LONG, "tls: certificate chain is too long"},
	{X509_V_ERR_PERMITTED_VIOLATION, "tls: name is outside of what the CA may sign"},
	{X509_V_ERR_EXCLUDED_VIOLATION, "tls: name is outside of what the CA may sign"},
	{X509_V_ERR_CA_KEY_TOO_SMALL, "tls: key of the CA is too small"},
	{X509_V_ERR_EE_KEY_TOO_SMALL, "tls: key of the certificate is too small"},
	{X509_V_ERR_CA_MD_TOO_WEAK, "tls: signature of the certificate is too weak"},
};

static const struct {
	int code;
	const char *why;
} reasons[] = {
	{SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, "tls: peer sent no certificate"},
	{SSL_R_UNEXPECTED_EOF_WHILE_READING, "tls: peer ended the connection in the handshake"},
	{SSL_R_UNSUPPORTED_PROTOCOL, "tls: peer does not speak TLS 1.3"},
	{SSL_R_WRONG_SSL_VERSION, "tls: peer does not speak TLS 1.3"},
	{SSL_R_WRONG_VERSION_NUMBER, "tls: peer does not speak TLS"},
	{SSL_R_HTTP_REQUEST, "tls: peer speaks plain HTTP"},
	{SSL_R_HTTPS_PROXY_REQUEST, "tls: peer speaks plain HTTP"},
	{SSL_R_NO_SHARED_CIPHER, "tls: no cipher in common"},
	{SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, "tls: no signature algorithm in common"},
	{SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, "tls: no signature algorithm in common"},
	{SSL_R_NO_SUITABLE_KEY_SHARE, "tls: no key exchange in common"},
	{SSL_R_NO_APPLICATION_PROTOCOL, "tls: no application protocol in common"},
	{SSL_R_NO_CERTIFICATE_SET, "tls: no certificate of our own"},
	{SSL_R_NO_CERTIFICATE_ASSIGNED, "tls: no certificate of our own"},
	{SSL_R_BAD_SIGNATURE, "tls: peer does not hold the key of its certificate"},
	{SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, "tls: a record does not decrypt"},
	{SSL_R_UNEXPECTED_MESSAGE, "tls: unexpected message"},
	{SSL_R_CCS_RECEIVED_EARLY, "tls: unexpected message"},
	{SSL_R_EXCESSIVE_MESSAGE_SIZE, "tls: a message is too long"},
	{SSL_R_PACKET_LENGTH_TOO_LONG, "tls: a record is too long"},
	{SSL_R_ENCRYPTED_LENGTH_TOO_LONG, "tls: a record is too long"},
	{SSL_R_DATA_LENGTH_TOO_LONG, "tls: a record is too long"},
	{SSL_R_DIGEST_CHECK_FAILED, "tls: the handshake was tampered with"},
};

static const char *verdict(const SSL *ssl)
{
	long code = SSL_get_verify_result(ssl);
	unsigned i;

	for (i = 0; i < array_size(verdicts); i++)
		if (verdicts[i].code == code)
			return verdicts[i].why;
	return "tls: certificate does not verify";
}

static const char *reason_of(const SSL *ssl, unsigned long error)
{
	int reason = ERR_GET_REASON(error);
	unsigned i;

	if (ERR_GET_LIB(error) != ERR_LIB_SSL)
		return NULL;
	if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
		return verdict(ssl);
	if (reason > SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256)
		return tls_alert_why((unsigned)(reason - SSL_AD_REASON_OFFSET));
	for (i = 0; i < array_size(reasons); i++)
		if (reasons[i].code == reason)
			return reasons[i].why;
	return NULL;
}

/* The first error that has a name: what comes after it in the queue is its consequence. */
const char *tls_why(const SSL *ssl)
{
	const char *why = NULL;
	unsigned long error;

	while ((error = ERR_get_error()))
		if (!why)
			why = reason_of(ssl, error);
	return why ? why : "tls: handshake failed";
}
