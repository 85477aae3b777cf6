"""Models by hub id, against a hub of one process: what it refuses, what comes from it, what the cache is good for."""

import errno
import itertools
import json
import shutil
import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import huggingface_hub
import pytest
import torch
from filelock import FileLock
from transformers import AutoModelForCausalLM

from engine.protocol import Progress
from engine.runtime.models import hub
from engine.runtime.models.errors import LoadGivenUp, ModelError
from engine.runtime.models.loading import LoadedModel, load_model
from engine.runtime.models.progress import TELL_EVERY_NS, DownloadCount, LoadReport
from tests.engine.runtime.models.conftest import shard
from tests.engine.runtime.models.fake_hub import COMMIT, PIECE, Hub

Load = Callable[..., LoadedModel]
Refusal = Callable[..., str]


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
    heard: list[Progress] = []
    report = LoadReport(heard.append, clock=itertools.count(0, TELL_EVERY_NS).__next__)
    load_model("someone/small", "cpu", None, report)
    weights = [progress for progress in heard if progress.activity == "downloading model.safetensors"]
    size = sum(path.stat().st_size for path in checkpoint.iterdir())
    files = len(list(checkpoint.iterdir()))
    assert {(progress.stage, progress.total_bytes, progress.total_files) for progress in weights} == {
        ("download", size, files)
    }
    assert {progress.done_files for progress in weights[:-1]} == {files - 1}  # the weights are the last file
    assert (weights[-1].done_bytes, weights[-1].done_files, weights[-1].fraction) == (size, files, 1.0)
    assert weights[-1].bytes_per_s > 0
    assert [name for name, _ in report.stages_ns] == ["look up", "download", "read weights"]


def test_what_is_in_the_cache_is_not_a_download(served: Hub, checkpoint: Path) -> None:
    served.models["someone/small"] = checkpoint
    load_model("someone/small", "cpu", None, LoadReport())
    report = LoadReport()
    load_model("someone/small", "cpu", None, report)
    assert [name for name, _ in report.stages_ns] == ["look up", "read weights"]


def gone_through(model: str, given_up: Callable[[], bool]) -> list[Progress]:
    """What is heard of a load until it is given up."""
    heard: list[Progress] = []
    with pytest.raises(LoadGivenUp):
        load_model(model, "cpu", None, LoadReport(heard.append, given_up))
    return heard


def partial_file(cache: Path) -> Path:
    (partial,) = (cache / "models--someone--small" / "blobs").glob("*.incomplete")
    return partial


def test_a_download_can_be_given_up_and_goes_on_where_it_was(
    served: Hub, checkpoint: Path, empty_cache: Path
) -> None:
    served.models["someone/small"] = checkpoint
    given_up, let_go = threading.Event(), threading.Event()

    def stall(name: str, sent: int) -> None:
        if name == "model.safetensors" and sent == 2 * PIECE:
            given_up.set()
            let_go.wait(30)

    served.on_body = stall
    gone_through("someone/small", given_up.is_set)
    let_go.set()
    while any(worker.name == "hub" for worker in threading.enumerate()):
        pass  # what nobody waits for any more ends at the next bytes
    here = partial_file(empty_cache).stat().st_size
    assert 0 < here < (checkpoint / "model.safetensors").stat().st_size
    served.on_body = lambda name, sent: None
    heard: list[Progress] = []
    loaded = load_model("someone/small", "cpu", None, LoadReport(heard.append))
    assert served.ranges == [f"bytes={here}-"]
    others = sum(p.stat().st_size for p in checkpoint.iterdir() if p.name != "model.safetensors")
    first = next(progress for progress in heard if progress.done_bytes)
    assert first.done_bytes >= others, "what was here is counted from the beginning"
    assert max(progress.done_bytes for progress in heard) == first.total_bytes
    original = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert torch.equal(loaded.model.lm_head.weight, original.lm_head.weight)


def test_a_silent_hub_can_be_given_up_at_once(served: Hub, checkpoint: Path) -> None:
    served.models["someone/small"] = checkpoint
    served.silent_on = "/api/models/"
    gone_through("someone/small", lambda: bool(served.asked))  # the time-out is 10 s, the answer never comes
    assert not served.silence.is_set()


@pytest.mark.parametrize(
    ("silent_on", "said"),
    [
        ("/api/models/", "did not answer within 0.8 s when it was asked for model 'someone/small'"),
        ("config.json", "did not answer within 0.8 s when it was asked for model 'someone/small'"),
        ("model.safetensors", "failed (the hub sent nothing for 0.8 s): load it again"),
    ],
)
def test_a_hub_that_never_answers_is_told_of(
    served: Hub,
    refusal: Refusal,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    silent_on: str,
    said: str,
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.8)
    served.models["someone/small"] = checkpoint
    served.silent_on = silent_on
    assert said in refusal("someone/small")


def test_a_complete_copy_serves_where_the_hub_is_silent(
    served: Hub, load: Load, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.models["someone/small"] = checkpoint
    load("someone/small")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.8)
    served.silent_on = "/"
    assert load("someone/small").name == "someone/small"


def test_a_connection_that_breaks_is_taken_up_again(served: Hub, load: Load, checkpoint: Path) -> None:
    served.models["someone/small"] = checkpoint
    served.breaks_after["model.safetensors"] = [100_000, 700_000]
    expected = AutoModelForCausalLM.from_pretrained(checkpoint)
    assert torch.equal(load("someone/small").model.lm_head.weight, expected.lm_head.weight)
    assert served.ranges == ["bytes=100000-", "bytes=800000-"]


def test_a_download_that_brings_nothing_more_fails_and_keeps_what_came(
    served: Hub, load: Load, refusal: Refusal, checkpoint: Path, empty_cache: Path
) -> None:
    served.models["someone/small"] = checkpoint
    served.breaks_after["model.safetensors"] = [100_000, 0]
    sentence = refusal("someone/small")
    assert "Downloading 'model.safetensors' of model 'someone/small' failed" in sentence
    assert "what has come is kept" in sentence
    assert partial_file(empty_cache).stat().st_size == 100_000
    load("someone/small")
    assert served.ranges[-1] == "bytes=100000-"


def test_a_disk_that_becomes_full(
    served: Hub, refusal: Refusal, load: Load, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.models["someone/small"] = checkpoint

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("engine.runtime.models.transfer._append", full)
        sentence = refusal("someone/small")
    assert "The disk became full while" in sentence
    assert "free disk space and load it again" in sentence
    assert load("someone/small").name == "someone/small"


def test_half_a_model_in_the_cache_is_completed_or_told_of(
    served: Hub, load: Load, refusal: Refusal, model: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shard(model)
    served.models["someone/small"] = model
    load("someone/small")
    snapshot = empty_cache / "models--someone--small" / "snapshots" / COMMIT
    lost = next(snapshot.glob("model-00002*.safetensors"))
    lost.resolve().unlink()
    lost.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        assert "Only a part of model 'someone/small' is in the local cache" in refusal("someone/small")
    served.asked.clear()
    heard: list[Progress] = []
    load_model("someone/small", "cpu", None, LoadReport(heard.append))
    assert lost.is_file()
    assert {progress.activity for progress in heard if progress.stage == "download"} == {
        f"downloading {lost.name}"
    }


def test_another_program_downloads_the_same_file(
    served: Hub, refusal: Refusal, checkpoint: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runtime.models.transfer.LOCK_SECONDS", 0.1)
    served.models["someone/small"] = checkpoint
    etag = sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()
    lock = empty_cache / ".locks" / "models--someone--small" / f"{etag}.lock"
    lock.parent.mkdir(parents=True)
    with FileLock(lock):
        assert "Another program is downloading 'model.safetensors'" in refusal("someone/small")


def test_a_partial_file_that_is_longer_than_the_file(
    served: Hub, refusal: Refusal, load: Load, checkpoint: Path, empty_cache: Path
) -> None:
    served.models["someone/small"] = checkpoint
    body = (checkpoint / "model.safetensors").read_bytes()
    blobs = empty_cache / "models--someone--small" / "blobs"
    blobs.mkdir(parents=True)
    (blobs / f"{sha256(body).hexdigest()}.incomplete").write_bytes(body + b"more")
    assert "more came than" in refusal("someone/small")
    assert load("someone/small").name == "someone/small"


def test_the_rate_is_that_of_the_last_seconds() -> None:
    heard: list[Progress] = []
    now = itertools.count(0, 1_000_000_000)
    report = LoadReport(heard.append, clock=now.__next__)
    for arrived in (0, 100, 200, 300, 300, 300, 300, 300):
        report.downloaded("x", DownloadCount(5_000 + arrived, 10_000, 0, 1, arrived))
    rates = [progress.bytes_per_s for progress in heard]
    assert rates[:4] == [0.0, 100.0, 100.0, 100.0], "what was here before is no rate"
    assert rates[4] > rates[5] > rates[-1] == 0.0, "a line that falls silent slows down"


def test_an_unknown_model(served: Hub, refusal: Refusal) -> None:
    assert "There is no model 'someone/llama-30', neither" in refusal("someone/llama-30")
    assert "did you mean llama-30m" in refusal("someone/llama-30")


@pytest.mark.parametrize("open_page", [False, True])
@pytest.mark.parametrize("token", [None, "hf_not_permitted"])
def test_a_gated_model(
    served: Hub,
    refusal: Refusal,
    monkeypatch: pytest.MonkeyPatch,
    checkpoint: Path,
    token: str | None,
    open_page: bool,
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
    served.models["meta/gated"] = checkpoint
    served.gated.add("meta/gated")
    served.open_pages |= {"meta/gated"} if open_page else set()
    sentence = refusal("meta/gated")
    assert "is gated: accept its licence at http" in sentence
    assert "hf auth login" in sentence
    if open_page and token is None:
        assert not any("resolve" in path for path in served.asked), "known before anything is downloaded"


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
    (model / "config.json").write_text(json.dumps({"model_type": "vit"}))
    served.models["someone/pictures"] = model
    assert "is not a language model" in refusal("someone/pictures")
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
    huggingface_hub.hf_hub_download("someone/small", "config.json", cache_dir=hub.cache_directory())
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "Only a part of model 'someone/small' is in the local cache" in refusal("someone/small")


def test_no_network(served: Hub, refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    assert "the hub cannot be reached (no network?)" in refusal("someone/small")
    assert served.asked == []


def test_a_name_that_no_hub_has_is_not_looked_up(served: Hub) -> None:
    with pytest.raises(ModelError, match="nor a valid hub id"):
        hub.fetch("what is this", LoadReport(), lambda size: None)
    assert served.asked == []
