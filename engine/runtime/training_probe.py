"""One training step on the text of a generation, measured and thrown away: what inference leaves out.

Forward, loss, backward, with the parameters untouched and every gradient dropped afterwards. It shows why the term for
the backward pass in textbook formulas of the computation cycle (T = T_forward + T_backward + T_update) is absent from
inference, and what mixed precision and gradient accumulation do to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional

from engine.protocol import ProbeTraining
from engine.runtime.clocks import wait_for_device
from engine.runtime.live import LiveModel
from engine.trace.phases import Phase

FEWEST = 2  # tokens: one to read and one to predict


class ProbeRefused(Exception):
    """A training step cannot be made here. The message is one sentence for people; nothing was changed."""


def training_step(
    live: LiveModel, ids: list[int], prompt: list[int], command: ProbeTraining
) -> tuple[bytes, bytes]:
    """Codes and stamps of one training step on `ids` (`prompt`: what an encoder reads). Raises ProbeRefused.

    Accumulation cuts the tokens into `accumulate` pieces, whose gradients add up: less memory at once, more launches.
    """
    if command.accumulate < 1 or len(ids) < FEWEST * command.accumulate:
        raise ProbeRefused(
            f"{command.accumulate} pieces need at least {FEWEST * max(1, command.accumulate)} tokens, and the text has"
            f" {len(ids)}: generate more, or accumulate less."
        )
    forward = live.recorder.define(Phase.FORWARD, name="forward")
    backward = live.recorder.define(Phase.BACKWARD, name="loss and gradients")
    with torch.inference_mode(False), torch.enable_grad(), _learning(live):
        live.recorder.begin_step()
        for piece in torch.tensor(ids, device=live.device).tensor_split(command.accumulate):
            with torch.autocast(live.device.type, torch.bfloat16, enabled=command.mixed):
                arguments = {**_inputs(live, piece[None], prompt), "use_cache": False}
                logits = live.run(live.model, forward, arguments).logits
                live.recorder.begin(backward)
                loss = functional.cross_entropy(logits[0, :-1].float(), piece[1:])
            (loss / command.accumulate).backward()  # type: ignore[no-untyped-call]
            wait_for_device(live.device)
            live.recorder.end()
        return live.recorder.end_step()


def _inputs(live: LiveModel, piece: torch.Tensor, prompt: list[int]) -> dict[str, torch.Tensor]:
    if live.anatomy.encoder is None:
        return {"input_ids": piece}
    return {"input_ids": torch.tensor([prompt], device=live.device), "decoder_input_ids": piece}


@contextmanager
def _learning(live: LiveModel) -> Iterator[None]:
    """Inside, parameters collect gradients; afterwards nothing is left of them."""
    parameters = list(live.model.parameters())
    before = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(parameter.is_floating_point())
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ProbeRefused(
            "There is too little memory for a training step: gradients need as much as the weights, and activations"
            " more. Use a shorter text, accumulation or a smaller model."
        ) from error
    except RuntimeError as error:
        sentence = str(error).strip().splitlines()[0].rstrip(".")
        raise ProbeRefused(
            f"This model cannot be trained as it is now ({sentence}): undo what it runs with."
        ) from error
    finally:
        for parameter, was in zip(parameters, before, strict=True):
            parameter.grad = None
            parameter.requires_grad_(was)
