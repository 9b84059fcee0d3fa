"""Embeddings stay what they were: stored ones are made again."""

import json

import numpy as np

from tests.reference_embeddings import STORED, embeddings


def test_embeddings_are_those_that_are_stored():
    """Bit for bit on one machine (see the script); to a tolerance on any."""
    stored = json.loads(STORED.read_text(encoding="utf8"))
    names = set()
    for name, value in embeddings():
        names.add(name)
        assert list(value.shape) == stored[name]["shape"], name
        some = value.ravel()[:: max(1, value.size // 24)]
        scale = np.abs(stored[name]["some"]).max()
        np.testing.assert_allclose(
            some, stored[name]["some"], rtol=1e-2, atol=1e-2 * scale, err_msg=name
        )
    assert names == set(stored)
