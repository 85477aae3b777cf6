"""How far a load has come: what listens to it, what ends it early, and what each of its stages took."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns

from engine.protocol import Progress
from engine.runtime.models.errors import LoadGivenUp

#: Rates are told over so much of the past: long enough to be steady, short enough to be true.
RATE_OVER_NS = 3_000_000_000
#: What comes sooner than this after the last word is not told: nobody could read it.
TELL_EVERY_NS = 40_000_000


@dataclass(frozen=True, slots=True)
class DownloadCount:
    """How far a download is. `arrived_bytes`: what came over the network since it began; the rest was here before."""

    done_bytes: int
    total_bytes: int
    done_files: int
    total_files: int
    arrived_bytes: int


class LoadReport:
    """Hears how a load goes on and tells it as Progress events.

    Every call looks whether the load has been given up, and then raises LoadGivenUp: whatever works long calls often.
    `clock` returns int nanoseconds and can be replaced by a scripted one in tests.
    """

    def __init__(
        self,
        tell: Callable[[Progress], None] = lambda progress: None,
        is_given_up: Callable[[], bool] = lambda: False,
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        self._tell = tell
        self._is_given_up = is_given_up
        self._clock = clock
        self._stage = ""
        self._begin_ns = clock()
        self._stages: dict[str, int] = {}
        self._activity = ""
        self._told_ns = 0
        self._seen: deque[tuple[int, int]] = deque()  # (at_ns, bytes)

    @property
    def stages_ns(self) -> tuple[tuple[str, int], ...]:
        """Wall time of each stage so far, in the order in which they began."""
        return tuple(self._stages.items())

    def stage(self, name: str) -> None:
        """Another stage begins, or ("") none: the time until the next one belongs to it."""
        now_ns = self._clock()
        if self._stage:
            self._stages[self._stage] = self._stages.get(self._stage, 0) + now_ns - self._begin_ns
        self._stage, self._begin_ns = name, now_ns
        self._seen.clear()

    def __call__(self, activity: str, fraction: float | None) -> None:
        """Say what goes on and how far it is, None where its end is not known. Raises LoadGivenUp."""
        now_ns = self._clock()
        self._say(Progress(now_ns, activity, fraction, self._stage), fraction is not None and fraction < 1.0)

    def downloaded(self, activity: str, count: DownloadCount) -> None:
        """Say how far a download is. Call it also while nothing comes: the rate falls then. Raises LoadGivenUp."""
        now_ns = self._clock()
        self._seen.append((now_ns, count.arrived_bytes))
        while self._seen[0][0] < now_ns - RATE_OVER_NS and len(self._seen) > 2:
            self._seen.popleft()
        (since_ns, before), (_, now) = self._seen[0], self._seen[-1]
        rate = max(0.0, (now - before) * 1e9 / (now_ns - since_ns)) if now_ns > since_ns else 0.0
        fraction = min(1.0, count.done_bytes / count.total_bytes) if count.total_bytes else None
        self._say(
            Progress(
                now_ns,
                activity,
                fraction,
                self._stage,
                count.done_bytes,
                count.total_bytes,
                count.done_files,
                count.total_files,
                rate,
            ),
            count.done_bytes < count.total_bytes,
        )

    def _say(self, progress: Progress, may_wait: bool) -> None:
        if self._is_given_up():
            raise LoadGivenUp
        if (
            may_wait
            and progress.activity == self._activity
            and progress.at_ns < self._told_ns + TELL_EVERY_NS
        ):
            return
        self._activity, self._told_ns = progress.activity, progress.at_ns
        self._tell(progress)


class Downloads:
    """The files of one download, counted together. Counted on one thread and told on another: numbers only."""

    def __init__(self, total_bytes: int, total_files: int) -> None:
        self._total_bytes, self._total_files = total_bytes, total_files
        self._done_bytes = self._done_files = self._arrived = 0
        self._now = (0, 0)  # of the file that comes now: bytes that were here, bytes that have come

    def file_here(self, size: int) -> None:
        """A file of so many bytes was here before."""
        self._done_bytes += size
        self._done_files += 1

    def came(self, before: int, now: int) -> None:
        """Of the file that comes now, `before` bytes were here and `now` have come."""
        self._now = (before, now)

    def file_done(self, size: int) -> None:
        """The file that came is complete."""
        self._arrived += self._now[1]
        self._now = (0, 0)
        self.file_here(size)

    def tell(self, report: LoadReport, activity: str) -> None:
        """Tell how far it is. Raises LoadGivenUp."""
        before, now = self._now
        report.downloaded(
            activity,
            DownloadCount(
                self._done_bytes + before + now,
                self._total_bytes,
                self._done_files,
                self._total_files,
                self._arrived + now,
            ),
        )
