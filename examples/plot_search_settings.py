"""
Grid search over the surrogate's settings
=========================================

A student is a classifier like any other, so that its embedder's settings are found by
:class:`~sklearn.model_selection.GridSearchCV`: here the ridge's penalty and the number
of tokens that the surrogate reads of each text.
"""

# %%
# Real posts about one topic.
import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.model_selection import GridSearchCV

from fute_sklearn import MomentEmbedder, StudentClassifier
from fute_sklearn.datasets import load_opinion_domains
from fute_sklearn.exceptions import TruncationWarning

domains, _ = load_opinion_domains()
name, task = max(domains.items(), key=lambda pair: pair[1].n_samples)
rows = np.random.default_rng(0).permutation(task.n_samples)[:1200]
X, y = [task.texts[i] for i in rows], task.y[rows]
print(f"{name}: {len(X)} posts, {np.mean(y == 'positive'):.0%} positive")

# %%
# Texts are encoded once for each length, whatever is searched beside it.  Long texts
# are cut here on purpose.
warnings.simplefilter("ignore", TruncationWarning)
grid = {
    "embedder__alpha": [0.01, 0.03, 0.1, 0.3, 1.0, 3.0],
    "embedder__max_length": [8, 16, 32],
}
student = StudentClassifier(MomentEmbedder())
search = GridSearchCV(student, grid, cv=5, scoring="balanced_accuracy").fit(X, y)
print(search.best_params_, f"{search.best_score_:.3f}")

# %%
# Means over the folds with their standard errors; guessing has .5.
found = search.cv_results_
figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
colours = ["#56B4E9", "#009E73", "#D55E00"]
styles = zip(grid["embedder__max_length"], colours, "osv", strict=True)
for length, colour, marker in styles:
    here = found["param_embedder__max_length"] == length
    ax.errorbar(
        found["param_embedder__alpha"][here].astype(float),
        found["mean_test_score"][here],
        found["std_test_score"][here] / np.sqrt(5),
        color=colour,
        marker=marker,
        capsize=3,
        label=f"{length} tokens",
    )
ax.axhline(0.5, color="black", linestyle=":", label="guessing")
ax.set(xscale="log", xlabel="alpha, the ridge's penalty", ylabel="balanced accuracy")
ax.legend(title="read of each text", loc="center left", bbox_to_anchor=(0, 0.3))
plt.show()
