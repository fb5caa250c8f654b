"""A local HTTP server with the parts of the hub's API that an upload needs: repositories, LFS files and commits."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from helpers.servers import running


@dataclass
class Repository:
    """What was uploaded: the content of each file, by its path."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)


class HubServer(ThreadingHTTPServer):
    """Accepts one token.

    Attributes:
        failures: Status code of the reply, by a pattern for the paths that get it.
        large: Endings of files that are uploaded as LFS objects; the others are in the commit.
    """

    daemon_threads = True

    def __init__(self, token: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.token = token
        self.failures: dict[str, int] = {}
        self.large: tuple[str, ...] = (".safetensors",)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.paths: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HubServer

    def log_message(self, *arguments) -> None:
        """Log nothing."""

    def do_GET(self) -> None:
        self.reply(b"")

    def do_POST(self) -> None:
        self.reply(self.rfile.read(int(self.headers.get("content-length") or 0)))

    do_PUT = do_POST

    def reply(self, body: bytes) -> None:
        path = self.path.partition("?")[0]
        self.server.paths.append(path)
        failed = next((status for pattern, status in self.server.failures.items() if re.search(pattern, path)), 0)
        if not failed and not path.startswith("/lfs/") and self.headers.get("authorization") != self.expected:
            failed = 401
        self.send(*((failed, {"error": f"status {failed}"}) if failed else self.answer(path, body)))

    @property
    def expected(self) -> str:
        return f"Bearer {self.server.token}"

    def answer(self, path: str, body: bytes) -> tuple[int, Any]:
        server = self.server
        if path == "/api/repos/create":
            return self.create(json.loads(body))
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.startswith("/lfs/"):
            server.objects[path.removeprefix("/lfs/")] = body
            return 200, {}
        if path.endswith(".git/info/lfs/objects/batch"):
            places = [
                {**each, "actions": {"upload": {"href": f"{server.url}/lfs/{each['oid']}"}}}
                for each in json.loads(body)["objects"]
            ]
            return 200, {"transfer": "basic", "objects": places}
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(preupload|commit|revision)/main)?", path)
        if not found or found[1] not in server.repositories:
            return 404, {"error": "not found"}
        name, repository = found[1], server.repositories[found[1]]
        if found[2] == "preupload":
            modes = [
                {"path": path, "uploadMode": "lfs" if path.endswith(server.large) else "regular", "shouldIgnore": False}
                for path in (each["path"] for each in json.loads(body)["files"])
            ]
            return 200, {"files": modes}
        if found[2] == "commit":
            self.commit(repository, body)
            return 200, {"success": True, "commitUrl": f"{server.url}/{name}/commit/1", "commitOid": "1" * 40}
        files = [{"rfilename": path} for path in (".gitattributes", *repository.files)]
        return 200, {"id": name, "private": repository.private, "siblings": files, "sha": "1" * 40}

    def create(self, wanted: dict[str, Any]) -> tuple[int, Any]:
        name = f"{wanted['organization']}/{wanted['name']}"
        address = {"url": f"{self.server.url}/{name}"}
        if name in self.server.repositories:
            return 409, {**address, "error": "You already created this model repo"}
        self.server.repositories[name] = Repository(wanted.get("visibility") == "private")
        return 200, address

    def commit(self, repository: Repository, body: bytes) -> None:
        for line in body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "header":
                repository.messages.append(value["summary"])
            elif operation["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                repository.files[value["path"]] = self.server.objects[value["oid"]]

    def send(self, status: int, value: Any) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def serving(token: str) -> Iterator[HubServer]:
    """Run a server during the block."""
    server = HubServer(token)
    with running(server):
        yield server
