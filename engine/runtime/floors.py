"""The floors of a live model's steps: its shape under each configuration, the calibration that holds then, and the work
of every step, told for its event.

A shape is derived when a configuration first runs, between two steps; what a step comes to is a few sums then.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import TYPE_CHECKING, NamedTuple

import torch

from engine.protocol import Calibrated, Emit, FloorBeaten, ProbeTraining, Progress
from engine.runtime import calibration_records
from engine.runtime.calibration import CalibrationRefused, Machine, is_busy, measure
from engine.runtime.live import Context, LiveModel
from engine.runtime.pipelining import PIPELINED
from engine.runtime.routing import Routing
from engine.runtime.settings.matmul_precision import MatmulPrecision
from engine.runtime.shapes import shape_of
from engine.runtime.telemetry import processor_name
from engine.trace import ledger
from engine.trace.calibration import SECOND_NS, Calibration
from engine.trace.floor import Costs, Fed
from engine.trace.phases import StepKind
from engine.trace.shapes import ModelShape

if TYPE_CHECKING:
    from engine.runtime.generation import Stepped

_KEPT = 32  # shapes that are kept derived
_RETRY_NS = 30 * SECOND_NS  # until a machine that was busy is looked at again


@dataclass(frozen=True, slots=True)
class Known:
    """A calibration, and the number that its event gave it."""

    number: int
    calibration: Calibration


class Found(NamedTuple):
    """What a step finds: the tokens of its first row, of which `cached` are in the cache, and room for `capacity`.

    `length`: with the tokens that are not on the host yet. `source`: tokens that the encoder has read.
    """

    ids: list[int]
    cached: int
    length: int
    capacity: int
    source: int


class Floors:
    """Tells the least work and time of each step of a live model."""

    def __init__(self, live: LiveModel, emit: Emit) -> None:
        self._live, self._emit = live, emit
        self.problem = ""
        self._routing = Routing(live.model)
        self._costs: dict[tuple[object, ...], Costs | None] = {}
        #: By the number of the configuration.
        self._in_force: dict[int, tuple[Costs | None, tuple[Machine, ...]]] = {}
        self._known: dict[Machine, Known | None] = {}
        self._numbers = 0
        self._beaten: set[int] = set()  # numbers of calibrations
        self._untold: FloorBeaten | None = None
        self._retry_ns = 0

    # ------------------------------------------------------------ shapes

    def shape(self) -> ModelShape | None:
        """The shape of the model with the settings in force; None where it could not be told (see `problem`)."""
        costs = self._costs_now()
        return costs.shape if costs is not None else None

    def knows(self, configuration: int) -> bool:
        """Whether a configuration's steps can be told."""
        return configuration in self._in_force

    def follow(self, configuration: int) -> ModelShape | None:
        """The settings in force are now this configuration's: derive what its steps need. Returns its shape."""
        costs, machines = self._costs_now(), self._machines()
        self._in_force[configuration] = costs, machines
        for machine in machines:
            self._recall(machine)
        return costs.shape if costs is not None else None

    def _costs_now(self) -> Costs | None:
        live = self._live
        key = (
            *(live.weights.plan, live.cache_kind, live.kv_window if live.cache_kind == "sliding" else 0),
            *(live.loop.speculation, live.draft_name),
        )
        if key not in self._costs:
            if len(self._costs) >= _KEPT:
                self._costs.clear()
            self._costs[key] = self._derived()
        return self._costs[key]

    def _derived(self) -> Costs | None:
        """A model of an unheard-of build has no floor; it runs even so."""
        try:
            return Costs(shape_of(self._live))
        except Exception as error:
            lines = str(error).strip().splitlines()
            self.problem = (
                f"the shape of this model could not be told ({lines[0] if lines else type(error).__name__})"
            )
            return None

    def _machines(self) -> tuple[Machine, ...]:
        """What steps run on, one device after the other; none where they have no floor."""
        shape = self.shape()
        if shape is not None and shape.no_floor:
            return ()
        names = shape.devices if shape is not None else ()
        return tuple(map(self._machine, map(torch.device, names))) or (self._machine(self._live.device),)

    def _machine(self, device: torch.device) -> Machine:
        mode = str(MatmulPrecision().current(self._live))
        return Machine(
            processor=processor_name(device),
            device=device,
            threads=torch.get_num_threads() if device.type == "cpu" else 1,
            mode="" if mode == "highest" else mode,
        )

    # ------------------------------------------------------------ calibrations

    def _recall(self, machine: Machine) -> None:
        if machine in self._known:
            return
        found = calibration_records.remembered(machine)
        self._known[machine] = None
        if found is not None:
            self._put(machine, found, "remembered", "")

    def _put(self, machine: Machine, calibration: Calibration, origin: str, reason: str) -> None:
        known = self._known[machine] = Known(self._numbers, calibration)
        self._numbers += 1
        self._emit(Calibrated(perf_counter_ns(), known.number, calibration, origin, reason))

    def due_in_s(self) -> float | None:
        """In how many seconds this machine should be calibrated, if it is idle then; None where it need not be."""
        if self._due() is None:
            return None
        return max(0.0, (self._retry_ns - perf_counter_ns()) / SECOND_NS)

    def _due(self) -> Machine | None:
        for machine in self._machines():
            known = self._known.get(machine)
            if known is None or known.number in self._beaten:
                return machine
        return None

    def calibrate_idle(self, is_awaited: Callable[[], bool]) -> None:
        """Measure because nothing is known, or what is known is broken; not while the machine is busy.

        Raises CalibrationInterrupted as soon as somebody waits.
        """
        machine = self._due()
        self._retry_ns = perf_counter_ns() + _RETRY_NS
        if machine is None or is_busy(machine.threads):
            return
        before = self._known.get(machine)
        try:
            found = self._measure(machine, is_awaited)
        except CalibrationRefused:
            return  # it was not asked for; who asks is told
        if before is None:
            reason = "nothing was known of this machine"
        else:
            reason, found = "a step had beaten its floor", found.best_with(before.calibration)
        self._keep(machine, found, reason)

    def calibrate(self, is_awaited: Callable[[], bool]) -> None:
        """Measure because it was asked for. Raises CalibrationRefused, and CalibrationInterrupted as above."""
        shape = self.shape()
        if shape is not None and shape.no_floor:
            raise CalibrationRefused(
                f"These steps have no floor, since {shape.no_floor}: load the model on one device."
            )
        for machine in self._machines():
            self._keep(machine, self._measure(machine, is_awaited), "")

    def _measure(self, machine: Machine, is_awaited: Callable[[], bool]) -> Calibration:
        self._emit(Progress(perf_counter_ns(), "calibrating this machine", None))
        return measure(machine, is_awaited)

    def _keep(self, machine: Machine, found: Calibration, reason: str) -> None:
        problem = "so it is not kept for the next time"
        if found.is_confirmed and not found.is_disturbed:
            problem = calibration_records.remember(machine, found)
        if problem:
            found = replace(found, remark="; ".join(filter(None, (found.remark, problem))))
        self._put(machine, found, "measured", reason)

    # ------------------------------------------------------------ steps

    def find(self, context: Context, source: int = 0) -> Found:
        """A step of a context is about to begin. `source`: tokens that an encoder reads for it."""
        self._routing.forget()
        ids, cached = context.ids, context.cached
        read = source if context.encoded is not None else 0
        return Found(ids, cached, context.length, context.capacity, read)

    def routed(self) -> int | None:
        """Different experts that the step read which has just ended, all layers together; None where not known."""
        return self._routing.distinct()

    def fed(
        self, found: Found, stepped: "Stepped", routed: int | None, probe: ProbeTraining | None = None
    ) -> Fed:
        """What a step was given, from what it found and what it made of that. The settings are those it ran under.

        `probe`: what a training step was.
        """
        live, kind, rows = self._live, stepped.kind, stepped.batch
        read = (stepped.prompt_tokens + stepped.padding_tokens) // max(1, rows)
        if kind is StepKind.ENCODE:
            return Fed(kind, rows, read, read if live.facts.task == "fill-mask" else 1)
        if kind is StepKind.BACKWARD:
            training = probe or ProbeTraining()
            return Fed(
                *(kind, 1, read, read),
                source=found.source,
                begins=found.source > 0,
                pieces=training.accumulate,
                mixed=training.mixed,
            )
        past = 0 if live.cache_kind == "none" else found.cached
        if kind is StepKind.PREFILL:
            positions = read
            if past + positions > found.length:  # it had to begin anew
                past = 0
        else:
            positions = stepped.drafted + (found.length - found.cached if past else found.length)
        # flexible attention leaves out what is masked
        reserves = live.cache_kind == "static" and not live.attention.startswith("flex")
        return Fed(
            kind,
            rows,
            positions,
            1 + stepped.drafted if live.keeps_logits else positions,
            found.capacity if reserves else 0,
            found.source,
            found.source > 0 and not past,
            stepped.drafted,
            routed if rows * positions > 1 else None,
            past=past,
        )

    def told(self, configuration: int, index: int, fed: Fed, stamps: bytes) -> tuple[int, int, int, int]:
        """Bytes, operations, floor (ns) and number of the calibration of a step (of several: the first), for its event.

        `index`, `stamps`: of the step, which is held against its floor. Zeros and -1 where they are not known.
        """
        costs, machines = self._in_force[configuration]
        if costs is None:
            return 0, 0, 0, -1
        known = self._known.get(machines[0]) if machines else None
        if known is None:
            nbytes, operations, _ = costs.told(fed, None)
            return nbytes, operations, 0, -1
        if len(machines) > 1:
            return self._told_apart(costs, machines, index, fed, stamps)
        nbytes, operations, floor_ns = costs.told(fed, known.calibration)
        if known.number not in self._beaten and costs.is_certain(fed) and not self._overlaps():
            self._hold_against({known.number}, index, floor_ns, stamps)
        return nbytes, operations, floor_ns, known.number

    def _told_apart(
        self, costs: Costs, machines: Sequence[Machine], index: int, fed: Fed, stamps: bytes
    ) -> tuple[int, int, int, int]:
        """The same over several devices, which all have to be known."""
        found = [known for machine in machines if (known := self._known.get(machine)) is not None]
        calibrations = {known.calibration.device: known.calibration for known in found}
        nbytes, operations, floor_ns = costs.told_apart(fed, calibrations)
        if not floor_ns:
            return nbytes, operations, 0, found[0].number if len(found) == len(machines) else -1
        numbers = {known.number for known in found}
        if not numbers <= self._beaten and costs.is_certain(fed):
            self._hold_against(numbers, index, floor_ns, stamps)
        return nbytes, operations, floor_ns, found[0].number

    def _overlaps(self) -> bool:
        """Whether the device may work on a step while the host's clock runs for its neighbours."""
        return self._live.device.type != "cpu" and self._live.loop.read_back == PIPELINED

    def _hold_against(self, numbers: set[int], index: int, floor_ns: int, stamps: bytes) -> None:
        wall_ns = ledger.wall_ns(stamps)
        if 0 < wall_ns < floor_ns:  # a clock that jumped beats nothing
            self._beaten |= numbers
            self._untold = FloorBeaten(perf_counter_ns(), index, wall_ns, floor_ns)

    def after_step(self) -> None:
        """The step's event is out: say so if it has beaten its floor."""
        if self._untold is not None:
            self._emit(self._untold)
            self._untold = None
