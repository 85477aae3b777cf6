"""Settings that exclude each other: who gives way, and that nothing illegal is ever in force."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.protocol import Choice, SettingFacts, SettingValue
from engine.runtime.settings.conflicts import CONFLICTS, Conflict, all_but, one_of, settle
from engine.runtime.settings.resolve import resolve

NO_CROP = Conflict("cache", one_of("static"), "speculation", all_but("off"), "A static cache cannot crop.")
NO_BEAMS = Conflict("speculation", all_but("off"), "beams", all_but(1), "Speculation follows one beam.")
TABLE = (NO_CROP, NO_BEAMS)
ORDER = ["cache", "speculation", "beams"]
VALUES = {"cache": ["dynamic", "static"], "speculation": ["off", "lookup", "draft"], "beams": [1, 4]}
PLAIN: dict[str, SettingValue] = {"cache": "dynamic", "speculation": "off", "beams": 1}


def facts() -> list[SettingFacts]:
    return [
        SettingFacts(key, "", key, "choice", PLAIN[key], tuple(Choice(v, str(v)) for v in VALUES[key]))
        for key in ORDER
    ]


@pytest.mark.parametrize(
    ("in_force", "wanted", "settled", "refused"),
    [
        ({}, {"cache": "static"}, {"cache": "static"}, {}),
        ({"cache": "static"}, {"speculation": "draft"}, {"cache": "static"}, {"speculation": NO_CROP}),
        ({"speculation": "draft"}, {"cache": "static"}, {"speculation": "draft"}, {"cache": NO_CROP}),
        # of two that are asked for together the later one gives way
        ({}, {"speculation": "draft", "cache": "static"}, {"cache": "static"}, {"speculation": NO_CROP}),
        # one goes as the other comes
        ({"speculation": "draft"}, {"cache": "static", "speculation": "off"}, {"cache": "static"}, {}),
        # whoever gives way may clear the way for a third
        ({}, {"cache": "static", "speculation": "draft", "beams": 4}, {"cache": "static", "beams": 4},
         {"speculation": NO_CROP}),
    ],
)  # fmt: skip
def test_who_gives_way(
    in_force: dict[str, SettingValue],
    wanted: dict[str, SettingValue],
    settled: dict[str, SettingValue],
    refused: dict[str, Conflict],
) -> None:
    resolution = resolve(wanted, facts(), PLAIN | in_force, TABLE)
    assert resolution.effective == PLAIN | settled
    assert resolution.reasons == {key: conflict.reason for key, conflict in refused.items()}


@given(st.data())
def test_nothing_illegal_is_ever_in_force(data: st.DataObject) -> None:
    legal = [
        dict(zip(ORDER, values, strict=True))
        for values in product(*VALUES.values())
        if not any(c.holds(dict(zip(ORDER, values, strict=True))) for c in TABLE)
    ]
    in_force = data.draw(st.sampled_from(legal))
    wanted = in_force | {
        key: data.draw(st.sampled_from(VALUES[key])) for key in data.draw(st.sets(st.sampled_from(ORDER)))
    }
    settled, reasons = settle(wanted, in_force, ORDER, TABLE)
    assert not any(conflict.holds(settled) for conflict in TABLE)
    for key in ORDER:
        assert settled[key] == (in_force[key] if key in reasons else wanted[key])


def test_every_reason_is_a_sentence() -> None:
    for conflict in CONFLICTS:
        assert conflict.reason[0].isupper()
        assert conflict.reason.endswith(".")
