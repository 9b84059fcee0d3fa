"""
From a shortlist to one model
=============================

A ranking without labels leaves some models that cannot be told apart.  With a small
budget of answers to labelled rows, which rows should which models answer?
:func:`~fute_sklearn.settle_ranking` asks where it settles most.
"""

# %%
# Twelve classifiers of real posts about other topics.
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import ComplementNB
from sklearn.pipeline import make_pipeline

from fute_sklearn import add_labels, forecast, plan_labels, rank_models, settle_ranking
from fute_sklearn.datasets import load_opinion_domains

rng = np.random.default_rng(0)
domains, neutral = load_opinion_domains()
texts = [neutral[i] for i in rng.permutation(len(neutral))[:2000]]
target = domains.pop("jetblue")
models = {}
for name, task in list(domains.items())[:6]:
    task = task.take(rng.permutation(task.n_samples)[:500])
    for family, last in (
        ("logistic", LogisticRegression(C=4.0, class_weight="balanced")),
        ("naive Bayes", ComplementNB(alpha=0.3)),
    ):
        model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), last)
        models[f"{family} | {name}"] = model.fit(list(task.texts), task.y)

rows = rng.permutation(target.n_samples)
X = [target.texts[i] for i in rows[:300]]
y = target.y[rows[:300]]

# %%
# What would the ranking cost?  Told from a small sample, before any model is asked.
costs = forecast(models, X, y, texts=texts, students="closed")
print(costs[["calls", "seconds"]].round(1).tail(4))
table = rank_models(models, X, y, texts=texts, students="closed")
print(table.attrs["verdict"])

# %%
# The scores' :class:`~fute_sklearn.ScorePosterior` tells how probably one model beats
# another.
posterior = table.attrs["posterior"]
chosen = posterior.shortlist()
print(posterior.p_beats().loc[chosen, chosen].round(2).to_string())

# %%
# The next answers that are worth asking for:
print(plan_labels(table, budget=24).head())

# %%
# With 400 answers; running all models on all rows would take 3,600.
settled = settle_ranking(table, models, budget=400)
print(settled.attrs["verdict"])
print(f"{settled.attrs['spent']:.0f} answers were asked for")

# %%
# Answers that exist already are combined with the ranking without asking a model: here
# those of three models to the first 40 rows.
first = list(table.index[:3])
answers = pd.DataFrame({name: models[name].predict(X[:40]) for name in first})
print(add_labels(table, answers)[["score", "low", "high"]].round(2).head(3))

# %%
# Intervals before and after, with the truth on all rows of the target.
truth = {
    name: np.mean(model.predict(list(target.texts)) == target.y)
    for name, model in models.items()
}
figure, axes = plt.subplots(
    1, 2, figsize=(10, 4.4), sharex=True, sharey=True, layout="constrained"
)
order = list(settled.index[::-1])
for ax, one, title in zip(
    axes, (table, settled), ("no model was run", "after 400 answers"), strict=True
):
    shown = one.loc[order]
    short = set(one.attrs["shortlist"])
    for place, (name, row) in enumerate(shown.iterrows()):
        colour = "#D55E00" if name in short else "#999999"
        ax.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=3)
        ax.plot(row["score"], place, "o", color=colour)
        ax.plot(truth[name], place, "x", color="black", markersize=8)
    ax.set(title=f"{title}: {len(short)} left", xlabel="accuracy")
axes[0].set_yticks(range(len(order)), order)
marks = [
    plt.Line2D([], [], color="#D55E00", marker="o", linewidth=3, label="shortlist"),
    plt.Line2D([], [], color="#999999", marker="o", linewidth=3, label="left out"),
    plt.Line2D([], [], color="black", marker="x", linestyle="", label="truth"),
]
axes[1].legend(handles=marks, loc="lower right")
plt.show()
