"""What a TLS connection to Redis that failed says to whoever asked: which side minds what, and where that is changed.

Knows the errors of Python's ssl (https://docs.python.org/3/library/ssl.html#exceptions), OpenSSL's names of alerts
(https://www.rfc-editor.org/rfc/rfc8446#section-6) and Redis' settings. Must never open a connection, nor read a file.
"""

import ssl

CAUSES_LIMIT = 10
REDIS_NEEDS_ONE = "give Redis a certificate that is good now and here (tls-cert-file, tls-key-file)"
CLIENT_NEEDS_ONE = (
    "Redis wants a client's certificate that it trusts (its tls-ca-cert-file): name one in the URL, by ssl_certfile and"
    " ssl_keyfile"
)
OTHER_NAME = f"write a host into the URL that the certificate is for, or {REDIS_NEEDS_ONE}"
NAME_THE_AUTHORITY = "name the authority that signed Redis' certificate in the URL: ?ssl_ca_certs=FILE"
READ_THE_FILES = "does this user read the files that the URL names (ssl_ca_certs, ssl_certfile, ssl_keyfile)?"
CHECK_THE_FILES = (
    "ssl_ca_certs and ssl_certfile in the URL are to be certificates in PEM, ssl_keyfile the key of the latter"
)
SPEAKS_NO_TLS = "is it up, and does it speak TLS at that port? If not, its URL begins with redis://"
SPEAKS_TLS = "is it up and reachable? The URL of one that speaks TLS begins with rediss://"
NO_WORD = (
    "Redis ended the TLS connection without a word: was it stopped? Or it wants a client's certificate (ssl_certfile and"
    " ssl_keyfile in the URL), or one that its authority signed (its tls-ca-cert-file) and that has not expired"
)

OF_VERIFICATION = {
    9: f"is this machine's clock right? If it is, {REDIS_NEEDS_ONE}",
    10: REDIS_NEEDS_ONE,
    62: OTHER_NAME,
    64: OTHER_NAME,
}
"""By `X509_V_ERR_…` (https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/)."""

OF_ALERTS = {
    "CERTIFICATE_EXPIRED": "our certificate (ssl_certfile) has expired: have a new one issued",
    "UNKNOWN_CA": CLIENT_NEEDS_ONE,
    "CERTIFICATE_REQUIRED": CLIENT_NEEDS_ONE,
    "BAD_CERTIFICATE": CLIENT_NEEDS_ONE,
    "UNSUPPORTED_CERTIFICATE": CLIENT_NEEDS_ONE,
    "CERTIFICATE_UNKNOWN": CLIENT_NEEDS_ONE,
    "CERTIFICATE_REVOKED": "our certificate (ssl_certfile) was revoked: have a new one issued",
    "HANDSHAKE_FAILURE": CLIENT_NEEDS_ONE,
    "PROTOCOL_VERSION": "Redis and this machine have no version of TLS in common: see tls-protocols in its configuration",
}
"""By the end of OpenSSL's reason, before which stands the version of the protocol: TLSV13_ALERT_CERTIFICATE_REQUIRED."""


def tls_advice_for(error: BaseException) -> str | None:
    """What to do about an error of a connection to Redis, when it is TLS that failed; None when it is something else."""
    seen: BaseException | None = error
    for _ in range(CAUSES_LIMIT):
        if seen is None:
            return None
        advice = _advice_for_one(seen, told=str(error))
        if advice is not None:
            return advice
        seen = seen.__cause__ or seen.__context__
    return None


def _advice_for_one(error: BaseException, *, told: str) -> str | None:
    match error:
        case ssl.SSLCertVerificationError():
            return OF_VERIFICATION.get(error.verify_code, NAME_THE_AUTHORITY)
        case ssl.SSLEOFError() | ssl.SSLZeroReturnError():
            return NO_WORD
        case ssl.SSLError():
            return _advice_for_reason(getattr(error, "reason", None) or "")  # OpenSSL has one for most
        case TimeoutError() if "handshake" in str(error):
            return SPEAKS_NO_TLS
        case ConnectionResetError():
            return SPEAKS_TLS
        case FileNotFoundError() | PermissionError() | IsADirectoryError() if (
            "/" not in told.partition(" connecting to ")[2]
        ):
            return READ_THE_FILES  # of a socket the path would be told; of files of certificates it is not
    return None


def _advice_for_reason(reason: str) -> str:
    _, is_alert, alert = reason.partition("_ALERT_")
    if is_alert:
        return OF_ALERTS.get(alert, CLIENT_NEEDS_ONE)
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL"):
        return SPEAKS_NO_TLS
    return CHECK_THE_FILES
