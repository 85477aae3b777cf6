"""The command line of the window. No Qt here, so that the engine can be started before Qt is imported."""

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from engine import __version__
from engine.prompt_files import prompt_text
from engine.sample_session import SESSION_HELP, session_path

if TYPE_CHECKING:
    from engine.protocol import Configuration

DEFAULT_MODEL = "demo"
PICTURE_TOKENS = 128
PICTURE_SIZE = (1440, 900)
SMALLEST, LARGEST = (640, 480), (7680, 4320)
BAD_INPUT = 2
FOR_ENGINE = ("model", "prompt", "device", "set", "place", "steps", "paused")


@dataclass(frozen=True, slots=True)
class Options:
    """What was asked for on the command line. `screenshot`: draw offscreen and save a picture there.

    `replay`: show this recording, and start no engine.
    """

    model: str = DEFAULT_MODEL
    device: str = "auto"
    settings: "Configuration" = ()
    place: str = "process"
    prompt: str | None = None
    theme: str | None = None
    size: tuple[int, int] | None = None
    screenshot: Path | None = None
    steps: int | None = None
    paused: bool = False
    record: bool = True
    replay: Path | None = None


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(
            BAD_INPUT, f"{message[:1].upper()}{message[1:]}; `{self.prog} --help` lists what there is.\n"
        )


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line. Ends the program with code 2 after one sentence where it makes no sense."""
    parser = _make_parser()
    given = parser.parse_args(arguments)
    try:
        settings = dict(_setting(pair) for pair in given.set)
        place = settings.pop("engine_place", given.place)
        if place not in ("process", "thread"):
            raise ValueError(f"an engine lives in a process or in a thread, not in '{place}'")
        prompt = None if given.prompt is None else prompt_text(given.prompt)
        size = _size(given.size) if given.size else None
        if given.steps is not None and given.steps < 1:
            raise ValueError(f"a generation has at least one token, not {given.steps}")
        screenshot = _picture_path(given.screenshot) if given.screenshot else None
        replay = _recording(parser, given) if given.replay is not None else None
    except ValueError as problem:
        parser.error(str(problem))
    return Options(
        model=given.model,
        device=given.device,
        settings=tuple(sorted(settings.items())),
        place=place,
        prompt=prompt,
        theme=given.theme,
        size=size,
        screenshot=screenshot,
        steps=given.steps,
        paused=given.paused,
        record=not given.no_record,
        replay=replay,
    )


def _make_parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="cyclograph", description="An oscilloscope for LLM inference.", allow_abbrev=False)
    add = parser.add_argument
    add(
        "--model",
        default=DEFAULT_MODEL,
        help="demo, a preset, local directory or hub id (default: %(default)s)",
    )
    add("--prompt", metavar="TEXT", help="text to continue, or @FILE (UTF-8)")
    add("--device", default="auto", help="auto, cpu, cuda:0, mps, … (default: %(default)s)")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting from the start")
    add("--place", choices=("process", "thread"), default="process", help="where the engine lives")
    add(
        "--theme",
        choices=("dark", "light", "system"),
        help="default: what was chosen last, at first the system's",
    )
    add("--size", metavar="WIDTHxHEIGHT", help="of the window, for example 1440x900")
    add(
        "--screenshot",
        metavar="FILE",
        help="draw offscreen, generate, save a picture of the window there (PNG)",
    )
    add("--steps", type=int, metavar="N", help=f"new tokens (with --screenshot: {PICTURE_TOKENS} by default)")
    add("--paused", action="store_true", help="wait before the first step")
    add("--no-record", action="store_true", help="write no session down, whatever was chosen in the window")
    add("--replay", metavar="FILE", help=f"show {SESSION_HELP}; no engine is started")
    add("--version", action="version", version=f"cyclograph {__version__}")
    return parser


def _setting(pair: str) -> tuple[str, str]:
    key, equals, value = (part.strip() for part in pair.partition("="))
    if not (key and equals and value):
        raise ValueError(f"'{pair}' is not a setting: write key=value, for example attention=eager")
    return key, value


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text.strip().lower())
    if not found:
        raise ValueError(f"'{text}' is not a size: write WIDTHxHEIGHT, for example 1440x900")
    size = int(found[1]), int(found[2])
    if not (SMALLEST[0] <= size[0] <= LARGEST[0] and SMALLEST[1] <= size[1] <= LARGEST[1]):
        raise ValueError(f"a window of {text} is not possible: from 640x480 to 7680x4320 is")
    return size


def _recording(parser: argparse.ArgumentParser, given: argparse.Namespace) -> Path:
    for name in FOR_ENGINE:
        if getattr(given, name) != parser.get_default(name):
            raise ValueError(f"a recording has no engine to which --{name.replace('_', '-')} could matter")
    path = session_path(given.replay)
    if not path.is_file():
        raise ValueError(f"there is no file '{path}' to replay")
    return path


def _picture_path(text: str) -> Path:
    path = Path(text).expanduser()
    if path.suffix.lower() != ".png":
        raise ValueError(f"a picture is saved as PNG: give a name that ends in .png, not '{text}'")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise ValueError(f"there is no directory '{path.parent}' to save the picture in: create it first")
    if not os.access(path.absolute().parent, os.W_OK):
        raise ValueError(f"the directory '{path.parent}' cannot be written to: choose another")
    return path


def free_path(wanted: Path) -> Path:
    """This path, or the first numbered one beside it that does not exist: nothing is overwritten."""
    path, number = wanted, 1
    while path.exists():
        number += 1
        path = wanted.with_stem(f"{wanted.stem}-{number}")
    return path
