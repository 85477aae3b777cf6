import io
import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from engine.protocol import DisplayReport, PartCompared, RecordingReport
from engine.trace import palette
from engine.trace.export import excerpt_of
from engine.trace.export.drawing import latency_chart, layer_chart, map_colors, step_chart
from engine.trace.export.markup import element, safe
from engine.trace.export.report import write_report
from engine.trace.phases import Phase, Role
from engine.trace.store import Trace
from tests.engine.trace import building
from tests.engine.trace.export import sessions
from tests.gui import readers, synthetic

VOID = {"meta", "br"}
SVG = "{http://www.w3.org/2000/svg}"


class Page(HTMLParser):
    """Reads a page strictly: what is opened is closed, in order. Keeps its elements, attributes and text."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(content)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)


def written(trace: Trace, first: int = 0, last: int | None = None) -> str:
    file = io.BytesIO()
    write_report(excerpt_of(trace, first, last), file, lambda _: None)
    return file.getvalue().decode("utf-8")


def test_a_report_has_everything_and_needs_nothing() -> None:
    content = written(synthetic.trace(400, synthetic.Shape(layers=3, generation_steps=200, mark_every=90)))
    page = Page(content)
    assert page.names.count("svg") == 1 + 2 + 3  # the hatching, steps and latency, three roles of layers
    for words in (
        "Steps",
        "Latency",
        "Where the time went",
        "Layers",
        "Measurements",
        "Settings",
        "What switches did",
        "Marks",
    ):
        assert words in page.words
    for words in (
        "attention → sdpa",
        "attention sdpa",
        "median of 2 generations",
        "What switches did",
        "too few steps",
    ):
        assert words in page.text, words
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(page.names)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    outside = re.findall(r"(?:https?:)?//[\w.]+", content)
    assert set(outside) == {"http://www.w3.org"}  # the name of the SVG namespace, which nobody fetches
    assert "@import" not in content
    assert re.findall(r"url\(([^)]*)\)", content) == ["#hatch"]


def test_what_the_instrument_cost_is_told_part_by_part() -> None:
    trace = sessions.trace()
    assert "drawing costs" not in Page(written(trace)).text
    trace.extend([
        DisplayReport(0, None, 0.0, 0.004),
        DisplayReport(0, 7_500_000.0, 22.0, 0.209),
        RecordingReport(0, 6, 25_000.0),
        PartCompared(0, 5, "display", 1.01, 0.99, 1.02, 64),
    ])  # fmt: skip
    text = Page(written(trace)).text
    for words in (
        "marks a step at",
        "of a median decode step",
        "more than 1 %",
        "7.50 ms a frame, 22 frames a second, 20.9 % of a core",
        "25.0 µs a step of another thread's time",
        "display in turns with none 1.010× the time of a step (95 % interval 0.990× to 1.020×, 64 pairs)",
    ):
        assert words in text, words


def test_nothing_of_a_trace_is_markup() -> None:
    trace = sessions.trace(name=sessions.MARKUP)
    trace.append(sessions.changed(sessions.MARKUP, sessions.MARKUP))
    content = written(trace)
    page = Page(content)
    assert "script" not in page.names
    assert "alert" in page.text  # it is there, as text
    assert '<script>alert("1")' in page.text
    for character in ("\x00", "\x1b", "\udc80"):
        assert character not in content


def test_prompts_and_texts_stay_at_home() -> None:
    page = Page(written(sessions.trace("a secret")))
    assert "hello" not in page.text
    assert "other" not in page.text.replace("others", "")
    assert "secret" not in page.text
    assert "Prompts and texts are not in this report." in page.text


def test_a_selection_says_so() -> None:
    page = Page(written(sessions.trace(), 3, 4))
    assert "steps 3 to 4 of 6" in page.text
    assert "What switches did" not in page.words
    assert "time to first token" not in page.text.lower()


@pytest.mark.parametrize("trace", [readers.trace(), sessions.trace()], ids=["reader", "writer"])
def test_a_model_that_reads_and_one_that_writes(trace: Trace) -> None:
    page = Page(written(trace))
    assert ("Layers" in page.words) == bool(trace.layer_count)
    assert len([word for word in page.words if word == "Measured on"]) == 1


# ---------------------------------------------------------------- drawings


def paths(svg: str) -> dict[str, list[tuple[float, float, float, float]]]:
    """Rectangles (left, top, right, bottom) of each class of a chart."""
    found: dict[str, list[tuple[float, float, float, float]]] = {}
    for path in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        boxes = re.findall(r"M([\d.]+) ([\d.]+)H([\d.]+)V([\d.]+)H[\d.]+Z", path.attrib["d"])
        found[path.attrib["class"]] = [tuple(map(float, box)) for box in boxes]
    return found


def test_bars_are_as_high_as_their_phases_took() -> None:
    trace = sessions.trace()
    drawn = paths(step_chart(excerpt_of(trace)))
    heights = {name: [bottom - top for _, top, _, bottom in boxes] for name, boxes in drawn.items()}
    for phase in (Phase.ATTENTION, Phase.MLP, Phase.SAMPLE):
        mine = heights[f"phase-{phase.name.lower()}"]
        share = trace.steps.phases_ns[0, phase] / sessions.WALL
        whole = sum(boxes[0] for name, boxes in heights.items() if name.startswith("phase"))
        assert len(mine) == 6
        assert mine[0] / whole == pytest.approx(share, abs=0.01)
    assert len(drawn["hatched"]) == 3  # prefills
    bars = sorted(drawn["phase-mlp"])
    assert all(one[2] <= other[0] for one, other in pairwise(bars))


def test_many_steps_share_columns_and_spikes_stay() -> None:
    trace = synthetic.trace(5_000, synthetic.Shape(layers=2, generation_steps=5_000, spike_every=1_000))
    drawn = paths(step_chart(excerpt_of(trace, 100, 4_999)))
    assert 100 < len(drawn["phase-attention"]) <= 240
    assert len(drawn["cap"]) >= 4  # of spikes, which go on above the axis
    latency = paths(latency_chart(excerpt_of(trace, 100, 4_999)))
    assert len(latency["series-0 spread"]) == len(latency["series-0"]) <= 240
    assert len(latency["cap"]) >= 4


def test_configurations_have_their_colours() -> None:
    trace = synthetic.trace(240, synthetic.Shape(layers=2, generation_steps=240, chunks=1, mark_every=60))
    drawn = paths(latency_chart(excerpt_of(trace)))
    counts = {
        name: len(boxes)
        for name, boxes in drawn.items()
        if name.startswith("series") and "spread" not in name
    }
    assert counts == {"series-0": 59 + 60, "series-1": 60, "series-2": 60}  # eager, sdpa, eager again, flex


def test_the_slowest_layer_is_the_brightest() -> None:
    stamps = [0, 1, 900, 901, 1000, 1001, 1002, 1100]
    trace = building.trace_of(
        building.started(), *(building.step((building.T0 + n,), stamps=stamps) for n in range(3))
    )
    drawn = paths(layer_chart(excerpt_of(trace), Role.ATTENTION))
    assert list(drawn) == ["map-15"]
    assert len(drawn["map-15"]) == 3
    assert layer_chart(excerpt_of(trace), Role.REST) == ""
    assert map_colors()[-1] == "#fde725"


def test_every_class_has_a_colour_in_both_themes() -> None:
    content = written(sessions.trace())
    light, dark = re.findall(r":root \{ ?(.*?)\}", content, re.DOTALL)
    for colors, variables in ((palette.LIGHT, light), (palette.DARK, dark)):
        for phase, color in colors.phases.items():
            assert f"--phase-{phase.name.lower()}: {color};" in variables
    names = set(re.findall(r'class="(?:swatch )?([a-z]+-\w+)', content))
    assert names
    for name in names:
        assert f".{name} {{" in content


def test_text_is_safe_anywhere() -> None:
    assert safe('<a href="x">&') == "&lt;a href=&quot;x&quot;&gt;&amp;"
    assert safe("a\x00b\ud800") == "a\ufffdb\ufffd"
    assert element("i", safe("<"), class_='"') == '<i class="&quot;">&lt;</i>'
