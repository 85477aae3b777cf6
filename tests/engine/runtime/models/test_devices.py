"""A device that torch cannot use says why: where it was asked for, and where "auto" goes without it."""

from collections.abc import Iterator

import pytest
import torch

from engine.runtime import telemetry
from engine.runtime.models import devices, memory
from engine.runtime.models.catalogue import catalogue
from engine.runtime.models.devices import pick_device, unused_gpu
from engine.runtime.models.errors import ModelError
from engine.runtime.models.fitting import Room

NO_DRIVER = (
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from"
    " http://www.nvidia.com/Download/index.aspx"
)
TOO_OLD = (
    "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading"
    " and installing a new version"
)


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A torch that is built for CUDA, on a machine where it does not start."""

    def init() -> None:
        raise RuntimeError(request.param)

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(devices, "accelerators", lambda: ())


@pytest.mark.parametrize("broken", [NO_DRIVER], indirect=True)
def test_without_a_driver_the_cpu_is_meant_and_whoever_asks_for_more_hears_why(broken: None) -> None:
    assert unused_gpu() == ""
    assert pick_device("auto").type == "cpu"
    with pytest.raises(ModelError, match="Found no NVIDIA driver on your system") as refused:
        pick_device("cuda:0")
    assert refused.value.sentence.endswith("choose auto or one of cpu.")


@pytest.mark.parametrize("broken", [TOO_OLD], indirect=True)
def test_a_driver_that_is_too_old_is_told_even_if_nobody_asked(broken: None) -> None:
    assert "too old (found version 11040)" in unused_gpu()
    assert "update its driver" in unused_gpu()
    with pytest.raises(ModelError, match="too old"):
        pick_device("cuda")


def test_a_torch_for_the_cpu_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(devices, "accelerators", lambda: ())
    assert unused_gpu() == ""
    with pytest.raises(ModelError, match="built without CUDA"):
        pick_device("cuda:1")


BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA kernel errors might be reported later"


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Two devices that torch counts; whatever is asked of the first one fails. Holds whom it was tried on."""
    tried: list[int] = []

    def synchronize(index: int) -> None:
        tried.append(index)
        if not index:
            raise torch.AcceleratorError(BUSY)

    monkeypatch.setattr(memory, "_counted", lambda: ("cuda:0", "cuda:1"))
    monkeypatch.setattr(torch.accelerator, "synchronize", synchronize)
    memory.why_silent.cache_clear()
    yield tried
    memory.why_silent.cache_clear()


def test_a_device_that_does_not_answer_is_not_used_and_says_why(counted: list[int]) -> None:
    assert memory.accelerators() == ("cuda:1",)
    assert pick_device("auto") == torch.device("cuda:1")
    told = unused_gpu()
    assert told.startswith("cuda:0 is not used, since it does not answer (CUDA error: CUDA-capable device(s)")
    assert "restart the machine" in told
    assert "\n" not in told
    for name in ("cuda", "cuda:0"):
        with pytest.raises(ModelError, match="does not answer") as refused:
            pick_device(name)
        assert refused.value.sentence.endswith("or choose one of cuda:1, cpu.")
    assert counted == [0, 1]  # once each


def test_memory_of_all_devices_of_a_model_is_told_together(monkeypatch: pytest.MonkeyPatch) -> None:
    forgotten: list[int] = []
    for place, name in enumerate(("memory_allocated", "memory_reserved", "max_memory_allocated")):
        monkeypatch.setattr(
            torch.accelerator, name, lambda index, of=place: 100 * (of + 1) + index, raising=False
        )
    monkeypatch.setattr(torch.accelerator, "reset_peak_memory_stats", forgotten.append)
    assert memory.device_memory([]) == memory.DeviceMemory(None, None, None)  # absent, not zero
    assert memory.device_memory(["xpu:1"]) == memory.DeviceMemory(101, 201, 301)
    assert memory.device_memory(["cuda:0", "cuda:3"]) == memory.DeviceMemory(203, 403, 603)
    memory.forget_peaks(["cuda:0", "cuda:3"])
    assert forgotten == [0, 3]


def test_of_a_device_that_shares_the_memory_of_the_host_no_peak_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 7)
    monkeypatch.setattr(torch.mps, "driver_allocated_memory", lambda: 9)
    memory.forget_peaks(["mps:0"])  # there are none to forget
    assert memory.device_memory(["mps:0"]) == memory.DeviceMemory(7, 9, None)


def test_an_engine_starts_and_lists_its_models_beside_a_device_that_does_not_answer(
    counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_counted", lambda: ("cuda:0",))
    assert [facts.device for facts in telemetry.describe_engine().devices] == ["cpu"]
    room = Room.now()
    assert [device for device, _ in room.free] == ["cpu"]
    assert len(catalogue(room)) > 1
