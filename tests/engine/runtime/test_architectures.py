"""Architectures of transformers, each built small: phases complete, tokens of generate(), but for known exceptions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine.protocol import Family
from tests.sweep.examination import Outcome, examine, model_types
from tests.sweep.known_exceptions import KNOWN
from tests.sweep.sweep import chosen, surprise

ROOT = Path(__file__).parents[3]

#: Beyond the families that other tests run: each further kind of attention, mixer, experts and residuals, and kinds of
#: what is known not to work. All others are among the slow tests.
SELECTED: dict[Family, tuple[str, ...]] = {
    Family.DECODER: (
        *(
            "bailing_hybrid",
            "ctrl",
            "deepseek_v32",
            "deepseek_v4",
            "diffllama",
            "doge",
            "falcon_mamba",
            "gemma3",
        ),
        *("gpt_bigcode", "inkling_text", "jetmoe", "kimi_linear", "llama4_text", "longcat_flash", "minimax"),
        *("nemotron_h", "openai-gpt", "qwen3_5_text", "recurrent_gemma", "reformer", "roberta", "whisper"),
        *("xglm", "xlm", "xlstm", "zamba2", "zaya"),
    ),
    Family.ENCODER_DECODER: ("qwen2_audio", "seamless_m4t", "t5gemma2"),
    Family.ENCODER: (
        "big_bird",
        "convbert",
        "esm",
        "funnel",
        "ibert",
        "luke",
        "nystromformer",
        "tapas",
        "yoso",
    ),
}


@pytest.mark.parametrize(
    ("family", "model_type"), [(family, each) for family, names in SELECTED.items() for each in names]
)
def test_an_architecture_works_or_is_a_known_exception(family: Family, model_type: str) -> None:
    assert surprise(examine(family, model_type)) == ""


def test_exceptions_name_architectures_that_there_are() -> None:
    unknown = [each for each in KNOWN if each[1] not in model_types(each[0])]
    assert unknown == []


def test_what_differs_from_the_known_exceptions_is_said() -> None:
    fine = Outcome(Family.DECODER, "llama")
    broken = Outcome(Family.DECODER, "llama", {"tokens": "3 of 14 are the same"})
    mended = Outcome(Family.DECODER, "whisper")
    assert surprise(fine) == ""
    assert surprise(broken) == "tokens: 3 of 14 are the same"
    assert surprise(mended) == "build: works by now"


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Outcome]:
    file = tmp_path_factory.mktemp("sweep") / "outcomes.json"
    command = [sys.executable, "-m", "tests.sweep", "--json", file]
    swept = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert file.exists(), f"the sweep ended with {swept.returncode}: {swept.stderr[-2000:]}"
    outcomes = [
        Outcome(**{**each, "family": Family(each["family"])}) for each in json.loads(file.read_text())
    ]
    return {(outcome.family, outcome.model_type): outcome for outcome in outcomes}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("family", "model_type"), chosen([]))
def test_every_architecture_works_or_is_a_known_exception(
    everything: dict[tuple[str, str], Outcome], family: Family, model_type: str
) -> None:
    assert surprise(everything[family, model_type]) == ""
