import numpy as np
import pytest

from lm.lake import make_model, make_tokenizer, random_maps


@pytest.fixture(scope="module")
def letters():
    return random_maps(12, "dev", np.random.default_rng(3))


@pytest.fixture(scope="module")
def player():
    """A model with new weights and the lake's tokenizer."""
    return make_model(make_tokenizer(), 0), make_tokenizer()
