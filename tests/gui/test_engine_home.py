"""One host after the other: a process is ended at once, a thread when it can, and no two models are held meanwhile."""

from threading import Event

import pytest

from engine.protocol import Load, Pause
from gui.engine_home import EngineHome
from tests.gui.building import Hosts, ScriptedHost


class Slow(ScriptedHost):
    """Ends when it is let go."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.let_go = Event()

    def stop(self, timeout_s: float = 5.0) -> None:
        self.let_go.wait(10)
        super().stop()


@pytest.fixture
def hosts() -> Hosts:
    return Hosts()


def test_a_process_is_replaced_at_once(hosts: Hosts) -> None:
    home = EngineHome(hosts("process"), hosts)
    home.replace("thread", Load("tiny"))
    assert hosts.opened[0].ended == "killed"
    assert home.is_due()
    assert home.is_awaited
    assert not home.send(Pause())
    assert home.receive() == []
    assert home.open_next() == Load("tiny")
    assert hosts.opened[1].started
    assert hosts.opened[1].sent == [], "whoever opens it tells it what to load"
    assert (home.place, home.is_open, home.is_awaited) == ("thread", True, False)
    assert home.send(Pause())
    assert hosts.opened[1].sent == [Pause()]


def test_a_thread_is_waited_for(hosts: Hosts) -> None:
    slow = Slow("thread")
    home = EngineHome(slow, hosts)
    home.replace("process", None)
    assert not home.is_due(), "two models would need twice the memory"
    assert not hosts.opened
    slow.let_go.set()
    home.shut_down()
    assert slow.ended == "stopped"
    assert not home.is_awaited


def test_the_next_can_begin_without_a_model(hosts: Hosts) -> None:
    home = EngineHome(hosts("process"), hosts)
    assert not home.leave_out_load()
    home.replace("process", Load("tiny"))
    assert home.leave_out_load()
    assert not home.leave_out_load()
    assert home.open_next() is None


def test_what_has_ended_is_tidied_up(hosts: Hosts) -> None:
    home = EngineHome(hosts("process"), hosts)
    home.tidy_up()
    assert hosts.opened[0].ended == "stopped"
    assert not home.is_open
    assert not home.is_due()
