"""The tables of a session file: what they are called, what is in them, and the version of all that."""

from dataclasses import fields
from enum import Enum
from typing import Any, get_args, get_type_hints

from engine.protocol import (
    CatalogueListed,
    Event,
    LoadCancelled,
    LookedUp,
    Progress,
    StepEnded,
    Token,
    TokensCounted,
)
from engine.trace.ledger import Layout
from engine.trace.phases import ROLE_OF, Phase, Role

APPLICATION_ID = 0x43594347  # "CYCG", at byte 68 of the file
#: A newer MAJOR cannot be read by an older program. A newer MINOR can: it adds columns and kinds of events.
MAJOR, MINOR = 1, 1
USER_VERSION = MAJOR * 1000 + MINOR

#: What an engine says of other things than the session: nothing that is measured, and nothing to hand on with it.
NOT_RECORDED: tuple[type, ...] = (Progress, LoadCancelled, CatalogueListed, LookedUp, TokensCounted)
#: The events that are kept as JSON, by the name of their class.
KINDS: dict[str, Any] = {
    kind.__name__: kind for kind in get_args(Event) if kind not in (*NOT_RECORDED, StepEnded)
}

_SQL_TYPES: dict[Any, str] = {int: "INTEGER", bool: "INTEGER", str: "TEXT", float: "REAL", bytes: "BLOB"}
_APART = ("stamps", "tokens")  # of StepEnded: kept otherwise than in a column of their name
_STEP_NAMES = {"index": "step_index"}  # `index` is a word of SQL


def _sql_type(kind: Any) -> str:
    return "TEXT" if isinstance(kind, type) and issubclass(kind, Enum) else _SQL_TYPES[kind]


def _columns(kind: Any, apart: tuple[str, ...], names: dict[str, str]) -> dict[str, tuple[str, str, Any]]:
    hints = get_type_hints(kind)
    return {
        names.get(field.name, field.name): (field.name, _sql_type(hints[field.name]), hints[field.name])
        for field in fields(kind)
        if field.name not in apart
    }


#: Columns that hold a field of StepEnded or of Token as it is: column to (field, type in SQL, type in Python).
STEP_FIELDS = _columns(StepEnded, _APART, _STEP_NAMES)
TOKEN_FIELDS = _columns(Token, (), {})
#: Columns for those who read with SQL. The program itself computes them anew, from the gaps.
PHASE_COLUMNS = tuple(f"{phase.name.lower()}_ns" for phase in Phase)
#: Columns that the program writes and does not read.
FOR_PEOPLE = ("wall_ns", *PHASE_COLUMNS)
#: Columns of bytes and texts, of which there are no packed numbers.
NO_NUMBERS = ("device_stamps", "gaps", "text")

METADATA = "CREATE TABLE metadata (key TEXT PRIMARY KEY NOT NULL, value TEXT NOT NULL) STRICT"
EVENTS = (
    "CREATE TABLE events (event INTEGER PRIMARY KEY, step INTEGER NOT NULL, at_ns INTEGER NOT NULL,"
    " kind TEXT NOT NULL, body TEXT NOT NULL) STRICT"
)
STEPS = (
    "CREATE TABLE steps (step INTEGER PRIMARY KEY, begin_ns INTEGER NOT NULL, wall_ns INTEGER NOT NULL, "
    + "".join(f"{name} {kind} NOT NULL, " for name, (_, kind, _) in STEP_FIELDS.items())
    + "".join(f"{name} INTEGER NOT NULL, " for name in PHASE_COLUMNS)
    + "gaps BLOB NOT NULL) STRICT"
)
TOKENS = (
    "CREATE TABLE tokens (token INTEGER PRIMARY KEY, step INTEGER NOT NULL, "
    + ", ".join(f"{name} {kind} NOT NULL" for name, (_, kind, _) in TOKEN_FIELDS.items())
    + ") STRICT"
)
GAPS = (
    "CREATE TABLE layout_gaps (layout INTEGER NOT NULL, gap INTEGER NOT NULL, gaps INTEGER NOT NULL,"
    " phase TEXT NOT NULL, layer INTEGER NOT NULL, role TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (layout, gap))"
    " STRICT, WITHOUT ROWID"
)
PACKED = (
    "CREATE TABLE packed (block INTEGER PRIMARY KEY, source TEXT NOT NULL, count INTEGER NOT NULL,"
    " columns TEXT NOT NULL, numbers BLOB NOT NULL) STRICT"
)
TABLES = {"metadata": METADATA, "events": EVENTS, "steps": STEPS, "tokens": TOKENS, "layout_gaps": GAPS}
TABLES["packed"] = PACKED
#: The least that a file must have; a newer minor version may have more.
NEEDED = {
    "metadata": ("key", "value"),
    "events": ("event", "step", "at_ns", "kind", "body"),
    "steps": ("step", "begin_ns", "gaps"),
    "tokens": ("token", "step"),
}
#: What a file may have: those of 1.0 do not.
OPTIONAL = {"packed": ("block", "source", "count", "columns", "numbers")}


def layout_gap_rows(number: int, layout: Layout) -> list[tuple[int, int, int, str, int, str, str]]:
    """Rows of `layout_gaps`: which phase, layer and role each of the `gaps` between two stamps belongs to."""
    rows, count = [], len(layout.gap_owners)
    for gap, owner in enumerate(layout.gap_owners):
        if owner is None:
            rows.append((number, gap, count, Phase.UNATTRIBUTED.name.lower(), -1, "", ""))
            continue
        role = ROLE_OF.get(owner.phase, Role.REST).name.lower() if owner.layer >= 0 else ""
        rows.append((number, gap, count, owner.phase.name.lower(), owner.layer, role, owner.name))
    return rows


# ---------------------------------------------------------------- views, for those who read with SQL

#: What a gap says: a little-endian number of 4 bytes, or of 8 where one of its step does not fit, in nothing but SQL.
_DIGIT = "(instr('123456789ABCDEF', substr(hex(substr(s.gaps, {begin}, 4)), {place}, 1)) << {shift})"


def _number(begin: str) -> str:
    shifts = (4, 0, 12, 8, 20, 16, 28, 24)
    return " + ".join(_DIGIT.format(begin=begin, place=1 + i, shift=shift) for i, shift in enumerate(shifts))


_GAP_NS = (
    f"CASE length(s.gaps) / g.gaps WHEN 4 THEN {_number('1 + 4 * g.gap')}"
    f" ELSE {_number('1 + 8 * g.gap')} + (({_number('5 + 8 * g.gap')}) << 32) END"
)


def _event_view(name: str, kind: str, columns: str, source: str = "") -> str:
    return f"CREATE VIEW {name} AS SELECT {columns} FROM events AS e{source} WHERE e.kind = '{kind}'"


def _fields(*names: str, of: str = "e.body") -> str:
    return ", ".join(f"json_extract({of}, '$.{name}') AS {name}" for name in names)


VIEWS = (
    f"CREATE VIEW step_gaps AS SELECT s.step, g.gap, g.phase, g.layer, g.role, g.name, {_GAP_NS} AS ns"
    " FROM steps AS s CROSS JOIN layout_gaps AS g ON g.layout = s.layout",
    "CREATE VIEW step_layers AS SELECT step, layer,"
    " sum(CASE role WHEN 'attention' THEN ns ELSE 0 END) AS attention_ns,"
    " sum(CASE role WHEN 'mlp' THEN ns ELSE 0 END) AS mlp_ns,"
    " sum(CASE role WHEN 'rest' THEN ns ELSE 0 END) AS rest_ns"
    " FROM step_gaps WHERE layer >= 0 GROUP BY step, layer",
    _event_view(
        "models",
        "ModelLoaded",
        "e.step, e.at_ns, "
        + _fields(
            *("name", "architecture", "parameters", "weight_bytes", "dtype", "device", "hidden_size"),
            *("vocabulary", "context_limit", "random_weights", "tokenizer", "load_ns", "family", "task"),
            of="json_extract(e.body, '$.model')",
        )
        + ", json_array_length(e.body, '$.model.layer_names') AS layers",
    ),
    "CREATE VIEW configurations AS SELECT e.step, json_extract(e.body, '$.configuration') AS configuration,"
    " json_extract(c.value, '$[0]') AS key, json_extract(c.value, '$[1]') AS value"
    " FROM events AS e, json_each(e.body, '$.effective') AS c"
    " WHERE e.kind IN ('ModelLoaded', 'SettingsChanged', 'EngineReplaced')"
    " UNION ALL SELECT e.step, json_extract(e.body, '$.configurations[' || n.key || ']'),"
    " json_extract(c.value, '$[0]'), json_extract(c.value, '$[1]')"
    " FROM events AS e, json_each(e.body, '$.effective') AS n, json_each(n.value) AS c"
    " WHERE e.kind = 'AlternationStarted'",
    "CREATE VIEW settings AS SELECT e.step, e.kind AS said_by, "
    + _fields(
        "key", "family", "label", "kind", "default", "unit", "expected", "reason", of="s.value"
    ).replace("AS default", 'AS "default"')
    + ", json_extract(s.value, '$.choices') AS choices"
    " FROM events AS e, json_each(e.body, '$.settings') AS s"
    " WHERE e.kind IN ('ModelLoaded', 'SettingsProbed')",
    _event_view(
        "layouts",
        "LayoutDefined",
        "e.step, json_extract(e.body, '$.layout') AS layout, json_array_length(e.body, '$.codes') + 2 AS stamps,"
        " json_extract(e.body, '$.names') AS names, json_extract(e.body, '$.codes') AS codes",
    ),
    "CREATE VIEW generations AS SELECT e.step AS first_step, "
    + _fields("generation", "submitted_ns", "tokenize_ns", "prompt", "max_new_tokens", "dropped_tokens")
    + ", json_array_length(e.body, '$.prompt_ids') AS prompt_tokens,"
    " (SELECT json_extract(d.body, '$.reason') FROM events AS d WHERE d.kind = 'GenerationEnded' AND d.event > e.event"
    " AND json_extract(d.body, '$.generation') = json_extract(e.body, '$.generation') LIMIT 1) AS ended"
    " FROM events AS e WHERE e.kind = 'GenerationStarted'",
    "CREATE VIEW marks AS SELECT e.step, e.at_ns, "
    + _fields("key", "requested", "effective", "reason", of="c.value")
    + ", json_extract(e.body, '$.switch_ns') AS switch_ns,"
    " json_extract(e.body, '$.configuration') AS configuration"
    " FROM events AS e, json_each(e.body, '$.changes') AS c WHERE e.kind = 'SettingsChanged'",
    _event_view(
        "joins",
        "SequenceJoined",
        "e.step, e.at_ns, "
        + _fields("generation", "sequence", "prompt", "max_new_tokens", "dropped_tokens")
        + ", json_array_length(e.body, '$.prompt_ids') AS prompt_tokens",
    ),
    _event_view(
        "alternations",
        "AlternationStarted",
        "e.step, e.at_ns, "
        + _fields("key", "first", "second", "turn_steps", "configurations")
        + ", (SELECT d.step FROM events AS d WHERE d.kind = 'AlternationEnded' AND d.event > e.event LIMIT 1)"
        " AS end_step",
    ),
    _event_view(
        "sameness",
        "SamenessMeasured",
        "e.step, e.at_ns, "
        + _fields("configuration", "reference", "took_ns")
        + ", "
        + _fields(
            *("forced", "text", "first_difference", "top1", "kl_mean", "kl_p99", "nll_change"),
            of="json_extract(e.body, '$.sameness')",
        ),
    ),
    _event_view(
        "beams",
        "BeamsRanked",
        "e.step - 1 AS step, b.key AS rank, " + _fields("text", "tokens", "score", "finished", of="b.value"),
        ", json_each(e.body, '$.beams') AS b",
    ),
    _event_view(
        "results",
        "SequencesEncoded",
        "e.step - 1 AS step, r.key AS place, " + _fields("text", "tokens", "outputs", "mask", of="r.value"),
        ", json_each(e.body, '$.results') AS r",
    ),
    _event_view(
        "memory",
        "MemorySampled",
        "e.step, e.at_ns, "
        + _fields(
            *("process_bytes", "weight_bytes", "cache_bytes"),
            *("device_allocated_bytes", "device_reserved_bytes", "process_peak_bytes", "device_peak_bytes"),
        ),
    ),
    _event_view(
        "captures",
        "KernelsCaptured",
        "e.at_ns, json_extract(e.body, '$.step') AS step, "
        + _fields("again", "dropped", "took_ns", "overhead_ns", "exact_ns", "host_lanes", "lanes", "names")
        + ", length(json_extract(e.body, '$.name')) * 3 / 16 AS entries",
    ),
    _event_view(
        "telemetry",
        "TelemetrySampled",
        "e.step, e.at_ns, "
        + _fields(
            *("processors", "cpu", "engine_cpu", "others_cpu", "steal", "load", "engine_bytes"),
            *(
                "memory_used_bytes",
                "memory_total_bytes",
                "clock_hz",
                "temperature_c",
                "energy_j",
                "throttled",
                "on_battery",
                "took_ns",
                "devices",
            ),
        ),
    ),
    "CREATE VIEW device_telemetry AS SELECT e.step, e.at_ns, "
    + _fields(
        *("device", "memory_used_bytes", "memory_total_bytes", "utilization", "power_w", "energy_j"),
        *("temperature_c", "clock_hz", "memory_clock_hz", "throttled"),
        of="d.value",
    )
    + " FROM events AS e, json_each(e.body, '$.devices') AS d WHERE e.kind = 'TelemetrySampled'",
    "CREATE VIEW notes AS SELECT step_index, at_ns, text FROM (SELECT max(e.event), "
    + _fields("step", "at_ns", "text").replace("AS step", "AS step_index")
    + " FROM events AS e WHERE e.kind = 'NoteTaken' GROUP BY step_index) WHERE text <> ''",
    "CREATE VIEW failures AS SELECT e.step, e.at_ns, e.kind, "
    + _fields("sentence")
    + " FROM events AS e WHERE e.kind IN ('Failed', 'EngineEnded') AND json_extract(e.body, '$.sentence') <> ''",
)
