"""What was asked for on a command line and cannot be done, and the exit codes that say so."""

BAD_INPUT = 2
INTERRUPTED = 130


class BadInput(Exception):
    """What was asked for cannot be done; the message is one sentence for people. `code`: the exit code."""

    def __init__(self, sentence: str, code: int = BAD_INPUT) -> None:
        super().__init__(sentence)
        self.code = code
