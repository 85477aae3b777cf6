"""Functions as compiled code: how torch is asked for it, when it may compile, and what it asks before each call.

While steps run, torch may use what is compiled but not compile (its stance is "eager_on_recompile"): a call that the
compiled code does not fit runs eagerly, and is told.

Before each call torch asks whether what was compiled still holds: for a model of seven layers 1,900 questions, which
take a tenth of a step, most of them about modules and globals. These change by settings alone, and each of their
values has a version of its own here; what is left are the questions about what a function is called with, and its
modes.
"""

import gc
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import torch

from engine.collecting import uncollected
from engine.user_directories import user_cache

#: Versions of a function (settings, kinds of cache) that are kept compiled, so that switching back costs nothing.
_VERSIONS = 64
#: Numbers in caches that change from step to step or between generations.
_CHANGING = r".*\.(max_cache_len|cumulative_length|cumulative_length_int)$"
#: What torch calls each mode: graphs of the device are recorded by "reduce-overhead" alone, so that marks stay alive.
_TORCH_MODES = {
    "default": "default",
    "reduce-overhead": "reduce-overhead",
    "max-autotune": "max-autotune-no-cudagraphs",
}


def compiled(
    function: Callable[..., Any], name: str, mode: str, ran_eagerly: list[bool]
) -> Callable[..., Any]:
    """The function as compiled code, which is made at the first call for which torch may compile, as one graph.

    `name`: no other compiled function is to have it. `ran_eagerly`: gets True at each call that no compiled code fits.
    """
    return torch.compile(
        _told(function, name, ran_eagerly),
        fullgraph=True,
        options={
            **torch._inductor.list_mode_options(_TORCH_MODES[mode]),
            "guard_filter_fn": _of_the_call,
        },
    )


def _told(function: Callable[..., Any], name: str, ran_eagerly: list[bool]) -> Callable[..., Any]:
    """The function that says when it was not compiled. What is compiled is kept by code: each has its own."""

    def told(*args: Any, **kwargs: Any) -> Any:
        if not torch.compiler.is_dynamo_compiling():
            ran_eagerly.append(True)
        return function(*args, **kwargs)

    code = told.__code__.replace(co_name=name)
    return FunctionType(code, globals(), name, None, told.__closure__)


def _of_the_call(questions: Sequence[Any]) -> list[bool]:
    """Which of torch's questions (GuardFilterEntry) are asked before each call: not those of modules and globals."""
    return [not (each.is_global or each.orig_guard.source.is_unspecialized_nn_module()) for each in questions]


def graphs() -> int:
    """How many graphs were compiled in this process."""
    from torch._dynamo.utils import counters

    return int(counters["stats"]["unique_graphs"])


@contextmanager
def compiling() -> Iterator[None]:
    """Inside, torch may compile; what it makes is kept on this user's disk for the next time.

    Models that are gone are collected before, and none in the middle: taking out what was wrapped for one (`shared`)
    would change functions that are being compiled.
    """
    from torch._dynamo import config as dynamo

    settings: Any = torch.compiler.config

    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_directory()))
    gc.collect()
    with (
        uncollected(),
        torch.compiler.set_stance("default"),
        dynamo.patch(recompile_limit=_VERSIONS),
        settings.patch(dynamic_sources=_CHANGING),
    ):
        yield


def cache_directory() -> Path:
    """Where compiled code is kept for the next time."""
    return user_cache() / "inductor"
