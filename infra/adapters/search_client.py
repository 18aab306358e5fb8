"""The client of the search server, made from the one address that a setting holds."""

from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from opensearchpy import AsyncOpenSearch

REQUEST_SECONDS = 10.0
CONNECTIONS_MAX = 10


def search_client(
    url: str, request_seconds: float = REQUEST_SECONDS, connections_max: int = CONNECTIONS_MAX
) -> AsyncOpenSearch:
    """A client for `http(s)://user:password@host:port/`. Whoever asks it tries again, not it."""
    parts = urlsplit(url)
    options: dict[str, Any] = {}
    if parts.username is not None:
        options["http_auth"] = (unquote(parts.username), unquote(parts.password or ""))
    host = parts.netloc.rpartition("@")[2]
    return AsyncOpenSearch(
        [urlunsplit(parts._replace(netloc=host))],
        timeout=request_seconds,
        maxsize=connections_max,
        max_retries=0,
        retry_on_timeout=False,
        **options,
    )
