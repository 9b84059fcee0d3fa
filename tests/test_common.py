"""scikit-learn's checks and ours, over one list of instances."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.utils.estimator_checks import (
    parametrize_with_checks as sklearn_parametrize,
)

import fute_sklearn
from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    MTEWrapper,
    PromptedLLM,
    PromptSelector,
    StudentClassifier,
    StudentGenerator,
    StudentRanker,
    StudentRegressor,
    TaskEmbedder,
    TaskVectorizer,
    TextEmbedder,
    TuPaTEEmbedder,
)
from fute_sklearn._estimator_checks import TEXTS
from fute_sklearn.testing import TINY_SURROGATE, RowsToText, parametrize_with_checks

EMBEDDERS = [
    TuPaTEEmbedder(
        TINY_SURROGATE, tuning="prompt", space="parameters", max_epochs=2, batch_size=4
    ),
    TuPaTEEmbedder(TINY_SURROGATE, tuning="bias", max_epochs=2, batch_size=4),
    TuPaTEEmbedder(
        TINY_SURROGATE, reference=TEXTS, data_set="student", max_epochs=2, batch_size=4
    ),
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


class Client:
    capabilities, fingerprint = frozenset({"score"}), "a client"

    def __repr__(self):
        # Without an address, which would give the tests other names in each process.
        return "Client()"

    def score(self, contexts, continuations):
        return [np.array([-1.0, -2.0]) for _ in contexts]


PROMPT = PromptedLLM(Client(), "{text} It was", ["good", "bad"])
OTHERS = [
    ModelRanker(),
    ModelRanker("dot", center=True),
    MTEWrapper(PROMPT),
    PROMPT,
    PromptSelector([PROMPT], "global_entropy"),
    StudentClassifier(EMBEDDERS[7]),
    StudentGenerator(EMBEDDERS[0]),
    StudentRegressor(EMBEDDERS[7]),
    *TASK_ESTIMATORS,
]
ONE_MODEL = "with one column of gains there is one model, and one model has no NDCG"
NAMES = "predicts the names of models, which the check subtracts from each other"
RANKER_FAILURES = {
    "check_fit_score_takes_y": ONE_MODEL,
    "check_n_features_in_after_fitting": ONE_MODEL,
    "check_pipeline_consistency": ONE_MODEL,
    "check_estimators_pickle": NAMES,
    "check_methods_sample_order_invariance": NAMES,
    "check_methods_subset_invariance": NAMES,
    "check_fit_idempotent": NAMES,
}


@sklearn_parametrize(
    OTHERS,
    expected_failed_checks=lambda estimator: (
        RANKER_FAILURES if isinstance(estimator, ModelRanker) else {}
    ),
)
def test_sklearn_checks_of_other_estimators(estimator, check):
    check(estimator)


def test_every_public_estimator_is_checked():
    public = {
        value
        for value in vars(fute_sklearn).values()
        if isinstance(value, type) and issubclass(value, BaseEstimator)
    }
    assert public == {type(estimator) for estimator in EMBEDDERS + OTHERS}


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
