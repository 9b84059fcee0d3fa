"""Students leave the house: stock transformers and peft give the same."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from fute_sklearn import (
    MomentEmbedder,
    StudentClassifier,
    StudentGenerator,
    StudentRegressor,
    TaskEmbedder,
    TuPaTEEmbedder,
)
from fute_sklearn.testing import TINY_SURROGATE as TINY


def stock_proba(model, tokenizer, texts, words):
    """Probabilities of single-token labels, by a plain pass of a stock model."""
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    start = torch.zeros(len(texts), 1, dtype=torch.long)
    with torch.no_grad():
        logits = model.eval()(**batch, decoder_input_ids=start).logits[:, 0]
    ids = [tokenizer(word, add_special_tokens=False).input_ids[0] for word in words]
    return torch.softmax(logits[:, ids], -1).numpy()


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own
@pytest.mark.parametrize("surrogate", [TINY, "fute-mini"])
def test_low_rank_students_are_adapters_of_peft(surrogate, texts, labels, tmp_path):
    from peft import PeftModel

    y = ["b" if label == "pos" else "a" for label in labels]
    est = TuPaTEEmbedder(surrogate, max_epochs=3, learning_rate=0.05).fit(texts, y)
    folder = tmp_path / "student"
    est.student_.save_pretrained(folder)
    base = AutoModelForSeq2SeqLM.from_pretrained(folder / "base")
    tokenizer = AutoTokenizer.from_pretrained(folder / "base")
    plain = stock_proba(base, tokenizer, texts, "ab")
    model = PeftModel.from_pretrained(base, folder)
    own = est.student_.predict_proba(texts)
    np.testing.assert_allclose(
        stock_proba(model, tokenizer, texts, "ab"), own, atol=1e-4
    )
    assert np.abs(plain - own).max() > 1e-3, "the adapter must count"
    again = StudentClassifier.from_pretrained(folder)
    assert list(again.classes_) == ["a", "b"]
    np.testing.assert_allclose(again.predict_proba(texts), own, atol=1e-6)
    assert again.score(texts, y) == est.student_.score(texts, y)


def test_fine_tuned_students_are_stock_models(texts, labels, tmp_path):
    y = ["b" if label == "pos" else "a" for label in labels]
    for how in ("full", "head", "none"):
        est = TaskEmbedder(TINY, fine_tuning=how, max_epochs=2, learning_rate=0.01)
        est.fit(texts, y)
        est.student_.save_pretrained(tmp_path / how)
        model = AutoModelForSeq2SeqLM.from_pretrained(tmp_path / how)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / how)
        own = est.student_.predict_proba(texts)
        found = stock_proba(model, tokenizer, texts, "ab")
        np.testing.assert_allclose(found, own, atol=1e-4)
        again = StudentClassifier.from_pretrained(tmp_path / how)
        np.testing.assert_allclose(again.predict_proba(texts), own, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_the_type_comes_back(dtype, texts, labels, tmp_path):
    est = TuPaTEEmbedder("fute-mini", max_epochs=1, dtype=dtype).fit(texts, labels)
    est.student_.save_pretrained(tmp_path)
    again = StudentClassifier.from_pretrained(tmp_path)
    assert again.embedder.dtype == dtype
    own = est.student_.predict_proba(texts)
    np.testing.assert_allclose(again.predict_proba(texts), own, atol=1e-6)


def test_other_kinds_and_label_types_come_back(texts, tmp_path):
    est = TuPaTEEmbedder(TINY, max_epochs=1)
    numbers = est.fit(texts, np.linspace(0.25, 2, 8)).student_
    numbers.save_pretrained(tmp_path / "numbers")
    again = StudentRegressor.from_pretrained(tmp_path / "numbers")
    np.testing.assert_allclose(again.predict(texts), numbers.predict(texts), rtol=1e-5)
    written = est.fit(texts, [f"word {i}" for i in range(8)], kind="text").student_
    written.save_pretrained(tmp_path / "texts")
    other = StudentGenerator.from_pretrained(tmp_path / "texts")
    assert other.predict(texts).tolist() == written.predict(texts).tolist()
    whole = est.fit(texts, [3, 10] * 4).student_
    whole.save_pretrained(tmp_path / "labels")
    classes = StudentClassifier.from_pretrained(tmp_path / "labels").classes_
    assert classes.tolist() == whole.classes_.tolist() == [10, 3]


def test_what_cannot_leave_says_why(texts, labels, tmp_path):
    for tuning in ("prompt", "bias"):
        est = TuPaTEEmbedder(TINY, tuning=tuning, max_epochs=1).fit(texts, labels)
        with pytest.raises(NotImplementedError, match="tuning='lora'"):
            est.student_.save_pretrained(tmp_path / tuning)
    moment = MomentEmbedder(TINY, reference=texts).fit(texts, labels)
    with pytest.raises(NotImplementedError, match="no tuned T5"):
        moment.student_.save_pretrained(tmp_path / "moment")


def test_what_is_no_student_is_refused(texts, labels, tmp_path):
    with pytest.raises(FileNotFoundError, match="no student"):
        StudentClassifier.from_pretrained(tmp_path)
    est = TuPaTEEmbedder(TINY, max_epochs=1).fit(texts, labels)
    est.student_.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a StudentClassifier"):
        StudentRegressor.from_pretrained(tmp_path)
    assert json.loads((tmp_path / "student.json").read_text())["kind"] == "label"
