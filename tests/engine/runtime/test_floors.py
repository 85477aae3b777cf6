"""The floor of a live model's steps: it follows every setting, and a step that beats it is told."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter_ns

import pytest
import torch

from engine.protocol import (
    Calibrated,
    Configuration,
    FloorBeaten,
    Join,
    ProbeTraining,
    Prompt,
    ShapeDefined,
)
from engine.runtime import calibration as calibrating
from engine.runtime import calibration_records
from engine.runtime.calibration import CalibrationRefused, Machine
from engine.runtime.floors import Floors
from engine.runtime.weights.realizing import parameter_bytes
from engine.trace.calibration import Calibration
from engine.trace.floor import Costs, Fed
from engine.trace.phases import StepKind
from engine.trace.shapes import ModelShape
from engine.trace.store import KINDS
from tests.engine.runtime import small_seq2seq
from tests.engine.runtime.live_models import (
    Bench,
    save_checkpoint,
    torch_kept,
)
from tests.engine.runtime.small_encoders import encoder_checkpoint
from tests.engine.runtime.small_models import VOCABULARY, build
from tests.engine.trace.test_floor import MIB, calibration

DECODE, PREFILL, VERIFY, ENCODE = (
    KINDS.index(kind) for kind in (StepKind.DECODE, StepKind.PREFILL, StepKind.VERIFY, StepKind.ENCODE)
)
TABLE = VOCABULARY * 32 * 4  # the embedding, of which a row is read
KEPT = 2 * 2 * 2 * 8 * 4  # bytes of a token: two layers, keys and values of two heads of 8


@pytest.fixture(autouse=True)
def torch_as_before() -> Iterator[None]:
    yield from torch_kept()


@pytest.fixture
def deep_bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(save_checkpoint(build("llama", num_hidden_layers=4), tmp_path))
    yield made
    made.close()


def of_kind(bench: Bench, kind: int, column: str) -> list[int]:
    steps = bench.trace.steps
    values: list[int] = getattr(steps, column)[steps.kind == kind].tolist()
    return values


def weights(bench: Bench) -> int:
    """What of the live model's parameters is more than looked up, in bytes."""
    table = bench.workbench.live.model.get_input_embeddings().weight  # type: ignore[no-untyped-call]
    return parameter_bytes(bench.workbench.live.model) - int(table.nbytes)


def shape(bench: Bench) -> ModelShape:
    found = bench.trace.shape(bench.workbench.configuration)
    assert found is not None
    return found


def test_every_step_tells_what_it_has_to_move_and_compute(bench: Bench) -> None:
    bench.generate(tokens=6)
    prompt = len(bench.trace.generations[0].started.prompt_ids)
    fixed = weights(bench) + 32 * 4
    assert of_kind(bench, PREFILL, "moved_bytes") == [weights(bench) + prompt * (32 * 4 + KEPT)]
    assert of_kind(bench, DECODE, "moved_bytes") == [fixed + (prompt + 1 + n) * KEPT for n in range(5)]
    # a pair costs 2 · 2 · 32 operations a layer
    operations = of_kind(bench, DECODE, "operations")
    assert operations[1] - operations[0] == 2 * 128
    assert of_kind(bench, DECODE, "floor_ns") == [0] * 5  # nothing was calibrated


def test_a_prompt_in_chunks_moves_its_cache_again(bench: Bench) -> None:
    bench.generate(tokens=2)
    (whole,) = of_kind(bench, PREFILL, "operations")
    bench.workbench.change((("prefill_chunk", 16),))
    bench.generate(tokens=2)
    chunks = of_kind(bench, PREFILL, "moved_bytes")[1:]
    prompt = len(bench.trace.generations[0].started.prompt_ids)
    assert len(chunks) == -(-prompt // 16)
    assert chunks[1] == weights(bench) + 16 * 32 * 4 + 32 * KEPT
    # each chunk projects a position of its own to the vocabulary
    head = 2 * 32 * VOCABULARY
    assert sum(of_kind(bench, PREFILL, "operations")[1:]) == whole + (len(chunks) - 1) * head


@pytest.mark.parametrize(
    "settings",
    [
        (("precision", "bfloat16"),),
        (("quantization", "int8"),),
        (("quantization", "int4"),),
        (("quantization", "int8_dynamic"),),
        (("mlp_pruning", 50),),
        (("head_pruning", 50),),
        (("sparsity", "unstructured"),),
        (("precision", "bfloat16"), ("quantization", "int8"), ("mlp_pruning", 25)),
    ],
)
def test_weights_are_counted_as_they_are_stored_now(bench: Bench, settings: Configuration) -> None:
    loaded = bench.trace.shape(0)
    assert loaded is not None
    bench.workbench.change(settings)
    bench.generate(tokens=3)
    assert shape(bench).weight_bytes == weights(bench)
    assert shape(bench).remarks == ()
    if settings[0][0] == "sparsity":  # zeros anywhere are read and multiplied like all numbers
        assert shape(bench) == loaded
        return
    assert shape(bench).weight_bytes < loaded.weight_bytes
    assert (shape(bench).products < loaded.products) == any("pruning" in key for key, _ in settings)
    bench.workbench.change(tuple((key, dict(bench.trace.configurations[0])[key]) for key, _ in settings))
    bench.generate(tokens=2)
    assert shape(bench) == loaded


def test_pruned_heads_keep_less_of_a_token(bench: Bench) -> None:
    bench.workbench.change((("head_pruning", 50),))
    bench.generate(tokens=3)
    assert shape(bench).token_bytes == KEPT // 2
    held = bench.trace.steps.cache_bytes.tolist()
    assert held == [(length - 1) * KEPT // 2 for length in bench.trace.steps.context_length.tolist()]


def test_a_skipped_layer_has_no_part(deep_bench: Bench) -> None:
    whole = shape(deep_bench)
    deep_bench.workbench.change((("layer_skipping", 1),))
    deep_bench.generate(tokens=3)
    less = shape(deep_bench)
    assert less.token_bytes == whole.token_bytes * 3 // 4
    layer = (whole.weight_bytes - whole.head.nbytes) // 4
    assert less.weight_bytes == whole.weight_bytes - layer


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ((("kv_cache", "static"),), "reserved"),
        ((("kv_cache", "quantized"),), "quarter"),
        ((("kv_cache", "sliding"), ("kv_window", 8)), "window"),
        ((("kv_cache", "none"),), "nothing"),
        ((("precision", "bfloat16"),), "half"),
    ],
)
def test_kinds_of_cache(bench: Bench, settings: Configuration, kept: str) -> None:
    bench.workbench.change(settings)
    bench.generate(tokens=6)
    prompt = len(bench.trace.generations[0].started.prompt_ids)
    moved = of_kind(bench, DECODE, "moved_bytes")
    width = 2 if kept == "half" else 4
    fixed = weights(bench) + 32 * width
    expected = {
        "reserved": [fixed + (prompt + 6) * KEPT] * 5,
        "quarter": [fixed + (prompt + 1 + n) * KEPT // 4 for n in range(5)],
        "window": [fixed + 8 * KEPT] * 5,
        "nothing": [weights(bench) + (prompt + 1 + n) * 32 * 4 for n in range(5)],
        "half": [fixed + (prompt + 1 + n) * KEPT // 2 for n in range(5)],
    }
    assert moved == expected[kept]


def test_a_window_computes_fewer_pairs_and_no_cache_all_positions_anew(bench: Bench) -> None:
    bench.generate(tokens=6)
    plain = of_kind(bench, DECODE, "operations")
    bench.workbench.change((("kv_cache", "sliding"), ("kv_window", 8)))
    bench.generate(tokens=6)
    narrow = of_kind(bench, DECODE, "operations")[5:]
    bench.workbench.change((("kv_cache", "none"),))
    bench.generate(tokens=6)
    anew = of_kind(bench, DECODE, "operations")[10:]
    assert len(set(narrow)) == 1
    assert narrow[0] < plain[0]
    prompt = len(bench.trace.generations[0].started.prompt_ids)
    head = 2 * 32 * VOCABULARY
    each = 2 * shape(bench).products - head
    assert anew[0] == (prompt + 1) * each + head + 2 * 128 * (prompt + 1) * (prompt + 2) // 2


@pytest.mark.parametrize("settings", [(("batch", 3),), (("beams", 3),)])
def test_rows_share_weights_and_have_a_cache_each(bench: Bench, settings: Configuration) -> None:
    bench.workbench.change(settings)
    bench.generate(tokens=6)
    prompt = len(bench.trace.generations[0].started.prompt_ids)
    last = of_kind(bench, DECODE, "moved_bytes")[-1]
    assert bench.trace.steps.batch[-1] == 3
    assert last == weights(bench) + 3 * (32 * 4 + (prompt + 5) * KEPT)


def test_proposals_that_are_looked_up_are_checked_in_one_pass(bench: Bench) -> None:
    bench.workbench.change((("speculation", "lookup"), ("draft_length", 3)))
    bench.generate("abcabcabcabcabcabc", tokens=24)
    steps = bench.trace.steps
    for row in range(len(steps)):
        if steps.kind[row] != VERIFY:
            continue
        positions = 1 + int(steps.drafted[row])
        before = int(steps.context_length[row]) - int(steps.token_count[row]) - 1
        assert steps.moved_bytes[row] == weights(bench) + positions * 32 * 4 + (before + positions) * KEPT
    assert (steps.kind == VERIFY).any()


def test_an_early_exit_reads_its_layers_again_for_each_proposal(deep_bench: Bench) -> None:
    bench = deep_bench
    bench.workbench.change((("speculation", "exit"), ("draft_length", 2)))
    bench.generate(tokens=12)
    own = shape(bench)
    assert own.draft is not None
    exit_ = own.draft.alone()
    assert exit_.token_bytes == own.token_bytes // 2
    steps = bench.trace.steps
    row = int((steps.kind == VERIFY).argmax())
    before = int(steps.context_length[row]) - int(steps.token_count[row]) - 1
    fed = Fed(StepKind.VERIFY, positions=3, past=before, logits=3, drafted=2)
    assert steps.drafted[row] == 2
    assert steps.moved_bytes[row] == Costs(own).work(fed).nbytes
    alone = Costs(replace(own, draft=None)).work(fed).nbytes
    each = exit_.weight_bytes + 32 * 4 + (before + 2) * exit_.token_bytes
    assert steps.moved_bytes[row] - alone == 2 * each


def test_a_draft_model_is_another_model(bench: Bench, tmp_path: Path) -> None:
    small = save_checkpoint(build("llama", num_hidden_layers=1), tmp_path)
    bench.workbench.change((("draft_model", str(small)), ("speculation", "draft")))
    bench.generate(tokens=12)
    own = shape(bench)
    assert own.draft is not None
    assert own.draft.alone().weight_bytes == weights(bench) - ((weights(bench) - own.head.nbytes) // 2)


def test_an_encoder_decoder_reads_its_prompt_once(tmp_path: Path) -> None:
    bench = Bench(save_checkpoint(small_seq2seq.build("t5"), tmp_path))
    try:
        bench.generate(tokens=5)
        own = shape(bench)
        prompt = len(bench.trace.generations[0].started.prompt_ids)
    finally:
        bench.close()
    costs = Costs(own)
    assert of_kind(bench, ENCODE, "moved_bytes") == [
        costs.work(Fed(StepKind.ENCODE, positions=prompt)).nbytes
    ]
    first, *later = of_kind(bench, DECODE, "moved_bytes")
    assert first == costs.work(Fed(StepKind.DECODE, source=prompt, begins=True)).nbytes
    assert later == [costs.work(Fed(StepKind.DECODE, past=n, source=prompt)).nbytes for n in range(1, 5)]


def test_an_encoder_alone(tmp_path: Path) -> None:
    bench = Bench(encoder_checkpoint("bert", tmp_path))
    try:
        run = bench.start("a line\nanother line")
        while not (reason := run.step(held=False)):
            pass
        run.end(reason)
        own = shape(bench)
    finally:
        bench.close()
    steps = bench.trace.steps
    for row in range(len(steps)):
        positions = int(steps.prompt_tokens[row])
        fed = Fed(StepKind.ENCODE, positions=positions, logits=positions)
        assert steps.moved_bytes[row] == Costs(own).work(fed).nbytes
        assert steps.operations[row] == Costs(own).work(fed).operations


def test_a_sequence_that_joins_is_told_by_its_own_prompt(bench: Bench) -> None:
    run = bench.start(tokens=12)
    for _ in range(4):
        run.step(held=False)
    run.join(Join(Prompt("a prompt of its own"), 8), perf_counter_ns())
    while not (reason := run.step(held=False)):
        pass
    run.end(reason)
    second = of_kind(bench, PREFILL, "moved_bytes")[1]
    assert second == weights(bench) + len("a prompt of its own") * (32 * 4 + KEPT)
    assert bench.trace.steps.moved_bytes[bench.trace.steps.batch == 2].min() > second


def test_a_training_step_reads_and_writes_thrice_as_much(bench: Bench) -> None:
    run = bench.start(tokens=12)
    for _ in range(3):
        run.step(held=False)
    run.probe_training(ProbeTraining())
    run.probe_training(ProbeTraining(mixed=True))
    run.end("stopped")
    length = int(bench.trace.steps.prompt_tokens[-1])
    assert bench.trace.steps.moved_bytes[-2] == 3 * (weights(bench) + length * 32 * 4)
    assert bench.trace.steps.moved_bytes[-1] == bench.trace.steps.moved_bytes[-2]


# ---------------------------------------------------------------- calibrations


def machine_of(bench: Bench) -> Machine:
    (machine,) = bench.workbench.floors._machines()
    return machine


def known_machine(bench: Bench, bytes_per_s: float = 1e9) -> None:
    """As if this machine had been calibrated before."""
    machine = machine_of(bench)
    record = calibration(
        processor=machine.processor,
        threads=machine.threads,
        mode=machine.mode,
        rungs=((MIB, bytes_per_s),),
        rates=tuple((kind, 1e15) for kind in calibrating.KINDS),
    )
    assert calibration_records.remember(machine, record) == ""


@pytest.fixture
def no_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "records"))


@pytest.mark.usefixtures("no_records")
def test_what_is_remembered_holds_from_the_first_step_on(checkpoint: Path, bench: Bench) -> None:
    known_machine(bench, 1e12)
    again = Bench(checkpoint)
    try:
        again.generate(tokens=4)
    finally:
        again.close()
    (told,) = [event for event in again.events if isinstance(event, Calibrated)]
    assert (told.number, told.origin) == (0, "remembered")
    steps = again.trace.steps
    assert steps.calibration.tolist() == [0] * 4
    assert steps.floor_ns.tolist() == [moved // 1000 for moved in steps.moved_bytes.tolist()]
    assert not again.trace.beaten_floors


@pytest.mark.usefixtures("no_records")
def test_a_step_that_beats_its_floor_is_told_once_and_the_machine_is_due(
    checkpoint: Path, bench: Bench
) -> None:
    known_machine(bench, 1e6)  # the slowest that a record can tell: every step beats it
    again = Bench(checkpoint)
    try:
        assert again.workbench.floors.due_in_s() is None
        again.generate(tokens=4)
        (beaten,) = again.trace.beaten_floors
        assert beaten.step == 0
        assert 0 < beaten.wall_ns < beaten.floor_ns
        assert again.workbench.floors.due_in_s() == 0.0
    finally:
        again.close()
    assert sum(isinstance(event, FloorBeaten) for event in again.events) == 1
    assert (again.trace.steps.floor_ns > again.trace.steps.wall_ns).all()  # told as it is, never bent


# ---------------------------------------------------------------- several devices


@pytest.fixture
def on_devices(bench: Bench, monkeypatch: pytest.MonkeyPatch, no_records: None) -> Callable[..., Floors]:
    """The floors of a bench whose layers are said to be on some devices; all of it runs where it is."""

    def floors(first: str, second: str) -> Floors:
        monkeypatch.setattr("engine.runtime.floors.processor_name", str)
        places = dict.fromkeys(("model.embed_tokens", "model.rotary_emb", "model.layers.0"), first)
        places |= dict.fromkeys(("model.layers.1", "model.norm", "lm_head"), second)
        bench.workbench.live.model.hf_device_map = places
        bench.workbench.floors = made = Floors(bench.workbench.live, bench.events.append)
        return made

    return floors


def remember_device(name: str, bytes_per_s: float) -> Calibration:
    device = torch.device(name)
    record = calibration(processor=name, device=name, rungs=((1, bytes_per_s),), rates=(("float32", 1e15),))
    assert calibration_records.remember(Machine(name, device, 1), record) == ""
    return record


def test_the_floor_of_a_split_model_is_the_sum_over_its_devices(
    bench: Bench, on_devices: Callable[..., Floors]
) -> None:
    fast, slow = remember_device("cuda:0", 4e12), remember_device("cuda:1", 1e12)
    floors = on_devices("cuda:0", "cuda:1")
    made = floors.follow(0)
    assert made is not None
    assert (made.devices, made.no_floor) == (("cuda:0", "cuda:1"), "")
    assert made.on("cuda:0").token_bytes == made.on("cuda:1").token_bytes == KEPT // 2
    assert made.on("cuda:0").weight_bytes + made.on("cuda:1").weight_bytes == made.weight_bytes
    assert made.on("cuda:1").head == made.head != made.on("cuda:0").head
    told = [event for event in bench.events if isinstance(event, Calibrated)]
    assert [event.calibration for event in told] == [fast, slow]
    assert floors.due_in_s() is None
    bench.generate(tokens=3)
    past = len(bench.trace.generations[0].started.prompt_ids)
    apart = [Costs(made.on(device)).work(Fed(StepKind.DECODE, past=past)).nbytes for device in made.devices]
    assert bench.trace.steps.moved_bytes[1] == sum(apart)
    assert bench.trace.steps.floor_ns[1] == int(apart[0] / 4e3) + int(apart[1] / 1e3)
    assert bench.trace.steps.calibration[1] == told[0].number


def test_a_split_model_has_no_floor_until_each_device_is_measured(
    bench: Bench, on_devices: Callable[..., Floors]
) -> None:
    remember_device("cuda:0", 4e12)
    floors = on_devices("cuda:0", "cuda:1")
    floors.follow(0)
    assert floors.due_in_s() == 0.0
    bench.generate(tokens=3)
    assert bench.trace.steps.moved_bytes[1] > 0
    assert (bench.trace.steps.floor_ns[1], bench.trace.steps.calibration[1]) == (0, -1)


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("cpu", "disk", "weights that wait on disk are brought along"),
        ("cuda:0", "cpu", "weights that wait in host memory are brought along"),
    ],
)
def test_weights_that_are_brought_along_have_no_floor_and_it_is_said(
    first: str, second: str, reason: str, bench: Bench, on_devices: Callable[..., Floors]
) -> None:
    floors = on_devices(first, second)
    made = floors.follow(0)
    assert made is not None
    assert made.no_floor.startswith(reason)
    assert made.remarks[-1] == f"there is none, since {made.no_floor}"
    assert floors.due_in_s() is None
    with pytest.raises(CalibrationRefused, match=f"no floor, since {reason}.*load the model on one device"):
        floors.calibrate(lambda: False)
    bench.generate(tokens=3)
    assert bench.trace.steps.moved_bytes[1] > 0
    assert (bench.trace.steps.floor_ns[1], bench.trace.steps.calibration[1]) == (0, -1)


@pytest.mark.usefixtures("no_records")
def test_one_record_holds_for_all_precisions_and_another_for_other_threads(bench: Bench) -> None:
    known_machine(bench)
    floors = Floors(bench.workbench.live, bench.events.append)
    bench.workbench.floors = floors
    floors.follow(0)
    for settings in ((("precision", "bfloat16"),), (("quantization", "int8_dynamic"),)):
        bench.workbench.change(settings)
        bench.generate(tokens=3)
        assert floors.due_in_s() is None
        assert bench.trace.steps.floor_ns[-1] > 0
    assert shape(bench).computes == ("bfloat16", "int8")
    torch.set_num_threads(2)  # as the setting does, also where there is one processor
    bench.workbench.change((("prefill_chunk", 16),))
    bench.generate(tokens=3)
    assert machine_of(bench).threads == 2
    assert floors.due_in_s() == 0.0
    assert bench.trace.steps.floor_ns[-1] == 0


@pytest.mark.usefixtures("no_records")
def test_what_other_means_do_not_confirm_is_doubted_and_not_kept(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for plain, kept in ((4e9, False), (9e9, True)):
        measured = calibration(plain_bandwidth=plain)
        monkeypatch.setattr("engine.runtime.floors.measure", lambda *_, found=measured: found)
        bench.workbench.floors.calibrate(lambda: False)
        told = [event for event in bench.events if isinstance(event, Calibrated)][-1]
        assert told.calibration.is_confirmed is kept
        assert told.calibration.remark == ("" if kept else "so it is not kept for the next time")
        assert calibration_records.path_of(machine_of(bench)).exists() is kept


def test_shapes_are_told_only_where_they_differ(bench: Bench) -> None:
    bench.generate(tokens=3, changes={1: (("attention", "eager"),), 2: (("kv_cache", "static"),)})
    told = [event for event in bench.events if isinstance(event, ShapeDefined)]
    assert [event.configuration for event in told] == [2]
    assert bench.trace.shape(1) == bench.trace.shape(0)
    assert bench.trace.shape(2) != bench.trace.shape(0)


def test_a_model_whose_shape_cannot_be_told_runs_without_a_floor(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(live: object) -> ModelShape:
        raise RuntimeError("unheard-of")

    monkeypatch.setattr("engine.runtime.floors.shape_of", fail)
    bench = Bench(checkpoint)
    try:
        bench.generate(tokens=3)
    finally:
        bench.close()
    assert bench.trace.model is not None
    assert bench.trace.model.shape is None
    assert (
        bench.trace.model.warnings[-1] == "The floor: the shape of this model could not be told (unheard-of)."
    )
    assert bench.trace.steps.moved_bytes.tolist() == [0, 0, 0]
