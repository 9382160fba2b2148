"""A matplotlib figure as SVG that can stand beside others in a page: text as text, ids its own, no dates."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.figure import Figure

from experiments.report.markup import Html, clean, tag

_SCREEN = 1.75  # CSS pixels to a point at most: 9 pt letters are then a little under 16 px
_REFERENCE = re.compile(r"(^#|url\(#)([\w.-]+)")
_DECIMALS = re.compile(r"(\.\d\d)\d+")
_FAMILY = re.compile(r"(font:[^;]*?\dpx )[^;]*")


@contextmanager
def style() -> Iterator[None]:
    """Draw and save inside of this: matplotlib's own defaults and the look of the report, whatever the user has set."""
    with mpl.rc_context(), as_file(files("experiments.report") / "style.mplstyle") as path:
        mpl.rcdefaults()
        mpl.rcParams.update(mpl.rc_params_from_file(path, fail_on_error=True, use_default_template=False))
        yield


def picture(key: str, title: str, caption: str, figure: Figure | None) -> Html | None:
    """A figure with its title above and its caption below; None for nothing drawn. `key` is its own in the page."""
    if figure is None:
        return None
    return tag("figure", tag("h3", title), inline(figure, key, title, caption), tag("figcaption", caption))


def inline(figure: Figure, key: str, title: str, description: str) -> Html:
    """The figure as an <svg> element whose ids all begin with `key`; a screen reader reads title and description."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):
                parent.remove(child)
    _own_ids(root, key)
    _shorten(root)
    width = round(float(root.get("viewBox", "0 0 0 0").split()[2]) * _SCREEN)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{key}-title {key}-desc", "style": f"max-width: {width}px"}
    for place, (name, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(name, {"id": f"{key}-{name}"})
        element.text = clean(text)
        root.insert(place, element)
    return Html(ElementTree.tostring(root, encoding="unicode"))


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _own_ids(root: ElementTree.Element, key: str) -> None:
    """Number the ids that are referred to and drop the rest; drop namespaces, which HTML does without."""
    values = [value for element in root.iter() for value in element.attrib.values()]
    used = {found for value in values for _, found in _REFERENCE.findall(value)}
    renamed: dict[str, str] = {}
    for element in root.iter():
        element.tag = _local(element.tag)
        identity = element.attrib.pop("id", "")
        if identity in used:
            element.set("id", renamed.setdefault(identity, f"{key}-{len(renamed)}"))
    for element in root.iter():
        for name, value in list(element.attrib.items()):
            del element.attrib[name]
            value = _REFERENCE.sub(lambda match: match[1] + renamed.get(match[2], match[2]), value)
            element.set(_local(name), value)


def _shorten(root: ElementTree.Element) -> None:
    """Two decimals of a point are enough, and three font families."""
    for element in root.iter():
        element.tail = None if element.tag != "tspan" else element.tail
        if element.text is not None and not element.text.strip():
            element.text = None
        for name in ("d", "x", "y", "transform"):
            if name in element.attrib:
                element.set(name, _DECIMALS.sub(r"\1", element.attrib[name]).replace("\n", ""))
        if "font:" in element.get("style", ""):
            element.set("style", _FAMILY.sub(r"\1'DejaVu Sans', Verdana, sans-serif", element.get("style", "")))
