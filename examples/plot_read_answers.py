"""
Models that answer in sentences
===============================

Language models and rules rarely answer with a bare label.  A parser reads labels out of
their sentences; what it cannot read is an abstention, which counts as wrong or is left
out.  Here models word their answers in four ways, and hedge, and are ranked by what
they mean.
"""

# %%
# Classifiers of seven topics of real posts stand for language models: each knows one
# topic, and words what it says in one of four ways.  Where it is unsure, it says so.
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from fute_sklearn import LabelParser, MTEWrapper, rank_models
from fute_sklearn.datasets import load_opinion_domains
from fute_sklearn.metrics import spearman_score

SEED = 0
rng = np.random.default_rng(SEED)
domains, neutral = load_opinion_domains()
texts = [neutral[i] for i in rng.permutation(len(neutral))[:3000]]
TARGET = "jetblue"
UNSURE = 0.1
WORDINGS = {
    "plain": "{}",
    "sentence": "The answer is: {}.",
    "reasoned": "It might look {other} at first, but on the whole it is {}.",
    "shouted": "{} !!! definitely {}",
}


def speaker(model, wording):
    """Answer with a sentence, or with none of the labels."""

    def answer(some):
        out = []
        for label, proba in zip(
            model.predict(some), model.predict_proba(some), strict=True
        ):
            other = "negative" if label == "positive" else "positive"
            sure = abs(proba[1] - 0.5) > UNSURE
            said = wording.format(label, label, other=other)
            out.append(said.upper() if "!!!" in said else said)
            if not sure:
                out[-1] = "I cannot tell what is meant here."
        return out

    return answer


KINDS = {
    "logistic": LogisticRegression(C=4),
    "naive Bayes": MultinomialNB(alpha=0.3),
    "forest": RandomForestClassifier(50, min_samples_leaf=2, random_state=SEED),
}
models, wording_of = {}, {}
wordings = cycle(WORDINGS)
for topic in sorted(set(domains) - {TARGET}):
    task = domains[topic].take(rng.permutation(domains[topic].n_samples)[:600])
    for kind, last in KINDS.items():
        model = make_pipeline(TfidfVectorizer(min_df=2), clone(last))
        model.fit(list(task.texts), task.y)
        name = f"{kind} | {topic}"
        wording_of[name] = next(wordings)
        models[name] = speaker(model, WORDINGS[wording_of[name]])
for name, model in list(models.items())[:4]:
    print(f"{name}: {model(texts[:1])[0]}")

# %%
# The last label of a sentence is the one that is meant; "take" says so.  A parser reads
# whole words in any case, and None, where there is none, is an abstention.  (Answers
# that are to be free texts are copied by a :class:`~fute_sklearn.StudentGenerator`, and
# scored by :func:`~fute_sklearn.metrics.exact_match_score` or
# :func:`~fute_sklearn.metrics.token_f1_score`; that takes a larger surrogate.)
parser = LabelParser(["negative", "positive"], take="last")
wrapped = {name: MTEWrapper(model, parser=parser) for name, model in models.items()}
task = domains[TARGET]
order = rng.permutation(task.n_samples)
known, test = task.take(order[:300]), task.take(order[300:1300])
table = rank_models(wrapped, known, texts=texts, quick=True)
print(table[["score", "low", "high", "abstained"]].round(2).head())
print(table.attrs["verdict"])

# %%
# The truth, on other rows: an answer that cannot be read is wrong.  With the first
# label of each sentence instead, models that reason are taken for their opposite.
first = LabelParser(["negative", "positive"])


def right(model, parse):
    answers = [parse(answer) for answer in model(list(test.texts))]
    return np.mean([a == y for a, y in zip(answers, test.y, strict=True)])


truth = {name: right(model, parser) for name, model in models.items()}
misread = rank_models(
    {name: MTEWrapper(model, parser=first) for name, model in models.items()},
    known,
    texts=texts,
    quick=True,
)
fig, axes = plt.subplots(
    1, 2, figsize=(9, 4), sharex=True, sharey=True, layout="constrained"
)
for ax, found, title in (
    (axes[0], table, "the last label is read"),
    (axes[1], misread, "the first label is read"),
):
    rho = spearman_score([[truth[n] for n in found.index]], [found["score"]])
    for style, marker in zip(WORDINGS, "osD^", strict=True):
        names = [name for name in found.index if wording_of[name] == style]
        ax.scatter(
            found.loc[names, "score"],
            [truth[name] for name in names],
            marker=marker,
            s=60,
            alpha=0.7,
            label=style,
        )
    ax.set(title=f"{title}: Spearman {rho:.2f}", xlabel="expected accuracy")
axes[0].set_ylabel(f"accuracy on {TARGET}, last label read")
axes[0].legend(title="wording")
plt.show()
