"""What a recording that begins in the middle of a session has to know of what came before."""

from collections.abc import Iterator

from engine.protocol import (
    Configuration,
    Event,
    LayoutDefined,
    ModelLoaded,
    SettingChange,
    SettingsChanged,
)
from engine.trace.store import Trace


def preface(trace: Trace, loaded: ModelLoaded) -> Iterator[Event]:
    """Events that define all that steps from now on refer to: layouts, configurations, calibrations, the generation."""
    if trace.engine is not None:
        yield trace.engine
    yield loaded
    for number, layout in trace.layouts.items():
        yield LayoutDefined(number, layout.names, layout.codes)
    before: Configuration = loaded.effective
    for number, effective in enumerate(trace.configurations):
        changes = _changes(before, effective)
        if number or changes:
            yield SettingsChanged(loaded.at_ns, trace.first_index, changes, 0, number, effective)
        before = effective
    if trace.configurations and trace.configuration != before:
        number = trace.configurations.index(trace.configuration)
        changes = _changes(before, trace.configuration)
        yield SettingsChanged(loaded.at_ns, trace.first_index, changes, 0, number, trace.configuration)
    yield from trace.shapes.values()
    yield from trace.calibrations.values()
    if trace.generations and trace.generations[-1].ended is None:
        yield trace.generations[-1].started


def _changes(before: Configuration, after: Configuration) -> tuple[SettingChange, ...]:
    known = dict(before)
    return tuple(SettingChange(key, value, value) for key, value in after if known.get(key) != value)
