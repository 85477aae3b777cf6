"""The program from outside: a picture without a display, and one sentence for what cannot be."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from PySide6.QtGui import QImage

from engine.spawning import SERVER
from gui import display
from tests.gui.replaying import recording

ROOT = Path(__file__).resolve().parents[2]


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program without a display, from a directory."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    }
    return subprocess.run(
        [sys.executable, "-m", "gui", *arguments],
        cwd=directory,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def test_the_engine_is_started_before_anything_large_is_imported() -> None:
    script = "import sys, gui.app; print(*sorted({'numpy', 'PySide6', 'engine.protocol'} & set(sys.modules)))"
    imported = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert imported.stdout.strip() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_without_a_display_it_draws_a_picture_and_prints_the_summary(tmp_path: Path) -> None:
    (tmp_path / "cyclograph.png").write_bytes(b"precious")
    ended = run(tmp_path, "--steps", "8", "--set", "threads=1")
    assert ended.returncode == 0, ended.stderr
    assert "no display" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
    path = tmp_path / "cyclograph-2.png"
    assert ended.stdout.splitlines()[0] == str(path)
    assert "time to first token" in ended.stdout
    assert (tmp_path / "cyclograph.png").read_bytes() == b"precious"
    picture = QImage(str(path))
    assert (picture.width(), picture.height()) == (1440, 900)
    shades = {picture.pixel(x, y) for x in range(0, 1440, 7) for y in range(0, 900, 7)}
    assert len(shades) > 50
    assert not [c for c in psutil.Process().children() if SERVER in c.cmdline()]


def test_a_model_that_does_not_exist_is_one_sentence_and_code_2(tmp_path: Path) -> None:
    ended = run(tmp_path, "--model", str(tmp_path), "--screenshot", "a.png")
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    assert str(tmp_path) in ended.stderr
    assert not (tmp_path / "a.png").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_the_sample_is_drawn_without_an_engine(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gui",
            "--replay",
            "sample",
            "--screenshot",
            str(picture),
            "--size",
            "1440x960",
        ],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    started: set[int] = set()
    while process.poll() is None:
        started |= {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        time.sleep(0.02)
    said, problems = process.communicate(timeout=10)
    assert (process.returncode, problems) == (0, "")
    assert started == set()
    assert said.splitlines()[0] == str(picture)
    assert "inter-token latency, median" in said
    assert (QImage(str(picture)).width(), QImage(str(picture)).height()) == (1440, 960)


def test_a_recording_that_cannot_be_read_is_one_sentence_and_code_2(tmp_path: Path) -> None:
    recording(tmp_path / "damaged.cyclograph")
    content = bytearray((tmp_path / "damaged.cyclograph").read_bytes())
    content[16_384 : 16_384 + 40] = bytes(40)  # found out only when it is read
    (tmp_path / "damaged.cyclograph").write_bytes(content)
    (tmp_path / "other.cyclograph").write_text("no session")
    for name in ("damaged", "other", "absent"):
        ended = run(tmp_path, "--replay", f"{name}.cyclograph", "--screenshot", "a.png")
        assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
        assert f"{name}.cyclograph" in ended.stderr
        assert len(ended.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "a.png").exists()


def test_the_window_never_imports_torch(tmp_path: Path) -> None:
    code = (
        "import sys, gui.app, gui.conductor, gui.screenshot, gui.faults;"
        "bad = {'torch', 'transformers', 'engine.runtime'} & set(sys.modules);"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stderr


def test_missing_libraries_are_named_with_the_command() -> None:
    told = display.missing_qt(ImportError("libEGL.so.1: cannot open shared object file"))
    assert "libEGL.so.1" in told
    assert "sudo apt-get install -y" in told
    assert "libegl1" in told


@pytest.mark.skipif(sys.platform != "linux", reason="other systems always have a display")
def test_a_display_that_does_not_answer_is_noticed_before_qt_aborts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("QT_QPA_PLATFORM", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DISPLAY", ":77")
    problem = display.display_problem()
    assert ":77" in problem or "library is missing" in problem
    monkeypatch.delenv("DISPLAY")
    assert "no display" in display.display_problem()
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert display.display_problem() == ""


@pytest.mark.skipif(sys.platform == "win32", reason="Ctrl-C of a child cannot be told apart there")
def test_ctrl_c_ends_the_window_and_its_engine(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "QT_QPA_PLATFORM": "offscreen"}
    window = subprocess.Popen(
        [sys.executable, "-m", "gui"], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 60
        while not (engines := psutil.Process(window.pid).children()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert engines, "no engine was started"
        window.send_signal(signal.SIGINT)
        _, told = window.communicate(timeout=60)
    finally:
        window.kill()
    assert window.returncode in (0, 130)
    assert "Traceback" not in told
    assert not any(engine.is_running() for engine in engines)
