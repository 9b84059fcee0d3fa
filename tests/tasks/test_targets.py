"""Targets are read as given, or refused at the door with the row."""

import datetime
import enum
from fractions import Fraction

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scipy import sparse

from fute_sklearn import MomentEmbedder, MTEWrapper, Task
from fute_sklearn.exceptions import ModelLabelError
from fute_sklearn.tasks._validation import label_name
from fute_sklearn.testing import TINY_SURROGATE

X = ["one", "two", "three", "four"]
LABELS = ["a", "b", "a", "b"]


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Answers:
    """A model that returns what it was given, fit to the number of texts."""

    fingerprint = None

    def __init__(self, found):
        self.found = found
        try:
            self.fingerprint = repr(found)
        except ValueError:  # too many digits
            self.fingerprint = "long"

    def predict(self, X):
        return self.found


@pytest.mark.parametrize(
    ("big", "other"),
    [
        (2**53 + 1, 2**53),
        (2**63 + 1, 2**63),
        (2**64 + 1, -1),
        (10**400, 10**400 + 1),
        (10**5000, 10**5000 + 1),
        (2**53 + 1, 0),
        (True, 1),
        (Fraction(2**60 + 1), Fraction(2**60)),
    ],
    ids=range(8),
)
def test_numbers_keep_their_identity(big, other):
    task = Task(X, [big, other] * 2)
    assert len(task.targets.names) == 2
    assert list(task.y) == [big, other] * 2
    assert len({label_name(big), label_name(other)}) == 2
    found = MTEWrapper(Answers([big, other] * 2)).label(X)
    assert set(found.targets.names) == set(task.targets.names)


def test_identifiers_are_scored_as_they_are():
    ids = [2**63 + 1, 2**63] * 2
    embedder = MomentEmbedder(TINY_SURROGATE, reference=X, alpha=0.01)
    from fute_sklearn import StudentRanker

    ranker = StudentRanker(embedder).fit([Task(X, ids, name="m")])
    assert ranker.decision_function([Task(X, ids)])[0, 0] > 0.5


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (pd.array([1, 0, 1, 0], dtype="Int64"), ("0", "1")),
        (pd.Series([1, 0, 1, 0], dtype="Int64"), ("0", "1")),
        (pd.Series([True, False] * 2, dtype="boolean"), ("False", "True")),
        (np.array([1, 0, 1, 0], dtype=object), ("0", "1")),
        (np.array([True, False] * 2, dtype=object), ("False", "True")),
        (np.array([1, 0, 1, 0], dtype=np.uint8), ("0", "1")),
        (np.array([1.0, 0.0, 1.0, 0.0], dtype=np.float32), ("0", "1")),
        (pa.array(LABELS), ("a", "b")),
        (pa.chunked_array([LABELS[:2], LABELS[2:]]), ("a", "b")),
        (pa.array([1, 0, 1, 0]), ("0", "1")),
        (pd.Series(LABELS, dtype=pd.ArrowDtype(pa.string())), ("a", "b")),
        (pl.Series(LABELS), ("a", "b")),
        (pl.Series(LABELS, dtype=pl.Categorical), ("a", "b")),
        (pd.Categorical(LABELS), ("a", "b")),
        ((x for x in LABELS), ("a", "b")),
        ([np.int64(1), np.int64(0)] * 2, ("0", "1")),
        ([np.array(1), np.array(0)] * 2, ("0", "1")),
        ([Colour.RED, Colour.BLUE] * 2, ("Colour.BLUE", "Colour.RED")),
        ([datetime.date(2020, 1, 1)] * 2 + [datetime.date(2021, 1, 1)] * 2, None),
    ],
)
def test_columns_of_any_library_are_labels(labels, names):
    answers = list(labels) if hasattr(labels, "__next__") else labels
    task = Task(X, answers)
    assert task.targets.kind == "label"
    assert names is None or task.targets.names == names
    assert MTEWrapper(Answers(answers)).label(X).targets.names == task.targets.names


def test_torch_tensors_are_labels():
    torch = pytest.importorskip("torch")
    assert Task(X, torch.tensor([1, 0, 1, 0])).targets.names == ("0", "1")
    half = torch.full((4, 2), 0.5, dtype=torch.bfloat16)
    assert Task(X, half, classes=["a", "b"]).targets.proba.shape == (4, 2)


NULLS = pd.array([1, None, 1, 0], dtype="Int64")
MASKED = np.ma.masked_array([1, 0, 1, 0], mask=[0, 1, 0, 0])
BAD = [
    ([{"a"}, {"b"}] * 2, TypeError, r"\[0\] is {'a'} of type set"),
    (["a", {"b"}, "a", "b"], TypeError, r"\[1\] is {'b'}"),
    ([["a"], ["b", "c"], ["a"], []], ValueError, "one target per row|column"),
    (["a", ["b"], "a", "b"], TypeError, r"\[1\] is \['b'\]"),
    ([{"a": 1}] * 4, TypeError, "of type dict"),
    ([b"a", b"b"] * 2, TypeError, "bytes need decoding"),
    (np.array([["a", "x"], ["b", "y"]] * 2), ValueError, r"\.ravel\(\)"),
    (pd.DataFrame({"p": LABELS, "q": LABELS}), ValueError, "'label'"),
    ([object()] * 4, TypeError, r"\[0\] is <object"),
    (NULLS, ValueError, r"\[1\] is <NA>, a missing value"),
    (MASKED, ValueError, r"\[1\] is None, a missing value"),
    (pl.Series([1, None, 1, 0]), ValueError, r"\[1\] is None, a missing value"),
    (pa.array(["a", None, "b", "a"]), ValueError, r"\[1\] is None, a missing value"),
    (sparse.eye(4).tocsr(), TypeError, "toarray"),
    ({"a": 1, "b": 2, "c": 3, "d": 4}, TypeError, "dict|array"),
]


@pytest.mark.parametrize(("y", "error", "message"), BAD)
def test_targets_that_are_none_are_refused(y, error, message):
    with pytest.raises(error, match=message):
        Task(X, y)
    if message == "of type dict":  # scores by label, which a model may give
        return
    missing = "a missing value" in message  # which a model may give: an abstention
    message = "no answer to 1 of 4 texts" if missing else message
    with pytest.raises(ModelLabelError, match=message):
        MTEWrapper(Answers(y)).label(X)


@pytest.mark.parametrize(
    "y",
    [pd.DataFrame({"y": LABELS}), np.array(LABELS)[:, None], [[v] for v in LABELS]],
)
def test_one_column_tables_are_refused_with_the_remedy(y):
    with pytest.raises(ValueError, match="one column"):
        Task(X, y)
    # A model's answer of one column is a column: networks give such.
    assert MTEWrapper(Answers(y)).label(X).targets.names == ("a", "b")


@pytest.mark.parametrize("y", [5, np.array("a"), {"a", "b"}, "abcd", 1.5])
def test_what_is_no_sequence_is_refused(y):
    with pytest.raises((TypeError, ValueError), match="y "):
        Task(X, y)


def test_several_columns_are_no_numbers_and_no_texts():
    with pytest.raises(ValueError, match="kind='number'"):
        Task(X, np.full((4, 2), 0.5), kind="number")
    with pytest.raises(TypeError, match="the labels are one str, 'ab'"):
        Task(X, LABELS, classes="ab")


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["fine", "half \ud83d"], r"X\[1\] holds a lone surrogate at place 5"),
        (["\udcff"], r"X\[0\] holds a lone surrogate at place 0"),
        ({"a", "b"}, "set"),
        (pa.array(["a", None]), r"X\[1\] is None"),
    ],
)
def test_texts_that_cannot_be_read_are_refused_before_a_model_is_called(texts, message):
    class Never:
        def predict(self, X):
            raise AssertionError("called")

    with pytest.raises((TypeError, ValueError), match=message):
        Task(texts, ["a", "b"][: len(texts)])
    with pytest.raises((TypeError, ValueError), match=message):
        MTEWrapper(Never()).label(texts)


def test_labels_and_target_texts_that_cannot_be_read_are_refused():
    with pytest.raises(ValueError, match="lone surrogate at place 0"):
        Task(X, ["\ud83d", "b"] * 2)
    with pytest.raises(ValueError, match=r"y\[0\] holds a lone surrogate"):
        Task(X, ["\ud83d", "b", "c", "d"], kind="text")


def test_iterators_and_arrow_arrays_are_texts(texts, labels):
    expected = MomentEmbedder(TINY_SURROGATE, reference=texts).fit(texts, labels)
    for kind in (iter, pa.array, pl.Series):
        est = MomentEmbedder(TINY_SURROGATE, reference=texts)
        est.fit(kind(texts), kind(labels))
        np.testing.assert_array_equal(est.embedding_, expected.embedding_)
        assert (
            est.student_.predict(kind(texts)) == expected.student_.predict(texts)
        ).all()
        assert est.score(kind(texts), kind(labels)) == expected.score(texts, labels)


def test_classes_from_an_iterator_are_read_once(texts, labels):
    task = Task(X, LABELS, classes=iter(["a", "b", "c"]))
    assert task.targets.names == ("a", "b", "c")
    est = MomentEmbedder(TINY_SURROGATE, reference=texts).fit(texts, labels)
    frame = pd.DataFrame(
        est.student_.predict_proba(texts)
    )  # columns that nobody has named
    assert est.score(texts, frame) == est.score(texts, frame.to_numpy())
    task = Task.from_long(
        pd.DataFrame({"text": X, "label": [1, 2, 3, 4], "task": "t"}), kind="number"
    )
    assert task[0].targets.kind == "number"


def test_records_from_an_iterator_are_read_once():
    class Records(Answers):
        def text_of(self, X):
            return [row["t"] for row in X]

        def content_of(self, X):
            return [str(row) for row in X]

        def predict(self, X):
            return [row["t"][0] for row in X]

    rows = [{"t": x} for x in X]
    found = MTEWrapper(Records("r")).label(row for row in rows)
    assert found == MTEWrapper(Records("r")).label(rows)


def test_values_that_come_again_are_no_free_texts():
    many = [f"text {i}" for i in range(60)]
    assert Task(many, [f"{i % 30}." for i in range(60)]).targets.kind == "label"
    assert Task(many, [f"{i}." for i in range(60)]).targets.kind == "text"
    with pytest.warns(UserWarning, match="60 different whole numbers.*kind='number'"):
        assert Task(many, list(range(60))).targets.kind == "label"
    assert Task(many, list(range(60)), kind="number").targets.kind == "number"


def test_the_kind_of_a_models_answers_can_be_told():
    model = Answers([1.0, 2.0, 1.0, 3.0])
    assert MTEWrapper(model).label(X).targets.kind == "label"
    assert MTEWrapper(model, kind="number").label(X).targets.kind == "number"


# Shapes of what models return ----------------------------------------------------


class Scores:
    classes_ = np.array(["a", "b", "c"])

    def __init__(self, found, said=None):
        self.found, self.said = found, said
        self.fingerprint = repr((found, said))

    def decision_function(self, X):
        return np.asarray(self.found)[: len(X)]

    predict_proba = decision_function

    def predict(self, X):
        return [self.classes_[i] for i in self.said][: len(X)]


def test_one_vs_one_scores_are_refused_for_three_classes_too(texts):
    pairs = [[1.0, 1.0, 0.5], [-1.0, -0.5, 1.0], [-0.2, -1.0, -2.0]] * 3
    said = [0, 1, 2] * 3
    many = texts + ["one more"]
    wrapper = MTEWrapper(Scores(pairs, said), response_method="decision_function")
    with pytest.raises(ModelLabelError, match="one-vs-one"):
        wrapper.label(many)
    good = [[3.0, 1.0, 0.5], [-1.0, -0.5, -2.0], [-0.2, -1.0, 2.0]] * 3
    sound = MTEWrapper(Scores(good, said), response_method="decision_function")
    assert sound.label(many).targets.label_names().tolist() == list("abc") * 3


def test_real_one_vs_one_models_are_refused(texts):
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import SVC

    for count in (3, 4):
        y = (list("abcd")[:count] * 8)[:8]
        for shape in ("ovo", "ovr"):
            svm = SVC(decision_function_shape=shape)
            model = make_pipeline(CountVectorizer(), svm).fit(texts, y)
            search = GridSearchCV(model, {"svc__C": [1.0]}, cv=2).fit(texts, y)
            for one in (model, search):
                wrapper = MTEWrapper(one, response_method="decision_function")
                if shape == "ovo":
                    with pytest.raises(ModelLabelError, match="one-vs-one"):
                        wrapper.label(texts)
                else:
                    assert wrapper.label(texts).n_samples == 8


@pytest.mark.parametrize(
    ("found", "method", "message"),
    [
        ([0.1, 0.2, 0.3, 0.4], "predict_proba", r"shape \(n, n_classes\)"),
        ([0.1, 0.2, 0.3, 0.4], "decision_function", "one score per text for 3 classes"),
        ([[0.5, 0.5]] * 4, "predict_proba", "2 columns came for the 3 classes"),
        ([[np.nan, 0.5, 0.5]] * 4, "predict_proba", "row 0 is"),
        ([[0.5, 0.6, 0.7]] * 4, "predict_proba", "sum to 1"),
    ],
)
def test_scores_of_other_shapes_are_refused(found, method, message):
    with pytest.raises(ModelLabelError, match=message):
        MTEWrapper(Scores(found), response_method=method).label(X)


def test_columns_without_names_are_refused():
    class Bare:
        def predict_proba(self, X):
            return np.full((len(X), 2), 0.5)

    with pytest.raises(ModelLabelError, match=r"classes=\[\.\.\.\]"):
        MTEWrapper(Bare(), response_method="predict_proba").label(X)


def test_chunks_of_other_types_do_not_merge_labels():
    class Moody:
        fingerprint = "moody"

        def predict(self, X):
            return [True] * len(X) if X[0] == "one" else [1] * len(X)

    task = MTEWrapper(Moody(), batch_size=2).label(X)
    assert task.targets.names == ("1", "True")

    class Ragged:
        fingerprint = "ragged"

        def predict(self, X):
            return ["a"] * len(X) if X[0] == "one" else [[0.5, 0.5]] * len(X)

    with pytest.raises(ModelLabelError, match="different forms"):
        MTEWrapper(Ragged(), batch_size=2).label(X)
