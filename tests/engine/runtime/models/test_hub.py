"""Models by hub id, against a hub of one process: what it refuses, what comes from it, what the cache is good for."""

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
import torch

from engine.runtime.models import hub
from engine.runtime.models.errors import ModelError
from engine.runtime.models.loading import LoadedModel, load_model

Load = Callable[..., LoadedModel]
Refusal = Callable[..., str]
COMMIT = "c" * 40


class Hub:
    """A hub: directories by name, and what it answers to other names."""

    def __init__(self) -> None:
        self.models: dict[str, Path] = {}
        self.gated: set[str] = set()
        self.broken: set[str] = set()  # files whose content does not come
        self.asked: list[str] = []

    def answer(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of an answer."""
        self.asked.append(path)
        api = path.startswith("/api/models/")
        owner, name, *rest = path.removeprefix("/api/models/").strip("/").split("/")
        model = f"{owner}/{name}"
        if model in self.gated:
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
            "tags": [],
            "downloads": 0,
        }

    def file(self, path: Path) -> tuple[int, dict[str, str], bytes]:
        """A file of a model."""
        if not path.is_file():
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b""
        if path.name in self.broken:
            return 403, {}, b""
        body = path.read_bytes()
        return 200, {"ETag": f'"{sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}, body


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine, in place of the real one."""
    served = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = served.answer(unquote(urlsplit(self.path).path))
            self.send_response(status)
            for name, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 (the server's word)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False  # so that closing waits for them
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield served
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_is_downloaded_and_then_comes_from_the_cache(
    served: Hub, load: Load, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.models["someone/small"] = checkpoint
    first = load("someone/small")
    assert first.name == "someone/small"
    assert torch.equal(first.model.lm_head.weight, load(checkpoint).model.lm_head.weight)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    served.asked.clear()
    assert torch.equal(load("someone/small").model.lm_head.weight, first.model.lm_head.weight)
    assert served.asked == []


def test_a_cached_model_loads_when_the_hub_cannot_be_reached(
    served: Hub, load: Load, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.models["someone/small"] = checkpoint
    load("someone/small")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert load("someone/small").name == "someone/small"


def test_downloads_report_bytes(served: Hub, checkpoint: Path) -> None:
    served.models["someone/small"] = checkpoint
    heard: list[tuple[str, float | None]] = []
    load_model("someone/small", "cpu", None, lambda activity, fraction: heard.append((activity, fraction)))
    shares = [fraction for activity, fraction in heard if activity == "downloading model.safetensors"]
    assert shares
    assert all(share is not None and 0 < share <= 1 for share in shares)
    size = sum(path.stat().st_size for path in checkpoint.iterdir())
    assert max(shares) == pytest.approx(1.0)  # the weights are the last file
    assert min(shares) >= (size - (checkpoint / "model.safetensors").stat().st_size) / size


def test_an_unknown_model(served: Hub, refusal: Refusal) -> None:
    assert "There is no model 'someone/llama-30', neither" in refusal("someone/llama-30")
    assert "did you mean llama-30m" in refusal("someone/llama-30")


def test_a_gated_model(served: Hub, refusal: Refusal) -> None:
    served.gated.add("meta/gated")
    sentence = refusal("meta/gated")
    assert "is gated: accept its licence at http" in sentence
    assert "hf auth login" in sentence


def test_a_repository_without_a_configuration(served: Hub, refusal: Refusal, model: Path) -> None:
    (model / "config.json").unlink()
    served.models["someone/data"] = model
    assert "has no config.json" in refusal("someone/data")


def test_pickles_are_refused_before_they_are_downloaded(served: Hub, refusal: Refusal, model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    served.models["someone/old"] = model
    assert "only as pickle files (pytorch_model.bin)" in refusal("someone/old")
    assert not any("pytorch_model.bin" in path for path in served.asked)


def test_other_kinds_are_refused_before_anything_is_downloaded(
    served: Hub, refusal: Refusal, model: Path
) -> None:
    (model / "config.json").write_text(json.dumps({"model_type": "bert"}))
    served.models["someone/bert"] = model
    assert "encoder-only" in refusal("someone/bert")
    assert not any("safetensors" in path for path in served.asked)


def test_too_large_models_are_refused_before_they_are_downloaded(
    served: Hub, refusal: Refusal, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.models["someone/large"] = checkpoint
    with monkeypatch.context() as patch:
        patch.setattr("engine.runtime.models.memory.available_bytes", lambda device: 1_000_000)
        assert "too large for cpu now" in refusal("someone/large")
    full = shutil._ntuple_diskusage(10, 9, 1)  # type: ignore[attr-defined]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    assert "of disk" in refusal("someone/large")
    assert not any("resolve" in path and "model.safetensors" in path for path in served.asked)


def test_a_download_that_breaks_off(served: Hub, refusal: Refusal, checkpoint: Path) -> None:
    served.models["someone/small"] = checkpoint
    served.broken.add("tokenizer.json")
    assert "Downloading 'tokenizer.json' of model 'someone/small' failed" in refusal("someone/small")


def test_only_the_configuration_in_the_cache(
    served: Hub, refusal: Refusal, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.models["someone/small"] = checkpoint
    hub._config("someone/small", offline=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "Only the configuration of model 'someone/small' is in the local cache" in refusal("someone/small")


def test_no_network(served: Hub, refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "the hub cannot be reached (no network?)" in refusal("someone/small")
    assert served.asked == []


def test_a_name_that_no_hub_has_is_not_looked_up(served: Hub) -> None:
    with pytest.raises(ModelError, match="nor a valid hub id"):
        hub.fetch("what is this", lambda activity, fraction: None, lambda size: None)
    assert served.asked == []
