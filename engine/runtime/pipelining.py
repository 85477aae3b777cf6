"""Steps that are launched before the token of the step before is on the host: pipelined read-back.

A chosen token stays on the device as the next step's input and is copied to the host meanwhile, to be read at the end
of the next step. So a decode step yields the token that the step before has chosen, and while the host waits for it,
the device has work already.

What ends a generation is seen a step late, if it is an end token: the step that was fed it is then surplus. It is
waited for, taken out of the cache again, and told as a position that was computed for nothing. (The last token by
number, of the generation or of the context, is known beforehand: no step is launched behind it.)

Whoever drives the generation never meets a token on its way: where somebody waits for the end of a step
(`Context.awaited`: to pause, stop, switch, compare), and at the generation's end, the step reads its own token, too. A
prefill does so always, as its time is the time of the prompt. Only where a step fails is the token on its way lost.
"""

import torch

from engine.protocol import Token
from engine.runtime.clocks import wait_for_device
from engine.runtime.live import Loop
from engine.runtime.read_back import Arrival, copies_from
from engine.runtime.rows import TakingBack
from engine.runtime.writing import Plain, Taken, Writing
from engine.trace.phases import Phase

PIPELINED = "pipelined"


class Pipelined(Plain):
    """One token of one sequence a step, read with the next one."""

    def __init__(self, writing: Writing) -> None:
        super().__init__(writing)
        self._copies = copies_from(writing.live.device)
        self._under_way: Arrival | None = None
        self._decodes = False  # whether the step under way is a decode step
        self._taking_back = TakingBack(writing.context)
        self._back_code = writing.live.recorder.define(Phase.STOP, name="take back a surplus step")

    def propose(self) -> list[int]:
        """Nothing. Lets windows keep what the step pushes out, where it may turn out to be surplus."""
        writing = self._writing
        self._decodes = (
            writing.chosen is not None and writing.context.pending == 1 and not writing.is_outgrown
        )
        if self._under_way is not None:
            assert self._decodes, "what was cached is gone while a token was on its way"
            if writing.limits.end_tokens:
                self._taking_back.record()
        return []

    def take(self, logits: torch.Tensor) -> Taken:
        """Choose the next token, and bring the one before it to the host; this one, too, where it is waited for."""
        writing, recorder = self._writing, self._writing.live.recorder
        fed, earlier = writing.chosen, self._under_way
        recorder.begin(writing.sample_code)
        writing.chosen = writing.chooser(writing.strand).choose(logits[:, -1], writing.strand.ids)
        recorder.turn(writing.transfer_code)
        self._under_way = self._copies.begin(writing.chosen)
        writing.context.unread += 1
        tokens: tuple[Token, ...] = ()
        if earlier is None:
            recorder.end()
        else:
            tokens, end_reason = self._arrived(earlier)
            if end_reason:
                writing.chosen = fed
                return Taken(tokens, end_reason, surplus=self._take_back())
        self._keep()
        if self._goes_on():
            return Taken(tokens)
        recorder.begin(writing.transfer_code)
        newest, end_reason = self._arrived(self._under_way)
        self._under_way = None
        return Taken(tokens + newest, end_reason)

    def _arrived(self, arrival: Arrival) -> tuple[tuple[Token, ...], str]:
        """Wait for a token; it, and why the generation ends with it, or "". Ends the open span."""
        writing = self._writing
        id = arrival()
        writing.context.unread -= 1
        return writing.deliver((id,))

    def _goes_on(self) -> bool:
        """Whether the newest token may stay on its way while the next step is launched."""
        writing = self._writing
        waited_for = not self._decodes or writing.room(writing.strand) <= 1 or writing.is_outgrown
        return not waited_for and not writing.context.awaited()

    def _keep(self) -> None:
        """The step stands: windows let go of what they kept in case it did not."""
        writing, recorder = self._writing, self._writing.live.recorder
        if writing.limits.end_tokens:
            recorder.begin(writing.keep_code)
            self._taking_back.take_back(0)
            recorder.end()

    def _take_back(self) -> int:
        """Undo the step, which was fed an end token; how many positions it computed for nothing."""
        writing, recorder = self._writing, self._writing.live.recorder
        recorder.begin(self._back_code)
        wait_for_device(writing.live.device)  # its time belongs to no other step
        self._taking_back.take_back(1)
        self._under_way = None
        writing.context.unread = 0
        recorder.end()
        return 1

    def follow(self, loop: Loop) -> bool:
        """As long as nothing else is asked for."""
        return loop.read_back == PIPELINED and loop.speculation == "off" and loop.beams == loop.batch == 1

    def leave(self) -> None:
        """Windows hold only their window again; no token is on its way when somebody switches."""
        assert self._under_way is None, "a token is on its way to the host"
        self._taking_back.forget()
