"""Distributions of tokens, and prompts made of text and items."""

import numpy as np
import pytest

from tests.shared_data import SHARED, needs_shared
from workloads import ClientPool, compose
from workloads.pmf import Pmf


def test_zero_tokens_count_as_one():
    pmf = Pmf(np.array([0, 1, 4]), np.array([0.25, 0.25, 0.5])).at_least_one()
    assert pmf.values.tolist() == [1, 4] and pmf.probabilities.tolist() == [0.5, 0.5]


@needs_shared
def test_the_published_multimodal_pool_has_prompts_of_text_and_images():
    pool = ClientPool.from_servegen(SHARED / "servegen" / "mm-image.tar.gz")
    # Text 572 and images 870 tokens a request in the published marginals, drawn independently.
    rows = compose(pool, 0, "1d").collect()
    assert rows["input_tokens"].mean() == pytest.approx(1442, rel=0.02) and rows["input_tokens"].min() >= 1


@needs_shared
@pytest.mark.parametrize("name", ["m-large", "m-small"])
def test_every_other_published_pool_is_read_whole(name):
    pool = ClientPool.from_servegen(SHARED / "servegen" / f"{name}.tar.gz")
    absent = {"m-large": 15, "m-small": 5}[name]
    assert len(pool.absent_ids) == absent and pool.duration_s == 14 * 86400.0
    assert 0.4 < pool.present_share(0.0, pool.duration_s) < 0.7
