"""A few hundred spoiled session files; `python -m tests.fuzz` reads thousands."""

from pathlib import Path

import pytest

from tests.engine.trace.recording.sessions import rich, written
from tests.fuzz.session_files import MOST_TIMES, Figures, run

CASES = 100


@pytest.mark.parametrize("begin", [0, 1_000_000, 2_000_000])
def test_spoiled_files_are_refused_with_one_sentence_or_read(tmp_path: Path, begin: int) -> None:
    figures = Figures()
    run(written(tmp_path / "whole.cyclograph", rich()), range(begin, begin + CASES), figures)
    assert figures.failures == []
    assert figures.cases == CASES
    assert figures.slowest < MOST_TIMES
    assert min(figures.refused, figures.repaired, figures.read) > 5  # they are spoiled in ways that matter
