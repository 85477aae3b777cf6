"""Small real checkpoints for tests, and a bench that runs them and keeps the trace."""

from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from engine.protocol import Configuration, Event, Generate, Load, ModelLoaded, Prompt
from engine.runtime.run import Run
from engine.runtime.starting import start
from engine.runtime.workbench import Workbench
from engine.trace.store import Trace
from tests.engine.runtime.small_models import FAMILIES

PROMPT = "The cycle of a token, 令牌的周期."


def torch_kept() -> Iterator[None]:
    """For a fixture: what settings change in torch itself is afterwards as it was before."""
    torch.set_num_threads(1)
    products = torch.backends.mkldnn.matmul.fp32_precision
    yield
    torch.backends.mkldnn.matmul.fp32_precision = products
    torch.set_num_threads(1)
    for enable in (torch.backends.cuda.enable_flash_sdp, torch.backends.cuda.enable_math_sdp):
        enable(True)
    torch.backends.cuda.enable_mem_efficient_sdp(True)
    torch.backends.cuda.enable_cudnn_sdp(True)


def compiler_kept() -> Iterator[None]:
    """The same where steps are compiled: torch may compile afterwards, as before."""
    yield from torch_kept()
    torch.compiler.set_stance("default")


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte (ids 0–255): every text has tokens, and most characters of most scripts take several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({char: id for id, char in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def save_checkpoint(model: PreTrainedModel, directory: Path) -> Path:
    """Write a model with the byte tokenizer as people have them: a directory in Hugging Face form."""
    model.save_pretrained(directory)
    byte_tokenizer().save_pretrained(directory)
    return directory


def family_checkpoint(family: str, directory: Path) -> Path:
    """The small model of a family, as a directory."""
    return save_checkpoint(FAMILIES[family](), directory)


class Bench:
    """A workbench whose events are kept and folded into a trace."""

    def __init__(self, checkpoint: Path, settings: Configuration = (), gather_ns: int = 0) -> None:
        """`gather_ns`: how long steps may wait to be told together."""
        self.events: list[Event] = []
        self.trace = Trace()
        load = Load(str(checkpoint), "cpu", settings)
        self.workbench = Workbench(
            load, "thread", self._take, lambda: None, is_awaited=lambda: not gather_ns, gather_ns=gather_ns
        )

    def _take(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, ModelLoaded):
            self.trace = Trace(event)
        self.trace.append(event)

    def start(self, prompt: str = PROMPT, tokens: int = 16) -> Run:
        """Take a prompt; the caller steps."""
        return start(
            self.workbench, Generate(Prompt(prompt), tokens, stop_at_end_token=False), perf_counter_ns()
        )

    def generate(
        self, prompt: str = PROMPT, tokens: int = 16, changes: dict[int, Configuration] | None = None
    ) -> list[int]:
        """Generate to the end, with changes before given new tokens; returns the new token ids."""
        run = self.start(prompt, tokens)
        first = len(self.trace.tokens)
        ended = ""
        while not ended:
            change = (changes or {}).pop(len(self.trace.tokens) - first, None)
            if change:
                self.workbench.change(change)
            ended = run.step(held=bool(change))
        run.end(ended)
        return self.trace.tokens.id[first:].tolist()

    def reference(self, prompt: str = PROMPT, tokens: int = 16) -> list[int]:
        """What `generate()` of transformers makes of the same prompt, greedily."""
        live = self.workbench.live
        ids = live.tokenizer(prompt, return_tensors="pt")["input_ids"]
        output = live.model.generate(ids, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        new: list[int] = output[0, ids.shape[1] :].tolist()
        return new

    def close(self) -> None:
        """Let go of the model."""
        self.workbench.close()
