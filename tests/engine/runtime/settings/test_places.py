"""Where engine and model are: listed like other settings, refused by an engine, which cannot carry them out."""

import re
from pathlib import Path

import pytest
import torch

from engine.protocol import SettingChange
from engine.runtime.settings import places
from tests.engine.runtime.live_models import Bench, family_checkpoint


def test_a_model_lies_on_the_cpu_and_says_why_it_cannot_be_split(tmp_path: Path) -> None:
    bench = Bench(family_checkpoint("llama", tmp_path))
    assert dict(bench.workbench.effective())["placement"] == "cpu"
    facts = {facts.key: facts for facts in bench.workbench.facts}["placement"]
    if not torch.accelerator.is_available():
        assert [(choice.value, bool(choice.reason)) for choice in facts.choices] == [
            ("cpu", False),
            ("split", True),
            ("tensor_parallel", True),
        ]
    bench.close()


def test_with_an_accelerator_each_device_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "accelerators", lambda: ("cuda:0", "cuda:1"))
    facts = places.model_facts()
    assert facts.default == "cuda:0"
    assert [choice.value for choice in facts.choices if not choice.reason] == [
        "cuda:0",
        "cuda:1",
        "cpu",
        "split",
    ]


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("placement", "cpu", ""),
        ("placement", "split", "no accelerator|load it anew"),
        ("placement", "tensor_parallel", "split whole layers"),
        ("placement", "moon", "no choice 'moon': choose cpu"),
        ("engine_place", "thread", ""),
        ("engine_place", "process", "restarts it"),
        ("engine_place", "cloud", "no choice 'cloud': choose process, thread"),
    ],
)
def test_an_engine_says_what_it_cannot_do(key: str, value: str, words: str, tmp_path: Path) -> None:
    bench = Bench(family_checkpoint("llama", tmp_path))
    bench.workbench.change(((key, value),))
    (change,) = bench.trace.marks[-1].event.changes
    assert isinstance(change, SettingChange)
    assert (change.key, change.requested) == (key, value)
    assert change.effective == ("cpu" if key == "placement" else "thread")
    assert re.search(words, change.reason) if words else change.reason == ""
    bench.close()
