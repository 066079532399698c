"""The URLs that an operator has webhooks sent to, from a text. Pure; whether anybody listens there it does not know."""

from urllib.parse import urlsplit

URLS_LIMIT = 16
"""Each has a thread and a connection to Redis."""


def parse_webhook_urls(text: str) -> tuple[str, ...]:
    """The URLs, each once, in their order. ValueError says which is none of http(s), and is not quoted but for its number."""
    urls = tuple(dict.fromkeys(text.split()))
    if len(urls) > URLS_LIMIT:
        raise ValueError(f"must be at most {URLS_LIMIT} URLs, not {len(urls)}")
    for number, url in enumerate(urls, 1):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"must be http(s)://HOST/PATH, with blanks between several; number {number} is none")
        _ = parts.port  # raises ValueError for what is no port
    return urls
