"""Compiled decode steps: the same tokens and phases, compiled between steps and never inside of one."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._dynamo.guards import CheckFunctionManager
from torch._dynamo.utils import counters

from engine.protocol import Progress, SettingsChanged
from engine.runtime.compiled_code import cache_directory
from engine.runtime.compiling import CompiledStep
from engine.runtime.live import Draft
from engine.runtime.settings import compilation
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.resolve import apply_changes
from engine.trace.phases import Phase
from tests.engine.runtime.decoding import noisy
from tests.engine.runtime.live_models import Bench, compiler_kept, save_checkpoint
from tests.engine.runtime.settings.small_live import setting, small_live
from tests.engine.runtime.settings.test_resolve import is_sentence
from tests.engine.runtime.small_models import build

TOKENS = 20


@pytest.fixture(autouse=True)
def global_flags_as_before() -> Iterator[None]:
    yield from compiler_kept()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(save_checkpoint(build("llama", num_hidden_layers=1), tmp_path))
    yield bench
    bench.close()


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def step_by_step(
    bench: Bench, changes: dict[int, tuple[tuple[str, object], ...]]
) -> tuple[list[int], list[int]]:
    """New tokens, and how many graphs were compiled inside of each step (in switches they may be)."""
    run, first, compiled = bench.start(tokens=TOKENS), len(bench.trace.tokens), []
    ended = ""
    while not ended:
        change = changes.get(len(compiled))
        if change:
            bench.workbench.change(change)  # type: ignore[arg-type]
        before = graphs()
        ended = run.step(held=bool(change))
        compiled.append(graphs() - before)
    run.end(ended)
    return bench.trace.tokens.id[first:].tolist(), compiled


def test_a_compiled_step_has_the_same_tokens_and_phases_and_its_compilation_is_in_no_step(
    bench: Bench,
) -> None:
    other = small_live("llama")  # it is being measured too, by the same attention interface
    setting("detail").apply(other, "core")
    expected = bench.reference(tokens=TOKENS)
    before = graphs()
    tokens, compiled = step_by_step(
        bench,
        {
            4: (("compile", "default"),),
            8: (("kv_cache", "static"),),
            12: (("detail", "phase"),),
            16: (("compile", "off"), ("detail", "layer")),
        },
    )
    assert tokens == expected
    assert compiled == [0] * TOKENS
    assert graphs() == before + 3  # one for growing caches, one for static ones, one with the marks of phases
    steps, marks = bench.trace.steps, bench.trace.marks
    assert (steps.phases_ns.sum(axis=1) == steps.wall_ns).all()
    assert [mark.event.changes[0].effective for mark in marks] == ["default", "static", "phase", "off"]
    assert all(not change.reason for mark in marks for change in mark.event.changes)
    # the compiler's seconds are the switch's, and no step's
    assert marks[0].event.switch_ns > 10 * np.median(steps.wall_ns[1:])
    for phase in (Phase.ATTENTION, Phase.MLP, Phase.NORM, Phase.HEAD, Phase.EMBED):
        assert (steps.phases_ns[:, phase] > 0).all()
    eager, made = (bench.trace.layouts[int(steps.layout[row])].codes for row in (3, 5))
    assert eager == made
    assert any(isinstance(event, Progress) and "compiling" in event.activity for event in bench.events)

    second, compiled_again = step_by_step(bench, {2: (("compile", "default"),)})
    assert second == expected  # another generation, on a cache of another capacity
    assert graphs() == before + 3  # and what was compiled for it is still there
    assert compiled_again == [0] * TOKENS

    live = bench.workbench.live
    setting("compile").apply(live, "off")
    setting("detail").apply(live, "step")
    assert "forward" not in vars(live.model)


@pytest.mark.parametrize("change", [("quantization", "int4"), ("mlp_pruning", 50)])
def test_compiled_code_is_not_used_for_a_model_that_has_changed(
    bench: Bench, change: tuple[str, object]
) -> None:
    before = dict(bench.trace.configurations[bench.workbench.configuration])[change[0]]
    changes = {5: (change,), 10: ((change[0], before),)}
    eager, _ = step_by_step(bench, changes)
    tokens, compiled = step_by_step(bench, {0: (("compile", "default"),), **changes})
    assert tokens == eager
    assert compiled == [0] * TOKENS
    assert bench.reference(tokens=TOKENS) != eager, "a change that says nothing"
    assert not [change for mark in bench.trace.marks for change in mark.event.changes if change.reason]
    assert bench.workbench.live.compiled is not None, "it was switched off instead"


def test_a_step_that_does_not_fit_runs_as_it_is_and_is_compiled_before_the_next(bench: Bench) -> None:
    expected = bench.reference(tokens=TOKENS)
    bench.workbench.change((("compile", "default"),))
    run, marks = bench.start(tokens=TOKENS), bench.trace.marks
    for _ in range(3):
        run.step(False)
    assert len(marks) == 1
    torch._dynamo.reset()  # everything compiled is gone: the next step fits nothing
    before = graphs()
    run.step(False)
    assert graphs() == before
    assert bench.workbench.live.compiled is not None
    assert bench.workbench.live.compiled.missed is not None
    run.step(False)
    again = marks[-1].event
    assert isinstance(again, SettingsChanged)
    assert (len(marks), again.step, again.configuration) == (2, 4, marks[0].event.configuration)
    assert [change.effective for change in again.changes] == ["default"]
    assert graphs() > before
    steps = bench.trace.steps
    assert steps.held_ns[4] >= again.switch_ns > steps.wall_ns[4]
    assert steps.itl_ns[4] < again.switch_ns
    while not run.step(False):
        pass
    assert bench.trace.tokens.id[-TOKENS:].tolist() == expected
    assert len(marks) == 2


def test_a_model_that_goes_meanwhile_takes_nothing_out_of_what_is_being_compiled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    garbage: list[object] = [
        small_live("llama")
    ]  # in a cycle: only a collection finds it, and its wrappers with it
    setting("detail").apply(garbage[0], "core")  # type: ignore[arg-type]
    garbage.append(garbage)
    write_guards = CheckFunctionManager.__init__

    def collecting_at_the_worst_moment(*args: object, **kwargs: object) -> None:
        if gc.isenabled():
            gc.collect()
        write_guards(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(CheckFunctionManager, "__init__", collecting_at_the_worst_moment)
    gc.disable()
    try:
        del garbage
        run = bench.start(tokens=TOKENS)
        for _ in range(4):
            run.step(False)
        gc.enable()
        bench.workbench.change((("compile", "default"),))
    finally:
        gc.enable()
    run.step(True)
    assert bench.workbench.live.compiled is not None


@pytest.mark.parametrize(
    ("family", "kind"),
    [
        ("llama", "draft"),
        pytest.param("llama", "lookup", marks=pytest.mark.slow),
        pytest.param("llama", "exit", marks=pytest.mark.slow),
        pytest.param("mistral", "draft", marks=pytest.mark.slow),
        pytest.param("gemma3", "draft", marks=pytest.mark.slow),
        pytest.param("gpt2", "draft", marks=pytest.mark.slow),
    ],
)
def test_steps_that_check_drafts_are_compiled_too_and_once_for_all(
    family: str, kind: str, tmp_path: Path
) -> None:
    layers = {"exit": 4}.get(kind, 2 if family == "gemma3" else 1)
    bench = Bench(save_checkpoint(build(family, num_hidden_layers=layers), tmp_path))
    live = bench.workbench.live
    live.draft = Draft("noisy", noisy(build(family, num_hidden_layers=layers)), 256)
    live.draft_name = "noisy"
    expected = bench.reference(tokens=2 * TOKENS)
    bench.workbench.change((("speculation", kind), ("draft_length", 3)))
    assert bench.generate(tokens=2 * TOKENS) == expected
    eager = layouts_of_checks(bench, 0)
    before = graphs()
    bench.workbench.change((("compile", "default"),))
    assert graphs() == before + 2  # of one token and of four
    marks, made, first = len(bench.trace.marks), graphs(), len(bench.trace.steps)
    run, ended = bench.start(tokens=2 * TOKENS), ""
    while not ended:
        ended = run.step(False)
    run.end(ended)
    assert bench.trace.tokens.id[-2 * TOKENS :].tolist() == expected
    assert live.compiled is not None
    assert live.compiled.missed is None
    full = family in ("mistral", "gemma3")  # windows, which no step was compiled for yet
    assert (graphs() - made, len(bench.trace.marks) - marks) == ((1, 1) if full else (0, 0))
    assert layouts_of_checks(bench, first) == eager
    accepted = bench.trace.steps.accepted[first:]
    assert accepted.max() > 0
    assert len(set(accepted.tolist())) > 1 or kind == "lookup"  # some were taken out of the cache again


def layouts_of_checks(bench: Bench, first: int) -> set[tuple[int, ...]]:
    """The codes of the steps that checked three proposed tokens, from one step on."""
    steps = bench.trace.steps
    rows = [row for row in range(first, len(steps)) if steps.drafted[row] == 3]
    return {bench.trace.layouts[int(steps.layout[row])].codes for row in rows}


def test_an_adaptive_draft_length_and_compilation_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    live = small_live("llama")
    monkeypatch.setattr(CompiledStep, "compile_for", lambda *_: 0)
    facts = [setting(key).probe(live) for key in ("compile", "draft_length")]
    for first, second in (("compile", "draft_length"), ("draft_length", "compile")):
        value = {"compile": "default", "draft_length": 0}
        (change,) = apply_changes(live, {first: value[first]}, facts)
        assert change.reason == ""
        (change,) = apply_changes(live, {second: value[second]}, facts)
        assert change.effective != value[second]
        assert "draft_length to a number" in change.reason
        apply_changes(live, {"compile": "off", "draft_length": 4}, facts)


def test_what_cannot_be_compiled_is_refused_and_everything_is_as_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = small_live("llama")
    setting("detail").apply(live, "layer")
    plain = live.model.model.layers[0].mlp.forward

    def fails(*_: object) -> None:
        raise RuntimeError("no such operator. Ask somebody")

    monkeypatch.setattr(CompiledStep, "compile_for", fails)
    with pytest.raises(SettingRefused, match=r"cannot be compiled here: no such operator\.$"):
        setting("compile").apply(live, "default")
    assert live.compiled is None
    assert live.model.model.layers[0].mlp.forward.__qualname__ == plain.__qualname__
    setting("detail").apply(live, "step")
    assert "forward" not in vars(live.model)


def test_a_change_that_cannot_be_compiled_switches_compilation_off(monkeypatch: pytest.MonkeyPatch) -> None:
    live = small_live("llama")
    monkeypatch.setattr(CompiledStep, "compile_for", lambda *_: 0)
    setting("compile").apply(live, "default")
    assert compilation.recompile(live) == ""

    def fails(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(CompiledStep, "compile_for", fails)
    reason = compilation.recompile(live)
    assert is_sentence(reason)
    assert live.compiled is None
    assert "forward" not in vars(live.model)


def test_without_a_compiler_or_a_device_it_is_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    live = small_live("llama")
    facts = setting("compile").probe(live)
    reasons = {choice.value: choice.reason for choice in facts.choices}
    assert not reasons["default"]
    assert "CUDA device" in reasons["reduce-overhead"]
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(compilation.shutil, "which", lambda _: None)
    facts = setting("compile").probe(live)
    assert "no C++ compiler" in next(c.reason for c in facts.choices if c.value == "default")
    with pytest.raises(SettingRefused, match=r"no C\+\+ compiler"):
        setting("compile").apply(live, "default")
    rwkv = setting("compile").probe(small_live("rwkv"))
    assert all("KV cache" in c.reason for c in rwkv.choices if c.value != "off")


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "base/cyclograph/inductor"),
        ("win32", "LOCALAPPDATA", "base/cyclograph/inductor"),
        ("darwin", "", "Library/Caches/cyclograph/inductor"),
    ],
)
def test_compiled_code_is_kept_where_the_platform_keeps_caches(
    monkeypatch: pytest.MonkeyPatch, platform: str, variable: str, expected: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    if variable:
        monkeypatch.setenv(variable, "base")
    assert cache_directory().as_posix().endswith(expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "family", ["gpt2", "mistral", "gemma3", "qwen3", "deepseek_v3", "opt", "mamba", "qwen3_moe"]
)
def test_compiled_families_keep_their_tokens_or_are_refused(family: str, tmp_path: Path) -> None:
    bench = Bench(save_checkpoint(build(family), tmp_path))
    expected = bench.reference(tokens=TOKENS)
    tokens, compiled = step_by_step(bench, {4: (("compile", "default"),)})
    change = bench.trace.marks[0].event.changes[0]
    bench.close()
    assert tokens == expected
    assert compiled == [0] * TOKENS
    assert change.effective == "default" or is_sentence(change.reason)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["static", "quantized", "sliding"])
@pytest.mark.parametrize("detail", ["step", "core"])
def test_compiled_steps_are_those_of_eager_code_with_every_cache_and_detail(
    bench: Bench, kind: str, detail: str
) -> None:
    bench.workbench.change((("kv_cache", kind), ("detail", detail)))
    expected, _ = step_by_step(bench, {})
    tokens, compiled = step_by_step(bench, {0: (("compile", "default"),)})
    assert tokens == expected
    assert compiled == [0] * TOKENS
    assert len(bench.trace.marks) == 2
    changes = {4: (("attention", "eager"),), 8: (("precision", "bfloat16"),), 12: (("grad_mode", "no_grad"),)}
    _, compiled = step_by_step(bench, changes)
    assert compiled == [0] * TOKENS
    assert len(bench.trace.marks) == 5


def test_a_compiled_step_is_captured_as_a_region_with_our_marks_in_it(bench: Bench) -> None:
    bench.workbench.change((("compile", "default"),))
    under_way = bench.start(tokens=TOKENS)
    for _ in range(4):
        under_way.step(False)
    before, tokens = graphs(), len(bench.trace.tokens)
    under_way.capture_next()
    bench.workbench.capture_again(3)
    assert graphs() == before
    assert len(bench.trace.tokens) == tokens + 1
    assert len(bench.trace.marks) == 1  # nothing had to be compiled for it
    for row in (4, 3):
        capture = bench.trace.capture(row)
        assert capture is not None
        assert [note for note in capture.event.notes if "Compiled code shows as a region" in note]
        assert "cyclograph::mark" in capture.event.names
        inside = capture.phases_ns(False)
        assert (inside[[Phase.ATTENTION, Phase.MLP, Phase.NORM, Phase.HEAD]] > 0).all()
    under_way.end("stopped")
