"""Faults that were found by trying: each was silent, or a crash without a word."""

import copy
import pickle
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import cohen_kappa_score, make_scorer
from sklearn.pipeline import make_pipeline

from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    MTEWrapper,
    PromptedLLM,
    PromptSelector,
    RankingDisplay,
    StudentRanker,
    Task,
    TaskVectorizer,
    TaskVectors,
    load_embeddings,
    rank_models,
    save_embeddings,
)
from fute_sklearn.base import BaseTaskEmbedder
from fute_sklearn.exceptions import (
    FingerprintMismatchError,
    LabelMismatchError,
    ModelLabelError,
)
from fute_sklearn.testing import TINY_SURROGATE as TINY

WEIGHTS = np.array([0.5, 1.0])


class Weighted:
    def predict(self, X):
        return ["pos" if len(x) * WEIGHTS[0] > 5 else "neg" for x in X]


class Says:
    def __init__(self, yes, no, word="fine"):
        self.yes, self.no, self.word = yes, no, word

    def predict(self, X):
        return [self.yes if self.word in x else self.no for x in X]


@pytest.fixture
def embedder(texts):
    return MomentEmbedder(TINY, reference=texts)


def test_arrays_beside_a_model_are_no_fault(texts):
    assert MTEWrapper(Weighted()).label(texts).n_samples == len(texts)


class Named(BaseTaskEmbedder):
    sign, name = 1, "a1"

    def _embed_tasks(self, tasks, on_step):
        return [
            {
                "embedding_": self.sign * task.targets.proba.mean(0),
                "fingerprint_": self.name,
            }
            for task in tasks
        ]


class Other(Named):
    sign, name = -1, "b1"


def test_kept_vectors_are_those_of_the_embedder(texts, labels, tmp_path):
    tasks = [Task(texts, labels)]
    found = [
        TaskVectorizer(e, memory=tmp_path).fit_transform(tasks)
        for e in (Named(), Named(), Other())
    ]
    assert [v.fingerprint for v in found] == ["a1", "a1", "b1"]
    np.testing.assert_array_equal(found[2], -found[0].view(np.ndarray))


def test_rows_are_positions_or_a_mask():
    task = Task(["w", "x", "y", "z"], ["a", "b", "a", "b"])
    mask = [True, False, False, True]
    for rows in (np.array(mask), mask, pd.Series(mask), [0, 3]):
        assert task.take(rows).texts == ("w", "z")
    for rows in ([0.9, 1.9], [True, False], ["w"]):
        with pytest.raises(ValueError, match="expected positions"):
            task.take(rows)


def test_sets_have_no_order(texts, labels):
    class Proba:
        def predict_proba(self, X):
            return [[0.1, 0.9]] * len(X)

    wrapper = MTEWrapper(Proba(), response_method="predict_proba")
    with pytest.raises(TypeError, match="set"):
        wrapper.set_params(classes={"neg", "pos"}).label(texts)
    with pytest.raises(TypeError, match="set"):
        Task(texts, labels, classes={"neg", "pos"})
    with pytest.raises(TypeError, match="set"):
        ModelRanker().fit(np.eye(3), names={"a", "b", "c"})


@pytest.mark.parametrize("classes", [None, [9, 10, 11, 12], np.array([9, 10, 11, 12])])
def test_ordered_labels_keep_their_order_for_scorers(classes, texts, embedder):
    X = ["t nine", "t ten", "t eleven", "t ten again", "t nine again", "t eleven 2"]
    truth, known = (
        [9, 10, 11, 10, 9, 11],
        dict(zip(X, [10, 10, 12, 9, 9, 11], strict=True)),
    )

    class Grades:
        def predict(self, X):
            return [known.get(x, 9 + len(x) % 4) for x in X]

    kappa = make_scorer(cohen_kappa_score, weights="quadratic")
    options = {"texts": texts, "embedder": embedder, "scoring": kappa, "n_labelled": 6}
    with pytest.warns(UserWarning, match="'12'") if classes is None else nullcontext():
        table = rank_models({"m": Grades()}, X, truth, classes=classes, **options)
    expected = cohen_kappa_score(truth, [known[x] for x in X], weights="quadratic")
    assert table["labelled_score"].iloc[0] == pytest.approx(expected)


@pytest.mark.parametrize("kind", [list, pd.Series])
def test_answers_follow_the_index_of_the_texts(kind, texts):
    class Shuffled:
        def predict_proba(self, X):
            fine = ["fine" in x for x in X]
            index = X.index if kind is pd.Series else range(len(X))
            table = pd.DataFrame(
                {"n": [0.9 - 0.8 * f for f in fine]}, index=list(index)
            )
            table["p"] = 1 - table["n"]
            return table.iloc[::-1]

    X = texts if kind is list else pd.Series(texts, index=list("abcdefgh"))
    found = MTEWrapper(Shuffled(), response_method="predict_proba").label(X)
    expected = ["p" if "fine" in x else "n" for x in texts]
    assert found.targets.label_names().tolist() == expected


def test_classes_of_numpy_are_pythons_own(texts, embedder):
    y = [1, 0] * 4
    student = embedder.fit(texts, y, classes=np.array([0, 1])).student_
    assert 0 <= student.score(texts, y) <= 1
    assert student.score(texts, ["1", "0"] * 4) == student.score(texts, y)
    with pytest.raises(ValueError, match="compared by name"):
        student.score(texts, ["good", "bad"] * 4)


def test_saved_names_follow_the_index(tmp_path):
    frame = pd.DataFrame(np.eye(3), index=[3, 1, 2])
    names = pd.Series(["a", "b", "c"], index=[1, 2, 3])
    save_embeddings(tmp_path / "f", frame, names)
    assert load_embeddings(tmp_path / "f")[1] == ["c", "a", "b"]
    assert ModelRanker().fit(frame, names=names).model_names_.tolist() == [
        "c",
        "a",
        "b",
    ]
    with pytest.raises(FileNotFoundError, match="is a folder"):
        load_embeddings(tmp_path)
    with pytest.raises(FileNotFoundError, match="folder .* does not exist"):
        save_embeddings(tmp_path / "no" / "f", frame)


def test_classes_and_wrong_names_do_not_hide_a_mismatch(texts, embedder):
    y = ["good", "bad"] * 4
    numbers = make_pipeline(CountVectorizer(), LogisticRegression())
    numbers.fit(texts, [1, 0] * 4)
    wrapper = MTEWrapper(
        numbers, response_method="predict_proba", classes=["bad", "good"]
    )
    options = {"texts": texts, "embedder": embedder}
    with pytest.raises(LabelMismatchError, match="share no label"):
        rank_models({"a": wrapper}, texts, y, **options)
    bare = MTEWrapper(Says("LABEL_1", "LABEL_0"), classes=["bad", "good"])
    with pytest.raises(LabelMismatchError, match="share no label"):
        rank_models({"a": bare}, texts, y, **options)
    with pytest.raises(ModelLabelError, match="the model answers .'LABEL_0'"):
        rank_models(
            {"a": Says("LABEL_1", "LABEL_0")},
            texts,
            y,
            label_names={"a": {0: "bad", 1: "good"}},
            **options,
        )


def test_models_may_be_numbered(texts, labels, embedder):
    zoo = {0: Says("pos", "neg"), 1: Says("neg", "pos")}
    options = {"texts": texts, "embedder": embedder}
    table = rank_models(zoo, texts, labels, label_names={1: {"pos": "pos"}}, **options)
    assert sorted(table.index) == ["0", "1"]
    assert sorted(rank_models(pd.Series(zoo), texts, labels, **options).index) == [
        "0",
        "1",
    ]
    with pytest.raises(TypeError, match="expected several"):
        rank_models(
            make_pipeline(CountVectorizer(), LogisticRegression()),
            texts,
            labels,
            texts=texts,
        )
    with pytest.raises(ValueError, match="n_labelled=True"):
        rank_models(zoo, texts, labels, n_labelled=True, **options)


def test_vectors_of_another_space_cannot_be_put_in():
    one, two = TaskVectors(np.eye(2), "one"), TaskVectors(np.eye(2), "two")
    with pytest.raises(FingerprintMismatchError):
        one[0] = two[0]
    one[0] = one[1]
    one[1] = 0
    assert one.fingerprint == "one"


def test_names_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match="contradict"):
        RankingDisplay.from_predictions(
            [1, 0.2], pd.Series([0.1, 0.2], index=["b", "a"]), names=["a", "b"]
        )


def test_ratings_with_one_that_is_unknown_are_labels(texts, embedder):
    class Stars:
        def predict(self, X):
            return np.float32([0.1, 0.2, 1.5, 5.5][: len(X)] * 2)[: len(X)]

    with pytest.warns(UserWarning, match=r"'stars' answers .'5.5'."):
        table = rank_models(
            {"stars": Stars()},
            texts,
            [0.1, 0.2, 1.5, 0.1] * 2,
            texts=texts,
            embedder=embedder.set_params(target_encoding="text"),
            kind="label",
        )
    assert table["score"].notna().all()


def test_tables_of_gains_without_names_are_arrays(texts, labels, embedder):
    ranker = ModelRanker().fit(np.eye(3))
    plain = ranker.score([[0, 1.0, 0]], [[0.2, 0.9, 0.1]])
    assert ranker.score([[0, 1.0, 0]], pd.DataFrame([[0.2, 0.9, 0.1]])) == plain
    past = pd.DataFrame([[1, 2], [3, 4], [5, 6.0]])
    learnt = ModelRanker().fit(np.eye(3), past, names=["a", "b"])
    assert learnt.model_names_.tolist() == ["a", "b"]
    by_name = ModelRanker().fit(np.eye(3), {"a": [1, 3, 5], "b": [2, 4, 6.0]})
    np.testing.assert_array_equal(by_name.gains_, past)
    tasks = [Task(texts, labels, name="x"), Task(texts, labels[::-1], name="y")]
    students = StudentRanker(embedder).fit(tasks)
    chosen = pd.DataFrame({"x": [1.0, 0.5], "y": [0.0, 1.0]}, index=[0, 3])
    assert 0 < students.score(tasks, chosen) <= 1


def test_copies_and_pickles_of_wrappers_say_what_they_lack(texts):
    wrapper = MTEWrapper(Says("pos", "neg"))
    assert copy.deepcopy(wrapper).predict(texts) == wrapper.predict(texts)
    with pytest.raises(ValueError, match="not part of a pickle"):
        pickle.loads(pickle.dumps(wrapper)).predict(texts)


class Client:
    capabilities, fingerprint = frozenset({"score"}), "a client"

    def score(self, contexts, continuations):
        return [
            np.array([-1.0, -2.0]) if c.startswith("A") else np.array([-2.0, -1.0])
            for c in contexts
        ]


def test_a_selector_is_the_model_that_it_chose(texts, labels):
    def prompt(template, labels=("neg", "pos")):
        return PromptedLLM(Client(), template, list(labels))

    one = PromptSelector({"p": prompt("A {text}")}, "global_entropy").fit(texts)
    two = PromptSelector({"p": prompt("B {text}")}, "global_entropy").fit(texts)
    assert one.fingerprint != two.fingerprint
    found = [MTEWrapper(s).label(texts).targets.label_names()[0] for s in (one, two)]
    assert found == ["neg", "pos"]
    again = pickle.loads(pickle.dumps(one))
    with pytest.raises(ValueError, match="n_jobs"):
        again.predict(texts)
    again.set_params(prompts={"q": prompt("A {text}")})
    with pytest.raises(ValueError, match="not among those"):
        again.predict(texts)
    again.set_params(prompts={"p": prompt("A {text}", ["awful", "fine"])})
    with pytest.raises(LabelMismatchError, match="'awful'"):
        again.predict(texts)
    assert copy.deepcopy(one).predict(texts).tolist() == one.predict(texts).tolist()
