"""Webhooks are signed as the Standard Webhooks have it."""

import base64

import pytest

from taskvisor.model.errors import Refused
from taskvisor.webhooks.signing import parse_keys, signed_headers

SVIX = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_a_signature_is_that_of_the_specifications_example() -> None:
    headers = signed_headers(
        parse_keys(SVIX), message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", at=1614265330, body=b'{"test": 2432232314}'
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_each_key_of_the_file_signs() -> None:
    other = "whsec_" + base64.b64encode(b"x" * 32).decode()
    both = signed_headers(parse_keys(f"{SVIX}\n\n  {other}\n"), message_id="m", at=1, body=b"")
    alone = [signed_headers(parse_keys(key), message_id="m", at=1, body=b"") for key in (SVIX, other)]
    assert both["webhook-signature"].split() == [one["webhook-signature"] for one in alone]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "0 are there"),
        ("\n".join([SVIX] * 5), "5 are there"),
        ("geheim", "line 1 does not begin with whsec_"),
        (f"{SVIX}\nwhsec_ge heim", "line 2: what stands behind whsec_ is no base64"),
        ("whsec_Z2VoZWlt", "line 1: the key has 6 bytes; 24 to 64"),
        ("whsec_" + base64.b64encode(b"x" * 65).decode(), "the key has 65 bytes"),
    ],
)
def test_what_is_no_key_is_refused_and_not_quoted(text: str, problem: str) -> None:
    with pytest.raises(Refused, match=f"{problem}.*openssl rand") as caught:
        parse_keys(text)
    assert "geheim" not in str(caught.value)
    assert "Z2VoZWlt" not in str(caught.value)
