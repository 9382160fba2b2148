"""What a person sees while a command runs and when it is done: answers on standard output, progress on standard error."""

import logging
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.status import Status

EVERY_S = 5.0
"""Between two lines of progress in a log."""


class Console:
    """Plain text; `quiet` leaves out progress and notices, never results or errors."""

    def __init__(self, quiet: bool = False):
        self.quiet = quiet
        self.started = time.monotonic()
        self._told = self.started
        self._status: Status | None = None

    def say(self, text: str = "") -> None:
        """A line of the answer."""
        self._end_progress()
        print(text)

    def note(self, text: str) -> None:
        """A remark that a pipe does not want."""
        if not self.quiet:
            self._end_progress()
            print(text, file=sys.stderr, flush=True)

    def progress(self, text: str) -> None:
        """Where we are: one line that changes on a terminal, a line every few seconds in a log."""
        if self.quiet:
            return
        now = time.monotonic()
        text = f"{text} · {now - self.started:.0f} s"
        if sys.stderr.isatty():
            self._show(text)
        elif now - self._told >= EVERY_S:
            self._told = now
            print(f"  {text}", file=sys.stderr, flush=True)

    def table(self, head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Aligned columns parted by `|`, which a spreadsheet splits too."""
        cells = [[str(cell) for cell in row] for row in [head, *rows]]
        pads = [_pad([row[i] for row in cells]) for i in range(len(head))]
        for i, row in enumerate(cells):
            self.say(" | ".join(pad(cell) for pad, cell in zip(pads, row)).rstrip())
            if i == 0:
                self.say("-|-".join("-" * len(pad("")) for pad in pads))

    def _show(self, text: str) -> None:
        if self._status is None:
            from rich.console import Console as Terminal

            self._status = Terminal(stderr=True).status(text)
            self._status.start()
        self._status.update(text)

    def _end_progress(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None


def log_to(console: Console) -> None:
    """What the packages below have to tell, such as that a compiler is at work, is a note on this console."""
    log = logging.getLogger("servecast")
    for handler in list(log.handlers):
        log.removeHandler(handler)
    log.addHandler(_Notes(console))
    log.propagate = False


class _Notes(logging.Handler):
    """Log records as notes."""

    def __init__(self, console: Console):
        super().__init__(logging.WARNING)
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        self._console.note(record.getMessage())


def _pad(column: Sequence[str]) -> Callable[[str], str]:
    """Numbers stand right, words left."""
    width = max(len(cell) for cell in column)
    is_number = all(cell[:1].isdigit() or cell[:1] in "∞–" for cell in column[1:])
    return lambda cell: cell.rjust(width) if is_number else cell.ljust(width)
