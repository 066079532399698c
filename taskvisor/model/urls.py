"""One Redis, two spellings: Celery writes redis+socket:// for what redis-py writes unix://, and CERT_REQUIRED for required.
Either is accepted everywhere.

And how a URL is shown that may hold a secret.
"""

from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit, urlunsplit

from taskvisor.model.errors import Refused

REDIS_FORMS = "redis://[USER:PASSWORD@]HOST:PORT/DB, rediss://… or unix:///PATH?db=DB"
SOCKET_SCHEMES = ("unix", "redis+socket")
REDIS_SCHEMES = ("redis", "rediss", *SOCKET_SCHEMES)
_CERT_REQS = {"CERT_NONE": "none", "CERT_OPTIONAL": "optional", "CERT_REQUIRED": "required"}
_SPELLINGS = {"db": "virtual_host", "virtual_host": "db"}


def require_redis_url(url: str) -> str:
    """The URL, which may be one of a Redis: scheme, host, port and database make sense. Nothing is asked of anyone.

    Refused, with what is wrong and how it is written; a password in it is not shown.
    """
    try:
        parts = urlsplit(url)
        problem = _problem_of(parts)
        shown = shown_url(url)
    except ValueError as error:  # urlsplit of a bad IPv6 address, .port of what is none: both say what they mind
        raise Refused(f"the Redis URL can't be read: {error}; write {REDIS_FORMS}") from error
    if problem is not None:
        raise Refused(f"Redis URL {shown!r}: {problem}; write {REDIS_FORMS}")
    return url


def _problem_of(parts: SplitResult) -> str | None:
    if parts.scheme not in REDIS_SCHEMES:
        return f"the scheme {parts.scheme!r} is none of a Redis" if parts.scheme else "it has no scheme"
    if parts.scheme in SOCKET_SCHEMES:
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        database = query.get("db", query.get("virtual_host", ""))
        if not parts.path.strip("/"):
            return "it names no socket"
    else:
        _ = parts.port  # raises ValueError
        database = parts.path.strip("/")
    return (
        None if database == "" or (database.isascii() and database.isdigit()) else f"database {database!r} is no number"
    )


def redis_py_url_for(url: str) -> str:
    """The URL as redis-py reads it (https://redis.readthedocs.io/en/stable/connections.html)."""
    parts = urlsplit(url)
    if parts.scheme == "rediss":
        query = [
            (key, _CERT_REQS.get(value, value) if key == "ssl_cert_reqs" else value)
            for key, value in parse_qsl(parts.query, keep_blank_values=True)
        ]
        return urlunsplit(parts._replace(query=urlencode(query, safe="/")))
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
    host = parts.netloc.rpartition("@")[2]
    if "://" in url and not host:
        return f"{parts.scheme}://{parts.path}"  # urlunsplit would leave the slashes of unix:///path out
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _respelled(url: str, scheme: str, other: str, parameter: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != scheme:
        return url
    query = urlencode([(_SPELLINGS[key] if key == parameter else key, value) for key, value in parse_qsl(parts.query)])
    return f"{other}://{parts.netloc}{parts.path}" + (f"?{query}" if query else "")
