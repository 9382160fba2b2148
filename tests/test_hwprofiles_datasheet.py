"""Data sheets: every shipped file is sound, and a wrong name is met with the right one."""

from dataclasses import replace

import pytest

from hwprofiles.datasheet import ProfileError, known_gpus, known_models, load_gpu, load_model


@pytest.mark.parametrize("name", known_models())
def test_parameters_follow_from_the_dimensions(name):
    m = load_model(name)
    attention = m.hidden * (m.heads + 2 * m.kv_heads) * m.head_size + m.heads * m.head_size * m.hidden
    layer = attention + 3 * m.hidden * m.mlp_width + 2 * m.hidden  # two norms
    assert m.parameters == m.layers * layer + 2 * m.vocabulary * m.hidden + m.hidden


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
    with pytest.raises(ProfileError) as raised:
        load_gpu("h10")
    assert str(raised.value) == f"no gpu profile 'h10'; did you mean 'h100'? known: {known}"
    with pytest.raises(ProfileError, match=r"no model profile 'llama-3.1-8'; did you mean 'llama-3.1-8b'\?"):
        load_model("llama-3.1-8")


@pytest.mark.parametrize("name", ["../gpus/h100", "h100.toml", "", "/etc/passwd", "h100\0"])
def test_a_name_is_never_a_path(name):
    with pytest.raises(ProfileError, match="no gpu profile"):
        load_gpu(name)


def test_valid_degrees_share_out_whole_heads():
    assert load_model("llama-3.1-70b").valid_tp(8) == [1, 2, 4, 8]
    assert load_model("llama-3.1-8b").valid_tp(16) == [1, 2, 4, 8, 16]
    assert load_model("llama-3.1-8b").kv_heads_per_gpu(16) == 1
    one_kv_head = replace(load_model("llama-3.1-8b"), heads=8, kv_heads=1, mlp_width=15 * 1024)
    assert one_kv_head.valid_tp(8) == [1, 2, 4, 8]
