"""A small Hugging Face Hub on this machine: what huggingface_hub needs to download one file of a dataset."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

PREFIX = "/datasets/InstaDeepAI/og-marl/resolve/"


@dataclass
class Hub:
    """What it serves and how, and what it was asked for.

    Attributes:
        files: Path in the repository -> content.
        drop_after: Bytes after which the next transfers break off, one entry each.
        refusal: Status and error code with which every request is refused.
        requests: Method, path in the repository and range of every request.
    """

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    drop_after: list[int] = field(default_factory=list)
    refusal: tuple[int, str] | None = None
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def downloads(self) -> list[str | None]:
        """The range of every download of an archive."""
        return [asked for method, name, asked in self.requests if method == "GET" and name.endswith(".zip")]


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, cache: Any) -> Iterator[Hub]:
    """A hub that huggingface_hub, in this process, takes for the real one, with a cache of the test."""
    constants = pytest.importorskip("huggingface_hub.constants")
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    server.hub = hub  # type: ignore[attr-defined]
    point_at(hub.url, cache, monkeypatch.setattr)
    assert hub.url == constants.ENDPOINT
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def point_at(url: str, cache: Any, set_value: Any) -> None:
    """Make huggingface_hub, in this process, ask another hub and keep its files in another directory."""
    from huggingface_hub import constants, file_download

    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    set_value(constants, "ENDPOINT", url)
    set_value(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    if hasattr(file_download, "HUGGINGFACE_CO_URL_TEMPLATE"):  # a copy, in older releases
        set_value(file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    set_value(constants, "HF_HUB_CACHE", str(cache))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, with_body: bool) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        name = self.path.removeprefix(PREFIX).partition("/")[2]
        asked = self.headers.get("Range")
        hub.requests.append((self.command, name, asked))
        content = hub.files.get(name)
        commit = hashlib.sha1(b"".join(hub.files.values())).hexdigest()  # another one for other files
        if hub.refusal is not None or content is None:
            status, code = hub.refusal or (404, "EntryNotFound")
            return self._send(status, {"X-Error-Code": code, "X-Repo-Commit": commit}, b"", 0)
        first = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
        }
        if asked:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        body = content[first:] if with_body else b""
        sent = hub.drop_after.pop(0) if with_body and hub.drop_after else len(body)
        return self._send(206 if asked else 200, headers, body[:sent], len(content) - first)

    def _send(self, status: int, headers: dict[str, str], body: bytes, length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        try:
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # who asked was killed
        if len(body) < length and self.command == "GET":
            self.close_connection = True  # breaks off
