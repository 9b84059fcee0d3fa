"""What others write: embedders, students, clients; and that faults are found."""

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV, cross_val_score

from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    MTEWrapper,
    StudentClassifier,
    StudentRegressor,
    Task,
    TaskVectorizer,
    TransformersClient,
    TuPaTEEmbedder,
)
from fute_sklearn.base import BaseTaskEmbedder, LanguageModelClient, Model
from fute_sklearn.exceptions import FingerprintMismatchError
from fute_sklearn.testing import TINY_SURROGATE as TINY
from fute_sklearn.testing import check_estimator, parametrize_with_checks


class Shares(BaseTaskEmbedder):
    """The share of each label: needs no surrogate and has no student."""

    def space_of(self, task):
        return f"shares {task.targets.names}", task.targets.names

    def _embed_tasks(self, tasks, on_step):
        return [
            {
                "embedding_": task.targets.proba.mean(0),
                "fingerprint_": self.space_of(task)[0],
            }
            for task in tasks
        ]


class Hidden(Shares):
    """Names its space in the vectors only."""

    def space_of(self, task):
        return None, None

    def _embed_tasks(self, tasks, on_step):
        return [
            {"embedding_": t.targets.proba.mean(0), "fingerprint_": "hidden"}
            for t in tasks
        ]


class Client:
    capabilities = frozenset({"score", "generate", "choose", "score_text"})
    fingerprint = "a client"

    def score(self, contexts, continuations):
        return [
            np.array([-1.0 - (c.count("dull") == o.count("good")) for o in some])
            for c, some in zip(contexts, continuations, strict=True)
        ]

    def generate(self, prompts, max_tokens):
        return ["good"] * len(prompts)

    def choose(self, contexts, continuations):
        return ["good"] * len(contexts)

    def score_text(self, texts):
        return [(-1.0 * len(t), len(t.split())) for t in texts]


class Sampler(Client):
    capabilities = frozenset({"frequencies", "bounds"})

    def frequencies(self, contexts, continuations):
        return [["good", "bad", "good"]] * len(contexts)

    def bounds(self, contexts, continuations):
        return [(np.array([0.6, 0.3]), np.array([0.62, 0.33]))] * len(contexts)


@parametrize_with_checks([Shares(), Hidden(), ModelRanker(), ModelRanker("dot")])
def test_checks(estimator, check):
    check(estimator)


@parametrize_with_checks([Client(), Sampler()])
def test_client_checks(estimator, check):
    check(estimator)


def test_the_packages_own_clients(causal_folder):
    check_estimator(TransformersClient(causal_folder))


def test_the_client_of_servers(causal_folder, monkeypatch):
    from tests.llm.openai_server import model_server

    monkeypatch.setenv("OPENAI_API_KEY", "key")
    from fute_sklearn import OpenAIClient
    from fute_sklearn._engine import load_causal

    with model_server(load_causal(causal_folder)) as server:
        check_estimator(OpenAIClient("tiny", base_url=server.url))


class NoMethod(Client):
    score = None


class NoFingerprint(Client):
    fingerprint = None


class Unknown(Client):
    capabilities = frozenset({"telepathy"})


@pytest.mark.parametrize("client", [NoMethod(), NoFingerprint(), Unknown()])
def test_clients_that_break_the_protocol_are_told(client):
    with pytest.raises(TypeError, match="capabilities|fingerprint"):
        check_estimator(client)


class Positive(Client):
    def score(self, contexts, continuations):
        return [np.ones(len(some)) for some in continuations]


class Shuffled(Client):
    def score(self, contexts, continuations):
        return [np.array([-1.0, -2.0])] * len(contexts)


class Silent(Client):
    def generate(self, prompts, max_tokens):
        return [None] * len(prompts)


class Drifting(Shares):
    def _embed_tasks(self, tasks, on_step):
        found = super()._embed_tasks(tasks, on_step)
        found[0]["embedding_"] = found[0]["embedding_"] + np.random.rand()
        return found


@pytest.mark.parametrize("broken", [Positive(), Shuffled(), Silent(), Drifting()])
def test_what_answers_wrongly_is_told(broken):
    with pytest.raises(AssertionError):
        check_estimator(broken)


def test_embedders_of_others_work_everywhere(texts, labels):
    tasks = [Task(texts, labels), Task(texts, ["pos"] * 6 + ["neg"] * 2)]
    for embedder in (Shares(), Hidden()):
        vectors = TaskVectorizer(embedder).fit_transform(tasks)
        assert vectors.shape == (2, 2)
        assert vectors.fingerprint is not None
        wrapper = MTEWrapper(StudentClassifier, embedder)  # never called here
        assert wrapper.embedder is embedder
    other = TaskVectorizer(Shares()).fit_transform([Task(texts, ["a", "b"] * 4)])
    with pytest.raises(FingerprintMismatchError):
        ModelRanker().fit(TaskVectorizer(Shares()).fit_transform(tasks)).rank(other)


def test_protocols_are_told_at_run_time():
    assert isinstance(Client(), LanguageModelClient)
    assert isinstance(StudentClassifier(None), Model)
    assert not isinstance(object(), Model)


def test_students_are_tuned_and_scored_like_any_classifier(texts, labels):
    student = StudentClassifier(MomentEmbedder(TINY, reference=texts))
    search = GridSearchCV(
        student, {"embedder__alpha": [0.01, 1.0]}, scoring="roc_auc", cv=2
    ).fit(texts, labels)
    assert set(search.best_params_) == {"embedder__alpha"}
    assert search.best_estimator_.predict(texts).shape == (8,)
    numbers = np.linspace(0.25, 2, 8)
    regressor = StudentRegressor(TuPaTEEmbedder(TINY, max_epochs=1))
    assert np.isfinite(cross_val_score(regressor, texts, numbers, cv=2)).all()


def test_a_change_of_settings_counts_for_the_student(texts, labels, save_t5):
    est = MomentEmbedder(TINY, reference=texts).fit(texts, labels)
    est.set_params(surrogate=save_t5())
    with pytest.raises(FingerprintMismatchError):
        est.student_.predict(texts)


def test_encoded_texts_serve_students_of_one_surrogate(texts, labels, save_t5):
    one = MomentEmbedder(TINY, reference=texts).fit(texts, labels)
    encoded = one.encode(texts)
    np.testing.assert_array_equal(
        one.student_.predict_proba(encoded), one.student_.predict_proba(texts)
    )
    other = MomentEmbedder(save_t5(), reference=texts).fit(texts, labels)
    with pytest.raises(FingerprintMismatchError, match="another surrogate"):
        other.student_.predict(encoded)
