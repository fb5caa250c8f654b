"""A web image search. Downloads are untrusted: limited in size and time, and re-encoded before use."""

from __future__ import annotations

import io
import ipaddress
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urljoin, urlsplit

from benchmarks.errors import UserError
from benchmarks.records import Picture

URL = "IMAGE_SEARCH_URL"
KEY = "IMAGE_SEARCH_KEY"
ENGINE = "IMAGE_SEARCH_ENGINE"
GOOGLE = "https://www.googleapis.com/customsearch/v1"
"""The default endpoint; any other with the same response format works too."""
MAX_BYTES = 10_000_000
"""Maximum size of a download."""
TYPES = ("image/jpeg", "image/png", "image/webp")
MAX_SIDE = 1024
"""Pixels; larger pictures are scaled down."""
TIMEOUT = 20
"""Seconds."""
REDIRECTS = 3
BACKOFF = 0.5
"""Seconds before a search is retried; doubled each time."""
Cache = Callable[[Mapping[str, Any], Callable[[], list[bytes]]], list[bytes]]
"""Returns the value stored under a key, or calls a function and stores its result."""


class UnusablePicture(Exception):
    """A picture that cannot be downloaded or trusted; the message is the reason."""


class WebSearch:
    """Satisfies ``Search``.

    Args:
        cache: Stores what was found, so that each search is made once.

    Raises:
        UserError: No key is set.
    """

    def __init__(self, cache: Cache) -> None:
        self._url = os.environ.get(URL, GOOGLE)
        if not os.environ.get(KEY):
            raise UserError(
                f"{KEY} is not set", location="--images web", hint=f"export {KEY}, and {ENGINE} or {URL} if needed"
            )
        self._cache = cache
        # An endpoint in the private network may return addresses there; one on the web may not.
        self._inside = _is_private(urlsplit(self._url).hostname or "")

    def find(self, words: str, count: int) -> list[Picture]:
        """The first results that can be downloaded."""
        key = {"search": self._url, "engine": os.environ.get(ENGINE, ""), "words": words, "count": count}
        return [Picture(content) for content in self._cache(key, lambda: self._download(words, count))]

    def _download(self, words: str, count: int) -> list[bytes]:
        pictures: list[bytes] = []
        for link in self._links(words):
            if len(pictures) == count:
                break
            try:
                content = reencode(download(link, inside=self._inside))
            except UnusablePicture:
                continue  # the next result takes its place; there may be fewer than asked for
            if content not in pictures:
                pictures.append(content)
        return pictures

    def _links(self, words: str) -> Sequence[str]:
        """Search, and return addresses of pictures, the best first.

        Raises:
            UserError: The endpoint refuses.
        """
        import requests

        query = {"q": words, "searchType": "image", "num": "10", "safe": "active", "key": os.environ[KEY]}
        if os.environ.get(ENGINE):
            query["cx"] = os.environ[ENGINE]
        try:
            session = requests.Session()
            session.mount(self._url, requests.adapters.HTTPAdapter(max_retries=_retries()))
            response = session.get(self._url, params=query, timeout=TIMEOUT)
            response.raise_for_status()
            found = response.json()
        except (requests.RequestException, ValueError) as error:
            kind = getattr(getattr(error, "response", None), "status_code", type(error).__name__)
            raise UserError(
                f"the image search failed ({kind})",  # the whole message would show the key
                location=URL,
                hint=f"check {URL}, {KEY} and {ENGINE}, then repeat the command: results so far are cached",
            ) from None
        items = found.get("items", []) if isinstance(found, dict) else []
        return [each["link"] for each in items if isinstance(each, dict) and isinstance(each.get("link"), str)]


def _retries() -> Any:
    from urllib3.util.retry import Retry

    return Retry(total=4, backoff_factor=BACKOFF, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=("GET",))


def download(link: str, *, inside: bool) -> bytes:
    """Download a picture of at most ``MAX_BYTES``.

    Args:
        link: http or https.
        inside: Whether addresses in the private network are allowed.

    Raises:
        UnusablePicture: The address is not allowed, the type is not an image's, or the server fails or stalls.
    """
    import requests

    for _ in range(REDIRECTS + 1):
        host = urlsplit(link).hostname
        if urlsplit(link).scheme not in ("http", "https") or not host:
            raise UnusablePicture("not a web address")
        if not inside and _is_private(host):
            raise UnusablePicture("an address in the private network")
        try:
            with requests.get(link, stream=True, timeout=TIMEOUT, allow_redirects=False) as response:
                if response.is_redirect:
                    link = urljoin(link, response.headers["location"])
                    continue
                response.raise_for_status()
                kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
                if kind not in TYPES:
                    raise UnusablePicture(f"its type is {kind or 'not given'}")
                return _read(response)
        except (requests.RequestException, OSError) as error:
            raise UnusablePicture(type(error).__name__) from error
    raise UnusablePicture("too many redirects")


def _read(response: Any) -> bytes:
    """Read the body, unless it is too large or too slow."""
    content, deadline = bytearray(), time.monotonic() + TIMEOUT
    for piece in response.iter_content(65536):
        content += piece
        if len(content) > MAX_BYTES or time.monotonic() > deadline:
            raise UnusablePicture("too large" if len(content) > MAX_BYTES else "too slow")
    return bytes(content)


def reencode(content: bytes) -> bytes:
    """Decode a picture and encode it again, without metadata and with at most 1,024 pixels a side.

    Raises:
        Unusable: It does not decode.
    """
    try:
        image = Picture(content).pixels()
    except UserError as error:
        raise UnusablePicture(error.message) from error
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _is_private(host: str) -> bool:
    """Whether a host is or resolves to an address outside the public internet."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False  # nor can it be downloaded from
    return any(not ipaddress.ip_address(str(address).split("%")[0]).is_global for address in addresses)
