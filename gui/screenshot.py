"""A picture of the window without a screen: load, generate, select a step, save, and print what was measured."""

import sys
from pathlib import Path

import numpy as np
from PySide6.QtCore import (
    QCoreApplication,
    QMessageLogContext,
    QObject,
    QTimer,
    QtMsgType,
    Slot,
    qInstallMessageHandler,
)

from engine.protocol import EngineEnded, Failed, GenerationEnded
from engine.trace.metrics import Measured
from engine.trace.phases import StepKind
from engine.trace.store import KINDS, Trace
from gui.conductor import Conductor
from gui.options import BAD_INPUT
from gui.panels.measurements import formatted

DECODE = KINDS.index(StepKind.DECODE)
SETTLING_MS = 400  # for the last frames to be drawn and the numbers to be brought up to date
PRINTED = (
    *("steps", "tokens", "ttft", "itl_p50", "itl_p95", "itl_p99", "itl_max", "stalls", "tpot", "end_to_end"),
    *("output_throughput", "decode_throughput", "prefill_throughput", "encode_time"),
    *(
        "sequences",
        "sequence_p50",
        "sequence_p95",
        "sequence_throughput",
        "input_throughput",
        "padding_share",
    ),
    *("forward_share", "attention_share", "decode_share", "unattributed"),
)


def hush_offscreen() -> None:
    """Leave out what the offscreen platform says at every change of a window's limits; say the rest as ever."""
    qInstallMessageHandler(_say)


def _say(_kind: QtMsgType, _context: QMessageLogContext, message: str) -> None:
    if "propagateSizeHints" not in message:
        print(message, file=sys.stderr)


class Screenshot(QObject):
    """Waits for the generation of a window to end, or for its recording to be read; then saves a picture and ends the
    application.

    The application's exit code is 0, 1 where the engine failed, 2 where it refused what was asked for.
    """

    def __init__(self, conductor: Conductor, path: Path) -> None:
        super().__init__(conductor)
        self._conductor = conductor
        self._path = path
        self._settling = QTimer(self, singleShot=True, interval=SETTLING_MS)
        self._settling.timeout.connect(self._take)
        if conductor.engine.is_live:
            conductor.engine.generation_ended.connect(self._ended)
            conductor.engine.failed.connect(self._failed)
            conductor.engine.engine_ended.connect(self._gone)
        else:  # whoever opened the recording says what is wrong with it
            conductor.engine.model_loaded.connect(self._settle)

    @Slot(object)
    def _ended(self, event: GenerationEnded) -> None:
        if event.reason == "failed":
            return  # a Failed has said why
        self._settle()

    @Slot()
    def _settle(self) -> None:
        QTimer.singleShot(SETTLING_MS // 4, self, self._select)
        self._settling.start()

    @Slot()
    def _select(self) -> None:
        self._conductor.window.navigation.select(typical_step(self._conductor.engine.trace))

    @Slot(object)
    def _failed(self, event: Failed) -> None:
        print(event.sentence, file=sys.stderr)
        self._end(BAD_INPUT if event.command in ("load", "generate", "change") else 1)

    @Slot(object)
    def _gone(self, event: EngineEnded) -> None:
        print(event.sentence, file=sys.stderr)
        self._end(1)

    @Slot()
    def _take(self) -> None:
        self._conductor.show_numbers()
        self._conductor.frame()
        window = self._conductor.window
        if not window.picture().save(str(self._path)):
            print(f"The picture could not be saved as {self._path}: choose another place.", file=sys.stderr)
            self._end(1)
            return
        print(self._path)
        print(summary_text(window.measurements.measured))
        self._end(0)

    def _end(self, code: int) -> None:
        self._conductor.stop()
        QCoreApplication.exit(code)


def typical_step(trace: Trace) -> int | None:
    """The decode step of median wall time in the second half; None without decode steps."""
    rows = np.flatnonzero((trace.steps.kind == DECODE) & ~trace.steps.captured)
    late = rows[len(rows) // 2 :]
    if not len(late):
        return None
    order = np.argsort(trace.steps.wall_ns[late], kind="stable")
    return int(late[order[len(order) // 2]])


def summary_text(measured: dict[str, Measured]) -> str:
    """The metrics, one a line, with what each stands on."""
    lines = []
    for key in PRINTED:
        found = measured.get(key)
        if found is not None and found.value is not None:
            value = f"{formatted(found):>14}"
            lines.append(f"{found.metric.name:<40} {value}   n = {found.count:,}")
    return "\n".join(lines)
