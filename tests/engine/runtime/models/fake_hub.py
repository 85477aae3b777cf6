"""A hub of one process: directories by name, served as the real one serves them, or badly."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest

COMMIT = "c" * 40
PIECE = 256 * 1024


class Hub:
    """A hub: directories by name, what it answers to other names, and how badly it serves what it has."""

    def __init__(self) -> None:
        self.models: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.open_pages: set[str] = set()  # gated models that everybody may look up, as on the real hub
        self.broken: set[str] = set()  # files whose content does not come
        self.silent_on: str = ""  # requests whose path holds this are accepted and never answered
        self.silence = threading.Event()  # set at the end, to let them go
        self.breaks_after: dict[str, list[int]] = {}  # by file: after how many bytes the next answers end
        self.on_body: Callable[[str, int], None] = lambda name, sent: None
        self.counted: dict[
            str, dict[str, int]
        ] = {}  # by model: how many numbers of each type it has, as the hub says
        self.asked: list[str] = []
        self.ranges: list[str] = []

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer."""
        self.asked.append(path)
        if self.silent_on and self.silent_on in path:
            self.silence.wait(30)
        api = path.startswith("/api/models/")
        owner, name, *rest = path.removeprefix("/api/models/").strip("/").split("/")
        model = f"{owner}/{name}"
        if model in self.gated and not (api and model in self.open_pages):
            return 403, {"X-Error-Code": "GatedRepo"}, b""
        if model not in self.models:
            return 401, {"X-Error-Code": "RepoNotFound"}, b""
        if api:
            return 200, {"Content-Type": "application/json"}, json.dumps(self.info(model)).encode()
        return self.file(self.models[model] / "/".join(rest[2:]))

    def info(self, model: str) -> dict[str, object]:
        """What the hub knows of a model."""
        files = sorted(path for path in self.models[model].iterdir() if path.is_file())
        siblings = [{"rfilename": path.name, "size": path.stat().st_size, "blobId": "b"} for path in files]
        return {
            "id": model,
            "modelId": model,
            "sha": COMMIT,
            "siblings": siblings,
            "gated": "manual" if model in self.gated else False,
            "tags": [],
            "downloads": 0,
            **self.numbers(model),
        }

    def numbers(self, model: str) -> dict[str, object]:
        """What the hub counts in a model's weights."""
        counted = self.counted.get(model)
        return {"safetensors": {"parameters": counted, "total": sum(counted.values())}} if counted else {}

    def file(self, path: Path) -> tuple[int, dict[str, str], bytes]:
        """A file of a model."""
        if not path.is_file():
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
        if path.name in self.broken:
            return 403, {}, b""
        body = path.read_bytes()
        return 200, {"ETag": f'"{sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}, body


class Handler(BaseHTTPRequestHandler):
    """Serves a hub."""

    hub: Hub

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        status, headers, body = self.hub.answer(path)
        asked = self.headers.get("Range", "")
        if asked and status == 200:
            self.hub.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[start:]
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.send_body(path.rpartition("/")[2], body)

    do_HEAD = do_GET  # noqa: N815 (the server's word)

    def send_body(self, name: str, body: bytes) -> None:
        """Write the body, or its beginning and then no more."""
        breaks = self.hub.breaks_after.get(name, [])
        if breaks:
            body = body[: breaks.pop(0)]
            self.close_connection = True
        try:
            for begin in range(0, len(body), PIECE):
                self.wfile.write(body[begin : begin + PIECE])
                self.hub.on_body(name, begin + PIECE)
        except OSError:
            self.close_connection = True  # nobody listens any more

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine, in place of the real one."""
    served = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Serves", (Handler,), {"hub": served}))
    server.daemon_threads = False  # so that closing waits for them
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield served
    served.silence.set()
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    thread.join()
    for worker in threading.enumerate():
        if worker.name in ("hub", "look up"):
            worker.join()
