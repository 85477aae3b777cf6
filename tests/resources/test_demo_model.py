"""The demo models that ship with the program: what lies there, what it can do, and how it was made."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_outputs import CausalLMOutput

from resources.demo_model import corpus, distil
from resources.demo_model.data import (
    HeldOut,
    Text,
    held_out_documents,
    plain_ids,
    unseen_text,
    with_lone_spaces,
    words_after_space,
)
from resources.demo_model.distil import KNOWN, LONG, UNSEEN, Lessons
from resources.demo_model.evaluate import (
    BEGIN_OF_TABLE,
    CARD,
    END_OF_TABLE,
    FIGURES_FILE,
    PART,
    Acceptance,
    Figures,
    card_table,
    evaluate,
    speculate,
)
from resources.demo_model.muon import Muon
from resources.demo_model.settings import CONTEXT, END, VOCABULARY, Size
from resources.demo_model.train import (
    CYCLE,
    Plan,
    Training,
    following,
    next_token_loss,
    rate,
    reading,
    write_log,
)

HERE = Path(corpus.__file__).parent
MOST_BYTES = 16_000_000
TINY = Size(hidden=16, mlp=32, layers=1, heads=2, key_heads=1)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(min(2, before))
    yield
    torch.set_num_threads(before)


def test_everything_shipped_is_small() -> None:
    files = [file for file in HERE.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert sum(file.stat().st_size for file in files) <= MOST_BYTES
    assert (HERE / "training.jsonl").stat().st_size <= 100_000


@pytest.mark.parametrize(
    ("name", "fewest", "most"), [("large", 5_000_000, 8_000_000), ("draft", 0, 1_000_000)]
)
def test_a_model_has_its_size_and_lies_there_in_16_bit(name: str, fewest: int, most: int) -> None:
    with safe_open(HERE / name / "model.safetensors", framework="pt") as weights:
        tensors = [weights.get_tensor(key) for key in weights.keys()]  # noqa: SIM118 - not a mapping
    assert {tensor.dtype for tensor in tensors} == {torch.float16}
    assert fewest <= sum(tensor.numel() for tensor in tensors) <= most
    assert all(bool(tensor.isfinite().all()) for tensor in tensors)


def test_both_have_the_same_tokenizer() -> None:
    large, draft = (HERE / name / "tokenizer.json" for name in ("large", "draft"))
    assert large.read_bytes() == draft.read_bytes()
    tokenizer = AutoTokenizer.from_pretrained(HERE / "draft")
    assert len(tokenizer) == VOCABULARY
    assert tokenizer.model_max_length == CONTEXT
    assert tokenizer.chat_template is None
    assert tokenizer.eos_token == END
    text = "def f(x: int) -> str:\n    return 'ünï 示波器'  # \t\n"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("name", ["large", "draft"])
def test_transformers_alone_loads_and_runs_a_model(name: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(HERE / name)
    model = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32).eval()
    assert model.config.max_position_embeddings == CONTEXT
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    inputs = tokenizer("import os\nimport ", return_tensors="pt")
    with torch.inference_mode():
        ids = model.generate(**inputs, max_new_tokens=3, do_sample=False)
    assert tokenizer.decode(ids[0], skip_special_tokens=True).startswith("import os\nimport ")


def test_the_figures_are_what_the_models_reach() -> None:
    """On a part of the held-out text; `evaluate --write` kept the figures of the same part."""
    found = asdict(evaluate(*PART))
    kept = json.loads(FIGURES_FILE.read_text())["part"]
    assert found["large_bits_per_byte"] <= 1.6
    assert found["acceptance"] >= 0.45  # of a few prompts: the whole has to reach a half
    for name, figure in kept.items():  # another processor's rounding may turn a greedy choice
        assert found[name] == pytest.approx(figure, rel=0.05 if "bits" not in name else 0.002), name


def test_the_card_quotes_the_figures() -> None:
    card = CARD.read_text()
    whole = Figures(**json.loads(FIGURES_FILE.read_text())["whole"])
    log = [json.loads(row) for row in (HERE / "training.jsonl").read_text().splitlines()]
    assert whole.large_bits_per_byte <= 1.6
    assert whole.acceptance >= 0.5
    assert BEGIN_OF_TABLE + card_table(whole, log) + END_OF_TABLE in card
    assert all(f"`{module}`" in card for module in corpus.HELD_OUT)


class Counting:
    """Stands for a model that continues any ids with the next number, modulo `period`."""

    def __init__(self, period: int) -> None:
        self.period = period

    def generate(self, rows: torch.Tensor, max_new_tokens: int, **_: object) -> torch.Tensor:
        new = (rows[:, -1:] + torch.arange(1, max_new_tokens + 1)) % self.period
        return torch.cat([rows, new], dim=1)

    def __call__(self, input_ids: torch.Tensor, use_cache: bool) -> CausalLMOutput:
        return CausalLMOutput(logits=functional.one_hot((input_ids + 1) % self.period, 1_000))


def test_acceptance_counts_what_agrees_up_to_the_first_difference() -> None:
    same = speculate(Counting(1_000), Counting(1_000), [[1, 2, 3], [7, 8, 9]], new_tokens=20)
    assert same == Acceptance(drafted=32, accepted=32, steps=8)
    # the large model: 8 9 10 11 ..., the draft model: 8 9, but never a number over 9
    other = speculate(Counting(1_000), Counting(10), [[5, 6, 7], [15, 16, 17]], new_tokens=8)
    # the first: a step at 0, at 3 and 4; the second: one at each of 0, 1, 2, 3 and 4
    assert other.accepted == 2
    assert other.steps == 3 + 5


def test_a_text_ends_with_end() -> None:
    """The large model stops at 999 -> END, too, and nothing is drafted behind it."""
    found = speculate(Counting(1_000), Counting(1_000), [[993, 994, 995]], new_tokens=20)
    assert found == Acceptance(drafted=4, accepted=4, steps=1)  # 996 997 998 999, and END of the large model


def test_the_held_out_text_is_of_the_held_out_modules() -> None:
    documents = held_out_documents()
    assert {corpus.is_held_out(name) for name in documents} == {True}
    assert 250_000 <= sum(map(len, documents.values())) <= 450_000


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A standard library of a few files."""
    files = {
        "textwrap.py": "def fill(text):\n    return secret_of_textwrap(text, width=70, more=None) or text * 2\n",
        "test/test_textwrap.py": "def test_fill():\n    assert secret_test_of_textwrap\n" * 9,
        "shelve.py": "class Shelf:\n    secret_of_shelve = 1\n",
        "copied.py": "def fill(text):\n    return secret_of_textwrap(text, width=70, more=None) or text * 2\n",
        "kept.py": 'def kept(a):\n    """'
        + "Keeps what it is given. " * 12
        + '"""\n    return learned_of(a)\n',
        "broken.py": "def broken(:\n    never_parsed = [1, 2, 3]  # but text all the same, and long enough to learn\n",
        "pydoc_data/topics.py": "topics = {'a': 'The statement of a.', 'b': 'What b means.'}\n",
        "site-packages/other.py": "secret_of_somebody_else = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_held_out_modules_are_not_learned_nor_their_copies(library: Path) -> None:
    found = corpus.read_corpus([library])
    assert sorted(found.held_out) == ["shelve.py", "textwrap.py"]
    assert "secret" not in "".join(found.train)
    assert "learned_of" in "".join(found.train)
    assert "never_parsed" in "".join(found.train)


def test_every_piece_is_learned_once_and_documentation_once_more(library: Path) -> None:
    once, twice = corpus.read_corpus([library]), corpus.read_corpus([library, library])
    assert once == twice
    text = "".join(once.train)
    assert text.count("learned_of") == 1
    assert text.count("Keeps what it is given. ") == 2 * 12
    assert {"The statement of a.", "What b means."} <= set(once.train)


def test_the_pieces_of_a_file_are_the_file() -> None:
    text = Path(corpus.__file__).read_text()
    assert "".join(corpus.split(text)) == text
    assert len(corpus.split(text)) > 5


def test_the_manual_is_learned_but_for_chapters_on_held_out_modules(library: Path, tmp_path: Path) -> None:
    manual = tmp_path / "manual"
    chapters = {
        "library/os.path.rst.txt": "Use :func:`~os.path.join` or :class:`a path <pathlib.Path>`, as in ``a:b``.\n",
        "library/textwrap.rst.txt": "secret_of_textwrap\n",
        "whatsnew/changelog.rst.txt": "secret_list\n",
    }
    for name, text in chapters.items():
        (manual / name).parent.mkdir(parents=True, exist_ok=True)
        (manual / name).write_text(text)
    found = corpus.read_corpus([library], manual)
    assert "Use os.path.join or a path, as in ``a:b``.\n" in found.train
    assert "secret" not in "".join(found.train)


def test_some_words_stand_behind_a_space_of_their_own() -> None:
    tokenizer = AutoTokenizer.from_pretrained(HERE / "large")
    space, words = words_after_space(tokenizer)
    text = "for each of the words that are in the text, return the first one" * 200
    ids = np.array(plain_ids(tokenizer, text), np.uint16)
    longer = with_lone_spaces(ids, space, words, np.random.default_rng(0))
    assert tokenizer.decode(longer) == text
    assert 0.01 < (longer == space).mean() < 0.03
    assert len(longer) - len(ids) == (longer == space).sum() - (ids == space).sum()


def text_of_numbers(count: int) -> Text:
    return Text(np.random.default_rng(0).integers(0, VOCABULARY, count).astype(np.uint16))


def test_an_epoch_sees_every_place_once() -> None:
    text = Text(np.arange(4_000, dtype=np.uint16))
    seen = torch.cat([text.batch(step, 64, 16)[:, :-1].flatten() for step in range(62)])
    assert len(seen.unique()) == len(seen) == 62 * 64
    assert not torch.equal(text.batch(0, 64, 16), text.batch(62, 64, 16))


def tiny_training(work: Path) -> Training:
    work.mkdir(exist_ok=True)
    held_out = HeldOut([[1, 2, 3]], 9)
    plan = Plan("tiny", TINY, 7, batch=8192)
    return Training(plan, work, reading(text_of_numbers(20_000), plan), held_out)


def test_a_training_that_was_interrupted_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = tiny_training(tmp_path / "whole")
    batch = text_of_numbers(20_000).batch(0, 512, 128)
    before = next_token_loss(whole.model, batch).item()
    whole.run()
    assert next_token_loss(whole.model, batch).item() < before
    for until in (3, 6, None):
        part = tiny_training(tmp_path / "parts")
        part.run(until)
    assert part.step == whole.step == 7
    for name, weights in whole.model.state_dict().items():
        assert torch.equal(weights, part.model.state_dict()[name]), name


def test_what_was_logged_after_the_last_state_is_logged_once(tmp_path: Path) -> None:
    tiny_training(tmp_path).run(2)
    (tmp_path / "tiny.jsonl").write_text('{"tokens": 16384}\n{"tokens": 32768}\n')
    tiny_training(tmp_path)
    assert (tmp_path / "tiny.jsonl").read_text() == '{"tokens": 16384}\n'


def test_a_second_go_begins_with_what_the_first_has_made(tmp_path: Path) -> None:
    first = tiny_training(tmp_path)
    first.run()
    plan = Plan("tiny", TINY, 3, batch=8192, go=2)
    again = Training(plan, tmp_path, reading(text_of_numbers(20_000), plan), first.held_out)
    assert (again.step, again.tokens) == (0, 7 * 8192)
    for name, weights in first.model.state_dict().items():
        assert torch.equal(weights, again.model.state_dict()[name]), name
    again.run(1)
    assert Training(plan, tmp_path, again.course, again.held_out).step == 1  # and resumes as the first does
    assert again.tokens == 8 * 8192


def test_the_log_names_the_model_of_each_row(tmp_path: Path) -> None:
    (tmp_path / "draft.jsonl").write_text('{"step": 2}\n')
    write_log(tmp_path, tmp_path / "both.jsonl")
    assert json.loads((tmp_path / "both.jsonl").read_text()) == {"model": "draft", "step": 2}


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    rates = [rate(share / 100) for share in range(101)]
    assert 0 < rates[0] < rates[1] < rates[2] == rates[35] == 1.0
    assert rates[35] > rates[60] > rates[99] > rates[100] == 0.0


TINY_KIND = distil.Kind("tiny", length=24, given=18, rows=2, ways=(distil.GREEDY, distil.BY_CHANCE))


@pytest.fixture
def taught(tmp_path: Path) -> tuple[Any, Text, Lessons]:
    """A teacher, the text that it knows, and lessons of 24 tokens, the last 6 of each written by it."""
    teacher, text = tiny_training(tmp_path).model.eval(), text_of_numbers(900)
    return teacher, text, distil.lessons(teacher, text, tmp_path, TINY_KIND, tokens=400)


def test_a_lesson_is_what_the_large_model_makes_of_a_piece_of_the_text(
    tmp_path: Path, taught: tuple[Any, Text, Lessons]
) -> None:
    teacher, text, lessons = taught
    assert lessons.ids.shape == (18, 24)  # whole groups of sequences
    assert (lessons.ids[::2, 0] == 0).all()  # half of them begin as prompts do
    pieces = np.lib.stride_tricks.sliding_window_view(text.ids, 17).tolist()
    assert all(row[1:18].tolist() in pieces for row in lessons.ids)
    begun = torch.from_numpy(lessons.ids[:2, :18].astype(np.int64))  # the first way is greedy
    written = teacher.generate(
        begun, attention_mask=torch.ones_like(begun), max_new_tokens=6, min_new_tokens=6, do_sample=False
    )
    assert written.tolist() == lessons.ids[:2].tolist()
    logits = teacher(input_ids=torch.from_numpy(lessons.ids.astype(np.int64))).logits
    thought = logits.gather(-1, torch.from_numpy(lessons.likeliest.astype(np.int64))).detach()
    assert np.allclose(lessons.logits, thought, atol=1e-2)
    assert np.allclose(lessons.logits, logits.topk(distil.KEPT).values.detach(), atol=1e-2)
    again = distil.lessons(None, text, tmp_path, TINY_KIND, tokens=400)  # kept, not written again
    assert np.array_equal(again.ids, lessons.ids)


def test_a_model_is_at_no_distance_from_itself_but_for_what_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, taught: tuple[Any, Text, Lessons]
) -> None:
    teacher, text, few = taught
    monkeypatch.setattr(distil, "KEPT", VOCABULARY)
    whole = distil.lessons(teacher, text, tmp_path, replace(TINY_KIND, name="whole"), tokens=400)
    rows = whole.batch(0, 4)
    assert distil.distillation_loss(teacher, whole, rows).item() == pytest.approx(0.0, abs=1e-4)
    assert distil.distillation_loss(teacher, few, rows).item() > 1.0  # an untrained one spreads over all


def test_places_in_a_given_beginning_weigh_less(taught: tuple[Any, Text, Lessons]) -> None:
    teacher, _, lessons = taught
    rows = np.arange(2)
    inside = replace(lessons, logits=lessons.logits.copy())
    inside.logits[:, 3] += np.linspace(0, 3, distil.KEPT, dtype=np.float16)  # the teacher thought otherwise
    behind = replace(lessons, logits=lessons.logits.copy())
    behind.logits[:, 20] += np.linspace(0, 3, distil.KEPT, dtype=np.float16)
    plain, less, more = (
        distil.distillation_loss(teacher, each, rows).item() for each in (lessons, inside, behind)
    )
    assert less - plain == pytest.approx((more - plain) * distil.GIVEN_WEIGHT, rel=0.2)


def test_an_epoch_sees_every_lesson_once(taught: tuple[Any, Text, Lessons]) -> None:
    lessons = taught[2]
    seen = np.concatenate([lessons.batch(step, 6) for step in range(3)])
    assert sorted(seen) == list(range(18))
    assert lessons.batch(0, 18).tolist() != lessons.batch(1, 18).tolist()


def test_following_a_teacher_comes_nearer_to_it(tmp_path: Path, taught: tuple[Any, Text, Lessons]) -> None:
    lessons, rows = taught[2], np.arange(18)
    plan = Plan("student", TINY, 40, batch=1024)
    course = following({KNOWN: lessons, UNSEEN: lessons, LONG: lessons}, plan)
    student = Training(plan, tmp_path, course, HeldOut([[1, 2]], 9))
    before = distil.distillation_loss(student.model, lessons, rows).item()
    student.run()
    assert distil.distillation_loss(student.model, lessons, rows).item() < before - 0.5


def test_lessons_of_all_kinds_take_turns_and_none_is_left_out(taught: tuple[Any, Text, Lessons]) -> None:
    lessons = taught[2]
    kinds = {kind: replace(lessons, ids=lessons.ids.copy()) for kind in (KNOWN, UNSEEN, LONG)}
    course = following(kinds, Plan("student", TINY, 99, batch=1024))
    seen: dict[distil.Kind, list[int]] = {kind: [] for kind in kinds}
    for step in range(5 * len(CYCLE)):
        for part in course(step):
            kind = next(k for k, each in kinds.items() if each is part.keywords["lessons"])  # type: ignore[attr-defined]
            seen[kind] += part.keywords["rows"].tolist()  # type: ignore[attr-defined]
    assert [len(rows) for rows in seen.values()] == [4 * 20, 4 * 35, 5]
    assert len(set(seen[KNOWN][:16])) == 16  # an epoch has no double


def test_unseen_text_is_of_other_sources_and_read_once(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(HERE / "large")
    source = tmp_path / "package"
    (source / "tests").mkdir(parents=True)
    for name, text in (
        ("one.py", "x = 1\n" * 900),
        ("tests/two.py", "y = 2\n" * 900),
        ("three.py", "z = 3\n"),
    ):
        (source / name).write_text(text)
    text = unseen_text(tmp_path, tokenizer, [source])
    assert tokenizer.decode(text.ids, skip_special_tokens=True) == "x = 1\n" * 900
    assert np.array_equal(unseen_text(tmp_path, tokenizer, []).ids, text.ids)


@pytest.mark.parametrize("shape", [(24, 24), (16, 40), (40, 16)])
def test_muon_steps_as_the_one_of_torch(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    start, gradients = torch.randn(shape), [torch.randn(shape) for _ in range(3)]
    found = []
    for kind in (Muon, torch.optim.Muon):
        matrix = torch.nn.Parameter(start.clone())
        optimizer = kind([matrix], lr=0.1, weight_decay=0.02)
        for gradient in gradients:
            matrix.grad = gradient.clone()
            optimizer.step()
        found.append(matrix.detach())
    moved = (found[1] - start).norm()
    assert (found[0] - found[1]).norm() < 0.02 * moved  # that one multiplies in bfloat16
