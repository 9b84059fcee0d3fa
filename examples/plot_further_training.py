"""
Which model is the best one to train further?
=============================================

Table 1 of the FUTE paper in small: a model that was trained on one data set is to be
trained further on a few rows of another one.  Which of many is the best to start from?
The paper's truth is the accuracy after further training; here the models are linear
classifiers that were trained on posts about seven topics, and 40 rows of the eighth
topic are at hand.  ``benchmarks/paper/table1.py`` does the same with language models.
"""

# %%
# Candidates
# ----------
# A hashing vectorizer needs no fit, so that a model can go on where it was; each topic
# gives candidates with more and with less regularisation, and with few and many rows.
from copy import deepcopy

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import SGDClassifier

from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    MTEWrapper,
    StudentRanker,
    Task,
    TaskEmbedder,
    TaskVectorizer,
    TextEmbedder,
    TuPaTEEmbedder,
)
from fute_sklearn.baselines import data_size
from fute_sklearn.datasets import load_opinion_domains
from fute_sklearn.metrics import ranking_report

SEED, N_FEW, N_TEXTS = 0, 40, 1500
CLASSES = ["negative", "positive"]
words = HashingVectorizer(n_features=2**16, ngram_range=(1, 2), alternate_sign=False)


class Linear:
    """Hashed words and a linear classifier that can be trained further."""

    def __init__(self, penalty):
        self.net = SGDClassifier(loss="log_loss", alpha=penalty, random_state=SEED)

    def train(self, texts, y, epochs):
        """Go on from where it is."""
        for _ in range(epochs):
            self.net.partial_fit(words.transform(texts), y, classes=CLASSES)
        return self

    def predict(self, texts):
        """Answer with labels."""
        return self.net.predict(words.transform(texts))


rng = np.random.default_rng(SEED)
domains, neutral = load_opinion_domains()
texts = [neutral[i] for i in rng.permutation(len(neutral))[:N_TEXTS]]
parts = {}
for name, task in domains.items():
    order = rng.permutation(task.n_samples)
    test = min(400, task.n_samples // 3)
    parts[name] = {
        "few": task.take(order[:N_FEW]),
        "test": task.take(order[N_FEW : N_FEW + test]),
        "train": task.take(order[N_FEW + test :]),
    }
models, sources = {}, {}
for name, part in parts.items():
    for rows in (60, 600):
        some = part["train"].take(np.arange(min(rows, part["train"].n_samples)))
        for penalty in (1e-5, 1e-3):
            key = f"{name}, {some.n_samples} rows, {penalty:g}"
            models[key] = Linear(penalty).train(list(some.texts), some.y, 10)
            sources[key] = some
print(len(models), "candidates")

# %%
# Truth
# -----
# The accuracy on a topic's other rows after further training, which no ranking sees.
# A topic's own candidates do not take part.
gains = pd.DataFrame(index=list(parts), columns=list(models), dtype=float)
for target, part in parts.items():
    for key, model in models.items():
        if not key.startswith(f"{target},"):
            few = part["few"]
            further = deepcopy(model).train(list(few.texts), few.y, 10)
            right = further.predict(list(part["test"].texts)) == part["test"].y
            gains.loc[target, key] = right.mean()
print(gains.T.describe().loc[["min", "mean", "max"]].round(2).to_string())

# %%
# Rankings
# --------
# *DataSize* and the *static list* (the mean gain on the other topics) do not look at
# the target; *TextEmb* compares texts of source and target, *FUTE+TaskEmb* and
# *FUTE+TuPaTE* the model with the target in the surrogate's parameters, and the
# *expected score* is that of the model's student, before any further training.  (Where
# training losses were kept, :func:`~fute_sklearn.baselines.curve_gradients` of them can
# be fused by :func:`~fute_sklearn.baselines.reciprocal_rank_fusion`; the settings of
# the paper are in :func:`~fute_sklearn.presets.paper_settings`.)
labelled = [MTEWrapper(model, name=key).label(texts) for key, model in models.items()]
targets = [
    Task(list(part["few"].texts), part["few"].y, classes=CLASSES, name=name)
    for name, part in parts.items()
]


def cosine(embedder, ranked):
    rows = TaskVectorizer(embedder).fit([*ranked, *targets]).embeddings_
    ranker = ModelRanker().fit(rows[: len(ranked)])
    return ranker.decision_function(rows[len(ranked) :])


def static_list():
    kept = gains.apply(lambda row: row.fillna(row.mean()), axis=1)
    return np.array([kept.drop(index=name).mean() for name in gains.index])


students = StudentRanker(MomentEmbedder(reference=texts)).fit(labelled)
scores = {
    "DataSize": np.tile(data_size(list(sources.values())), (len(targets), 1)),
    "static list": static_list(),
    "TextEmb": cosine(TextEmbedder(), list(sources.values())),
    "FUTE+TaskEmb": cosine(TaskEmbedder(), labelled),
    "FUTE+TuPaTE": cosine(
        TuPaTEEmbedder(tuning="prompt", space="parameters", max_epochs=2), labelled
    ),
    "moment embedding": cosine(MomentEmbedder(reference=texts), labelled),
    "expected score": students.decision_function(targets),
}

# %%
# The table
# ---------
# Means over the topics, beside what is expected of a random ranking: of the rank of the
# best candidate (:func:`~fute_sklearn.metrics.average_rank_loss`), of
# :func:`~fute_sklearn.metrics.ndcg_score`, of the rank correlation and of the regret.
rows = {}
for method, found in scores.items():
    reports = []
    for truth, row in zip(gains.to_numpy(), found, strict=True):
        part = ~np.isnan(truth)
        reports.append(ranking_report(truth[part], row[part]))
    mean = sum(reports) / len(reports)
    rows.setdefault("random", mean["random"])
    rows[method] = mean["value"]
table = pd.DataFrame(rows).T[["average_rank", "ndcg", "spearman", "regret"]]
print(table.round(3).to_string())

# %%
# The figure: how good the first candidates of each ranking are, as a mean over the
# topics, against the best possible and a random order.
import matplotlib.pyplot as plt  # noqa: E402

figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
counts = np.arange(1, 11)
for method, found in {**scores, "best possible": gains.to_numpy()}.items():
    curves = []
    for truth, row in zip(gains.to_numpy(), found, strict=True):
        part = ~np.isnan(truth)
        order = np.argsort(-row[part], kind="stable")
        curves.append(np.maximum.accumulate(truth[part][order])[: counts[-1]])
    ax.plot(
        counts,
        np.mean(curves, axis=0),
        label=method,
        color="black" if method == "best possible" else None,
        ls=":" if method == "best possible" else "-",
    )
draws = []
for truth in gains.to_numpy():
    known = truth[~np.isnan(truth)]
    shuffled = np.array([rng.permutation(known)[: counts[-1]] for _ in range(300)])
    draws.append(np.maximum.accumulate(shuffled, axis=1).mean(0))
ax.plot(counts, np.mean(draws, axis=0), color="grey", ls="--", label="random")
ax.set(
    xlabel="candidates that are trained further",
    ylabel="accuracy of the best of them",
    title="Train the first k of a ranking further, keep the best",
)
ax.legend(fontsize="small")
