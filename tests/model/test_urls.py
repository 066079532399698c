"""One Redis, two spellings."""

import pytest

from taskvisor.model.urls import celery_url_for, redis_py_url_for

BOTH = [
    ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
    ("redis://user:pa%40ss@host:1/3?protocol=2", "redis://user:pa%40ss@host:1/3?protocol=2"),
    ("unix:///run/redis.sock", "redis+socket:///run/redis.sock"),
    ("unix:///run/redis.sock?db=3", "redis+socket:///run/redis.sock?virtual_host=3"),
    ("unix://user:secret@/run/redis.sock?db=3", "redis+socket://user:secret@/run/redis.sock?virtual_host=3"),
    ("rediss://host:1/0?ssl_cert_reqs=none", "rediss://host:1/0?ssl_cert_reqs=none"),
    (
        "rediss://host:1/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=none",
        "rediss://host:1/0?ssl_ca_certs=/etc/ca.pem&ssl_cert_reqs=none",
    ),
]


@pytest.mark.parametrize(("redis_py", "celery"), BOTH)
def test_either_spelling_is_turned_into_the_other(redis_py: str, celery: str) -> None:
    assert celery_url_for(redis_py) == celery
    assert redis_py_url_for(celery) == redis_py


@pytest.mark.parametrize(("redis_py", "celery"), BOTH)
def test_a_spelling_that_is_right_already_stays(redis_py: str, celery: str) -> None:
    assert redis_py_url_for(redis_py) == redis_py
    assert celery_url_for(celery) == celery


@pytest.mark.parametrize(
    ("url", "celery"),
    [
        ("rediss://host:1/0", "rediss://host:1/0?ssl_cert_reqs=required"),
        ("rediss://host:1/0?protocol=2", "rediss://host:1/0?protocol=2&ssl_cert_reqs=required"),
    ],
)
def test_certificates_are_checked_unless_the_url_says_otherwise(url: str, celery: str) -> None:
    assert celery_url_for(url) == celery


@pytest.mark.parametrize("word", ["none", "optional", "required"])
def test_celerys_words_for_how_certificates_are_checked_are_turned_into_redis_pys(word: str) -> None:
    assert redis_py_url_for(f"rediss://h/0?ssl_cert_reqs=CERT_{word.upper()}") == f"rediss://h/0?ssl_cert_reqs={word}"
