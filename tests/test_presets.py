"""The settings and prompts of the paper."""

import pytest

from fute_sklearn import TaskEmbedder, TuPaTEEmbedder
from fute_sklearn.presets import CASES, paper_settings


@pytest.mark.parametrize("case", CASES)
def test_presets_fit_the_embedders(case):
    tupate = TuPaTEEmbedder(**paper_settings("tupate", case))
    assert (tupate.prefix_length, tupate.dropout) == (16, 0.15)
    tupate._validate_params()
    TaskEmbedder(**paper_settings("taskemb", case))._validate_params()


def test_presets_refuse_unknown_names():
    with pytest.raises(ValueError, match="method"):
        paper_settings("other", "dte-qa")
    with pytest.raises(ValueError, match="case"):
        paper_settings("tupate", "other")


def test_preset_on_a_small_surrogate(texts, labels):
    params = paper_settings("tupate", "dte-classification")
    params |= {"surrogate": "fute-tiny-random", "max_epochs": 2}
    est = TuPaTEEmbedder(**params).fit(texts, labels)
    assert est.embedding_.shape == (4 * 2 * 16 * 8,)
