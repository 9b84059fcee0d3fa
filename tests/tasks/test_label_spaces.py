"""Labels of models and targets are compared by name before anything is computed."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    MTEWrapper,
    StudentRanker,
    Task,
    TaskVectorizer,
    TuPaTEEmbedder,
    rank_models,
)
from fute_sklearn.exceptions import (
    FingerprintMismatchError,
    LabelMismatchError,
    LabelMismatchWarning,
    ModelLabelError,
)
from fute_sklearn.testing import TINY_SURROGATE as TINY

NFC, NFD = "r\u00e9ussi", "re\u0301ussi"


class Says:
    """A model that answers by whether a word occurs."""

    def __init__(self, yes, no, word="fine"):
        self.yes, self.no, self.word = yes, no, word

    def predict(self, X):
        return [self.yes if self.word in x else self.no for x in X]


@pytest.fixture
def embedder(texts):
    return MomentEmbedder(TINY, reference=texts)


@pytest.fixture
def y():
    return ["positive", "negative"] * 4


@pytest.mark.parametrize(
    ("yes", "no"),
    [(1, 0), ("LABEL_1", "LABEL_0"), (True, False), ("good", "bad"), (b"1"[0], 7)],
)
def test_models_that_share_no_label_are_refused(yes, no, y, texts, embedder):
    with pytest.raises(LabelMismatchError, match="share no label") as caught:
        rank_models({"m": Says(yes, no)}, texts, y, texts=texts, embedder=embedder)
    message = str(caught.value)
    assert "'negative', 'positive'" in message
    assert "label_names={'m': {" in message


@pytest.mark.parametrize(
    ("labels", "target", "proposal"),
    [
        (("Positive", "NEGATIVE"), ("positive", "negative"), "'Positive': 'positive'"),
        (("very good", "bad"), ("verygood", "bad"), "'very good': 'verygood'"),
        ((NFD, "rate"), (NFC, "rate"), f"'{NFD}': '{NFC}'"),
        (("ﬁne", "dull"), ("fine", "dull"), "'ﬁne': 'fine'"),
        (("STRASSE", "x"), ("straße", "x"), "'STRASSE': 'straße'"),
    ],
)
def test_nearly_equal_names_are_refused_with_a_proposal(
    labels, target, proposal, texts, embedder
):
    with pytest.raises(LabelMismatchError, match="case, spaces or Unicode") as caught:
        rank_models(
            {"m": Says(*labels)},
            texts,
            list(target) * 4,
            texts=texts,
            embedder=embedder,
        )
    assert proposal in str(caught.value)


def test_known_classes_are_compared_before_any_model_is_called(texts, y, embedder):
    class Never:
        classes_ = np.array(["Neg", "Pos"])

        def predict(self, X):
            raise AssertionError("called")

    with pytest.raises(LabelMismatchError, match="The same holds for 1 more"):
        rank_models(
            {"a": Never(), "b": Never()}, texts, y, texts=texts, embedder=embedder
        )


def test_named_columns_are_compared_before_a_model_is_called(texts, y, embedder):
    class Never:
        def predict_proba(self, X):
            raise AssertionError("called")

    wrapper = MTEWrapper(
        Never(), response_method="predict_proba", classes=["no", "yes"]
    )
    with pytest.raises(LabelMismatchError, match="'no', 'yes'"):
        rank_models([wrapper], texts, y, texts=texts, embedder=embedder)


def test_all_models_are_named_in_one_warning(texts, y, embedder):
    three = make_pipeline(CountVectorizer(), MultinomialNB())
    three.fit(texts, ["positive", "negative", "neutral", "positive"] * 2)
    with (
        pytest.warns(LabelMismatchWarning, match="'three' answers .'neutral'.") as seen,
        pytest.warns(UserWarning, match="'cosine'"),
    ):
        rank_models(
            {"three": three, "two": Says("positive", "negative")},
            texts,
            y,
            texts=texts,
            embedder=embedder,
            baselines="cosine",
        )
    assert sum(w.category is LabelMismatchWarning for w in seen) == 1


def test_label_names_rename_and_the_right_model_wins(texts, labels, embedder):
    y = ["positive" if label == "pos" else "negative" for label in labels]
    right = dict(zip(texts, [int(v == "positive") for v in y], strict=True))

    class Knows:
        def __init__(self, flip):
            self.flip = flip

        def predict(self, X):
            return [abs(right[x] - self.flip) for x in X]

    names = {0: "negative", 1: "positive"}
    zoo = {"inverted": Knows(1), "right": Knows(0)}
    embedder.set_params(alpha=0.01)
    table = rank_models(
        zoo,
        texts,
        y,
        texts=texts,
        embedder=embedder,
        label_names=dict.fromkeys(zoo, names),
    )
    assert table.index[0] == "right"
    wrapped = {n: MTEWrapper(m, label_names=names) for n, m in zoo.items()}
    again = rank_models(wrapped, texts, y, texts=texts, embedder=embedder)
    pd.testing.assert_frame_equal(table, again)
    with pytest.raises(ValueError, match="give one of both"):
        rank_models(
            wrapped,
            texts,
            y,
            texts=texts,
            embedder=embedder,
            label_names={"right": names},
        )
    with pytest.raises(ValueError, match="'nobody'"):
        rank_models(
            zoo, texts, y, texts=texts, embedder=embedder, label_names={"nobody": names}
        )


def test_label_names_merge_columns_of_probabilities(texts):
    class Stars:
        classes_ = np.array([1, 2, 3])

        def predict_proba(self, X):
            return np.tile([0.5, 0.2, 0.3], (len(X), 1))

    wrapper = MTEWrapper(
        Stars(),
        response_method="predict_proba",
        label_names={1: "bad", 2: "bad", "3": "good"},
    )
    task = wrapper.label(texts)
    assert task.targets.names == ("bad", "good")
    np.testing.assert_allclose(task.targets.proba[0], [0.7, 0.3])
    assert wrapper.known_labels() == ["bad", "good"]
    with pytest.raises(ModelLabelError, match=r"names \['4'\]"):
        MTEWrapper(
            Stars(), response_method="predict_proba", label_names={4: "x"}
        ).label(texts)
    with pytest.raises(ValueError, match="twice"):
        MTEWrapper(
            Stars(), response_method="predict_proba", label_names={1: "x", "1": "y"}
        ).label(texts)


@pytest.mark.parametrize("low", [0.0, -3.0])
def test_a_model_that_predicts_numbers_is_recognised(low, texts, y, embedder):
    class Numbers:
        def predict(self, X):
            return low + np.linspace(0.1, 0.9, len(X))

    guess = "probabilities of one class" if low == 0 else "scores"
    with pytest.raises(LabelMismatchError, match=f"look like {guess}.*predict_proba"):
        rank_models({"m": Numbers()}, texts, y, texts=texts, embedder=embedder)


def test_floats_that_are_the_targets_labels_are_labels(texts, embedder):
    stars = [0.5, 1.5] * 4
    table = rank_models(
        {"m": Says(0.5, 1.5)},
        texts,
        stars,
        texts=texts,
        embedder=embedder,
        kind="label",
    )
    assert table["score"].notna().all()


def test_students_and_vectors_compare_labels_too(texts, y, embedder):
    tasks = [MTEWrapper(Says("Neg", "Pos"), name="m").label(texts)]
    target = Task(texts, y)
    with pytest.raises(LabelMismatchError, match="'m' answers"):
        StudentRanker(embedder).fit(tasks).decision_function([target])
    vectors = TaskVectorizer(embedder).fit_transform(tasks)
    other = TaskVectorizer(embedder).fit_transform([target])
    with pytest.raises(FingerprintMismatchError, match=r"'negative'.*label_names"):
        ModelRanker("dot").fit(vectors).decision_function(other)
    with pytest.raises(FingerprintMismatchError, match=r"'Neg'.*label_names"):
        TaskVectorizer(embedder).fit(tasks).transform([target])


@pytest.mark.parametrize("make", [MomentEmbedder, TuPaTEEmbedder])
def test_a_model_with_one_answer_is_ranked_as_a_constant(make, texts, labels):
    embedder = make(TINY)
    if make is MomentEmbedder:
        embedder.set_params(reference=texts)
    fitted = DummyClassifier(strategy="constant", constant="pos").fit(
        texts, ["pos"] * 8
    )
    zoo = {
        "rule": Says("pos", "neg"),
        "constant": Says("pos", "pos"),
        "dummy": fitted,
    }
    with pytest.warns(LabelMismatchWarning, match="'dummy' never answers"):
        table = rank_models(zoo, texts, labels, texts=texts, embedder=embedder)
    assert table["score"].notna().all()
    tasks = [MTEWrapper(model, name=name).label(texts) for name, model in zoo.items()]
    assert tasks[1].targets.names == ("pos",)
    ranker = StudentRanker(embedder).fit(tasks)
    assert np.isfinite(ranker.decision_function([Task(texts, labels)])).all()
    vectorizer = TaskVectorizer(embedder).fit(tasks)
    alone = vectorizer.transform(tasks[1:2])
    np.testing.assert_array_equal(alone, vectorizer.embeddings_[1:2])


def test_constants_alone_name_the_remedy(texts, embedder):
    task = MTEWrapper(Says("pos", "pos")).label(texts)
    with pytest.raises(ValueError, match=r"1 class.*classes=\[\.\.\.\]"):
        TaskVectorizer(embedder).fit([task])
    with pytest.raises(ValueError, match="1 class"):
        embedder.fit(texts, ["pos"] * 8)
    with pytest.raises(ValueError, match="1 class"):
        rank_models({"a": Says(1, 0)}, texts, ["a"] * 8, texts=texts)


def test_an_inference_can_be_overruled(texts, embedder):
    many = [f"text {i}" for i in range(44)]
    intents = [f"intent {i % 22}" for i in range(44)]
    assert Task(many, intents).targets.kind == "label"
    once = [f"intent {i}" for i in range(44)]
    model = Says("intent 1", "intent 2")
    options = {"texts": texts, "embedder": embedder}
    with pytest.raises(ValueError, match="say kind='label'"):
        rank_models([model], many, once, **options)
    for chosen in ({"kind": "label"}, {"classes": once}):
        assert len(rank_models([model], many, once, **options, **chosen)) == 1
    task = Task(many, once, kind="label")
    assert len(rank_models([model], task, **options)) == 1
    with pytest.raises(ValueError, match="X is a Task"):
        rank_models([model], task, once, **options)
    categories = pd.Categorical(["a", "b"] * 4, categories=["a", "b", "c"])
    assert Task(texts, categories).targets.names == ("a", "b", "c")
    assert Task(texts, pd.Series(categories)).targets.names == ("a", "b", "c")


def test_free_answers_of_a_model_need_a_parser(texts, labels, embedder):
    class Talks:
        def predict(self, X):
            return [f"answer {x}" if "fine" not in x else "pos" for x in X]

    long = [f"{x} {i}" for i in range(6) for x in texts]
    with pytest.raises(LabelMismatchError, match=r"of which 1 are .*LabelParser"):
        rank_models({"talks": Talks()}, texts, labels, texts=long, embedder=embedder)
    some = long[:16]  # few strange labels are told, and kept
    with pytest.warns(LabelMismatchWarning, match="unknown to the target"):
        rank_models({"talks": Talks()}, texts, labels, texts=some, embedder=embedder)
