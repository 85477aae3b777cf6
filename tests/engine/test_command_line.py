"""The command that repeats a run: read again by a shell and by the program itself, and run."""

import io
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from engine.command_line import LONGEST, PROGRAM, Repetition, quoted, repetition_of
from engine.commands import (
    Running,
    generate_of,
    main,
    make_prompt,
    parse_joins,
    parse_script,
    parse_settings,
    parser,
)
from engine.protocol import Event, Generate, Join, Load, ModelLoaded, Prompt, SettingFacts, Turn
from engine.report import JsonReport
from engine.trace.store import Trace
from tests.engine.runtime.live_models import family_checkpoint
from tests.engine.trace import building
from tests.engine.trace.export import sessions

AWKWARD = [
    "plain",
    "",
    "two words",
    'it\'s "quoted" $HOME `id` \\n ! * ~',
    "lines\nand\ttabs\r\nof 令牌 😀",
    "-x --help",
    "\x01\x1b[31m\x7f\u2028\\'",
    "-",
    "\ufeffmark",
]
SETTINGS = (
    SettingFacts("precision", "precision", "Precision", "choice", "float32"),
    SettingFacts("temperature", "decoding", "Temperature", "number", 1.0),
    SettingFacts("engine_place", "placement", "Engine", "choice", "process"),
    SettingFacts("note", "other", "Note", "text", "a"),
)


def shell(line: str) -> tuple[list[str], bytes]:
    """What bash makes of a command line: the words of the last command, and what is piped into it."""
    script = f"python() {{ printf '%s\\0' \"$@\"; cat; }}; {line}"
    done = subprocess.run(["bash", "-c", script], input=b"", capture_output=True, check=True)
    *words, piped = done.stdout.split(b"\0")
    return [word.decode("utf-8") for word in words], piped


def loaded(**effective: object) -> ModelLoaded:
    made = building.loaded(effective=tuple(sorted(effective.items())))  # type: ignore[arg-type]
    return replace(made, settings=SETTINGS)


def repeated(generate: Generate, load: Load | None = None, *events: Event, **effective: object) -> Repetition:
    model = loaded(**(effective or {"precision": "float32"}))
    trace = Trace(model)
    trace.extend([building.APART, building.started(), *(events or [building.step((building.T0,))])])
    return repetition_of(trace, trace.generations[0], model, load or Load("demo"), generate)


@pytest.mark.parametrize("text", AWKWARD)
def test_a_shell_reads_every_text_back(text: str) -> None:
    word = quoted(text)
    assert "\n" not in word
    assert shell(f"python {word}")[0] == [text]


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b"])
def test_what_no_line_can_hold_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        quoted(text)


@pytest.mark.parametrize(
    "text", [*AWKWARD[:1], *AWKWARD[2:], "@home", "@-", "x" * (LONGEST + 1), "\ufeff" * LONGEST * 2]
)
@pytest.mark.parametrize("turns", [False, True])
def test_the_program_reads_the_same_run(text: str, turns: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = (
        Turn("system", "be brief"),
        Turn("user", "hi: you"),
        Turn("assistant", "-yes\n"),
        Turn("user", text),
    )
    prompt = Prompt(turns=chat, thinking=False) if turns else Prompt(text, truncate=True)
    generate = Generate(prompt, 77, stop_at_end_token=False, batch=3, lines=not turns)
    load = Load("/a path/with 'quotes'", "cuda:0")
    words, piped = shell(
        repeated(generate, load, precision="bfloat16", temperature=0.7, engine_place="thread").line
    )
    assert ["python", *words[:3]] == PROGRAM.split()
    options = parser().parse_args(words[2:])
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(piped)))
    assert generate_of(options, make_prompt(options, options.prompt)) == generate
    assert Load(options.model, options.device) == load
    assert parse_settings(options.set) == (("precision", "bfloat16"), ("temperature", "0.7"))


def test_what_is_as_at_first_is_not_said() -> None:
    line = repeated(Generate(Prompt("a"), 8), precision="float32", temperature=1.0, note="a").line
    assert line == f"{PROGRAM} --prompt=a --model=demo --device=auto --max-new-tokens=8"


def test_changes_and_joins_come_before_the_same_steps() -> None:
    trace, model = sessions.trace(), replace(building.loaded(), settings=SETTINGS)
    made = repetition_of(trace, trace.generations[0], model, Load("demo"), Generate(Prompt("hello"), 64))
    options = parser().parse_args(shell(made.line)[0][2:])
    assert parse_script(options.at) == {4: (("precision", "bfloat16"),)}
    assert parse_joins(options) == {2: (Join(Prompt("other"), 64),)}
    assert made.left_out == ()
    second = repetition_of(trace, trace.generations[1], model, Load("demo"), Generate(Prompt("hello"), 64))
    assert "--set=precision=bfloat16" in second.line
    assert "--at" not in second.line
    assert "--join" not in second.line


def test_what_it_does_not_repeat_is_named() -> None:
    trace, model = sessions.trace(), replace(building.loaded(), settings=SETTINGS)
    made = repetition_of(trace, trace.generations[0], model, Load("demo"), Generate(Prompt("hello"), 5))
    assert [sentence for sentence in made.left_out if "Sequence 1" in sentence]
    assert "--join" not in made.line
    stopped = replace(building.ended(), reason="stopped")
    made = repeated(Generate(Prompt("a")), None, building.step((building.T0,)), stopped)
    assert made.left_out == ("That the run was stopped: the command goes on to its end.",)


@pytest.mark.parametrize(
    ("generate", "effective", "words"),
    [
        (Generate(Prompt(turns=(Turn("user", "a"), Turn("assistant", "b")))), {}, "user's turn"),
        (Generate(Prompt("a")), {"note": ""}, "cannot empty the setting 'note'"),
        (Generate(Prompt("a\0")), {}, "zero byte"),
    ],
)
def test_what_no_command_can_say_is_one_sentence(generate: Generate, effective: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refusal:
        repeated(generate, **effective)
    assert "\n" not in str(refusal.value)


def test_a_turn_without_a_role_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--prompt", "a", "--chat", "--turn", "nobody: says"]) == 2
    assert "user:TEXT" in capsys.readouterr().err
    assert main(["run", "--prompt", "a", "--turn", "user:hi"]) == 2
    assert "add --chat" in capsys.readouterr().err


def test_the_repeated_run_gives_the_same_tokens(tmp_path: Path) -> None:
    llama = str(family_checkpoint("llama", tmp_path / "a model"))
    load = Load(llama, "cpu", (("decoding", "sample"), ("seed", "3"), ("prefill_chunk", "8")))
    generate = Generate(Prompt("The cycle of 'a' token,\n令牌的周期。"), 14, stop_at_end_token=False)
    ran: list[Trace] = []
    events: list[ModelLoaded] = []

    class Kept(Running):
        def answer(self, event: Event) -> None:
            super().answer(event)
            if isinstance(event, ModelLoaded):
                events.append(event)

    def run(load: Load, generate: Generate, script: dict) -> None:
        with (tmp_path / "out").open("w") as out:
            front = Kept(JsonReport(out), script)
            assert front.run(load, generate) == 0
            ran.append(front.trace)

    run(load, generate, {6: (("attention", "eager"), ("seed", "9"))})
    made = repetition_of(ran[0], ran[0].generations[0], events[0], load, generate)
    assert made.left_out == ()
    options = parser().parse_args(shell(made.line)[0][2:])
    again = generate_of(options, make_prompt(options, options.prompt))
    assert again == generate
    run(Load(options.model, options.device, parse_settings(options.set)), again, parse_script(options.at))
    assert ran[1].tokens.id.tolist() == ran[0].tokens.id.tolist()
    assert ran[1].configurations == ran[0].configurations
    assert ran[1].steps.configuration.tolist() == ran[0].steps.configuration.tolist()
