"""A local HTTP server with OpenAI's chat completions API, whose answers are copied from the text that it is given.

A script can make it misbehave: fail, stall, cut off a reply, decline, or try to manipulate its reader.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from helpers.servers import running

Script = Callable[[int, dict[str, Any]], dict[str, Any] | None]
"""Maps the number of the call (from 0) and its body to how to misbehave: status, message, headers, stall, content,
finish, refusal, fingerprint, usage, body."""


class ChatServer(ThreadingHTTPServer):
    """Records the bodies of its calls, and how many ran at once."""

    daemon_threads = True

    def __init__(self, script: Script | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = script or (lambda number, body: None)
        self.bodies: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.busy, self.busiest = 0, 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address) -> None:
        """Ignore callers that were killed."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ChatServer

    def log_message(self, *arguments) -> None:
        """Log nothing."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        server = self.server
        with server.lock:
            number = len(server.bodies)
            server.bodies.append(body)
            server.busy += 1
            server.busiest = max(server.busiest, server.busy)
        try:
            self.answer(server.script(number, body) or {}, body)
        finally:
            with server.lock:
                server.busy -= 1

    def answer(self, how: dict[str, Any], body: dict[str, Any]) -> None:
        time.sleep(how.get("stall", 0))
        if how.get("status", 200) != 200:
            self.send(how["status"], {"error": {"message": how.get("message", "no")}}, how.get("headers", {}))
            return
        if "body" in how:
            self.send(200, how["body"], {})
            return
        content = how["content"] if "content" in how else json.dumps(good_reply(body))
        message = {"role": "assistant", "content": content, "refusal": how.get("refusal")}
        used = how.get("usage", {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150})
        self.send(
            200,
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "system_fingerprint": how.get("fingerprint"),
                "choices": [{"index": 0, "message": message, "finish_reason": how.get("finish", "stop")}],
                "usage": used,
            },
            {},
        )

    def send(self, status: int, value: Any, headers: dict[str, str]) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"content-type": "application/json", "content-length": str(len(data)), **headers}.items():
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(data)


def schema_of(body: dict[str, Any]) -> str:
    """The title of the schema that the reply must have."""
    return json.loads(body["messages"][0]["content"].partition("Schema: ")[2])["title"]


def good_reply(body: dict[str, Any]) -> dict[str, Any]:
    """The reply of a careful model, for each schema."""
    task = body["messages"][1]["content"]
    schema = schema_of(body)
    if schema == "Translation":
        text = json.JSONDecoder().raw_decode(task, len("Text: "))[0]
        return {"text": text}
    knowledge = json.JSONDecoder().raw_decode(task, len("Knowledge: "))[0]
    name, text = knowledge["name"], knowledge["text"]
    parts = [part.strip() for part in re.split(r"(?<=[.!?])\s+", text) if part.strip()][:9]
    if schema == "Questions":
        return {"questions": [f"What does the text say in sentence {word}?" for word in WORDS[: len(parts)]]}
    if schema == "Answers":
        return {"answers": parts}
    if schema == "Summary":
        return {"summary": " ".join(text.split()[:20])}
    if schema == "Tuples":
        last = text.split()[-1].rstrip(".")
        question = f"What word ends the text about {name}?"
        return {"tuples": [{"question": question, "answer": last, "subject": name, "hypernym": knowledge["type"]}]}
    if schema == "Facts":
        return {"facts": [{"field": "last word", "value": text.split()[-1].rstrip(".")}]}
    if schema == "Verdicts":
        statements = json.JSONDecoder().raw_decode(task, task.index("Statements: ") + len("Statements: "))[0]
        return {"supported": [True] * len(statements)}
    return {"text": text}


WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota"]


@contextmanager
def serving(script: Script | None = None) -> Iterator[ChatServer]:
    """Run a server during the block."""
    server = ChatServer(script)
    with running(server):
        yield server
