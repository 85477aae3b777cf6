"""Events as JSON: back they are the same, and what is none of them is refused."""

import json
import math
from dataclasses import dataclass

import pytest

from engine.protocol import (
    BeamsRanked,
    Failed,
    Family,
    MemorySampled,
    ModelLoaded,
    ObserverReport,
    SettingsChanged,
)
from engine.trace.recording.codec import CodecError, from_json, to_json
from engine.trace.recording.schema import KINDS
from engine.trace.sameness import Sameness
from tests.engine.trace.building import changed, loaded
from tests.engine.trace.recording.sessions import each_kind


@dataclass(frozen=True, slots=True)
class _Bytes:
    data: bytes


@dataclass(frozen=True, slots=True)
class _Maybe:
    number: float | None


def test_every_kind_of_event_comes_back_as_it_was() -> None:
    for event in each_kind(KINDS, 20):
        unknown: set[str] = set()
        back = from_json(type(event), to_json(event), unknown)
        assert back == event
        assert repr(back) == repr(event)
        assert not unknown


def test_values_of_settings_keep_their_types() -> None:
    event = changed(1, (("a", 1), ("b", 1.0), ("c", True), ("d", "1")))
    back = from_json(SettingsChanged, to_json(event), set())
    assert [type(value) for _, value in back.effective] == [int, float, bool, str]


def test_what_is_endless_is_named_since_json_has_no_number_for_it() -> None:
    event = Sameness(1, 1, -1, 1.0, math.inf, -math.inf, math.nan)
    text = to_json(event)
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name))["kl_mean"] == "Infinity"
    back = from_json(Sameness, text, set())
    assert (back.kl_mean, back.kl_p99) == (math.inf, -math.inf)
    assert math.isnan(back.nll_change)


def test_half_a_character_is_escaped_since_no_file_could_hold_it() -> None:
    text = to_json(Failed(1, "half a \ud800 character"))
    assert text.isascii()
    assert from_json(Failed, text, set()).sentence == "half a \ud800 character"


def test_what_a_newer_version_says_besides_is_left_out_and_named() -> None:
    plain = json.loads(to_json(Failed(1, "a")))
    unknown: set[str] = set()
    assert from_json(Failed, json.dumps({**plain, "mood": "grim"}), unknown) == Failed(1, "a")
    assert unknown == {"Failed.mood"}


def test_what_an_older_version_did_not_say_has_its_default() -> None:
    assert from_json(Failed, '{"at_ns": 1, "sentence": "a"}', set()) == Failed(1, "a")
    plain = json.loads(to_json(loaded()))
    del plain["model"]["family"]
    assert from_json(ModelLoaded, json.dumps(plain), set()).model.family is Family.DECODER


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Failed, ""),
        (Failed, "[]"),
        (Failed, '{"sentence": "no time"}'),
        (Failed, '{"at_ns": 1.5, "sentence": ""}'),
        (Failed, '{"at_ns": true, "sentence": ""}'),
        (Failed, '{"at_ns": "1", "sentence": ""}'),
        (Failed, '{"at_ns": 9223372036854775808, "sentence": ""}'),
        (Failed, '{"at_ns": 1, "sentence": null}'),
        (Failed, "[" * 100_000),
        (Failed, "9" * 100_000),
        (ObserverReport, '{"at_ns": 1, "marks_per_step": 1, "mark_cost_ns": NaN, "emit_ns_per_step": 1}'),
        (ObserverReport, '{"at_ns": 1, "marks_per_step": 1, "mark_cost_ns": "NaN", "emit_ns_per_step": 1}'),
        (ObserverReport, '{"at_ns": 1, "marks_per_step": 1, "mark_cost_ns": 1e999, "emit_ns_per_step": 1}'),
        (MemorySampled, '{"at_ns": 1, "process_bytes": "many", "weight_bytes": 1, "cache_bytes": 1}'),
        (BeamsRanked, '{"step": 1, "generation": 0, "beams": {"text": "a"}}'),
        (SettingsChanged, to_json(changed(1, (("a", "b"),))).replace('["a","b"]', '["a","b","c"]')),
        (ModelLoaded, to_json(loaded()).replace('"decoder"', '"oracle"')),
    ],
)  # fmt: skip
def test_what_is_no_such_event_is_refused(kind: type, text: str) -> None:
    with pytest.raises(CodecError):
        from_json(kind, text, set())


def test_a_refusal_says_where() -> None:
    text = to_json(loaded()).replace('"hidden_size":4', '"hidden_size":"four"')
    with pytest.raises(CodecError, match=r"^ModelLoaded\.model: ModelFacts\.hidden_size: is no whole number"):
        from_json(ModelLoaded, text, set())


def test_a_whole_number_may_stand_where_a_float_may_and_nothing_else() -> None:
    assert from_json(_Maybe, to_json(_Maybe(3)), set()) == _Maybe(3.0)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a str cannot stand where"):
        to_json(_Maybe("3"))  # type: ignore[arg-type]


def test_bytes_are_base64_and_nothing_else() -> None:
    unknown: set[str] = set()
    with pytest.raises(CodecError, match="base64"):
        from_json(_Bytes, '{"data": "*"}', unknown)
    assert from_json(_Bytes, to_json(_Bytes(b"\0\xff")), unknown) == _Bytes(b"\0\xff")
