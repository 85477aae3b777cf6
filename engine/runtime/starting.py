"""Starting a generation: prompts are tokenized and fitted, and a run is made ready that has not made a step yet."""

from dataclasses import replace
from time import perf_counter_ns

from engine.protocol import Family, Generate, GenerationStarted
from engine.runtime.caches import new_cache
from engine.runtime.encoding import Encoding, encode_inputs
from engine.runtime.generation import Generation, Limits
from engine.runtime.prompts import PromptRefused, Tokenized, answer_limit, fitted
from engine.runtime.run import Run
from engine.runtime.settings.conflicts import PROMPTS, UNEQUAL, why_excluded
from engine.runtime.settings.together import why_not_padded
from engine.runtime.workbench import Workbench
from engine.runtime.writing import end_tokens


def start(bench: Workbench, command: Generate, submitted_ns: int) -> Run:
    """Take a prompt. The generation has not made a step yet. Raises PromptRefused where it cannot be continued."""
    if bench.live.facts.family is Family.ENCODER:
        return _start_encoding(bench, command, submitted_ns)
    if command.max_new_tokens < 1:
        raise PromptRefused(
            f"A generation needs at least one new token, not {command.max_new_tokens}: raise the number."
        )
    begin_ns = perf_counter_ns()
    prompt, *others = _prompts(bench, command)
    tokenize_ns = perf_counter_ns() - begin_ns
    room = answer_limit(bench.live, max(len(each.ids) for each in (prompt, *others)))
    limits = Limits(min(command.max_new_tokens, room), end_tokens(bench.live, command.stop_at_end_token))
    try:
        generation = Generation(bench.live, prompt.ids, limits, [other.ids for other in others])
    except ValueError as error:  # an encoder–decoder that does not say how its answers begin
        raise PromptRefused(
            f"This model cannot answer ({str(error).rstrip('.')}): choose another model, or complete its"
            " generation_config.json."
        ) from error
    context = generation.context
    context.cache = new_cache(bench.live, bench.live.cache_kind, context.capacity)
    return _started(
        bench,
        generation,
        GenerationStarted(
            bench.begin_generation(),
            submitted_ns,
            tokenize_ns,
            "\n".join(each.text for each in (prompt, *others)),
            tuple(id for each in (prompt, *others) for id in each.ids),
            command.max_new_tokens,
            sum(each.dropped for each in (prompt, *others)),
        ),
    )


def _prompts(bench: Workbench, command: Generate) -> list[Tokenized]:
    """The prompt, or each of its lines where that is asked for. Raises PromptRefused."""
    if not command.lines:
        return [fitted(bench.live, command.prompt, command.max_new_tokens)]
    lines = [line for line in command.prompt.text.splitlines() if line.strip()]
    if not lines:
        raise PromptRefused("There is no prompt: type something, one prompt a line.")
    loop = bench.live.loop
    if (
        bench.live.facts.family is not Family.DECODER
        or loop.speculation != "off"
        or loop.beams > 1
        or loop.batch > 1
        or loop.read_back != "synchronous"
    ):
        raise PromptRefused(
            "Several prompts are continued together by a decoder only, without speculation, beams or copies, and"
            " each token is waited for: set speculation to off, beams and batch to 1, read_back to synchronous."
        )
    prompts = [
        fitted(bench.live, replace(command.prompt, text=line), command.max_new_tokens) for line in lines
    ]
    if len({len(each.ids) for each in prompts}) > 1:
        _check_padding(bench)
    return prompts


def _check_padding(bench: Workbench) -> None:
    excluded = why_excluded(dict(bench.effective()) | {PROMPTS: UNEQUAL})
    if reason := excluded or why_not_padded(bench.live):
        raise PromptRefused(reason)


def _start_encoding(bench: Workbench, command: Generate, submitted_ns: int) -> Run:
    if command.batch < 1:
        raise PromptRefused(f"A step needs at least one input, not {command.batch}: raise the number.")
    begin_ns = perf_counter_ns()
    inputs = encode_inputs(bench.live, command.prompt.text, truncate=command.prompt.truncate)
    tokenize_ns = perf_counter_ns() - begin_ns
    return _started(
        bench,
        Encoding(bench.live, inputs, command.batch),
        GenerationStarted(
            bench.begin_generation(),
            submitted_ns,
            tokenize_ns,
            command.prompt.text,
            tuple(id for line in inputs for id in line.ids),
            0,
            sum(line.dropped for line in inputs),
        ),
    )


def _started(bench: Workbench, work: Generation | Encoding, started: GenerationStarted) -> Run:
    bench.emit(started)
    return Run(bench, work, started.generation)
