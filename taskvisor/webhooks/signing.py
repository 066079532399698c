"""How a webhook is signed, so that who receives it knows whose it is, and that it is no old one. Pure.

As the Standard Webhooks have it (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md):
HMAC-SHA256 over id, time and body, with dots between them. Their libraries, in many languages, check it as it is.
"""

import base64
import binascii
import hashlib
import hmac

from taskvisor.model.errors import Refused

PREFIX = "whsec_"
KEYS_LIMIT = 4
LEAST_KEY_BYTES, MOST_KEY_BYTES = 24, 64
"""The specification's bounds."""


def parse_keys(text: str) -> tuple[bytes, ...]:
    """The keys of a secret file, a line each: `whsec_` and base64. Each signs: so a key is changed while both are known.

    Refused for a file with no key, more than KEYS_LIMIT, or one that is no such key; no key is ever quoted.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not 1 <= len(lines) <= KEYS_LIMIT:
        raise Refused(f"1 to {KEYS_LIMIT} keys are needed, a line each; {len(lines)} are there: {HOW_TO_MAKE_ONE}")
    return tuple(_key_in(line, number) for number, line in enumerate(lines, 1))


def signed_headers(keys: tuple[bytes, ...], *, message_id: str, at: int, body: bytes) -> dict[str, str]:
    """The headers that go with the body. `at`: seconds since the epoch, of this very try."""
    signed = b".".join((message_id.encode(), str(at).encode(), body))
    signatures = (hmac.new(key, signed, hashlib.sha256).digest() for key in keys)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{base64.b64encode(one).decode()}" for one in signatures),
    }


HOW_TO_MAKE_ONE = "make one by `echo whsec_$(openssl rand -base64 32)`"


def _key_in(line: str, number: int) -> bytes:
    if not line.startswith(PREFIX):
        raise Refused(f"line {number} does not begin with {PREFIX}: {HOW_TO_MAKE_ONE}")
    try:
        key = base64.b64decode(line.removeprefix(PREFIX), validate=True)
    except binascii.Error as error:
        raise Refused(f"line {number}: what stands behind {PREFIX} is no base64: {HOW_TO_MAKE_ONE}") from error
    if not LEAST_KEY_BYTES <= len(key) <= MOST_KEY_BYTES:
        raise Refused(
            f"line {number}: the key has {len(key)} bytes; {LEAST_KEY_BYTES} to {MOST_KEY_BYTES} are wanted: {HOW_TO_MAKE_ONE}"
        )
    return key
