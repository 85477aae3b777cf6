"""Events as JSON and back, by the types that their dataclasses declare. Nothing else is ever made of what is read.

A dataclass is an object with a member a field, a tuple an array, an enumeration its value, bytes base64; numbers that
JSON has no name for are "NaN", "Infinity" and "-Infinity". What is read is taken only where it has the declared type.
"""

import base64
import binascii
import json
import math
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from engine.protocol import Beam
from engine.trace.sameness import Sameness

Made = TypeVar("Made")
Encoder = Callable[[Any], Any]
Decoder = Callable[[Any, set[str]], Any]

LOWEST, HIGHEST = -(2**63), 2**63 - 1
#: What may measure "infinitely far" or "cannot be told"; everywhere else such a number is an error.
UNBOUNDED: tuple[type, ...] = (Sameness, Beam)
_NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


class CodecError(ValueError):
    """What was read is not what its type says; the message names the field."""


def to_json(value: Any) -> str:
    """An instance of a dataclass as JSON text."""
    kind: Any = type(value)
    plain = encoder(kind)(value)
    text = json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which only an escape can hold
        return json.dumps(plain, allow_nan=False, separators=(",", ":"))
    return text


def from_json(kind: type[Made], text: str, unknown: set[str]) -> Made:
    """The instance again; `unknown` gathers members that its type does not have, which are left out.

    Raises CodecError for everything that is not such an instance.
    """
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CodecError(f"{kind.__name__} is not JSON: {error}") from error
    any_kind: Any = kind
    made: Made = decoder(any_kind)(plain, unknown)
    return made


# ---------------------------------------------------------------- writing


@cache
def encoder(kind: Any) -> Encoder:
    """What makes plain values of a type's instances. Raises TypeError for a type that no event may have."""
    if is_dataclass(kind):
        parts = [(field.name, encoder(hint)) for field, hint in _members(kind)]
        return lambda value: {name: encode(getattr(value, name)) for name, encode in parts}
    if get_origin(kind) is tuple:
        return _tuple_encoder(get_args(kind))
    if _is_union(kind):
        return _union_encoder(get_args(kind))
    if kind in _SIMPLE:
        return _SIMPLE[kind]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return lambda value: value.value
    raise TypeError(f"nothing says how to write a {kind} down")


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


#: Numbers that numpy made become Python's own.
_SIMPLE: dict[Any, Encoder] = {
    int: int,
    bool: bool,
    str: str,
    float: _number,
    NoneType: lambda value: None,
    bytes: lambda value: base64.b64encode(value).decode("ascii"),
}


def _tuple_encoder(kinds: tuple[Any, ...]) -> Encoder:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        encode = encoder(kinds[0])
        return lambda value: [encode(each) for each in value]
    encoders = [encoder(kind) for kind in kinds]
    return lambda value: [encode(each) for encode, each in zip(encoders, value, strict=True)]


def _union_encoder(kinds: tuple[Any, ...]) -> Encoder:
    encoders = {get_origin(kind) or kind: encoder(kind) for kind in kinds}

    def encode(value: Any) -> Any:
        own = encoders.get(type(value)) or next(
            (e for k, e in encoders.items() if isinstance(value, k)), None
        )
        if own is None and isinstance(value, int):  # where a float may stand, a whole number may, too
            own = encoders.get(float)
        if own is None:
            raise TypeError(
                f"a {type(value).__name__} cannot stand where a {' or '.join(map(str, kinds))} is declared"
            )
        return own(value)

    return encode


# ---------------------------------------------------------------- reading


@cache
def decoder(kind: Any, unbounded: bool = False) -> Decoder:
    """What makes instances of a type of plain values; it raises CodecError where they are something else."""
    if is_dataclass(kind):
        return _dataclass_decoder(kind)
    if get_origin(kind) is tuple:
        return _tuple_decoder(get_args(kind), unbounded)
    if _is_union(kind):
        kinds = get_args(kind)
        made = _union_decoder([decoder(each, unbounded) for each in kinds if each is not NoneType])
        return _or_none(made) if NoneType in kinds else made
    if kind is float:
        return _any_float if unbounded else _finite
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _enum_decoder(kind)
    simple: dict[Any, Decoder] = {int: _int, bool: _bool, str: _str, bytes: _bytes, NoneType: _none}
    if kind in simple:
        return simple[kind]
    raise TypeError(f"nothing says how to read a {kind}")


def _dataclass_decoder(kind: Any) -> Decoder:
    unbounded = kind in UNBOUNDED
    parts = {field.name: decoder(hint, unbounded) for field, hint in _members(kind)}
    needed = {
        field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING
    }

    def decode(value: Any, unknown: set[str]) -> Any:
        if type(value) is not dict:
            raise CodecError(f"{kind.__name__} is no object")
        if not needed <= value.keys():
            raise CodecError(f"{kind.__name__} lacks {min(needed - value.keys())}")
        found = {}
        for name, plain in value.items():
            part = parts.get(name)
            if part is None:
                unknown.add(f"{kind.__name__}.{name[:64]}")
                continue
            try:
                found[name] = part(plain, unknown)
            except CodecError as error:
                raise CodecError(f"{kind.__name__}.{name}: {error}") from error
        return kind(**found)

    return decode


def _tuple_decoder(kinds: tuple[Any, ...], unbounded: bool) -> Decoder:
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        part = decoder(kinds[0], unbounded)
        return lambda value, unknown: tuple([part(each, unknown) for each in _list(value)])
    parts = [decoder(kind, unbounded) for kind in kinds]

    def decode(value: Any, unknown: set[str]) -> Any:
        if len(_list(value)) != len(parts):
            raise CodecError(f"has {len(value)} members, not {len(parts)}")
        return tuple(part(each, unknown) for part, each in zip(parts, value, strict=True))

    return decode


def _union_decoder(parts: list[Decoder]) -> Decoder:
    def decode(value: Any, unknown: set[str]) -> Any:
        for part in parts:
            try:
                return part(value, unknown)
            except CodecError as error:
                last = error
        raise last

    return decode


def _or_none(part: Decoder) -> Decoder:
    """Of the values that may be missing: looked at first, since most sensors are."""
    return lambda value, unknown: None if value is None else part(value, unknown)


def _enum_decoder(kind: type[Enum]) -> Decoder:
    members = {member.value: member for member in kind}

    def decode(value: Any, unknown: set[str]) -> Any:
        if type(value) not in (str, int) or value not in members:
            raise CodecError(f"is no {kind.__name__}")
        return members[value]

    return decode


def _list(value: Any) -> Any:
    if type(value) is not list:
        raise CodecError("is no array")
    return value


def _int(value: Any, _: set[str]) -> Any:
    if type(value) is not int or not LOWEST <= value <= HIGHEST:
        raise CodecError("is no whole number of 64 bits")
    return value


def _finite(value: Any, _: set[str]) -> Any:
    if type(value) not in (float, int) or not math.isfinite(value):
        raise CodecError("is no finite number")
    return value


def _any_float(value: Any, _: set[str]) -> Any:
    return _NUMBERS[value] if type(value) is str and value in _NUMBERS else _finite(value, _)


def _bool(value: Any, _: set[str]) -> Any:
    if type(value) is not bool:
        raise CodecError("is neither true nor false")
    return value


def _str(value: Any, _: set[str]) -> Any:
    if type(value) is not str:
        raise CodecError("is no text")
    return value


def _none(value: Any, _: set[str]) -> Any:
    if value is not None:
        raise CodecError("is not null")
    return value


def _bytes(value: Any, _: set[str]) -> Any:
    try:
        return base64.b64decode(_str(value, _), validate=True)
    except (binascii.Error, ValueError) as error:
        raise CodecError(f"is no base64: {error}") from error


# ---------------------------------------------------------------- types


def _members(kind: Any) -> tuple[tuple[Any, Any], ...]:
    hints = get_type_hints(kind)
    return tuple((field, hints[field.name]) for field in fields(kind))


def _is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)
