"""
A rule, a tree, an SVM and a net in one space
=============================================

Models of any kind get vectors of one space, because each is known by what it answers
and not by what it is made of.  Here each kind is trained on four topics of real posts,
and the nearest models are those that answer alike.
"""

# %%
# Four kinds: a list of words, scikit-learn's trees and SVMs, and a small torch net.
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from fute_sklearn import (
    MomentEmbedder,
    MTEWrapper,
    TaskMapDisplay,
    TaskVectorizer,
    load_embeddings,
    save_embeddings,
)
from fute_sklearn.datasets import load_opinion_domains

SEED = 0
rng = np.random.default_rng(SEED)
domains, neutral = load_opinion_domains()
texts = [neutral[i] for i in rng.permutation(len(neutral))[:3000]]
chosen = ["deflategate", "coachella", "apple", "southwest"]
LABELS = ["negative", "positive"]
hashed = HashingVectorizer(n_features=2**12, alternate_sign=False)


def inputs(some):
    """Turn texts into what the net takes."""
    return torch.from_numpy(hashed.transform(some).toarray()).float()


def word_list(task):
    """Words that stand in positive posts more often than in negative ones."""
    counts = {}
    for text, label in zip(task.texts, task.y, strict=True):
        for word in set(text.lower().split()):
            counts[word] = counts.get(word, 0) + (1 if label == "positive" else -1)
    return {word for word, count in counts.items() if count > 2}


def net_of(task):
    """Train a net with one hidden layer."""
    torch.manual_seed(SEED)
    net = torch.nn.Sequential(
        torch.nn.Linear(2**12, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2)
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    X, y = inputs(list(task.texts)), torch.tensor((task.y == "positive").astype(int))
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(X), y).backward()
        optimizer.step()
    return MTEWrapper(net.eval(), tokenizer=inputs, classes=LABELS)


def rule_of(task):
    words = word_list(task)

    def rule(some):
        found = [bool(words & set(text.lower().split())) for text in some]
        return [LABELS[one] for one in found]

    return rule


def fitted(last, task):
    return make_pipeline(TfidfVectorizer(min_df=2), last).fit(list(task.texts), task.y)


models = {}
for name in chosen:
    task = domains[name].take(rng.permutation(domains[name].n_samples)[:600])
    models["rule", name] = rule_of(task)
    models["tree", name] = fitted(DecisionTreeClassifier(max_depth=15), task)
    models["SVM", name] = fitted(LinearSVC(C=0.5, random_state=SEED), task)
    models["net", name] = net_of(task)

# %%
# Every model labels the same 3,000 posts once; the vectors are closed-form moments, in
# an array that knows its space (:class:`~fute_sklearn.TaskVectors`).
labelled = [
    (m if isinstance(m, MTEWrapper) else MTEWrapper(m))
    .set_params(name=" | ".join(key))
    .label(texts)
    for key, m in models.items()
]
E = TaskVectorizer(MomentEmbedder()).fit_transform(labelled)
print(E.shape, E.fingerprint)

# %%
# Vectors are kept in a file, with the names of the models and of their space.
with TemporaryDirectory() as folder:
    path = Path(folder) / "models.safetensors"
    save_embeddings(path, E, names=[" | ".join(key) for key in models])
    again, names = load_embeddings(path)
print(np.array_equal(again, E), names[:2])

# %%
# In a :class:`~fute_sklearn.TaskMapDisplay` colour is the topic, shape the kind.
# Models of one topic lie together, whatever they are made of.
TaskMapDisplay.from_embeddings(
    E,
    tasks=[name for _, name in models],
    families=[kind for kind, _ in models],
    random_state=SEED,
)
plt.show()
