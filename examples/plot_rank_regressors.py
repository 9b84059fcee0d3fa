"""
Rank regressors for new data
============================

Targets may be numbers.  Regressors of how loud a post is (its share of capital letters)
were trained on posts about seven topics; which of them should be taken for an eighth?
"""

# %%
# The number is computed from the text, so that truth is at hand; the regressors see
# character n-grams only, and know it more or less well.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeRegressor

from fute_sklearn import (
    MomentEmbedder,
    MTEWrapper,
    StudentRanker,
    StudentRegressor,
    Task,
)
from fute_sklearn.datasets import load_opinion_domains
from fute_sklearn.metrics import regret_loss, spearman_score


def loudness(some):
    """Share of the letters that are capital, in percent."""
    return np.array(
        [100 * np.mean([c.isupper() for c in t if c.isalpha()] or [0]) for t in some]
    )


rng = np.random.default_rng(0)
domains, neutral = load_opinion_domains()
texts = [neutral[i] for i in rng.permutation(len(neutral))[:3000]]
target = domains.pop("jetblue")
families = {
    "ridge": Ridge(alpha=0.3),
    "k-NN": KNeighborsRegressor(7, metric="cosine"),
    "tree": DecisionTreeRegressor(max_depth=8, random_state=0),
    "stump": DecisionTreeRegressor(max_depth=1, random_state=0),
}
models = {"constant": lambda some: [12.5] * len(some)}
for name, task in domains.items():
    some = [task.texts[i] for i in rng.permutation(task.n_samples)[:500]]
    for family, last in families.items():
        vectors = TfidfVectorizer(analyzer="char", ngram_range=(1, 2), lowercase=False)
        model = make_pipeline(vectors, type(last)(**last.get_params()))
        models[f"{family} | {name}"] = model.fit(some, loudness(some))

# %%
# Every regressor labels the unlabelled posts; their students, ridge regressions of the
# numbers, are scored on the target by any regression scorer.
X = [target.texts[i] for i in rng.permutation(target.n_samples)]
some = Task(X[:300], loudness(X[:300]), kind="number")
labelled = [
    MTEWrapper(model, name=name, kind="number").label(texts)
    for name, model in models.items()
]
ranker = StudentRanker(MomentEmbedder(), scoring="neg_mean_absolute_error")
ranker.fit(labelled, names=list(models))
scores = dict(zip(models, ranker.decision_function([some])[0], strict=True))
order = ranker.rank([some])[0]
for name in order[:5]:
    print(f"{name:30s} {scores[name]:6.2f}")

# %%
# The truth: the mean absolute error of every regressor on all posts of the target.
wanted = loudness(X)
truth, fit = {}, {}
for name, model in models.items():
    said = np.asarray(model.predict(X) if hasattr(model, "predict") else model(X))
    truth[name] = -np.abs(said - wanted).mean()
    fit[name] = r2_score(wanted, said)
print(f"rank correlation {spearman_score(truth, scores):.2f}")
print(f"regret {regret_loss(truth, scores):.2f} points")
print(f"R2 of the model that is taken: {fit[order[0]]:.2f}")

# %%
# A student can be had alone, too: here of the numbers of three hundred posts of the
# target, beside the regressor that was taken without being run on them.
student = StudentRegressor(MomentEmbedder()).fit(some.texts, some.y)
print("mean absolute error of the rows' own student: ", end="")
print(f"{np.abs(student.predict(X[300:]) - wanted[300:]).mean():.2f}, ", end="")
taken = models[order[0]]
print(f"of the regressor: {np.abs(taken.predict(X[300:]) - wanted[300:]).mean():.2f}")

# %%
# Expected and true errors; colours are families.
colours = dict(
    zip(
        ["constant", *families],
        ["black", "#0072B2", "#009E73", "#D55E00", "#CC79A7"],
        strict=True,
    )
)
figure, ax = plt.subplots(figsize=(5.6, 4.6), layout="constrained")
for family, colour in colours.items():
    names = [name for name in models if name.split(" | ")[0] == family]
    ax.plot(
        [-scores[name] for name in names],
        [-truth[name] for name in names],
        "o",
        color=colour,
        label=family,
        alpha=0.8,
    )
ax.set(
    xlabel="expected mean absolute error, percent", ylabel="true mean absolute error"
)
ax.legend(title="family")
plt.show()
