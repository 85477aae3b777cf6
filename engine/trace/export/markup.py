"""Text for HTML and SVG: nothing that comes from a trace is ever markup."""

import re
from collections.abc import Iterable
from html import escape

# What neither HTML nor XML may hold, not even escaped: control characters, halves of surrogate pairs, non-characters.
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def safe(value: object) -> str:
    """Anything as text of a page, also inside of a quoted attribute; what cannot be in one becomes U+FFFD."""
    return escape(_FORBIDDEN.sub("\ufffd", str(value)))


def element(name: str, content: str = "", **attributes: object) -> str:
    """An element around content that is markup already. Attributes are escaped; `class_` is `class`, `_` is `-`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{safe(value)}"' for key, value in attributes.items()
    )
    return f"<{name}{given}>{content}</{name}>"


def joined(parts: Iterable[str]) -> str:
    """Several parts, one a line."""
    return "\n".join(parts)
