"""A load that is given up, or fails half-way, lets go of all that it took, and the next one works."""

import gc
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

from engine.protocol import Progress
from engine.runtime.models.background import Abandoned, Background, Silence
from engine.runtime.models.errors import LoadGivenUp, ModelError
from engine.runtime.models.loading import LoadedModel, load_model
from engine.runtime.models.progress import TELL_EVERY_NS, LoadReport


@pytest.fixture(autouse=True, scope="module")
def what_was_there_before_is_not_searched() -> Iterator[None]:
    """The million objects of torch and transformers, in which `tensor_bytes` would look every time."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def tensor_bytes() -> int:
    """Memory of all tensors that are alive and were made by these tests."""
    gc.collect()
    held = {
        storage.data_ptr(): storage.nbytes()
        for thing in gc.get_objects()
        if issubclass(type(thing), torch.Tensor) and not isinstance(thing, FakeTensor)  # the compiler's
        if thing.device.type == "cpu"
        for storage in (thing.untyped_storage(),)
    }
    return sum(held.values())


def is_free_soon(before: int) -> bool:
    """Whether no more memory is held than before, once the threads that read weights have put down their last ones."""
    end = time.monotonic() + 5
    while tensor_bytes() != before and time.monotonic() < end:
        time.sleep(0.05)
    return tensor_bytes() == before


class Impatient:
    """Gives a load up when it has come so far, and notes what it took until then."""

    def __init__(self, activity: str, fraction: float) -> None:
        self._until = (activity, fraction)
        self._is_over = False
        self.taken = 0
        clock = itertools.count(0, TELL_EVERY_NS).__next__  # so that nothing is left out
        self.report = LoadReport(self._hear, lambda: self._is_over, clock)

    def _hear(self, progress: Progress) -> None:
        activity, fraction = self._until
        if progress.activity == activity and (progress.fraction or 0.0) >= fraction:
            self.taken = tensor_bytes()
            self._is_over = True


def given_up(model: str, impatient: Impatient) -> None:
    with pytest.raises(LoadGivenUp):
        load_model(model, "cpu", None, impatient.report)


def test_a_preset_given_up_half_way_leaves_no_tensor() -> None:
    before = tensor_bytes()
    impatient = Impatient("making random weights", 0.4)
    given_up("llama-30m", impatient)
    assert impatient.taken - before > 4 * 30_000_000, "it had been allocated"
    assert is_free_soon(before)


def test_a_checkpoint_given_up_half_way_leaves_no_tensor(
    checkpoint: Path, load: Callable[..., LoadedModel]
) -> None:
    before = tensor_bytes()
    impatient = Impatient("reading weights", 0.5)
    given_up(str(checkpoint), impatient)
    assert impatient.taken > before, "some had been read"
    assert is_free_soon(before)
    assert load(checkpoint).name == "small-llama", "and the next load works"


def test_a_load_that_fails_leaves_no_tensor(
    checkpoint: Path, refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tensor_bytes()

    def fail(*_: object) -> None:
        raise ModelError("It does not fit.")

    with monkeypatch.context() as patch:
        patch.setattr("engine.runtime.models.checkpoint._check_report", fail)
        refusal(checkpoint)
    assert is_free_soon(before)


def test_a_load_can_be_given_up_before_it_begins(checkpoint: Path) -> None:
    with pytest.raises(LoadGivenUp):
        load_model(str(checkpoint), "cpu", None, LoadReport(is_given_up=lambda: True))


def test_work_that_nobody_waits_for_ends_when_something_comes() -> None:
    ended: list[BaseException] = []

    def work(background: Background[None]) -> None:
        try:
            while True:
                background.came()
        except Abandoned as error:
            ended.append(error)
            raise

    def give_up() -> None:
        raise LoadGivenUp

    with pytest.raises(LoadGivenUp):
        Background[None](work, 10.0).wait(give_up)
    while not ended:
        pass


def test_work_that_says_nothing_is_not_waited_for() -> None:
    waiting = Event()
    looked: list[None] = []
    with pytest.raises(Silence):
        Background[bool](lambda _: waiting.wait(30), 0.2).wait(lambda: looked.append(None))
    waiting.set()
    assert len(looked) > 1


def test_what_work_returns_and_raises_comes_through() -> None:
    assert Background[int](lambda _: 7, 1.0).wait(lambda: None) == 7
    with pytest.raises(ZeroDivisionError):
        Background[float](lambda _: 1 / 0, 1.0).wait(lambda: None)
