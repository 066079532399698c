"""One Redis, two spellings: Celery writes redis+socket:// for what redis-py writes unix://. Either is accepted everywhere.

And how a URL is shown that may hold a secret.
"""

from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

_SPELLINGS = {"db": "virtual_host", "virtual_host": "db"}


def redis_py_url_for(url: str) -> str:
    """The URL as redis-py reads it (https://redis.readthedocs.io/en/stable/connections.html)."""
    return _respelled(url, "redis+socket", "unix", "virtual_host")


def celery_url_for(url: str) -> str:
    """The URL as Celery reads it (https://docs.celeryq.dev/en/stable/getting-started/backends-and-brokers/redis.html).

    Certificates are checked unless the URL says otherwise, as redis-py does: kombu 5.7 would take any certificate.
    """
    parts = urlsplit(url)
    if parts.scheme == "rediss" and "ssl_cert_reqs" not in dict(parse_qsl(parts.query)):
        return url + ("&" if parts.query else "?") + "ssl_cert_reqs=required"
    return _respelled(url, "unix", "redis+socket", "db")


def shown_url(url: str) -> str:
    """The URL as it may be logged and shown: without user, password and query, which may be secrets (signed URLs)."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _respelled(url: str, scheme: str, other: str, parameter: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != scheme:
        return url
    query = urlencode([(_SPELLINGS[key] if key == parameter else key, value) for key, value in parse_qsl(parts.query)])
    return f"{other}://{parts.netloc}{parts.path}" + (f"?{query}" if query else "")
