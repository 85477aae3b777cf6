"""What tests of the runtime share. A test module may have a `checkpoint` of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.runtime.live_models import Bench, family_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama, to be read only."""
    return family_checkpoint("llama", tmp_path_factory.mktemp("llama"))


@pytest.fixture
def bench(checkpoint: Path) -> Iterator[Bench]:
    """That model, ready; afterwards it is gone."""
    made = Bench(checkpoint)
    yield made
    made.close()
