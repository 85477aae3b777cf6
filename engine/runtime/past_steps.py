"""What a step found before it, kept so that its work can be done again: the tokens so far, and how many were cached."""

from array import array
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.trace.phases import StepKind

if TYPE_CHECKING:
    from engine.runtime.floors import Found
    from engine.runtime.generation import Stepped

GENERATIONS = 8  # the latest; earlier ones are forgotten
_KINDS = tuple(StepKind)
_PLACES = {kind: place for place, kind in enumerate(_KINDS)}
_WIDTH = 7  # values that are kept of a step


@dataclass(frozen=True, slots=True)
class PastStep:
    """A step that was made. `prompt`: what was continued, or answered by an encoder–decoder; `ids`: all tokens then.

    `cached` of them were in the cache; `capacity`: for how many it was. `rows`: computed together. `drafted`: tokens
    that it checked. `configuration`: the number of the settings in force.
    """

    kind: StepKind
    prompt: list[int]
    ids: list[int]
    cached: int
    capacity: int
    rows: int
    drafted: int
    configuration: int


class PastGeneration:
    """The steps of one generation, that continues (or answers) a prompt, with a cache for `capacity` tokens."""

    def __init__(self, prompt: list[int], capacity: int) -> None:
        self._prompt, self._capacity = prompt, capacity
        self._values = array("q")
        self._ids: list[tuple[int, list[int]]] = []  # from which step on the tokens are in which list

    def note(self, index: int, found: "Found", stepped: "Stepped", configuration: int) -> None:
        """A step was made: its index, what it found (its tokens are kept and only read) and was, and its settings."""
        ids = found.ids
        if not self._ids or self._ids[-1][1] is not ids:
            self._ids.append((index, ids))
        self._values.extend(
            (
                *(index, _PLACES[stepped.kind], found.cached, found.length),
                *(stepped.batch, stepped.drafted, configuration),
            )
        )

    def find(self, index: int) -> PastStep | None:
        """The step with this index; None where it is of another generation."""
        try:
            row = self._values[::_WIDTH].index(index)
        except ValueError:
            return None
        _, kind, cached, length, rows, drafted, configuration = self._values[
            _WIDTH * row : _WIDTH * (row + 1)
        ]
        ids = next(ids for since, ids in reversed(self._ids) if since <= index)[:length]
        return PastStep(_KINDS[kind], self._prompt, ids, cached, self._capacity, rows, drafted, configuration)


class PastSteps:
    """The latest generations of a model."""

    def __init__(self) -> None:
        self._generations: deque[PastGeneration] = deque(maxlen=GENERATIONS)

    def begin(self, prompt: list[int], capacity: int) -> PastGeneration:
        """A generation begins; its steps are noted in what is returned."""
        self._generations.append(PastGeneration(prompt, capacity))
        return self._generations[-1]

    def find(self, index: int) -> PastStep | None:
        """The step with this index, where it is remembered."""
        found = (generation.find(index) for generation in reversed(self._generations))
        return next((step for step in found if step is not None), None)
