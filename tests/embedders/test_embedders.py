"""What the embedders learn, and what their vectors are."""

import os
import subprocess
import sys

import joblib
import numpy as np
import pytest

from fute_sklearn import (
    MomentEmbedder,
    Task,
    TaskEmbedder,
    TaskVectorizer,
    TaskVectors,
    TuPaTEEmbedder,
    load_embeddings,
    save_embeddings,
)
from fute_sklearn._engine import encode_texts, load_surrogate
from fute_sklearn.embedders import _task_vectorizer
from fute_sklearn.exceptions import (
    FingerprintMismatchError,
    ReferenceStatisticsError,
    TruncationWarning,
)
from fute_sklearn.testing import TINY_SURROGATE as TINY

LAYERS, HEADS, D_KV, D_MODEL, D_FF = 2, 2, 8, 16, 32


# TuPaTE -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "length"),
    [
        ({"tuning": "prompt", "prefix_length": 5}, 4 * HEADS * 5 * D_KV),
        ({"tuning": "bias"}, 3 * D_MODEL + HEADS * D_KV + D_FF),
        ({"tuning": "lora", "rank": 3}, 4 * 3 * (D_MODEL + HEADS * D_KV)),
    ],
)
def test_tupate_length(params, length, texts, labels):
    params = {**params, "space": "parameters"}
    one = TuPaTEEmbedder(TINY, max_epochs=1, **params).fit(texts, labels)
    assert one.embedding_.shape == (length,)
    whole = TuPaTEEmbedder(TINY, max_epochs=1, average_layers=False, **params)
    whole.fit(texts, labels)
    assert whole.embedding_.shape == (LAYERS * length,)
    if params["tuning"] != "lora":  # one part: the mean of the layers is plain
        parts = whole.embedding_
        if params["tuning"] == "prompt":
            mean = np.asarray(parts).reshape(LAYERS, -1).mean(0)
            np.testing.assert_allclose(one.embedding_, mean, rtol=1e-5, atol=1e-7)


def test_all_tasks_start_from_one_point(texts, labels):
    """With next to no learning two tasks have one vector: no random start is left."""
    params = {
        "tuning": "prompt",
        "space": "parameters",
        "learning_rate": 1e-12,
        "max_epochs": 1,
    }
    one = TuPaTEEmbedder(TINY, **params).fit(texts, labels).embedding_
    two = TuPaTEEmbedder(TINY, **params).fit(texts[:4], labels[::-1][:4]).embedding_
    np.testing.assert_allclose(one, two, atol=1e-9)
    other = TuPaTEEmbedder(TINY, random_state=1, **params).fit(texts, labels)
    assert np.abs(np.asarray(one) - np.asarray(other.embedding_)).max() > 0.01
    moved = TuPaTEEmbedder(TINY, subtract_initial=True, **params).fit(texts, labels)
    assert np.abs(moved.embedding_).max() < 1e-9


def test_seed_of_a_random_state(texts, labels):
    est = TuPaTEEmbedder(TINY, max_epochs=1, random_state=np.random.RandomState(3))
    other = TuPaTEEmbedder(TINY, max_epochs=1, random_state=np.random.RandomState(3))
    np.testing.assert_array_equal(
        est.fit(texts, labels).embedding_, other.fit(texts, labels).embedding_
    )


@pytest.mark.parametrize("tuning", ["prompt", "bias", "lora"])
def test_tuning_learns(tuning, texts, labels):
    est = TuPaTEEmbedder(
        TINY, tuning=tuning, max_epochs=30, batch_size=8, learning_rate=0.05
    ).fit(texts, labels)
    assert est.loss_curve_[-1] < est.loss_curve_[0]
    assert est.n_iter_ == 30
    prior = np.log(0.5)
    assert est.score(texts, labels) > prior


def test_early_stopping_stops_and_keeps_the_best(texts, labels):
    est = TuPaTEEmbedder(
        TINY,
        early_stopping=True,
        validation_fraction=0.3,
        n_iter_no_change=2,
        max_epochs=200,
        learning_rate=0.5,
    ).fit(texts, labels)
    assert est.n_iter_ < 200


def test_each_task_of_a_batch_keeps_its_own_best():
    import torch

    from fute_sklearn._engine._early_stopping import BestSoFar

    best = BestSoFar({"p": torch.zeros(2, 1)}, patience=2)
    losses = [[3.0, 1.0], [2.0, 2.0], [4.0, 3.0], [1.0, 0.5], [5.0, 5.0], [6.0, 6.0]]
    stopped = [
        best.update(torch.tensor(loss), {"p": torch.full((2, 1), float(i))})
        for i, loss in enumerate(losses)
    ]
    # The second task has lost patience after epoch 2; its later 0.5 does not count.
    assert best.parameters["p"].flatten().tolist() == [3.0, 0.0]
    assert best.epochs.tolist() == [6, 3]
    assert stopped == [False] * 5 + [True]


def test_diverging_tuning_raises_with_the_remedy(texts, labels, monkeypatch):
    from fute_sklearn._engine import LabelObjective

    monkeypatch.setattr(
        LabelObjective,
        "log_likelihood",
        lambda self, ops, hidden, rows: hidden.sum((-2, -1)) * np.nan,
    )
    with pytest.raises(FloatingPointError, match="learning_rate below"):
        TuPaTEEmbedder(TINY).fit(texts, labels)


def test_numbers(texts):
    y = np.linspace(0.5, 4.25, 8)
    est = TuPaTEEmbedder(TINY, max_epochs=2).fit(texts, y)
    found = est.student_.predict(texts)
    assert found.dtype == float
    assert (found >= 0.5).all()
    assert (found <= 4.25).all()
    assert est.score(texts, y) < 0
    assert not hasattr(est, "predict_proba")


def test_free_texts():
    texts = [f"question {i}" for i in range(24)]
    answers = [f"answer {i}" for i in range(24)]
    est = TuPaTEEmbedder(TINY, max_epochs=1).fit(texts, answers)
    assert est.target_kind_ == "text"
    assert all(isinstance(text, str) for text in est.student_.predict(texts[:3]))
    assert est.score(texts, answers) < 0


def test_score_needs_known_labels(texts, labels):
    est = TuPaTEEmbedder(TINY, max_epochs=1).fit(texts, labels)
    with pytest.raises(ValueError, match="not among"):
        est.score(texts, ["other"] * 8)


def test_long_texts_are_cut_and_counted(labels):
    texts = ["a" * 50] * 3 + [f"b{i}" for i in range(5)]
    with pytest.warns(TruncationWarning, match="3 of 8 texts") as caught:
        TuPaTEEmbedder(TINY, max_length=20, max_epochs=1).fit(texts, labels)
    assert len(caught) == 1


# TaskEmb ------------------------------------------------------------------------


def test_reductions(texts, labels):
    full = TaskEmbedder(TINY, reduction="full", params="all").fit(texts, labels)
    surrogate = load_surrogate(TINY)
    assert full.embedding_.size == sum(w.numel() for w in surrogate.weights.values())
    unit = TaskEmbedder(TINY, reduction="unit", params="all").fit(texts, labels)
    assert unit.embedding_.size < full.embedding_.size / 5
    one_word = np.asarray(full.embedding_).reshape(-1)[-384 * 16 :].reshape(384, 16)
    np.testing.assert_allclose(unit.embedding_[-16:], one_word.mean(0), rtol=1e-4)
    small = TaskEmbedder(TINY, reduction="projection", n_components=12)
    assert small.fit(texts, labels).embedding_.shape == (12,)


def test_fine_tuning_moves_the_student(texts, labels):
    for kind in ("head", "full"):
        est = TaskEmbedder(
            TINY, fine_tuning=kind, learning_rate=0.01, max_epochs=20, batch_size=8
        ).fit(texts, labels)
        still = TaskEmbedder(TINY).fit(texts, labels)
        assert est.score(texts, labels) > still.score(texts, labels)


def test_soft_targets_interpolate(texts):
    """The Fisher of soft targets is that of the expected log-likelihood."""
    proba = np.tile([[0.5, 0.5]], (8, 1))
    soft = TaskEmbedder(TINY).fit(texts, proba, classes=["a", "b"]).embedding_
    hard = TaskEmbedder(TINY).fit(texts, ["a", "b"] * 4).embedding_
    assert np.abs(soft).sum() < np.abs(hard).sum()


def test_mean_gradients_of_opposite_labels_are_opposite(texts, labels):
    """Seen from the gradient of undecided answers, which is common to all tasks."""
    turned = [{"pos": "neg", "neg": "pos"}[label] for label in labels]
    undecided = np.full((8, 2), 0.5)
    est = TaskEmbedder(TINY, statistic="gradient", reduction="full")
    first, other, middle = (
        np.asarray(est.fit(texts, y, classes=["neg", "pos"]).embedding_)
        for y in (labels, turned, undecided)
    )
    scale = np.abs(first - middle).max()
    assert scale > 0
    np.testing.assert_allclose(first - middle, middle - other, atol=1e-4 * scale)
    squared = TaskEmbedder(TINY, reduction="full").fit(texts, labels)
    assert squared.fingerprint_ != est.fingerprint_
    assert (np.asarray(squared.embedding_) >= 0).all()


# Moments ------------------------------------------------------------------------


def test_moments_of_parts_add_up(texts, labels):
    est = MomentEmbedder(TINY, reference=texts)
    whole = np.asarray(est.fit(texts, labels).embedding_)
    parts = [
        np.asarray(est.fit(texts[a:b], labels[a:b]).embedding_) * (b - a)
        for a, b in ((0, 2), (2, 8))
    ]
    np.testing.assert_allclose(whole, sum(parts) / 8, rtol=1e-4, atol=1e-6)


def test_balanced_moments_weigh_classes_equally(texts):
    labels = ["a"] * 6 + ["b"] * 2
    est = MomentEmbedder(TINY, reference=texts, class_weight="balanced")
    found = np.asarray(est.fit(texts, labels).embedding_)
    plain = MomentEmbedder(TINY, reference=texts)
    of_a = plain.fit(texts[:6], labels[:6], classes=["a", "b"]).embedding_
    of_b = plain.fit(texts[6:], labels[6:], classes=["a", "b"]).embedding_
    mean = (np.asarray(of_a) + np.asarray(of_b)) / 2
    np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-6)
    assert est.fingerprint_ == plain.fingerprint_


def test_moment_embedder_needs_a_reference(texts, labels):
    with pytest.raises(ReferenceStatisticsError, match="reference=texts"):
        MomentEmbedder(TINY).fit(texts, labels)


def test_label_texts_put_renamed_labels_into_one_space(texts, labels):
    est = MomentEmbedder(TINY, reference=texts, target_encoding="text")
    other = MomentEmbedder(TINY, reference=texts, target_encoding="text")
    est.fit(texts, labels)
    other.fit(texts, ["good" if label == "pos" else "bad" for label in labels])
    assert est.fingerprint_ == other.fingerprint_
    assert est.embedding_.shape == ((D_MODEL + 1) * D_MODEL,)


def test_moments_of_numbers(texts):
    y = np.linspace(0.25, 2, 8)
    est = MomentEmbedder(TINY, reference=texts, alpha=1e-3).fit(texts, y)
    assert np.corrcoef(est.student_.predict(texts), y)[0, 1] > 0.9


def test_free_texts_need_the_text_encoding():
    texts = [f"question {i}" for i in range(24)]
    answers = [f"answer {i}" for i in range(24)]
    with pytest.raises(ValueError, match="target_encoding='text'"):
        MomentEmbedder(TINY, reference=texts).fit(texts, answers)
    est = MomentEmbedder(TINY, reference=texts, target_encoding="text")
    est.fit(texts, answers)
    with pytest.raises(AttributeError, match="TuPaTEEmbedder"):
        est.student_.predict(texts)


# Spaces -------------------------------------------------------------------------


def test_vectors_remember_their_space(texts, labels):
    vectors = TaskVectors(np.eye(3), "one")
    assert vectors[1:].fingerprint == "one"
    assert np.vstack([vectors, vectors]).fingerprint == "one"
    with pytest.raises(FingerprintMismatchError):
        np.vstack([vectors, TaskVectors(np.eye(3), "two")])


def test_vectorizer_keeps_embeddings(texts, labels, tmp_path, monkeypatch):
    tasks = [Task(texts, labels), Task(texts, labels[::-1])]
    est = TaskVectorizer(MomentEmbedder(TINY, reference=texts), memory=tmp_path / "m")
    first = est.fit_transform(tasks)
    monkeypatch.setattr(
        MomentEmbedder, "_fit_group", lambda *args: pytest.fail("embedded again")
    )
    again = TaskVectorizer(MomentEmbedder(TINY, reference=texts), memory=tmp_path / "m")
    np.testing.assert_array_equal(first, again.fit_transform(tasks))
    np.testing.assert_array_equal(first, est.transform(tasks))


def test_vectorizer_in_processes(texts, labels):
    tasks = [Task(texts, labels), Task(texts[:6], labels[:6])]
    embedder = TuPaTEEmbedder(TINY, max_epochs=1)
    alone = TaskVectorizer(embedder).fit_transform(tasks)
    found = TaskVectorizer(embedder, n_jobs=2).fit_transform(tasks)
    np.testing.assert_allclose(alone, found, rtol=1e-5, atol=1e-6)


def test_vectorizer_on_a_dask_cluster(texts, labels):
    distributed = pytest.importorskip("distributed")
    tasks = [Task(texts, labels), Task(texts[:6], labels[:6])]
    embedder = TuPaTEEmbedder(TINY, max_epochs=1)
    alone = TaskVectorizer(embedder).fit_transform(tasks)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        assert joblib.effective_n_jobs() == 2
        found = TaskVectorizer(embedder).fit_transform(tasks)
    np.testing.assert_allclose(alone, found, rtol=1e-5, atol=1e-6)


def test_vectorizer_refuses_mixed_label_spaces(texts, labels):
    tasks = [Task(texts, labels), Task(texts, ["x", "y"] * 4)]
    with pytest.raises(FingerprintMismatchError):
        TaskVectorizer(MomentEmbedder(TINY, reference=texts)).fit(tasks)


def test_same_bytes_in_every_process(texts, labels, tmp_path):
    """Neither the process nor what the cache holds already changes a bit."""
    code = """
import hashlib, sys
from fute_sklearn import TuPaTEEmbedder
from fute_sklearn._engine import encode_texts, load_surrogate
from fute_sklearn.embedders import _task_vectorizer
from fute_sklearn._estimator_checks import LABELS, TEXTS
if sys.argv[1] == "warm":  # the same texts, encoded in other company before
    encode_texts(load_surrogate("fute-tiny-random"), TEXTS[::3] + ["other", "texts"])
est = TuPaTEEmbedder("fute-tiny-random", tuning="prompt").fit(TEXTS, LABELS)
print(hashlib.sha256(est.embedding_.tobytes()).hexdigest())
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", code, state],
            env={**os.environ, "FUTE_SKLEARN_CACHE": str(tmp_path / state)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for state in ("cold", "warm")
    }
    assert len(found) == 1


def test_embeddings_in_a_file(tmp_path):
    path = tmp_path / "zoo.safetensors"
    save_embeddings(path, TaskVectors(np.eye(2), "space"), ["svm", "tree"])
    vectors, names = load_embeddings(path)
    np.testing.assert_array_equal(vectors, np.eye(2))
    assert (names, vectors.fingerprint) == (["svm", "tree"], "space")
    with pytest.raises(FileNotFoundError):
        load_embeddings(tmp_path / "nothing")
    path.write_bytes(b"rubbish")
    with pytest.raises(ValueError, match="no file of save_embeddings"):
        load_embeddings(path)
    with pytest.raises(ValueError, match="shape"):
        save_embeddings(path, [1.0, 2.0])


def test_tasks_of_near_numbers_differ(texts):
    one = Task(texts, np.arange(8) + 1000.5)
    two = Task(texts, np.arange(8)[::-1] + 1000.5)
    assert one != two


def test_embeddings_are_kept_as_they_come(texts, labels, tmp_path, monkeypatch):
    monkeypatch.setattr(_task_vectorizer, "KEPT_AT_ONCE", 2)
    orders = (
        labels,
        labels[::-1],
        labels[1:] + labels[:1],
        labels[:3] * 2 + labels[6:],
    )
    tasks = [Task(texts, one, name=str(i)) for i, one in enumerate(orders)]

    class Failing(MomentEmbedder):
        def embed(self, tasks, on_step=None):
            if any(task.name == "3" for task in tasks):
                raise RuntimeError("the power is cut")
            return super().embed(tasks, on_step)

    with pytest.raises(RuntimeError, match="power"):
        TaskVectorizer(Failing(TINY, reference=texts), memory=tmp_path).fit(tasks)
    assert len(list(tmp_path.glob("*.array"))) == 2


def test_memory_does_not_mix_spaces(texts, labels, tmp_path):
    embedder = MomentEmbedder(TINY, reference=texts)
    other = Task(texts, ["x", "y"] * 4)
    TaskVectorizer(embedder, memory=tmp_path).fit([other])
    vectorizer = TaskVectorizer(embedder, memory=tmp_path).fit([Task(texts, labels)])
    with pytest.raises(FingerprintMismatchError):
        vectorizer.transform([other])


def test_a_second_fit_leaves_nothing_of_the_first(texts, labels):
    est = TuPaTEEmbedder(TINY, max_epochs=1).fit(texts, labels)
    est.fit(texts, np.linspace(0.25, 2, 8))
    assert not hasattr(est, "classes_")
    assert not hasattr(est, "predict_proba")


def test_fine_tuning_in_bfloat16_moves_as_in_float32(texts, labels):
    from fute_sklearn._engine import LabelObjective, fine_tune, label_tree

    proba = np.tile(np.eye(2, dtype=np.float32), (4, 1))
    moved = {}
    for dtype in ("float32", "bfloat16"):
        surrogate = load_surrogate(TINY, dtype=dtype)
        encoded = encode_texts(surrogate, texts)
        objective = LabelObjective(surrogate, [label_tree(surrogate, "ab")], [proba])
        tuned = fine_tune(
            surrogate,
            encoded,
            objective,
            which="head",
            learning_rate=1e-3,
            max_epochs=10,
            batch_size=8,
            seed=0,
            on_epoch=lambda epoch: None,
        )["lm_head.weight"]
        rows = (tuned - surrogate.weights["shared.weight"]).float()[[100, 101]]
        moved[dtype] = rows.abs().mean().item()
    assert moved["bfloat16"] > 0.5 * moved["float32"]


def test_models_and_data_sets_of_the_preset_share_a_space(texts, labels):
    from fute_sklearn.presets import CASES, paper_settings

    small = {"surrogate": TINY, "max_epochs": 1, "early_stopping": False}
    found = {
        TuPaTEEmbedder(**{**paper_settings("tupate", case), **small})
        .fit(texts, labels)
        .fingerprint_
        for case in CASES
    }
    assert len(found) == 1


@pytest.mark.parametrize(
    ("y", "kind", "score_y"),
    [
        (np.arange(8) + 0.5, "number", [1.0, 2.0, 3.0]),
        ([f"answer {i}" for i in range(8)], "text", ["answer 1", "other", "more"]),
        ([3, 1, 2, 5, 4, 1, 2, 3], "number", [1, 2, 3]),
    ],
)
def test_kind_of_targets_by_request(y, kind, score_y, texts):
    est = TuPaTEEmbedder(TINY, max_epochs=1).fit(texts, y, kind=kind)
    assert est.target_kind_ == kind
    assert est.score(texts[:3], score_y) < 0
    with pytest.raises(ValueError, match="kind='colour'"):
        Task(texts, y, kind="colour")
    with pytest.raises(ValueError, match="no number"):
        Task(texts, ["a"] * 8, kind="number")


def test_score_of_probabilities(texts, labels):
    est = MomentEmbedder(TINY, reference=texts).fit(texts, labels)
    hard = np.array([[label == "neg", label == "pos"] for label in labels], float)
    assert est.score(texts, hard) == pytest.approx(est.score(texts, labels))


def test_a_single_task_out_of_memory_takes_smaller_steps(texts, labels, monkeypatch):
    import torch

    from fute_sklearn._engine import _tuning

    expected = TuPaTEEmbedder(TINY, max_epochs=2, batch_size=8).fit(texts, labels)
    original = _tuning.decode

    def tight(ops, arch, memory, targets, parts):
        if len(memory.states) > 2:
            raise torch.OutOfMemoryError("no memory")
        return original(ops, arch, memory, targets, parts)

    monkeypatch.setattr(_tuning, "decode", tight)
    with pytest.warns(UserWarning, match="out of memory"):
        found = TuPaTEEmbedder(TINY, max_epochs=2, batch_size=8).fit(texts, labels)
    np.testing.assert_allclose(
        found.embedding_, expected.embedding_, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("fine_tuning", ["head", "full"])
def test_fine_tuning_out_of_memory_takes_smaller_parts(
    texts, labels, monkeypatch, fine_tuning
):
    import torch

    from fute_sklearn._engine import _fine_tune

    def fit():
        est = TaskEmbedder(TINY, fine_tuning=fine_tuning, max_epochs=2, batch_size=8)
        return est.fit(texts, labels).embedding_

    expected, original = fit(), _fine_tune.decode

    def tight(ops, arch, memory, targets):
        if len(memory.states) > 2:
            raise torch.OutOfMemoryError("no memory")
        return original(ops, arch, memory, targets)

    monkeypatch.setattr(_fine_tune, "decode", tight)
    with pytest.warns(UserWarning, match="out of memory"):
        found = fit()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6 * expected.max())


def test_generation_out_of_memory_takes_smaller_batches(texts, monkeypatch):
    import torch

    from fute_sklearn._engine import Student, _student, encode_texts, load_surrogate

    surrogate = load_surrogate("fute-mini")  # a random one says nothing
    encoded, student = encode_texts(surrogate, texts), Student(surrogate)
    expected, original = student.generate(encoded, 5), _student.decode
    assert any(expected)

    def tight(ops, arch, memory, *rest):
        if len(memory.states) > 2:
            raise torch.OutOfMemoryError("no memory")
        return original(ops, arch, memory, *rest)

    monkeypatch.setattr(_student, "decode", tight)
    with pytest.warns(UserWarning, match="out of memory"):
        found = student.generate(encoded, 5)
    assert found == expected
