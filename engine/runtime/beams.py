"""Beam search: the likeliest sequences side by side, a row of the cache each; the rules are those of `generate()`.

What a beam says may still be taken back, so a token is yielded once all beams agree on it, those that have ended
included; the rest of each beam is told apart (BeamsRanked), and what remains of the winner is yielded at the end. A
step on which the beams do not agree yields nothing. Begun in the middle of a generation, the search is what
`generate()` would make of the text so far: its length penalty counts from there.
"""

from collections.abc import Sequence
from typing import Any

import torch
from transformers import GenerationMixin

from engine.protocol import Beam, Token
from engine.runtime.live import Loop
from engine.runtime.rows import choose_rows
from engine.runtime.writing import Taken, Writing

NEVER = -1.0e9  # the logarithm of no chance at all, as transformers has it
NO_TOKEN = -1


class Search:
    """The state of a beam search over new tokens, advanced by the functions of transformers (private: only here).

    `length`: tokens of each running beam. Tensors are (1, beams, …); a sequence holds new tokens only, NO_TOKEN behind
    its end. `over`: whether nothing can be won any more.
    """

    def __init__(self, model: Any, beams: int, most: int, ends: Sequence[int], device: torch.device) -> None:
        settings = model.generation_config
        self.length = 0
        self.over = False
        penalty = getattr(settings, "length_penalty", None)
        self.length_penalty = 1.0 if penalty is None else float(penalty)
        self._early = getattr(settings, "early_stopping", None) or False
        self._beams, self._most = beams, most
        self._candidates = max(2, 1 + len(ends)) * beams  # enough to go on with when the best ones end
        self._ends = torch.tensor(sorted(ends), dtype=torch.long, device=device)
        self.running = torch.full((1, beams, most), NO_TOKEN, device=device)
        self.running_scores = torch.full((1, beams), NEVER, device=device)
        self.running_scores[:, 0] = 0.0  # all beams start alike: only the first may branch
        self.done = self.running.clone()
        self.done_scores = torch.full((1, beams), NEVER, device=device)
        self.is_done = torch.zeros((1, beams), dtype=torch.bool, device=device)
        self._sources = torch.full((1, beams, most), NO_TOKEN, dtype=torch.int32, device=device)
        self._done_sources = self._sources.clone()
        self._hopeful = torch.ones((1, 1), dtype=torch.bool, device=device)
        self._best = torch.arange(self._candidates, device=device) < beams

    def advance(self, log_probabilities: torch.Tensor) -> torch.Tensor:
        """Go on by one token; the beam, (beams,), that each beam came from. Takes (beams, vocabulary) nats."""
        beams, ours = self._beams, GenerationMixin
        total = (log_probabilities + self.running_scores[0, :, None]).reshape(1, -1)
        scores, sequences, sources = ours._get_top_k_continuations(
            ours,  # type: ignore[arg-type]  # it asks only for a static method of the class
            accumulated_log_probs=total,
            running_sequences=self.running,
            running_beam_indices=self._sources,
            cur_len=self.length,
            decoder_prompt_len=0,
            do_sample=False,
            beams_to_keep=self._candidates,
            num_beams=beams,
            batch_size=1,
        )
        full = self.length + 1 >= self._most
        ending = torch.isin(sequences[:, :, self.length], self._ends) | full
        self.running, self.running_scores, self._sources = ours._get_running_beams_for_next_iteration(
            ours, scores, sequences, sources, ending, beams  # type: ignore[arg-type]
        )  # fmt: skip
        self.done, self.done_scores, self._done_sources, self.is_done = ours._update_finished_beams(
            ours,  # type: ignore[arg-type]
            sequences=self.done,
            topk_running_sequences=sequences,
            beam_scores=self.done_scores,
            topk_log_probs=scores,
            beam_indices=self._done_sources,
            topk_running_beam_indices=sources,
            is_early_stop_heuristic_unsatisfied=self._hopeful,
            is_sent_finished=self.is_done,
            next_token_hits_stopping_criteria=ending,
            top_num_beam_mask=self._best,
            num_beams=beams,
            cur_len=self.length,
            decoder_prompt_len=0,
            length_penalty=self.length_penalty,
            early_stopping=self._early,
        )
        came_from = self._sources[0, :, self.length].long()
        self.length += 1
        self._hopeful = ours._check_early_stop_heuristic(
            self._hopeful,
            self.running_scores,
            self.done_scores,
            self.is_done,
            self.length,
            self._most,
            0,
            self._early,
            self.length_penalty,
        )
        goes_on = ours._beam_search_has_unfinished_sequences(self._hopeful, self.is_done, ending, self._early)
        self.over = not bool(goes_on)
        return came_from

    def winner(self) -> list[int]:
        """The new tokens of the best sequence that has ended."""
        ids: list[int] = self.done[0, 0].tolist()
        return [id for id in ids if id != NO_TOKEN]


class Beams:
    """One token of every beam a step; yielded as far as the beams agree."""

    def __init__(self, writing: Writing) -> None:
        live, strand = writing.live, writing.strand
        self._writing = writing
        self._count = live.loop.beams
        self._begin = len(strand.ids)
        self._before = strand.produced
        self._agreed = 0  # new tokens that were yielded
        ends = sorted(writing.limits.end_tokens)
        self._search = Search(live.model, self._count, writing.room(strand), ends, live.device)

    def propose(self) -> list[int]:
        """Nothing."""
        return []

    def rows(self) -> Sequence[list[int]]:
        """The ids of each beam; of one as long as they are all the same."""
        ids = self._writing.strand.ids
        if not self._search.length:
            return (ids,)
        new: list[list[int]] = self._search.running[0, :, : self._search.length].tolist()
        return [[*ids[: self._begin], *beam] for beam in new]

    def take(self, logits: torch.Tensor) -> Taken:
        """Let every beam branch, keep the best, and reorder the cache to follow them."""
        writing, recorder, search = self._writing, self._writing.live.recorder, self._search
        recorder.begin(writing.sample_code)
        came_from = search.advance(self._weigh(logits[:, -1]))
        if not search.over:
            rows = came_from if logits.shape[0] > 1 else torch.zeros_like(came_from)
            choose_rows(writing.live, writing.context, rows.tolist())
        writing.chosen = search.running[0, :, search.length - 1]
        recorder.turn(writing.transfer_code)
        live, ended = self._on_host()
        recorder.end()
        new = search.winner()[self._agreed :] if search.over else _shared([ids for ids, _ in (*live, *ended)])
        recorder.begin(writing.detokenize_code)
        beams = self._told(live, ended, len(new)) if not search.over else ()
        stream = writing.strand.stream
        texts = [stream.push(id) for id in (*writing.strand.backlog, *new)]
        recorder.end()
        arrival_ns = recorder.times[-1]
        recorder.begin(writing.stop_code)
        told = [*writing.strand.backlog, *new]
        writing.strand.backlog.clear()
        tokens = tuple(
            Token(id, text, arrival_ns, writing.strand.number) for id, text in zip(told, texts, strict=True)
        )
        self._append(new, [] if search.over else live[0][0][len(new) :])
        end_reason = writing.end_reason(writing.strand) if search.over else ""
        recorder.end()
        return Taken(tokens, end_reason or ("beams done" if search.over else ""), beams=beams)

    def _weigh(self, logits: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (beams, vocabulary) after all processors, as `generate()` orders it."""
        writing, rows = self._writing, self.rows()
        if len(logits) < len(rows):
            raise RuntimeError("the cache has fewer rows than there are beams")
        scores = torch.log_softmax(logits.float(), -1)
        scores = writing.chooser(writing.strand).scores(writing.ruled(scores, rows), rows)
        return scores.expand(self._count, -1)

    def _on_host(self) -> "tuple[list[Ranked], list[Ranked]]":
        """The running beams and those that have ended, best first: ids behind those yielded, and score."""
        search = self._search
        lengthened = search.length**search.length_penalty
        ids: list[list[int]] = search.running[0, :, self._agreed : search.length].tolist()
        scores: list[float] = (search.running_scores[0] / lengthened).tolist()
        live = [pair for pair in zip(ids, scores, strict=True) if pair[1] > NEVER / 2]
        flags: list[bool] = search.is_done[0].tolist()
        if not any(flags):
            return live, []
        ids = search.done[0, :, self._agreed : search.length].tolist()
        scores = search.done_scores[0].tolist()
        done = zip(ids, scores, flags, strict=True)
        return live, [
            ([id for id in row if id != NO_TOKEN], score) for row, score, is_done in done if is_done
        ]

    def _told(self, live: "list[Ranked]", ended: "list[Ranked]", shared: int) -> tuple[Beam, ...]:
        """What each beam says behind what is yielded now. `shared`: how many ids those are."""
        stream = self._writing.strand.stream.branch()
        for id in (*self._writing.strand.backlog, *live[0][0][:shared]):
            stream.push(id)
        beams = []
        for ranked, finished in ((live, False), (ended, True)):
            for ids, score in ranked:
                branch = stream.branch()
                text = "".join(branch.push(id) for id in ids[shared:]) + branch.flush()
                beams.append(Beam(text, len(ids) - shared, score, finished))
        return tuple(sorted(beams, key=lambda beam: -beam.score))

    def _append(self, new: Sequence[int], rest: Sequence[int]) -> None:
        """The strand's ids are those yielded, `new` ones among them, and the `rest` of the best beam."""
        strand = self._writing.strand
        del strand.ids[self._begin + self._agreed :]
        strand.ids.extend((*new, *rest))
        self._agreed += len(new)
        strand.produced = self._before + self._agreed + len(rest)

    def follow(self, loop: Loop) -> bool:
        """As long as there are as many; another number starts a search of its own."""
        return loop.beams == self._count

    def leave(self) -> None:
        """The best beam stays; what the beams had not agreed on is yielded with the next token."""
        writing, search = self._writing, self._search
        if not search.length:
            return
        writing.strand.backlog.extend(writing.strand.ids[self._begin + self._agreed :])
        choose_rows(writing.live, writing.context, [0])
        writing.chosen = search.running[0, :1, search.length - 1]

    def tail(self) -> str:
        """What the best beam says behind the tokens that were yielded."""
        strand = self._writing.strand
        rest = (*strand.backlog, *strand.ids[self._begin + self._agreed :])
        return "".join(strand.stream.push(id) for id in rest) + strand.stream.flush()


Ranked = tuple[list[int], float]


def _shared(rows: Sequence[Sequence[int]]) -> list[int]:
    """The ids with which all rows begin."""
    first = min(rows, key=len)
    for place, id in enumerate(first):
        if any(row[place] != id for row in rows):
            return list(first[:place])
    return list(first)
