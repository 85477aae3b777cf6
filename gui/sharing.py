"""What leaves the window: exports, pictures of it and of its charts, and the command line that repeats a run."""

import re
from pathlib import Path
from typing import BinaryIO

from PySide6.QtCore import QObject, QSize, Qt, QUrl, Slot
from PySide6.QtGui import QDesktopServices, QGuiApplication

from engine.command_line import repetition_of
from engine.trace.export import ExportRefused, excerpt_of
from engine.trace.export.writing import write_files
from gui import units
from gui.charts.chart import Chart
from gui.charts.picture import LARGEST, SMALLEST, image_of, png_of, svg_of
from gui.copying import put
from gui.engine_thread import EngineThread
from gui.exporter import Exporter, Wish
from gui.main_window import MainWindow
from gui.options import free_path
from gui.panels.export_dialog import ExportDialog
from gui.panels.message_bar import Kind
from gui.panels.picture_dialog import SVG, PictureDialog

EXPORT, COMMAND, PICTURE, WINDOW = "export", "command", "chart picture", "picture"  # what messages are about


class Sharing(QObject):
    """Asks where to, writes, and says what came of it. Files go where the last ones went, at first where it began."""

    def __init__(self, window: MainWindow, engine: EngineThread) -> None:
        super().__init__(window)
        self._window = window
        self._engine = engine
        self._directory = Path.cwd()
        self._is_told = False
        self.exporter = Exporter(self)
        self.exporter.goes_on.connect(self._goes_on)
        self.exporter.written.connect(self._written)
        self.exporter.failed.connect(self._failed)
        self.exporter.cancelled.connect(self._cancelled)
        for chart in window.charts:
            chart.copy_wished.connect(self.copy_picture)
            chart.save_wished.connect(self.save_picture)
        window.actions_.on("export", self.export)
        window.actions_.on("command", self.copy_command)
        window.actions_.on("picture", self.save_window)

    def stop(self) -> None:
        """Give up what is being written."""
        self.exporter.stop()

    # ------------------------------------------------------------ exports

    def export(self) -> ExportDialog | None:
        """Ask what to export; None where there is nothing."""
        trace, navigation = self._engine.trace, self._window.navigation
        count = len(trace.steps)
        if not count:
            self._say(
                Kind.INFO,
                "Nothing has been measured yet, so there is nothing to export: run a prompt.",
                EXPORT,
            )
            return None
        on_screen = max(0, int(navigation.first)), min(count, int(navigation.last)) - 1
        place = free_path(self._directory / f"{self._name()}.html")
        dialog = ExportDialog(count, place, on_screen, self._window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.accepted.connect(lambda: self._begin(dialog))
        dialog.open()
        return dialog

    def _begin(self, dialog: ExportDialog) -> None:
        self._directory = dialog.path.absolute().parent
        try:
            excerpt = excerpt_of(self._engine.trace, *dialog.steps)
        except ExportRefused as refusal:  # it was cleared meanwhile
            self._failed(str(refusal))
            return
        self._is_told = False
        self.exporter.start(Wish(excerpt, dialog.path.absolute(), dialog.what, dialog.may_replace))

    @Slot()
    def _goes_on(self) -> None:
        """What takes a moment can be given up; said once, so that the button stays where it is."""
        if not self._is_told:
            self._is_told = True
            cancel = ("Cancel", self.exporter.cancel)
            self._window.messages.show_message(
                Kind.INFO, "The export is being written.", action=cancel, about=EXPORT
            )

    @Slot(list)
    def _written(self, files: list[Path]) -> None:
        size = units.size(sum(path.stat().st_size for path in files))
        first = files[0]
        what = f"{first}" if len(files) == 1 else f"{len(files)} files beside {first}"
        shows = first if first.suffix == ".html" else first.parent
        words = "Open" if first.suffix == ".html" else "Open the folder"
        action = (words, lambda: _open(shows))
        self._window.messages.show_message(
            Kind.INFO, f"Exported to {what} ({size}).", action=action, about=EXPORT
        )

    @Slot(str)
    def _failed(self, sentence: str) -> None:
        self._say(Kind.ERROR, sentence, EXPORT)

    @Slot()
    def _cancelled(self) -> None:
        self._say(Kind.INFO, "The export was given up; nothing was written.", EXPORT)

    # ------------------------------------------------------------ pictures

    def save_window(self) -> None:
        """Save a picture of the window in the working directory, under a name that is free."""
        path = free_path(Path.cwd() / "cyclograph.png")
        if self._window.picture().save(str(path)):
            self._say(Kind.INFO, f"A picture is in {path}.", WINDOW)
        else:
            self._say(Kind.ERROR, f"The picture could not be saved in {Path.cwd()}.", WINDOW)

    @Slot(object)
    def copy_picture(self, chart: Chart) -> None:
        """Put a picture of a chart, as it is shown, where it can be pasted from."""
        size = chart.size().expandedTo(QSize(1, 1))
        QGuiApplication.clipboard().setImage(image_of(chart, size, self._window.theme, 2.0))
        self._say(Kind.INFO, f"A picture of the {chart.accessible_name.lower()} can be pasted.", PICTURE)

    @Slot(object)
    def save_picture(self, chart: Chart) -> PictureDialog:
        """Ask how to save a picture of a chart."""
        what = re.sub(r"\W+", "-", chart.accessible_name.lower())
        place = free_path(self._directory / f"{self._name()}-{what}.png")
        size = chart.size().expandedTo(SMALLEST).boundedTo(LARGEST)
        dialog = PictureDialog(size, self._window.theme, place, self._window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.accepted.connect(lambda: self._write_picture(chart, dialog))
        dialog.open()
        return dialog

    def _write_picture(self, chart: Chart, dialog: PictureDialog) -> None:
        path, size = dialog.path.absolute(), dialog.picture_size
        self._directory = path.parent
        if path.suffix.lower() == SVG:
            content = svg_of(chart, size, dialog.theme)
        else:
            content = png_of(image_of(chart, size, dialog.theme, dialog.scale))
        try:
            write_files([(path, lambda file: _write(file, content))], replace=dialog.may_replace)
        except ExportRefused as refusal:
            self._say(Kind.ERROR, str(refusal), PICTURE)
            return
        self._say(Kind.INFO, f"A picture of the {chart.accessible_name.lower()} is in {path}.", PICTURE)

    # ------------------------------------------------------------ commands

    def copy_command(self) -> None:
        """Copy the command line that repeats the latest run."""
        trace, loaded, load = self._engine.trace, self._engine.loaded, self._engine.wanted_load
        generation = trace.generations[-1] if trace.generations else None
        command = self._engine.command_of(generation.started.generation) if generation else None
        if generation is None or command is None or loaded is None or load is None:
            self._say(Kind.INFO, "There is no run to repeat yet: run a prompt first.", COMMAND)
            return
        try:
            found = repetition_of(trace, generation, loaded, load, command)
        except ValueError as problem:
            self._say(Kind.ERROR, str(problem), COMMAND)
            return
        put(found.line)
        details = "\n".join(
            (found.line, *(("", "It does not repeat:", *found.left_out) if found.left_out else ()))
        )
        words = "The command that repeats the latest run can be pasted into a shell."
        if found.left_out:
            words = "The command can be pasted into a shell; what of the run it does not repeat is in the details."
        kind = Kind.WARNING if found.left_out else Kind.INFO
        self._window.messages.show_message(kind, words, details, about=COMMAND)

    # ------------------------------------------------------------ words

    def _say(self, kind: Kind, sentence: str, about: str) -> None:
        self._window.messages.show_message(kind, sentence, about=about)

    def _name(self) -> str:
        """What files are called: after the model."""
        model = self._engine.trace.model
        words = re.sub(r"[^\w.-]+", "-", model.name.rsplit("/", 1)[-1]).strip("-.") if model else ""
        return f"cyclograph-{words[:60]}" if words else "cyclograph"


def _write(file: BinaryIO, content: bytes) -> None:
    file.write(content)


def _open(path: Path) -> None:
    QDesktopServices.openUrl(QUrl.fromLocalFile(str(path)))
