"""Files as prompts: whole, or one sentence."""

import os
import threading
from pathlib import Path

import pytest

from engine.prompt_files import prompt_text, read_prompt_file


def test_a_prompt_is_text_or_a_file(tmp_path: Path) -> None:
    path = tmp_path / "prompt.txt"
    path.write_bytes("\ufeff令牌\r\n".encode())
    assert prompt_text(f"@{path}") == "令牌\r\n", "as it is, without the mark of its encoding"
    assert prompt_text("a @ b") == "a @ b"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have no names here")
def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("through a pipe",))
    writer.start()
    assert read_prompt_file(pipe) == "through a pipe"
    writer.join()


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\xff\xfe\x00\x80", "not UTF-8"), (b"a\0b", "zero bytes"), (b"1234", "cut it into parts")],
)
def test_what_cannot_be_a_prompt_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, said: str
) -> None:
    monkeypatch.setattr("engine.prompt_files.LARGEST", 4 if b"\0" in content or b"\xff" in content else 3)
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        read_prompt_file(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is a directory"):
        read_prompt_file(tmp_path)
    with pytest.raises(ValueError, match="cannot be read"):
        read_prompt_file(tmp_path / "gone")
