"""A picture's file: checked before work begins, written whole or not at all."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.errors import UserError
from workloads.whole_file import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".svg", ".png")


def check_picture(target: Path, force: bool, flag: str = "--out") -> None:
    """UserError for an ending that is not drawn, a folder that is not there, and a file that is, unless `force` replaces it."""
    if target.suffix.lower() not in ENDINGS:
        raise UserError(f"{flag} {target}: expected a file that ends in {' or '.join(ENDINGS)}")
    if not target.parent.is_dir():
        raise UserError(f"{flag} {target}: there is no folder {target.parent}")
    if target.is_dir():
        raise UserError(f"{flag} {target}: a folder; expected a file")
    if target.exists() and not force:
        raise UserError(f"{flag} {target}: exists already; --force replaces it")


def save_picture(figure: "Figure", target: Path, flag: str = "--out") -> None:
    """Write a figure; the same figure gives the same bytes. UserError where that fails."""
    from matplotlib import rc_context

    ending = target.suffix.lower().removeprefix(".")
    metadata: dict[str, Any] = {"Date": None} if ending == "svg" else {"Software": None}
    try:
        with rc_context({"svg.hashsalt": "servecast"}), written_whole(target) as part:
            figure.savefig(part, format=ending, metadata=metadata)
    except OSError as error:
        raise UserError(f"{flag} {target}: {error.strerror}") from None
