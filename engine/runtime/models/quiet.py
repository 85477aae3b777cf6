"""Loading in peace: libraries neither print nor draw bars meanwhile; what their bars would show goes to the caller."""

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import huggingface_hub.utils
import transformers.utils.logging

from engine.runtime.models.progress import LoadReport

# Any: these functions have no types
_bars: Any = huggingface_hub.utils
_logging: Any = transformers.utils.logging

LOGGERS = ("transformers", "huggingface_hub", "accelerate", "filelock")


@contextmanager
def quietly(report: LoadReport) -> Iterator[None]:
    """Silence loaders; `report` hears what share of a checkpoint's tensors has been placed.

    What goes wrong is raised by the loaders too, so nothing is lost with their warnings.
    """
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    bars = not _bars.are_progress_bars_disabled()
    _logging.disable_progress_bar()
    hook = _logging.set_tqdm_hook(_bar_hook(report))
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        _logging.set_tqdm_hook(hook)
        if bars:
            _logging.enable_progress_bar()


def _bar_hook(report: LoadReport) -> Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]:
    def hook(factory: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if options.get("desc") == "Loading weights" and arguments:
            return _reported(arguments[0], report)
        return factory(*arguments, **options)

    return hook


def _reported(items: Iterable[Any], report: LoadReport) -> Iterator[Any]:
    items = list(items)
    for done, item in enumerate(items):
        report("reading weights", done / len(items))
        yield item
    report("reading weights", 1.0)
