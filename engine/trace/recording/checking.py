"""Rows of a session file are believed where they make sense, and left out with a notice where they do not.

What refers to something (a layout, a configuration, a step) refers to what came before it; times do not run backwards;
counts are counts. Nothing that passes can make a trace fail.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.protocol import (
    BeamsRanked,
    Event,
    FloorBeaten,
    KernelsCaptured,
    ModelLoaded,
    NoteTaken,
    SequencesEncoded,
)
from engine.trace.ledger import Int64
from engine.trace.recording.errors import RecordingError
from engine.trace.recording.recorded import RecordedSession
from engine.trace.recording.references import MOST_LAYERS, References, nonsense_of_shape
from engine.trace.recording.rows import Blobs, Notices, Rows, Texts
from engine.trace.recording.step_checking import checked_steps

MOST_ROOM = 64 * 2**30  # bytes of a column of layers; what of it is not written takes no memory
ABOUT_A_STEP = (BeamsRanked, FloorBeaten, KernelsCaptured, NoteTaken, SequencesEncoded)


def checked(
    path: Path,
    metadata: dict[str, str],
    events: Sequence[tuple[int, Event]],
    steps: Rows[Blobs],
    tokens: Rows[Texts],
    notices: Notices,
) -> RecordedSession:
    """The session that rows make. Raises RecordingError where there is nothing to begin with."""
    preamble, loaded, later = _split(path, events, notices)
    layers = len(loaded.model.layer_names)
    if layers > MOST_LAYERS or layers * 24 * len(steps) > MOST_ROOM:
        raise RecordingError(
            f"'{path.name}' has {layers:,} layers and {len(steps):,} steps: more than can be shown."
        )
    if problem := nonsense_of_shape(loaded.model.shape):
        raise RecordingError(f"'{path.name}' tells of a model {problem}: it is not opened.")
    known = References(loaded)
    others = [(step, event) for step, event in later if known.take(step, event, notices)]
    columns, numbers = checked_steps(steps, tokens, known, notices)
    places = np.searchsorted(numbers, [step for step, _ in others]).tolist()
    placed = [(place, event) for place, (_, event) in zip(places, others, strict=True)]
    placed = _about_their_steps(placed, columns.fields["index"], notices)
    session = RecordedSession(path, metadata, preamble, loaded, tuple(placed), columns, notices.sentences)
    return session.with_notes_at_their_steps()


def _split(
    path: Path, events: Sequence[tuple[int, Event]], notices: Notices
) -> tuple[tuple[Event, ...], ModelLoaded, list[tuple[int, Event]]]:
    """What came before the model, the model, and what came later, in an order in which no step number falls."""
    preamble: list[Event] = []
    loaded: ModelLoaded | None = None
    later: list[tuple[int, Event]] = []
    latest = 0
    for step, event in events:
        if loaded is None:
            if isinstance(event, ModelLoaded):
                loaded = event
            else:
                preamble.append(event)
        elif isinstance(event, ModelLoaded):
            notices.add("a second model in one session")
        else:
            latest = max(latest, step)
            later.append((latest, event))
    if loaded is None:
        raise RecordingError(
            f"'{path.name}' does not say which model was measured: there is nothing to show."
        )
    return tuple(preamble), loaded, later


def _about_their_steps(
    others: list[tuple[int, Event]], indices: Int64, notices: Notices
) -> list[tuple[int, Event]]:
    """What is said of a step by its index is of one that is there. Where some are missing, all are counted anew."""
    first = int(indices[0]) if len(indices) else 0
    rows = dict(zip(indices.tolist(), range(len(indices)), strict=True))
    indices[:] = first + np.arange(len(indices))
    found: list[tuple[int, Event]] = []
    for place, event in others:
        if isinstance(event, ABOUT_A_STEP):
            row = rows.get(event.step, place)
            if row >= place:
                notices.add(f"events of the kind {type(event).__name__} about a step that does not exist")
                continue
            if event.step != first + row:
                event = replace(event, step=first + row)
        found.append((place, event))
    return found
