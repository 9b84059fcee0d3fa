"""
What do LABEL_0 and LABEL_1 mean?
=================================

Models from a hub often answer with nameless labels.  Which of them is which of a data
set's labels shows in what they do: :func:`~fute_sklearn.match_labels` compares, for
each label, which texts get it, without asking a model about the data set.
"""

# %%
# Seven topics of real posts are the labels.  Four classifiers tell them apart, and call
# them ``LABEL_0`` to ``LABEL_6`` in an order of their own.
import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from fute_sklearn import MTEWrapper, Task, match_labels
from fute_sklearn.datasets import load_opinion_domains

SEED = 0
rng = np.random.default_rng(SEED)
domains, neutral = load_opinion_domains()
unlabelled = [neutral[i] for i in rng.permutation(len(neutral))[:4000]]
topics = sorted(set(domains) - {"other airlines"})
posts, topic_of = [], []
for topic in topics:
    chosen = rng.permutation(domains[topic].n_samples)[:260]
    posts += [domains[topic].texts[i] for i in chosen]
    topic_of += [topic] * len(chosen)
order = rng.permutation(len(posts))
train, known = order[:1400], order[1400:1700]
target = Task([posts[i] for i in known], [topic_of[i] for i in known], name="topics")
meaning = {f"LABEL_{i}": name for i, name in enumerate(rng.permutation(topics))}
label_of = {topic: label for label, topic in meaning.items()}
kinds = {
    "logistic": LogisticRegression(C=4),
    "SVM": LinearSVC(C=0.5, random_state=SEED),
    "naive Bayes": MultinomialNB(alpha=0.3),
    "tree": DecisionTreeClassifier(max_depth=20, random_state=SEED),
}
models = {
    name: make_pipeline(TfidfVectorizer(min_df=2), last).fit(
        [posts[i] for i in train], [label_of[topic_of[i]] for i in train]
    )
    for name, last in kinds.items()
}

# %%
# A model labels unlabelled posts.  What its labels mean, and how sure that is, a
# :class:`~fute_sklearn.LabelMatch` tells:
match = match_labels(MTEWrapper(models["SVM"]).label(unlabelled), target)
for label, topic in sorted(match.names.items()):
    told = f"{label}: {topic}, sure by {match.confidences[label]:.2f}"
    print(told + ("" if meaning[label] == topic else f" (in truth {meaning[label]})"))
print(f"all of them: {match.confidence:.2f}")

# %%
# The more texts, the surer it says to be, but for the tree, which is worse than the
# others and not always matched right.  ``rank_models(..., label_names="match")`` takes
# no match below .9.
counts = [125, 250, 500, 1000, 2000, 4000]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True, layout="constrained")
colours = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"]
for (name, model), colour, marker in zip(models.items(), colours, "osD^", strict=True):
    right, sure = [], []
    for count in counts:
        found = match_labels(MTEWrapper(model).label(unlabelled[:count]), target)
        right.append(sum(meaning[k] == topic for k, topic in found.names.items()) / 7)
        sure.append(found.confidence)
    axes[0].plot(counts, right, color=colour, marker=marker, label=name)
    axes[1].plot(counts, sure, color=colour, marker=marker, label=name)
axes[0].set(ylabel="share", title="labels that are matched right")
axes[1].set(title="stated confidence in all seven")
for ax in axes:
    ax.set(xscale="log", xlabel="unlabelled texts", ylim=(-0.03, 1.03))
    ax.set_xticks(counts, counts)
    ax.minorticks_off()
axes[0].legend()
plt.show()
