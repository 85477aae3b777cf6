"""What a run without a window prints: every field of the JSON lines, and the lines for people."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.commands import main
from engine.protocol import (
    Beam,
    BeamsRanked,
    Calibrated,
    CatalogueEntry,
    Event,
    Family,
    Fit,
    FloorBeaten,
    ModelLoaded,
    SequenceResult,
    SequencesEncoded,
    TelemetryEnded,
    TelemetrySampled,
)
from engine.report import JsonReport, TextReport, catalogue_line
from engine.trace.phases import StepKind
from engine.trace.store import Trace
from engine.trace.wording import result_line
from tests.engine.runtime.small_encoders import CLASSIFIER, FEATURES, LABELS, encoder_checkpoint
from tests.engine.trace.building import APART, MS, T0, encode_step, ended, loaded, started, step
from tests.engine.trace.test_floor import MIB, calibration

TOLD = (
    SequenceResult("a <mask>", 3, (("cat", 0.75), ("dog", 0.125)), 0),
    SequenceResult("no mask", 4),
)


def encoder_loaded() -> ModelLoaded:
    event = loaded(2, family=Family.ENCODER)
    stages = (("read weights", 2_000 * MS), ("probe settings", 500 * MS))
    model = replace(event.model, task="fill-mask", load_ns=2_500 * MS, load_stages_ns=stages)
    return replace(event, model=model)


def printed(events: list[Event], as_json: bool) -> tuple[str, str]:
    """What a report prints of these events and their summary, on both streams."""
    out, notes = io.StringIO(), io.StringIO()
    report = JsonReport(out) if as_json else TextReport(out, notes)
    trace = Trace()
    for event in events:
        if isinstance(event, ModelLoaded):
            trace = Trace(event)
        trace.append(event)
        report.event(event, trace)
    report.summary(trace)
    return out.getvalue(), notes.getvalue()


def records(events: list[Event]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed(events, as_json=True)[0].splitlines()]


ENCODER_RUN: list[Event] = [
    encoder_loaded(),
    APART,
    started(),
    encode_step(10 * MS, batch=2, tokens=7, padding=1),
    SequencesEncoded(0, 0, TOLD),
    ended(),
]
DECODER_RUN: list[Event] = [loaded(), APART, started(), step([T0 + 5 * MS]), step([T0 + 9 * MS]), ended()]


def test_json_lines_of_an_encoder_run() -> None:
    model, generation, stepped, sequences, end, summary = records(ENCODER_RUN)
    assert model["family"] == "encoder"
    assert model["task"] == "fill-mask"
    assert model["load_stages_ns"] == {"read weights": 2_000 * MS, "probe settings": 500 * MS}
    assert (model["encoder_layers"], model["placement"]) == (0, {})
    assert (generation["prompt_tokens"], generation["dropped_tokens"]) == (3, 0)
    assert (stepped["kind"], stepped["batch"], stepped["prompt_tokens"], stepped["padding_tokens"]) == (
        "encode",
        2,
        7,
        1,
    )
    assert (stepped["itl_ns"], stepped["tokens"]) == (None, [])
    assert sum(stepped["phases_ns"].values()) == stepped["wall_ns"] == 10 * MS
    assert sequences == {
        "event": "sequences",
        "step": 0,
        "generation": 0,
        "results": [
            {"text": "a <mask>", "tokens": 3, "outputs": [["cat", 0.75], ["dog", 0.125]], "mask": 0},
            {"text": "no mask", "tokens": 4, "outputs": [], "mask": -1},
        ],
    }
    assert end["event"] == "end"
    assert (summary["steps"], summary["tokens"]) == (1, 0)
    assert summary["metrics"]["sequence_p50"] == {"value": 5 * MS, "unit": "ns", "count": 1}
    assert summary["metrics"]["sequence_throughput"]["unit"] == "sequences/s"
    assert summary["metrics"]["padding_share"]["value"] == 1 / 8
    assert summary["metrics"]["ttft"]["value"] is None


def test_text_of_an_encoder_run_has_a_line_a_result_and_only_what_such_a_model_can_have() -> None:
    out, notes = printed(ENCODER_RUN, as_json=False)
    assert out.splitlines() == [
        "a <mask> [mask 1] → cat 75.0%, dog 12.5%",
        "no mask → 4 tokens read, nothing to tell",
    ]
    assert "encoder for fill-mask, 2 layers" in notes
    assert "loaded in 2.5 s (read weights 2.0 s, probe settings 0.5 s)" in notes
    assert "sequence latency, median" in notes
    assert "5.000 ms" in notes
    assert "200 sequences/s" in notes
    assert "12.5%" in notes
    assert "first token" not in notes
    assert "inter-token" not in notes


def test_text_of_a_decoder_run_has_nothing_of_sequences() -> None:
    out, notes = printed(DECODER_RUN, as_json=False)
    assert out == "aa\n"
    assert "time to first token" in notes
    assert "sequence latency" not in notes
    assert "sequence throughput" not in notes
    assert "encode time" not in notes


def test_a_step_tells_what_was_drafted_and_whose_its_tokens_are() -> None:
    verify = step([T0 + 9] * 3, kind=StepKind.VERIFY, drafted=4, accepted=2)
    beams = BeamsRanked(1, 0, (Beam("x", 1, -0.5), Beam("y", 2, -0.75, True)))
    run: list[Event] = [loaded(), APART, started(), verify, beams, step([T0 + 12], sequences=(0, 2)), ended()]
    _, _, first, ranked, second, _, summary = records(run)
    assert (first["kind"], first["drafted"], first["accepted"]) == ("verify", 4, 2)
    assert [token["sequence"] for token in first["tokens"] + second["tokens"]] == [0, 0, 0, 0, 2]
    assert ranked["beams"][1] == {"text": "y", "tokens": 2, "score": -0.75, "finished": True}
    assert summary["metrics"]["acceptance"]["value"] == 0.5
    out, _ = printed(run, as_json=False)
    assert out == "abca\n--- sequence 2\na\n"


def test_an_encoder_decoder_says_how_its_layers_are_split_and_how_long_it_read() -> None:
    event = loaded(5, family=Family.ENCODER_DECODER)
    event = replace(
        event, model=replace(event.model, encoder_layers=2, placement=(("cuda:0", 3), ("cpu", 2)))
    )
    run: list[Event] = [
        event,
        APART,
        started(),
        encode_step(30 * MS, tokens=9),
        step([T0 + 50 * MS]),
        ended(),
    ]
    _, notes = printed(run, as_json=False)
    assert "encoder-decoder for text generation, 5 layers (2 of the encoder)" in notes
    assert "3 layers on cuda:0, 2 layers on cpu" in notes
    (encode_line,) = [line for line in notes.splitlines() if line.startswith("encode time")]
    assert "30.000 ms" in encode_line
    assert records(run)[0]["placement"] == {"cuda:0": 3, "cpu": 2}


def test_dropped_tokens_are_told() -> None:
    run: list[Event] = [encoder_loaded(), APART, replace(started(), dropped_tokens=1234)]
    assert "1,234 tokens of the prompt were dropped" in printed(run, as_json=False)[1]
    assert records(run)[1]["dropped_tokens"] == 1234


@pytest.mark.parametrize(
    ("result", "line"),
    [
        (SequenceResult("so good", 4, (("glad", 0.9), ("sad", 0.1))), "so good → glad 90.0%, sad 10.0%"),
        (SequenceResult("<mask><mask>", 4, (("b", 1.0),), 1), "<mask><mask> [mask 2] → b 100.0%"),
        (SequenceResult("x", 1_000), "x → 1,000 tokens read, nothing to tell"),
    ],
)
def test_a_result_is_a_line(result: SequenceResult, line: str) -> None:
    assert result_line(result) == line


def test_the_program_classifies_a_file_line_by_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = str(encoder_checkpoint("bert", tmp_path / "bert", CLASSIFIER))
    inputs = tmp_path / "inputs.txt"
    inputs.write_text("好\n\nquite long a line\nshort\n", encoding="utf-8")
    capsys.readouterr()
    arguments = ["run", "--model", directory, "--prompt", f"@{inputs}", "--batch", "2"]
    assert main([*arguments, "--json", "--at", "1:attention=eager"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    steps = [line for line in lines if line["event"] == "step"]
    assert [(s["kind"], s["batch"], s["prompt_tokens"], s["padding_tokens"]) for s in steps] == [
        ("encode", 2, 5 + 19, 14),
        ("encode", 1, 7, 0),
    ]
    assert [s["configuration"] for s in steps] == [0, 1]
    assert all(sum(s["phases_ns"].values()) == s["wall_ns"] for s in steps)
    results = [result for line in lines if line["event"] == "sequences" for result in line["results"]]
    assert [result["text"] for result in results] == ["好", "quite long a line", "short"]
    for result in results:
        assert {label for label, _ in result["outputs"]} == set(LABELS)
        assert sum(share for _, share in result["outputs"]) == pytest.approx(1, abs=1e-5)
    assert [line["reason"] for line in lines if line["event"] == "end"] == ["inputs done"]
    assert lines[-1]["metrics"]["padding_share"]["value"] == pytest.approx(14 / 45)
    assert main(arguments) == 0
    shown = capsys.readouterr().out.splitlines()
    assert [line.split(" → ")[0] for line in shown] == ["好", "quite long a line", "short"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--prompt", "  \n"], "no input"), (["--prompt", "a", "--batch", "0"], "at least one input")],
)
def test_bad_inputs_are_one_sentence_and_exit_code_2(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = str(encoder_checkpoint("bert", tmp_path, FEATURES))
    capsys.readouterr()
    assert main(["run", "--model", directory, *arguments, "--json"]) == 2
    sentence = capsys.readouterr().err.strip()
    assert words in sentence
    assert len(sentence.splitlines()) == 1


def test_a_model_of_the_catalogue_says_what_the_automatic_device_thinks_of_it() -> None:
    fits = (Fit("cuda:0", 9, "It needs too much."), Fit("cpu", 9, remark="fits cpu only in bfloat16"))
    entry = CatalogueEntry("m", "preset", "Llama", 7_000_000, 9, 64, "random weights", fits=fits)
    assert catalogue_line(entry).endswith("7 M  It needs too much.")
    assert catalogue_line(replace(entry, fits=fits[1:])).endswith("random weights; fits cpu only in bfloat16")
    assert catalogue_line(replace(entry, reason="It is torn.")).endswith("It is torn.")


def test_a_calibration_and_a_floor_that_was_beaten_are_told_to_people_and_programs() -> None:
    good = calibration(
        rungs=((MIB, 50e9), (512 * MIB, 11e9)), rates=(("float32", 75e9), ("int8", 150e9)), spread=0.012
    )
    poor = replace(good, spread=0.3, remark="other programs used 1.5 of 2 cores meanwhile")
    events: list[Event] = [
        loaded(),
        Calibrated(T0, 0, good, "remembered"),
        Calibrated(T0, 1, poor, "measured", "a step had beaten its floor"),
        Calibrated(T0, 2, replace(good, plain_bandwidth=5.5e9), "measured"),
        FloorBeaten(T0, 7, 2 * MS, 3 * MS),
    ]
    _, notes = printed(events, as_json=False)
    assert "calibration 0 of cpu, 1 thread, remembered 2023-11-1" in notes
    assert (
        "11.0 GB/s from memory, up to 50.0 GB/s from caches, float32 75.0, int8 150.0 GFLOP/s; repeated within 1.2%]"
        in notes
    )
    assert "not repeatable, repeated only within 30.0%; other programs used 1.5 of 2 cores meanwhile" in notes
    assert "repeated within 1.2%; doubtful: 5.5 GB/s by other means]" in notes
    assert "step 7 took 2.000 ms, less than its floor of 3.000 ms: the calibration is broken" in notes
    told = {record["event"]: record for record in records(events)}
    assert told["calibrated"]["calibration"]["rungs"] == [[MIB, 50e9], [512 * MIB, 11e9]]
    assert told["floor_beaten"]["floor_ns"] == 3 * MS


def test_warnings_and_missing_sensors_are_told_once() -> None:
    hot = TelemetrySampled(T0, 1, 2, on_battery=True, notes=("No driver: install one.",))
    run = [
        loaded(),
        APART,
        started(),
        step(),
        hot,
        replace(hot, at_ns=T0 + 1, notes=()),
        TelemetryEnded(T0, "Gone."),
    ]
    notes = printed(run, as_json=False)[1]
    assert notes.count("runs on its battery") == 1
    assert "Plug it in before comparing." in notes
    assert notes.count("No driver: install one.") == 1
    assert "Gone." in notes
    told = records(run)
    (warning,) = [record for record in told if record["event"] == "warning"]
    assert (warning["trouble"], warning["step"], warning["at_ns"]) == ("on battery", 1, T0)
    assert [record["on_battery"] for record in told if record["event"] == "telemetry"] == [True, True]
