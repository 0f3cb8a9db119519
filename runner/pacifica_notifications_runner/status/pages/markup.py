"""HTML from elements; text is escaped."""

from __future__ import annotations

import html

_EMPTY = frozenset({"input", "link", "meta"})


class Markup(str):
    """A piece of HTML."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element, with markup, text or lists of them as children; None and False are left out, True has no value.

    In the names of attributes ``_`` stands for ``-``; a ``_`` at the end is dropped.
    """
    given = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    opened = f"<{name}{given}>"
    return Markup(opened if name in _EMPTY else f"{opened}{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """Pieces one after the other."""
    return Markup("".join(map(_piece, children)))


def _piece(child: object) -> str:
    if child is None or child is False:
        return ""
    if isinstance(child, Markup):
        return child
    if isinstance(child, list | tuple):
        return join(*child)
    return html.escape(str(child))


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'
