"""The collector of cyclic garbage is off where it is not wanted, and as it was afterwards."""

import gc

import pytest

from engine.collecting import uncollected


def fail_inside() -> None:
    with uncollected():
        assert not gc.isenabled()
        with uncollected():
            pass
        assert not gc.isenabled(), "an inner one turned it on"
        raise ValueError("inside")


def test_it_is_off_inside_and_as_it_was_afterwards() -> None:
    assert gc.isenabled()
    with pytest.raises(ValueError, match="inside"):
        fail_inside()
    assert gc.isenabled()
