"""What cannot be exported, or not there."""


class ExportRefused(Exception):
    """What was asked for cannot be written; the message is one sentence for people. Nothing was changed on disk."""


class ExportCancelled(Exception):
    """The user gave it up; nothing was changed on disk."""
