"""Models as they come, without an adapter of the user's.

Kinds whose library is not installed are skipped; `make test-models` installs them all.
"""

import copy
import functools
import json
import pickle
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from fute_sklearn import LabelParser, MTEWrapper, Task
from fute_sklearn.exceptions import ModelLabelError, ModelLabelWarning
from fute_sklearn.models._content_hash import content_hash

WORDS = "fine good joy best great".split(), "dull sad slow worse bad".split()


@pytest.fixture
def many():
    """Texts with the label of the words that they are made of."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 120)
    return [f"a {rng.choice(WORDS[c])} film {rng.choice(WORDS[c])}" for c in y], y


def named(y):
    return ["neg" if one else "pos" for one in y]


def right(task, y):
    return np.mean([a == b for a, b in zip(task.y, y, strict=True)])


def checked(model, texts, y, least=0.9, twice=True, **settings):
    """Label twice; the second time, the model must not be asked."""
    wrapper = MTEWrapper(model, **settings)
    task = wrapper.label(texts)
    assert right(task, y) >= least, (task.classes, task.y[:5])
    if twice:
        adapter = type(wrapper._model())
        original = adapter.answer
        adapter.answer = refuse
        try:
            again = MTEWrapper(model, **settings).label(texts)
        finally:
            adapter.answer = original
        assert list(again.y) == list(task.y)
    return task


def refuse(self, X, method):
    raise AssertionError("asked again")


# Functions ----------------------------------------------------------------------


def of_one(text: str) -> str:
    return "pos" if any(word in text for word in WORDS[0]) else "neg"


def of_list(texts: list[str]) -> list[str]:
    return [of_one(text) for text in texts]


class Callable:
    def __call__(self, texts):
        return np.array([of_one(text) for text in texts])


@pytest.mark.parametrize(
    "function",
    [
        of_one,
        of_list,
        Callable(),
        lambda text: "pos" if any(w in text for w in WORDS[0]) else "neg",
        lambda texts: [of_one(text) for text in texts],
        lambda text: {"label": of_one(text), "score": 0.9},
        lambda text: {"pos": 0.9, "neg": 0.1} if of_one(text) == "pos" else {"neg": 1},
    ],
)
def test_functions_of_a_text_and_of_a_list(function, many):
    texts, y = many
    task = checked(function, texts, named(y))
    assert task.n_samples == len(texts)


def test_a_function_of_a_text_is_asked_once_a_text(many):
    asked = []

    def function(text: str):
        asked.append(text)
        return of_one(text)

    MTEWrapper(function, fingerprint="counted").label(many[0])
    assert sorted(asked) == sorted(set(many[0]))


def test_scores_of_a_function(many):
    texts, _ = many
    model = MTEWrapper(
        lambda text: {"pos": 0.75, "neg": 0.25}, response_method="predict_proba"
    )
    np.testing.assert_allclose(model.label(texts).targets.proba[0], [0.25, 0.75])


# Answers that exist already -----------------------------------------------------


def test_answers_of_every_form(many, tmp_path):
    texts, y = many
    labels = named(y)
    by_text = dict(zip(texts, labels, strict=True))
    shuffled = np.random.default_rng(1).permutation(len(texts))
    table = pd.DataFrame({"text": texts, "label": labels}).iloc[shuffled]
    csv, jsonl, parquet = (tmp_path / f"bert.{s}" for s in ("csv", "jsonl", "parquet"))
    table.to_csv(csv, index=False)
    jsonl.write_text("\n".join(map(json.dumps, table.to_dict("records"))))
    table.to_parquet(parquet)
    forms = [
        by_text,
        labels,
        np.array(labels),
        pd.Series(labels),
        Task(texts, labels),
        table,
        table.rename(columns={"label": "prediction"}),
        csv,
        str(jsonl),
        parquet,
    ]
    for form in forms:
        task = MTEWrapper(form).label(texts)
        assert list(task.y) == labels, type(form)
        assert task.origin == "model"
    assert MTEWrapper(csv).model_name == "bert"
    assert list(MTEWrapper(by_text).label(texts[50:60]).y) == labels[50:60]


def test_answers_by_id(many):
    texts, y = many
    ids = [f"row {i}" for i in range(len(texts))]
    order = np.random.default_rng(1).permutation(len(texts))
    series = pd.Series(named(y), index=ids)
    asked = pd.Series(texts, index=ids).iloc[order]
    expected = [named(y)[i] for i in order]
    assert list(MTEWrapper(series).label(asked).y) == expected
    table = pd.DataFrame({"id": ids, "answer": named(y)})
    assert list(MTEWrapper(table).label(asked).y) == expected
    with pytest.raises(ModelLabelError, match="texts have none"):
        MTEWrapper(series).label(texts)


def test_answers_that_are_probabilities(many):
    texts, y = many
    proba = np.stack([y, 1 - y], 1) * 0.8 + 0.1
    table = pd.DataFrame(proba, columns=["neg", "pos"])
    soft = MTEWrapper(table, response_method="predict_proba").label(texts)
    np.testing.assert_allclose(soft.targets.proba, proba, rtol=1e-6)
    assert list(MTEWrapper(table).label(texts).y) == named(y)
    array = MTEWrapper(proba, response_method="predict_proba", classes=["neg", "pos"])
    np.testing.assert_allclose(array.label(texts).targets.proba, proba, rtol=1e-6)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (["pos"] * 3, "3 answers for 120 texts"),
        ({"another text": "pos"}, "no answer for 120 of 120 texts, joined by text"),
        (pd.DataFrame({"a": ["x"], "b": ["y"]}), r"the columns \['a', 'b'\]"),
        (np.full((120, 2), 0.5), "without names"),
        (
            pd.DataFrame({"text": ["first"] * 2, "label": ["pos", "neg"]}),
            r"twice for one text, and not the same: \['first'\]",
        ),
    ],
)
def test_answers_that_cannot_be_joined(form, message, many):
    with pytest.raises((ModelLabelError, ValueError), match=message):
        MTEWrapper(form).label(["first", *many[0][1:]])


def test_a_file_that_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"answers .*gone\.csv does not exist"):
        MTEWrapper(tmp_path / "gone.csv").label(["a text"])


# Labels -------------------------------------------------------------------------


def test_names_of_labels_in_the_order_of_classes(many):
    texts, y = many
    model = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, y)
    assert MTEWrapper(model).known_labels() == [0, 1]
    wrapper = MTEWrapper(model, label_names=["pos", "neg"])
    assert wrapper.known_labels() == ["pos", "neg"]
    assert right(wrapper.label(texts), named(y)) > 0.9
    with pytest.raises(ValueError, match="3 labels for the 2 classes"):
        MTEWrapper(model, label_names=["a", "b", "c"]).label(texts)


@pytest.mark.parametrize(
    ("answer", "take", "label"),
    [
        ("The answer is: positive.", "first", "positive"),
        ("POSITIVE", "only", "positive"),
        ("not negative but positive", "first", "negative"),
        ("not negative but positive", "last", "positive"),
        ("not negative but positive", "only", None),
        ("positively", "first", None),
        ("", "first", None),
    ],
)
def test_labels_in_sentences(answer, take, label):
    assert LabelParser(["positive", "negative"], take=take)(answer) == label


def test_words_that_stand_for_labels():
    parse = LabelParser({"e": ["true", "yes"], "c": ["not true", "no"], 3: "C++"})
    assert [
        parse(t) for t in ("Not true!", "it is true", "I like c++ best", "nor")
    ] == [
        "c",
        "e",
        3,
        None,
    ]
    with pytest.raises(ValueError, match="'Yes' for both"):
        LabelParser({"a": "yes", "b": ["Yes"]})("yes")
    with pytest.raises(ValueError, match="take='any'"):
        LabelParser(["a"], take="any")("a")


def test_another_parser_asks_the_model_no_more(many):
    texts, y = many
    asked = []

    def sentence(texts: list[str]):
        asked.extend(texts)
        return [f"I think it is {of_one(t)} or so." for t in texts]

    settings = {"fingerprint": "sentences", "abstentions": "keep"}
    first = LabelParser(["pos", "neg"])
    task = MTEWrapper(sentence, parser=first, **settings).label(texts)
    assert set(task.classes) == {"pos", "neg"}
    count = len(asked)
    other = LabelParser({"good": "pos"})
    task = MTEWrapper(sentence, parser=other, **settings).label(texts)
    assert set(task.classes) == {"good", "(abstained)"}
    assert (task.y == "(abstained)").sum() == y.sum()
    assert len(asked) == count


# Abstentions --------------------------------------------------------------------


def doubtful(texts: list[str]):
    return [None if "film fine" in text else of_one(text) for text in texts]


def test_abstentions_by_choice(many):
    texts, y = many
    count = sum("film fine" in text for text in texts)
    assert count > 1
    with pytest.raises(ModelLabelError, match=f"no answer to {count} of 120 texts"):
        MTEWrapper(doubtful).label(texts)
    with pytest.warns(ModelLabelWarning, match="dropped"):
        task = MTEWrapper(doubtful, abstentions="drop").label(texts)
    assert task.n_samples == len(texts) - count
    task = MTEWrapper(doubtful, abstentions="keep").label(texts)
    assert (task.y == "(abstained)").sum() == count
    task = MTEWrapper(of_list, abstentions="keep", abstention_label="neg").label(texts)
    assert (task.y == "(abstained)").sum() == y.sum()


def test_an_abstention_keeps_the_other_answers_of_its_portion(many):
    asked = []

    def counted(texts: list[str]):
        asked.append(len(texts))
        return doubtful(texts)

    for choice in ("raise", "keep"):
        wrapper = MTEWrapper(counted, abstentions=choice, fingerprint="counted")
        if choice == "raise":
            with pytest.raises(ModelLabelError):
                wrapper.label(many[0])
            before = list(asked)
        else:
            wrapper.label(many[0])
    assert asked == before
    assert sum(asked) == len(set(many[0]))


def test_rows_of_nan_are_abstentions(many):
    texts, _ = many

    def scores(texts: list[str]):
        return np.array([[np.nan] * 2 if "slow" in t else [0.2, 0.8] for t in texts])

    task = MTEWrapper(
        scores, response_method="predict_proba", classes=["a", "b"], abstentions="keep"
    ).label(texts)
    assert list(task.classes) == ["(abstained)", "a", "b"]
    slow = np.array(["slow" in text for text in texts])
    np.testing.assert_allclose(task.targets.proba[slow], [[1, 0, 0]] * slow.sum())
    np.testing.assert_allclose(task.targets.proba[~slow][0], [0, 0.2, 0.8], rtol=1e-6)


# Portions -----------------------------------------------------------------------


def test_more_texts_ask_for_those_only(many):
    asked = []

    def counted(texts: list[str]):
        asked.extend(texts)
        return of_list(texts)

    texts = sorted(set(many[0]))
    MTEWrapper(counted, fingerprint="more").label(texts[:20])
    assert asked == texts[:20]
    MTEWrapper(counted, fingerprint="more").label(texts[::-1])
    assert sorted(asked) == texts


def test_forecast_of_a_slow_model(many):
    import time

    def slow(texts: list[str]):
        time.sleep(0.05)
        return of_list(texts)

    texts = [f"{text} {i}" for i, text in enumerate(many[0])]
    wrapper = MTEWrapper(slow, batch_size=10, max_seconds=0.3, fingerprint="slow")
    with pytest.raises(
        ModelLabelError, match=r"more than max_seconds=0\.3; .* after 10"
    ):
        wrapper.label(texts)
    wrapper.set_params(max_seconds=100).label(texts)


def test_unknown_objects_are_refused_with_a_remedy():
    with pytest.raises(TypeError, match="object is no model that is known"):
        MTEWrapper(object()).label(["a text"])


def test_steps_of_a_vectorizer_and_a_model(many):
    texts, y = many
    count = CountVectorizer().fit(texts)
    head = LogisticRegression().fit(count.transform(texts), named(y))
    checked((count, head), texts, named(y))
    checked([count.transform, head], texts, named(y))


# torch and transformers ---------------------------------------------------------


@pytest.fixture
def bert(many, tmp_path):
    """A tiny BERT that was trained on the texts, with its tokenizer."""
    torch = pytest.importorskip("torch")
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

    words = sorted({word for text in many[0] for word in text.split()})
    vocabulary = tmp_path / "vocab.txt"
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary.write_text("\n".join([*special, *words]))
    tokenizer = BertTokenizer(str(vocabulary))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(special) + len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        id2label={0: "pos", 1: "neg"},
        label2id={"pos": 0, "neg": 1},
    )
    model = BertForSequenceClassification(config)
    inputs = tokenizer(many[0], padding=True, return_tensors="pt")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        model(**inputs, labels=torch.tensor(many[1])).loss.backward()
        optimizer.step()
    return model, tokenizer


def test_models_that_classify_sequences(bert, many):
    model, tokenizer = bert
    texts, y = many
    model.train()
    task = checked(model, texts, named(y), tokenizer=tokenizer)
    assert list(task.classes) == ["neg", "pos"]
    assert model.training  # left as it was
    soft = MTEWrapper(
        model, tokenizer=tokenizer, response_method="predict_proba"
    ).label(texts)
    assert soft.targets.proba.max() < 1
    with pytest.raises(ValueError, match="give the tokenizer"):
        MTEWrapper(model).label(texts)
    # A changed weight is another model.
    before = MTEWrapper(model, tokenizer=tokenizer).label(texts)
    model.classifier.weight.data.neg_()
    model.classifier.bias.data.neg_()
    after = MTEWrapper(model, tokenizer=tokenizer).label(texts)
    assert right(after, before.y) < 0.1


def test_pipelines_that_classify(bert, many):
    from transformers import pipeline

    model, tokenizer = bert
    texts, y = many
    pipe = pipeline("text-classification", model=model, tokenizer=tokenizer)
    checked(pipe, texts, named(y))
    soft = MTEWrapper(pipe, response_method="predict_proba").label(texts)
    direct = MTEWrapper(
        model, tokenizer=tokenizer, response_method="predict_proba"
    ).label(texts)
    np.testing.assert_allclose(soft.targets.proba, direct.targets.proba, atol=1e-5)
    assert MTEWrapper(pipe).known_labels() == ["pos", "neg"]


def test_pipelines_of_zero_shot_classification(bert, many):
    from transformers import pipeline

    model, tokenizer = bert
    model.config.id2label = {0: "contradiction", 1: "entailment"}
    model.config.label2id = {"contradiction": 0, "entailment": 1}
    pipe = pipeline("zero-shot-classification", model=model, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="classes="):
        MTEWrapper(pipe).label(many[0])
    task = MTEWrapper(pipe, classes=["good", "bad"]).label(many[0][:8])
    assert list(task.classes) == ["bad", "good"]


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_models_of_peft(bert, many):
    peft = pytest.importorskip("peft")
    model, tokenizer = bert
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query"])
    checked(
        peft.get_peft_model(model, config), many[0], named(many[1]), tokenizer=tokenizer
    )


def test_models_that_generate(many, save_t5):
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = save_t5()
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    settings = {"abstentions": "keep", "parser": LabelParser(["pos", "neg"])}
    task = MTEWrapper(model, tokenizer=tokenizer, **settings).label(many[0][:8])
    assert "(abstained)" in list(task.classes)
    with pytest.raises(ValueError, match="give its tokenizer"):
        MTEWrapper(model).label(many[0])


def test_a_torch_module_with_a_function_that_makes_its_inputs(many):
    torch = pytest.importorskip("torch")
    texts, y = many
    words = sorted({word for text in texts for word in text.split()})

    def collate(texts):
        counts = [[text.split().count(word) for word in words] for text in texts]
        return torch.tensor(counts, dtype=torch.float32)

    torch.manual_seed(0)
    for width in (1, 2):
        net = torch.nn.Sequential(
            torch.nn.Linear(len(words), 8), torch.nn.Dropout(0.5), torch.nn.ReLU()
        )
        net.append(torch.nn.Linear(8, width))
        optimizer = torch.optim.AdamW(net.parameters(), lr=0.05)
        for _ in range(40):
            optimizer.zero_grad()
            logits = net(collate(texts))
            if width == 1:
                loss = torch.nn.functional.binary_cross_entropy_with_logits(
                    logits[:, 0], torch.tensor(y, dtype=torch.float32)
                )
            else:
                loss = torch.nn.functional.cross_entropy(logits, torch.tensor(y))
            loss.backward()
            optimizer.step()
        checked(net, texts, named(y), tokenizer=collate, classes=["pos", "neg"])
        numbered = MTEWrapper(net, tokenizer=collate, label_names={0: "pos", 1: "neg"})
        assert right(numbered.label(texts), named(y)) > 0.9


# Other libraries ----------------------------------------------------------------


def test_spacy(many):
    spacy = pytest.importorskip("spacy")
    from spacy.training import Example

    texts, y = many
    nlp = spacy.blank("en")
    textcat = nlp.add_pipe("textcat")
    for label in ("pos", "neg"):
        textcat.add_label(label)
    examples = [
        Example.from_dict(nlp.make_doc(t), {"cats": {"pos": 1 - c, "neg": c}})
        for t, c in zip(texts, y.tolist(), strict=True)
    ]
    nlp.initialize(lambda: examples)
    for _ in range(10):
        nlp.update(examples)
    checked(nlp, texts, named(y))
    assert MTEWrapper(nlp).known_labels() == ["pos", "neg"]
    with pytest.raises(ValueError, match="has no textcat"):
        MTEWrapper(spacy.blank("en")).label(texts)


def test_fasttext(many, tmp_path):
    fasttext = pytest.importorskip("fasttext")
    texts, y = many
    lines = [f"__label__{n} {t}" for t, n in zip(texts, named(y), strict=True)]
    (tmp_path / "train.txt").write_text("\n".join(lines))
    model = fasttext.train_supervised(
        str(tmp_path / "train.txt"), epoch=50, lr=1.0, dim=8, verbose=0, thread=1
    )
    checked(model, texts, named(y))
    soft = MTEWrapper(model, response_method="predict_proba").label(texts)
    assert soft.targets.proba.shape == (len(texts), 2)


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
@pytest.mark.parametrize("units", [1, 2])
def test_keras(many, units, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    texts, y = many
    count = CountVectorizer().fit(texts)

    def features(texts):
        return count.transform(texts).toarray().astype("float32")

    last = {"activation": "sigmoid" if units == 1 else "softmax"}
    model = keras.Sequential([keras.layers.Dense(units, **last)])
    loss = "binary_crossentropy" if units == 1 else "sparse_categorical_crossentropy"
    model.compile(optimizer=keras.optimizers.Adam(0.1), loss=loss)
    model.fit(features(texts), y, epochs=30, verbose=0)
    checked(model, texts, named(y), tokenizer=features, classes=["pos", "neg"])


def test_onnxruntime(many):
    onnxruntime = pytest.importorskip("onnxruntime")
    skl2onnx = pytest.importorskip("skl2onnx")
    from skl2onnx.common.data_types import StringTensorType

    texts, y = many
    tfidf = TfidfVectorizer(lowercase=False)  # lower case needs a locale
    model = make_pipeline(tfidf, LogisticRegression()).fit(texts, named(y))
    graph = skl2onnx.convert_sklearn(
        model, initial_types=[("text", StringTensorType([None, 1]))]
    )
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    checked(session, texts, named(y))
    soft = MTEWrapper(session, response_method="predict_proba").label(texts)
    np.testing.assert_allclose(
        soft.targets.proba, model.predict_proba(texts), atol=1e-4
    )


def test_catboost(many, tmp_path):
    catboost = pytest.importorskip("catboost")
    texts, y = many
    model = catboost.CatBoostClassifier(
        iterations=20, text_features=[0], verbose=False, allow_writing_files=False
    )
    model.fit([[text] for text in texts], named(y))
    checked(model, texts, named(y))
    told = content_hash(model)
    path = tmp_path / "model.cbm"
    model.save_model(str(path))
    loaded = catboost.CatBoostClassifier().load_model(str(path))
    for same in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), loaded):
        assert content_hash(same) == told
    found = {told}
    for change in (
        lambda one: one.set_probability_threshold(0.9),
        lambda one: one.set_scale_and_bias(1.0, [2.0]),
        lambda one: one.shrink(5),
        lambda one: one.fit([[text] for text in texts], named(y)[::-1]),
    ):
        other = copy.deepcopy(model)
        change(other)
        found.add(content_hash(other))
    assert len(found) == 5


def test_boosters_behind_a_vectorizer(many):
    xgboost = pytest.importorskip("xgboost")
    lightgbm = pytest.importorskip("lightgbm")
    texts, y = many
    count = CountVectorizer(dtype=np.float32).fit(texts)
    X = count.transform(texts)
    sets = {"classes": ["pos", "neg"]}
    booster = xgboost.train(
        {"objective": "binary:logistic"}, xgboost.DMatrix(X, y), num_boost_round=10
    )
    checked((count, booster), texts, named(y), **sets)
    settings = {"objective": "binary", "verbose": -1, "min_data_in_leaf": 2}
    booster = lightgbm.train(settings, lightgbm.Dataset(X, y), num_boost_round=30)
    checked((count, booster), texts, named(y), **sets)
    model = make_pipeline(count, xgboost.XGBClassifier(n_estimators=10)).fit(texts, y)
    checked(model, texts, named(y), label_names=["pos", "neg"])


def test_skorch(many):
    skorch = pytest.importorskip("skorch")
    import torch

    texts, y = many
    count = CountVectorizer(dtype=np.float32).fit(texts)
    torch.manual_seed(0)
    net = skorch.NeuralNetClassifier(
        torch.nn.Linear(len(count.vocabulary_), 2),
        criterion=torch.nn.CrossEntropyLoss,
        max_epochs=30,
        lr=0.5,
        verbose=0,
        train_split=None,
    )
    net.fit(count.transform(texts).toarray(), y)
    model = (count, lambda X: X.toarray(), net)
    checked(model, texts, named(y), label_names=["pos", "neg"])


def test_langchain(many):
    runnables = pytest.importorskip("langchain_core.runnables")
    texts, y = many
    checked(runnables.RunnableLambda(of_one), texts, named(y))


def test_sentence_encoders_with_a_head(many):
    """Anything with `encode`, as SentenceTransformer has it."""

    class Encoder:
        def encode(self, texts):
            return np.array([[t.count(w) for w in sum(WORDS, [])] for t in texts])

    texts, y = many
    head = LogisticRegression().fit(Encoder().encode(texts), named(y))
    checked((Encoder(), head), texts, named(y))


def test_no_library_is_imported_by_the_table():
    import subprocess

    code = (
        "import sys; from fute_sklearn import MTEWrapper\n"
        "def f(text: str): return text[0]\n"
        "MTEWrapper(f).label(['a', 'b'])\n"
        "print([m for m in ('torch', 'transformers', 'spacy', 'keras', 'xgboost', "
        "'onnxruntime', 'langchain_core', 'catboost') if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


# Found by a reader who tried to break it ----------------------------------------


def test_functions_whose_answers_look_like_a_list(many):
    texts = many[0]
    assert MTEWrapper(lambda text: [0.9, 0.1][: len(text)][0]).label(texts[:2]).y[0]

    def scores(text):
        return {"pos": 0.9, "neg": 0.1} if of_one(text) == "pos" else {"neg": 1.0}

    assert list(MTEWrapper(scores).label(texts[:2]).y) == [of_one(t) for t in texts[:2]]


def test_a_list_function_that_fails_once_stays_one(many):
    calls = []

    def flaky(texts):
        calls.append(texts)
        if len(calls) == 1:
            raise ConnectionError("busy")
        return [1 if "f" in text else 0 for text in texts]

    wrapper = MTEWrapper(flaky, fingerprint="flaky", kind="label")
    with pytest.raises(ModelLabelError, match="busy"):
        wrapper.label(many[0])
    assert set(wrapper.label(many[0]).y) <= {0, 1}


def test_pipelines_with_settings_of_their_own_are_others(bert, many):
    from transformers import pipeline

    model, tokenizer = bert
    soft, sigmoid = (
        pipeline("text-classification", model=model, tokenizer=tokenizer, **settings)
        for settings in ({}, {"function_to_apply": "sigmoid"})
    )
    first, second = MTEWrapper(soft)._model(), MTEWrapper(sigmoid)._model()
    assert content_hash(first.hashed) != content_hash(second.hashed)


def test_rows_of_nan_among_scores_are_abstentions(many):
    table = pd.DataFrame({"neg": [0.1, np.nan], "pos": [0.9, np.nan]})
    task = MTEWrapper(table, abstentions="keep").label(many[0][:2])
    assert list(task.y) == ["pos", "(abstained)"]


def test_a_parser_that_fails_is_named(many):
    with pytest.raises(ModelLabelError, match="parser raised KeyError"):
        MTEWrapper(of_list, parser=lambda answer: {}[answer]).label(many[0])


def optional(text: str | None) -> str:
    return of_one(text)


def iterated(texts: "Iterable[str]") -> list:  # noqa: F821 - no such name here
    return [of_one(text) for text in texts]


def broken(texts: "list[") -> list:  # noqa: F722
    return [of_one(text) for text in texts]


@pytest.mark.parametrize("function", [optional, iterated, broken])
def test_any_type_hint(function, many):
    checked(function, many[0], named(many[1]), twice=False)


class Awaited:
    async def __call__(self, texts):
        return texts


async def awaited(text):
    return text


@pytest.mark.parametrize("model", [Awaited(), awaited, functools.partial(awaited)])
def test_async_functions_are_refused_with_a_remedy(model, many):
    with pytest.raises(TypeError, match=r"async function.*asyncio.run"):
        MTEWrapper(model).label(many[0])


def test_scores_by_label_in_any_order(many):
    """Also from portion to portion, with labels that are missing, and with none."""
    texts, _ = many
    good = np.array([of_one(text) == "pos" for text in texts])

    def scores(text: str):
        if text == texts[-1]:
            return None
        if of_one(text) == "pos":
            return {"pos": 0.75, "neg": 0.25}
        return {"neg": 1.0}

    with pytest.warns(ModelLabelWarning, match="gave no answer"):
        task = MTEWrapper(
            scores, response_method="predict_proba", abstentions="drop", batch_size=1
        ).label(texts)
    rows = [i for i, text in enumerate(texts) if text != texts[-1]]
    wanted = np.where(good[rows], 0.75, 0.0)
    column = task.classes.tolist().index("pos")
    np.testing.assert_allclose(task.targets.proba[:, column], wanted)


def test_settings_that_would_be_ignored_are_refused(many):
    def scores(text: str):
        return {"pos": 0.75, "neg": 0.25}

    for setting in ({"parser": LabelParser(["a", "b"])}, {"abstention_label": "neg"}):
        with pytest.raises(ValueError, match="response_method='predict_proba'"):
            MTEWrapper(scores, response_method="predict_proba", **setting).label(
                many[0]
            )
    with pytest.raises(ValueError, match="has no classes"):
        MTEWrapper(len, kind="number", abstentions="keep").label(many[0])


def test_the_label_of_abstentions_is_none_of_the_classes(many):
    texts, _ = many
    model = make_pipeline(CountVectorizer(), LogisticRegression())
    model.fit(texts[:3] + ["what"], ["pos", "neg", "pos", "unsure"])
    wrapper = MTEWrapper(model, abstention_label="unsure", abstentions="keep")
    assert wrapper.known_labels() == ["neg", "pos"]
    assert "unsure" not in wrapper.label([*texts, "what"]).classes.tolist()


def test_functions_that_call_a_server_as_openai_does(many):
    """The client is a part that cannot be hashed; answers are messages."""

    class Message:
        def __init__(self, content):
            self.content = content

    class Client:
        def __init__(self):
            self.lock, self.asked = threading.local(), 0

        def create(self, model, messages):
            self.asked += 1
            return Message(f"The answer is: {of_one(messages[-1]['content'])}.")

    client = Client()

    def gpt(text: str):
        return client.create("gpt", [{"role": "user", "content": text}])

    texts, y = many
    parser = LabelParser(["pos", "neg"])
    wrapper = MTEWrapper(gpt, parser=parser, fingerprint="gpt v1")
    assert right(wrapper.label(texts), named(y)) == 1
    asked = client.asked
    MTEWrapper(gpt, parser=parser, fingerprint="gpt v1").label(texts)
    assert client.asked == asked


def test_threads_that_share_a_net_leave_it_as_it_was(many):
    """A thread that ends does not switch dropout on for one that goes on."""
    torch = pytest.importorskip("torch")
    from fute_sklearn.models.adapters._torch_models import _evaluation

    encoder = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Dropout())
    nets = [torch.nn.Sequential(encoder, torch.nn.Linear(2, 2)) for _ in range(2)]
    nets[1][1].eval()
    inside, leave = threading.Event(), threading.Event()

    def ask():
        with _evaluation(nets[0]):
            inside.set()
            leave.wait()

    thread = threading.Thread(target=ask)
    thread.start()
    inside.wait()
    with _evaluation(nets[1]):
        leave.set()
        thread.join()
        assert nets[0].training
        assert not encoder[1].training
    assert encoder[1].training
    assert not nets[1][1].training
