"""What a person sees while a command runs and when it is done. Results go to standard output, progress to standard error."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any


class Console:
    """Plain text; `quiet` leaves out progress and notices, never results or errors."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.started = time.monotonic()
        self._on_terminal = sys.stderr.isatty()
        self._last = self.started
        self._line_open = False

    def say(self, text: str = "") -> None:
        """A line of the answer."""
        self._close_line()
        print(text)

    def note(self, text: str) -> None:
        """A remark that a pipe does not want."""
        if not self.quiet:
            self._close_line()
            print(text, file=sys.stderr, flush=True)

    def progress(self, text: str) -> None:
        """Where we are: one line that is written over on a terminal, a line every few seconds in a log."""
        now = time.monotonic()
        if self.quiet or now - self._last < (0.1 if self._on_terminal else 5.0):
            return
        self._last = now
        text = f"  {text} · {now - self.started:.0f} s"
        if self._on_terminal:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
            self._line_open = True
        else:
            print(text, file=sys.stderr, flush=True)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Aligned columns parted by `|`, which a spreadsheet splits too."""
        cells = [[str(cell) for cell in row] for row in [head, *rows]]
        pads = [_pad([row[i] for row in cells]) for i in range(len(head))]
        for i, row in enumerate(cells):
            self.say(" | ".join(pad(cell) for pad, cell in zip(pads, row)).rstrip())
            if i == 0:
                self.say("-|-".join("-" * len(pad("")) for pad in pads))

    def _close_line(self) -> None:
        if self._line_open:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._line_open = False


def _pad(column: Sequence[str]) -> Callable[[str], str]:
    """Numbers stand right, words left."""
    width = max(len(cell) for cell in column)
    is_number = all(cell[:1].isdigit() or cell[:1] in "∞–" for cell in column[1:])
    return lambda cell: cell.rjust(width) if is_number else cell.ljust(width)
