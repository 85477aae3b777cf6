"""What is known of a model before it is loaded, against a hub of one process."""

import json
import queue
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.protocol import CatalogueEntry, Command, Event, Family, LookedUp, LookUp, Shutdown
from engine.runtime.inbox import Inbox
from engine.runtime.lookups import Lookups
from engine.runtime.models import fitting
from engine.runtime.models.errors import HubUnavailable
from engine.runtime.models.fitting import Room
from engine.runtime.models.lookup import look_up
from engine.runtime.session import run_session
from tests.engine.runtime.models.conftest import shard
from tests.engine.runtime.models.fake_hub import Hub

ROOM = Room((("cpu", 10**10),))


def found(model: str | Path, room: Room = ROOM) -> CatalogueEntry:
    return look_up(str(model), room, lambda: None)


def settings(model: Path, **changes: object) -> None:
    """Change a model's config.json."""
    config = model / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))


def test_a_model_that_works_says_its_size_and_leaves_nothing_behind(
    served: Hub, checkpoint: Path, empty_cache: Path
) -> None:
    served.models["someone/small"] = checkpoint
    served.counted["someone/small"] = {"F32": 1_069_216}
    entry = found("someone/small")
    size = (checkpoint / "model.safetensors").stat().st_size
    assert (entry.kind, entry.reason, entry.architecture) == ("hub", "", "LlamaForCausalLM")
    assert (entry.family, entry.context, entry.parameters) == (Family.DECODER, 256, 1_069_216)
    assert entry.weight_bytes == entry.fits[0].weight_bytes == size
    assert entry.fits[0].reason == ""
    assert entry.remark.endswith("to download")
    assert list(empty_cache.iterdir()) == [], "asking is not loading"
    assert not any("safetensors" in path for path in served.asked)


def test_sizes_are_known_where_the_hub_has_counted_nothing(served: Hub, model: Path) -> None:
    shard(model)
    served.models["someone/shards"] = model
    entry = found("someone/shards")
    assert entry.parameters == 0
    assert entry.weight_bytes == sum(path.stat().st_size for path in model.glob("*.safetensors"))


def test_a_model_that_is_too_large_says_so_of_each_device(served: Hub, checkpoint: Path) -> None:
    served.models["someone/large"] = checkpoint
    entry = found("someone/large", Room((("cuda:0", 10**6), ("cpu", 10**9), ("split", 10**9))))
    assert entry.reason == ""
    assert "cuda:0 has 0.00 GiB free: run it on cpu" in entry.fits[0].reason
    assert entry.fits[1].reason == ""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_type": "own", "auto_map": {"AutoModelForCausalLM": "own.Own"}}, "its own Python code"),
        ({"model_type": "llama-of-the-future"}, "the architecture 'llama-of-the-future', which transformers"),
        ({"model_type": "vit"}, "is not a language model"),
    ],
)
def test_what_the_configuration_rules_out(
    served: Hub, model: Path, changes: dict[str, object], said: str
) -> None:
    settings(model, **changes)
    served.models["someone/odd"] = model
    assert said in found("someone/odd").reason


def test_pickles(served: Hub, model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    served.models["someone/old"] = model
    assert "only as pickle files (pytorch_model.bin)" in found("someone/old").reason
    assert not any("pytorch_model.bin" in path for path in served.asked)


@pytest.mark.parametrize("token", [None, "hf_not_permitted"])
def test_gated_without_permission(
    served: Hub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
    served.models["meta/gated"] = checkpoint
    served.gated.add("meta/gated")
    served.open_pages.add("meta/gated")
    assert "is gated: accept its licence at http" in found("meta/gated").reason


def test_a_model_that_does_not_exist(served: Hub) -> None:
    assert "There is no model 'someone/llama-30', neither" in found("someone/llama-30").reason


def test_a_disk_without_room(served: Hub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served.models["someone/small"] = checkpoint
    full = SimpleNamespace(disk_usage=lambda path: SimpleNamespace(free=9))
    monkeypatch.setattr("engine.runtime.models.hub.shutil", full)
    assert "of disk" in found("someone/small").reason


def test_a_silent_hub_is_no_verdict(served: Hub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 0.3)
    served.models["someone/small"] = checkpoint
    served.silent_on = "config.json"
    with pytest.raises(HubUnavailable, match=r"did not answer within 0\.3 s"):
        found("someone/small")


def test_no_network_is_no_verdict(served: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubUnavailable, match="the hub cannot be reached"):
        found("someone/small")


def test_a_hub_in_trouble_is_no_verdict(served: Hub, checkpoint: Path) -> None:
    served.models["someone/small"] = checkpoint
    served.broken.add("config.json")
    with pytest.raises(HubUnavailable):
        found("someone/small")


def test_nothing_is_asked_where_the_network_is_forbidden(
    served: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "switched off (HF_HUB_OFFLINE)" in found("someone/small").reason
    assert served.asked == []


def test_a_directory_is_judged_without_the_hub(served: Hub, model: Path) -> None:
    entry = found(model)
    assert (entry.kind, entry.reason) == ("directory", "")
    assert entry.parameters > 10**6
    (model / "model.safetensors").write_bytes(b"torn")
    assert "truncated or damaged" in found(model).reason
    assert served.asked == []


# ---------------------------------------------------------------- beside a session


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> tuple[Lookups, Callable[[float], Event]]:
    """Lookups, and the next answer, waited for."""
    monkeypatch.setattr(fitting, "available_bytes", lambda device: 10**10)
    answers: queue.SimpleQueue[Event] = queue.SimpleQueue()
    return Lookups(answers.put, lambda: None), lambda timeout_s: answers.get(timeout=timeout_s)


def test_only_the_last_question_is_answered(
    served: Hub, checkpoint: Path, asked: tuple[Lookups, Callable[[float], Event]]
) -> None:
    lookups, answer = asked
    served.models |= {"someone/slow": checkpoint, "someone/small": checkpoint}
    served.silent_on = "someone/slow"
    lookups.ask(LookUp(1, "someone/slow"))
    while not served.asked:
        time.sleep(0.01)
    lookups.ask(LookUp(2, "someone/small"))
    event = answer(10.0)
    assert isinstance(event, LookedUp)
    assert (event.request, event.entry.name, event.problem) == (2, "someone/small", "")
    served.silence.set()
    with pytest.raises(queue.Empty):
        answer(0.3)


def test_an_answer_that_could_not_be_found_says_why(
    served: Hub, monkeypatch: pytest.MonkeyPatch, asked: tuple[Lookups, Callable[[float], Event]]
) -> None:
    lookups, answer = asked
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    lookups.ask(LookUp(1, "someone/small"))
    event = answer(10.0)
    assert isinstance(event, LookedUp)
    assert "the hub cannot be reached" in event.problem
    assert event.entry.reason == ""


def test_a_session_is_asked_and_no_step_or_load_waits_for_it() -> None:
    commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
    asked: list[LookUp] = []
    inbox = Inbox(commands, asked.append)
    commands.put(LookUp(1, "someone/small"))
    assert not inbox.has_orders, "a step would be held"
    commands.put(LookUp(2, "someone/small"))
    assert not inbox.gives_up_load
    assert [question.request for question in asked] == [1, 2]


def test_a_session_answers(served: Hub, checkpoint: Path) -> None:
    served.models["someone/small"] = checkpoint
    commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
    commands.put(LookUp(7, "someone/small"))
    heard: list[LookedUp] = []

    def emit(event: Event) -> None:
        if isinstance(event, LookedUp):
            heard.append(event)
            commands.put(Shutdown())

    run_session(commands, emit, place="thread")
    assert [(event.request, event.entry.name, event.entry.reason) for event in heard] == [
        (7, "someone/small", "")
    ]
