"""A panel of curves drawn in letters, for a terminal: both axes logarithmic, at most 100 columns."""

import math
from collections.abc import Sequence
from itertools import pairwise

from experiments.profile_curves import Panel

WIDTH, HEIGHT = 72, 16
"""Cells of the drawing; a cell has 2 x 4 dots."""

LEFT = 9
"""Columns of the numbers of the upright axis."""

RIGHT = 18
"""Columns for what stands behind the ends of curves."""

BOUND, ROOFLINE = "·", "+"
LEGEND = f"⠒⠒ step cost, host included   {ROOFLINE} fitted roofline, host included   {BOUND} bound of the data sheet, no host"

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of a braille letter: left column, right column, from above
_BLANK = 0x2800


def draw(panel: Panel) -> list[str]:
    """Lines of text, none of them longer than LEFT + WIDTH + RIGHT + 1."""
    values = [y for curve in panel.curves for ys in (curve.step_ms, curve.bound_ms, curve.roofline_ms) for y in ys]
    xs = [x for curve in panel.curves for x in curve.x]
    if not values:
        return [f"{panel.title}: nothing to draw, as the KV blocks hold no such step"]
    canvas = _Canvas((min(xs), max(max(xs), 2 * min(xs))), (min(values) / 1.15, max(values) * 1.15))
    for curve in panel.curves:
        canvas.marks(curve.x, curve.bound_ms, BOUND, every=2)
        if curve.roofline_ms:
            canvas.marks(curve.x, curve.roofline_ms, ROOFLINE, every=4)
    for curve in panel.curves:
        canvas.line(curve.x, curve.step_ms)
    for curve in panel.curves:
        canvas.name(curve.x[-1], curve.step_ms[-1], curve.name)
    return [f"{panel.title}, ms", *canvas.rows(), *canvas.x_axis(panel.x_name)]


class _Canvas:
    """Cells that hold a letter each, and dots that become letters where a cell has no other."""

    def __init__(self, x_ends: tuple[float, float], y_ends: tuple[float, float]):
        self.x_ends, self.y_ends = x_ends, y_ends
        self.letters = [[" "] * (WIDTH + RIGHT) for _ in range(HEIGHT)]

    def line(self, x: Sequence[float], y: Sequence[float]) -> None:
        """A line through these points, in dots; it hides what is under it."""
        dots = [[0] * WIDTH for _ in range(HEIGHT)]
        columns = range(round(self._across(x[0], 2 * WIDTH)), round(self._across(x[-1], 2 * WIDTH)) + 1)
        rows = [round(self._down(_at(x, y, self._x_of(column, 2 * WIDTH)), 4 * HEIGHT)) for column in columns]
        for column, (row, after) in zip(columns, pairwise([*rows, rows[-1]])):
            for dot in range(min(row, after), max(row, after) + (row == after)):
                dots[dot // 4][column // 2] |= _DOTS[column % 2][dot % 4]
        for letters, its in zip(self.letters, dots):
            for column, mask in enumerate(its):
                if mask:
                    under = ord(letters[column]) - _BLANK if _BLANK <= ord(letters[column]) <= _BLANK + 0xFF else 0
                    letters[column] = chr(_BLANK | mask | under)

    def marks(self, x: Sequence[float], y: Sequence[float], letter: str, every: int) -> None:
        """A letter at each so many columns along these points."""
        first, last = (round(self._across(end, WIDTH)) for end in (x[0], x[-1]))
        for column in range(first, last + 1):
            if column % every == 0:
                row = round(self._down(_at(x, y, self._x_of(column, WIDTH)), HEIGHT))
                self.letters[row][column] = letter

    def name(self, x: float, y: float, text: str) -> None:
        """Words behind the end of a line, in a row where there is room."""
        column, row = round(self._across(x, WIDTH)) + 2, round(self._down(y, HEIGHT))
        text = text[: WIDTH + RIGHT - column]
        free = (r for r in sorted(range(HEIGHT), key=lambda r: abs(r - row)) if self._is_free(r, column, len(text)))
        place = next(free, row)
        self.letters[place][column : column + len(text)] = text

    def rows(self) -> list[str]:
        """The drawing with its upright axis."""
        ticks = {round(self._down(tick, HEIGHT)): f"{tick:,g}" for tick in _ticks(*self.y_ends)}
        signs = ((ticks.get(row, ""), "┤" if row in ticks else "│", self.letters[row]) for row in range(HEIGHT))
        return [f"{number:>{LEFT - 1}} {sign}{''.join(letters)}".rstrip() for number, sign, letters in signs]

    def x_axis(self, name: str) -> list[str]:
        """The level axis: a rule, its numbers, and what they count."""
        rule, numbers, end = ["─"] * WIDTH, [" "] * (WIDTH + RIGHT), -2
        for tick in _ticks(*self.x_ends):
            column, text = round(self._across(tick, WIDTH)), f"{tick:,.0f}"
            begin = max(0, column - len(text) // 2)
            if begin > end + 1:
                rule[column], end = "┬", begin + len(text)
                numbers[begin:end] = text
        margin = " " * LEFT
        return [f"{margin}└{''.join(rule)}", f"{margin} {''.join(numbers)}".rstrip(), f"{margin} {name.center(WIDTH).rstrip()}"]

    def _is_free(self, row: int, column: int, length: int) -> bool:
        return all(letter in (" ", BOUND, ROOFLINE) for letter in self.letters[row][column - 1 : column + length])

    def _across(self, x: float, cells: int) -> float:
        return _share(x, *self.x_ends) * (cells - 1)

    def _down(self, y: float, cells: int) -> float:
        return (1 - _share(y, *self.y_ends)) * (cells - 1)

    def _x_of(self, column: float, cells: int) -> float:
        low, high = self.x_ends
        return float(low * (high / low) ** (column / (cells - 1)))


def _share(value: float, low: float, high: float) -> float:
    """How far a value is from low to high, by ratio; 0 to 1."""
    return min(1.0, max(0.0, math.log(value / low) / math.log(high / low)))


def _at(x: Sequence[float], y: Sequence[float], value: float) -> float:
    """The height of a line through points, straight where both axes are logarithmic."""
    right = next((i for i, known in enumerate(x) if known >= value), len(x) - 1)
    if right == 0 or x[right] < value:
        return y[right]
    share = math.log(value / x[right - 1]) / math.log(x[right] / x[right - 1])
    return float(y[right - 1] * (y[right] / y[right - 1]) ** share)


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between: 1, 2, 5 of each power of ten, or of fewer where there are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in ((1, 2, 5), (1, 3), (1,)):
        found = [digit * 10.0**power for power in powers for digit in digits]
        if len(kept := [tick for tick in found if low <= tick <= high]) <= 9:
            return kept
    return kept
