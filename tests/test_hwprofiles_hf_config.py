"""Models from files: a config.json is the model that ships, and no file brings out anything but a ProfileError."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwprofiles.datasheet import ProfileError, known_models, load_model
from hwprofiles.hf_config import ARCHITECTURES, BIASES, PASSED_OVER, READ, read_config
from hwprofiles.model import MOST, Model
from hwprofiles.records import MAX_FILE_BYTES

QWEN = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 3584,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "intermediate_size": 18944,
    "vocab_size": 152064,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": False,
}
ORDINARY = (
    *("_name_or_path", "attention_dropout", "bos_token_id", "dtype", "eos_token_id", "initializer_range", "layer_types"),
    *("max_window_layers", "pad_token_id", "pretraining_tp", "rms_norm_eps", "rope_theta", "torch_dtype", "use_cache"),
    *("transformers_version", "use_mrope", "unsloth_fixed", "auto_map", "layer_norm_eps", "max_length", "num_experts"),
)
"""Keys of real files that say nothing of a dense model's size."""
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


def config(**changes):
    """A config.json's text, one key a line; a change to None takes the key away."""
    table = {key: value for key, value in (QWEN | changes).items() if value is not None}
    return json.dumps(table, indent=1)


def read(text):
    return read_config(text if isinstance(text, bytes) else text.encode(), "config.json", "mine")


def mistakes(text):
    with pytest.raises(ProfileError) as raised:
        read(text)
    return str(raised.value).splitlines()


def config_of(model):
    """The config.json that says what a `Model` is: the twin of the reader, written the other way round."""
    family = "MistralForCausalLM" if model.sliding_window else "LlamaForCausalLM"
    family = "Qwen2ForCausalLM" if model.biases == ("q", "k", "v") else family
    family = "Qwen3ForCausalLM" if model.norms else family
    return {
        "architectures": [family],
        "num_hidden_layers": model.layers,
        "hidden_size": model.hidden,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_size,
        "intermediate_size": model.mlp_width,
        "vocab_size": model.vocabulary,
        "max_position_embeddings": model.max_model_len,
        "tie_word_embeddings": model.embeddings == "tied",
        "sliding_window": model.sliding_window or None,
        "attention_bias": "o" in model.biases,
        "mlp_bias": "gate" in model.biases,
    }


@st.composite
def models(draw):
    """A model that one of the four architectures can be."""
    norms, fixed, window = draw(st.sampled_from([((), (), 0), ((), (), 4096), ((), ("q", "k", "v"), 0), (("q", "k"), (), 0)]))
    biases = fixed
    if not fixed and not window:
        biases += BIASES["attention_bias"] if draw(st.booleans()) else ()
        biases += BIASES["mlp_bias"] if not norms and draw(st.booleans()) else ()
    kv_heads, group = draw(st.integers(1, 64)), draw(st.integers(1, 16))
    sizes = {key: draw(st.integers(1, MOST[key])) for key in ("layers", "hidden", "head_size", "mlp_width", "vocabulary")}
    sizes |= {"heads": kv_heads * group, "kv_heads": kv_heads, "max_model_len": draw(st.integers(1, 1 << 30))}
    made = Model(
        id="mine",
        name="mine",
        source="config.json; parameters counted from its dimensions",
        parameters=0,
        **sizes,
        embeddings=draw(st.sampled_from(["tied", "separate"])),
        biases=biases,
        norms=norms,
        sliding_window=window,
    )
    return replace(made, parameters=made.counted_parameters)


@given(models())
def test_a_config_written_from_a_model_reads_back_as_that_model(model):
    assert read(json.dumps(config_of(model))) == model
    assert not list(model.problems())


@pytest.mark.parametrize("name", known_models())
def test_the_config_of_a_shipped_model_in_a_folder_is_that_model(name, tmp_path):
    shipped = load_model(name)
    folder = tmp_path / "some checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config_of(shipped)))
    for path in (folder, folder / "config.json", f"{folder}/"):
        model = load_model(path)
        assert (model.id, model.shape, model.parameters) == (name, shipped.shape, shipped.parameters)
        assert (model.name, model.max_model_len) == ("some-checkpoint", shipped.max_model_len)


def test_a_model_that_does_not_ship_is_called_as_its_folder(tmp_path):
    (tmp_path / "config.json").write_text(config(num_hidden_layers=30))
    assert load_model(tmp_path).id == tmp_path.name
    assert load_model(tmp_path).layers == 30
    (tmp_path / "own.json").write_text(config(num_hidden_layers=30))
    assert load_model(f"{tmp_path}/own.json").id == "own"


def test_a_relative_path_is_told_from_a_name_by_its_slash_or_ending(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.json").write_text(config(num_hidden_layers=30))
    assert load_model("config.json").id == load_model("./").id == tmp_path.name
    with pytest.raises(ProfileError, match=r"missing\.toml: no such file"):
        load_model("missing.toml")
    with pytest.raises(ProfileError, match=r"no model profile 'qwen2\.5-7'; did you mean 'qwen2\.5-7b'\?"):
        load_model("qwen2.5-7")


def test_a_shipped_name_on_other_dimensions_is_refused(tmp_path):
    folder = tmp_path / "qwen2.5-7b"
    folder.mkdir()
    (folder / "config.json").write_text(config(num_hidden_layers=30))
    with pytest.raises(ProfileError, match=r"'qwen2\.5-7b' is a model that ships, of other dimensions"):
        load_model(folder)


@given(st.binary(max_size=200))
def test_any_bytes_give_a_profile_error(content):
    with pytest.raises(ProfileError):
        read(content)


@given(st.dictionaries(st.sampled_from(READ), ANY_JSON, min_size=1, max_size=4))
def test_any_values_are_taken_or_refused_as_a_profile_error(changes):
    try:
        model = read(json.dumps(QWEN | changes))
    except ProfileError as error:
        assert all(line.startswith("config.json") for line in str(error).splitlines())
        return
    assert not list(model.problems())


@given(st.integers(0, len(config()) - 1))
def test_a_file_cut_short_is_a_profile_error(end):
    text = config()
    with pytest.raises(ProfileError, match="not JSON"):
        read(text[:end])


def test_every_mistake_is_named_with_its_line():
    text = config(hidden_size="wide", num_hidden_layers=-1, vocab_size=None, vocab_sise=152064, hidden_act="gelu")
    at = {line.split('"')[1]: number for number, line in enumerate(text.splitlines(), 1) if '":' in line}
    assert sorted(mistakes(text)) == sorted(
        [
            f"config.json:{at['hidden_size']}: hidden_size must be a whole number from 1 to {1 << 18}, not 'wide'",
            f"config.json:{at['num_hidden_layers']}: num_hidden_layers must be a whole number from 1 to 1024, not -1",
            f"config.json: vocab_size is missing; expected a whole number from 1 to {1 << 24}",
            f"config.json:{at['vocab_sise']}: 'vocab_sise' is not a key of a config.json; did you mean 'vocab_size'?",
            f"config.json:{at['hidden_act']}: hidden_act must be 'silu', of a gated MLP, not 'gelu'",
        ]
    )


@pytest.mark.parametrize("name", ["Qwen2MoeForCausalLM", "Qwen2_5_VLForConditionalGeneration", "GPT2LMHeadModel", "../x"])
def test_an_unknown_architecture_is_refused_by_name_alone(name):
    (line,) = mistakes(json.dumps({"architectures": [name], "n_embd": 768}))
    assert line == f"config.json:1: architectures: {name!r} is not supported; supported: {', '.join(ARCHITECTURES)}"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"architectures": None}, "architectures is missing; expected a list of one of LlamaForCausalLM"),
        ({"architectures": "Qwen2ForCausalLM"}, "architectures must be a list of one of"),
        ({"architectures": ["Qwen2ForCausalLM"] * 2}, "architectures must be a list of one of"),
        ({"model_type": "llama"}, "model_type must be 'qwen2', as of a Qwen2ForCausalLM, not 'llama'"),
        ({"num_key_value_heads": 3}, "num_attention_heads 28 is not a multiple of num_key_value_heads 3"),
        ({"num_key_value_heads": None}, "num_key_value_heads is missing"),
        ({"hidden_size": 3585}, "hidden_size 3585 is not a multiple of num_attention_heads 28, and no head_dim is said"),
        ({"hidden_size": 1 << 18, "num_attention_heads": 4}, "hidden_size / num_attention_heads is more than 4096"),
        ({"hidden_size": 10**30}, "hidden_size must be a whole number from 1 to 262144"),
        ({"hidden_size": True}, "hidden_size must be a whole number"),
        ({"hidden_size": 3584.0}, "hidden_size must be a whole number"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a whole number from 1"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings must be true or false, not 'no'"),
        ({"use_sliding_window": True}, "use_sliding_window must be false"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config: 'awq' is not modelled"),
        ({"quantization_config": "gptq"}, "quantization_config: 'gptq' is not modelled"),
        ({"rope_scaling": 4}, "rope_scaling must be a table or null, not 4"),
        ({"rope_scaling": {"type": "longrope"}}, "rope_scaling: rope_type 'longrope' is not supported; supported: default"),
        ({"rope_scaling": {"type": ["yarn"]}}, "rope_scaling: rope_type ['yarn'] is not supported"),
        ({"rope_scaling": {"type": "yarn", "factor": 0.5}}, "rope_scaling.factor must be a number from 1 to 1024, not 0.5"),
        (
            {"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": "x"}},
            "rope_scaling.original_max_position_embeddings must be",
        ),
        (
            {"max_position_embeddings": 1 << 30, "rope_scaling": {"type": "linear", "factor": 2.0}},
            "rope_scaling makes a context of 2147483648 tokens",
        ),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_sentence(changes, sentence):
    (line,) = mistakes(config(**changes))
    assert sentence in line
    assert len(line) < 250


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "not JSON: Expecting value: line 1 column 1"),
        (b"\xff\xfe{}", "expected UTF-8; byte 0 is not"),
        (b"[" * 10_000, "nested too deep"),
        (b'{"a":' * 10_000, "nested too deep"),
        (b'{"hidden_size": NaN}', "NaN; expected a finite number"),
        (b'{"hidden_size": -Infinity}', "-Infinity; expected a finite number"),
        (b'{"hidden_size": 1, "hidden_size": 2}', "the key 'hidden_size' stands twice"),
        (b'{"hidden_size": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"{'hidden_size': __import__('os').getcwd()}", "not JSON"),
        (b"[1, 2]", "expected a JSON object"),
        (b" " * (MAX_FILE_BYTES + 1), "more than 1048576 bytes"),
        (json.dumps({f"hidden_size{number}": 1 for number in range(60_000)}).encode()[:MAX_FILE_BYTES], "not JSON"),
        (json.dumps({f"hidden_size{number}": 1 for number in range(501)}).encode(), "501 keys, more than 500"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(content, sentence):
    (line,) = mistakes(content)
    assert sentence in line


@pytest.mark.parametrize("key", ORDINARY)
def test_keys_that_say_nothing_of_size_are_passed_over(key):
    assert read(config(**{key: 1})) == read(config())
    assert set(PASSED_OVER) <= set(ORDINARY)


def test_what_the_families_take_for_granted_is_filled_in():
    llama = {"architectures": ["LlamaForCausalLM"], "num_key_value_heads": None, "tie_word_embeddings": None}
    assert read(config(**llama)).kv_heads == 28
    assert read(config(**llama)).biases == ()
    assert read(config(**llama)).embeddings == "separate"
    assert read(config()).biases == ("q", "k", "v")
    assert read(config(architectures=["Qwen3ForCausalLM"], head_dim=128)).norms == ("q", "k")
    assert "head_dim is missing" in mistakes(config(architectures=["Qwen3ForCausalLM"]))[0]
    assert read(config(sliding_window=4096)).sliding_window == 0
    assert read(config(architectures=["MistralForCausalLM"], sliding_window=4096)).sliding_window == 4096


def test_a_scaled_rotary_embedding_stretches_the_context_as_vllm_does():
    yarn = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert read(config(rope_scaling=yarn)).max_model_len == 131_072
    assert read(config(rope_scaling=yarn | {"original_max_position_embeddings": 8192})).max_model_len == 32_768
    assert read(config(rope_scaling={"rope_type": "linear", "factor": 2})).max_model_len == 65_536
    llama = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}
    assert read(config(rope_scaling=llama)).max_model_len == 32_768
    assert read(config(rope_parameters={"rope_type": "default", "rope_theta": 1e6})).max_model_len == 32_768


def test_what_is_no_plain_file_is_refused_unread(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    for path in (tmp_path / "pipe.json", tmp_path, tmp_path / "none.json", "a\0b/config.json", Path("/dev/zero.toml")):
        with pytest.raises(ProfileError, match="no such file; expected a model's"):
            load_model(path)
    (tmp_path / "weights.bin").write_bytes(b"")
    with pytest.raises(ProfileError, match=r"weights\.bin: expected a model's \.toml"):
        load_model(tmp_path / "weights.bin")
    (tmp_path / "large.toml").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ProfileError, match="more than 16384 bytes, which no model has"):
        load_model(tmp_path / "large.toml")
