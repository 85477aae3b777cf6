"""A session that really ran, exported by the command as people use it."""

import csv
import io
import json
from pathlib import Path

import pytest

from engine import exporting
from engine.commands import Running, main
from engine.protocol import Generate, Join, Load, Prompt
from engine.report import JsonReport
from engine.trace.export import excerpt_of
from engine.trace.export.json_lines import records
from engine.trace.store import Trace
from tests.engine.runtime.live_models import family_checkpoint
from tests.engine.trace.export import trace_events

TOKENS = 12


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trace, list[dict]]:
    """A real run with a switch and a sequence that joins: its trace, and the lines that it printed."""
    llama = str(family_checkpoint("llama", tmp_path_factory.mktemp("llama")))
    out = io.StringIO()
    front = Running(
        JsonReport(out), {4: (("attention", "eager"),)}, joins={7: (Join(Prompt("令牌"), 3, False),)}
    )
    generate = Generate(Prompt("The cycle of a token, 令牌的周期."), TOKENS, stop_at_end_token=False)
    assert front.run(Load(llama, "cpu"), generate) == 0
    return front.trace, [json.loads(line) for line in out.getvalue().splitlines()]


@pytest.fixture
def session(run: tuple[Trace, list[dict]], monkeypatch: pytest.MonkeyPatch) -> Trace:
    """What the command reads."""
    monkeypatch.setattr(exporting, "load_trace", lambda _path: run[0])
    return run[0]


def test_json_lines_are_what_the_run_printed(run: tuple[Trace, list[dict]]) -> None:
    trace, printed = run
    exported = [json.loads(json.dumps(record)) for record in records(excerpt_of(trace))]
    for kinds in (("memory",), ("observer",)):  # sampled beside the steps
        assert [r for r in exported if r["event"] in kinds] == [r for r in printed if r["event"] in kinds]
        printed = [r for r in printed if r["event"] not in kinds]
        exported = [r for r in exported if r["event"] not in kinds]
    assert exported == printed
    assert {r["event"] for r in exported} >= {
        "model",
        "generation",
        "step",
        "mark",
        "joined",
        "end",
        "summary",
    }


def test_the_trace_of_a_real_run_is_valid_and_exact(session: Trace, tmp_path: Path) -> None:
    assert main(["export", "session", "--to", str(tmp_path / "out.json")]) == 0
    parsed = trace_events.read((tmp_path / "out.json").read_bytes())
    slices = parsed.slices[1]
    steps = [each for each in slices if not each.depth]
    assert [each.end_ns - each.begin_ns for each in steps] == session.steps.wall_ns.tolist()
    assert len(slices) == sum(1 + len(session.spans(row)) for row in range(len(session.steps)))
    inside = [s for s in slices if s.name.startswith("L00 attention")]
    assert sum(s.end_ns - s.begin_ns for s in inside) == int(session.steps.layers_ns[:, 0, 0].sum())
    assert len(parsed.counters["context"]) == len(steps)
    assert parsed.about["torch"]


def test_a_selection_into_one_table(
    session: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "steps.csv"
    assert main(["export", "session", "--to", str(path), "--steps", "2:4", "--what", "steps"]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "3", "4"]
    assert [int(row["wall_ns"]) for row in rows] == session.steps.wall_ns[2:5].tolist()


def test_nothing_is_replaced_unasked(
    session: Trace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "out.txt"
    path.write_text("precious")
    assert main(["export", "session", "--to", str(path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert path.read_text() == "precious"
    assert main(["export", "session", "--to", str(path), "--force"]) == 0
    assert session.text_of(session.generations[0]) in path.read_text()


def test_a_report_says_what_it_ran_on(session: Trace, tmp_path: Path) -> None:
    path = tmp_path / "out.html"
    assert main(["export", "session", "--to", str(path)]) == 0
    content = path.read_text(encoding="utf-8")
    assert session.engine is not None
    for words in (session.engine.processor, "LlamaForCausalLM", "attention eager", "marks a step at"):
        assert words in content, words
    assert "令牌" not in content


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--to", "out.xlsx"], "format"),
        (["--to", "out.csv", "--steps", "two"], "A:B"),
        (["--to", "out.csv", "--steps", "900:"], "no step 900"),
        (["--to", "out.txt", "--what", "steps"], "no tables"),
        (["--to", "no/such/place/out.txt"], "no directory"),
    ],
)
def test_bad_input_is_one_sentence(
    session: Trace, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    arguments[1] = str(tmp_path / arguments[1])
    assert main(["export", "session", *arguments]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert printed.err.count("\n") == 1
    assert not list(tmp_path.iterdir())
