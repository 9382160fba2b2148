"""Distributions of tokens, and prompts made of text and items."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shared_data import SHARED, needs_shared
from workloads import ClientPool, compose
from workloads.pmf import Pmf, prompt_pmf

NONE = Pmf(np.array([0]), np.array([1.0]))


@st.composite
def pmfs(draw, least=0, most=6):
    values = sorted(draw(st.sets(st.integers(least, most), min_size=1, max_size=3)))
    weights = np.array([draw(st.integers(1, 9)) for _ in values], float)
    return Pmf(np.array(values), weights / weights.sum())


def by_enumeration(text, items):
    """P(total) by going through every way in which it can come about."""
    out = dict(zip(text.values.tolist(), text.probabilities.tolist()))
    for count, item in items:
        added = {}
        for n, p in zip(count.values.tolist(), count.probabilities.tolist()):
            for ways in itertools.product(list(zip(item.values.tolist(), item.probabilities.tolist())), repeat=n):
                total = sum(value for value, _ in ways)
                added[total] = added.get(total, 0.0) + p * math.prod(q for _, q in ways)
        out = _sum(out, added)
    return out


def _sum(one, two):
    out = {}
    for (a, p), (b, q) in itertools.product(one.items(), two.items()):
        out[a + b] = out.get(a + b, 0.0) + p * q
    return out


@given(pmfs(1), pmfs(0, 3), pmfs(1), pmfs(0, 2), pmfs(1))
def test_a_prompt_is_its_text_and_a_random_number_of_items(text, images, image, clips, clip):
    got = prompt_pmf(text, [(images, image), (clips, clip), (NONE, NONE)])
    expected = by_enumeration(text, [(images, image), (clips, clip)])
    assert set(got.values.tolist()) == {value for value, p in expected.items() if p > 0}
    for value, probability in zip(got.values.tolist(), got.probabilities.tolist()):
        assert probability == pytest.approx(expected[value], abs=1e-11)
    mean = text.mean() + images.mean() * image.mean() + clips.mean() * clip.mean()
    assert got.mean() == pytest.approx(mean, abs=1e-8)


def test_no_text_and_no_items_is_no_data():
    assert prompt_pmf(NONE, [(NONE, NONE)]).is_empty


def test_prompts_without_end_are_refused():
    many = Pmf(np.array([9_000]), np.array([1.0]))
    with pytest.raises(ValueError, match="expected at most"):
        prompt_pmf(NONE, [(many, many)])


def test_zero_tokens_count_as_one():
    pmf = Pmf(np.array([0, 1, 4]), np.array([0.25, 0.25, 0.5])).at_least_one()
    assert pmf.values.tolist() == [1, 4] and pmf.probabilities.tolist() == [0.5, 0.5]


@needs_shared
def test_the_published_multimodal_pool_has_prompts_of_text_and_images():
    pool = ClientPool.from_servegen(SHARED / "servegen" / "mm-image.tar.gz")
    # Text 572 and images 870 tokens a request in the published marginals, drawn independently.
    assert pool.describe()["lengths"]["input_tokens"]["mean"] == pytest.approx(1442, rel=0.001)
    rows = compose(pool, "10h", "10min").collect()
    assert len(rows) > 1000 and rows["input_tokens"].min() >= 1


@needs_shared
@pytest.mark.parametrize("name", ["m-large", "m-small"])
def test_every_other_published_pool_is_read_whole(name):
    pool = ClientPool.from_servegen(SHARED / "servegen" / f"{name}.tar.gz")
    absent = {"m-large": 15, "m-small": 5}[name]
    assert len(pool.absent_ids) == absent and pool.duration_s == 14 * 86400.0
    assert 0.4 < pool.present_share(0.0, pool.duration_s) < 0.7
