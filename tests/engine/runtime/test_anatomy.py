"""The parts of every architecture family are found; probes on them stamp properly and change nothing."""

import gc
import inspect
import sys
import threading
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)
from transformers.modeling_utils import AttentionInterface

from engine.protocol import Family
from engine.runtime.anatomy import Anatomy, find_anatomy
from engine.runtime.clocks import StampRecorder
from engine.runtime.probes import install
from engine.trace.ledger import Layout, Span
from engine.trace.phases import Detail, Phase, Role
from tests.engine.runtime import small_encoders, small_seq2seq
from tests.engine.runtime.small_models import FAMILIES, build, families, prompt_ids
from tests.sweep import examination

PURE_STATE_SPACE = {"mamba", "mamba2"}
NO_CORE = {"gpt_neo", "gptj", "bloom", "falcon", "falcon_new_decoder", "mpt", "rwkv", "mamba", "mamba2"}
MEASURED = [Detail.PHASE, Detail.LAYER, Detail.CORE]

torch.set_num_threads(1)


class FakeClock:
    """Advances by 1 ns a reading, and by whatever a test adds."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        self.now_ns += 1
        return self.now_ns


def _cache_argument(model: PreTrainedModel) -> str:
    names = ("past_key_values", "cache_params", "state")
    parameters = inspect.signature(model.forward).parameters
    return next(name for name in names if name in parameters)


def _steps(
    model: PreTrainedModel, recorder: StampRecorder | None = None
) -> tuple[list[torch.Tensor], list[Any]]:
    """Logits of a prefill and of a decode step, and of each its (codes, stamps)."""
    logits, recorded, cache = [], [], None
    argument = _cache_argument(model)
    for ids in (prompt_ids(9), prompt_ids(1)):
        if recorder:
            recorder.begin_step()
        with torch.inference_mode():
            out = model(input_ids=ids, **{argument: cache, "use_cache": True})
        if recorder:
            recorded.append(recorder.end_step())
        cache = out[argument]
        logits.append(out.logits)
    return logits, recorded


def _spans(recorder: StampRecorder, codes: bytes, stamps: bytes) -> list[Span]:
    """The spans of a step; Layout raises unless they nest."""
    layout = Layout(recorder.names, tuple(np.frombuffer(codes, np.uint16).tolist()))
    return layout.spans(np.frombuffer(stamps, np.int64))


def _count(spans: list[Span], phase: Phase, layer: int) -> int:
    return sum(span.name.phase is phase and span.name.layer == layer for span in spans)


def _own_forwards(model: PreTrainedModel) -> set[str]:
    return {name for name, module in model.named_modules() if "forward" in vars(module)}


def _shared_functions(anatomy: Anatomy) -> list[Any]:
    return [getattr(p.holder, p.name) for p in anatomy.preparations if not isinstance(p.holder, nn.Module)]


# ---------------------------------------------------------------- anatomy


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layer_every_part_and_every_parameter_around_them_is_found(family: str) -> None:
    model = FAMILIES[family]()
    anatomy = find_anatomy(model)
    assert len(anatomy.blocks) == model.config.num_hidden_layers
    assert [block.index for block in anatomy.blocks] == list(range(len(anatomy.blocks)))
    for block in anatomy.blocks:
        assert model.get_submodule(block.name) is block.module
        assert block.attention or block.mixer
        assert bool(block.mlp) != (family in PURE_STATE_SPACE)
        assert block.norms
        assert block.unclaimed() == []
    assert anatomy.warnings == ()
    assert anatomy.complete
    around = [part.module for part in (*anatomy.embeddings, *anatomy.head)]
    claimed = {id(p) for m in (*around, *(b.module for b in anatomy.blocks)) for p in m.parameters()}
    assert [name for name, p in model.named_parameters() if id(p) not in claimed] == []
    assert anatomy.head[-1].module is model.get_output_embeddings()
    assert model.get_input_embeddings() in [part.module for part in anatomy.embeddings]
    assert bool(anatomy.core_missing) == (family in NO_CORE)


def test_roles_of_hybrids_differ_by_layer() -> None:
    kinds = {
        family: [(len(b.attention), len(b.mixer)) for b in find_anatomy(FAMILIES[family]()).blocks]
        for family in ("jamba", "falcon_h1", "qwen3_next", "lfm2")
    }
    assert kinds["jamba"] == [(0, 1), (1, 0), (0, 1), (1, 0)]
    assert kinds["falcon_h1"] == [(1, 1), (1, 1)]
    assert kinds["qwen3_next"] == kinds["lfm2"] == [(0, 1), (1, 0)]


def test_loose_linears_form_one_mlp() -> None:
    anatomy = find_anatomy(build("opt"))
    (part,) = anatomy.blocks[0].mlp
    assert part.module is anatomy.blocks[0].module.fc1
    assert part.until is anatomy.blocks[0].module.fc2


def test_norms_and_projections_around_the_layers_go_to_the_right_side() -> None:
    bloom = find_anatomy(build("bloom"))
    opt = find_anatomy(build("opt_projected"))
    lfm2 = find_anatomy(build("lfm2"))
    assert "transformer.word_embeddings_layernorm" in [part.name for part in bloom.embeddings]
    assert "model.decoder.project_in" in [part.name for part in opt.embeddings]
    assert "model.decoder.project_out" in [part.name for part in opt.head]
    assert "model.embedding_norm" in [part.name for part in lfm2.head]


def test_the_description_names_parts_and_what_is_missing() -> None:
    text = find_anatomy(build("gptj")).describe()
    assert "2 layers: attention attn; MLP mlp; norms ln_1" in text
    assert "attention core: not available: GPTJAttention computes its attention itself" in text


def test_an_unknown_module_in_a_layer_is_said_not_guessed() -> None:
    model = build("llama")
    model.model.layers[1].gadget = nn.Bilinear(2, 2, 2)
    model.model.gadget = nn.Bilinear(2, 2, 2)
    anatomy = find_anatomy(model)
    assert not anatomy.complete
    assert anatomy.blocks[1].unclaimed() == ["gadget.weight", "gadget.bias"]
    assert any("model.layers.1" in w and "gadget.weight" in w for w in anatomy.warnings)
    assert any("model.gadget" in w for w in anatomy.warnings)


def test_what_reads_images_beside_the_text_is_no_part_of_it_and_is_named() -> None:
    anatomy = find_anatomy(examination.build(Family.DECODER, "git"))
    assert [block.name for block in anatomy.blocks] == ["git.encoder.layer.0", "git.encoder.layer.1"]
    assert [part.name for part in (*anatomy.embeddings, *anatomy.head)] == ["git.embeddings", "output"]
    assert anatomy.beside == ("git.image_encoder", "git.visual_projection")
    assert "beside the text: git.image_encoder, git.visual_projection" in anatomy.describe()
    assert anatomy.complete
    assert anatomy.warnings == ()


def test_an_unknown_module_beside_an_image_encoder_is_said_not_guessed() -> None:
    model = examination.build(Family.DECODER, "git")
    model.git.gadget = nn.Bilinear(2, 2, 2)
    anatomy = find_anatomy(model)
    assert not anatomy.complete
    assert anatomy.warnings == ("outside of the layers, with no phase: git.gadget",)


def test_what_scales_or_mixes_residuals_is_no_attention_whatever_its_name() -> None:
    anatomy = find_anatomy(examination.build(Family.DECODER, "qwen4_exp_text"))
    for block in anatomy.blocks:
        assert {part.name for part in block.norms} == {"attn_hyper_connection", "mlp_hyper_connection"}
        assert [part.name for part in (*block.attention, *block.mixer)] in (["self_attn"], ["linear_attn"])
    assert [part.name for part in anatomy.head] == ["model.hyper_connection_mixer", "lm_head"]


def test_attentions_and_mlps_that_a_layer_keeps_in_lists_are_parts_one_by_one() -> None:
    anatomy = find_anatomy(examination.build(Family.DECODER, "longcat_flash"))
    for block in anatomy.blocks:
        assert [part.name for part in block.attention] == ["self_attn.0", "self_attn.1"]
        assert [part.name for part in block.mlp] == ["mlp", "mlps.0", "mlps.1"]
    assert anatomy.warnings == ()


def _albert() -> PreTrainedModel:
    config = AutoConfig.for_model(
        "albert",
        vocab_size=64,
        embedding_size=16,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=64,
    )
    return AutoModelForMaskedLM.from_config(config).eval()


def test_one_module_that_serves_as_several_layers_is_told_apart_by_its_turn() -> None:
    model, recorder = _albert(), StampRecorder(FakeClock())
    anatomy = find_anatomy(model)
    assert len(anatomy.blocks) == 3
    assert len({block.module for block in anatomy.blocks}) == 1
    install(model, anatomy, recorder, Detail.LAYER)
    for _ in range(2):
        recorder.begin_step()
        model(input_ids=prompt_ids(5, 64))
        spans = _spans(recorder, *recorder.end_step())
        assert [_count(spans, Phase.ATTENTION, layer) for layer in range(3)] == [1, 1, 1]
        assert [_count(spans, Phase.MLP, layer) for layer in range(3)] == [1, 1, 1]


# ---------------------------------------------------------------- encoder–decoders


@pytest.mark.parametrize("family", small_seq2seq.families())
def test_both_stacks_of_an_encoder_decoder_are_found_and_every_parameter_has_a_place(family: str) -> None:
    model = small_seq2seq.build(family)
    anatomy = find_anatomy(model)
    assert (anatomy.encoder_layers, len(anatomy.blocks)) == (2, 5)
    assert anatomy.encoder is model.get_encoder()
    assert [block.index for block in anatomy.blocks] == list(range(5))
    assert [len(block.cross_attention) for block in anatomy.blocks] == [0, 0, 1, 1, 1]
    for block in anatomy.blocks:
        assert model.get_submodule(block.name) is block.module
        assert (len(block.attention), len(block.mlp)) == (1, 1)
        assert block.norms or block.inner_norms
        assert block.unclaimed() == []
    around = [part.module for part in (*anatomy.embeddings, *anatomy.head)]
    claimed = {id(p) for m in (*around, *(b.module for b in anatomy.blocks)) for p in m.parameters()}
    assert [name for name, p in model.named_parameters() if id(p) not in claimed] == []
    assert anatomy.warnings == ()
    assert anatomy.complete


def test_a_norm_goes_where_it_runs_whatever_its_name_and_its_place_in_the_model() -> None:
    bart = find_anatomy(small_seq2seq.build("bart"))
    bigbird = find_anatomy(small_seq2seq.build("bigbird_pegasus"))
    norms = {f"model.{side}.layernorm_embedding" for side in ("encoder", "decoder")}
    assert norms <= {part.name for part in bart.embeddings}
    assert norms <= {part.name for part in bigbird.head}


@pytest.mark.parametrize("detail", MEASURED)
@pytest.mark.parametrize("family", ["t5", "bart", "longt5", "prophetnet", "encoder-decoder"])
def test_probes_of_two_stacks_stamp_whole_passes_and_lone_ones_and_change_nothing(
    family: str, detail: Detail
) -> None:
    model, recorder = small_seq2seq.build(family), StampRecorder()
    anatomy = find_anatomy(model)
    assert anatomy.encoder is not None
    arguments = {"input_ids": prompt_ids(8), "decoder_input_ids": prompt_ids(3), "use_cache": False}
    with torch.inference_mode():
        expected = model(**arguments).logits
    forwards = _own_forwards(model)
    probes = install(model, anatomy, recorder, detail)
    with torch.inference_mode():
        recorder.begin_step()
        logits = model(**arguments).logits
        whole = _spans(recorder, *recorder.end_step())
        recorder.begin_step()
        encoded = anatomy.encoder(input_ids=arguments["input_ids"])
        encode = _spans(recorder, *recorder.end_step())
        recorder.begin_step()
        model(encoder_outputs=encoded, decoder_input_ids=prompt_ids(3), use_cache=False)
        decode = _spans(recorder, *recorder.end_step())
    probes.remove()
    assert torch.equal(logits, expected)
    assert _own_forwards(model) == forwards
    per_layer = [(layer, _expected_layers(detail, layer)) for layer in range(5)]
    for spans, ran in ((whole, range(5)), (encode, range(2)), (decode, range(2, 5))):
        assert spans[0].name.name == "before the layers"
        assert spans[-1].name.phase is Phase.HEAD
        for layer, place in per_layer:
            assert _count(spans, Phase.ATTENTION, place) >= (layer in ran)
        if detail is not Detail.PHASE:
            cross = [layer for layer, _ in per_layer if _cross(spans, layer)]
            assert cross == [layer for layer in ran if layer >= 2]
            seen = {span.name.layer for span in spans if span.name.layer >= 0}
            assert seen == set(ran)


def _expected_layers(detail: Detail, layer: int) -> int:
    return -1 if detail is Detail.PHASE else layer


def _cross(spans: list[Span], layer: int) -> int:
    return _count(spans, Phase.CROSS_ATTENTION, layer)


def test_the_core_of_cross_attention_stays_in_its_phase() -> None:
    model, recorder = small_seq2seq.build("bart"), StampRecorder()
    install(model, find_anatomy(model), recorder, Detail.CORE)
    recorder.begin_step()
    model(input_ids=prompt_ids(8), decoder_input_ids=prompt_ids(3))
    spans = _spans(recorder, *recorder.end_step())
    cores = [(span.name.phase, span.name.layer) for span in spans if span.name.name == "core"]
    decoder = [(phase, n) for n in (2, 3, 4) for phase in (Phase.ATTENTION_CORE, Phase.CROSS_ATTENTION)]
    assert cores == [(Phase.ATTENTION_CORE, 0), (Phase.ATTENTION_CORE, 1), *decoder]


# ---------------------------------------------------------------- encoders


#: What no part of a layer of these holds counts as norm and residual, and is told.
TOLD = {"mobilebert": "bottleneck.input.dense", "fnet": ""}


@pytest.mark.parametrize("head", [AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoModel])
@pytest.mark.parametrize("family", small_encoders.families())
def test_an_encoder_s_layers_and_head_are_found(family: str, head: Any) -> None:
    model_type, entries = small_encoders.CONFIGURATIONS[family]
    model = head.from_config(AutoConfig.for_model(model_type, **entries))
    anatomy = find_anatomy(model)
    assert len(anatomy.blocks) == model.config.num_hidden_layers
    assert anatomy.encoder is None
    assert anatomy.encoder_layers == 0
    assert all((b.attention or b.mixer) and b.mlp and not b.cross_attention for b in anatomy.blocks)
    assert all(block.norms or block.inner_norms for block in anatomy.blocks)
    if family not in TOLD:
        assert anatomy.warnings == ()
    assert anatomy.complete
    names = {part.name.split(".")[0] for part in anatomy.head}
    top = {name for name, child in model.named_children() if list(child.parameters())}
    if model.base_model is not model:
        assert top - names <= {model.base_model_prefix}


def test_the_norms_that_bert_keeps_in_its_parts_are_measured_as_norms() -> None:
    clock = FakeClock()
    model, recorder = small_encoders.build("bert"), StampRecorder(clock)
    anatomy = find_anatomy(model)
    for part in anatomy.blocks[1].inner_norms:
        own = part.module.forward

        def late(*args: Any, own: Any = own, **kwargs: Any) -> Any:
            clock.now_ns += 1_000_000
            return own(*args, **kwargs)

        part.module.forward = late
    install(model, anatomy, recorder, Detail.LAYER)
    recorder.begin_step()
    with torch.inference_mode():
        model(input_ids=prompt_ids(5))
    codes, stamps = recorder.end_step()
    layout = Layout(recorder.names, tuple(np.frombuffer(codes, np.uint16).tolist()))
    layers_ns = layout.layers_ns(np.frombuffer(stamps, np.int64)[None])[0]
    assert layers_ns[1, Role.REST] // 1_000_000 == 2
    assert layers_ns.sum() // 1_000_000 == 2


# ---------------------------------------------------------------- probes


@pytest.mark.parametrize("detail", MEASURED)
@pytest.mark.parametrize("family", families())
def test_probes_stamp_every_part_and_change_nothing(family: str, detail: Detail) -> None:
    if hasattr(AttentionInterface.get_interface, "__wrapped__"):
        gc.collect()  # of models that went, and are about to take their wrappers with them
    model, recorder = FAMILIES[family](), StampRecorder()
    anatomy = find_anatomy(model)
    expected, _ = _steps(model)
    forwards, functions = _own_forwards(model), _shared_functions(anatomy)
    interface = AttentionInterface.get_interface

    probes = install(model, anatomy, recorder, detail)
    logits, recorded = _steps(model, recorder)
    probes.remove()
    probes.remove()

    assert all(torch.equal(a, b) for a, b in zip(logits, expected, strict=True))
    for codes, stamps in recorded:
        _check_spans(_spans(recorder, codes, stamps), anatomy, detail, probes.core_available)
    assert _own_forwards(model) == forwards
    assert _shared_functions(anatomy) == functions
    assert AttentionInterface.get_interface is interface


@pytest.mark.parametrize("compiled", [False, True])
def test_a_model_that_goes_with_its_probes_leaves_nothing_behind(compiled: bool) -> None:
    gc.collect()
    interface = AttentionInterface.get_interface
    assert not hasattr(interface, "__wrapped__")
    models = [build("llama") for _ in range(3)]
    anatomies = [find_anatomy(model) for model in models]
    functions = _shared_functions(anatomies[0])
    for model, anatomy in zip(models, anatomies, strict=True):
        install(model, anatomy, StampRecorder(), Detail.CORE, compiled=compiled)
    assert AttentionInterface.get_interface is not interface
    gone = [weakref.ref(model) for model in models]

    del models[1], anatomies[1], model, anatomy  # the one in the middle
    gc.collect()
    assert [each() is None for each in gone] == [False, True, False]
    _steps(models[0])
    assert AttentionInterface.get_interface is not interface

    del models[:], anatomies[:]
    gc.collect()
    assert [each() for each in gone] == [None] * 3
    assert AttentionInterface.get_interface is interface
    again = find_anatomy(build("llama"))
    assert _shared_functions(again) == functions


def _check_spans(spans: list[Span], anatomy: Anatomy, detail: Detail, core: bool) -> None:
    blocks = anatomy.blocks
    if detail is Detail.PHASE:
        assert {span.name.layer for span in spans} == {-1}
        assert _count(spans, Phase.NORM, -1) == 1
        assert _count(spans, Phase.ATTENTION, -1) == sum(len(b.attention) for b in blocks)
        assert _count(spans, Phase.MLP, -1) == sum(len(b.mlp) for b in blocks)
        assert _count(spans, Phase.MIXER, -1) == sum(len(b.mixer) for b in blocks)
    else:
        for block in blocks:
            assert _count(spans, Phase.NORM, block.index) == 1
            assert _count(spans, Phase.ATTENTION, block.index) == len(block.attention)
            assert _count(spans, Phase.MLP, block.index) == len(block.mlp)
            assert _count(spans, Phase.MIXER, block.index) == len(block.mixer)
            assert _count(spans, Phase.ATTENTION_CORE, block.index) == (len(block.attention) if core else 0)
    assert core == (detail is Detail.CORE and not anatomy.core_missing)
    names = [span.name.name for span in spans if span.name.phase is Phase.HEAD]
    apart = detail is Detail.CORE  # elsewhere two spans by place are enough to tell the phases apart
    assert names == ["after the layers", *(part.name for part in anatomy.head if apart)]
    assert spans[0].name.name == "before the layers"
    embedding = {span.name.name for span in spans if span.name.phase is Phase.EMBED}
    if apart:
        assert {part.name for part in anatomy.embeddings if list(part.module.parameters())} <= embedding
    else:
        assert embedding == {"before the layers"}


def test_detail_step_installs_nothing() -> None:
    model, recorder = build("llama"), StampRecorder()
    probes = install(model, find_anatomy(model), recorder, Detail.STEP)
    _, recorded = _steps(model, recorder)
    assert probes.mark_count == 0
    assert [codes for codes, _ in recorded] == [b"", b""]
    assert _own_forwards(model) == set()


@pytest.mark.parametrize("detail", MEASURED)
def test_the_mark_count_is_what_a_step_stamps(detail: Detail) -> None:
    model, recorder = build("llama"), StampRecorder()
    probes = install(model, find_anatomy(model), recorder, detail)
    _, recorded = _steps(model, recorder)
    assert [len(codes) // recorder.codes.itemsize for codes, _ in recorded] == [probes.mark_count] * 2
    probes.remove()


def test_a_forward_that_was_replaced_before_is_put_back() -> None:
    model = build("llama")
    mlp = model.model.layers[0].mlp
    before = mlp.forward
    mlp.forward = before
    probes = install(model, find_anatomy(model), StampRecorder(), Detail.LAYER)
    assert mlp.forward is not before
    probes.remove()
    assert vars(mlp)["forward"] is before


def test_time_added_to_one_part_of_one_layer_appears_there_and_only_there() -> None:
    clock = FakeClock()
    model, recorder = build("llama"), StampRecorder(clock)
    planted = {"self_attn": 1_000_000, "mlp": 30_000_000}

    def delay(own: Any, extra_ns: int) -> Any:
        def delayed(*args: Any, **kwargs: Any) -> Any:
            clock.now_ns += extra_ns
            return own(*args, **kwargs)

        return delayed

    for name, extra_ns in planted.items():
        part = model.model.layers[1].get_submodule(name)
        part.forward = delay(part.forward, extra_ns)
    install(model, find_anatomy(model), recorder, Detail.LAYER)
    for codes, stamps in _steps(model, recorder)[1]:
        layout = Layout(recorder.names, tuple(np.frombuffer(codes, np.uint16).tolist()))
        layers_ns = layout.layers_ns(np.frombuffer(stamps, np.int64)[None])[0]
        assert layers_ns[1, Role.ATTENTION] == planted["self_attn"] + 1
        assert layers_ns[1, Role.MLP] == planted["mlp"] + 1
        assert layers_ns[0].tolist() == [1, 1, 3]


def test_another_model_of_the_same_architecture_is_not_stamped() -> None:
    model, other, recorder = build("llama"), build("llama"), StampRecorder()
    probes = install(model, find_anatomy(model), recorder, Detail.CORE)
    _steps(other)
    assert len(recorder.codes) == 0
    probes.remove()


def test_another_thread_inside_another_model_is_not_stamped() -> None:
    model, other, recorder = build("llama"), build("llama"), StampRecorder()
    mlp = model.model.layers[0].mlp
    own = mlp.forward

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        thread = threading.Thread(target=_steps, args=(other,))
        thread.start()
        thread.join()
        return own(*args, **kwargs)

    mlp.forward = interrupted
    probes = install(model, find_anatomy(model), recorder, Detail.CORE)
    _, recorded = _steps(model, recorder)
    assert [len(codes) // recorder.codes.itemsize for codes, _ in recorded] == [probes.mark_count] * 2
    probes.remove()


def test_a_step_after_one_that_failed_is_measured_as_usual() -> None:
    model, recorder = build("llama"), StampRecorder()
    probes = install(model, find_anatomy(model), recorder, Detail.PHASE)
    with pytest.raises(IndexError):
        model(input_ids=torch.tensor([[10**6]]))
    _, recorded = _steps(model, recorder)
    assert [len(codes) // recorder.codes.itemsize for codes, _ in recorded] == [probes.mark_count] * 2
    probes.remove()


def test_spans_end_properly_when_the_last_layers_are_left_out() -> None:
    model, recorder = build("llama", num_hidden_layers=3), StampRecorder()
    probes = install(model, find_anatomy(model), recorder, Detail.PHASE)
    model.config.num_hidden_layers = 2
    for codes, stamps in _steps(model, recorder)[1]:
        assert _count(_spans(recorder, codes, stamps), Phase.MLP, -1) == 2
    probes.remove()


def test_probing_twice_is_refused() -> None:
    model = build("llama")
    anatomy = find_anatomy(model)
    probes = install(model, anatomy, StampRecorder(), Detail.LAYER)
    with pytest.raises(RuntimeError, match="already being measured"):
        install(model, anatomy, StampRecorder(), Detail.LAYER)
    probes.remove()
    install(model, anatomy, StampRecorder(), Detail.LAYER).remove()


def test_generation_works_while_probed() -> None:
    model = build("qwen3")
    expected = model.generate(prompt_ids(), max_new_tokens=5, do_sample=False)
    probes = install(model, find_anatomy(model), StampRecorder(), Detail.CORE)
    assert torch.equal(model.generate(prompt_ids(), max_new_tokens=5, do_sample=False), expected)
    probes.remove()


def test_the_modeling_file_keeps_its_own_mask_function() -> None:
    model = build("llama")
    modeling = sys.modules[type(model).__module__]
    before = modeling.create_causal_mask
    probes = install(model, find_anatomy(model), StampRecorder(), Detail.CORE)
    assert modeling.create_causal_mask is not before
    probes.remove()
    assert modeling.create_causal_mask is before
