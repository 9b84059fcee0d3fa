"""
Why this model?
===============

One model is ranked above another.  :func:`~fute_sklearn.explain` takes the difference
of their expected scores apart: by the labels of the target, by its texts, and by the
unlabelled texts on which the two differ.
"""

# %%
# Classifiers of real posts, each trained on one topic.  The target is an airline that
# none of them knows.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from fute_sklearn import ExplanationDisplay, explain, rank_models
from fute_sklearn.datasets import load_opinion_domains

rng = np.random.default_rng(0)
domains, neutral = load_opinion_domains()
texts = [neutral[i] for i in rng.permutation(len(neutral))[:3000]]
target = domains.pop("jetblue")
target = target.take(rng.permutation(target.n_samples)[:300])
models = {}
for name, task in domains.items():
    task = task.take(rng.permutation(task.n_samples)[:800])
    last = LogisticRegression(C=4.0, class_weight="balanced")
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), last)
    models[name] = model.fit(list(task.texts), task.y)

table = rank_models(models, target.texts, target.y, texts=texts, students="closed")
print(table[["score", "low", "high", "p_best"]].round(2))

# %%
# The best against the last.
first, last = table.index[0], table.index[-1]
reasons = explain(table, first, last)
print(reasons.head(8))

# %%
# Bars to the right speak for the first model.
ExplanationDisplay.from_explanation(reasons, n_texts=8)
plt.show()
