"""What a step has to move and to compute, by hand arithmetic on shapes small enough for that."""

import random
from dataclasses import replace

import pytest

from engine.trace.calibration import Calibration
from engine.trace.floor import (
    Costs,
    Fed,
    Part,
    Work,
    attended_pairs,
    bandwidth_utilization,
    distinct_experts,
    moved_tokens,
    share_of_floor,
)
from engine.trace.phases import StepKind
from engine.trace.shapes import (
    AttentionShape,
    CrossShape,
    DraftShape,
    LayerShape,
    MixerShape,
    MlpShape,
    ModelShape,
    Weights,
)

MIB = 2**20
DECODE, PREFILL, VERIFY, ENCODE = StepKind.DECODE, StepKind.PREFILL, StepKind.VERIFY, StepKind.ENCODE

# Two layers of width 8, 4 query heads and 2 key-value heads of 2, MLP of 16, 10 tokens, all at two bytes a weight:
# attention 8·8 + 2·8·4 + 8·8 = 192 weights, MLP 3·8·16 = 384, head 80, norms 16 (no products).
ATTENTION = AttentionShape(Weights(384, 192), pair_products=16, token_bytes=16)
MLP = MlpShape(Weights(768, 384))
LAYER = LayerShape(ATTENTION, mlp=MLP, rest=Weights(32, 0))
MODEL = ModelShape(decoder=((2, LAYER),), head=Weights(160, 80), embedded_bytes=16)


def calibration(**others: object) -> Calibration:
    fields: dict[str, object] = {
        "processor": "a processor",
        "device": "cpu",
        "threads": 1,
        "mode": "",
        "at_s": 1_700_000_000.0,
        "rungs": ((MIB, 100e9), (512 * MIB, 10e9)),
        "rates": (("float32", 1e12), ("int8", 3e12)),
        "spread": 0.01,
    }
    return Calibration(**{**fields, **others})  # type: ignore[arg-type]


def test_a_decode_step_reads_all_weights_once_and_the_cache_of_all_tokens() -> None:
    work = Costs(MODEL).work(Fed(DECODE, past=9))
    # weights 2·(384 + 768 + 32) + 160 = 2528, a row of the embedding 16, cache 2 layers · 8 · 2 bytes · (9 + 1) = 320
    assert work.nbytes == 2528 + 16 + 320
    # 2·(2·(192 + 384) + 80) = 2464, pairs 2 layers · 2 · 16 · 10 = 640
    assert work.operations == 2464 + 640


def test_parts_add_up_to_the_whole() -> None:
    costs, fed = Costs(MODEL), Fed(DECODE, past=9)
    parts = costs.parts(fed)
    assert parts[Part.ATTENTION] == Work(2 * 384 + 320, 2 * 2 * 192 + 640)
    assert parts[Part.MLP] == Work(2 * 768, 2 * 2 * 384)
    assert parts[Part.HEAD] == Work(160, 160)
    assert parts[Part.REST] == Work(2 * 32 + 16, 0)
    assert parts[Part.DRAFT] == Work()
    assert sum(part.nbytes for part in parts.values()) == costs.work(fed).nbytes
    assert sum(part.operations for part in parts.values()) == costs.work(fed).operations


def test_a_batch_shares_weights_but_no_cache() -> None:
    one, four = (Costs(MODEL).work(Fed(DECODE, rows=rows, past=9)) for rows in (1, 4))
    assert four.nbytes == one.nbytes + 3 * (16 + 320)
    assert four.operations == 4 * one.operations


def test_a_prefill_multiplies_at_each_position_and_projects_only_those_asked_for() -> None:
    work = Costs(MODEL).work(Fed(PREFILL, positions=5))
    assert work.nbytes == 2528 + 5 * 16 + 2 * 8 * 2 * 5
    # 5 positions through the layers, one through the head, 1 + 2 + 3 + 4 + 5 pairs
    assert work.operations == 5 * 2 * 2 * 576 + 160 + 2 * 2 * 16 * 15
    whole = Costs(MODEL).work(Fed(PREFILL, positions=5, logits=5))
    assert whole.operations - work.operations == 4 * 160


def test_without_a_cache_nothing_of_it_moves() -> None:
    costs = Costs(replace(MODEL, cache="none"))
    assert costs.work(Fed(DECODE, positions=10)).nbytes == 2528 + 10 * 16
    assert costs.work(Fed(DECODE, positions=10)).operations == 10 * 2 * 1152 + 160 + 64 * 55


def test_a_static_cache_is_read_over_its_whole_length() -> None:
    costs = Costs(replace(MODEL, cache="static"))
    few, many = (costs.work(Fed(DECODE, past=past, reserved=64)) for past in (3, 40))
    assert few.nbytes == many.nbytes == 2528 + 16 + 2 * 8 * 2 * 64
    assert many.operations > few.operations


def test_a_quantized_cache_is_narrower() -> None:
    layer = replace(LAYER, attention=replace(ATTENTION, token_bytes=8))
    narrow = Costs(replace(MODEL, decoder=((2, layer),))).work(Fed(DECODE, past=9))
    assert narrow.nbytes == Costs(MODEL).work(Fed(DECODE, past=9)).nbytes - 160


@pytest.mark.parametrize(
    ("past", "positions", "window", "pairs", "moved"),
    [
        (0, 4, 0, 10, 4),
        (6, 1, 0, 7, 7),
        (6, 1, 4, 4, 4),  # of six earlier ones it sees three
        (2, 1, 4, 3, 3),
        (0, 6, 4, 1 + 2 + 3 + 4 + 4 + 4, 4),
        (3, 3, 4, 12, 6),
        (2, 3, 4, 3 + 4 + 4, 5),
    ],
)
def test_windows(past: int, positions: int, window: int, pairs: int, moved: int) -> None:
    assert attended_pairs(past, positions, window) == pairs
    assert moved_tokens(past, positions, window) == moved


def test_pairs_of_a_window_are_those_counted_one_by_one() -> None:
    for past in range(12):
        for positions in range(1, 12):
            for window in range(1, 9):
                counted = sum(min(past + place + 1, window) for place in range(positions))
                assert attended_pairs(past, positions, window) == counted


def test_experts() -> None:
    assert distinct_experts(8, 2, 1) == 2
    # 8·(1 − (3/4)²) = 3.5
    assert distinct_experts(8, 2, 2) == pytest.approx(3.5)
    assert distinct_experts(8, 2, 1000) == pytest.approx(8)
    assert distinct_experts(8, 8, 1) == 8
    assert distinct_experts(0, 0, 5) == 0


def test_expected_experts_are_what_independent_choices_come_to() -> None:
    draw = random.Random(3)
    trials = [len({expert for _ in range(5) for expert in draw.sample(range(16), 4)}) for _ in range(20_000)]
    assert sum(trials) / len(trials) == pytest.approx(distinct_experts(16, 4, 5), rel=0.01)


def test_experts_are_read_as_many_as_are_needed_and_computed_for_each_position() -> None:
    experts = MlpShape(Weights(100, 50), experts=8, chosen=2, expert=Weights(200, 100))
    costs = Costs(ModelShape(decoder=((3, LayerShape(mlp=experts)),)))
    assert costs.work(Fed(DECODE)) == Work(3 * (100 + 2 * 200), 3 * 2 * (50 + 2 * 100))
    two = costs.work(Fed(DECODE, rows=2))
    assert two.nbytes == pytest.approx(3 * (100 + 3.5 * 200))
    assert two.operations == 2 * 3 * 2 * (50 + 2 * 100)
    # three layers in which seven different ones were read
    assert costs.work(Fed(DECODE, rows=2, routed=7)).nbytes == pytest.approx(3 * 100 + 7 * 200)


def test_a_state_is_read_and_written_and_does_not_grow() -> None:
    costs = Costs(ModelShape(decoder=((2, LayerShape(mixer=MixerShape(Weights(400, 100), state=32))),)))
    assert costs.work(Fed(DECODE, past=5)) == costs.work(Fed(DECODE, past=500))
    assert costs.work(Fed(DECODE, past=5)).nbytes == 2 * (400 + 2 * 32 * 4)
    assert costs.work(Fed(PREFILL, positions=5)).nbytes == 2 * (400 + 32 * 4)
    assert costs.work(Fed(DECODE, past=5)).operations == 2 * (200 + 6 * 32)


def test_an_encoder_sees_all_pairs_and_keeps_nothing() -> None:
    layer = LayerShape(replace(ATTENTION, causal=False), mlp=MLP)
    reader = ModelShape(decoder=(), encoder=((2, layer),), head=Weights(160, 80), embedded_bytes=16)
    work = Costs(reader).work(Fed(ENCODE, rows=3, positions=7, logits=7))
    assert work.nbytes == 2 * 1152 + 160 + 21 * 16
    assert work.operations == 21 * (2 * 2 * 576 + 160) + 3 * 2 * 2 * 16 * 49


def test_an_encoder_decoder_makes_the_keys_of_its_source_once() -> None:
    # queries and output 2·64 weights, keys and values 2·64, of 4 heads of 2
    cross = CrossShape(Weights(256, 128), Weights(256, 128), pair_products=16, token_bytes=32)
    both = ModelShape(
        decoder=((1, LayerShape(ATTENTION, cross, MLP)),), encoder=((1, LAYER),), head=Weights(160, 80)
    )
    costs = Costs(both)
    assert costs.work(Fed(ENCODE, positions=6)).nbytes == 384 + 768 + 32  # no head
    first = costs.work(Fed(DECODE, source=6, begins=True))
    later = costs.work(Fed(DECODE, past=1, source=6))
    assert first.nbytes == 384 + 256 + 768 + 160 + 256 + 16 * 2 * 6 + 8 * 2
    assert later.nbytes == first.nbytes - 256 + 8 * 2
    assert first.operations - later.operations == 2 * 128 * 6 - 2 * 16


def test_training_reads_weights_twice_and_writes_their_gradients() -> None:
    work = Costs(MODEL).work(Fed(StepKind.BACKWARD, positions=5, logits=5))
    assert work.nbytes == 3 * (2528 + 5 * 16)
    assert work.operations == 3 * (5 * (2 * 2 * 576 + 160) + 2 * 2 * 16 * 15)


def test_pieces_of_a_training_step_read_their_weights_anew() -> None:
    one, three = (Costs(MODEL).work(Fed(StepKind.BACKWARD, positions=7, logits=7, pieces=n)) for n in (1, 3))
    assert one.nbytes == 3 * (2528 + 7 * 16)
    # pieces of 3, 2 and 2 tokens: gradients of the later two are read before they are written
    assert three.nbytes == 3 * (2528 + 3 * 16) + 2 * 4 * (2528 + 2 * 16)
    # a piece does not see the ones before it: 6 + 3 + 3 pairs in place of 28
    assert one.operations - three.operations == 3 * 2 * 2 * 16 * (28 - 12)


def test_the_level_of_memory_of_a_training_step_is_that_of_one_pass() -> None:
    machine = calibration(rungs=((1024, 8e9), (4096, 1e9)))
    costs, fed = Costs(MODEL), Fed(StepKind.BACKWARD, positions=5, logits=5)
    assert costs.working_set(fed) == 2528 + 5 * 16  # and three times as much moves
    assert costs.told(fed, machine) == (7824, 39840, 978)  # 7824 bytes at 8 a ns
    assert costs.working_set(Fed(DECODE, past=9)) == 2864


def test_a_training_step_keeps_no_state_and_no_cache() -> None:
    shape = ModelShape(decoder=((2, LayerShape(mixer=MixerShape(Weights(400, 100), state=32))),))
    assert Costs(shape).work(Fed(StepKind.BACKWARD, positions=5)).nbytes == 3 * 2 * 400


def test_training_an_encoder_decoder_trains_both() -> None:
    encoder = LayerShape(replace(ATTENTION, causal=False, token_bytes=0), mlp=MLP)
    cross = CrossShape(Weights(256, 128), Weights(256, 128), pair_products=16, token_bytes=32)
    both = ModelShape(decoder=((1, LayerShape(ATTENTION, cross, MLP)),), encoder=((1, encoder),))
    work = Costs(both).work(Fed(StepKind.BACKWARD, positions=5, logits=5, source=6, begins=True))
    assert work.nbytes == 3 * ((384 + 768) + (384 + 512 + 768) + 32 * 6)
    reading = 6 * 2 * 576 + 2 * 16 * 36
    writing = 5 * 2 * (576 + 128 + 16 * 6) + 2 * 128 * 6 + 2 * 16 * 15
    assert work.operations == 3 * (reading + writing)


def test_mixed_precision_moves_as_much_and_multiplies_faster() -> None:
    machine = calibration(rungs=((64, 1e15),), rates=(("bfloat16", 4e12), ("float32", 1e12)))
    plain, mixed = (
        Costs(MODEL).told(Fed(StepKind.BACKWARD, positions=9_000, logits=9_000, mixed=m), machine)
        for m in (False, True)
    )
    assert plain[:2] == mixed[:2]
    assert plain[2] == pytest.approx(4 * mixed[2], rel=1e-6)
    slow = replace(machine, rates=(("bfloat16", 0.2e12), ("float32", 1e12)))  # as processors widen it
    assert Costs(MODEL).told(Fed(StepKind.BACKWARD, positions=9_000, logits=9_000, mixed=True), slow) == plain


# ---------------------------------------------------------------- several devices


def split_model() -> ModelShape:
    """The embedding and a layer on one device, a layer and the head on another."""
    first, second = (replace(LAYER, device=device) for device in ("cuda:0", "cuda:1"))
    return replace(MODEL, decoder=((1, first), (1, second)), embed_device="cuda:0", head_device="cuda:1")


def test_layers_on_several_devices_run_one_after_the_other() -> None:
    costs = Costs(split_model())
    assert costs.shape.devices == ("cuda:0", "cuda:1")
    fast = calibration(device="cuda:0", rungs=((1, 4e9),), rates=(("float32", 1e15),))
    slow = calibration(device="cuda:1", rungs=((1, 1e9),), rates=(("float32", 1e15),))
    told = costs.told_apart(Fed(DECODE, past=9), {"cuda:0": fast, "cuda:1": slow})
    # all in all as in one place: 2864 bytes; a layer 384 + 768 + 32 and a cache of 16 · 10: 1344
    # 1344 + 16 of the embedding at 4 bytes a ns, 1344 + 160 of the head at 1 byte a ns
    assert told == (2864, 3104, 340 + 1504)
    assert costs.told(Fed(DECODE, past=9), None) == (2864, 3104, 0)


def test_each_device_is_held_by_what_binds_it() -> None:
    fed = Fed(PREFILL, positions=5)
    moves = calibration(rungs=((1, 1e9),), rates=(("float32", 1e15),))
    computes = calibration(rungs=((1, 1e15),), rates=(("float32", 1e9),))
    told = Costs(split_model()).told_apart(fed, {"cuda:0": moves, "cuda:1": computes})
    # moving 1184 + 5 · (16 + 16); computing 5 · 2 · 576 + 160 of the head + 2 · 16 · 15 pairs
    assert told[2] == 1184 + 160 + (5760 + 160 + 480)


@pytest.mark.parametrize("rates", [None, (("bfloat16", 1e12),)])
def test_without_one_devices_calibration_there_is_no_floor(
    rates: tuple[tuple[str, float], ...] | None,
) -> None:
    known = {"cuda:0": calibration()}
    if rates is not None:
        known["cuda:1"] = calibration(rates=rates)
    assert Costs(split_model()).told_apart(Fed(DECODE, past=9), known) == (2864, 3104, 0)


def test_experts_that_were_read_are_shared_among_devices() -> None:
    experts = LayerShape(mlp=MlpShape(Weights(100, 50), experts=8, chosen=2, expert=Weights(200, 100)))
    layers = tuple((n, replace(experts, device=device)) for n, device in ((2, "cuda:0"), (1, "cuda:1")))
    costs = Costs(ModelShape(decoder=layers, embed_device="cuda:0", head_device="cuda:1"))
    machine = calibration(rungs=((1, 1e9),), rates=(("float32", 1e15),))
    told = costs.told_apart(Fed(DECODE, rows=2, routed=9), {"cuda:0": machine, "cuda:1": machine})
    assert told[0] == told[2] == 3 * 100 + 9 * 200


def test_a_draft_model_makes_a_step_of_its_own_for_each_drafted_token() -> None:
    small = DraftShape(decoder=((1, LAYER),), head=Weights(160, 80))
    costs = Costs(replace(MODEL, draft=small))
    fed = Fed(VERIFY, positions=4, past=9, logits=4, drafted=3)
    own, draft = Costs(MODEL).work(fed), Costs(small.alone()).work(Fed(DECODE, past=10))
    assert costs.work(fed) == own + draft.times(3)
    assert costs.parts(fed)[Part.DRAFT] == draft.times(3)
    machine = calibration()
    nbytes, operations, floor_ns = costs.told(fed, machine)
    assert (nbytes, operations) == (own.nbytes + 3 * draft.nbytes, own.operations + 3 * draft.operations)
    assert floor_ns == machine.floor_ns(own.nbytes, own.operations, 1e12) + 3 * machine.floor_ns(
        draft.nbytes, draft.operations, 1e12
    )


def test_looked_up_proposals_cost_nothing_before_the_step() -> None:
    fed = Fed(VERIFY, positions=4, past=9, logits=4, drafted=3)
    assert Costs(MODEL).parts(fed)[Part.DRAFT] == Work()


def test_without_a_calibration_there_is_no_floor_but_work() -> None:
    assert Costs(MODEL).told(Fed(DECODE, past=9), None) == (2864, 3104, 0)


def test_the_longer_of_moving_and_computing_is_the_floor() -> None:
    machine = calibration(rungs=((MIB, 10e9),))
    assert machine.floor_ns(10e6, 1e6, 1e12) == 1_000_000  # 10 MB at 10 GB/s
    assert machine.floor_ns(10e6, 2e9, 1e12) == 2_000_000  # 2 GFLOP at 1 TFLOP/s
    assert machine.is_memory_bound(10e6, 1e6, 1e12)
    assert not machine.is_memory_bound(10e6, 2e9, 1e12)


def test_the_fastest_of_the_ways_in_which_a_model_multiplies_counts() -> None:
    machine, fed = calibration(rungs=((MIB, 1e15),)), Fed(PREFILL, positions=10_000)
    floors = [
        Costs(replace(MODEL, computes=kinds)).told(fed, machine)[2]
        for kinds in (("float32",), ("float32", "int8"), ("int8",), ("float8",))
    ]
    assert floors[0] == pytest.approx(3 * floors[1], rel=1e-3)
    assert floors[1] == floors[2]
    assert floors[3] == 0  # nobody measured such products
    newer = replace(machine, rates=(*machine.rates, ("float8", 6e12)))
    narrow = Costs(replace(MODEL, computes=("float8",))).told(fed, newer)[2]
    assert floors[2] == pytest.approx(2 * narrow, rel=1e-3)


def test_shares() -> None:
    assert share_of_floor(250, 1000) == 0.25
    assert share_of_floor(0, 1000) is None
    assert share_of_floor(250, 0) is None
    machine = calibration(rungs=((MIB, 10e9),))
    assert bandwidth_utilization(10e6, 2_000_000, machine) == pytest.approx(0.5)
    assert bandwidth_utilization(10e6, 0, machine) is None
    assert bandwidth_utilization(0, 1000, machine) is None
    assert Work(200, 100).intensity == 0.5
    assert Work(0, 100).intensity is None


def test_all_weights_of_a_shape() -> None:
    experts = MlpShape(Weights(100, 50), experts=8, chosen=2, expert=Weights(200, 100))
    shape = ModelShape(decoder=((3, LayerShape(ATTENTION, mlp=experts)),), head=Weights(160, 80))
    assert shape.products == 3 * (192 + 50 + 800) + 80
    assert shape.weight_bytes == 3 * (384 + 100 + 1600) + 160
    assert shape.token_bytes == 48
