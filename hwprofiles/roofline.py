"""The roofline of a GPU: step times of any dense model from its dimensions, where no table was made of measured kernels.

    t(step) = f_tok(m) + head(B)
            + [prefill tokens > 0] * (a0 + a1*prefill tokens + a2*prefill work)
            + [decodes > 0]        * (d(decodes) + e(decodes)*mean context)

with the words of hwprofiles/costmodel.py. f_tok is layers x (four matrix products, two all-reduces, elementwise kernels) of m
tokens, and every kernel has the time that hwprofiles/kernel_roofs.py gives it. The constants of a GPU are fitted once, to the
composed step times of all models that its kernel tables cover (hwprofiles.fitting.fit_roofline). Host time is not part of it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hwprofiles.costmodel import AttentionCost, FitError, FittedRange, StepCost
from hwprofiles.datasheet import Gpu, Model, load_gpu, load_model
from hwprofiles.kernel_roofs import AllReduce, Attention, Elementwise, Gemm, Heads, wrong_shares
from hwprofiles.memory import PRECISION_BYTES, WIDE_BYTES
from hwprofiles.records import ProfileError, did_you_mean, load_record, profile_names
from hwprofiles.steptable import TICKS_PER_MS, Knots

FOLDER = "rooflines"

HEAD_PRECISION = "bf16"
"""Of the output head, whatever the layers have."""

KNOT_TOLERANCE_FRAC = 0.004
"""How far a straight line between two knots may be from the curve."""

MOST_TOKENS = 1 << 16
MOST_DECODES = 1 << 12
"""Where the last knots are; beyond, curves are as good as straight."""


@dataclass(frozen=True)
class ModelError:
    """Mean errors over the steps of one model; fractions."""

    model: str
    mape_frac: float
    left_out_mape_frac: float
    """With constants fitted on other models: it and all with layers of the same width and heads are left out."""


@dataclass(frozen=True)
class RooflineError:
    """How far a roofline is from composed kernel times, at one precision of the weights and of the KV cache; fractions."""

    precision: str
    kv: str
    steps: int
    mape_frac: float
    """Mean of |roofline - composed| / composed over the steps it was fitted to."""
    left_out_mape_frac: float
    """The same, each model with the constants that were fitted without it: what to expect of a model that has no table."""
    left_out_worst_5pct_frac: float
    """Mean over the worst twentieth of those."""
    left_out_max_frac: float
    models: tuple[ModelError, ...]


@dataclass(frozen=True)
class Roofline:
    """The fitted constants of one GPU, with their pedigree."""

    gpu: str
    source: str
    licence: str
    command: str
    """What makes the file."""
    measured_on: str
    """What the steps were, of which models."""
    fitted: FittedRange
    gemms: tuple[Gemm, ...]
    """By precision of the weights."""
    allreduce: AllReduce
    elementwise: Elementwise
    attentions: tuple[Attention, ...]
    """By precision of the KV cache."""
    errors: tuple[RooflineError, ...]

    def gemm(self, precision: str) -> Gemm:
        """Matrix products at that precision; ProfileError with those there are."""
        known = {gemm.precision: gemm for gemm in self.gemms}
        return known[_known(f"roofline of {self.gpu} for precision", precision, known)]

    def attention(self, kv: str) -> Attention:
        """Attention with a KV cache of that precision; ProfileError with those there are."""
        known = {attention.kv: attention for attention in self.attentions}
        return known[_known(f"roofline of {self.gpu} for a KV cache of", kv, known)]

    def error(self, precision: str, kv: str) -> RooflineError:
        """The error at those precisions."""
        return next(error for error in self.errors if (error.precision, error.kv) == (precision, kv))

    def of(
        self, model: Model, tp: int = 1, precision: str = "bf16", kv: str = "bf16", gpu: Gpu | None = None
    ) -> "ModelRoofline":
        """Step times of a model on `tp` of these GPUs; ProfileError for a split or a precision that there is not."""
        gpu = gpu or load_gpu(self.gpu)
        if tp not in (valid := model.valid_tp(gpu.gpus_per_node)):
            degrees = ", ".join(map(str, valid)) or "none"
            node = f"a node of {gpu.gpus_per_node} {gpu.id}"
            raise ProfileError(f"tp {tp!r} does not divide the heads of {model.id} on {node}; valid: {degrees}")
        parts = self.gemm(precision), self.gemm(HEAD_PRECISION), self.allreduce, self.elementwise, self.attention(kv)
        return ModelRoofline(gpu, model, tp, *parts)

    def problems(self) -> Iterator[str]:
        """Sentences about constants that cannot be."""
        for key in ("gemms", "attentions"):
            for kernel in getattr(self, key):
                yield from wrong_shares(key, kernel)
        yield from wrong_shares("allreduce", self.allreduce)
        yield from wrong_shares("elementwise", self.elementwise)
        said = [gemm.precision for gemm in self.gemms], [attention.kv for attention in self.attentions]
        for key, names in zip(("gemms", "attentions"), said):
            if unknown := [name for name in names if name not in PRECISION_BYTES]:
                yield f"{key} has no precision {unknown[0]!r:.40}; known: {', '.join(PRECISION_BYTES)}"
            if "bf16" not in names or len(set(names)) < len(names):
                yield f"{key} must have bf16, and each precision once"
        if {(error.precision, error.kv) for error in self.errors} != {(p, kv) for p in said[0] for kv in said[1]}:
            yield "errors must have an entry for each precision of gemms with each of attentions"


@dataclass(frozen=True)
class ModelRoofline:
    """Step times of one model on `tp` GPUs, all in ms and without host time. Counts may be numpy arrays."""

    gpu: Gpu
    model: Model
    tp: int
    gemm: Gemm
    head_gemm: Gemm
    allreduce: AllReduce
    elementwise: Elementwise
    attention: Attention

    @property
    def heads(self) -> Heads:
        """Attention heads of one GPU."""
        return Heads(self.model.heads // self.tp, self.model.kv_heads_per_gpu(self.tp), self.model.head_size)

    def step_ms(
        self, prefill_tokens: int = 0, prefill_work: int = 0, decodes: int = 0, context_tokens: float = 0, samples: int = 0
    ) -> float:
        """One step; prefill_work is the sum of n*(n + 2*past) over chunks, context_tokens that of all decodes' contexts."""
        ms = self.tokens_ms(prefill_tokens + decodes) if prefill_tokens + decodes else 0.0
        ms += self.head_ms(samples) if samples else 0.0
        if prefill_tokens:
            once, token, work = self.prefill_ms()
            ms += once + token * prefill_tokens + work * prefill_work
        if decodes:
            ms += self.decodes_ms(decodes) + self.contexts_ms(decodes) * context_tokens / decodes
        return ms

    def tokens_ms(self, m: Any) -> Any:
        """f_tok: everything of a step of m tokens, one at least, but attention and output head."""
        model, heads = self.model, self.heads
        query_width, kv_width, mlp_width = heads.queries * heads.size, heads.kv * heads.size, model.mlp_width // self.tp
        shapes = (
            (query_width + 2 * kv_width, model.hidden),
            (model.hidden, query_width),
            (2 * mlp_width, model.hidden),
            (model.hidden, mlp_width),
        )
        gemms_ms = sum(self.gemm.ms(self.gpu, m, n, k) for n, k in shapes)
        # Norms read and write hidden state or heads, the activation two MLP widths and one, rotation and KV write all heads.
        normed_width = sum({"q": query_width, "k": kv_width}[norm] for norm in model.norms)
        moved_bytes = WIDE_BYTES * m * (8 * model.hidden + 3 * mlp_width + 4 * (query_width + kv_width) + 2 * normed_width)
        elementwise_ms = self.elementwise.ms(self.gpu, moved_bytes, len(model.norms))
        return model.layers * (gemms_ms + elementwise_ms + 2 * self.allreduce.ms(self.gpu, m * model.hidden, self.tp))

    def head_ms(self, samples: Any) -> Any:
        """The output head for so many sampled rows, one at least; the vocabulary is shared out."""
        return self.head_gemm.ms(self.gpu, samples, -(-self.model.vocabulary // self.tp), self.model.hidden)

    def prefill_ms(self) -> tuple[float, float, float]:
        """(a0, a1, a2): attention of a step with prefill, once, for each token, and for each unit of work."""
        a, gpu, heads, layers = self.attention, self.gpu, self.heads, self.model.layers
        return layers * a.prefill_launch_ms, layers * a.prefill_token_ms(gpu, heads), layers * a.prefill_work_ms(gpu, heads)

    def decodes_ms(self, decodes: Any) -> Any:
        """d: attention of so many decodes, one at least, whatever their context."""
        return self.model.layers * self.attention.decodes_ms(self.heads, decodes)

    def contexts_ms(self, decodes: Any) -> Any:
        """e: attention for each token of the mean context of so many decodes, one at least."""
        return self.model.layers * self.attention.contexts_ms(self.gpu, self.heads, decodes)


def load_roofline(gpu: str | Gpu) -> Roofline:
    """The shipped roofline of a GPU; ProfileError with those there are."""
    name = load_gpu(gpu).id
    return load_record(Roofline, FOLDER, _known("roofline of", name, known_rooflines()), ".json")


def known_rooflines() -> list[str]:
    """GPUs that have one, sorted."""
    return profile_names(FOLDER, ".json")


def roofline_step_cost(
    gpu: str | Gpu, model: str | Model, precision: str = "bf16", tp: int = 1, roofline: Roofline | None = None
) -> StepCost:
    """The step cost of a model by the roofline, the shipped one if none is given.

    Its error is that of models the roofline was not fitted on.
    """
    gpu, model = load_gpu(gpu), load_model(model)
    roofline = roofline or load_roofline(gpu)
    parts, error = roofline.of(model, tp, precision, gpu=gpu), roofline.error(precision, "bf16")
    left_out = error.left_out_mape_frac, error.left_out_worst_5pct_frac, error.left_out_max_frac
    return StepCost(
        gpu=roofline.gpu,
        model=model.id,
        precision=precision,
        tp=tp,
        layers=model.layers,
        grade="roofline",
        source=roofline.source,
        licence=roofline.licence,
        command=roofline.command,
        error=FitError(error.steps, *left_out, 0.0, f"models left out of the fit; {roofline.measured_on}"),
        fitted=roofline.fitted,
        tokens=roofline_knots(parts.tokens_ms, MOST_TOKENS),
        samples=roofline_knots(parts.head_ms, MOST_DECODES),
        attention={a.kv: _attention(roofline.of(model, tp, precision, a.kv, gpu)) for a in roofline.attentions},
    )


def _attention(parts: ModelRoofline) -> AttentionCost:
    once, token, work = map(_ticks, parts.prefill_ms())
    return AttentionCost(
        prefill_step=once,
        prefill_token=token,
        prefill_work=work,
        decodes=roofline_knots(parts.decodes_ms, MOST_DECODES),
        contexts=roofline_knots(parts.contexts_ms, MOST_DECODES),
    )


def roofline_knots(curve: Callable[[int], float], most: int) -> Knots:
    """Knots from 1 to `most` between which straight lines stay within half a per cent of a smooth curve in ms."""
    ticks = {at: _ticks(curve(at)) for at in (1, most)}
    intervals = [(1, most)]
    while intervals:
        left, right = intervals.pop()
        middle = max(left + 1, round((left * right) ** 0.5))
        if right - left > 1 and not _is_straight(curve, left, right):
            ticks[middle] = _ticks(curve(middle))
            intervals += [(left, middle), (middle, right)]
    return Knots(tuple(sorted(ticks)), tuple(ticks[at] for at in sorted(ticks)))


def _is_straight(curve: Callable[[int], float], left: int, right: int) -> bool:
    """Whether the line is near the curve at eight points between, evenly and by ratio."""
    y0, y1 = curve(left), curve(right)
    even = {left + (right - left) * part // 5 for part in range(1, 5)}
    by_ratio = {round(left * (right / left) ** (part / 5)) for part in range(1, 5)}
    for at in (even | by_ratio) - {left, right}:
        y = curve(at)
        if abs(y0 + (y1 - y0) * (at - left) / (right - left) - y) > KNOT_TOLERANCE_FRAC * y:
            return False
    return True


def _ticks(ms: float) -> int:
    """Rounded up: no faster than the data sheet."""
    return -int(-ms * TICKS_PER_MS // 1)


def _known(what: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    if name in names:
        return name
    hint = did_you_mean(name, names) or ";"
    raise ProfileError(f"no {what} {name!r}{hint} there {'is' if len(names) == 1 else 'are'}: {', '.join(names)}")
