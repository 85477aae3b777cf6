"""What a model that cannot be loaded says: one sentence for people, details for a report."""

from collections.abc import Iterable


class ModelError(Exception):
    """A model cannot be loaded. `sentence`: what happened and what to do. `details`: for a report, may be long."""

    def __init__(self, sentence: str, details: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.details = details


class IncompleteModel(ModelError):
    """Some of a model's weight files are not there: a download that was not finished, most likely."""


class HubUnavailable(ModelError):
    """The hub could not be asked, or had trouble of its own: that says nothing about the model."""


class LoadGivenUp(BaseException):
    """A load was cancelled. Not an Exception, so that nothing on its way takes it for a failure of the model's."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says, shortened, without a final full stop; its kind when it says nothing."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    if text.endswith(":") and len(lines) > 1:
        text = f"{text} {lines[1]}"
    if isinstance(error, KeyError):  # it says nothing but the key
        text = f"unknown or missing: {text}"
    return (text if len(text) <= 200 else text[:197] + "…").rstrip(".:")


def listed(names: Iterable[str], most: int = 3) -> str:
    """Some of the names, and how many more there are: 'a, b, c and 7 more'."""
    names = list(names)
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
