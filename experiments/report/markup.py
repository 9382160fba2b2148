"""HTML that is safe by construction: every plain string is escaped, only `Html` made here passes as it is."""

import html
from collections.abc import Iterable

_VOID = frozenset({"meta", "link", "br"})


class Html(str):
    """A piece of finished HTML."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. Children that are not Html are escaped, None is left out; `class_` and `aria_label` name attributes.

    >>> tag("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    pairs = ((key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items() if value is not None)
    opening = "".join(f' {key}="{html.escape(clean(value))}"' for key, value in pairs)
    return Html(f"<{name}{opening}>" if name in _VOID else f"<{name}{opening}>{join(children)}</{name}>")


def join(children: Iterable[object]) -> Html:
    """One piece after the other; plain strings are escaped."""
    return Html(
        "".join(child if isinstance(child, Html) else html.escape(clean(child)) for child in children if child is not None)
    )


def table(head: Iterable[object], rows: Iterable[Iterable[object]], caption: str) -> Html:
    """A table whose first column names the row; cells may be Html or text."""
    header = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    body = [tag("tr", *(tag("td", cell) if i else tag("th", cell, scope="row") for i, cell in enumerate(row))) for row in rows]
    content = tag("table", tag("caption", caption), tag("thead", header), tag("tbody", *body))
    return tag("div", content, class_="scroll", tabindex=0, role="region", aria_label=caption)


def clean(value: object) -> str:
    """Text without control characters, halves of surrogate pairs and marks that turn the reading direction."""
    return "".join(c if c.isprintable() or c == "\xa0" else ("\ufffd" if c not in "\n\t" else " ") for c in str(value))
