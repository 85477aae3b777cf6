"""How far long work has come: what listens to it, and what downloads tell it."""

from collections.abc import Callable
from typing import Any, Self

#: Hears an activity and its fraction in [0, 1], None where the end is not known.
Report = Callable[[str, float | None], None]


def download_bar(report: Report, activity: str, done_bytes: int, total_bytes: int) -> type:
    """A class for huggingface_hub to make its progress bars of; they report bytes out of `total_bytes` instead."""

    class Bar:
        """Has the methods of tqdm that huggingface_hub calls."""

        def __init__(self, *_: Any, initial: float = 0, total: float | None = None, **__: Any) -> None:
            self.n = initial
            self.total = total

        def update(self, n: float | None = 1) -> None:
            """`n` more bytes have come."""
            self.n += n or 0
            report(activity, min(1.0, (done_bytes + self.n) / total_bytes) if total_bytes else None)

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def __getattr__(self, _: str) -> Callable[..., None]:
            return lambda *_, **__: None

    return Bar
