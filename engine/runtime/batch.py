"""A batch: several sequences decoded together, a row of the cache each.

They branch off from one: the step that makes a batch computes a single row still, chooses a token for each sequence by
the same logits, and repeats the row in the cache. With sampling each goes its own way, by random numbers of its own;
the first goes on as it would have alone. A sequence that ends leaves: its row is dropped, and later steps are smaller.
Others may begin with a prompt of their own, or join later with one (see `joining`).
"""

from collections.abc import Sequence

import torch

from engine.protocol import Token
from engine.runtime.joining import Newcomer, seat
from engine.runtime.live import Loop
from engine.runtime.rows import choose_rows
from engine.runtime.writing import Strand, Taken, Writing


class Batch:
    """One token of every sequence a step."""

    def __init__(self, writing: Writing, others: Sequence[Strand] = ()) -> None:
        """`others`: sequences with prompts of their own, whose rows are in the cache from the beginning."""
        self._writing = writing
        self._strands = [writing.strand, *others]
        self._one_prompt = not others
        self._joining = writing.live.loop.batch - 1  # sequences that branch off with the next token

    @property
    def strands(self) -> Sequence[Strand]:
        """Those that go on."""
        return self._strands

    def propose(self) -> list[int]:
        """Nothing."""
        return []

    def rows(self) -> Sequence[list[int]]:
        """The ids of each sequence."""
        return [strand.ids for strand in self._strands]

    def take(self, logits: torch.Tensor) -> Taken:
        """Choose a token for each sequence, and let those go that end with it."""
        writing, recorder = self._writing, self._writing.live.recorder
        recorder.begin(writing.sample_code)
        scores = logits[:, -1]
        if self._joining:
            scores = self._branch(scores)
        writing.chosen = self._choose(scores)
        recorder.turn(writing.transfer_code)
        ids: list[int] = writing.chosen.tolist()
        recorder.turn(writing.detokenize_code)
        told = [
            (strand, [*strand.backlog, id], strand.stream)
            for strand, id in zip(self._strands, ids, strict=True)
        ]
        texts = [[stream.push(id) for id in new] for _, new, stream in told]
        recorder.turn(writing.stop_code)
        arrival_ns = recorder.times[-1]
        tokens = tuple(
            Token(id, text, arrival_ns, strand.number)
            for (strand, new, _), pieces in zip(told, texts, strict=True)
            for id, text in zip(new, pieces, strict=True)
        )
        end_reason = self._append(ids)
        recorder.end()
        return Taken(tokens, end_reason)

    def _branch(self, scores: torch.Tensor) -> torch.Tensor:
        """New sequences go on from the first one. Scores (rows, vocabulary), with the first row's for each of them."""
        writing = self._writing
        first = self._strands[0]
        rows = [*range(len(self._strands)), *[0] * self._joining]
        for _ in range(self._joining):
            number = writing.new_number()
            self._strands.append(first.branch(number, writing.new_chooser(number)))
        choose_rows(writing.live, writing.context, rows)
        self._joining = 0
        return scores[torch.tensor(rows, device=scores.device)]

    def _choose(self, scores: torch.Tensor) -> torch.Tensor:
        """A token for each of the scores' rows, (rows,)."""
        writing, rows = self._writing, self.rows()
        choosers = [writing.chooser(strand) for strand in self._strands]
        weights = choosers[0].weigh(writing.ruled(scores, rows), rows)
        if writing.live.decoding.strategy != "sample":
            return weights.argmax(-1).to(writing.live.device)
        return torch.cat([chooser.draw(row[None]) for chooser, row in zip(choosers, weights, strict=True)])

    def _append(self, ids: Sequence[int]) -> str:
        """Each sequence gets its id; those that end leave. Why the last of them ended, "" while there are some."""
        writing = self._writing
        for strand, id in zip(self._strands, ids, strict=True):
            strand.ids.append(id)
            strand.produced += 1
            strand.backlog.clear()
        reasons = [writing.end_reason(strand) for strand in self._strands]
        staying = [row for row, reason in enumerate(reasons) if not reason]
        if not staying:
            return reasons[-1]
        if len(staying) < len(reasons):
            self._keep(staying)
        return ""

    def _keep(self, rows: Sequence[int]) -> None:
        """Only these rows go on."""
        writing = self._writing
        self._strands = [self._strands[row] for row in rows]
        choose_rows(writing.live, writing.context, rows)
        if writing.chosen is not None:
            writing.chosen = writing.chosen[torch.tensor(rows, device=writing.chosen.device)]
        if self._strands[0] is not writing.strand:
            writing.lead(self._strands[0])

    def join(self, newcomer: Newcomer) -> None:
        """Another sequence goes on with these. Raises what `seat` does, with nothing changed."""
        writing, strand, kind = self._writing, newcomer.strand, self._writing.live.cache_kind
        assert writing.chosen is not None
        assert newcomer.chosen is not None
        seat(writing.live, writing.context, self.rows(), newcomer.context, kind, writing.wanted(strand))
        writing.chosen = torch.cat((writing.chosen, newcomer.chosen))
        self._strands.append(strand)
        self._one_prompt = False

    def follow(self, loop: Loop) -> bool:
        """More sequences branch off from the first; of fewer, the first ones stay. ValueError where prompts differ."""
        if not self._one_prompt:
            raise ValueError(
                "several prompts are being continued together: start a generation of one prompt first"
            )
        if loop.batch == 1 or loop.beams > 1 or loop.speculation != "off":
            return False
        self._joining = max(0, loop.batch - len(self._strands))
        if loop.batch < len(self._strands):
            self._keep(range(loop.batch))
        return True

    def leave(self) -> None:
        """The first sequence stays."""
        self._joining = 0
        if len(self._strands) > 1:
            self._keep([0])

    def tail(self) -> str:
        """What is incomplete of the first sequence's last character."""
        return self._strands[0].stream.flush()
