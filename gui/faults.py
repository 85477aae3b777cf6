"""When something fails that nobody foresaw: the window stays, one sentence is shown, a report is written."""

import platform
import sys
import tempfile
import threading
import traceback
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from PySide6.QtCore import QObject, QStandardPaths, Signal

from engine import __version__


class Faults(QObject):
    """Receives exceptions that nothing caught, of any thread, while it is installed."""

    happened = Signal(str, str)  # sentence, details
    interrupted = Signal()

    def __init__(self, directory: Path | None = None) -> None:
        super().__init__()
        self._directory = directory
        self._seen: set[str] = set()
        self._before = sys.excepthook, threading.excepthook

    def install(self) -> None:
        """Receive what nothing caught from now on."""
        sys.excepthook = self._of_main_thread
        threading.excepthook = self._of_other_thread

    def uninstall(self) -> None:
        """As before."""
        sys.excepthook, threading.excepthook = self._before

    def _of_main_thread(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            self.interrupted.emit()
            return
        self._take(kind, error, trace)

    def _of_other_thread(self, args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not issubclass(args.exc_type, SystemExit):
            self._take(args.exc_type, args.exc_value, args.exc_traceback)

    def _take(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        details = "".join(traceback.format_exception(kind, error, trace))
        frames = traceback.extract_tb(trace)
        place = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        name = f"{kind.__name__} at {place}"
        if name in self._seen:  # the same fault at every frame is told once
            return
        self._seen.add(name)
        print(details, file=sys.stderr, end="")
        path = self._write(details)
        where = f" A report is in {path}." if path else ""
        self.happened.emit(
            f"Something failed in the window ({kind.__name__}: {error}); it goes on.{where}", details
        )

    def _write(self, details: str) -> Path | None:
        """Write a report where reports are kept; None where that is not possible."""
        now = datetime.now(UTC)
        program = f"cyclograph {__version__}, Python {platform.python_version()}, {platform.platform()}"
        text = f"{program}\n{now}\n\n{details}"
        for directory in self._directories():
            try:
                directory.mkdir(parents=True, exist_ok=True)
                path = directory / f"report-{now:%Y%m%d-%H%M%S-%f}.txt"
                path.write_text(text, encoding="utf-8")
            except OSError:
                continue
            return path
        return None

    def _directories(self) -> list[Path]:
        if self._directory is not None:
            return [self._directory]
        data = QStandardPaths.writableLocation(QStandardPaths.StandardLocation.GenericDataLocation)
        return [Path(data) / "cyclograph" / "reports", Path(tempfile.gettempdir())]
