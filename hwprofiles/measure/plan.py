"""A plan: the kernels that models need at their tensor-parallel degrees, each once, within the memory of the GPU.

What a model needs follows from `hwprofiles.fitting.composition`: four matrix products a layer, the output head, attention of
its heads per GPU, and two all-reduces a layer. A matrix product is looked up between the two widths k around it, so
every n is also measured at the next smaller k of the plan, and what is looked up is always there.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from hwprofiles.datasheet import Model, ProfileError
from hwprofiles.measure.kernels import Decodes, Gemm, Heads, Prompts

HELD_SHARE = 0.5
"""Share of the free memory that one call may hold; the rest is for its copies, the graph and the libraries."""
MAX_PROMPT_TOKENS = 16_384
"""New tokens of a step, together: the most that the fit looks at."""
MAX_DECODE_TOKENS = 1 << 21
"""Context tokens of a step, together: more than the KV blocks of one GPU hold."""

SMALL = (32, 64, 128, 256, 512, 768, 1024, 1536, 2048, 2560, 3072, 3584, 4096)
WIDTHS = (*SMALL, 5120, 6144, 7168, 8192, 10_240, 12_288, 16_384, 51_200, 65_536)
"""n and k of `--grid`: those of aiconfigurator's tables."""


@dataclass(frozen=True)
class Grid:
    """The sizes that kernels are timed at; the more, the longer it takes."""

    rows: tuple[int, ...]
    """m of a matrix product. All have the same, as step costs have their knots where every product was timed."""
    prompt_batches: tuple[int, ...]
    prompt_lengths: tuple[int, ...]
    pasts: tuple[int, ...]
    """Tokens computed before, of one prompt alone."""
    decode_batches: tuple[int, ...]
    contexts: tuple[int, ...]


FULL = Grid(
    rows=(1, 2, 4, 8, 16, 32, 48, 64, 80, 96, 128, 160, 192, 256, 384, 512, 768, 1024, 2048, 4096, 8192),
    prompt_batches=(1, 2, 4, 8, 16, 32),
    prompt_lengths=(16, 32, 64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12_288, 16_384),
    pasts=(512, 2048, 8192, 32_768),
    decode_batches=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
    contexts=(16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072),
)
QUICK = Grid(
    rows=(1, 8, 32, 64, 128, 256, 512, 1024, 2048, 8192),
    prompt_batches=(1, 2, 8),
    prompt_lengths=(128, 512, 2048, 4096, 8192, 16_384),
    pasts=(2048, 32_768),
    decode_batches=(1, 8, 32, 128, 512, 1024),
    contexts=(64, 512, 2048, 8192, 65_536),
)


@dataclass(frozen=True)
class Plan:
    """What is to be timed, in the order of timing."""

    gemms: tuple[Gemm, ...]
    prompts: tuple[Prompts, ...]
    """Whole prompts."""
    chunks: tuple[Prompts, ...]
    """Prompts behind a past."""
    decodes: tuple[Decodes, ...]
    allreduces: Mapping[int, tuple[int, ...]]
    """GPUs -> elements of 16 bits."""


def plan_of(
    models: Sequence[Model],
    degrees: Sequence[int],
    precisions: Sequence[str],
    memory_bytes: int,
    grid: Grid = FULL,
    whole: bool = False,
) -> Plan:
    """The plan for every model at every degree; with `whole`, also the products of all `WIDTHS`.

    Attention that would hold more than `HELD_SHARE` of `memory_bytes` is left out from the largest sizes down.
    ProfileError, with every mistake, where a degree does not divide a model or a needed product does not fit.
    """
    shares = [(model, tp) for model in models for tp in degrees]
    wrong = list(_indivisible(shares))
    if wrong:
        raise ProfileError("\n".join(wrong))
    bound = int(HELD_SHARE * memory_bytes)
    heads = sorted({heads_of(model, tp) for model, tp in shares})
    prompts = tuple(
        kernel
        for each in heads
        for batch in grid.prompt_batches
        for kernel in _curve([Prompts(each, batch, n) for n in grid.prompt_lengths if batch * n <= MAX_PROMPT_TOKENS], bound)
    )
    decodes = tuple(
        kernel
        for each in heads
        for batch in grid.decode_batches
        for kernel in _curve([Decodes(each, batch, n) for n in grid.contexts if batch * n <= MAX_DECODE_TOKENS], bound)
    )
    chunks = [Prompts(each, 1, n, past) for each in heads for past in grid.pasts for n in grid.prompt_lengths]
    _refuse_without_attention(heads, prompts, decodes, bound)
    widest = max(grid.rows) * max(model.hidden for model in models)
    return Plan(
        gemms=tuple(_gemms(shares, precisions, bound, grid.rows, whole)),
        prompts=prompts,
        chunks=tuple(kernel for kernel in chunks if kernel.held_bytes <= bound),
        decodes=decodes,
        allreduces={tp: tuple(_messages(widest, bound)) for tp in sorted(set(degrees)) if tp > 1},
    )


def needed_products(model: Model, tp: int, precision: str) -> dict[str, tuple[str, int, int]]:
    """(precision, n, k) on one GPU by what it is for; the output head has 16 bits whatever the precision."""
    heads = heads_of(model, tp)
    query_width, mlp_width = heads.query * heads.size, model.mlp_width // tp
    return {
        "query, key and value": (precision, query_width + 2 * heads.kv * heads.size, model.hidden),
        "attention output": (precision, model.hidden, query_width),
        "gate and up": (precision, 2 * model.mlp_width // tp, model.hidden),
        "down": (precision, model.hidden, mlp_width),
        "output head": ("bf16", model.vocabulary // tp, model.hidden),
    }


def heads_of(model: Model, tp: int) -> Heads:
    """The heads that each of `tp` GPUs computes."""
    return Heads(model.heads // tp, model.kv_heads_per_gpu(tp), model.head_size)


def _indivisible(shares: Iterable[tuple[Model, int]]) -> Iterator[str]:
    for model, tp in shares:
        degrees = model.valid_tp(max(8, tp))
        if tp not in degrees:
            yield f"--tp {tp}: {model.id} cannot be split so; expected one of {', '.join(map(str, degrees))}"


def _gemms(
    shares: Sequence[tuple[Model, int]], precisions: Sequence[str], bound: int, rows: Sequence[int], whole: bool
) -> Iterator[Gemm]:
    """Every product at every number of rows, precision by precision, so that the weights change least often."""
    needs = {
        product: f"the {use} of {model.id} at tp {tp}"
        for model, tp in shares
        for precision in precisions
        for use, product in needed_products(model, tp, precision).items()
    }
    largest = max(rows)
    wrong = [
        f"{kernel}, {use}, holds {kernel.held_bytes} bytes; expected at most {bound}, half of the free memory"
        for product, use in needs.items()
        if (kernel := Gemm(*product, largest)).held_bytes > bound
    ]
    if wrong:
        raise ProfileError("\n".join(wrong))
    products = set(needs)
    if whole:
        products |= {(precision, n, k) for precision in precisions for n in WIDTHS for k in WIDTHS}
    products |= set(_beside(products))
    for product in sorted(products):
        if Gemm(*product, largest).held_bytes <= bound:
            yield from (Gemm(*product, m) for m in rows)


def _beside(products: Iterable[tuple[str, int, int]]) -> Iterator[tuple[str, int, int]]:
    """Each product at the next smaller k that its precision is measured at."""
    products = set(products)
    for precision, n, k in products:
        smaller = [other for word, _, other in products if word == precision and other < k]
        if smaller:
            yield precision, n, max(smaller)


def _curve(kernels: Sequence, bound: int) -> list:
    """Those that fit, of kernels of one batch and growing size; none where they do not make a line."""
    fitting = [kernel for kernel in kernels if kernel.held_bytes <= bound]
    return fitting if len(fitting) > 1 else []


def _refuse_without_attention(
    heads: Sequence[Heads], prompts: Sequence[Prompts], decodes: Sequence[Decodes], bound: int
) -> None:
    there = {kernel.heads for kernel in prompts} & {kernel.heads for kernel in decodes}
    wrong = [f"attention, {each}: no size fits {bound} bytes, half of the free memory" for each in heads if each not in there]
    if wrong:
        raise ProfileError("\n".join(wrong))


def _messages(widest: int, bound: int) -> Iterator[int]:
    """Powers of two from 1024 elements to the first that holds `widest`, at 16 bits within the bound."""
    elements = 1024
    while 2 * elements <= bound:
        yield elements
        if elements >= widest:
            return
        elements *= 2
