"""The registry: models are added once, by anybody, and ranked without being called."""

import json
import os
import pickle
import signal
import threading
import time
import traceback
from functools import partial

import numpy as np
import pandas as pd
import pytest

from fute_sklearn import (
    AnswerDrift,
    ModelRegistry,
    MomentEmbedder,
    MTEWrapper,
    Task,
    TuPaTEEmbedder,
    config_context,
    rank_models,
)
from fute_sklearn.exceptions import (
    DamagedCacheWarning,
    DamagedRegistryWarning,
    LabelMismatchError,
    ModelChangedError,
    ModelLabelWarning,
    RegistryDamagedError,
)
from fute_sklearn.ranking import _segments
from fute_sklearn.ranking._registry_answers import RegistryAnswers

from .test_confidence import Noisy, film_texts

TINY = TuPaTEEmbedder("fute-tiny-random", max_epochs=1)
pytestmark = pytest.mark.filterwarnings(
    "ignore::fute_sklearn.exceptions.UnlabelledTextsWarning",
    "ignore::fute_sklearn.exceptions.UnknownTokensWarning",
)


@pytest.fixture(scope="module")
def texts():
    return film_texts(120, 0)[0]


@pytest.fixture
def registry(tmp_path, texts):
    return ModelRegistry(tmp_path / "registry", texts, TINY)


class Counted(Noisy):
    """Counts the texts that it is asked."""

    def __init__(self, share, seed=0):
        super().__init__(share, seed)
        self.asked = []

    def __getstate__(self):
        return {"share": self.share, "seed": self.seed}

    def predict(self, X):
        self.asked += X
        return super().predict(X)


def fill(registry, count=4):
    models = {f"m{i}": Noisy(0.15 * i, i) for i in range(count)}
    for name, model in models.items():
        registry.add(name, model)
    return models


# What is kept ---------------------------------------------------------------------


def test_a_model_is_called_once(registry, texts):
    model = MTEWrapper(Counted(0.1), fingerprint="counted-1")
    with config_context(cache_dir=None):
        registry.add("one", model, owner="me")
        assert model.estimator.asked == texts
        registry.add("one", model, owner="me")
        ModelRegistry(registry.folder).add("one", model)
    assert model.estimator.asked == texts
    assert len(registry) == 1
    assert "one" in registry
    assert "two" not in registry
    assert repr(registry).endswith("1 models")


def test_it_ranks_as_rank_models_does(registry, texts):
    X, y = film_texts(60, 1)
    models = fill(registry)
    models["soft"] = MTEWrapper(
        lambda texts: np.tile([0.3, 0.7], (len(texts), 1)),
        response_method="predict_proba",
        classes=["bad", "good"],
        fingerprint="soft",
    )
    registry.add("soft", models["soft"])

    def shy(text: str) -> str | None:
        return None if "film" in text else "good"

    models["shy"] = shy
    registry.add("shy", shy)
    expected = rank_models(models, X, y, texts=texts, embedder=TINY)
    found = registry.rank(X, y)
    pd.testing.assert_frame_equal(found, expected)
    assert found.attrs["n_models"] == 6
    assert found.attrs["left_out"] == []
    again = ModelRegistry(registry.folder, embedder=TINY).rank(Task(X, y))
    pd.testing.assert_frame_equal(again, expected)


@pytest.mark.filterwarnings("ignore::fute_sklearn.exceptions.LabelMismatchWarning")
@pytest.mark.parametrize("scoring", ["accuracy", "balanced_accuracy"])
def test_models_of_other_labels_are_scored_as_their_students(scoring, registry):
    """One has a third label, and one shares a single label with the target."""
    X, y = film_texts(60, 1)
    fill(registry, 2)
    registry.add("three", lambda text: ("bad", "fine", "good")[len(text) % 3])
    registry.add("other", lambda text: "good" if len(text) % 2 else "fine")
    whole = registry.rank(X, y, students="closed", scoring=scoring)
    files = registry._store.latest()
    scores = registry._vectors.scores(
        list(files.values()), Task(X, y), scoring, scoring == "balanced_accuracy"
    )
    gaps = dict(zip(files, scores - whole["score"][list(files)], strict=True))
    # A ranking knows that the other one could have answered "bad", with little chance.
    assert abs(gaps.pop("other")) < 2e-3
    assert all(abs(gap) < 1e-5 for gap in gaps.values())


@pytest.mark.parametrize("scoring", ["accuracy", "balanced_accuracy", "f1_macro"])
def test_the_best_of_many_are_those_of_all(scoring, registry, texts):
    X, y = film_texts(60, 1)
    fill(registry, 8)
    registry.add("shy", lambda text: "good" if "film" in text else None)
    options = {"students": "closed", "scoring": scoring}
    whole = registry.rank(X, y, **options)
    few = registry.rank(X, y, top=3, **options)
    assert len(few) == 3
    assert few.attrs["n_models"] == 9
    # The penalty is chosen by the errors of all models, or of the three.
    best = set(whole.index[:4])
    assert set(few.index) <= best
    files = registry._store.latest()
    scores = registry._vectors.scores(
        list(files.values()), Task(X, y), scoring, scoring == "balanced_accuracy"
    )
    expected = whole["score"][list(files)].to_numpy()
    np.testing.assert_allclose(scores[:-1], expected[:-1], atol=1e-5)
    # Of the shy one nobody knows that it could have said "bad".
    assert list(files)[-1] == "shy"
    assert scores[-1] == pytest.approx(expected[-1], abs=2e-3)
    named = registry.rank(
        X, y, top=1, label_names={"m7": {"good": "bad", "bad": "good"}}, **options
    )
    assert list(named.index) == ["m7"]


def test_models_with_other_labels_are_left_out(registry, texts):
    X, y = film_texts(60, 1)
    fill(registry, 2)
    registry.add_answers("topics", ["sport", "news"] * 60)
    found = registry.rank(X, y)
    assert found.attrs["left_out"] == ["topics"]
    assert sorted(found.index) == ["m0", "m1"]
    names = {"topics": {"sport": "good", "news": "bad"}}
    assert "topics" in registry.rank(X, y, label_names=names).index
    with pytest.raises(LabelMismatchError, match="no model shares a label") as caught:
        registry.rank(X, ["yes" if one == "good" else "no" for one in y])
    assert "'m0': {'bad': 'no', 'good': 'yes'}" in str(caught.value), caught.value
    registry.add_answers("none", [None] * 120)
    with pytest.raises(LabelMismatchError, match="By behaviour"):
        registry.rank(X, ["yes" if one == "good" else "no" for one in y])
    registry.add_answers("close", ["Good", "Bad"] * 60)
    with pytest.raises(LabelMismatchError, match="differ in case"):
        registry.rank(X, y)


def test_wrong_calls(registry):
    with pytest.raises(ValueError, match="the registry is empty"):
        registry.rank(*film_texts(20, 1))
    fill(registry, 3)
    target = film_texts(20, 1)
    for options, message in [
        ({"n_labelled": 5}, "rank takes no"),
        ({"texts": []}, "rank takes no"),
        ({"top": 0}, "top=0"),
        ({"top": True}, "top=True"),
        ({"top": 2, "label_names": "match"}, "raise top=2"),
    ]:
        with pytest.raises(ValueError, match=message):
            registry.rank(*target, **options)
    with pytest.raises(ValueError, match="the name '' is no name"):
        registry.add("", Noisy(0, 0))
    with pytest.raises(TypeError, match=r"metadata \['cost'\] cannot be written"):
        registry.add("new", Noisy(0, 0), cost=object())
    with pytest.raises(ValueError, match="if_changed='no'"):
        registry.add("new", Noisy(0, 0), if_changed="no")
    with pytest.raises(TypeError, match="answers is a Noisy"):
        registry.add_answers("new", Noisy(0, 0))
    with pytest.raises(ValueError, match="of kind 'number'"):
        registry.add_answers("new", [0.5 + i for i in range(120)])
    for call in (registry.remove, registry.task, registry.nearest):
        with pytest.raises(
            KeyError, match="no model 'other'; the registry has 3: 'm0'"
        ):
            call("other")


def test_list_remove_and_rename(registry, texts):
    registry.add("one", Noisy(0.1, 0), owner="me", cost=0.5)
    registry.add_answers("two", pd.DataFrame({"text": texts, "label": ["good"] * 120}))
    table = registry.list()
    assert table.loc["one", "owner"] == "me"
    assert table.loc["one", "labels"] == ["bad", "good"]
    assert table.loc["two", "version"] == 1
    assert (table["created"] > pd.Timestamp("2020-01-01", tz="UTC")).all()
    registry.add("one", Noisy(0.1, 0), cost=0.7)
    assert registry.list().loc["one", ["owner", "cost"]].tolist() == ["me", 0.7]
    registry.rename("one", "first")
    with pytest.raises(ValueError, match="there is a model 'two' already"):
        registry.rename("first", "two")
    assert list(registry.list().index) == ["first", "two"]
    registry.remove("two")
    assert len(registry) == 1
    assert list(ModelRegistry(registry.folder).list().index) == ["first"]
    registry.remove("first")
    assert list(registry.list().columns)[:2] == ["version", "labels"]


def test_what_a_model_answered_comes_back(registry, texts):
    y = [None if i % 5 == 0 else i % 3 for i in range(120)]
    registry.add("numbers", MTEWrapper(y, kind="label"))
    task = registry.task("numbers")
    assert list(task.y) == [one for one in y if one is not None]
    assert list(task.texts) == [
        t for t, one in zip(texts, y, strict=True) if one is not None
    ]
    assert registry.list().loc["numbers", "abstained"] == pytest.approx(0.2)
    proba = np.random.default_rng(0).dirichlet([1, 1, 1], 120).astype(np.float32)
    soft = Task(texts, proba, classes=["x", "y", "z"])
    registry.add("soft", MTEWrapper(soft, response_method="predict_proba"))
    assert registry.list().loc["soft", "labels"] == ["x", "y", "z"]
    np.testing.assert_allclose(registry.task("soft").targets.proba, proba, atol=1e-6)


@pytest.mark.parametrize(("count", "size"), [(2, 1), (127, 1), (128, 2)])
def test_answers_are_written_as_small_as_can_be(count, size, texts):
    labels = [f"label {i}" for i in range(count)]
    y = [labels[-1 - i % 2] for i in range(120)]
    found = RegistryAnswers.of(Task(texts, y, classes=labels), tuple(texts))
    assert found.values.itemsize == size
    again = RegistryAnswers.from_bytes(found.labels, found.to_bytes())
    assert again.labelled() == y
    assert again.key == found.key


# Changes ---------------------------------------------------------------------------


def test_another_model_of_the_same_name_is_noticed(registry):
    registry.add("one", Noisy(0.1, 0))
    model = Counted(0.3, 5)
    with pytest.raises(ModelChangedError, match="another model 'one'"):
        registry.add("one", model)
    assert model.asked == []
    registry.add("one", model, if_changed="version")
    assert registry.list()["version"].tolist() == [1, 2]
    assert len(registry) == 1
    assert list(registry.task("one").y) == Noisy(0.3, 5).predict(list(registry.texts))
    registry.add_answers("given", ["good"] * 120)
    registry.add_answers("given", ["good"] * 120)
    with pytest.raises(ModelChangedError):
        registry.add_answers("given", ["good"] * 119 + ["bad"])
    registry.remove("one")
    assert list(registry.list().index) == ["given"]


def test_the_same_model_asked_otherwise_is_another(registry):
    model = Noisy(0.1, 0)
    registry.add("one", MTEWrapper(model, fingerprint="one"))
    renamed = MTEWrapper(
        model, fingerprint="one", label_names={"good": "yes", "bad": "no"}
    )
    with pytest.raises(ModelChangedError):
        registry.add("one", renamed)


def test_drift(registry):
    registry.add("one", MTEWrapper(Noisy(0.1, 0), fingerprint="one"))
    same = registry.drift("one", Noisy(0.1, 0))
    assert (same.n_changed, same.n_texts, same.p_value) == (0, 120, 1.0)
    assert same.low == 0
    model = MTEWrapper(Counted(0.2, 0), fingerprint="one")
    found = registry.drift("one", model, n_texts=100, tolerance=0.01)
    assert len(model.estimator.asked) == 100  # the fingerprint does not count
    assert found.n_changed == len(found.changes) > 0
    assert found.low < found.share < found.high
    assert found.p_value < 0.01
    before = dict(zip(registry.texts, registry.task("one").y, strict=True))
    for row in found.changes.itertuples():
        assert before[row.text] == row.before != row.now
    by_chance = registry.drift("one", model, n_texts=100, tolerance=0.5)
    assert by_chance.p_value > 0.5
    with pytest.raises(ValueError, match="n_texts=0"):
        registry.drift("one", model, n_texts=0)
    with pytest.raises(ValueError, match="tolerance=1"):
        registry.drift("one", model, tolerance=1)
    with pytest.raises(ValueError, match="no texts"):
        AnswerDrift.of([], [], [], 0.0)


# Vectors ---------------------------------------------------------------------------


def test_nearest(registry):
    registry.add("right", Noisy(0.0, 0))
    registry.add("nearly", Noisy(0.05, 1))
    registry.add("half", Noisy(0.5, 2))
    registry.add_answers("three", ["good", "bad", "so so"] * 40)
    registry.add_answers("other", ["sport", "news"] * 60)
    found = registry.nearest("right", 2)
    assert found.index[0] == "nearly"
    assert "other" not in registry.nearest("right", 10).index
    assert found["agreement"].iloc[0] > 0.85
    assert (found["similarity"].diff().dropna() <= 0).all()
    assert registry.nearest("other").empty
    registry.add("twin", MTEWrapper(Noisy(0.0, 0), fingerprint="twin"))
    twin = registry.nearest("right", 1)
    assert twin.loc["twin"].tolist() == pytest.approx([1, 1])
    with pytest.raises(ValueError, match="n_models=0"):
        registry.nearest("right", 0)


def test_embeddings_are_those_of_the_moment_embedder(registry, texts):
    from fute_sklearn import MomentEmbedder

    fill(registry, 3)
    names, rows = registry._vectors.embeddings(registry._store.file_of("m0"))
    embedder = MomentEmbedder("fute-tiny-random", reference=texts)
    found = embedder.embed([registry.task(name) for name in names])
    expected = np.array([one.embedding_ for one in found])
    np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_map(registry):
    pytest.importorskip("matplotlib").use("Agg")
    with pytest.raises(ValueError, match="the registry is empty"):
        registry.map()
    for i in range(5):
        registry.add(f"m{i}", Noisy(0.1 * i, i), kind="odd" if i % 2 else "even")
    registry.add_answers("other", ["sport", "news"] * 60)
    display = registry.map("kind", method="pca")
    assert len(display.positions) == 5
    assert display.tasks == ["even", "odd", "even", "odd", "even"]
    with pytest.raises(ValueError, match="has the metadata 'color'"):
        registry.map("color")
    with pytest.raises(ValueError, match="3 embeddings"):
        registry.map(like="other")


# Files -----------------------------------------------------------------------------


def test_the_texts_belong_to_the_folder(registry, texts, tmp_path):
    assert ModelRegistry(registry.folder).texts == tuple(texts)
    ModelRegistry(registry.folder, texts)
    with pytest.raises(ValueError, match="which are others than the 119"):
        ModelRegistry(registry.folder, texts[1:])
    with pytest.raises(FileNotFoundError, match="is no registry yet"):
        ModelRegistry(tmp_path / "none")
    strange = ["a\nb", "a\u2028b", " c "]
    ModelRegistry(tmp_path / "strange", strange)
    assert ModelRegistry(tmp_path / "strange").texts == tuple(strange)


def test_damaged_texts(registry, texts):
    fill(registry, 2)
    path = registry.folder / "texts.jsonl"
    whole = path.read_bytes()
    for data in (whole[:-30], b"", b"[]\n", whole.replace(b"film", b"fulm", 1)):
        path.write_bytes(data)
        with pytest.raises(RegistryDamagedError, match="Give the same texts again"):
            ModelRegistry(registry.folder)
        with pytest.warns(DamagedRegistryWarning, match="written anew"):
            found = ModelRegistry(registry.folder, texts)
        assert len(found) == 2
        assert path.read_bytes() == whole
    header, rest = whole.split(b"\n", 1)
    later = {**json.loads(header), "schema": 99}
    path.write_bytes(json.dumps(later).encode() + b"\n" + rest)
    with pytest.raises(ValueError, match="later version"):
        ModelRegistry(registry.folder)


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "other"])
@pytest.mark.parametrize("part", ["models", "catalogue", "index"])
def test_damaged_files(part, damage, registry):
    X, y = film_texts(60, 1)
    fill(registry)
    expected = registry.rank(X, y, top=2, students="closed")
    files = [p for p in (registry.folder / part).rglob("*") if p.is_file()]
    assert files
    for path in files:
        if not path.exists():  # one half of a damaged pair
            continue
        data = path.read_bytes()
        path.write_bytes(
            {
                "cut": data[:-9],
                "changed": data[:-5] + b"\0" + data[-4:],
                "empty": b"",
                "other": b'{"sha256": 3}\nnothing',
            }[damage]
        )
        again = ModelRegistry(registry.folder, embedder=TINY)
        if part == "models":
            other = [p for p in files if p.exists()]
            (registry.folder / "catalogue").rename(registry.folder / f"c{len(other)}")
            with pytest.warns(DamagedRegistryWarning, match="add the model again"):
                assert len(ModelRegistry(registry.folder)) == len(other) - 1
            assert path.with_suffix(".damaged").exists()
        else:
            with pytest.warns(DamagedCacheWarning):
                found = again.rank(X, y, top=2, students="closed")
            pd.testing.assert_frame_equal(found, expected)


def test_a_damaged_model_is_not_ranked_in_silence(registry):
    fill(registry, 3)
    X, y = film_texts(60, 1)
    registry.rank(X, y)
    path = registry.folder / "models" / registry._store.file_of("m1")
    path.write_bytes(b"")
    with pytest.warns(DamagedRegistryWarning, match="add the model again"):
        found = registry.rank(X, y)
    assert found.attrs["left_out"] == ["m1"]
    with pytest.raises(KeyError, match="no model 'm1'"):
        registry.task("m1")
    assert sorted(registry.rank(X, y).index) == ["m0", "m2"]
    registry.add("m1", Noisy(0.15, 1))
    assert len(registry) == 3


@pytest.mark.parametrize("more", [{}, {"owner": "me"}])
def test_adding_a_damaged_model_again_writes_it(more, registry):
    registry.add("one", Noisy(0.1, 0))
    expected = registry.list().loc["one", "fingerprint"]
    path = registry.folder / "models" / registry._store.file_of("one")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(DamagedRegistryWarning):
        ModelRegistry(registry.folder).add("one", Noisy(0.1, 0), **more)
    assert registry.list().loc["one", "fingerprint"] == expected
    assert registry.task("one").n_samples == 120


def test_models_are_not_given_to_other_texts(registry, texts):
    registry.add("one", Noisy(0.1, 0))
    path = registry.folder / "texts.jsonl"
    for damage in (path.unlink, lambda: path.write_bytes(b"")):
        damage()
        with pytest.raises(ValueError, match="have answered other texts"):
            ModelRegistry(registry.folder, texts[1:])
        assert len(list((registry.folder / "models").glob("*.model"))) == 1
    with pytest.warns(DamagedRegistryWarning, match="written anew"):
        assert len(ModelRegistry(registry.folder, texts)) == 1


def test_answers_to_repeated_texts_stay_with_their_rows(tmp_path):
    registry = ModelRegistry(tmp_path / "twice", ["x", "x", "y"], TINY)
    answers = [None, "bad", "good"]
    registry.add("one", MTEWrapper(answers, abstentions="drop"))
    found = registry._store.answers("one").labelled()
    assert found == answers


def test_metadata_hide_no_columns(registry):
    with pytest.raises(ValueError, match=r"metadata \['labels', 'version'\] would"):
        registry.add("one", Noisy(0.1, 0), version="9", labels=3)


def test_ranking_while_others_change_the_registry(registry):
    fill(registry, 6)
    X, y = film_texts(40, 1)
    other, stop, errors = ModelRegistry(registry.folder), threading.Event(), []

    def change():
        number = 0
        while not stop.is_set():
            number += 1
            try:
                other.add(
                    f"m{number % 6}", Noisy(0.15 * (number % 6), number % 6), k=number
                )
            except Exception as error:
                errors.append(error)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(4):
            assert len(registry.rank(X, y, students="closed")) == 6
            assert len(registry.nearest("m1", 3)) == 3
    finally:
        stop.set()
        thread.join()
    assert errors == []


def test_answers_to_labelled_rows_bring_models_into_the_table(registry):
    fill(registry, 6)
    X, y = film_texts(60, 1)
    last = registry.rank(X, y, students="closed").index[-1]
    answers = pd.DataFrame({last: y[:20]})
    found = registry.rank(X, y, students="closed", top=2, labelled=answers)
    assert last in found.index
    assert found.loc[last, "labelled_score"] == 1


def test_drift_of_given_answers(registry):
    answers = ["good", "bad"] * 60
    registry.add_answers("given", answers)
    assert registry.drift("given", answers, n_texts=50).n_changed == 0
    other = registry.drift("given", answers[::-1], n_texts=50)
    assert other.n_changed == 50


def test_many_segments_are_merged(registry, monkeypatch):
    monkeypatch.setattr(_segments, "MOST_FILES", 4)
    X, y = film_texts(60, 1)
    for i in range(12):
        registry.add(f"m{i}", Noisy(0.04 * i, i))
        if i > 1:
            registry.rank(X, y, top=2, students="closed")
    for part in ("catalogue", "index"):
        assert len(list((registry.folder / part).rglob("*.jsonl"))) <= 5
    expected = registry.rank(X, y, top=2, students="closed")
    again = ModelRegistry(registry.folder, embedder=TINY)
    pd.testing.assert_frame_equal(again.rank(X, y, top=2, students="closed"), expected)
    assert len(again) == 12


def test_a_change_that_is_cut_short_changes_nothing_twice(registry, monkeypatch):
    registry.add("one", Noisy(0.1, 0), cost=1)

    def stopped(name):
        raise KeyboardInterrupt

    monkeypatch.setattr(registry._store._files, "remove", stopped)
    with pytest.raises(KeyboardInterrupt):
        registry.rename("one", "two")
    again = ModelRegistry(registry.folder)
    assert list(again.list().index) == ["two"]
    again.rename("two", "three")
    assert list(ModelRegistry(registry.folder).list().index) == ["three"]


@pytest.mark.parametrize("change", ["rename", "remove"])
def test_a_change_of_several_versions_that_was_cut_short_is_done_again(
    change, registry, monkeypatch
):
    for seed in range(3):
        registry.add("one", Noisy(0.1, seed), if_changed="version")
    last = registry.task("one")
    kept = registry._store._files.remove
    left = [2]

    def stopped(name):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        kept(name)

    def changed(it):
        return it.rename("one", "two") if change == "rename" else it.remove("one")

    monkeypatch.setattr(registry._store._files, "remove", stopped)
    with pytest.raises(KeyboardInterrupt):
        changed(registry)
    again = ModelRegistry(registry.folder)
    assert list(again.task("one").y) == list(last.y)
    changed(again)
    found = ModelRegistry(registry.folder)
    if change == "remove":
        assert len(found) == 0
        return
    assert found.list()["version"].to_list() == [1, 2, 3]
    assert list(found.task("two").y) == list(last.y)
    # But another model of the old name is no rest of it.
    found.add("one", Noisy(0.3, 9))
    with pytest.raises(ValueError, match="'two' already"):
        found.rename("one", "two")


class Away(Counted):
    """Has no answer to some texts while its server is away."""

    failures_pass = True
    fingerprint = "away"
    away = True
    fails = ()

    def predict(self, X):
        found = super().predict(X)
        gone = [(self.away and len(x) % 3 == 0) or x in self.fails for x in X]
        return [None if lost else one for lost, one in zip(gone, found, strict=True)]


class Falls(Away):
    """Raises at such texts, so that its wrapper drops them."""

    failures_pass = False

    def predict(self, X):
        if self.away and any(len(text) % 3 == 0 for text in X):
            raise ConnectionError("away")
        return super().predict(X)


@pytest.mark.filterwarnings("ignore::fute_sklearn.exceptions.ModelLabelWarning")
@pytest.mark.parametrize("kind", [Away, Falls])
def test_texts_left_out_in_an_outage_are_asked_for_again(kind, registry):
    model = kind(0.1)
    more = {"on_error": "drop"} if kind is Falls else {}
    registry.add("one", MTEWrapper(model, **more), cost=1)
    left = [text for text in registry.texts if len(text) % 3 == 0]
    assert registry.list()["abstained"].item() == len(left) / len(registry.texts)
    model.asked.clear()
    model.away = False
    registry.add("one", MTEWrapper(model, **more))
    assert sorted(model.asked) == sorted(left)
    now = ModelRegistry(registry.folder)
    assert now.list()[["version", "abstained", "cost"]].loc["one"].tolist() == [1, 0, 1]
    assert list(now.task("one").y) == Noisy(0.1, 0).predict(list(registry.texts))
    model.asked.clear()
    registry.add("one", MTEWrapper(model, **more))
    assert model.asked == []


@pytest.mark.filterwarnings("ignore::fute_sklearn.exceptions.ModelLabelWarning")
def test_answers_that_are_there_are_neither_asked_for_nor_lost(registry):
    """Also where nothing else is kept, and others fail now."""
    model = Away(0.1)
    with config_context(cache_dir=None):
        registry.add("one", model)
        before = registry._store.answers("one").labelled()
        left = [t for t, one in zip(registry.texts, before, strict=True) if one is None]
        model.asked.clear()
        registry.add("one", model)
        assert sorted(model.asked) == sorted(left)
        assert registry._store.answers("one").labelled() == before
        now, model.away = left[: len(left) // 2], False
        model.fails = left[len(left) // 2 :]
        registry.add("one", model)
    after = dict(
        zip(registry.texts, registry._store.answers("one").labelled(), strict=True)
    )
    assert {text for text, one in after.items() if one is None} == set(model.fails)
    assert all(after[text] for text in now)
    kept = dict(zip(registry.texts, before, strict=True))
    assert all(after[text] == one for text, one in kept.items() if one is not None)


def test_a_model_that_is_there_may_fail_again(registry):
    model = Falls(0.1)
    wrapper = MTEWrapper(model, on_error="drop")
    with pytest.warns(ModelLabelWarning, match="are dropped"):
        registry.add("one", wrapper)
    before = registry.list()
    with config_context(cache_dir=None), pytest.warns(ModelLabelWarning) as found:
        registry.add("one", wrapper)
    assert "'one' left out are still without" in str(found[-1].message)
    assert registry.list().equals(before)


def test_a_model_that_is_removed_while_it_is_asked_stays_removed(registry):
    class Removed(Away):
        def predict(self, X):
            found = super().predict(X)
            if not self.away and "one" in registry:
                registry.remove("one")
            return found

        def __getstate__(self):
            return {}

    model = Removed(0.1)
    registry.add("one", model)
    model.away = False
    registry.add("one", model)
    assert len(registry) == 0


@pytest.mark.parametrize("soft", [(False, False), (True, False), (True, True)])
def test_answers_are_filled_by_label(soft):
    def made(answers, soft):
        names = sorted({one for one in answers if one})
        values = np.array([names.index(one) if one else -1 for one in answers])
        if soft:
            proba = np.eye(len(names), dtype=np.float32)[values]
            proba[values < 0] = np.nan
            values = proba
        return RegistryAnswers(tuple(names), values)

    known = made(["b", None, "c", None, None], soft[0])
    found = known.filled(np.array([1, 2, 4]), made(["a", "a", None], soft[1]))
    assert found.labels == ("a", "b", "c")
    assert found.soft == any(soft)
    assert found.labelled() == ["b", "a", "c", None, None]


def test_abstentions_are_answers(registry):
    model = Away(0.1)
    model.failures_pass = False
    for _ in range(2):
        registry.add("one", model)
    assert len(model.asked) == len(registry.texts)


def test_it_is_sent_to_other_processes_as_its_folder(registry):
    fill(registry, 2)
    again = pickle.loads(pickle.dumps(registry))
    assert again.list().equals(registry.list())
    assert again.embedder.get_params() == registry.embedder.get_params()
    assert len(pickle.dumps(registry)) < 2000


# Processes -------------------------------------------------------------------------


def forked(work):
    """Run a function in a child process; its number."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        except Exception:
            traceback.print_exc()
        finally:
            os._exit(code)
    return child


def slow(path, number):
    def model(texts: list[str]) -> list[str]:
        with open(path, "a") as file:
            file.write("".join(f"{text}\n" for text in texts))
        time.sleep(2e-4 * len(texts))
        return ["good" if (number + len(t)) % 3 else "bad" for t in texts]

    return MTEWrapper(model, fingerprint=f"slow {number}", batch_size=16)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_killed_at_any_moment(registry, tmp_path):
    rng = np.random.default_rng(0)
    for moment in range(20):
        path = tmp_path / f"{moment}.txt"
        child = forked(lambda: registry.add(f"m{moment}", slow(path, moment)))  # noqa: B023
        time.sleep(rng.uniform(0.0, 0.06))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        registry.add(f"m{moment}", slow(path, moment))
        registry.add(f"m{moment}", slow(path, moment))
        asked = path.read_text().splitlines()
        assert set(asked) == set(registry.texts)
        assert len(asked) <= len(registry.texts) + 16
        assert len(ModelRegistry(registry.folder)) == moment + 1
    assert len(registry) == 20
    assert len(list((registry.folder / "models").glob("*.model"))) == 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_four_processes_at_once(registry, tmp_path):
    def add(number):
        mine = ModelRegistry(registry.folder)
        for i in range(8):
            mine.add(f"own {number} {i}", slow(tmp_path / "x", 8 * number + i))
            mine.add(f"shared {i}", slow(tmp_path / "x", i))

    for child in [forked(partial(add, number)) for number in range(4)]:
        assert os.waitpid(child, 0)[1] == 0
    table = registry.list()
    assert len(registry) == len(table) == 40
    assert table.index.is_unique
    found = registry.rank(*film_texts(60, 1), students="closed")
    assert len(found) == 40


def test_threads(registry):
    errors = []

    def add(number):
        try:
            for i in range(4):
                registry.add(f"m{number} {i}", Noisy(0.1 * i, number))
                registry.nearest(f"m{number} {i}")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=add, args=[i]) for i in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert errors == []
    assert len(registry) == 16


class Shy:
    """Right where it answers, and silent on every other text."""

    classes_ = ["bad", "good"]

    def predict(self, X):
        return [
            (None if i % 2 else ("good" if "fine" in x else "bad"))
            for i, x in enumerate(X)
        ]


class Often:
    classes_ = ["bad", "good"]

    def predict(self, X):
        return [
            "good" if ("fine" in x) != (i % 5 == 0) else "bad" for i, x in enumerate(X)
        ]


@pytest.fixture
def of_films():
    words = ["fine", "dull"]
    texts = [f"a {words[i % 2 ^ (i // 2 % 2)]} film {i}" for i in range(120)]
    X = [f"the {words[i % 2]} food {i}" for i in range(40)]
    return texts, X, ["good" if "fine" in x else "bad" for x in X]


@pytest.mark.filterwarnings("ignore::fute_sklearn.exceptions.ModelLabelWarning")
def test_abstentions_that_are_dropped_do_not_cost_a_place_among_the_best(
    of_films, tmp_path
):
    texts, X, y = of_films
    registry = ModelRegistry(tmp_path, texts, MomentEmbedder())
    registry.add("shy", Shy())
    registry.add("often", Often())
    whole = registry.rank(X, y, abstentions="drop")
    assert whole.index[0] == "shy"
    assert registry.rank(X, y, abstentions="drop", top=1).index[0] == "shy"
    assert list(registry.rank(X, y, top=1).index) == ["often"]


@pytest.mark.filterwarnings("ignore::fute_sklearn.exceptions.ModelLabelWarning")
def test_what_a_wrapper_leaves_out_is_left_out_of_rankings(of_films, tmp_path):
    texts, X, y = of_films
    models = {"shy": MTEWrapper(Shy(), abstentions="drop"), "often": Often()}
    here = rank_models(models, X, y, texts=texts, embedder=MomentEmbedder())
    registry = ModelRegistry(tmp_path, texts, MomentEmbedder())
    for name, model in models.items():
        registry.add(name, model)
    there = registry.rank(X, y)
    pd.testing.assert_series_equal(there["score"], here["score"], atol=1e-6)
    assert registry.rank(X, y, top=1).index[0] == "shy"


def test_answers_agree_by_the_names_of_labels(of_films, tmp_path):
    texts, _, _ = of_films
    registry = ModelRegistry(tmp_path, texts, MomentEmbedder())
    registry.add_answers("numbers", [int("fine" in text) for text in texts])
    registry.add_answers("strings", [str(int("fine" in text)) for text in texts])
    found = registry.nearest("numbers")
    assert found.loc["strings", "agreement"] == 1.0


def test_folders_of_the_home_and_of_this_place_are_found(
    of_films, tmp_path, monkeypatch
):
    texts, _, _ = of_films
    monkeypatch.setenv("HOME", str(tmp_path))
    ModelRegistry("~/zoo", texts)
    assert (tmp_path / "zoo" / "texts.jsonl").is_file()
    monkeypatch.chdir(tmp_path)
    registry = ModelRegistry("zoo")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert len(registry) == 0
