"""The headless program as people and scripts run it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine import commands
from engine.commands import main, parse_script, parse_settings
from engine.protocol import Calibrated
from engine.runtime.calibration import MIB, measure
from engine.trace.recording import read_session
from tests.engine.runtime.live_models import family_checkpoint
from tests.engine.trace import building


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(family_checkpoint("llama", tmp_path_factory.mktemp("llama")))


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_a_run_prints_one_object_a_line_that_sums(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--model", llama, "--prompt", "你好", "--max-new-tokens", "9", "--json"]
    assert main([*arguments, "--at", "4:attention=eager", "--set", "prefill_chunk=4"]) == 0
    records = lines(capsys.readouterr().out)
    steps = [record for record in records if record["event"] == "step"]
    assert [step["kind"] for step in steps] == ["prefill"] * 2 + ["decode"] * 8
    for step in steps:
        assert sum(step["phases_ns"].values()) == step["wall_ns"]
        assert {len(part) for part in step["layers_ns"].values()} == {2}
    (mark,) = [record for record in records if record["event"] == "mark"]
    assert mark["step"] == 4
    assert mark["changes"][0]["effective"] == "eager"
    assert records[-1]["event"] == "summary"
    assert records[-1]["tokens"] == 9
    text = "".join(token["text"] for step in steps for token in step["tokens"])
    assert text.encode()  # random weights: any text, but text
    arrivals = [token["arrival_ns"] for step in steps for token in step["tokens"]]
    assert arrivals == sorted(arrivals)
    ttft = records[-1]["metrics"]["ttft"]
    submitted = next(record for record in records if record["event"] == "generation")["submitted_ns"]
    assert ttft["value"] * (1e9 if ttft["unit"] == "s" else 1) == pytest.approx(arrivals[0] - submitted)


def test_a_run_for_people_streams_text_and_sums_up(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--model", llama, "--prompt", "abc", "--max-new-tokens", "5"]) == 0
    printed = capsys.readouterr()
    assert printed.out.strip("\n")
    assert "random weights" not in printed.err
    assert "TTFT" in printed.err or "first token" in printed.err


def test_a_run_calibrates_first_where_that_is_asked_for_and_remembers_it(
    llama: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("engine.runtime.floors.measure", lambda machine, _: measure(machine, largest=2 * MIB))
    monkeypatch.setattr("engine.runtime.calibration.busy_words", lambda *_: "")
    arguments = ["run", "--model", llama, "--prompt", "abc", "--max-new-tokens", "5", "--json"]
    assert main(arguments) == 0
    before = lines(capsys.readouterr().out)
    assert {record["floor_ns"] for record in before if record["event"] == "step"} == {None}
    assert before[-1]["metrics"]["floor_share"]["value"] is None
    for origin, more in (("measured", ["--calibrate"]), ("remembered", [])):
        assert main([*arguments, *more]) == 0
        records = lines(capsys.readouterr().out)
        (told,) = [record for record in records if record["event"] == "calibrated"]
        assert told["origin"] == origin
        steps = [record for record in records if record["event"] == "step"]
        assert len(steps) == 5
        for step in steps:
            assert 0 < step["floor_ns"] < step["wall_ns"]
            assert step["calibration"] == told["number"]
            assert min(step["moved_bytes"], step["operations"]) > 0
        shares = sorted(step["floor_ns"] / step["wall_ns"] for step in steps if step["kind"] == "decode")
        assert records[-1]["metrics"]["floor_share"]["value"] == pytest.approx((shares[1] + shares[2]) / 2)
        assert 0 < records[-1]["metrics"]["mbu"]["value"] < 1
    shape = next(record for record in before if record["event"] == "model")["shape"]
    assert [count for count, _ in shape["decoder"]] == [2]


def test_a_training_step_is_measured_and_told(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--model", llama, "--prompt", "abcd", "--max-new-tokens", "6", "--training-step", "4"]
    assert main([*arguments, "--mixed", "--accumulate", "2", "--json"]) == 0
    steps = [record for record in lines(capsys.readouterr().out) if record["event"] == "step"]
    assert [step["kind"] for step in steps].index("backward") == 4
    assert steps[4]["phases_ns"]["backward"] > 0
    assert main(arguments) == 0
    assert "times a decode step" in capsys.readouterr().err
    assert main([*arguments[:-1], "40"]) == 0
    assert "was never reached" in capsys.readouterr().err


@pytest.mark.parametrize("step", [0, 3])
def test_a_step_is_captured_printed_and_written(
    llama: str, step: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "step.json"
    arguments = ["run", "--model", llama, "--prompt", "abcd", "--max-new-tokens", "6", "--capture", str(step)]
    assert main([*arguments, "--json"]) == 0
    records = lines(capsys.readouterr().out)
    steps = [record for record in records if record["event"] == "step"]
    assert [record["index"] for record in steps if record["captured"]] == [step]
    (found,) = [record for record in records if record["event"] == "kernels"]
    assert found["step"] == step
    entries = found["entries"]
    assert {len(column) for column in entries.values()} == {len(entries["name"])}
    products = [
        entries["phase"][place]
        for place, name in enumerate(entries["name"])
        if found["names"][name] == "aten::linear"
    ]
    assert products == [*["attention"] * 4, *["mlp"] * 3] * 2 + ["head"]
    assert sum(found["host_phases_ns"].values()) == sum(entries["self_ns"])
    assert main([*arguments, "--capture-to", str(target)]) == 0
    printed = capsys.readouterr().err
    assert f"[step {step} captured in depth: " in printed
    assert "aten::mm" in printed or "aten::addmm" in printed
    assert "our clocks" in printed
    assert json.loads(target.read_text())["otherData"]["step"] == step
    assert main([*arguments, "--capture-to", str(target)]) == 2
    assert "is not overwritten" in capsys.readouterr().err


def test_a_step_to_capture_that_never_comes_is_told(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["run", "--model", llama, "--prompt", "abcd", "--max-new-tokens", "3", "--capture", "40"]
    assert main(arguments) == 0
    assert "Step 40, which was to be captured, was never reached." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", "a", "--capture-to", "x.json"], "say which step"),
        (["--prompt", "a", "--capture", "-1"], "the first is 0"),
        (["--prompt", "a", "--capture", "1", "--capture-to", "/no/such/place/x.json"], "/no/such/place"),
        (["--prompt", ""], "prompt is empty"),
        (["--prompt", "@/no/such/file"], "/no/such/file"),
        (["--prompt", "x" * 3000], "3,000 tokens"),
        (["--prompt", "a", "--set", "colour=red"], "colour"),
        (["--prompt", "a", "--set", "attention=telepathy"], "telepathy"),
        (["--prompt", "a", "--set", "attention"], "key=value"),
        (["--prompt", "a", "--at", "soon:threads=1"], "step:key=value"),
        (["--prompt", "a", "--at", "3:colour=red"], "colour"),
        (["--prompt", "a", "--max-new-tokens", "0"], "at least one"),
        (["--prompt", "a", "--model", "no-such-model"], "no-such-model"),
        (["--prompt", "a", "--device", "cuda:7"], "cuda:7"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    llama: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--model", llama, *arguments, "--json"]) == 2
    printed = capsys.readouterr()
    assert words in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert "Traceback" not in printed.err
    assert lines(printed.out)[-1] == {"event": "error", "sentence": printed.err.strip()}


def test_models_and_settings_are_listed(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--json"]) == 0
    names = {entry["name"] for entry in lines(capsys.readouterr().out)}
    assert {"llama-30m", "gpt2-124m"} <= names
    assert main(["settings", "--model", llama, "--json"]) == 0
    settings = {entry["key"]: entry for entry in lines(capsys.readouterr().out)}
    assert settings["attention"]["effective"] in {
        choice["value"] for choice in settings["attention"]["choices"]
    }
    assert all(choice["label"] for entry in settings.values() for choice in entry["choices"])
    assert main(["models"]) == 0
    assert main(["settings", "--model", llama]) == 0
    assert "kv_cache = dynamic" in capsys.readouterr().out


def test_the_program_runs_as_a_module(llama: str) -> None:
    command = [
        sys.executable,
        "-m",
        "engine",
        "run",
        "--model",
        llama,
        "--prompt",
        "a",
        "--max-new-tokens",
        "2",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert lines(done.stdout)[-1]["event"] == "summary"


def test_settings_and_scripts_are_parsed() -> None:
    assert parse_settings(["a=1", "b=x=y"]) == (("a", "1"), ("b", "x=y"))
    assert parse_script(["3:a=1", "3:b=2", "0:c=d"]) == {3: (("a", "1"), ("b", "2")), 0: (("c", "d"),)}


def test_speculation_beams_and_batches_run_without_a_window(
    llama: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def ran(*options: str) -> list[dict]:
        arguments = [
            "run",
            "--model",
            llama,
            "--prompt",
            "abcabc",
            "--max-new-tokens",
            "12",
            "--ignore-end-token",
        ]
        assert main([*arguments, "--json", *options]) == 0
        return lines(capsys.readouterr().out)

    def texts(records: list[dict]) -> dict[int, str]:
        found: dict[int, str] = {}
        for record in records:
            for token in record.get("tokens", []) if record["event"] == "step" else []:
                found[token["sequence"]] = found.get(token["sequence"], "") + token["text"]
        return found

    plain = texts(ran())
    drafted = ran("--set", f"draft_model={llama}", "--set", "speculation=draft")
    assert texts(drafted) == plain
    steps = [record for record in drafted if record["event"] == "step"]
    assert {step["kind"] for step in steps} >= {"prefill", "verify"}
    assert sum(step["accepted"] for step in steps) == sum(step["drafted"] for step in steps) > 0
    assert drafted[-1]["metrics"]["acceptance"]["value"] == 1
    ranked = [record for record in ran("--set", "beams=3") if record["event"] == "beams"]
    assert len(ranked) == 11
    assert len(ranked[0]["beams"]) == 3
    several = ran("--set", "batch=3")
    assert texts(several) == dict.fromkeys(range(3), plain[0])
    assert several[-1]["metrics"]["tokens"]["value"] == 36
    assert main(["run", "--model", llama, "--prompt", "abcabc\nx", "--max-new-tokens", "12", "--lines"]) == 0
    assert "--- sequence 1" in capsys.readouterr().out
    assert main(["run", "--model", llama, "--prompt", "a\nb", "--lines", "--set", "beams=2"]) == 2
    assert "beams" in capsys.readouterr().err


def test_sequences_join_without_a_window(
    llama: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "other.txt").write_text("hello")
    run = ["run", "--model", llama, "--prompt", "abcabc", "--max-new-tokens", "12", "--ignore-end-token"]
    joins = ["--join", f"4:@{tmp_path / 'other.txt'}", "--join", "6:x: y", "--join", "99:z"]
    assert main([*run, *joins, "--json"]) == 0
    records = lines(capsys.readouterr().out)
    joined = [record for record in records if record["event"] == "joined"]
    assert [(record["step"], record["prompt_tokens"]) for record in joined] == [(4, 5), (6, 4)]
    assert "never reached" in next(record for record in records if record["event"] == "error")["sentence"]
    assert records[-1]["metrics"]["ttft"]["count"] == 3
    assert main([*run, *joins]) == 0
    printed = capsys.readouterr()
    assert "--- sequence 2" in printed.out
    assert "sequence 1 joined: 5 tokens" in printed.err
    for entry, words in (("x", "step:text"), ("0:x", "--lines"), ("3:@/nowhere", "cannot be read")):
        assert main([*run, "--join", entry]) == 2
        assert words in capsys.readouterr().err
    assert main([*run, "--set", "speculation=lookup", "--join", "3:x"]) == 2
    assert "speculation" in capsys.readouterr().err


def test_sensors_are_read_beside_a_run_and_the_instrument_is_measured(
    llama: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["run", "--model", llama, "--prompt", "abc", "--max-new-tokens", "400", "--ignore-end-token"]
    assert main([*arguments, "--json", "--sensors", "10", "--measure-instrument"]) == 0
    records = lines(capsys.readouterr().out)
    samples = [record for record in records if record["event"] == "telemetry"]
    assert samples
    assert samples[-1]["engine_bytes"] > 0
    steps = [record for record in records if record["event"] == "step"]
    assert samples[-1]["at_ns"] <= steps[-1]["begin_ns"] + steps[-1]["wall_ns"]  # on one clock
    begun, ended = (record for record in records if record["event"] == "turns")
    assert (begun["key"], begun["first"], begun["second"], begun["ended"]) == (
        "detail",
        "layer",
        "step",
        False,
    )
    assert ended["ended"]
    (found,) = (record for record in records if record["event"] == "instrument")
    assert (
        found["marks"]["effect"]["low"]
        <= found["marks"]["effect"]["ratio"]
        <= found["marks"]["effect"]["high"]
    )
    assert found["cost"]["share"] > 0
    assert main([*arguments[:-2], "9", "--measure-instrument", "--sensors", "0"]) == 0
    told = capsys.readouterr().err
    assert "too few for a number" in told
    assert "the instrument took" in told


def test_what_writing_down_costs_is_in_the_trace_and_told_at_the_end(
    llama: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "RECORDING_EVERY_NS", 1)
    path = tmp_path / "a.cyclograph"
    arguments = ["run", "--model", llama, "--prompt", "abc", "--max-new-tokens", "150", "--ignore-end-token"]
    assert main([*arguments, "--json", "--sensors", "0", "--record", str(path)]) == 0
    out, told = capsys.readouterr()
    costs = [record for record in lines(out) if record["event"] == "recording"]
    assert costs
    assert all(cost["ns_per_step"] > 0 for cost in costs)
    assert sum(cost["steps"] for cost in costs) <= 150
    assert "[recorded: 150 steps" in told  # those that were told of before, and the rest
    kept = read_session(path).trace().recording
    assert [cost.ns_per_step for cost in kept] == [cost["ns_per_step"] for cost in costs]


def test_a_step_that_makes_no_sense_ends_a_run_with_a_sentence() -> None:
    asking = commands.Asking(Calibrated, None)
    backwards = building.step(stamps=(100, 101, 103, 90, 106, 106, 108, 110))
    for event in (building.loaded(), building.APART, backwards):
        asking.take(event)
    assert asking.problem.startswith(
        "A message of the engine made no sense (the times of step 0 run backwards"
    )
    assert len(asking.trace.steps) == 0


def test_sensors_are_not_read_faster_than_they_change(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--model", llama, "--prompt", "abc", "--sensors", "1000"]) == 2
    assert "0.1 to 10 times a second" in capsys.readouterr().err


def test_a_run_keeps_its_detail_unless_told(llama: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "run",
        "--model",
        llama,
        "--prompt",
        "abc",
        "--max-new-tokens",
        "2",
        "--json",
        "--sensors",
        "0",
    ]
    for extra, expected in (
        ([], ("layer", "off")),
        (["--detail", "auto"], ("layer", "on")),
        (["--detail", "phase"], ("phase", "off")),
        (["--set", "detail=core"], ("core", "off")),
    ):
        assert main([*arguments, *extra]) == 0
        model = next(record for record in lines(capsys.readouterr().out) if record["event"] == "model")
        assert (model["settings"]["detail"], model["settings"]["auto_detail"]) == expected
