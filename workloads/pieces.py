"""numba's compiler, set up for kernels made of many small pieces: the same code in less than half of the time.

numba treats each function as if it stood alone: it optimizes it, makes machine code of it, and looks up anew how to add two
integers. A piece is there to be put into its callers. So here
- a piece is only translated; what calls all of them, an entry, is optimized and made executable, once (`_PieceLibrary`);
- a tuple of arrays goes from piece to piece as one value, not as its 150 numbers (`_WholeTuple`);
- what an operation gives for arguments of certain types is asked once (`_remembered`);
- steps of the compiler that have nothing to do in kernels are left out (`_PASSES`): kernels have no closures,
  comprehensions, `with`, exceptions or array expressions.

It leans on the inside of numba, which promises nothing about it; `workloads.jit` does without it for other versions.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from numba._dynfunc import make_function
from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.datamodel import default_manager
from numba.core.datamodel.models import TupleModel
from numba.core.typed_passes import IRLegalization, NativeLowering, NoPythonBackend, NopythonTypeInference, PreLowerStripPhis
from numba.core.untyped_passes import FixupArgs, GenericRewrites, IRProcessing, ReconstructSSA, TranslateByteCode

_PASSES = (
    TranslateByteCode,
    FixupArgs,
    IRProcessing,
    GenericRewrites,  # indices that are written out become part of the operation: row["name"] needs it
    ReconstructSSA,
    NopythonTypeInference,
    PreLowerStripPhis,
    IRLegalization,
)


class EntryCompiler(CompilerBase):
    """Compiles what Python calls, with all the pieces in it."""

    lowering: Any = NativeLowering

    def compile_extra(self, func: Any) -> Any:
        """Compile a function for the types that the compiler was made for."""
        self.state.targetctx = self.state.targetctx.subtarget(data_model_manager=_models())
        with _remembered():
            return super().compile_extra(func)

    def define_pipelines(self) -> list[PassManager]:
        """The steps from bytecode to a result."""
        manager = PassManager("kernel")
        for step in (*_PASSES, self.lowering, NoPythonBackend):
            manager.add_pass(step, step.name())
        manager.finalize()
        return [manager]


@register_pass(mutates_CFG=True, analysis_only=False)
class _PieceLowering(NativeLowering):
    """Translates a piece into LLVM's language; nothing of it can be run."""

    _name = "piece_lowering"

    def run_pass(self, state: Any) -> bool:
        library = state.library = _PieceLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        lowered = state["cr"]
        made = lowered.fndesc
        if not made.inline:
            library.get_function(made.llvm_func_name).add_function_attribute("noinline")
        # What callers know a piece by; it has no address.
        name = make_function(made.lookup_module(), made.qualname, "", 0, lowered.env, (library,))
        state.targetctx.insert_user_function(name, made, [library])
        state["cr"] = lowered._replace(cfunc=name)
        return True


class PieceCompiler(EntryCompiler):
    """Compiles a piece so far that its callers can take it in."""

    lowering = _PieceLowering


class _PieceLibrary(JITCodeLibrary):
    """The code of a piece. Each function is made smaller on its own, which is quicker than all at once in their callers."""

    def finalize(self) -> None:
        """There is nothing to be done until somebody links it."""
        self._finalized = True

    def _get_module_for_linking(self) -> Any:
        """The piece with all that it calls."""
        if self._shared_module is None:
            for library in dict.fromkeys(self._linking_libraries):
                self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        return super()._get_module_for_linking()


class _WholeTuple(TupleModel):
    """A named tuple that is one argument of a function, not one for each number in it."""

    def get_argument_type(self) -> Any:
        return self.get_value_type()

    def as_argument(self, builder: Any, value: Any) -> Any:
        return value

    def from_argument(self, builder: Any, value: Any) -> Any:
        return value


@cache
def _models() -> Any:
    """How values look in LLVM's language: as numba has it, but for named tuples."""
    models = default_manager.copy()
    models.register(types.NamedTuple, _WholeTuple)
    return models


@contextmanager
def _remembered() -> Iterator[None]:
    """While a kernel is compiled, what a function of numba's own gives for arguments of some types is asked once.

    The answer also depends on the options of the compiler, so other code that numba compiles has no part in it; compiling
    is under numba's own lock.
    """
    before = _operations.get_call_type
    _operations.get_call_type = _known_call_type
    try:
        yield
    finally:
        _operations.get_call_type = before


_operations: Any = types.Function
_ask = _operations.get_call_type
_known: dict[tuple[Any, ...], Any] = {}


def _known_call_type(function: Any, context: Any, args: Any, kws: Any) -> Any:
    key = function, *args, *kws.items()
    if key not in _known:
        _known[key] = _ask(function, context, args, kws)
    return _known[key]
