"""What the model panel says of a loaded model."""

from dataclasses import replace

from pytestqt.qtbot import QtBot

from engine.protocol import Family
from gui.panels.model import ModelPanel, model_facts
from tests.gui import synthetic

MODEL = synthetic.loaded(12).model


def facts_of(**changes: object) -> dict[str, tuple[str, str]]:
    model = replace(MODEL, **changes)  # type: ignore[arg-type]
    return {name: (text, tip) for name, text, tip in model_facts(model)}


def test_a_decoder_has_layers_and_a_width() -> None:
    facts = facts_of(hidden_size=512)
    assert facts["layers × width"][0] == "12 × 512"
    assert facts["task"][0] == "text generation · decoder"


def test_an_encoder_decoder_says_both_numbers_of_layers() -> None:
    facts = facts_of(family=Family.ENCODER_DECODER, encoder_layers=6, hidden_size=512)
    assert facts["layers × width"][0] == "6 + 6 × 512"
    assert "encoder" in facts["layers × width"][1]


def test_an_encoder_says_its_task() -> None:
    facts = facts_of(family=Family.ENCODER, encoder_layers=12, task="fill-mask")
    assert facts["task"][0] == "fill-mask · encoder"
    assert facts["layers × width"][0].startswith("12 × ")


def test_split_layers_say_where_they_are() -> None:
    assert facts_of(device="cpu")["device"][0] == "cpu"
    facts = facts_of(placement=(("cuda:0", 9), ("cpu", 3)))
    assert facts["device"][0] == "9 on cuda:0 + 3 on cpu"


def test_the_time_of_loading_says_where_it_went() -> None:
    stages = (("download", 40_000_000_000), ("read weights", 1_500_000_000))
    text, tip = facts_of(load_ns=42_000_000_000, load_stages_ns=stages)["loaded in"]
    assert text == "42.0 s"
    assert tip.splitlines()[1:] == ["40.0 s  download", "1.50 s  read weights"]


def test_another_model_replaces_what_is_shown(qtbot: QtBot) -> None:
    panel = ModelPanel()
    qtbot.addWidget(panel)
    panel.show_model(replace(MODEL, random_weights=True, load_stages_ns=(("build", 5_000_000),)))
    assert panel._badge.isVisibleTo(panel)
    assert "build" in panel._values["loaded in"].toolTip()
    panel.show_model(replace(MODEL, name="other", random_weights=False, device="cuda:0", load_stages_ns=()))
    assert not panel._badge.isVisibleTo(panel)
    assert panel._values["device"].text() == "cuda:0"
    assert "build" not in panel._values["loaded in"].toolTip()
