"""What is said of a TLS connection that failed, for each way in which Python's ssl says so."""

import ssl

import pytest
import redis

from taskvisor.state.connection import silence_text
from taskvisor.state.tls import (
    CHECK_THE_FILES,
    CLIENT_NEEDS_ONE,
    NAME_THE_AUTHORITY,
    NO_WORD,
    OF_ALERTS,
    OTHER_NAME,
    READ_THE_FILES,
    SPEAKS_NO_TLS,
    SPEAKS_TLS,
    tls_advice_for,
)


def of_reason(reason: str) -> ssl.SSLError:
    error = ssl.SSLError(1, f"[SSL: {reason}] {reason.lower()} (_ssl.c:2580)")
    error.reason = reason
    return error


def of_verification(code: int) -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_code = code
    return error


SAID = [
    (of_verification(18), NAME_THE_AUTHORITY),
    (of_verification(19), NAME_THE_AUTHORITY),
    (of_verification(20), NAME_THE_AUTHORITY),
    (of_verification(62), OTHER_NAME),
    (of_verification(64), OTHER_NAME),
    (of_reason("TLSV13_ALERT_CERTIFICATE_REQUIRED"), CLIENT_NEEDS_ONE),
    (of_reason("SSLV3_ALERT_HANDSHAKE_FAILURE"), CLIENT_NEEDS_ONE),
    (of_reason("TLSV1_ALERT_UNKNOWN_CA"), CLIENT_NEEDS_ONE),
    (of_reason("SSLV3_ALERT_CERTIFICATE_EXPIRED"), OF_ALERTS["CERTIFICATE_EXPIRED"]),
    (of_reason("TLSV1_ALERT_PROTOCOL_VERSION"), OF_ALERTS["PROTOCOL_VERSION"]),
    (of_reason("WRONG_VERSION_NUMBER"), SPEAKS_NO_TLS),
    (of_reason("KEY_VALUES_MISMATCH"), CHECK_THE_FILES),
    (ssl.SSLError(524297, "[SSL] PEM lib (_ssl.c:3926)"), CHECK_THE_FILES),
    (ssl.SSLEOFError(8, "EOF occurred in violation of protocol (_ssl.c:2427)"), NO_WORD),
    (TimeoutError("_ssl.c:989: The handshake operation timed out"), SPEAKS_NO_TLS),
    (ConnectionResetError(104, "Connection reset by peer"), SPEAKS_TLS),
    (FileNotFoundError(2, "No such file or directory"), READ_THE_FILES),
    (PermissionError(13, "Permission denied"), READ_THE_FILES),
    (TimeoutError("timed out"), None),
    (ConnectionRefusedError(111, "Connection refused"), None),
]


def as_redis_py_says(cause: OSError, where: str) -> redis.ConnectionError:
    """Its own error, with the cause behind it."""
    try:
        try:
            raise cause
        except OSError as error:
            raise redis.ConnectionError(f"Error {error.errno} connecting to {where}. {error.strerror}.")  # noqa: B904
    except redis.ConnectionError as error:
        return error


@pytest.mark.parametrize(("cause", "advice"), SAID, ids=lambda value: repr(value)[:40])
def test_the_cause_says_what_to_do(cause: OSError, advice: str | None) -> None:
    assert tls_advice_for(as_redis_py_says(cause, "127.0.0.1:6379")) == advice


def test_a_socket_that_is_not_there_is_no_certificate() -> None:
    told = as_redis_py_says(FileNotFoundError(2, "No such file or directory"), "/run/redis.sock")

    assert tls_advice_for(told) is None
    assert silence_text(told).endswith("No such file or directory; is it up and reachable?")


def test_where_in_pythons_source_it_failed_is_not_told() -> None:
    told = redis.ConnectionError("certificate verify failed: certificate has expired (_ssl.c:1006).")

    assert silence_text(told) == "certificate verify failed: certificate has expired; is it up and reachable?"
