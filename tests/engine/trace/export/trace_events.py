"""A strict reader of the trace-event format: it takes nothing for granted that the document does not promise.

Source: "Trace Event Format" (Google, 2016): which keys each phase of event needs, how B and E nest, what may be an
instant's scope. Times are read as decimals, so that a nanosecond is a nanosecond.
"""

import json
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

NEEDS = {
    "B": {"name", "cat", "pid", "tid", "ts"},
    "E": {"pid", "tid", "ts"},
    "b": {"name", "cat", "id", "pid", "tid", "ts"},
    "e": {"name", "cat", "id", "pid", "tid", "ts"},
    "X": {"name", "cat", "pid", "tid", "ts", "dur"},
    "i": {"name", "cat", "pid", "tid", "ts", "s"},
    "C": {"name", "cat", "pid", "tid", "ts", "args"},
    "M": {"name", "cat", "pid", "tid", "ts", "args"},
}
KNOWN = {"ph", "name", "cat", "pid", "tid", "ts", "dur", "s", "id", "args"}
METADATA = {"process_name": str, "thread_name": str, "thread_sort_index": int}


@dataclass
class Slice:
    name: str
    begin_ns: int
    end_ns: int
    depth: int
    args: dict = field(default_factory=dict)


@dataclass
class Parsed:
    tracks: dict[int, str]
    slices: dict[int, list[Slice]]  # of each track, in the order in which they begin
    asynchronous: dict[str, list[Slice]]  # of each id
    instants: list[dict]
    counters: dict[str, list[tuple[int, int]]]
    about: dict


def nanoseconds(value: object) -> int:
    assert isinstance(value, (Decimal, int)), f"{value!r} is no number"
    assert not isinstance(value, bool)
    ns = Decimal(value) * 1000
    assert ns == int(ns), f"{value} microseconds is no whole number of nanoseconds"
    return int(ns)


def read(content: bytes) -> Parsed:
    def forbid(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    whole = json.loads(content.decode("utf-8"), parse_float=Decimal, parse_constant=forbid)
    assert set(whole) == {"traceEvents", "displayTimeUnit", "otherData"}
    assert whole["displayTimeUnit"] in ("ms", "ns")
    parsed = Parsed({}, defaultdict(list), defaultdict(list), [], defaultdict(list), whole["otherData"])
    open_slices: dict[int, list[Slice]] = defaultdict(list)
    open_asynchronous: dict[str, list[Slice]] = defaultdict(list)
    last: dict[int, int] = {}
    for event in whole["traceEvents"]:
        kind = event["ph"]
        missing, strange = NEEDS[kind] - set(event), set(event) - KNOWN
        assert not missing, (event, missing)
        assert not strange, (event, strange)
        assert event["pid"] == 1
        assert type(event["tid"]) is int
        assert isinstance(event.get("args", {}), dict)
        assert all(isinstance(event[key], str) for key in ("name", "cat") if key in event)
        if kind == "M":
            (value,) = event["args"].values()
            assert isinstance(value, METADATA[event["name"]])
            if event["name"] == "thread_name":
                parsed.tracks[event["tid"]] = value
            continue
        at = nanoseconds(event["ts"])
        assert at >= 0
        if kind == "C":
            (value,) = event["args"].values()
            assert type(value) in (int, Decimal)
            parsed.counters[event["name"]].append((at, value))
            continue
        assert event["tid"] in parsed.tracks, "a track without a name"
        if kind == "i":
            assert event["s"] in ("g", "p", "t")
            parsed.instants.append(event | {"ts": at})
            continue
        if kind in "be":
            stack = open_asynchronous[event["id"]]
            if kind == "b":
                stack.append(Slice(event["name"], at, -1, len(stack), event.get("args", {})))
                parsed.asynchronous[event["id"]].append(stack[-1])
            else:
                ended = stack.pop()
                assert ended.name == event["name"]
                ended.end_ns = at
            continue
        tid = event["tid"]
        assert at >= last.get(tid, 0), "a track goes back in time"
        last[tid] = at
        stack = open_slices[tid]
        if kind == "X":
            end = at + nanoseconds(event["dur"])
            assert end >= at
            while stack and stack[-1].end_ns <= at:
                stack.pop()
            assert not stack or end <= stack[-1].end_ns, "slices overlap without being nested"
            made = Slice(event["name"], at, end, len(stack), event.get("args", {}))
            parsed.slices[tid].append(made)
            stack.append(made)
        elif kind == "B":
            made = Slice(event["name"], at, -1, len(stack), event.get("args", {}))
            parsed.slices[tid].append(made)
            stack.append(made)
        else:
            stack.pop().end_ns = at  # IndexError: an end without a begin
    for slices in (*parsed.slices.values(), *parsed.asynchronous.values()):
        assert all(each.end_ns >= each.begin_ns for each in slices), "a slice was never ended"
    return parsed
