"""Models whose layers are split over devices by accelerate: where the layers are, and what crossing costs.

accelerate gives modules hooks that move their input to their device before they run and, where weights are kept
elsewhere (host memory, disk), bring those along for the call.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from accelerate import dispatch_model, infer_auto_device_map
from accelerate.utils import get_balanced_memory
from torch import nn
from transformers import PreTrainedModel

from engine.runtime.anatomy import Anatomy
from engine.runtime.clocks import StampRecorder
from engine.trace.phases import Phase

#: In place of a device: a module whose parts are on more than one.
SEVERAL = "several devices"


def spread(model: PreTrainedModel, memory: "dict[int | str, int] | None" = None) -> PreTrainedModel:
    """Split a model that is on the CPU over all accelerators, what is left over stays. `memory`: bytes a device."""
    whole_layers = list(model._no_split_modules or ())
    room = get_balanced_memory(model, memory, no_split_module_classes=whole_layers)
    places = infer_auto_device_map(model, room, no_split_module_classes=whole_layers)
    dispatched: PreTrainedModel = dispatch_model(
        model, places, skip_keys=getattr(model, "_skip_keys_device_placement", None)
    )
    return dispatched


def places_of(model: nn.Module) -> dict[str, str]:
    """Device by path of a module: what accelerate decided; empty for a model that is in one place."""
    places = {path: _device_name(place) for path, place in getattr(model, "hf_device_map", {}).items()}
    return places if len(set(places.values())) > 1 else {}


def _device_name(place: "int | str | torch.device") -> str:
    if isinstance(place, int):
        accelerator = torch.accelerator.current_accelerator()
        return f"{accelerator.type if accelerator else 'cuda'}:{place}"
    return str(place)


def devices_of(model: nn.Module) -> list[torch.device]:
    """The accelerators that parts of a model run on, where it is split; weights that wait elsewhere run on one, too."""
    hooks = [hook for module in model.modules() for hook in _aligning(module)]
    names = dict.fromkeys(_device_name(hook.execution_device) for hook in hooks)
    return [device for device in map(torch.device, names) if device.type not in ("cpu", "meta")]


def placement_of(model: nn.Module, anatomy: Anatomy) -> tuple[tuple[str, int], ...]:
    """(device, how many layers it has), in the order in which layers run; empty for a model that is in one place."""
    places = places_of(model)
    if not places:
        return ()
    return tuple(Counter(place_of(places, block.name) for block in anatomy.blocks).items())


def place_of(places: Mapping[str, str], path: str) -> str:
    """The device of a module: its own entry's or, above it, its owner's; SEVERAL for one that is itself split."""
    while path not in places and path:
        path = path.rpartition(".")[0]
    return places.get(path, SEVERAL)


def why_no_floor(devices: Sequence[str]) -> str:
    """What of parts on these devices nobody measured, so that their steps have no floor; "" for nothing.

    Beside accelerators, weights that are kept in host memory are brought along for each step, as they are from disk.
    """
    if SEVERAL in devices:
        return "a layer is itself split over several devices, so what each of them has to do is not known"
    if "disk" in devices:
        return "weights that wait on disk are brought along for each step, at a rate that was not measured"
    if "cpu" in devices and len(set(devices)) > 1:
        return "weights that wait in host memory are brought along for each step, at a rate that was not measured"
    return ""


def time_crossings(model: nn.Module, recorder: StampRecorder) -> int:
    """Let what moves between devices stamp COMMUNICATE spans, for good; returns how many hooks do.

    Only where something can cross: hooks that bring weights along, and those below a module whose parts are on
    several devices. The hooks are the model's own, so nothing else is stamped. Call it once a model.
    """
    code = recorder.define(Phase.COMMUNICATE, -1, "between devices")
    crossing = {id(hook): hook for hook in _crossing_hooks(model)}
    for hook in crossing.values():
        hook.pre_forward = _timed(hook.pre_forward, recorder, code, partial(_where_it_runs, hook))
        hook.post_forward = _timed(hook.post_forward, recorder, code, partial(_where_it_goes, hook))
    return len(crossing)


def _crossing_hooks(module: nn.Module, below_several: bool = False) -> "list[Any]":
    hook = getattr(module, "_hf_hook", None)
    several = len({str(each.execution_device) for part in module.modules() for each in _aligning(part)}) > 1
    crosses = several or below_several or any(each.offload for each in _aligning(module))
    found = [hook] if hook is not None and crosses else []
    for child in module.children():
        found += _crossing_hooks(child, several)
    return found


def _aligning(module: nn.Module) -> "list[Any]":
    """The hooks of a module that know a device."""
    return _knowing(getattr(module, "_hf_hook", None))


def _knowing(hook: Any) -> "list[Any]":
    hooks = getattr(hook, "hooks", (hook,))  # several in one
    return [each for each in hooks if getattr(each, "execution_device", None) is not None]


def _where_it_runs(hook: Any) -> "str | None":
    """The device to which a hook moves its module's input; None where it moves nothing."""
    return next((_device_name(each.execution_device) for each in reversed(_knowing(hook))), None)


def _where_it_goes(hook: Any) -> "str | None":
    """The device to which a hook moves its module's output; None where that stays."""
    back = [each for each in _knowing(hook) if each.io_same_device and each.input_device is not None]
    return _device_name(back[0].input_device) if back else None


def _timed(
    move: Callable[..., Any], recorder: StampRecorder, code: int, where: "Callable[[], str | None]"
) -> Callable[..., Any]:
    """A span around a move, which begins on the device that worked so far and ends on the one that works then."""
    begin, end, enter = recorder.begin, recorder.end, recorder.enter

    def timed(*args: Any, **kwargs: Any) -> Any:
        begin(code)
        result = move(*args, **kwargs)
        device = where()
        if device is not None:
            enter(device)
        end()
        return result

    return timed
