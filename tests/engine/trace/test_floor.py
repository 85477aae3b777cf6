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
