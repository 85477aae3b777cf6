"""What every test gets: a headless, offline, isolated environment, and a look at what it left behind."""

import gc
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator

ISOLATED = tempfile.mkdtemp(prefix="cyclograph-tests-")
os.environ.update(
    QT_QPA_PLATFORM="offscreen",
    QT_SCALE_FACTOR="1",
    HF_HUB_OFFLINE="1",
    HF_HOME=os.path.join(ISOLATED, "huggingface"),
    XDG_CONFIG_HOME=os.path.join(ISOLATED, "config"),
    XDG_DATA_HOME=os.path.join(ISOLATED, "data"),
    XDG_CACHE_HOME=os.path.join(ISOLATED, "cache"),
    TOKENIZERS_PARALLELISM="false",
    TQDM_DISABLE="1",
    TORCHINDUCTOR_COMPILE_THREADS="1",  # more would be processes, which outlive their test
)

import psutil  # noqa: E402
import pytest  # noqa: E402

try:
    import pytestqt  # noqa: F401
except ImportError:
    HAS_QT = False
else:
    HAS_QT = True

#: Threads that libraries keep for themselves, by the beginning of their names.
LIBRARY_THREADS = ("MainThread", "pytest_timeout", "ThreadPoolExecutor", "QThread", "Dummy", "tqdm_monitor")
PATIENCE_S = 3.0


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Without pytest-qt (or with it switched off) its options in pyproject.toml still have to be known."""
    if not pluginmanager.hasplugin("pytest-qt"):
        parser.addini("qt_log_level_fail", "of pytest-qt, which is not here")
        parser.addini("qt_api", "of pytest-qt, which is not here")


def pytest_collection_finish() -> None:
    """What was imported stays: the garbage collector, which a load calls, looks from here on at what tests make."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """What the tests wrote into their own settings and caches goes with them."""
    shutil.rmtree(ISOLATED, ignore_errors=True)


def pytest_ignore_collect(collection_path: object) -> bool | None:
    """Leave out the window's tests where there is no Qt."""
    parts = str(collection_path).replace("\\", "/").split("/")
    return True if not HAS_QT and "gui" in parts[-3:] and "tests" in parts else None


def own_threads() -> set[threading.Thread]:
    """Threads that are alive and not a library's."""
    return {t for t in threading.enumerate() if t.is_alive() and not t.name.startswith(LIBRARY_THREADS)}


def child_processes() -> set[int]:
    """Processes started by this one that still run (zombies are done)."""
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if _runs(child)}


def _runs(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE) and "resource_tracker" not in " ".join(
            process.cmdline()
        )
    except psutil.NoSuchProcess:
        return False


@pytest.fixture(autouse=True)
def nothing_is_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """No thread, process, window or running timer outlives its test (set up before every other fixture)."""
    threads, processes = own_threads(), child_processes()
    yield
    deadline = time.monotonic() + PATIENCE_S
    while True:
        left_threads, left_processes = own_threads() - threads, child_processes() - processes
        if not (left_threads or left_processes) or time.monotonic() >= deadline:
            break
        time.sleep(0.01)
    assert not left_threads, "the test left threads behind"
    assert not left_processes, "the test left processes behind"


@pytest.fixture(autouse=True)
def nothing_unexpected_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A warning in the log of our own packages fails the test."""
    yield
    unexpected = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.levelno >= logging.WARNING and record.name.split(".")[0] in ("engine", "gui")
    ]
    assert not unexpected, f"logged: {unexpected}"


@pytest.fixture(autouse=True)
def one_torch_thread() -> None:
    """Tests share two cores; and a test that changes the number of threads does not change it for the next."""
    import sys

    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
