"""Fits on a GPU."""

import numpy as np
import pytest

from fute_sklearn import TuPaTEEmbedder


@pytest.mark.gpu
def test_gpu_fit_loads_on_a_cpu(texts, labels):
    import pickle

    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA, which this machine does not have")
    est = TuPaTEEmbedder("fute-tiny-random", device="cuda", max_epochs=1)
    again = pickle.loads(pickle.dumps(est.fit(texts, labels)))
    again.set_params(device="cpu")
    np.testing.assert_allclose(
        again.transform(texts), est.transform(texts), rtol=1e-3, atol=1e-4
    )
