"""A Hugging Face config.json, read as a model: dense decoder-only Llama, Mistral, Qwen2 and Qwen3.

Keys that sizes depend on are checked strictly; those about training, generation and numerics are passed over. What an
absent key means is what transformers' configuration classes of these four architectures take it for.
"""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from reprlib import Repr
from typing import Any, NamedTuple

from hwprofiles.model import MOST, Model
from hwprofiles.records import MAX_FILE_BYTES, ProfileError


class Family(NamedTuple):
    """What an architecture has that its config.json does not say."""

    model_type: str
    biases: tuple[str, ...] = ()
    norms: tuple[str, ...] = ()
    bias_keys: tuple[str, ...] = ()
    """Keys that give it further biases."""


ARCHITECTURES = {
    "LlamaForCausalLM": Family("llama", bias_keys=("attention_bias", "mlp_bias")),
    "MistralForCausalLM": Family("mistral"),
    "Qwen2ForCausalLM": Family("qwen2", biases=("q", "k", "v")),
    "Qwen3ForCausalLM": Family("qwen3", norms=("q", "k"), bias_keys=("attention_bias",)),
}

SHOWN = Repr()
SHOWN.maxstring = 60
"""How a value is shown in a sentence: cut short, however large or deep it is."""

BIASES = {"attention_bias": ("q", "k", "v", "o"), "mlp_bias": ("gate", "up", "down")}

ROPE_KEEPS_LENGTH = ("default", "llama3")
ROPE_STRETCHES = ("linear", "dynamic", "yarn")
MOST_ROPE_FACTOR = 1024
MOST_KEYS = 500

READ = (
    *("architectures", "model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("head_dim", "intermediate_size", "vocab_size", "max_position_embeddings", "tie_word_embeddings", "hidden_act"),
    *("attention_bias", "mlp_bias", "sliding_window", "use_sliding_window", "rope_scaling", "rope_parameters"),
    "quantization_config",
)
"""The keys that this reader knows the meaning of."""

PASSED_OVER = ("attention_dropout", "max_window_layers", "pretraining_tp", "rope_theta")
"""Keys of real files that resemble one of READ and are none of our business."""


def read_config(content: bytes, place: str, name: str) -> Model:
    """The model in the bytes of a config.json named `place`, with `name` as its id; ProfileError with every mistake.

    `parameters` is counted from the dimensions. The precision of the weights is a setting of the cluster, not the file's.
    """
    text, table = _parse(content, place)
    keys = Keys(table)
    family = keys.family()
    model = keys.model(family, name) if family else None
    if model is None or keys.mistakes:
        raise ProfileError("\n".join(f"{place}{_line(text, mistake)}: {mistake}" for mistake in keys.mistakes))
    return model


class Keys:
    """The keys of one config.json, taken one at a time; what is wrong with them gathers in `mistakes`."""

    def __init__(self, table: dict[str, Any]) -> None:
        self.table = table
        self.mistakes: list[str] = []

    def family(self) -> Family | None:
        """That of the only entry of `architectures`; None, and its keys' meaning unknown, where it is not supported."""
        said, supported = self.table.get("architectures"), ", ".join(ARCHITECTURES)
        name = said[0] if isinstance(said, list) and len(said) == 1 else None
        if isinstance(name, str) and name not in ARCHITECTURES:
            self.mistakes.append(f"architectures: {SHOWN.repr(name)} is not supported; supported: {supported}")
            return None
        if isinstance(name, str):
            family = ARCHITECTURES[name]
            if self.table.get("model_type", family.model_type) != family.model_type:
                self._must("model_type", f"{family.model_type!r}, as of a {name}")
            return family
        if said is None:
            self.mistakes.append(f"architectures is missing; expected a list of one of {supported}")
        else:
            self._must("architectures", f"a list of one of {supported}")
        return Family("llama")

    def model(self, family: Family, name: str) -> Model:
        """The model they describe; of use only where no mistake was found."""
        hidden = self.count("hidden_size", MOST["hidden"])
        heads = self.count("num_attention_heads", MOST["heads"])
        # transformers has other defaults for the newer families, and every published file of those says it.
        kv_heads = self.count("num_key_value_heads", MOST["kv_heads"], heads if family.model_type == "llama" else None)
        given_biases = [bias for key in family.bias_keys if self.flag(key) for bias in BIASES[key]]
        model = Model(
            id=name,
            name=name,
            source="config.json; parameters counted from its dimensions",
            layers=self.count("num_hidden_layers", MOST["layers"]),
            hidden=hidden,
            heads=heads,
            kv_heads=kv_heads,
            head_size=self._head_size(family, hidden, heads),
            mlp_width=self.count("intermediate_size", MOST["mlp_width"]),
            vocabulary=self.count("vocab_size", MOST["vocabulary"]),
            parameters=0,
            max_model_len=self._context_tokens(),
            embeddings="tied" if self.flag("tie_word_embeddings") else "separate",
            biases=(*family.biases, *given_biases),
            norms=family.norms,
            sliding_window=self.count("sliding_window", MOST["sliding_window"], 0) if family.model_type == "mistral" else 0,
        )
        if heads and kv_heads and heads % kv_heads:
            self.mistakes.append(f"num_attention_heads {heads} is not a multiple of num_key_value_heads {kv_heads}")
        self._refuse_what_is_not_modelled(family)
        self._refuse_misspelt()
        return replace(model, parameters=model.counted_parameters)

    def count(self, key: str, most: int, absent: int | None = None) -> int:
        """A whole number from 1 to `most`; `absent` where the key is missing or null; 0 where it is a mistake."""
        value, expected = self.table.get(key), f"a whole number from 1 to {most}"
        if value is None and absent is not None:
            return absent
        if value is None:
            self.mistakes.append(f"{key} is missing; expected {expected}")
        elif isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most:
            return value
        else:
            self._must(key, expected)
        return 0

    def flag(self, key: str) -> bool:
        """True or false; false where the key is missing or null."""
        value = self.table.get(key)
        if value is not None and not isinstance(value, bool):
            self._must(key, "true or false")
        return value is True

    def _head_size(self, family: Family, hidden: int, heads: int) -> int:
        if self.table.get("head_dim") is not None or family.model_type == "qwen3":
            return self.count("head_dim", MOST["head_size"])
        if not (hidden and heads):
            return 0
        if hidden % heads:
            self.mistakes.append(
                f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}, and no head_dim is said"
            )
        elif hidden // heads > MOST["head_size"]:
            self.mistakes.append(f"hidden_size / num_attention_heads is more than {MOST['head_size']}, beyond any model")
        return hidden // heads

    def _context_tokens(self) -> int:
        """Longest context: positions, stretched as vLLM does for linear, dynamic and YaRN scaling of the rotary embedding."""
        positions = self.count("max_position_embeddings", MOST["max_model_len"])
        key = "rope_scaling" if self.table.get("rope_scaling") is not None else "rope_parameters"
        rope = self.table.get(key)
        if rope is None:
            return positions
        if not isinstance(rope, dict):
            self._must(key, "a table or null")
            return positions
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind in ROPE_KEEPS_LENGTH:
            return positions
        if kind in ROPE_STRETCHES:
            return self._stretched(positions, key, rope, kind)
        known = ", ".join((*ROPE_KEEPS_LENGTH, *ROPE_STRETCHES))
        self.mistakes.append(f"{key}: rope_type {SHOWN.repr(kind)} is not supported; supported: {known}")
        return positions

    def _stretched(self, positions: int, key: str, rope: dict[str, Any], kind: str) -> int:
        """Positions times the factor; YaRN's factor is of the positions the model was first trained on."""
        most, factor, inner = MOST["max_model_len"], rope.get("factor"), Keys(rope)
        original = inner.count("original_max_position_embeddings", most, positions)
        self.mistakes += [f"{key}.{mistake}" for mistake in inner.mistakes]
        if isinstance(factor, bool) or not isinstance(factor, int | float) or not 1 <= factor <= MOST_ROPE_FACTOR:
            self.mistakes.append(f"{key}.factor must be a number from 1 to {MOST_ROPE_FACTOR}, not {SHOWN.repr(factor)}")
            return positions
        tokens = math.floor((original if kind == "yarn" else positions) * factor)
        if tokens > most:
            self.mistakes.append(f"{key} makes a context of {tokens} tokens, more than {most}")
        return tokens

    def _refuse_what_is_not_modelled(self, family: Family) -> None:
        """Mistakes for settings that make it another kind of model."""
        if family.model_type.startswith("qwen") and self.flag("use_sliding_window"):
            self.mistakes.append("use_sliding_window must be false: windows in some of the layers are not modelled")
        if self.table.get("hidden_act", "silu") != "silu":
            self._must("hidden_act", "'silu', of a gated MLP")
        quantised = self.table.get("quantization_config")
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
        if method not in (None, "fp8"):
            self.mistakes.append(
                f"quantization_config: {SHOWN.repr(method)} is not modelled; expected none, or quant_method fp8"
            )

    def _refuse_misspelt(self) -> None:
        """A mistake for each key that is none of theirs and one letter or so from one that is read."""
        for key in self.table:
            close = get_close_matches(key[:80], READ, n=1, cutoff=0.88)
            if close and key not in READ and key not in PASSED_OVER:
                self.mistakes.append(f"{SHOWN.repr(key)} is not a key of a config.json; did you mean {close[0]!r}?")

    def _must(self, key: str, expected: str) -> None:
        self.mistakes.append(f"{key} must be {expected}, not {SHOWN.repr(self.table.get(key))}")


def _parse(content: bytes, place: str) -> tuple[str, dict[str, Any]]:
    if len(content) > MAX_FILE_BYTES:
        raise ProfileError(f"{place}: more than {MAX_FILE_BYTES} bytes, which no config.json has")
    try:
        text = content.decode()
        table = json.loads(text, parse_constant=_no_constant, object_pairs_hook=_no_key_twice)
    except UnicodeDecodeError as error:
        raise ProfileError(f"{place}: expected UTF-8; byte {error.start} is not") from error
    except RecursionError as error:
        raise ProfileError(f"{place}: nested too deep for a config.json") from error
    except ValueError as error:
        raise ProfileError(f"{place}: not JSON: {error}") from error
    if not isinstance(table, dict):
        raise ProfileError(f"{place}: expected a JSON object with {', '.join(READ[:3])}, …, not {SHOWN.repr(table)}")
    if len(table) > MOST_KEYS:
        raise ProfileError(f"{place}: {len(table)} keys, more than {MOST_KEYS}, which no config.json has")
    return text, table


def _no_constant(name: str) -> float:
    raise ValueError(f"{name}; expected a finite number")


def _no_key_twice(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the key {SHOWN.repr(key)} stands twice in one object")
        table[key] = value
    return table


def _line(text: str, mistake: str) -> str:
    """`:12` when the key that a mistake opens with stands exactly once in the file."""
    key = re.escape(re.split(r"[ :]", mistake, maxsplit=1)[0].strip("'").rsplit(".", 1)[-1])
    places = [match.start() for match in re.finditer(rf'"{key}"\s*:', text)]
    return f":{text.count(chr(10), 0, places[0]) + 1}" if len(places) == 1 else ""
