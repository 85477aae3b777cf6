"""What is on screen and what is chosen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gui.navigation import Navigation, followed_range, grown_span


@pytest.fixture
def navigation() -> Navigation:
    made = Navigation()
    made.trace_grew(1000)
    return made


def test_a_range_grows_four_times_a_doubling() -> None:
    assert [grown_span(n) for n in (0, 64, 65, 80, 81, 128, 129, 1000)] == [
        64,
        64,
        80,
        80,
        96,
        128,
        160,
        1024,
    ]


def test_following_moves_in_eighths_of_the_span() -> None:
    assert followed_range(1000, 512) == (512, 1024)
    assert followed_range(1024, 512) == (512, 1024)
    assert followed_range(1025, 512) == (576, 1088)
    assert followed_range(300, 512) == (0, 320)


@given(st.integers(0, 300_000), st.sampled_from([64.0, 512.0, 4096.0, float("inf")]))
def test_the_newest_step_is_always_on_screen(count: int, span: float) -> None:
    first, last = followed_range(count, span)
    assert first <= count <= last
    assert last - first <= max(span, 64)


def test_following_shows_the_newest_steps(navigation: Navigation) -> None:
    assert navigation.follow
    assert (navigation.first, navigation.last) == (512, 1024)
    navigation.trace_grew(1100)
    assert (navigation.first, navigation.last) == (640, 1152)


def test_panning_lets_go_and_follow_returns(navigation: Navigation, qtbot: object) -> None:
    follows: list[bool] = []
    navigation.follow_changed.connect(follows.append)
    navigation.pan(-100)
    assert (navigation.first, navigation.last) == (412, 924)
    navigation.trace_grew(5000)
    assert (navigation.first, navigation.last) == (412, 924)
    navigation.set_follow(True)
    assert navigation.last >= 5000
    assert follows == [False, True]


def test_panning_stops_at_the_begin(navigation: Navigation) -> None:
    navigation.pan(-10_000)
    assert (navigation.first, navigation.last) == (0, 512)


def test_zoom_keeps_the_step_under_the_pointer(navigation: Navigation) -> None:
    navigation.show_range(400, 500)
    navigation.zoom(0.5, center=425)
    assert (navigation.first, navigation.last) == (412.5, 462.5)


def test_zoom_while_following_keeps_following(navigation: Navigation) -> None:
    navigation.zoom(0.25, center=520)
    assert navigation.follow
    assert (navigation.first, navigation.last) == (880, 1008)


def test_show_all(navigation: Navigation) -> None:
    navigation.pan(-300)
    navigation.show_all()
    assert (navigation.first, navigation.last) == (0, 1024)
    assert navigation.follow


def test_selection_is_brought_into_view_and_bounded(navigation: Navigation) -> None:
    chosen: list[object] = []
    navigation.selection_changed.connect(chosen.append)
    navigation.select(1000)
    navigation.select(100)
    assert navigation.first <= 100 < navigation.last
    assert not navigation.follow
    navigation.select(100)
    navigation.select(None)
    assert chosen == [100, None]


def test_next_begins_at_the_newest(navigation: Navigation) -> None:
    navigation.select_next(-1)
    assert navigation.selected == 998
    navigation.select_next(+5)
    assert navigation.selected == 999


def test_reset(navigation: Navigation) -> None:
    navigation.select(3)
    navigation.set_layer(2)
    navigation.reset()
    assert (navigation.count, navigation.selected, navigation.layer, navigation.follow) == (
        0,
        None,
        None,
        True,
    )
    assert (navigation.first, navigation.last) == (0, 64)
    assert navigation.shown_step is None
