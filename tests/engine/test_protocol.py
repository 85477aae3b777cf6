"""What is said between front end and engine is frozen, compact, and survives the way to another process."""

import dataclasses
import pickle
import types
import typing
from collections.abc import Iterator
from enum import Enum

import pytest

from engine.protocol import Command, Event

WORDS = (*typing.get_args(Command), *typing.get_args(Event))


def example(kind: typing.Any) -> typing.Any:
    """Some value of a type, with every field of a dataclass filled in."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return example(arguments[0])
    if origin is tuple:
        inner = arguments[:-1] if arguments[-1] is Ellipsis else arguments
        return tuple(example(argument) for argument in inner)
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{field.name: example(hints[field.name]) for field in dataclasses.fields(kind)})
    if issubclass(kind, Enum):
        return next(iter(kind))
    return {int: 2**62, float: 0.5, str: "文字 🙂", bool: True, bytes: b"\x00\xff"}[kind]


def parts(value: typing.Any) -> Iterator[typing.Any]:
    yield value
    inner = value if isinstance(value, tuple) else ()
    if dataclasses.is_dataclass(value):
        inner = tuple(getattr(value, field.name) for field in dataclasses.fields(value))
    for part in inner:
        yield from parts(part)


def test_commands_and_events_have_different_names() -> None:
    assert len(WORDS) > 15
    assert len({word.__name__ for word in WORDS}) == len(WORDS)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_survives_the_way_to_another_process(word: type) -> None:
    said = example(word)
    heard = pickle.loads(pickle.dumps(said, protocol=pickle.HIGHEST_PROTOCOL))
    assert heard == said
    assert type(heard) is word
    assert hash(heard) == hash(said)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_and_all_in_it_is_frozen_and_has_no_room_for_more(word: type) -> None:
    for part in parts(example(word)):
        if not dataclasses.is_dataclass(part):
            assert isinstance(part, int | float | str | bytes | tuple | None)
            continue
        assert not hasattr(part, "__dict__")
        for field in dataclasses.fields(part):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(part, field.name, None)


def test_events_say_when_except_where_their_times_are_their_content() -> None:
    without = {
        e.__name__ for e in typing.get_args(Event) if "at_ns" not in {f.name for f in dataclasses.fields(e)}
    }
    assert without == {"LayoutDefined", "GenerationStarted", "StepEnded", "SequencesEncoded", "BeamsRanked"}
