"""Files are there whole or not at all, and none that was there is touched."""

import errno
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest

from engine.trace.export import ExportCancelled, ExportRefused
from engine.trace.export.writing import write_files


def says(content: bytes):
    return lambda file: file.write(content)


def test_a_file_is_written_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_files([(tmp_path / "a.csv", says(b"1")), (tmp_path / "b.csv", says(b"2"))])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a.csv": b"1", "b.csv": b"2"}
    reference = tmp_path / "reference"
    reference.touch()
    assert (tmp_path / "a.csv").stat().st_mode == reference.stat().st_mode


def test_what_is_there_is_not_touched_without_a_word(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"precious")
    with pytest.raises(ExportRefused, match="is there already"):
        write_files([(tmp_path / "b.csv", says(b"2")), (path, says(b"1"))])
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]
    assert path.read_bytes() == b"precious"
    path.chmod(0o640)
    write_files([(path, says(b"1"))], replace=True)
    assert path.read_bytes() == b"1"
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_file_that_comes_meanwhile_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"

    def slow(file: BinaryIO) -> None:
        file.write(b"1")
        path.write_bytes(b"precious")

    with pytest.raises(ExportRefused, match="is there already"):
        write_files([(path, slow)])
    assert path.read_bytes() == b"precious"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link.csv").symlink_to("real")
    write_files([(tmp_path / "link.csv", says(b"new"))], replace=True)
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.fixture
def small_files() -> Iterator[int]:
    """No file of this process may be larger than this many bytes: writing on really fails."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    yield 50_000
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_what_does_not_fit_leaves_nothing(tmp_path: Path, small_files: int) -> None:
    old = tmp_path / "a.csv"
    old.write_bytes(b"precious")
    with pytest.raises(ExportRefused, match="larger than a file may be"):
        write_files([(old, says(b"1")), (tmp_path / "b.csv", says(b"x" * 2 * small_files))], replace=True)
    assert [each.name for each in tmp_path.iterdir()] == ["a.csv"]
    assert old.read_bytes() == b"precious"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_sentence(tmp_path: Path, number: int) -> None:
    def full(file: BinaryIO) -> None:
        file.write(b"half of it")
        raise OSError(number, os.strerror(number))

    with pytest.raises(ExportRefused, match="The disk is full") as refusal:
        write_files([(tmp_path / "a.csv", full)])
    assert str(refusal.value).count(".") == 2  # that of the name, and that of the sentence
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [ExportCancelled, KeyboardInterrupt, ZeroDivisionError])
def test_whatever_happens_nothing_is_left(tmp_path: Path, error: type[BaseException]) -> None:
    def stop(_: BinaryIO) -> None:
        raise error

    with pytest.raises(error):
        write_files([(tmp_path / "a.csv", says(b"1")), (tmp_path / "b.csv", stop)])
    assert not list(tmp_path.iterdir())


def test_places_where_no_file_can_be_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportRefused, match="no directory"):
        write_files([(tmp_path / "no" / "a.csv", says(b"1"))])
    with pytest.raises(ExportRefused, match="not a file"):
        write_files([(tmp_path, says(b"1"))], replace=True)
    with pytest.raises(ExportRefused, match="zero byte"):
        write_files([(tmp_path / "a\0.csv", says(b"1"))])
    with pytest.raises(ExportRefused, match="could not be written"):
        write_files([(tmp_path / ("x" * 250 + ".csv" * 10), says(b"1"))])
    assert not list(tmp_path.iterdir())
