"""UserError: what the user gave is wrong. The command line shows it on one screen and exits with code 2."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(ValueError):
    """One or more mistakes, each a line that names the place and what is expected."""

    def __init__(self, mistakes: str | Iterable[str]):
        self.mistakes = [mistakes] if isinstance(mistakes, str) else list(mistakes)
        super().__init__("\n".join(self.mistakes))


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'rate'?`, or nothing where no known word is near."""
    close = get_close_matches(word, list(known), 1, 0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The sentence for a name that is not in a list."""
    words = sorted(known)
    return f"no {what} '{name}'{nearest(name, words)} (known: {', '.join(words)})"
