"""Data sheets: every shipped file is sound, and a wrong name is met with the right one."""

import itertools
from dataclasses import replace
from importlib.resources import files

import pytest

from hwprofiles.datasheet import PRECISIONS, ProfileError, known_gpus, known_models, load_gpu, load_model
from hwprofiles.memory import PRECISION_BYTES

PUBLISHED_PARAMETERS = {  # totals of the weight files, as their pages on Hugging Face say
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "llama-3.1-8b": 8_030_261_248,
    "llama-3.1-70b": 70_553_706_496,
    "mistral-7b-v0.1": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552,
    "qwen2.5-7b": 7_615_616_512,
    "qwen2.5-14b": 14_770_033_664,
    "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648,
    "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264,
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED_PARAMETERS.items())
def test_the_dimensions_make_the_published_parameters(name, published):
    assert load_model(name).counted_parameters == load_model(name).parameters == published


@pytest.mark.parametrize("name", known_models())
def test_parameters_are_counted_matrix_by_matrix(name):
    """The twin: every tensor of the checkpoint by its two dimensions."""
    m = load_model(name)
    q, kv = m.heads * m.head_size, m.kv_heads * m.head_size
    shapes = {"q": (m.hidden, q), "k": (m.hidden, kv), "v": (m.hidden, kv), "o": (q, m.hidden)}
    shapes |= {"gate": (m.hidden, m.mlp_width), "up": (m.hidden, m.mlp_width), "down": (m.mlp_width, m.hidden)}
    layer = sum(rows * columns + (columns if matrix in m.biases else 0) for matrix, (rows, columns) in shapes.items())
    norms = 2 * m.hidden + len(m.norms) * m.head_size
    tables = 1 if m.embeddings == "tied" else 2
    assert m.counted_parameters == m.layers * (layer + norms) + tables * m.vocabulary * m.hidden + m.hidden
    assert m.matrix_parameters == m.layers * sum(rows * columns for rows, columns in shapes.values())
    assert m.name.lower() == name
    assert m.source.startswith("config.json of ")


@pytest.mark.parametrize("name", known_gpus())
def test_gpu_files_carry_their_id_and_source(name):
    gpu = load_gpu(name)
    assert gpu.id == name
    assert gpu.source
    assert load_gpu(gpu) is gpu


def test_engine_defaults_are_those_of_vllm_for_the_class_of_gpu():
    limits = {name: (load_gpu(name).max_num_batched_tokens, load_gpu(name).max_num_seqs) for name in ("a100", "h100")}
    assert limits == {"a100": (2048, 256), "h100": (8192, 1024)}


def test_an_unknown_name_is_met_with_the_nearest_and_all():
    known = ", ".join(known_gpus())
    advice = "or one's own .toml, written with a slash"
    with pytest.raises(ProfileError) as raised:
        load_gpu("h10")
    assert str(raised.value) == f"no gpu profile 'h10'; did you mean 'h100'? known: {known}; {advice}"
    with pytest.raises(ProfileError, match=r"no model profile 'llama-3.1-8'; did you mean 'llama-3.1-8b'\?"):
        load_model("llama-3.1-8")


@pytest.mark.parametrize("name", ["h100\0", "", "H100", "h100 "])
def test_what_is_neither_a_name_nor_a_place_is_refused(name):
    with pytest.raises(ProfileError, match="no gpu profile"):
        load_gpu(name)


@pytest.mark.parametrize("name", ["../gpus/h100", "gone.toml", "/etc/passwd", "./h100\0.toml", "/", "x/" * 3000 + "a.toml"])
def test_a_place_that_holds_no_gpu_is_refused_in_a_sentence(name):
    with pytest.raises(ProfileError, match=r"expected a GPU's \.toml|cannot be read"):
        load_gpu(name)


GPU_TOML = files("hwprofiles").joinpath("gpus", "h100.toml").read_text()


def own_gpu(tmp_path, text, name="mine"):
    path = tmp_path / f"{name}.toml"
    path.write_text(text)
    return load_gpu(path)


def test_a_toml_of_ones_own_is_a_gpu_named_as_its_file(tmp_path):
    mine = own_gpu(tmp_path, GPU_TOML, "my gpu (2)")
    assert mine == replace(load_gpu("h100"), id="my-gpu-2")
    assert load_gpu(str(tmp_path / "my gpu (2).toml")) == mine


def test_a_file_named_as_a_shipped_gpu_has_its_figures_or_is_refused(tmp_path):
    assert own_gpu(tmp_path, GPU_TOML, "h100") == load_gpu("h100")
    with pytest.raises(ProfileError, match="'h100' is a GPU that ships, with other figures; expected a name of its own"):
        own_gpu(tmp_path, GPU_TOML.replace("3350.0", "3351.0"), "h100")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("gpus_per_node = 8 ", "gpus_per_node = 1_000_000_000 ", "gpus_per_node 1e+09 is more than 1024, beyond any GPU"),
        ("bandwidth_gb_per_s = 3350.0", "bandwidth_gb_per_s = 3.35e12", "bandwidth_gb_per_s 3.35e+12 is more than 1e+07"),
        ("bf16 = 989.0", "bf16 = 0.0", "peak_tflops must be above 0"),
        ("bf16 = 989.0", "bf61 = 989.0", "peak_tflops has no precision 'bf61'; did you mean 'bf16'?"),
        ("bf16 = 989.0", "", "peak_tflops must have bf16"),
        ("fp8 = 1979.0", "fp8 = 1e9", "peak_tflops 1e+09 is more than 1e+06"),
        ("tdp_w", "tpd_w", "tpd_w is not a key of a profile; did you mean 'tdp_w'?"),
        ("name", "= name", "Invalid"),
    ],
)
def test_a_mistake_in_ones_own_gpu_names_the_file_and_what_is_expected(tmp_path, old, new, said):
    with pytest.raises(ProfileError) as raised:
        own_gpu(tmp_path, GPU_TOML.replace(old, new, 1))
    assert said in str(raised.value)
    assert all(line.startswith(f"{tmp_path}/mine.toml") for line in str(raised.value).splitlines())


def test_a_gpu_file_larger_than_a_profile_is_not_read_on(tmp_path):
    with pytest.raises(ProfileError, match="a profile has at most"):
        own_gpu(tmp_path, GPU_TOML + "#" * (1 << 21))


def test_the_peaks_that_a_gpu_may_have_are_the_precisions_of_weights():
    assert set(PRECISIONS) == set(PRECISION_BYTES)


def test_valid_degrees_share_out_whole_heads():
    assert load_model("llama-3.1-70b").valid_tp(8) == [1, 2, 4, 8]
    assert load_model("llama-3.1-8b").valid_tp(16) == [1, 2, 4, 8, 16]
    assert load_model("llama-3.1-8b").kv_heads_per_gpu(16) == 1
    one_kv_head = replace(load_model("llama-3.1-8b"), heads=8, kv_heads=1, mlp_width=15 * 1024)
    assert one_kv_head.valid_tp(8) == [1, 2, 4, 8]


OWN = """
name = "Mine"
source = "made up"
layers = 2
hidden = 256
heads = 4
kv_heads = 2
head_size = 64
mlp_width = 512
vocabulary = 1000
parameters = 1_692_928
max_model_len = 4096
"""


def own(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    return load_model(path)


def refused(tmp_path, text):
    with pytest.raises(ProfileError) as raised:
        own(tmp_path, text)
    return [line.removeprefix(f"{tmp_path}/mine.toml") for line in str(raised.value).splitlines()]


def test_a_toml_of_ones_own_is_a_model_named_as_its_file(tmp_path):
    model = own(tmp_path, OWN)
    assert (model.id, model.name, model.embeddings) == ("mine", "Mine", "separate")
    assert (model.biases, model.norms, model.sliding_window) == ((), (), 0)
    assert model.counted_parameters == model.parameters


def test_parameters_that_are_not_what_the_dimensions_make_are_refused_with_what_they_make(tmp_path):
    for factor in (0.996, 1.004):
        assert own(tmp_path, OWN.replace("1_692_928", str(int(1_692_928 * factor))))
    for factor in (0.994, 1.006):
        stated = int(1_692_928 * factor)
        sentence = f":11: parameters {stated} is not what the dimensions make: 1692928"
        assert refused(tmp_path, OWN.replace("1_692_928", str(stated))) == [sentence]


def test_every_mistake_of_ones_own_model_is_named(tmp_path):
    text = (
        OWN.replace("layers = 2", "layers = 2000").replace("kv_heads = 2", "kv_heads = 3").replace("hidden = 256", "hidden = 0")
    )
    assert refused(tmp_path, text + 'embeddings = "ties"\nbiases = ["q", "w", "q"]\nnorms = ["v"]\n') == [
        ":4: layers 2000 is more than 1024, beyond any model",
        ":5: hidden must be above 0",
        ":13: embeddings has no 'ties'; did you mean 'tied'? known: separate, tied",
        ":14: biases has no 'w'; known: q, k, v, o, gate, up, down",
        ":14: biases names one twice",
        ":15: norms has no 'v'; known: q, k",
        ":6: heads 4 is not a multiple of kv_heads 3",
    ]


def test_a_misspelt_optional_key_is_met_with_the_right_one(tmp_path):
    said = refused(tmp_path, OWN + 'embedings = "tied"\n')
    assert said == [":13: embedings is not a key of a profile; did you mean 'embeddings'?"]


@pytest.mark.parametrize(
    "bad", ["[" * 5000, "layers = ", "layers = 1\nlayers = 2", "= 3", "layers = __import__('os')", "\ufeff["]
)
def test_a_broken_toml_is_refused_in_a_sentence(tmp_path, bad):
    (line,) = refused(tmp_path, bad)
    assert line.startswith(": ")


@pytest.mark.parametrize(("a", "b"), list(itertools.combinations(known_models(), 2)))
def test_no_two_shipped_models_have_one_shape(a, b):
    assert load_model(a).shape != load_model(b).shape
