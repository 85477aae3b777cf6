"""Where a step cannot be one graph its regions are compiled, and phases stay as visible as in eager code."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.protocol import Noticed, SettingsChanged
from engine.runtime import graph_marks
from engine.runtime.anatomy import find_anatomy
from engine.runtime.compiled_code import graphs
from engine.runtime.regions import Regions, regions_of
from engine.runtime.settings.base import SettingRefused
from engine.trace.phases import Phase
from tests.engine.runtime.live_models import Bench, compiler_kept, save_checkpoint
from tests.engine.runtime.settings.small_live import setting, small_live
from tests.engine.runtime.settings.test_resolve import is_sentence
from tests.engine.runtime.small_encoders import build as build_encoder
from tests.engine.runtime.small_models import FAMILIES, build

TOKENS = 16


@pytest.fixture(autouse=True)
def global_flags_as_before() -> Iterator[None]:
    yield from compiler_kept()


@pytest.fixture
def no_marks() -> Iterator[None]:
    """A backend that cannot have the mark op in compiled code."""

    def refused(place: torch.Tensor, code: int) -> None:
        raise NotImplementedError("Could not run 'cyclograph::mark' with arguments from this backend. Ask")

    known_as(refused)
    yield
    known_as(lambda place, code: None)


def known_as(fake: Callable[[torch.Tensor, int], None]) -> None:
    torch.library.register_fake("cyclograph::mark", fake, lib=graph_marks._LIBRARY, allow_override=True)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(save_checkpoint(build("llama", num_hidden_layers=1), tmp_path))
    yield bench
    bench.close()


def forwards(model: nn.Module) -> dict[str, Any]:
    """Which modules have a forward of their own, and which."""
    return {name: vars(each)["forward"] for name, each in model.named_modules() if "forward" in vars(each)}


def step_by_step(
    bench: Bench, changes: dict[int, tuple[tuple[str, Any], ...]]
) -> tuple[list[int], list[int]]:
    """New tokens, and how many graphs were compiled inside of each step."""
    run, first, compiled, ended = bench.start(tokens=TOKENS), len(bench.trace.tokens), [], ""
    while not ended:
        change = changes.get(len(compiled))
        if change:
            bench.workbench.change(change)
        before = graphs()
        ended = run.step(held=bool(change))
        compiled.append(graphs() - before)
    run.end(ended)
    return bench.trace.tokens.id[first:].tolist(), compiled


@pytest.mark.usefixtures("no_marks")
def test_without_marks_in_compiled_code_its_regions_are_compiled_and_every_phase_is_there(
    bench: Bench,
) -> None:
    live, trace = bench.workbench.live, bench.trace
    expected, before = bench.reference(tokens=TOKENS), graphs()
    setting("detail").apply(live, "step")
    plain = forwards(live.model)
    setting("detail").apply(live, "layer")
    tokens, compiled = step_by_step(
        bench,
        {
            3: (("compile", "default"),),
            6: (("detail", "core"),),
            9: (("detail", "step"),),  # needs no marks: one graph
            12: (("compile", "off"), ("detail", "layer")),
        },
    )
    assert tokens == expected
    assert compiled == [0] * TOKENS
    assert (
        graphs() == before + 5 + 4 + 1
    )  # attention, MLP, two norms of the layer, the head's; no attention; all
    steps = trace.steps
    assert (steps.phases_ns.sum(axis=1) == steps.wall_ns).all()
    for phase in (Phase.ATTENTION, Phase.MLP, Phase.NORM, Phase.HEAD, Phase.EMBED):
        assert (steps.phases_ns[[*range(9), *range(12, TOKENS)], phase] > 0).all()
    assert (steps.phases_ns[6:9, Phase.ATTENTION_CORE] > 0).all()
    eager, regions, back = (trace.layouts[int(steps.layout[row])].codes for row in (2, 5, 13))
    assert eager == regions == back

    changed = [mark.event for mark in trace.marks if isinstance(mark.event, SettingsChanged)]
    assert [event.changes[0].effective for event in changed] == ["default", "core", "step", "off"]
    notices = [event.sentence for event in bench.events if isinstance(event, Noticed)]
    assert len(notices) == 3
    assert "one graph." in notices[2]
    assert (
        "region by region (5 regions, a call each), since it cannot be one graph: Could not run 'cyclograph::mark'"
        in notices[0]
    )
    assert "Compiling took" in notices[0]
    assert "(4 regions, a call each)" in notices[1]
    assert "Attention runs uncompiled" in notices[1]

    setting("detail").apply(live, "step")
    assert forwards(live.model) == plain


@pytest.fixture
def marks_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A compiler that is quick, since it does nothing, but loses the marks of one graph."""

    def one_graph(function: Callable[..., Any], *_: object) -> Callable[..., Any]:
        def run(**kwargs: Any) -> Any:
            with graph_marks.captured(lambda code: None):
                return function(**kwargs)

        return run

    monkeypatch.setattr("engine.runtime.compiling.compiled", one_graph)
    monkeypatch.setattr("engine.runtime.regions.compiled", lambda function, *_: function)


@pytest.mark.usefixtures("marks_lost")
def test_marks_that_get_lost_in_compiled_code_are_noticed(bench: Bench) -> None:
    expected = bench.reference(tokens=TOKENS)
    tokens, _ = step_by_step(bench, {3: (("compile", "default"),)})
    assert tokens == expected
    assert (bench.trace.steps.phases_ns[:, Phase.ATTENTION] > 0).all()
    (notice,) = [event.sentence for event in bench.events if isinstance(event, Noticed)]
    assert "does not stamp where its phases begin and end" in notice


@pytest.mark.usefixtures("marks_lost")
def test_the_setting_says_which_way_is_gone_and_at_the_least_detail_it_is_one_graph(bench: Bench) -> None:
    live = bench.workbench.live
    live.untried.clear()
    assert "region" not in setting("compile").probe(live).expected
    for change in (("detail", "step"), ("compile", "default")):
        bench.workbench.change((change,))
    assert "region" not in setting("compile").probe(live).expected
    assert not [event for event in bench.events if isinstance(event, Noticed)]
    bench.workbench.change((("detail", "phase"),))
    assert "Compiled region by region" in setting("compile").probe(live).expected
    assert "compile" in live.untried, "nobody would ask for these facts"
    bench.workbench.change((("detail", "step"),))
    assert "region" not in setting("compile").probe(live).expected
    notices = [event.sentence for event in bench.events if isinstance(event, Noticed)]
    assert [("region" in sentence, "one graph." in sentence) for sentence in notices] == [
        (True, False),
        (False, True),
    ]
    bench.workbench.change((("compile", "off"),))
    assert "forward" not in vars(live.model)
    bench.workbench.change((("detail", "phase"),))
    for _ in range(2):  # it is said again whenever it is switched on again
        bench.workbench.change((("compile", "default"),))
        bench.workbench.change((("compile", "off"),))
    assert sum(isinstance(event, Noticed) for event in bench.events) == 4


@pytest.mark.slow
@pytest.mark.usefixtures("no_marks")
@pytest.mark.parametrize(
    "settings",
    [
        (("kv_cache", "static"),),
        (("kv_cache", "sliding"),),
        (("attention", "eager"),),  # whose mask grows with the cache
        (("speculation", "lookup"), ("draft_length", 3)),
        (("batch", 2),),
        (("quantization", "int4"),),
        (("mlp_pruning", 50),),
    ],
    ids=lambda settings: settings[0][0],
)
def test_regions_are_compiled_once_whatever_else_is_switched(
    bench: Bench, settings: tuple[tuple[str, Any], ...]
) -> None:
    bench.workbench.change(settings)
    expected, _ = step_by_step(bench, {})
    tokens, compiled = step_by_step(bench, {3: (("compile", "default"),)})
    assert tokens == expected
    assert compiled == [0] * len(compiled)
    assert not [change for mark in bench.trace.marks for change in mark.event.changes if change.reason]
    live = bench.workbench.live
    assert live.compiled is not None
    assert live.compiled.told()
    assert live.compiled.missed is None


class Branching(nn.Module):
    """An activation that no compiler sees through."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x) if x.sum() > 0 else torch.tanh(x)


def test_a_region_that_cannot_be_compiled_stays_as_it_is_and_is_told(bench: Bench) -> None:
    bench.workbench.live.model.model.layers[0].mlp.act_fn = Branching()
    expected, _ = step_by_step(bench, {})
    tokens, compiled = step_by_step(bench, {3: (("compile", "default"),)})
    assert tokens == expected
    assert compiled == [0] * TOKENS
    (notice,) = [event.sentence for event in bench.events if isinstance(event, Noticed)]
    assert (
        "(4 regions, a call each, but for 1 × MLP), since it cannot be one graph: Data-dependent branching."
        in notice
    )
    assert bench.workbench.live.compiled is not None
    assert bench.workbench.live.compiled.missed is None


@pytest.mark.usefixtures("no_marks")
def test_what_can_be_compiled_in_neither_way_is_refused_with_what_may_help(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no kernel for this. Sorry")

    monkeypatch.setattr("engine.runtime.regions.compiled", lambda *_: fails)
    live = small_live("llama")
    setting("detail").apply(live, "layer")
    marked = forwards(live.model)
    with pytest.raises(SettingRefused) as refused:
        setting("compile").apply(live, "default")
    sentence = str(refused.value)
    assert is_sentence(sentence)
    assert "cannot be compiled here: Could not run 'cyclograph::mark'" in sentence
    assert "nor can its regions (no kernel for this)" in sentence
    assert "detail 'step'" in sentence
    assert live.compiled is None
    assert forwards(live.model).keys() == marked.keys()
    setting("detail").apply(live, "step")
    assert forwards(live.model) == {}


def test_too_little_memory_is_no_reason_to_go_by_region(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    monkeypatch.setattr("engine.runtime.compiling.compiled", lambda *_: lambda **__: full())
    live = small_live("llama")
    setting("detail").apply(live, "layer")
    told: list[str] = []
    live.tell = told.append
    with pytest.raises(SettingRefused, match="out of memory"):
        setting("compile").apply(live, "default")
    assert told == ["compiling the decode step"]
    assert live.compiled is None


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("llama", ["norm", "attention", "MLP", "norm"]),
        ("mamba", ["norm", "mixer"]),
        ("opt", ["attention", "norm", "norm"]),  # its MLP is two loose products
    ],
)
def test_regions_are_the_parts_of_layers_that_hold_something_to_fuse(
    family: str, expected: list[str]
) -> None:
    anatomy = find_anatomy(FAMILIES[family]())
    first = {id(module) for module in anatomy.blocks[0].module.modules()}
    found = [region.what for region in regions_of(anatomy) if id(region.module) in first]
    assert sorted(found) == sorted(expected)
    modules = [region.module for region in regions_of(anatomy)]
    assert len(set(modules)) == len(modules)


def test_what_has_stamps_inside_of_it_is_no_region() -> None:
    anatomy = find_anatomy(build_encoder("bert"))
    inner = [part.module for block in anatomy.blocks for part in block.inner_norms]
    assert inner
    for region in regions_of(anatomy):
        assert not set(inner) & (set(region.module.modules()) - {region.module})


def test_regions_follow_modules_that_are_exchanged() -> None:
    live = small_live("llama")
    regions = Regions("default")
    regions.put_in(live.anatomy)
    assert regions.fit(live.anatomy)
    block, old = live.anatomy.blocks[0], live.model.model.layers[0].mlp
    new = type(old)(live.model.config)
    mlp = (replace(block.mlp[0], module=new),)
    exchanged = replace(live.anatomy, blocks=(replace(block, mlp=mlp), *live.anatomy.blocks[1:]))
    assert not regions.fit(exchanged)
    regions.take_out()
    regions.put_in(exchanged)
    assert "forward" in vars(new)
    assert "forward" not in vars(old)
    regions.take_out()
    assert forwards(live.model) == {}
