"""Set-up on a bare machine: what is missing is named, installed as root, and otherwise told as one command."""

import pytest

from resources.setup import system_packages as setup


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A machine with neither libraries nor fonts; commands are recorded instead of run."""
    commands: list[list[str]] = []

    class Done:
        returncode = 0
        stdout = b""

    def record(command: list[str], **_: object) -> Done:
        commands.append(command)
        return Done()

    monkeypatch.setattr(setup, "loads", lambda library: library == "libGL.so.1")
    monkeypatch.setattr(setup, "has_font", lambda language: False)
    monkeypatch.setattr(setup, "known_to_apt", lambda package: package != "libglib2.0-0t64")
    monkeypatch.setattr(setup.subprocess, "run", record)
    monkeypatch.setattr(
        setup.shutil, "which", lambda program: "/usr/bin/" + program if program != "Xvfb" else None
    )
    monkeypatch.setattr(setup.sys, "platform", "linux")
    return commands


def test_what_is_missing_is_named_once_under_the_name_that_apt_has(bare: list[list[str]]) -> None:
    missing = setup.missing_packages(for_tests=False)
    assert "libglib2.0-0" in missing
    assert missing.count("libglib2.0-0") == 1
    assert "libgl1" not in missing
    assert {"libxcb-cursor0", "fonts-noto-cjk"} <= set(missing)
    assert "xvfb" not in missing
    assert {"xvfb", "xauth"} <= set(setup.missing_packages(for_tests=True))


def test_root_installs_without_asking(bare: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup.os, "geteuid", lambda: 0)
    assert setup.main([]) == 0
    assert bare[0][:2] == ["apt-get", "update"]
    assert bare[1][:3] == ["apt-get", "install", "-y"]
    assert "libegl1" in bare[1]


def test_others_are_told_the_command(
    bare: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(setup.os, "geteuid", lambda: 1000)
    assert setup.main([]) == 0
    assert "sudo apt-get install" in capsys.readouterr().out
    assert bare == []
