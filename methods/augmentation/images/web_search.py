"""A web image search, and downloads that are taken for what they are: bytes from strangers."""

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

URL, KEY, ENGINE = "IMAGE_SEARCH_URL", "IMAGE_SEARCH_KEY", "IMAGE_SEARCH_ENGINE"
GOOGLE = "https://www.googleapis.com/customsearch/v1"
"""The default endpoint; any other that answers in its format will do."""
LARGEST = 10_000_000
"""Bytes of a download."""
TYPES = ("image/jpeg", "image/png", "image/webp")
LONGEST_SIDE = 1024
"""Pixels; larger pictures are scaled down."""
SECONDS = 20
REDIRECTS = 3
PAUSE = 0.5
"""Seconds before a search is tried again; twice as long each time."""
Kept = Callable[[Mapping[str, Any], Callable[[], list[bytes]]], list[bytes]]
"""Gives the bytes stored under a key, or calls and stores."""


class Unusable(Exception):
    """A picture that cannot be had or trusted; the message is the reason."""


class WebSearch:
    """Satisfies ``Search``.

    Args:
        kept: Remembers what was found, so that a search is made once.

    Raises:
        UserError: No key is set.
    """

    def __init__(self, kept: Kept) -> None:
        self._url = os.environ.get(URL, GOOGLE)
        if not os.environ.get(KEY):
            raise UserError(
                f"{KEY} is not set", location="--images web", hint=f"export {KEY}, and {ENGINE} or {URL} if need be"
            )
        self._kept = kept
        # An endpoint in one's own network may name pictures there; one on the web may not.
        self._inside = _is_private(urlsplit(self._url).hostname or "")

    def find(self, words: str, count: int) -> list[Picture]:
        """The first pictures that can be had."""
        key = {"search": self._url, "engine": os.environ.get(ENGINE, ""), "words": words, "count": count}
        return [Picture(content) for content in self._kept(key, lambda: self._download(words, count))]

    def _download(self, words: str, count: int) -> list[bytes]:
        good: list[bytes] = []
        for link in self._links(words):
            if len(good) == count:
                break
            try:
                content = safe(fetched(link, inside=self._inside))
            except Unusable:
                continue  # the next result stands in for it; fewer than asked for is allowed
            if content not in good:
                good.append(content)
        return good

    def _links(self, words: str) -> Sequence[str]:
        """Addresses of pictures, the best first.

        Raises:
            UserError: The endpoint refuses.
        """
        import requests

        asked = {"q": words, "searchType": "image", "num": "10", "safe": "active", "key": os.environ[KEY]}
        if os.environ.get(ENGINE):
            asked["cx"] = os.environ[ENGINE]
        try:
            session = requests.Session()
            session.mount(self._url, requests.adapters.HTTPAdapter(max_retries=_retries()))
            answer = session.get(self._url, params=asked, timeout=SECONDS)
            answer.raise_for_status()
            found = answer.json()
        except (requests.RequestException, ValueError) as error:
            kind = getattr(getattr(error, "response", None), "status_code", type(error).__name__)
            raise UserError(
                f"the image search failed ({kind})",  # the whole message would show the key
                location=URL,
                hint=f"check {URL}, {KEY} and {ENGINE}; what was found is kept, and the same command goes on",
            ) from None
        items = found.get("items", []) if isinstance(found, dict) else []
        return [each["link"] for each in items if isinstance(each, dict) and isinstance(each.get("link"), str)]


def _retries() -> Any:
    from urllib3.util.retry import Retry

    return Retry(total=4, backoff_factor=PAUSE, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=("GET",))


def fetched(link: str, *, inside: bool) -> bytes:
    """The bytes behind an address, at most ``LARGEST``, of an image type.

    Args:
        link: http or https.
        inside: Whether addresses of the own network are allowed.

    Raises:
        Unusable: Any of this is not so, or the server fails or stalls.
    """
    import requests

    for _ in range(REDIRECTS + 1):
        host = urlsplit(link).hostname
        if urlsplit(link).scheme not in ("http", "https") or not host:
            raise Unusable("not a web address")
        if not inside and _is_private(host):
            raise Unusable("an address inside the own network")
        try:
            with requests.get(link, stream=True, timeout=SECONDS, allow_redirects=False) as answer:
                if answer.is_redirect:
                    link = urljoin(link, answer.headers["location"])
                    continue
                answer.raise_for_status()
                kind = answer.headers.get("content-type", "").split(";")[0].strip().lower()
                if kind not in TYPES:
                    raise Unusable(f"no picture but {kind or 'nothing named'}")
                return _read(answer)
        except (requests.RequestException, OSError) as error:
            raise Unusable(type(error).__name__) from error
    raise Unusable("too many redirects")


def _read(answer: Any) -> bytes:
    """The body, as long as it is neither too large nor too slow."""
    content, until = bytearray(), time.monotonic() + SECONDS
    for piece in answer.iter_content(65536):
        content += piece
        if len(content) > LARGEST or time.monotonic() > until:
            raise Unusable("too large" if len(content) > LARGEST else "too slow")
    return bytes(content)


def safe(content: bytes) -> bytes:
    """The picture decoded and written anew, without metadata and at most 1,024 pixels a side.

    Raises:
        Unusable: It does not decode.
    """
    try:
        image = Picture(content).pixels()
    except UserError as error:
        raise Unusable(error.message) from error
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _is_private(host: str) -> bool:
    """Whether a host is, or resolves to, an address that is not on the public internet."""
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        return False  # it cannot be reached either
    return any(not ipaddress.ip_address(str(address).split("%")[0]).is_global for address in addresses)
