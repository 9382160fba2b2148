"""The small parts of an answer: chips that say whether a limit holds, cards that hold one number each."""

from collections.abc import Sequence
from typing import NamedTuple

from experiments.report.markup import Html, tag
from experiments.report.schema import TermRow
from experiments.report.words import infinite, seconds, share, term_name


class Card(NamedTuple):
    """One number, its name above it and what it means below."""

    name: str
    value: str
    note: str


def cards_row(cards: Sequence[Card]) -> Html:
    """Cards side by side."""
    parts = ((tag("span", card.name, class_="name"), tag("b", card.value), tag("span", card.note)) for card in cards)
    return tag("div", *(tag("div", *part, class_="card") for part in parts), class_="cards")


def chips_row(chips: Sequence[Html]) -> Html | None:
    """Chips side by side; None for none."""
    return tag("p", *(part for chip in chips for part in (chip, " ")), class_="chips") if chips else None


def term_chip(term: TermRow) -> Html:
    """One condition of the SLO: value, limit, and in words whether it holds."""
    end = "holds" if term.holds else "missed"
    if term.key == "slo_attainment_frac":
        return chip(term.holds, f"{share(term.value)} meet {term.term} · at least {share(term.limit)} must · {end}")
    stat = term.key.removesuffix("_s").partition("_")[2]
    return chip(term.holds, f"{term_name(term.key)} {latency(term.value, stat)} · limit {seconds(term.limit)} · {end}")


def chip(good: bool, text: str) -> Html:
    """A verdict that does without its colour: the mark and the words say the same."""
    return tag("span", mark(good), " ", text, class_="chip good" if good else "chip bad")


def mark(good: bool) -> Html:
    """A tick or a cross beside words that say the same."""
    return tag("span", "✓" if good else "✗", class_="mark good" if good else "mark bad", aria_hidden="true")


def latency(value: float | None, stat: str) -> str:
    """A statistic of a latency; where there is none, that requests were not served."""
    return infinite(stat) if value is None else seconds(value)
