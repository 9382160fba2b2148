"""A model: a dense decoder-only transformer by its dimensions, and what follows from them."""

import tomllib
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from difflib import get_close_matches
from importlib.resources import files
from typing import Any

from hwprofiles.records import ProfileError, did_you_mean, parse_record, profile_names

FOLDER = "models"

MOST = {
    "layers": 1024,
    "hidden": 1 << 18,
    "heads": 4096,
    "kv_heads": 4096,
    "head_size": 4096,
    "mlp_width": 1 << 20,
    "vocabulary": 1 << 24,
    "max_model_len": 1 << 30,
    "sliding_window": 1 << 30,
}
"""The largest dimensions taken: several times those of any published model, and products of them are exact in 64 bits."""

MAX_TOML_BYTES = 1 << 14

PARAMETERS_TOLERANCE_FRAC = 0.005
"""How far the stated parameters may be from those counted."""

EMBEDDINGS = {"separate": 2, "tied": 1}
"""Vocabulary x hidden matrices by what `Model.embeddings` says."""


@dataclass(frozen=True)
class Model:
    """A dense decoder-only transformer with grouped-query attention and a gated MLP, by its dimensions."""

    id: str
    """As in scenarios and in the names of step-cost tables: `llama-3.1-8b`."""
    name: str
    source: str
    layers: int
    hidden: int
    heads: int
    """Query heads of a layer."""
    kv_heads: int
    head_size: int
    mlp_width: int
    vocabulary: int
    parameters: int
    """All of them, embedding and output head included."""
    max_model_len: int
    """Longest context, prompt and answer together, tokens."""
    embeddings: str = "separate"
    """`tied` where the output head is the input embedding, else `separate`."""
    biases: tuple[str, ...] = ()
    """Matrices with a bias, of q, k, v, o (attention), gate, up, down (MLP)."""
    norms: tuple[str, ...] = ()
    """Of q and k, those normed head by head."""
    sliding_window: int = 0
    """Tokens that attention looks back on, in every layer; 0 for all."""

    @property
    def matrix_parameters(self) -> int:
        """Parameters of the layers' matrix products: what a weight precision applies to."""
        attention = 2 * self.hidden * (self.heads + self.kv_heads) * self.head_size
        return self.layers * (attention + 3 * self.hidden * self.mlp_width)

    @property
    def counted_parameters(self) -> int:
        """All parameters as the dimensions make them: matrices, biases, norms, embedding and head."""
        widths = self._output_widths()
        small = sum(widths[name] for name in self.biases) + len(self.norms) * self.head_size + 2 * self.hidden
        embeddings = EMBEDDINGS[self.embeddings] * self.vocabulary * self.hidden
        return self.matrix_parameters + self.layers * small + embeddings + self.hidden

    @property
    def shape(self) -> tuple[Any, ...]:
        """All that a step's time depends on: two models of one shape cost the same."""
        sizes = (self.layers, self.hidden, self.heads, self.kv_heads, self.head_size, self.mlp_width, self.vocabulary)
        return *sizes, frozenset(self.biases), frozenset(self.norms), self.sliding_window

    def valid_tp(self, gpus_per_node: int) -> list[int]:
        """Tensor-parallel degrees inside one node: each GPU gets whole heads, and whole KV heads or a copy of one."""
        return [tp for tp in range(1, gpus_per_node + 1) if self._is_divisible(tp)]

    def kv_heads_per_gpu(self, tp: int) -> int:
        """KV heads each GPU keeps; where there are more GPUs than KV heads, each keeps a copy of one."""
        return max(1, self.kv_heads // tp)

    def problems(self) -> Iterator[str]:
        """Sentences about dimensions that do not go together."""
        wrong = [*self._out_of_bounds(), *self._unknown_words()]
        yield from wrong
        if self.kv_heads and self.heads % self.kv_heads:
            yield f"heads {self.heads} is not a multiple of kv_heads {self.kv_heads}"
        if not wrong and abs(self.parameters / self.counted_parameters - 1) > PARAMETERS_TOLERANCE_FRAC:
            yield f"parameters {self.parameters} is not what the dimensions make: {self.counted_parameters}"

    def _out_of_bounds(self) -> Iterator[str]:
        for key, most in MOST.items():
            value = getattr(self, key)
            if value > most:
                yield f"{key} {value} is more than {most}, beyond any model"
            elif value == 0 and key != "sliding_window":
                yield f"{key} must be above 0"

    def _unknown_words(self) -> Iterator[str]:
        known = {"embeddings": EMBEDDINGS, "biases": self._output_widths(), "norms": ("q", "k")}
        said = {"embeddings": (self.embeddings,), "biases": self.biases, "norms": self.norms}
        for key, words in said.items():
            for word in words:
                if word not in known[key]:
                    hint = did_you_mean(word, known[key]) or ";"
                    yield f"{key} has no {word!r:.40}{hint} known: {', '.join(known[key])}"
            if len(set(words)) < len(words):
                yield f"{key} names one twice"

    def _output_widths(self) -> dict[str, int]:
        """Width of what each matrix of a layer puts out, which is that of its bias."""
        kv_width, mlp = self.kv_heads * self.head_size, self.mlp_width
        attention = {"q": self.heads * self.head_size, "k": kv_width, "v": kv_width, "o": self.hidden}
        return attention | {"gate": mlp, "up": mlp, "down": self.hidden}

    def _is_divisible(self, tp: int) -> bool:
        shares_kv = self.kv_heads % tp == 0 or tp % self.kv_heads == 0
        return self.heads % tp == 0 and self.mlp_width % tp == 0 and shares_kv


def known_models() -> list[str]:
    """Names of the models that ship, sorted."""
    return profile_names(FOLDER, ".toml")


def shipped_model(name: str) -> Model:
    """The shipped model of that name; ProfileError with the nearest name if there is none."""
    known = known_models()
    if name not in known:
        hint = did_you_mean(name, known) or ";"
        raise ProfileError(
            f"no model profile {name!r}{hint} known: {', '.join(known)}; "
            "or one's own: a .toml, a config.json, or a folder that holds one, written with a slash"
        )
    content = files("hwprofiles").joinpath(FOLDER, f"{name}.toml").read_bytes()
    return parse_model(content, f"hwprofiles/{FOLDER}/{name}.toml", name)


def parse_model(content: bytes, place: str, name: str) -> Model:
    """The model in the bytes of a TOML file named `place`; ProfileError with every mistake."""
    if len(content) > MAX_TOML_BYTES:
        raise ProfileError(f"{place}: more than {MAX_TOML_BYTES} bytes, which no model has")
    return parse_record(Model, content, place, {"id": name} | _defaults(content))


def _defaults(content: bytes) -> dict[str, Any]:
    """Values of the optional keys that the file leaves out; a key that one of the file's may be meant for has none."""
    try:
        given = set(tomllib.loads(content.decode()))
    except (ValueError, RecursionError):  # parse_record says what is wrong with it
        return {}
    optional = {field.name: field.default for field in fields(Model) if field.default is not MISSING}
    strangers = given - {field.name for field in fields(Model)}
    return {
        name: default
        for name, default in optional.items()
        if name not in given and not get_close_matches(name, strangers, n=1, cutoff=0.5)
    }
