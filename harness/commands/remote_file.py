"""A file on a web server, read in parts, so that single members of a large archive can be fetched."""

from __future__ import annotations

import io
from typing import Any

from benchmarks.errors import UserError, one_line

BUFFER = 1 << 18
"""Bytes that are asked for at least: about one picture."""
TIMEOUT = 60
"""Seconds to wait for a server."""


def open_remote(address: str) -> io.BufferedReader:
    """Open a file for reading at any position.

    Raises:
        UserError: The server cannot be reached, does not have it, or sends no parts of files.
    """
    return io.BufferedReader(RemoteFile(address), BUFFER)


class RemoteFile(io.RawIOBase):
    """Reads each part with a request of its own, over one connection; reading raises ``UserError``."""

    def __init__(self, address: str) -> None:
        import requests

        self._address, self._session, self._position = address, requests.Session(), 0
        start = self._get(0, 0)
        self._size = int(start.headers["content-range"].rpartition("/")[2])

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """The position of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        self._position = max(0, offset + (0, self._position, self._size)[whence])
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read up to the buffer's length."""
        last = min(self._position + len(buffer), self._size) - 1
        if last < self._position:
            return 0
        content: bytes = self._get(self._position, last).content[: len(buffer)]
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()
        super().close()

    def _get(self, first: int, last: int) -> Any:
        import requests

        try:
            headers = {"Range": f"bytes={first}-{last}", "Accept-Encoding": "identity"}
            # As a stream: a server that ignores the range would send a whole archive.
            reply = self._session.get(self._address, headers=headers, timeout=TIMEOUT, stream=True)
            reply.raise_for_status()
            if reply.status_code != requests.codes.partial_content:
                raise UserError("the server sends no parts of files", location=self._address, hint="use another mirror")
            reply.content  # noqa: B018 - reads it, so that the connection can be used again
            return reply
        except requests.RequestException as error:
            raise UserError(
                f"it cannot be read ({one_line(error)})", location=self._address, hint="run the same command again"
            ) from error
