"""scikit-learn's checks and ours, over one list of instances."""

import pytest
from sklearn.utils.estimator_checks import (
    parametrize_with_checks as sklearn_parametrize,
)

from fute_sklearn import (
    MomentEmbedder,
    StudentRanker,
    TaskEmbedder,
    TaskVectorizer,
    TextEmbedder,
    TuPaTEEmbedder,
)
from fute_sklearn._estimator_checks import TEXTS
from fute_sklearn.testing import TINY_SURROGATE, RowsToText, parametrize_with_checks

EMBEDDERS = [
    TuPaTEEmbedder(TINY_SURROGATE, tuning="prompt", max_epochs=2, batch_size=4),
    TuPaTEEmbedder(TINY_SURROGATE, tuning="bias", max_epochs=2, batch_size=4),
    TuPaTEEmbedder(TINY_SURROGATE, tuning="lora", max_epochs=2, batch_size=4),
    TuPaTEEmbedder(
        TINY_SURROGATE, early_stopping=True, validation_fraction=0.3, max_epochs=2
    ),
    TaskEmbedder(TINY_SURROGATE),
    TaskEmbedder(
        TINY_SURROGATE,
        fine_tuning="head",
        params="all",
        reduction="projection",
        n_components=8,
        max_epochs=1,
    ),
    TaskEmbedder(TINY_SURROGATE, fine_tuning="full", reduction="full", max_epochs=1),
    MomentEmbedder(TINY_SURROGATE, reference=TEXTS),
    MomentEmbedder(
        TINY_SURROGATE,
        reference=TEXTS,
        target_encoding="text",
        class_weight="balanced",
    ),
    TextEmbedder(TINY_SURROGATE),
]
TASK_ESTIMATORS = [
    TaskVectorizer(TuPaTEEmbedder(TINY_SURROGATE, tuning="prompt", max_epochs=2)),
    TaskVectorizer(MomentEmbedder(TINY_SURROGATE, reference=TEXTS)),
    StudentRanker(TuPaTEEmbedder(TINY_SURROGATE, max_epochs=1)),
    StudentRanker(
        MomentEmbedder(TINY_SURROGATE, reference=TEXTS), scoring="neg_log_loss"
    ),
]


def expected_failures(adapter):
    """Name scikit-learn checks that cannot hold, with the reason."""
    if getattr(adapter.estimator, "fine_tuning", "none") == "none":
        return {}
    return {
        "check_estimators_pickle": "fine-tuned weights of a whole surrogate are left "
        "out of pickles by design; the embedding stays, the student must be fitted",
    }


@parametrize_with_checks(EMBEDDERS + TASK_ESTIMATORS)
def test_own_checks(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore::fute_sklearn.exceptions.TruncationWarning")
@sklearn_parametrize(
    [RowsToText(e) for e in EMBEDDERS], expected_failed_checks=expected_failures
)
def test_sklearn_checks(estimator, check):
    check(estimator)


def test_a_broken_estimator_fails_a_check():
    from fute_sklearn._estimator_checks import check_row_order

    class Broken(TextEmbedder):
        def _fit_group(self, *args):
            found = super()._fit_group(*args)
            found[0][0]["embedding_"] = found[0][0]["embedding_"] + self.count
            Broken.count += 1
            return found

        count = 0

    with pytest.raises(AssertionError):
        check_row_order(Broken(TINY_SURROGATE))
