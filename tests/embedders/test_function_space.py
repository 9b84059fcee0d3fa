"""Vectors in function space: what is answered on reference texts."""

import numpy as np
import pytest

from fute_sklearn import (
    ModelRanker,
    MTEWrapper,
    Task,
    TaskVectorizer,
    TuPaTEEmbedder,
)
from fute_sklearn.exceptions import FingerprintMismatchError
from fute_sklearn.metrics import spearman_score
from fute_sklearn.testing import TINY_SURROGATE as TINY

REFERENCE = [f"{a} {b}" for a in ("so fine", "so dull", "what") for b in "xyz"]


def vector(embedder, task):
    return np.asarray(embedder.embed([task])[0].embedding_, dtype=float)


def test_a_models_vector_is_what_its_student_answers(texts, labels):
    embedder = TuPaTEEmbedder(TINY, reference=REFERENCE, max_epochs=2)
    fitted = embedder.embed([Task(texts, labels, origin="model")])[0]
    proba = fitted.student_.predict_proba(sorted(REFERENCE))
    expected = (2 * proba - 1).ravel(order="F")
    np.testing.assert_allclose(fitted.embedding_, expected, rtol=1e-5)
    assert fitted.embedding_.label_names == ("neg", "pos")


def test_a_data_set_is_placed_by_its_moments_or_by_its_student(texts, labels):
    embedder = TuPaTEEmbedder(TINY, reference=REFERENCE, max_epochs=1)
    data, model = Task(texts, labels), Task(texts, labels, origin="model")
    quick = vector(embedder.set_params(learning_rate=1e-9), data)
    slow = vector(embedder.set_params(learning_rate=0.1), data)
    np.testing.assert_array_equal(quick, slow)  # no tuned parameter is in it
    embedder.set_params(data_set="student")
    np.testing.assert_array_equal(vector(embedder, data), vector(embedder, model))
    uneven = Task(texts, ["pos"] * 7 + ["neg"])
    embedder.set_params(data_set="moments")
    plain = vector(embedder, uneven)
    weighed = vector(embedder.set_params(class_weight="balanced"), uneven)
    half = len(REFERENCE)
    assert plain[half:].mean() > 0.5
    assert abs(weighed[half:].mean()) < plain[half:].mean() - 0.3


def test_seeds_and_steps_share_one_space(texts, labels):
    task = Task(texts, labels, origin="model")
    names = set()
    for change in ({}, {"random_state": 1}, {"max_epochs": 2}, {"tuning": "bias"}):
        embedder = TuPaTEEmbedder(
            TINY, **{"reference": REFERENCE, "max_epochs": 1, **change}
        )
        names.add(embedder.embed([task])[0].fingerprint_)
    assert len(names) == 1
    other = TuPaTEEmbedder(TINY, reference=REFERENCE[1:], max_epochs=1)
    own = TuPaTEEmbedder(TINY, space="parameters", max_epochs=1)
    vectors = [e.embed([task])[0].embedding_ for e in (embedder, other, own)]
    for one in vectors[1:]:
        with pytest.raises((FingerprintMismatchError, ValueError)):
            ModelRanker().fit(vectors[0][None]).decision_function(one[None])


def test_a_vectorizer_takes_the_texts_of_the_models(texts, labels):
    class Rule:
        def __init__(self, word):
            self.word = word

        def predict(self, X):
            return ["pos" if self.word in x else "neg" for x in X]

    tasks = [MTEWrapper(Rule(w)).label(texts) for w in ("fine", "dull", "food")]
    vectorizer = TaskVectorizer(TuPaTEEmbedder(TINY, max_epochs=1)).fit(tasks)
    assert vectorizer.embeddings_.shape == (3, 2 * len(set(texts)))
    own = vectorizer.transform([Task(texts[:5], labels[:5])])
    assert own.fingerprint == vectorizer.embeddings_.fingerprint


def test_free_texts_keep_their_parameters(texts):
    embedder = TuPaTEEmbedder(TINY, max_epochs=1)
    free = embedder.fit(texts, [f"answer {i}" for i in range(8)], kind="text")
    same = TuPaTEEmbedder(TINY, space="parameters", max_epochs=1)
    same.fit(texts, [f"answer {i}" for i in range(8)], kind="text")
    assert free.fingerprint_ == same.fingerprint_


def test_numbers_have_one_margin_a_text(texts):
    embedder = TuPaTEEmbedder(TINY, reference=REFERENCE, max_epochs=1)
    for data_set in ("moments", "student"):
        embedder.set_params(data_set=data_set).fit(texts, np.linspace(0.1, 2, 8))
        assert embedder.embedding_.shape == (len(REFERENCE),)


def test_two_surrogates_rank_alike(texts):
    """One zoo, two students' worlds: the built-in surrogate, and other seeds of it.

    The tiny one is random and sees little; its vectors still lie in the same space.
    """
    pool = [f"{a} {b}" for a in texts for b in ("film", "food", "day", "song")]
    words = ("fine", "dull", "joy", "sad", "slow", "food")
    models = [
        Task(pool, ["pos" if w in x else "neg" for x in pool], origin="model")
        for w in words
    ]
    target = Task(pool[::3], ["pos" if "fine" in x else "neg" for x in pool[::3]])
    scores = []
    for surrogate, seed in (("fute-mini", 0), ("fute-mini", 1), (TINY, 0)):
        embedder = TuPaTEEmbedder(surrogate, random_state=seed, max_epochs=8)
        vectorizer = TaskVectorizer(embedder).fit(models)
        ranker = ModelRanker().fit(vectorizer.embeddings_, names=list(words))
        scores.append(ranker.decision_function(vectorizer.transform([target])))
        spaces = vectorizer.embeddings_.fingerprint
        assert ranker.fingerprint_ == spaces
    assert spearman_score(scores[0], scores[1]) > 0.8
    mixed = ModelRanker().fit(vectorizer.embeddings_)
    assert np.isfinite(mixed.decision_function(vectorizer.transform([target]))).all()
