"""How kernels run: compiled by numba into a cache that cannot be stale, or as the plain Python they are written in.

A kernel module says `entry, kernel, routine = compiler(__name__)` and marks its functions. Imported under its own name it is
compiled, at the first call of each function; `plain(name)` gives a second copy of it whose functions stay Python: a small
run is over before a compiler would be. Both give the same results.

numba looks only at the file of a function to decide whether its cached code is still right, so the cache folder is named
by a hash of every source of the kernel's package and of all that made the code; numba tells processors apart.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

Mark = Callable[[Any], Any]


class Marks(NamedTuple):
    """Decorators for the functions of a kernel module, see `compiler`."""

    entry: Mark
    kernel: Mark
    routine: Mark


CACHE_VARIABLE = "SERVECAST_CACHE_DIR"
PIECES_FOR = "0.68."
"""The versions of numba whose inside `workloads.pieces` knows."""
_PLAIN = "plain_"


def compiler(module_name: str) -> Marks:
    """The marks of a kernel module: `entry` for what Python calls, `kernel` for the pieces of that, `routine` for a piece
    that is so large that there is to be one of it, however many call it.

    Entries are kept in the cache, with all that they call. Pieces become part of their callers, as calls with many arrays
    would cost more than what they do, and they may be arguments of each other; from Python only their plain copies can be
    called. None counts references to arrays, which would be half of their time, so none may make or return arrays of its
    own.
    """
    if is_plain(module_name):
        return Marks(_leave, _leave, _leave)
    import numba

    njit: Any = numba.njit  # some of its options are not in its type
    unliteral = numba.types.unliteral

    folder = cache_folder(_package_of(module_name))
    options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "_nrt": False, "no_cfunc_wrapper": True}
    is_ours = version("numba").startswith(PIECES_FOR)
    of_entries, of_pieces = _compilers() if is_ours else ({}, {})

    def entry(function: Any) -> Any:
        made = njit(**of_entries, **options)(function)
        if folder is not None:
            _keep_in(folder, made)
        return made

    def piece(function: Any, is_inlined: bool) -> Any:
        made = njit(forceinline=is_inlined, no_cpython_wrapper=True, **of_pieces, **options)(function)
        resolve = made.get_call_template
        # numba would compile a piece once more for every number that is written out in a call.
        made.get_call_template = lambda args, kws: resolve([unliteral(arg) for arg in args], kws)
        return made

    # numba itself cannot cache a call that is given functions, unless it is written out in its caller.
    routine = partial(piece, is_inlined=False) if is_ours else njit(inline="always", **options)
    return Marks(entry, partial(piece, is_inlined=True), routine)


def can_compile() -> bool:
    """Whether numba is there to compile: not where NUMBA_DISABLE_JIT switches it off."""
    return os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")


def is_loaded(module_name: str, function: str) -> bool:
    """Whether the compiled code of an entry is in this process already."""
    return bool(getattr(getattr(sys.modules.get(module_name), function, None), "signatures", ()))


def is_plain(module_name: str) -> bool:
    """Whether the functions of this module stay Python: it is the plain copy, or numba is switched off."""
    return not can_compile() or any(part.startswith(_PLAIN) for part in module_name.split("."))


def plain(name: str) -> ModuleType:
    """The copy of a kernel module or package whose functions are plain Python; its modules import each other relatively."""
    parent, _, last = name.rpartition(".")
    copy_name = f"{parent}.{_PLAIN}{last}"
    if copy_name not in sys.modules:
        origin = importlib.util.find_spec(name)
        assert origin is not None and origin.origin is not None
        spec = importlib.util.spec_from_file_location(
            copy_name, origin.origin, submodule_search_locations=origin.submodule_search_locations
        )
        assert spec is not None and spec.loader is not None
        sys.modules[copy_name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[copy_name]


def is_warm(name: str, function: str) -> bool:
    """Whether the compiled code of a kernel of this module or package lies in the cache."""
    folder = cache_folder(name)
    return folder is not None and any(folder.glob(f"*.{function}-*.nbc"))


@lru_cache
def cache_folder(name: str) -> Path | None:
    """Where the compiled code of a kernel module or package lies; None where no folder of the user's own can be written."""
    digest = hashlib.sha256()
    for path in (*_sources(name), Path(__file__)):
        digest.update(path.name.encode() + path.read_bytes())
    digest.update(Path(__file__).with_name("pieces.py").read_bytes())
    # numba tells processors apart itself; what it asks for is only that others' code is not in the way.
    made_for = (version("numba"), version("llvmlite"), platform.python_version(), platform.machine())
    digest.update(repr(made_for).encode())
    for root in _roots():
        folder = root / f"{name}-{digest.hexdigest()[:16]}"
        if _is_ours(folder):
            return folder
    return None


def _compilers() -> tuple[dict[str, Any], dict[str, Any]]:
    """Options that choose the compilers of entries and of pieces. Kernels compile without them too, in twice the time."""
    from workloads.pieces import EntryCompiler, PieceCompiler

    return {"pipeline_class": EntryCompiler}, {"pipeline_class": PieceCompiler}


def _keep_in(folder: Path, made: Any) -> None:
    """Have numba keep the code of a function in this folder.

    Its own choice of a place would hang on where the source lies and when it was written, so that every clone compiles
    anew; the folder's name says all that matters.
    """
    import numba.core.config
    from numba.core.caching import FunctionCache, IndexDataCacheFile

    config: Any = numba.core.config
    before, config.CACHE_DIR = config.CACHE_DIR, str(folder)  # it looks for a place even if it is given one
    try:
        cache: Any = FunctionCache(made.py_func)
    finally:
        config.CACHE_DIR = before
    cache._cache_path = str(folder)
    cache._cache_file = IndexDataCacheFile(str(folder), cache._impl.filename_base, folder.name)
    cache.load_overload = cache._load_overload  # without all of numba's own functions, which only a compiler needs
    made._cache = cache


def _roots() -> list[Path]:
    """Folders that may hold caches, the first that can be written is taken."""
    if named := os.environ.get(CACHE_VARIABLE):
        return [Path(named)]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [home / "servecast", Path(tempfile.gettempdir()) / f"servecast-{getattr(os, 'getuid', lambda: 0)()}"]


def _is_ours(folder: Path) -> bool:
    """Make the folder if need be. Cached code is run, so a folder that somebody else owns or may write is not used."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status, root = folder.stat(), folder.parent.stat()
    except OSError:
        return False
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or root.st_uid != os.getuid() or status.st_mode & 0o022):
        return False
    return os.access(folder, os.W_OK)


def _package_of(module_name: str) -> str:
    """The package of a module of kernels, or the module itself where it stands alone."""
    return module_name.rpartition(".")[0] if module_name.count(".") > 1 else module_name


def _sources(name: str) -> list[Path]:
    spec = importlib.util.find_spec(name)
    assert spec is not None and spec.origin is not None
    if spec.submodule_search_locations is None:
        return [Path(spec.origin)]
    return sorted(Path(spec.origin).parent.glob("*.py"))


def _leave(function: Any) -> Any:
    return function
