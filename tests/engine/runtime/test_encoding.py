"""Encoder-only models on a workbench: what their heads say, batches and padding, the ledger, what is refused."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter_ns

import pytest
import torch
from tokenizers import processors
from transformers import AutoConfig, AutoModelForSequenceClassification, pipeline

from engine.protocol import (
    Configuration,
    CountTokens,
    Family,
    Generate,
    GenerationEnded,
    GenerationStarted,
    Prompt,
    SequenceResult,
    SequencesEncoded,
    TokensCounted,
)
from engine.runtime.encoding import EncodedInput, encode_inputs
from engine.runtime.prompts import PromptRefused
from engine.runtime.starting import start
from engine.trace.phases import Phase, StepKind
from tests.engine.runtime.live_models import Bench
from tests.engine.runtime.small_encoders import (
    CLASSIFIER,
    END,
    FEATURES,
    LABELS,
    encoder_checkpoint,
    families,
    marked_tokenizer,
)

TEXT = "a <mask> of tea\n\nno mask at all\n<mask><mask>"
LINES = [line for line in TEXT.splitlines() if line]
UNPADDED = {"fnet"}  # it has no attention mask
NO_ATTENTION = {"fnet"}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_checkpoint("bert", tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoder_checkpoint("bert", tmp_path_factory.mktemp("classifier"), CLASSIFIER)


@pytest.fixture
def bench(bert: Path) -> Iterator[Bench]:
    bench = Bench(bert)
    yield bench
    bench.close()


def encode(
    bench: Bench,
    text: str = TEXT,
    batch: int = 1,
    changes: dict[int, Configuration] | None = None,
    truncate: bool = False,
) -> list[SequenceResult]:
    """Run all inputs, with settings changed before given steps; what came of them, in order."""
    run = start(bench.workbench, Generate(Prompt(text, truncate=truncate), batch=batch), perf_counter_ns())
    first = len(bench.events)
    ended, step = "", 0
    while not ended:
        if changes and step in changes:
            bench.workbench.change(changes[step])
        ended, step = run.step(held=False), step + 1
    run.end(ended)
    told = (event for event in bench.events[first:] if isinstance(event, SequencesEncoded))
    return [result for event in told for result in event.results]


@torch.inference_mode()
def logits(bench: Bench, line: str) -> torch.Tensor:
    """What the model says of one line alone, as transformers is told to run it."""
    live = bench.workbench.live
    taken = live.tokenizer(line, return_tensors="pt")
    names = {"input_ids", "attention_mask"} - ({"attention_mask"} if live.facts.name in UNPADDED else set())
    return live.model(**{name: taken[name] for name in names}).logits[0]


def assert_told(result: SequenceResult, shares: torch.Tensor, names: Sequence[str] | None = None) -> None:
    """The result's probabilities are the largest of `shares` (n,), with the right names where they are given."""
    best = shares.topk(min(5, len(shares)))
    assert [p for _, p in result.outputs] == pytest.approx(best.values.tolist(), rel=1e-3, abs=1e-6)
    if names is not None:
        assert [label for label, _ in result.outputs] == [names[id] for id in best.indices.tolist()]


# ---------------------------------------------------------------- what the heads say


@pytest.mark.parametrize("family", families())
def test_every_family_fills_masks_as_softmax_says_and_its_ledger_sums(family: str, tmp_path: Path) -> None:
    directory = tmp_path / family
    bench = Bench(encoder_checkpoint(family, directory))
    assert bench.workbench.live.facts.family is Family.ENCODER
    results = encode(bench, batch=1 if family in UNPADDED else 3)
    assert [(r.text, r.mask, len(r.outputs)) for r in results] == [
        (LINES[0], 0, 5),
        (LINES[1], -1, 0),
        (LINES[2], 0, 5),
        (LINES[2], 1, 5),
    ]
    mask = bench.workbench.live.tokenizer.mask_token_id
    for result in results:
        if result.mask >= 0:
            ids = bench.workbench.live.tokenizer(result.text)["input_ids"]
            place = [i for i, id in enumerate(ids) if id == mask][result.mask]
            assert_told(result, logits(bench, result.text)[place].softmax(-1))
    check_ledger(bench, attends=family not in NO_ATTENTION)
    bench.close()


@pytest.mark.parametrize(
    "family", ["roberta", "distilbert", "albert", "electra", "modernbert", "deberta-v2", "mpnet", "fnet"]
)
def test_families_classify_as_softmax_says_and_their_ledger_sums(family: str, tmp_path: Path) -> None:
    bench = Bench(encoder_checkpoint(family, tmp_path / family, CLASSIFIER))
    assert bench.workbench.live.facts.task == "classification"
    results = encode(bench, batch=1 if family in UNPADDED else 3)
    for line, result in zip(LINES, results, strict=True):
        assert_told(result, logits(bench, line).softmax(-1), LABELS)
    check_ledger(bench, attends=family not in NO_ATTENTION)
    bench.close()


def check_ledger(bench: Bench, attends: bool = True) -> None:
    """Phases sum to the wall, and every part of the model has time in every step."""
    steps = bench.trace.steps
    assert (steps.phases_ns.sum(axis=1) == steps.wall_ns).all()
    for phase in (Phase.EMBED, Phase.MLP, Phase.NORM, Phase.HEAD, Phase.SAMPLE, Phase.TRANSFER):
        assert steps.phases_ns[:, phase].min() > 0, phase
    for phase in (Phase.DETOKENIZE, Phase.STOP):
        assert steps.phases_ns[:, phase].min() > 0, phase
    if attends:
        assert steps.phases_ns[:, Phase.ATTENTION].min() > 0
    assert steps.phases_ns[:, Phase.FORWARD].max() == 0
    assert steps.layers_ns.shape[1] == bench.workbench.live.model.config.num_hidden_layers
    assert (steps.layers_ns.sum(axis=(0, 2)) > 0).all()


def test_masks_are_filled_as_the_pipeline_of_transformers_fills_them(bench: Bench) -> None:
    live = bench.workbench.live
    line = "The <mask> is 令牌"
    expected = pipeline("fill-mask", model=live.model, tokenizer=live.tokenizer, top_k=5)(line)
    (result,) = encode(bench, line)
    assert [p for _, p in result.outputs] == pytest.approx([each["score"] for each in expected], rel=1e-4)
    for (word, _), each in zip(result.outputs, expected, strict=True):
        assert word in (each["token_str"].strip(), live.tokenizer.convert_ids_to_tokens(each["token"]))


@pytest.mark.parametrize(
    "entries",
    [
        {},
        {"problem_type": "multi_label_classification"},
        {"id2label": {0: "relevant"}},
        {"id2label": {n: f"class {n}" for n in range(8)}},
    ],
)
def test_inputs_are_classified_as_the_pipeline_of_transformers_does(
    entries: dict[str, object], tmp_path: Path
) -> None:
    bench = Bench(encoder_checkpoint("bert", tmp_path, CLASSIFIER, **entries))
    live = bench.workbench.live
    classify = pipeline("text-classification", model=live.model, tokenizer=live.tokenizer, top_k=5)
    for line, result in zip(LINES, encode(bench, batch=2), strict=True):
        (expected,) = classify([line])
        assert [label for label, _ in result.outputs] == [each["label"] for each in expected]
        assert [p for _, p in result.outputs] == pytest.approx([e["score"] for e in expected], rel=1e-3)
    bench.close()


def test_a_regression_has_no_probabilities_and_a_model_without_a_head_says_nothing(tmp_path: Path) -> None:
    entries = {"id2label": {0: "score"}, "problem_type": "regression"}
    for name, head, more in (("regression", CLASSIFIER, entries), ("features", FEATURES, {})):
        bench = Bench(encoder_checkpoint("bert", tmp_path / name, head, **more))
        results = encode(bench, "one\ntwo", batch=2)
        assert results == [SequenceResult("one", 5), SequenceResult("two", 5)]
        assert (bench.trace.steps.phases_ns.sum(axis=1) == bench.trace.steps.wall_ns).all()
        bench.close()


def test_a_decoder_with_a_classifier_reads_each_input_at_its_own_last_token(tmp_path: Path) -> None:
    config = AutoConfig.for_model(
        "llama",
        vocab_size=261,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.2,
        pad_token_id=1,
        num_labels=3,
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    marked_tokenizer().save_pretrained(tmp_path)
    bench = Bench(tmp_path)
    assert bench.workbench.live.facts.family is Family.ENCODER
    for line, result in zip(LINES, encode(bench, batch=3), strict=True):
        assert_told(result, logits(bench, line).softmax(-1))
    bench.close()


# ---------------------------------------------------------------- batches and padding


@pytest.mark.parametrize("family", ["bert", "roberta", "modernbert", "deberta-v2"])
def test_a_batch_of_unequal_lines_says_what_each_line_says_alone(family: str, tmp_path: Path) -> None:
    bench = Bench(encoder_checkpoint(family, tmp_path))
    text = "\n".join("x" * n + "<mask>" for n in (1, 9, 4, 30, 2, 17, 5))
    alone, together = encode(bench, text), encode(bench, text, batch=3)
    assert [r.text for r in together] == [r.text for r in alone] == text.splitlines()
    assert [r.tokens for r in together] == [4, 12, 7, 33, 5, 20, 8]
    for one, other in zip(alone, together, strict=True):
        assert [label for label, _ in one.outputs] == [label for label, _ in other.outputs]
        assert [p for _, p in one.outputs] == pytest.approx([p for _, p in other.outputs], rel=1e-3)
    bench.close()


def test_padding_and_tokens_are_counted_by_hand(bench: Bench) -> None:
    encode(bench, "abc\nabcdef\na\nabcd\nabcd", batch=2)  # with <s> and </s>: 5, 8 | 3, 6 | 6
    steps = bench.trace.steps
    assert [bench.trace.kind(row) for row in range(3)] == [StepKind.ENCODE] * 3
    assert steps.batch.tolist() == [2, 2, 1]
    assert steps.prompt_tokens.tolist() == [13, 9, 6]
    assert steps.padding_tokens.tolist() == [3, 3, 0]
    assert steps.token_count.tolist() == steps.cache_bytes.tolist() == [0, 0, 0]
    ended = next(event for event in bench.events if isinstance(event, GenerationEnded))
    assert (ended.reason, ended.tail) == ("inputs done", "")
    told = [event for event in bench.events if isinstance(event, SequencesEncoded)]
    assert [(event.step, len(event.results)) for event in told] == [(0, 2), (1, 2), (2, 1)]
    started = next(event for event in bench.events if isinstance(event, GenerationStarted))
    assert len(started.prompt_ids) == 13 + 9 + 6


def test_equal_lines_are_not_masked_and_unequal_ones_are(bench: Bench) -> None:
    seen: list[set[str]] = []
    live = bench.workbench.live
    plain = live.model.forward

    def noting(*args: object, **kwargs: object) -> object:
        seen.append(set(kwargs))
        return plain(*args, **kwargs)

    live.model.forward = noting
    encode(bench, "abc\ndef\ng\nhi", batch=2)
    assert seen == [{"input_ids"}, {"input_ids", "attention_mask"}]


def test_token_types_that_are_not_0_reach_the_model(classifier: Path) -> None:
    bench = Bench(classifier)
    live = bench.workbench.live
    live.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"<s>:1 $A:1 {END}:1", special_tokens=[("<s>", 0), (END, 2)]
    )
    live.tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    classify = pipeline("text-classification", model=live.model, tokenizer=live.tokenizer, top_k=3)
    for line, result in zip(LINES, encode(bench, batch=3), strict=True):
        (expected,) = classify([line])
        assert [p for _, p in result.outputs] == pytest.approx([e["score"] for e in expected], rel=1e-3)
        assert [p for _, p in result.outputs] != pytest.approx(
            logits(bench, line).softmax(-1).topk(3).values.tolist(), rel=1e-3
        )
    bench.close()


def test_models_that_cannot_share_a_step_say_so(bert: Path, tmp_path: Path) -> None:
    fnet = Bench(encoder_checkpoint("fnet", tmp_path / "fnet"))
    with pytest.raises(PromptRefused, match=r"no attention mask.*set the batch to 1"):
        encode(fnet, "ab\nabc", batch=2)
    assert len(encode(fnet, "ab\nabc\ncd\nef", batch=1)) == len(encode(fnet, "ab\ncd", batch=2)) + 2
    fnet.close()
    bench = Bench(bert)
    live = bench.workbench.live
    live.model.config.pad_token_id = None
    with pytest.raises(PromptRefused, match=r"no padding token.*set the batch to 1"):
        encode(bench, "ab\nabc", batch=2)
    assert len(encode(bench, "ab\nabc")) == 2
    bench.close()


# ---------------------------------------------------------------- inputs


def test_an_input_is_a_line_and_blank_lines_are_none(bench: Bench) -> None:
    inputs = encode_inputs(bench.workbench.live, "\n ab\r\n   \n\nc \n")
    assert [each.text for each in inputs] == [" ab", "c "]
    assert inputs[1] == EncodedInput("c ", (0, *marked_tokenizer()("c ")["input_ids"][1:-1], 2))


@pytest.mark.parametrize(
    ("text", "words"), [("", "no input"), (" \n \n", "no input"), ("a\n" + "b" * 63, "Input 2 has 65 tokens")]
)
def test_impossible_inputs_are_refused_in_a_sentence(bench: Bench, text: str, words: str) -> None:
    with pytest.raises(PromptRefused, match=words) as refused:
        encode(bench, text)
    assert str(refused.value).endswith(".")
    with pytest.raises(PromptRefused, match="at least one"):
        encode(bench, "a", batch=0)
    assert bench.workbench.live.context is None


def test_a_long_line_loses_its_end_when_told_to_and_keeps_its_special_tokens(bench: Bench) -> None:
    text = "short\n" + "".join(f"<{n}>" for n in range(100))
    short, cut = encode_inputs(bench.workbench.live, text, truncate=True)
    whole = marked_tokenizer()(text.splitlines()[1])["input_ids"]
    assert cut.ids == (*whole[:63], 2)
    assert (short.dropped, cut.dropped) == (0, len(whole) - 64)
    assert [result.tokens for result in encode(bench, text, truncate=True)] == [7, 64]
    started = next(event for event in bench.events if isinstance(event, GenerationStarted))
    assert started.dropped_tokens == cut.dropped
    assert bench.workbench.live.tokenizer.truncation_side == "right"


def test_roberta_counts_positions_from_behind_its_padding(tmp_path: Path) -> None:
    bench = Bench(encoder_checkpoint("roberta", tmp_path))
    assert bench.workbench.live.facts.context_limit in (62, 64)
    assert bench.workbench.live.input_limit == 62
    assert encode(bench, "x" * 60)[0].tokens == 62
    with pytest.raises(PromptRefused, match="takes 62"):
        encode(bench, "x" * 61)
    bench.close()


def test_tokens_are_counted_for_the_longest_line(bench: Bench) -> None:
    bench.workbench.count_tokens(CountTokens(5, Prompt("abc\nabcdef")))
    (counted,) = (event for event in bench.events if isinstance(event, TokensCounted))
    assert (counted.request, counted.tokens, counted.reason) == (5, 8, "")


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("detail", ["step", "phase", "layer", "core"])
def test_each_detail_level_sums_and_tells_apart_what_it_promises(bench: Bench, detail: str) -> None:
    bench.workbench.change((("detail", detail),))
    encode(bench, batch=2)
    steps = bench.trace.steps
    assert (steps.phases_ns.sum(axis=1) == steps.wall_ns).all()
    totals = steps.phases_ns.sum(axis=0)
    assert (totals[Phase.FORWARD] > 0) == (detail == "step")
    for phase in (Phase.EMBED, Phase.ATTENTION, Phase.MLP, Phase.HEAD):
        assert (totals[phase] > 0) == (detail != "step")
    assert (totals[Phase.ATTENTION_CORE] > 0) == (detail == "core")
    assert (steps.layers_ns.sum() > 0) == (detail in ("layer", "core"))


@pytest.mark.parametrize(
    ("key", "value"), [("attention", "eager"), ("attention", "sdpa:math"), ("threads", 2), ("detail", "core")]
)
def test_a_lossless_switch_between_steps_leaves_the_results_unchanged(
    bench: Bench, key: str, value: str | int
) -> None:
    text = "\n".join("y" * n + "<mask>" for n in range(1, 13))
    expected = encode(bench, text, batch=2)
    switched = encode(bench, text, batch=2, changes={2: ((key, value),)})
    assert dict(bench.workbench.effective())[key] == value
    for one, other in zip(expected, switched, strict=True):
        assert [p for _, p in one.outputs] == pytest.approx([p for _, p in other.outputs], rel=1e-3)


def test_every_attention_kernel_that_is_offered_takes_a_padded_batch(bench: Bench) -> None:
    """If the trial had no mask, a kernel would be offered that fails in the middle of a run."""
    expected = encode(bench, batch=3)
    facts = next(facts for facts in bench.workbench.facts if facts.key == "attention")
    offered = [c.value for c in facts.choices if not c.reason]
    assert {"eager", "sdpa", "flex"} <= set(offered)
    for value in offered:
        bench.workbench.change((("attention", value),))
        for one, other in zip(expected, encode(bench, batch=3), strict=True):
            assert [p for _, p in one.outputs] == pytest.approx([p for _, p in other.outputs], rel=1e-3)


def test_what_a_model_that_only_reads_has_no_use_for_is_refused(bench: Bench) -> None:
    refused = {facts.key: facts.reason for facts in bench.workbench.facts if facts.reason}
    assert {"kv_cache", "prefill_chunk", "decoding", "temperature", "seed"} <= set(refused)
    assert "threads" not in refused
    bench.workbench.change((("decoding", "sample"),))
    (mark,) = bench.trace.marks
    assert mark.event.changes[0].effective == "greedy"
    assert "chooses no tokens" in mark.event.changes[0].reason


def test_precision_switches_between_steps_and_comes_back_exact(bench: Bench) -> None:
    text = "\n".join("z" * n + "<mask>" for n in range(1, 7))
    expected = encode(bench, text)
    changes = {1: (("precision", "bfloat16"),), 3: (("precision", "float32"),)}
    switched = encode(bench, text, changes=changes)
    assert switched[0] == expected[0]
    assert switched[3:] == expected[3:]
    assert switched[1] != expected[1]
    assert dict(switched[1].outputs).keys() & dict(expected[1].outputs).keys()
