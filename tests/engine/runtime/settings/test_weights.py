"""The settings of the weights together: any way to a plan ends the same, and back is bit-exact."""

from itertools import permutations
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from engine.protocol import SettingsChanged, SettingValue, StepEnded
from engine.runtime.live import LiveModel
from engine.runtime.probes import install
from engine.runtime.sampling import Chooser
from engine.runtime.settings.base import SettingRefused
from engine.runtime.settings.trial import run_trial
from engine.runtime.weights.plan import WeightPlan
from engine.runtime.weights.quantized import QuantizedLinear
from engine.runtime.weights.skipping import Skipped
from engine.trace.ledger import END
from engine.trace.phases import Detail, Phase, StepKind
from tests.engine.runtime import small_encoders, small_seq2seq
from tests.engine.runtime.live_models import Bench, save_checkpoint
from tests.engine.runtime.settings.small_live import begin, generate, setting, small_live, step
from tests.engine.runtime.settings.test_precision import same, snapshot
from tests.engine.runtime.settings.test_resolve import is_sentence
from tests.engine.runtime.small_models import build, families

QUANTIZATIONS = ["int8", "int4", "int8_dynamic"]
#: Families with plain and gated MLPs, fused projections, Conv1D, loose linears, windows, experts, tied heads.
MODELS = ["llama", "gpt2", "qwen2", "qwen3", "gemma", "gemma3", "opt", "mixtral", "phi3", "gpt_neox"]
#: How far logits may move (relative, L2): random small models have no outliers, yet amplify; wrong scales give > 0.9.
MOVED = {"int8": 0.08, "int8_dynamic": 0.15, "int4": 0.55}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def deep(family: str) -> PreTrainedModel:
    """A model with layers in the middle that can be skipped."""
    depth = {"n_layer": 6} if family in ("gpt2", "bloom", "gptj") else {"num_hidden_layers": 6}
    kinds = (
        {"layer_types": ["sliding_attention", "full_attention"] * 3} if family.startswith("gemma3") else {}
    )
    return build(family, **depth, **kinds)


def put(live: LiveModel, **values: SettingValue) -> None:
    for key, value in values.items():
        setting(key).apply(live, value)


def refused(live: LiveModel, key: str, value: SettingValue) -> str:
    """Why a value is refused, "" when it is in force now; refused, it leaves the one before."""
    before = setting(key).current(live)
    try:
        put(live, **{key: value})
    except SettingRefused as refusal:
        assert setting(key).current(live) == before
        return str(refusal)
    return ""


def logits(live: LiveModel) -> torch.Tensor:
    return run_trial(live, (6, 1), "dynamic" if live.cache_argument else "none", head=True)


def distance(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).norm() / right.norm())


# ---------------------------------------------------------------- quantization


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_quantized_logits_stay_near_and_back_is_bit_exact(family: str, precision: str) -> None:
    live = small_live(family)
    put(live, precision=precision)
    before, exact = snapshot(live.model), logits(live)
    modules = list(live.model.modules())
    for kind in QUANTIZATIONS:
        put(live, quantization=kind)
        assert any(isinstance(module, QuantizedLinear) for module in live.model.modules())
        assert 0 < distance(logits(live), exact) < MOVED[kind]
    put(live, quantization="none")
    assert same(snapshot(live.model), before)
    assert list(live.model.modules()) == modules
    assert torch.equal(logits(live), exact)


@pytest.mark.parametrize("family", families())
def test_what_cannot_be_quantized_says_why_and_stays_as_it_was(family: str) -> None:
    live = small_live(family)
    before, exact = snapshot(live.model), logits(live)
    fact = setting("quantization").probe(live)
    assert all(is_sentence(choice.reason) for choice in fact.choices if choice.reason)
    for kind in QUANTIZATIONS:
        reason = refused(live, "quantization", kind)
        assert is_sentence(reason) if reason else distance(logits(live), exact) < 0.6
    put(live, quantization="none")
    assert same(snapshot(live.model), before)
    assert torch.equal(logits(live), exact)


def test_a_tied_head_is_quantized_alone_and_tied_again_afterwards() -> None:
    live = small_live(model=build("llama", tie_word_embeddings=True))
    embedding = live.model.get_input_embeddings()
    before = embedding.weight.clone()
    put(live, quantization="int8", precision="bfloat16")
    assert isinstance(live.model.get_output_embeddings(), QuantizedLinear)
    assert torch.equal(embedding.weight, before.bfloat16())
    put(live, quantization="none", precision="float32")
    assert live.model.get_output_embeddings().weight is embedding.weight
    assert torch.equal(embedding.weight, before)


@pytest.mark.parametrize("kind", ["float8", "gguf"])
def test_what_is_not_here_is_refused_and_changes_nothing(kind: str) -> None:
    live = small_live("llama")
    before = snapshot(live.model)
    with pytest.raises(SettingRefused) as refusal:
        put(live, quantization=kind)
    assert is_sentence(str(refusal.value))
    assert same(snapshot(live.model), before)


def test_a_model_without_matrices_of_fitting_size_is_told_so() -> None:
    live = small_live(
        model=build("llama", hidden_size=24, intermediate_size=40, num_attention_heads=2, head_dim=12)
    )
    fact = setting("quantization").probe(live)
    reasons = {choice.value: choice.reason for choice in fact.choices}
    assert "multiple of 32" in reasons["int8"]
    assert reasons["int8_dynamic"] == ""


# ---------------------------------------------------------------- any order

PLAN: dict[str, SettingValue] = {
    "precision": "bfloat16",
    "quantization": "int8",
    "mlp_pruning": 50,
    "head_pruning": 50,
    "layer_skipping": 2,
    "sparsity": "unstructured",
}


def applied_freshly(family: str, plan: dict[str, SettingValue]) -> torch.Tensor:
    live = small_live(model=deep(family))
    put(live, **plan)
    return logits(live)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma3", "opt"])
def test_any_order_of_switches_in_mid_generation_ends_like_the_plan_applied_freshly(family: str) -> None:
    model = deep(family)
    expected, original = applied_freshly(family, PLAN), snapshot(model)
    live = small_live(model=model)
    begin(live, capacity=live.facts.context_limit)
    chooser = Chooser(live.decoding, live.device)
    orders = list(permutations(PLAN))[::97]
    assert len(orders) > 5
    for order in orders:
        step(live, chooser)
        for key in order:
            put(live, **{key: PLAN[key]})
            step(live, chooser)
        assert torch.equal(logits(live), expected)
        for key in reversed(order[1:]):
            put(live, **{key: setting(key).probe(small_live(model=deep(family))).default})
            step(live, chooser)
        put(live, **{order[0]: "float32" if order[0] == "precision" else _neutral(order[0])})
        assert live.weights.plan == WeightPlan()
        assert same(snapshot(live.model), original)


def _neutral(key: str) -> SettingValue:
    return "none" if key in ("quantization", "sparsity") else 0


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize("key", [key for key in PLAN if key != "precision"])
def test_without_a_cache_the_tokens_after_a_visit_are_those_without_it(family: str, key: str) -> None:
    model = deep(family)
    live = small_live(model=model)
    live.cache_kind = "none"
    expected = generate(live, 10)
    visited = generate(live, 10, {3: {key: PLAN[key]}, 4: {key: _neutral(key)}})
    assert visited[:3] == expected[:3]
    fresh = small_live(model=model)
    fresh.cache_kind = "none"
    assert generate(fresh, 10) == expected


# ---------------------------------------------------------------- the context


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "gemma3"])
def test_the_cache_loses_the_heads_that_are_cut_and_only_these(family: str, cache: str) -> None:
    live = small_live(model=deep(family))
    put(live, kv_cache=cache)
    begin(live)
    step(live, Chooser(live.decoding, live.device))
    context = live.context
    assert context is not None
    assert context.cache is not None
    before = [(layer.keys.clone(), layer.values.clone()) for layer in context.cache.layers]
    cached = context.cached
    put(live, head_pruning=50)
    assert context.cached == cached
    for number, (keys, values) in enumerate(before):
        kept = live.weights.in_force.kept_heads[number]
        assert 0 < len(kept) < keys.shape[1]
        assert torch.equal(context.cache.layers[number].keys, keys[:, kept])
        assert torch.equal(context.cache.layers[number].values, values[:, kept])
    step(live, Chooser(live.decoding, live.device))
    assert context.cached == cached + 1


def test_heads_and_layers_that_come_back_begin_the_context_anew() -> None:
    for key, value in (("head_pruning", 50), ("layer_skipping", 2)):
        live = small_live(model=deep("llama"))
        begin(live)
        chooser = Chooser(live.decoding, live.device)
        step(live, chooser)
        put(live, **{key: value})
        step(live, chooser)
        put(live, **{key: 0})
        assert live.context is not None
        assert live.context.cached == 0
        token, ids = step(live, chooser), list(live.context.ids)
        with torch.inference_mode():
            exact = live.model(input_ids=torch.tensor([ids[:-1]]), use_cache=False).logits[0, -1]
        assert int(exact.argmax()) == token


def test_skipped_layers_keep_nothing_and_their_cache_is_let_go() -> None:
    live = small_live(model=deep("llama"))
    begin(live)
    chooser = Chooser(live.decoding, live.device)
    step(live, chooser)
    put(live, layer_skipping=2)
    assert live.context is not None
    assert live.context.cache is not None
    assert [layer.is_initialized for layer in live.context.cache.layers] == [
        True,
        True,
        False,
        False,
        True,
        True,
    ]
    for _ in range(3):
        step(live, chooser)
    assert [layer.get_seq_length() > 0 for layer in live.context.cache.layers] == [1, 1, 0, 0, 1, 1]


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("key", "value"),
    [("quantization", "int4"), ("mlp_pruning", 30), ("head_pruning", 50), ("sparsity", "unstructured")],
)
@pytest.mark.parametrize(
    "failing", ["engine.runtime.weights.making._Maker.tensor", "engine.runtime.settings.replanning.run_trial"]
)
def test_running_out_of_memory_on_the_way_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch, key: str, value: SettingValue, failing: str
) -> None:
    live = small_live(model=deep("llama"))
    put(live, precision="bfloat16")
    begin(live)
    chooser = Chooser(live.decoding, live.device)
    step(live, chooser)
    before, exact, plan = snapshot(live.model), logits(live), live.weights.plan
    cached = live.context.cached if live.context else 0
    calls = 0

    def exhausted(*args: object, **kwargs: object) -> None:
        nonlocal calls
        calls += 1
        raise torch.OutOfMemoryError("no memory left. Tried to allocate 9 GB")

    with monkeypatch.context() as patch:
        patch.setattr(failing, exhausted)
        with pytest.raises((SettingRefused, torch.OutOfMemoryError)):
            put(live, **{key: value})
    assert calls
    assert live.weights.plan == plan
    assert same(snapshot(live.model), before)
    assert torch.equal(logits(live), exact)
    assert live.context is not None
    assert live.context.cached == cached
    put(live, **{key: value})
    step(live, chooser)


def test_too_little_memory_is_told_with_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    live = small_live("llama")
    monkeypatch.setattr("engine.runtime.weights.realizing.available_bytes", lambda device: 10_000)
    with pytest.raises(SettingRefused, match=r"to run quantized needs 0\.0 MiB, but only 0\.0 MiB are free"):
        put(live, quantization="int8")
    assert setting("quantization").current(live) == "none"


# ---------------------------------------------------------------- measuring


def spans(live: LiveModel) -> list[tuple[Phase, int]]:
    """Phase and layer of each span of a forward pass, in order."""
    live.recorder.begin_step()
    with torch.inference_mode():
        live.model(input_ids=torch.tensor([[1, 2, 3]]), use_cache=False)
    codes, _ = live.recorder.end_step()
    names = live.recorder.names
    begun = [names[code - 1] for code in memoryview(codes).cast("H") if code != END]
    return [(name.phase, name.layer) for name in begun]


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "bloom"])
@pytest.mark.parametrize("detail", [Detail.PHASE, Detail.LAYER, Detail.CORE])
def test_every_part_is_measured_whatever_stands_in_its_place(family: str, detail: Detail) -> None:
    live = small_live(model=deep(family))
    if detail is Detail.CORE and live.anatomy.core_missing:
        return
    live.detail = detail
    live.probes = install(live.model, live.anatomy, live.recorder, detail)
    expected = spans(live)
    for key, value in (("quantization", "int8"), ("mlp_pruning", 50), ("precision", "bfloat16")):
        put(live, **{key: value})
        assert spans(live) == expected
    put(live, layer_skipping=1)
    (skipped,) = [block.index for block in live.anatomy.blocks if type(block.module) is Skipped]
    if detail is not Detail.PHASE:  # of a layer that is left out there is its own span, and nothing in it
        assert spans(live) == [
            span for span in expected if span[1] != skipped or span == (Phase.NORM, skipped)
        ]
    put(live, layer_skipping=0, quantization="none", mlp_pruning=0, precision="float32")
    assert spans(live) == expected
    live.probes.remove()
    assert "forward" not in vars(live.model)


def test_weight_bytes_are_those_in_force() -> None:
    live = small_live(model=build("llama", tie_word_embeddings=True))
    whole = sum(parameter.nbytes for parameter in live.model.parameters())
    put(live, precision="bfloat16")
    assert live.weight_bytes == whole // 2
    put(live, quantization="int8")
    embedding = live.model.get_input_embeddings().weight.nbytes
    norms = sum(p.nbytes for n, p in live.model.named_parameters() if "norm" in n)
    matrices = [m for m in live.model.modules() if isinstance(m, QuantizedLinear)]
    assert live.weight_bytes == embedding + norms + sum(
        m.in_features * m.out_features + 2 * m.out_features for m in matrices
    )
    put(live, precision="float32", quantization="none")
    assert live.weight_bytes == whole


# ---------------------------------------------------------------- other families


@pytest.mark.parametrize("family", ["t5", "bart"])
def test_an_encoder_decoder_is_quantized_on_both_sides(family: str) -> None:
    live = small_live(model=small_seq2seq.build(family))
    exact, originals = run_trial(live, (4, 1), head=True), dict(live.model.named_modules())
    put(live, quantization="int8")
    replaced = {n: m for n, m in live.model.named_modules() if isinstance(m, QuantizedLinear)}
    assert {side for side in ("encoder.", "decoder.") for name in replaced if side in name} == {
        "encoder.",
        "decoder.",
    }
    for name, module in replaced.items():
        x = torch.randn(8, module.in_features)
        with torch.no_grad():
            assert distance(module(x), originals[name](x)) < 0.01
    put(live, quantization="none")
    assert torch.equal(run_trial(live, (4, 1), head=True), exact)


def test_an_encoder_takes_them_too() -> None:
    live = small_live(model=small_encoders.build("bert", num_hidden_layers=5))
    exact = logits(live)
    put(live, quantization="int8", head_pruning=50, mlp_pruning=50, layer_skipping=2)
    assert distance(logits(live), exact) > 0
    put(live, quantization="none", head_pruning=0, mlp_pruning=0, layer_skipping=0)
    assert torch.equal(logits(live), exact)


def test_the_loop_goes_on_through_every_switch(tmp_path: Path) -> None:
    bench = Bench(save_checkpoint(deep("llama"), tmp_path))
    there = {3 * place: ((key, value),) for place, (key, value) in enumerate(PLAN.items(), 1)}
    neutral = {key: _neutral(key) for key in PLAN} | {"precision": "float32"}
    back = {3 * place + 20: ((key, value),) for place, (key, value) in enumerate(neutral.items(), 1)}
    exact = snapshot(bench.workbench.live.model)
    expected = bench.generate(tokens=12)
    assert len(bench.generate(tokens=45, changes={**there, **back})) == 45
    changed = [event for event in bench.events if isinstance(event, SettingsChanged)]
    assert len(changed) == 2 * len(PLAN)
    assert all(change.effective == change.requested for event in changed for change in event.changes)
    steps = [event for event in bench.events if isinstance(event, StepEnded) and event.generation == 1]
    assert [step.kind for step in steps].count(
        StepKind.PREFILL
    ) == 1 + 2  # the heads and the layers came back
    assert same(snapshot(bench.workbench.live.model), exact)
    assert bench.generate(tokens=12) == expected
    bench.close()
