"""Encoder–decoders: one step that reads the prompt, then the tokens of `generate()`, whatever is switched meanwhile."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel, StaticCache

from engine.protocol import Family, SettingValue
from engine.runtime.answers import prepare_answer
from engine.runtime.caches import cache_bytes, new_cache
from engine.runtime.generation import Generation, Limits, Stepped
from engine.runtime.live import LiveModel, Loop
from engine.runtime.settings import ALL
from engine.runtime.settings.attention import SLOW_TO_TRY
from engine.runtime.settings.resolve import apply_defaults, current_values
from engine.runtime.settings.trial import first_layers, run_trial
from engine.trace.ledger import Layout
from engine.trace.phases import Phase, Role, StepKind
from tests.engine.runtime.live_models import PROMPT, Bench, byte_tokenizer, save_checkpoint, torch_kept
from tests.engine.runtime.settings.small_live import setting, small_live
from tests.engine.runtime.settings.test_resolve import is_sentence
from tests.engine.runtime.small_models import build as build_decoder
from tests.engine.runtime.small_models import prompt_ids
from tests.engine.runtime.small_seq2seq import build, families, reference

TOKENS = 20
PROMPT_IDS = prompt_ids(13)
#: Families that test what holds for all of them: relative positions, learned positions with rules, sliding windows.
FEW = ["t5_gated", "bart", "t5gemma"]
Changes = Mapping[int, Mapping[str, SettingValue]]


@pytest.fixture(autouse=True)
def settings_of_torch_as_before() -> Iterator[None]:
    yield from torch_kept()


@dataclass
class Ran:
    """A generation that has ended: its steps, and the names of spans, by which their ledgers are made."""

    live: LiveModel
    generation: Generation
    steps: list[Stepped] = field(default_factory=list)

    @property
    def tokens(self) -> list[int]:
        return [token.id for step in self.steps for token in step.tokens]

    @property
    def text(self) -> str:
        return "".join(token.text for step in self.steps for token in step.tokens) + self.generation.tail()

    def phases_ns(self, step: Stepped) -> np.ndarray[Any, Any]:
        """(phases,) ns, whose sum is the wall time of the step."""
        layout, stamps = self._ledger(step)
        phases_ns = layout.phases_ns(stamps)[0]
        assert phases_ns.sum() == stamps[0, -1] - stamps[0, 0]
        return phases_ns

    def layers_ns(self, step: Stepped) -> np.ndarray[Any, Any]:
        """(layers, roles) ns."""
        layout, stamps = self._ledger(step)
        found = layout.layers_ns(stamps)[0]
        return np.pad(found, ((0, len(self.live.anatomy.blocks) - len(found)), (0, 0)))

    def _ledger(self, step: Stepped) -> tuple[Layout, np.ndarray[Any, Any]]:
        codes = tuple(np.frombuffer(step.codes, np.uint16).tolist())
        return Layout(self.live.recorder.names, codes), np.frombuffer(step.stamps, np.int64)[None]


def ready(model: PreTrainedModel) -> LiveModel:
    """The model, measured layer by layer."""
    live = small_live(model=model)
    live.tokenizer = byte_tokenizer()
    setting("detail").apply(live, "layer")
    return live


def run(
    live: LiveModel, changes: Changes | None = None, tokens: int = TOKENS, ends: Sequence[int] = ()
) -> Ran:
    """Answer the prompt, with settings changed before the tokens with these numbers (-1: before the encoder's step)."""
    generation = Generation(live, PROMPT_IDS[0].tolist(), Limits(tokens, frozenset(ends)))
    generation.context.cache = new_cache(live, live.cache_kind, generation.context.capacity)
    ran = Ran(live, generation)
    steps, ended = iter(generation), ""
    while not ended:
        number = len(ran.tokens) if ran.steps else -1
        for key, value in (changes or {}).get(number, {}).items():
            setting(key).apply(live, value)
        ran.steps.append(next(steps))
        ended = ran.steps[-1].end_reason
    return ran


# ---------------------------------------------------------------- tokens and phases


@pytest.mark.parametrize("family", families())
def test_every_family_answers_with_the_tokens_of_generate_at_every_detail(family: str) -> None:
    model = build(family)
    expected = reference(model, PROMPT_IDS, TOKENS)
    live = ready(model)
    deepest = "phase" if live.anatomy.core_missing else "core"
    ran = run(live, {6: {"detail": "phase"}, 10: {"detail": deepest}, 14: {"detail": "step"}})
    assert ran.tokens == expected
    assert len(set(expected)) > 3
    assert [step.kind for step in ran.steps] == [StepKind.ENCODE] + [StepKind.DECODE] * TOKENS
    assert [step.prompt_tokens for step in ran.steps] == [PROMPT_IDS.shape[1]] + [0] * TOKENS
    for step in ran.steps:
        assert ran.phases_ns(step).min() >= 0
    assert ran.phases_ns(ran.steps[-1])[Phase.FORWARD] > 0


@pytest.mark.parametrize("family", families())
def test_every_family_has_an_encoder_s_phases_in_its_first_step_and_a_decoder_s_in_the_others(
    family: str,
) -> None:
    live = ready(build(family))
    count = live.anatomy.encoder_layers
    encode, *decode = run(live, tokens=4).steps
    ran = Ran(live, Generation(live, [1], Limits(1)))
    phases_ns, layers_ns = ran.phases_ns(encode), ran.layers_ns(encode)
    assert (phases_ns[[Phase.EMBED, Phase.ATTENTION, Phase.MLP, Phase.NORM, Phase.HEAD]] > 0).all()
    assert phases_ns[[Phase.CROSS_ATTENTION, Phase.SAMPLE, Phase.DETOKENIZE]].sum() == 0
    assert (layers_ns[:count] > 0).all()
    assert layers_ns[count:].sum() == 0
    for step in decode:
        phases_ns, layers_ns = ran.phases_ns(step), ran.layers_ns(step)
        measured = [Phase.EMBED, Phase.ATTENTION, Phase.CROSS_ATTENTION, Phase.MLP, Phase.NORM, Phase.HEAD]
        assert (phases_ns[measured] > 0).all()
        assert (layers_ns[count:] > 0).all()
        assert layers_ns[:count].sum() == 0
    shares = [ran.phases_ns(step)[Phase.UNATTRIBUTED] / ran.phases_ns(step).sum() for step in decode]
    assert min(shares) < 0.2  # of a model whose layers take no time at all


class Late:
    """A clock that stands still but for what a test adds."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns

    def delay(self, module: torch.nn.Module, extra_ns: int) -> None:
        own = module.forward

        def delayed(*args: Any, **kwargs: Any) -> Any:
            self.now_ns += extra_ns
            return own(*args, **kwargs)

        module.forward = delayed


@pytest.mark.parametrize("detail", ["layer", "core"])
def test_planted_time_appears_in_its_phase_and_layer_of_its_stack_and_only_there(detail: str) -> None:
    clock, model = Late(), build("bart")
    for module, extra_ns in (
        (model.model.encoder.layers[1].self_attn.q_proj, 10),
        (model.model.encoder.layernorm_embedding, 20),
        (model.model.decoder.layers[2].encoder_attn.q_proj, 300),
        (model.model.decoder.layers[0].self_attn.q_proj, 4_000),
        (model.model.decoder.layernorm_embedding, 50_000),
        (model.lm_head, 600_000),
    ):
        clock.delay(module, extra_ns)
    live = small_live(model=model)
    live.recorder.clock = clock
    live.tokenizer = byte_tokenizer()
    setting("detail").apply(live, detail)
    ran = run(live, tokens=3)
    planted = {Phase.ATTENTION: 10, Phase.EMBED: 20}
    assert named(ran.phases_ns(ran.steps[0])) == planted
    assert ran.layers_ns(ran.steps[0])[1, Role.ATTENTION] == 10
    for step in ran.steps[1:]:
        planted = {
            Phase.CROSS_ATTENTION: 300,
            Phase.ATTENTION: 4_000,
            Phase.EMBED: 50_000,
            Phase.HEAD: 600_000,
        }
        assert named(ran.phases_ns(step)) == planted
        assert ran.layers_ns(step)[:, Role.ATTENTION].tolist() == [0, 0, 4_000, 0, 300]


def named(phases_ns: np.ndarray[Any, Any]) -> dict[Phase, int]:
    return {phase: int(phases_ns[phase]) for phase in Phase if phases_ns[phase]}


# ---------------------------------------------------------------- rules of the answer


def test_what_generation_forces_and_forbids_is_forced_and_forbidden() -> None:
    bart = run(ready(build("bart"))).tokens
    assert (bart[0], bart[-1]) == (3, 1)
    assert run(ready(build("mbart"))).tokens[0] == 9
    marian = build("marian")
    with torch.no_grad():
        marian.final_logits_bias[0, 255] = 1e4  # it would say nothing else
    live = ready(marian)
    assert 255 not in run(live).tokens
    live.model.generation_config.bad_words_ids = None
    assert set(run(live).tokens) == {255}


def test_ngrams_that_a_checkpoint_does_not_repeat_are_not_repeated() -> None:
    model = build("marian")
    model.generation_config.no_repeat_ngram_size = 2
    expected = reference(model, PROMPT_IDS, TOKENS)
    tokens = run(ready(model)).tokens
    assert tokens == expected
    assert len(set(pairwise(tokens))) == TOKENS - 1


def test_an_end_token_ends_the_answer_where_generate_ends_it() -> None:
    model = build("t5_gated")
    end = reference(model, PROMPT_IDS, TOKENS)[5]
    expected = reference(model, PROMPT_IDS, TOKENS, eos_token_id=end)
    ran = run(ready(model), ends=[end])
    assert ran.tokens == expected
    assert ran.steps[-1].end_reason == "end token"


def test_the_start_token_is_no_text() -> None:
    live = ready(build("t5_gated"))
    ran = run(live)
    assert ran.text == live.tokenizer.decode(ran.tokens)
    assert ran.generation.context.ids == [2, *ran.tokens]


def test_an_answer_ends_where_the_decoder_s_own_context_ends() -> None:
    live = ready(build("led", max_decoder_position_embeddings=8))
    ran = run(live)
    assert ran.steps[-1].end_reason == "context full"
    assert len(ran.generation.context.ids) == 8


def test_a_model_that_does_not_say_how_an_answer_begins_is_refused() -> None:
    model = build("t5_gated")
    model.generation_config.decoder_start_token_id = model.generation_config.bos_token_id = None
    with pytest.raises(ValueError, match="decoder_start_token_id"):
        prepare_answer(ready(model), [1, 2], 4)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("family", families())
def test_what_probing_offers_keeps_the_tokens_and_what_it_refuses_has_a_reason(family: str) -> None:
    live = ready(build(family))
    expected = run(live).tokens
    if family not in FEW:
        live.untried.add("attention")  # what is slow to try is left out
    before = current_values(live)
    facts = {one.key: one.probe(live) for one in ALL}
    assert current_values(live) == before
    possible: list[dict[str, SettingValue]] = []
    for key in ("kv_cache", "attention"):
        choices = facts[key].choices
        assert all(is_sentence(choice.reason) for choice in choices if choice.reason)
        tried = [choice for choice in choices if choice.value not in SLOW_TO_TRY or family in FEW]
        possible += [
            {key: choice.value} for choice in tried if not choice.reason and choice.lossless is not False
        ]
        possible.append({key: before[key]})
    places = np.linspace(-1, TOKENS - 2, len(possible)).astype(int).tolist()
    assert len(set(places)) == len(possible)
    assert run(live, dict(zip(places, possible, strict=True))).tokens == expected


@pytest.mark.parametrize("family", FEW)
def test_every_way_through_the_kinds_of_cache_keeps_the_tokens(family: str) -> None:
    live = ready(build(family))
    expected = run(live).tokens
    kinds = ["static", "dynamic", "none", "static", "none", "dynamic", "static", "dynamic"]
    assert run(live, {2 * n: {"kv_cache": kind} for n, kind in enumerate(kinds)}).tokens == expected


def test_a_switch_of_the_cache_takes_along_what_was_read_and_says_its_bytes() -> None:
    live = ready(build("bart"))
    ran = run(live, tokens=4)
    context = ran.generation.context
    read, own = [3 * 2 * 32 * 4 * length for length in (PROMPT_IDS.shape[1], 4)]  # 3 layers, keys and values
    assert cache_bytes(context.cache) == read + own
    assert isinstance(context.cache, EncoderDecoderCache)
    live.context = context
    cross = context.cache.cross_attention_cache
    setting("kv_cache").apply(live, "static")
    assert isinstance(context.cache, EncoderDecoderCache)
    assert isinstance(context.cache.self_attention_cache, StaticCache)
    assert context.cache.cross_attention_cache is cross
    assert context.cached == 4
    assert cache_bytes(context.cache) == read + 3 * 2 * 32 * 4 * context.capacity


@pytest.mark.parametrize("family", ["t5", "prophetnet", "switch_transformers"])
@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_a_cache_has_a_layer_for_each_layer_of_the_decoder(family: str, kind: str) -> None:
    cache = new_cache(small_live(model=build(family)), kind, 8)
    assert isinstance(cache, EncoderDecoderCache)
    assert len(cache.self_attention_cache.layers) == 3


@pytest.mark.parametrize(
    ("family", "place"), [("bart", -1), ("bart", 0), ("bart", 6), ("t5_gated", 6), ("t5gemma", 6)]
)
def test_precision_switches_with_all_that_was_read_and_comes_back(family: str, place: int) -> None:
    live = ready(build(family))
    expected = run(live).tokens
    weights = {name: p.detach().clone() for name, p in live.model.named_parameters()}
    ran = run(live, {place: {"precision": "bfloat16"}})
    context = ran.generation.context
    assert len(ran.tokens) == TOKENS
    assert context.encoded is not None
    assert context.encoded[0].dtype is torch.bfloat16
    assert isinstance(context.cache, EncoderDecoderCache)
    for cache in (context.cache.self_attention_cache, context.cache.cross_attention_cache):
        assert {layer.keys.dtype for layer in cache.layers} == {torch.bfloat16}
    setting("precision").apply(live, "float32")
    assert context.encoded[0].dtype is torch.float32
    assert all(torch.equal(p, weights[name]) for name, p in live.model.named_parameters())
    assert run(live).tokens == expected


def test_a_prompt_is_read_in_one_piece() -> None:
    live = ready(build("bart"))
    facts = setting("prefill_chunk").probe(live)
    assert (facts.default, facts.maximum) == (0, 0)
    assert is_sentence(facts.reason)


@pytest.mark.parametrize("model", [lambda: build("bart"), lambda: build_decoder("mamba")])
def test_a_model_that_takes_whole_prompts_only_gets_them_whole_from_the_start(model: Any) -> None:
    live = small_live(model=model())
    live.prefill_chunk = 512
    apply_defaults(live, [setting("prefill_chunk").probe(live)])
    assert live.prefill_chunk == 0


@pytest.mark.parametrize(("family", "depth"), [("t5_gated", "num_layers"), ("bart", "encoder_layers")])
def test_a_trial_runs_the_first_layers_of_both_stacks_and_puts_all_back(family: str, depth: str) -> None:
    decoder_depth = {"num_layers": "num_decoder_layers", "encoder_layers": "decoder_layers"}[depth]
    live = small_live(model=build(family, **{depth: 6, decoder_depth: 7}))
    ran: list[int] = []
    for block in live.anatomy.blocks:
        block.module.register_forward_hook(lambda *_, index=block.index: ran.append(index))
    modules = list(live.model.modules())
    with first_layers(live):
        ran.clear()
        run_trial(live, (2,))
    assert ran == [0, 1, 6, 7]
    assert list(live.model.modules()) == modules
    ran.clear()
    run_trial(live, (2,))
    assert ran == list(range(13))


def test_sampling_with_a_seed_repeats_itself_and_differs_between_seeds() -> None:
    live = ready(build("bart"))
    for key, value in (("decoding", "sample"), ("temperature", 2.0), ("seed", 7)):
        setting(key).apply(live, value)
    first, again = run(live).tokens, run(live).tokens
    setting("seed").apply(live, 8)
    assert first == again != run(live).tokens
    assert (first[0], first[-1]) == (3, 1)  # what is forced is forced


# ---------------------------------------------------------------- the whole engine


@pytest.mark.parametrize("family", ["t5_gated", "bart"])
def test_a_checkpoint_answers_on_the_workbench_and_its_trace_tells_the_stacks_apart(
    family: str, tmp_path: Path
) -> None:
    bench = Bench(save_checkpoint(build(family), tmp_path))
    live = bench.workbench.live
    assert live.facts.family is Family.ENCODER_DECODER
    assert (live.facts.encoder_layers, len(live.facts.layer_names)) == (2, 5)
    assert live.prefill_chunk == 0
    ids = live.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    expected = reference(live.model, ids, TOKENS)
    assert (
        bench.generate(PROMPT, TOKENS, {8: (("kv_cache", "static"),), 14: (("kv_cache", "none"),)})
        == expected
    )
    steps = bench.trace.steps
    assert [bench.trace.kind(row) for row in range(2)] == [StepKind.ENCODE, StepKind.DECODE]
    assert steps.prompt_tokens.tolist() == [ids.shape[1]] + [0] * TOKENS
    assert steps.context_length.tolist() == [0, *range(2, TOKENS + 2)]
    assert steps.layers_ns[0, 2:].sum() == steps.layers_ns[1:, :2].sum() == 0
    assert (steps.phases_ns[1:, Phase.CROSS_ATTENTION] > 0).all()
    bench.close()


@pytest.mark.parametrize("family", FEW)
@pytest.mark.parametrize("rows", [{"beams": 3}, {"batch": 3}])
def test_an_answer_is_searched_by_beams_and_written_several_times(family: str, rows: dict[str, int]) -> None:
    live = small_live(model=build(family))
    live.tokenizer = byte_tokenizer()
    live.loop = Loop(**rows)
    generation = Generation(live, PROMPT_IDS[0].tolist(), Limits(TOKENS))
    generation.context.cache = new_cache(live, "dynamic", generation.context.capacity)
    tokens = [token for step in generation for token in step.tokens]
    model: Any = live.model
    output = model.generate(
        PROMPT_IDS,
        max_new_tokens=TOKENS,
        do_sample=False,
        num_beams=rows.get("beams", 1),
        eos_token_id=None,
        past_key_values=EncoderDecoderCache(
            DynamicCache(), DynamicCache()
        ),  # it would count some decoders' layers wrong
    )
    start = len(prepare_answer(live, PROMPT_IDS[0].tolist(), TOKENS).start)
    expected = output[0, start:].tolist()
    for sequence in range(rows.get("batch", 1)):
        assert [token.id for token in tokens if token.sequence == sequence] == expected
    assert "encoder" in setting("speculation").probe(live).reason
