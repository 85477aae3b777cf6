"""The command line: what is given is understood, what makes no sense gets one sentence and code 2."""

from pathlib import Path

import pytest

from engine.sample_session import SAMPLE_FILE
from gui.options import BAD_INPUT, free_path, parse


def test_nothing_is_needed() -> None:
    options = parse([])
    assert options.model == "demo"
    assert options.place == "process"
    assert options.screenshot is None
    assert options.record
    assert not parse(["--no-record"]).record


def test_everything_is_understood(tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.txt"
    prompt.write_text("写一首诗", encoding="utf-8")
    options = parse(
        f"--model m --prompt @{prompt} --device cpu --set b=2 --set a=x --theme light --size 1920x1080"
        f" --screenshot {tmp_path}/a.png --steps 7 --place thread".split()
    )
    assert options.prompt == "写一首诗"
    assert options.settings == (("a", "x"), ("b", "2"))
    assert options.size == (1920, 1080)
    assert options.steps == 7
    assert options.place == "thread"


def test_a_recording_is_named_by_its_file_or_is_the_sample(tmp_path: Path) -> None:
    (tmp_path / "a.cyclograph").touch()
    assert parse([]).replay is None
    assert parse(["--replay", str(tmp_path / "a.cyclograph")]).replay == tmp_path / "a.cyclograph"
    assert parse(["--replay", "sample"]).replay == SAMPLE_FILE


def test_the_place_may_be_given_as_a_setting() -> None:
    options = parse(["--set", "engine_place=thread"])
    assert options.place == "thread"
    assert options.settings == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--size", "wide"], "'wide'"),
        (["--replay", "/nowhere/a.cyclograph"], "no file '/nowhere/a.cyclograph'"),
        (["--replay", "sample", "--set", "threads=1"], "--set"),
        (["--replay", "sample", "--model", "tiny"], "--model"),
        (["--size", "10x10"], "10x10"),
        (["--set", "precision"], "key=value"),
        (["--prompt", "@/nowhere/at all"], "/nowhere/at all"),
        (["--theme", "pink"], "pink"),
        (["--steps", "0"], "at least one"),
        (["--steps", "many"], "many"),
        (["--screenshot", "picture.jpg"], ".png"),
        (["--screenshot", "/nowhere/picture.png"], "/nowhere"),
        (["--colour", "red"], "--colour"),
        (["--set", "engine_place=cloud"], "cloud"),
    ],
)
def test_nonsense_gets_one_sentence(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == BAD_INPUT
    told = capsys.readouterr().err
    assert said in told
    assert len(told.strip().splitlines()) == 1


def test_a_prompt_file_that_is_not_text_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prompt.bin"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SystemExit):
        parse(["--prompt", f"@{path}"])
    assert "UTF-8" in capsys.readouterr().err


def test_a_picture_never_overwrites(tmp_path: Path) -> None:
    wanted = tmp_path / "cyclograph.png"
    assert free_path(wanted) == wanted
    wanted.touch()
    (tmp_path / "cyclograph-2.png").touch()
    assert free_path(wanted) == tmp_path / "cyclograph-3.png"
