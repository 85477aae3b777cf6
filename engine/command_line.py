"""A run as the command line that repeats it: the same model, settings, prompt and length, for a POSIX shell.

Pure: it reads a trace and the commands that were sent, and returns text. What `python -m engine run` has no words for
is named beside it, so that nobody takes the one for the other.
"""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.protocol import Configuration, Generate, Load, ModelLoaded, Prompt
from engine.trace.phases import StepKind
from engine.trace.store import GenerationRecord, Trace

PROGRAM = "python -m engine run"
LONGEST = 4000  # characters of a prompt on the line itself; a longer one comes by standard input
#: Settings that are no setting of a command line: where the engine lives, and where the model does (`--device`).
_PLACES = ("engine_place", "placement")


@dataclass(frozen=True, slots=True)
class Repetition:
    """`line`: for a shell. `left_out`: what of the run it does not repeat, a sentence each."""

    line: str
    left_out: tuple[str, ...] = ()


def repetition_of(
    trace: Trace, generation: GenerationRecord, loaded: ModelLoaded, load: Load, generate: Generate
) -> Repetition:
    """The command that repeats a generation, which was asked for by `generate` of a model that `load` asked for.

    The settings are those in force at its first step where they differ from the defaults; changes on its way come
    before the same steps. Raises ValueError with a sentence where no command line can say it.
    """
    first = generation.first_step
    number = int(trace.steps.configuration[first]) if generation.end_step > first else -1
    settings = trace.configurations[number] if number >= 0 else trace.configuration
    device = str(dict(settings).get("placement", load.device))
    options = [f"--model={load.model}", f"--device={device}", *_prompt_options(generate)]
    options += [f"--set={pair}" for pair in _pairs(_differing(settings, loaded))]
    options += _length_options(generate)
    changes, refused = _changes(trace, generation)
    options += [f"--at={step}:{pair}" for step, settings in changes for pair in _pairs(settings)]
    joins, not_joined = _joins(trace, generation, generate)
    options += joins
    line, piped = _with_prompt(options, generate.prompt)
    return Repetition(piped + line, (*refused, *not_joined, *_left_out(trace, generation)))


# ---------------------------------------------------------------- options


def _prompt_options(generate: Generate) -> Iterator[str]:
    prompt = generate.prompt
    if prompt.turns:
        yield "--chat"
        if prompt.turns[-1].role != "user":
            raise ValueError(
                "A command line ends a chat with a user's turn, and this one does not: add a turn."
            )
        before = prompt.turns[:-1]
        if before and before[0].role == "system":
            yield f"--system={before[0].content}"
            before = before[1:]
        yield from (f"--turn={turn.role}:{turn.content}" for turn in before)
        if prompt.thinking is not None:
            yield f"--thinking={'on' if prompt.thinking else 'off'}"
    if prompt.truncate:
        yield "--truncate"


def _length_options(generate: Generate) -> Iterator[str]:
    yield f"--max-new-tokens={generate.max_new_tokens}"
    if not generate.stop_at_end_token:
        yield "--ignore-end-token"
    if generate.batch != 1:
        yield f"--batch={generate.batch}"
    if generate.lines:
        yield "--lines"


def _differing(settings: Configuration, loaded: ModelLoaded) -> Configuration:
    defaults = {facts.key: facts.default for facts in loaded.settings}
    return tuple(
        (key, value) for key, value in settings if key in defaults and str(value) != str(defaults[key])
    )


def _pairs(settings: Configuration) -> list[str]:
    """Settings as `key=value`. Raises ValueError for a value that is empty."""
    told = [(key, str(value)) for key, value in settings if key not in _PLACES]
    empty = next((key for key, value in told if not value.strip()), None)
    if empty is not None:
        raise ValueError(f"A command line cannot empty the setting '{empty}': leave its default in force.")
    return [f"{key}={value}" for key, value in told]


def _changes(trace: Trace, generation: GenerationRecord) -> tuple[list[tuple[int, Configuration]], list[str]]:
    """What changed on the way: (step of the generation, settings) in order; and what was refused, in words."""
    changes, left_out = [], []
    for mark in trace.marks:
        if generation.first_step < mark.step < generation.end_step:
            before = dict(trace.configurations[mark.before])
            changed = tuple(
                (k, v) for k, v in mark.event.effective if before.get(k) != v and k not in _PLACES
            )
            changes.append((mark.step - generation.first_step, changed))
            if not changed:
                left_out.append(f"A change before step {mark.step:,} that was refused ({mark.text}).")
    return changes, left_out


def _joins(trace: Trace, generation: GenerationRecord, generate: Generate) -> tuple[list[str], list[str]]:
    """The sequences that joined, as options; and those that no option can say, in words."""
    options, left_out = [], []
    for join in trace.joins:
        event = join.event
        if event.generation != generation.started.generation:
            continue
        step = join.step - generation.first_step
        alike = event.max_new_tokens == generate.max_new_tokens and not event.dropped_tokens
        if generate.prompt.turns or not alike or event.prompt.startswith("@") or not step:
            left_out.append(
                f"Sequence {event.sequence}, which joined before step {join.step:,} in a way of its own."
            )
        else:
            options.append(f"--join={step}:{event.prompt}")
    return options, left_out


def _left_out(trace: Trace, generation: GenerationRecord) -> Iterator[str]:
    begin, end = generation.first_step, generation.end_step
    for turns in trace.alternations:
        if turns.first_step < end and begin < turns.end_step:
            yield f"Values of '{turns.started.key}' that took turns."
    for row in range(begin, end):
        if trace.kind(row) is StepKind.BACKWARD:
            yield f"The training step {row:,}: add --training-step {row - begin} for it."
    if generation.ended and generation.ended.reason in ("stopped", "failed"):
        yield f"That the run was {generation.ended.reason}: the command goes on to its end."


# ---------------------------------------------------------------- a shell


def _with_prompt(options: Sequence[str], prompt: Prompt) -> tuple[str, str]:
    """The command with its prompt, and what stands before it: a pipe for a prompt that is too long for a line."""
    text = prompt.turns[-1].content if prompt.turns else prompt.text
    words = " ".join(map(quoted, options))
    if len(text) <= LONGEST and not text.startswith("@"):
        return f"{PROGRAM} {quoted(f'--prompt={text}')} {words}", ""
    if text.startswith(_BYTE_ORDER_MARK):
        text = _BYTE_ORDER_MARK + text  # the first one is taken for the mark of an encoding
    return f"{PROGRAM} --prompt=@- {words}", f"printf %s {quoted(text)} | "


_BYTE_ORDER_MARK = "\ufeff"
_PLAIN = re.compile(r"[^\x00-\x1f\x7f\u0080-\u009f\u2028\u2029]*")
_NAMED = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\\": "\\\\", "'": "\\'"}


def quoted(text: str) -> str:
    """A text as one word of a shell, on one line: `$'…'` where it has line ends or other control characters.

    Raises ValueError for what no command line can hold: zero bytes, and halves of surrogate pairs.
    """
    if "\0" in text:
        raise ValueError("A command line cannot hold a zero byte: take it out of the prompt.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            "A command line cannot hold half of a character: take it out of the prompt."
        ) from error
    if _PLAIN.fullmatch(text):
        return shlex.quote(text)
    return "$'" + "".join(map(_escaped, text)) + "'"


def _escaped(character: str) -> str:
    if character in _NAMED:
        return _NAMED[character]
    if _PLAIN.fullmatch(character):
        return character
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8"))
