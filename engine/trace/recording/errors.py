"""What can go wrong with a session file, as one sentence for people."""


class RecordingError(Exception):
    """A session file cannot be read or written; the message is one sentence: what happened, and what to do."""
