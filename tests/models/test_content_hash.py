"""Models are told apart by state and loaded code, the same in every process."""

import functools
import importlib
import json
import os
import subprocess
import sys
import textwrap
import threading
import time
import zipfile

import pytest
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from fute_sklearn import MTEWrapper
from fute_sklearn.exceptions import UnknownModelWarning
from fute_sklearn.models._content_hash import content_hash, content_mark
from tests.forked import run_forked

HELPER = "WORDS = {'good'}\n\ndef answer(x):\n    return 'a'\n"
DEEP = "def deep(x):\n    return 'a'\n"
LAZY = "def late(x):\n    return 'a'\n"
BASE = (
    "import helper_mod\n"
    "from deep_mod import deep\n\n"
    "class Base:\n"
    "    ANSWER = 'a'\n\n"
    "    def predict(self, X):\n"
    "        return [self.one(x) for x in X]\n"
)
MODEL = (
    "import logging\nimport threading\n\n"
    "from base_mod import Base, deep, helper_mod\n\n"
    "LOCK = threading.Lock()\n"
    "LOG = logging.getLogger(__name__)\n"
    "THRESHOLD = 0.5\n\n"
    "def decorated(function):\n"
    "    def inner(*args):\n"
    "        return function(*args)\n"
    "    return inner\n\n"
    "class Model(Base):\n"
    "    @decorated\n"
    "    def one(self, x):\n"
    "        with LOCK:\n"
    "            LOG.debug('asked')\n"
    "            from lazy_mod import late\n"
    "        known = x in {'u', 'v', 'w'} or x in helper_mod.WORDS or THRESHOLD > 1\n"
    "        if known:\n"
    "            return helper_mod.answer(x)\n"
    "        return deep(x) + late(x) + self.ANSWER\n"
)
FILES = {
    "helper_mod": HELPER,
    "deep_mod": DEEP,
    "lazy_mod": LAZY,
    "base_mod": BASE,
    "model_mod": MODEL,
}
ASK = (
    "import model_mod\n"
    "from fute_sklearn.models._content_hash import content_hash\n"
    "print(content_hash(model_mod.Model()))\n"
)


def mark(model):
    return content_mark(model)[0]


def write(folder, **changes):
    for name, body in FILES.items():
        (folder / f"{name}.py").write_text(changes.get(name, body))


def hash_in_new_process(folder, code=ASK, seed=None, **options):
    if seed is None and not options:
        return run_forked(code, path=[folder])[0].split()[-1]
    seed = "random" if seed is None else seed
    found = subprocess.run(
        [sys.executable, *options.pop("how", ("-c", code))],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": str(seed)},
        **options,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.split()[-1]


CHANGES = {
    "helper_mod": HELPER.replace("'a'", "'b'"),
    "deep_mod": DEEP.replace("'a'", "'b'"),
    "lazy_mod": LAZY.replace("'a'", "'b'"),
    "base_mod": BASE.replace("'a'", "'b'"),
    "model_mod": MODEL.replace("0.5", "2.5"),
}


@pytest.mark.parametrize("edited", [*CHANGES, "words", "decorator"])
def test_an_edit_of_anything_it_runs_is_another_model(edited, tmp_path):
    write(tmp_path)
    before = hash_in_new_process(tmp_path)
    assert before != "None"
    if edited == "words":
        write(tmp_path, helper_mod=HELPER.replace("{'good'}", "{'fine'}"))
    elif edited == "decorator":
        write(
            tmp_path, model_mod=MODEL.replace("function(*args)", "function(*args)[1:]")
        )
    else:
        write(tmp_path, **{edited: CHANGES[edited]})
    assert hash_in_new_process(tmp_path) != before


def test_the_order_of_sets_is_no_part_of_a_model(tmp_path):
    write(tmp_path)
    before = hash_in_new_process(tmp_path, seed=1)
    assert before == hash_in_new_process(tmp_path, seed=2) != "None"


def test_comments_and_places_are_no_part_of_a_model(tmp_path):
    write(tmp_path)
    before = hash_in_new_process(tmp_path)
    write(tmp_path, model_mod="# a remark\n\n\n" + MODEL)
    assert hash_in_new_process(tmp_path) == before


@pytest.fixture
def loaded(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    importlib.import_module("lazy_mod")
    yield importlib.import_module("model_mod")
    for name in FILES:
        sys.modules.pop(name, None)


def test_what_is_loaded_counts_not_what_lies_on_disk(loaded, tmp_path, texts):
    """An edit while a session runs must not file old answers under new code."""
    before = content_hash(loaded.Model())
    write(tmp_path, **CHANGES)
    assert content_hash(loaded.Model()) == before
    first = MTEWrapper(loaded.Model(), classes=["aaa", "abb"]).label(texts)
    assert set(first.y) == {"aaa"}
    for name in ("model_mod", "base_mod", "lazy_mod", "deep_mod", "helper_mod"):
        del sys.modules[name]
    importlib.invalidate_caches()
    for name in FILES:
        cached = importlib.util.cache_from_source(str(tmp_path / f"{name}.py"))
        if os.path.exists(cached):
            os.remove(cached)
    again = importlib.import_module("model_mod")
    assert content_hash(again.Model()) != before
    second = MTEWrapper(again.Model(), classes=["b", "aaa"]).label(texts)
    assert set(second.y) == {"b"}


def test_patched_code_and_constants_are_another_model(loaded, monkeypatch):
    before = content_hash(loaded.Model())
    monkeypatch.setattr(loaded, "THRESHOLD", 2.0)
    assert content_hash(loaded.Model()) != before
    monkeypatch.undo()
    monkeypatch.setattr(sys.modules["helper_mod"], "answer", lambda x: "c")
    assert content_hash(loaded.Model()) != before


CLASS = """
class Own:
    def predict(self, X):
        return ["a" for x in X]

from fute_sklearn import MTEWrapper
from fute_sklearn.models._content_hash import content_hash
MTEWrapper(Own()).label(["one", "two"])
print(content_hash(Own()))
"""


def test_classes_from_stdin_a_zip_and_a_notebook_cell(tmp_path):
    read = hash_in_new_process(tmp_path, how=("-",), input=CLASS)
    assert read == hash_in_new_process(tmp_path, how=("-",), input=CLASS) != "None"
    other = CLASS.replace('"a"', '"b"')
    assert hash_in_new_process(tmp_path, how=("-",), input=other) != read
    cell = f"exec(compile({CLASS!r}, '<ipython-input-1>', 'exec'))"
    assert hash_in_new_process(tmp_path, cell) != "None"
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("zipped.py", CLASS)
    assert hash_in_new_process(tmp_path / "all.zip", "import zipped") != "None"


FITTED = textwrap.dedent(
    """
    from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from fute_sklearn.models._content_hash import content_hash
    X, y = ["one good", "two bad", "three good"], [0, 1, 0]
    for vectorizer in (
        CountVectorizer(stop_words="english"),
        TfidfVectorizer(stop_words=["one", "two"], ngram_range=(1, 2)),
        TfidfVectorizer(),
    ):
        model = make_pipeline(vectorizer, LogisticRegression()).fit(X, y)
        print(content_hash(model), end="-")
    """
)


def test_fitted_vectorizers_hash_alike_in_every_process(tmp_path):
    first = hash_in_new_process(tmp_path, FITTED, seed=1)
    assert "None" not in first
    assert first == hash_in_new_process(tmp_path, FITTED, seed=2)


@pytest.mark.parametrize("vectorizer", [CountVectorizer(), TfidfVectorizer()])
def test_other_stop_words_are_another_model(vectorizer, texts, labels):
    model = make_pipeline(vectorizer, LogisticRegression()).fit(texts, labels)
    before = content_hash(model)
    assert content_hash(model.fit(texts, labels)) == before
    model.set_params(**{f"{model.steps[0][0]}__stop_words": ["fine"]})
    assert content_hash(model.fit(texts, labels)) != before


def test_what_cannot_be_hashed_is_known_by_identity(texts):
    import threading

    local = threading.local()

    class Local:
        def predict(self, X):
            return ["a" if local else "b" for x in X]

    assert content_hash(Local()) is None
    with pytest.warns(UnknownModelWarning):
        task = MTEWrapper(Local(), classes=["a", "b"]).label(texts)
    assert task.n_samples == len(texts)


def test_functions_and_closures_are_part_of_a_model():
    def make(word):
        class Closed:
            def predict(self, X):
                return [word in x for x in X]

        return Closed

    globals()["Closed"] = first = make("fine")
    first.__qualname__ = "Closed"
    before = content_hash(first())
    globals()["Closed"] = second = make("dull")
    second.__qualname__ = "Closed"
    assert None not in (before, content_hash(second()))
    assert content_hash(second()) != before
    del globals()["Closed"]


def test_every_kind_of_callable_is_looked_into(loaded):
    """What wraps code shows the code: partials, bound methods, caches, properties."""
    import functools

    def changed(make):
        hashes = set()
        for answer in ("a", "b"):
            names = {"functools": functools}
            exec(f"def say(x):\n    return {answer!r}\n", names)
            names["say"].__module__ = __name__
            globals()["say"] = names["say"]
            hashes.add(content_hash(make(names["say"])))
        return len(hashes) == 2 and None not in hashes

    def with_class(**body):
        def make(say):
            cls = type("Made", (), {k: v(say) for k, v in body.items()})
            cls.__module__, cls.__qualname__ = __name__, "Made"
            globals()["Made"] = cls
            return cls()

        return make

    assert changed(with_class(predict=lambda say: staticmethod(say)))
    assert changed(with_class(predict=lambda say: functools.lru_cache(say)))
    assert changed(with_class(predict=lambda say: property(say)))
    assert changed(with_class(table=lambda say: {"yes": say}))
    assert changed(with_class(predict=lambda say: functools.wraps(say)(lambda x: say)))


def test_compiled_modules_count_by_their_file(tmp_path):
    import types

    from fute_sklearn.models._code_hash import CodeHasher, Unknowable
    from fute_sklearn.models._content_hash import state_hash

    module = types.ModuleType("compiled_by_me")
    module.__file__ = str(tmp_path / "compiled_by_me.so")
    found = set()
    for content in (b"one", b"two"):
        (tmp_path / "compiled_by_me.so").write_bytes(content)
        found.add(CodeHasher(state_hash, None).digest([module]))
    assert len(found) == 2
    module.__file__ = str(tmp_path / "gone.so")
    with pytest.raises(Unknowable):
        CodeHasher(state_hash, None).digest([module])


def test_relative_and_missing_imports_inside_functions(tmp_path):
    package = tmp_path / "packed"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "part.py").write_text("def say(x):\n    return 'a'\n")
    (package / "model.py").write_text(
        "class Model:\n"
        "    def predict(self, X):\n"
        "        from . import part\n"
        "        try:\n"
        "            import no_such_module_anywhere\n"
        "        except ImportError:\n"
        "            pass\n"
        "        return [part.say(x) for x in X]\n"
    )
    ask = ASK.replace("import model_mod", "from packed import model as model_mod")
    before = hash_in_new_process(tmp_path, ask)
    assert before == hash_in_new_process(tmp_path, ask) != "None"
    (package / "part.py").write_text("def say(x):\n    return 'b'\n")
    assert hash_in_new_process(tmp_path, ask) != before


def test_bfloat16_and_wrapped_functions_have_a_state():
    import functools

    torch = pytest.importorskip("torch")
    half = torch.nn.Linear(2, 2).to(torch.bfloat16)
    before = content_hash(half)
    assert before is not None
    with torch.no_grad():
        half.weight += 1
    assert content_hash(half) != before
    assert content_hash(functools.partial(len)) is not None


ALL_IN_ONE = """
import json, sys, types
from fute_sklearn.models._content_hash import content_hash
found = {}
for i, (name, body) in enumerate(json.load(open("edits.json")).items()):
    module = sys.modules[f"edited{i}"] = types.ModuleType(f"edited{i}")
    module.run = sys.argv[1]
    exec(compile(body, f"edited{i}", "exec"), vars(module))
    found[name] = content_hash(module.Rule())
print(json.dumps(found))
"""
PREDICT = "class Rule:\n    def predict(self, X): return [{} for x in X]\n"
OVER = (
    "def over(k):\n    def test(x): return len(x) > k\n    return test\n"
    "hi, lo = (over(20), over(5)) if run == '1' else (over(5), over(20))\n"
)
EDITS = {
    "closures swapped": OVER + PREDICT.format("hi(x) or lo(x)"),
    "lambdas swapped": "f, g = (lambda x: 1, lambda x: 2)[:: 1 if run == '1' else -1]\n"
    + PREDICT.format("f(x) - g(x)"),
    "lambdas of a class swapped": "class Rule:\n"
    "    f, g = (lambda s, x: 1, lambda s, x: 2)[:: 1 if run == '1' else -1]\n"
    "    def predict(self, X): return [self.f(x) - self.g(x) for x in X]\n",
    "a property's lambda": "class Rule:\n"
    "    k = property((lambda s: 1) if run == '1' else (lambda s: 2))\n"
    "    def predict(self, X): return [self.k for x in X]\n",
    "None instead of a value": "class Base:\n    words = ['fine']\n"
    "    def predict(self, X): return [self.words for x in X]\n"
    "class Rule(Base):\n    if run == '1':\n        words = None\n    x = 1\n",
    "() instead of None": "W = None if run == '1' else ()\n" + PREDICT.format("W"),
    "a static method": "def pick(*a): return len(a)\n"
    "class Rule:\n    pick = staticmethod(pick) if run == '1' else pick\n"
    "    def predict(self, X): return [self.pick() for x in X]\n",
    "an array": "import numpy as np\nW = np.array([0.5, 1.0 if run == '1' else 2.0])\n"
    + PREDICT.format("W[1]"),
    "an array of the class": "import numpy as np\nclass Rule:\n"
    "    W = np.array([float(run)])\n"
    "    def predict(self, X): return [self.W for x in X]\n",
    "a table": "import pandas as pd\nW = pd.DataFrame({'a': [int(run)]})\n"
    + PREDICT.format("W"),
    "a frozenset": "W = frozenset({'x', 'y', 'z' + run})\n" + PREDICT.format("x in W"),
    "a dataclass": "import dataclasses\n@dataclasses.dataclass\n"
    "class Rule:\n    w: int = int(run)\n    def predict(self, X): return X\n",
    "an abstract base": "import abc\nclass Base(abc.ABC):\n"
    "    @abc.abstractmethod\n    def predict(self, X): ...\n"
    "class Rule(Base):\n    k = int(run)\n"
    "    def predict(self, X): return [self.k for x in X]\n",
    "a wrapped helper": "import functools\ndef deco(f):\n    @functools.wraps(f)\n"
    "    def inner(*a): return f(*a), run\n    return inner\n"
    "@deco\ndef help(x): return x\n" + PREDICT.format("help(x)"),
    "a table of functions": "f, g = lambda x: 1, lambda x: 2\n"
    "T = {'f': f if run == '1' else g}\n" + PREDICT.format("T['f'](x)"),
    "a type alias": "from typing import Optional\nA = Optional[int]\nK = run\n"
    + PREDICT.format("(A, K)"),
}


def test_edits_that_are_easily_missed(tmp_path):
    """Every one gives another hash, the same in every process."""
    (tmp_path / "edits.json").write_text(json.dumps(EDITS))
    found = []
    for run, seed in (("1", "1"), ("1", "2"), ("2", "1")):
        said = subprocess.run(
            [sys.executable, "-c", ALL_IN_ONE, run],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
        )
        found.append(json.loads(said.stdout))
    assert [name for name, value in found[0].items() if value is None] == []
    assert found[0] == found[1]
    assert [name for name in EDITS if found[0][name] == found[2][name]] == []


def test_modules_that_are_not_loaded_are_not_run(tmp_path):
    (tmp_path / "exiting_mod.py").write_text("import sys\nsys.exit(3)\n")
    code = (
        "class Rule:\n"
        "    def predict(self, X):\n"
        "        if not X:\n"
        "            import exiting_mod\n"
        "        return X\n"
        "from fute_sklearn.models._content_hash import content_hash\n"
        "print(content_hash(Rule()))\n"
    )
    before = hash_in_new_process(tmp_path, code)
    assert before == hash_in_new_process(tmp_path, code) != "None"
    (tmp_path / "exiting_mod.py").write_text("import sys\nsys.exit(4)\n")
    assert hash_in_new_process(tmp_path, code) != before


# What five models read beside their own attributes ------------------------------

INNER = None
LENGTH = 3


class Reads:
    """A model that refers to what can change behind its back."""

    URL = "http://first"

    def __init__(self, path):
        self.path = path
        self.server = "http://a"

    def predict(self, X):
        with open(self.path) as file:
            words = file.read().split()
        inner = INNER.predict(X)
        return [
            self.URL if x in words or len(x) > LENGTH else y
            for x, y in zip(X, inner, strict=True)
        ]


def _refit(model, path, monkeypatch):
    INNER.fit(["good", "bad"], ["a", "b"])


def _class_attribute(model, path, monkeypatch):
    monkeypatch.setattr(Reads, "URL", "http://second")


def _constant(model, path, monkeypatch):
    monkeypatch.setitem(globals(), "LENGTH", 4)


def _file(model, path, monkeypatch):
    path.write_text("other words")


def _server(model, path, monkeypatch):
    model.server = "http://b"


@pytest.mark.parametrize("as_path", [True, False])
@pytest.mark.parametrize(
    "change", [_refit, _class_attribute, _constant, _file, _server]
)
@pytest.mark.parametrize("hasher", [content_hash, mark])
def test_what_changes_behind_a_model_is_seen(
    change, as_path, hasher, tmp_path, monkeypatch
):
    path = tmp_path / "words.txt"
    path.write_text("some words")
    inner = make_pipeline(CountVectorizer(), LogisticRegression())
    monkeypatch.setitem(
        globals(), "INNER", inner.fit(["good", "bad", "worse"], ["a", "b", "b"])
    )
    model = Reads(path if as_path else str(path))
    before = hasher(model)
    assert before is not None
    assert hasher(model) == before
    change(model, path, monkeypatch)
    assert hasher(model) != before


def test_a_file_that_only_the_code_names_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "words.txt").write_text("some")

    def words(X):
        with open("words.txt") as file:
            return [file.read() for _ in X]

    before = content_hash(words)
    assert before == content_hash(words)
    (tmp_path / "words.txt").write_text("others")
    assert content_hash(words) != before


def test_searches_are_known_by_what_they_predict_with(texts, labels):
    from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

    pipe = make_pipeline(TfidfVectorizer(), LogisticRegression())
    grid = {"logisticregression__C": [1.0, 2.0]}
    for search in (
        GridSearchCV(pipe, grid, cv=2),
        RandomizedSearchCV(pipe, grid, n_iter=2, cv=2, random_state=0),
    ):
        first = content_hash(search.fit(texts, labels))
        assert first is not None
        assert content_hash(search.fit(texts, labels)) == first
        assert content_hash(search.fit(texts, labels[::-1])) != first


def test_lambdas_and_local_classes_are_known_by_their_code(texts, labels):
    def fitted(split):
        return make_pipeline(CountVectorizer(analyzer=split), LogisticRegression()).fit(
            texts, labels
        )

    hashes = {
        content_hash(fitted(lambda x: x.split())),
        content_hash(fitted(lambda x: x.split(" "))),
        content_hash(fitted(lambda x: list(x))),
    }
    assert None not in hashes
    assert len(hashes) == 3

    def local(limit):
        class Local:
            def predict(self, X):
                return [len(x) > limit for x in X]

        return Local()

    assert content_hash(local(3)) == content_hash(local(3)) != content_hash(local(4))


def test_local_classes_whose_attributes_are_their_instances():
    """An Enum's members refer to it; so do the instances that a class keeps."""
    import enum

    def member(first, n_members):
        names = {f"M{i}": f"{first} {i}" for i in range(n_members)}

        class Answer(enum.Enum):
            locals().update(names)

        return lambda text: list(Answer)[len(text) % len(Answer)].value

    def single(word):
        class Single:
            def __init__(self, own):
                self.own = own

            def predict(self, X):
                return [self.default.own in x for x in X]

        Single.default, Single.other = Single(word), Single(word * 2)
        return Single("no matter")

    for make in (lambda word: member(word, 12), single):
        assert content_hash(make("fine")) == content_hash(make("fine")) is not None
        assert content_hash(make("fine")) != content_hash(make("dull"))
    assert content_hash(member("fine", 12)) != content_hash(member("fine", 11))
    start = time.perf_counter()
    content_hash(member("fine", 300))  # took minutes
    assert time.perf_counter() - start < 20


def held(word, way):
    """A local class that holds a word in one of the ways that a class can."""
    if way in (staticmethod, classmethod, property):

        class Rule:
            @way
            def hit(*args):
                return word in args[-1]

    elif way == "cached":

        class Rule:
            hit = functools.lru_cache(lambda x: word in x)

    else:

        class Rule:
            hit = functools.cached_property(lambda self: word)

    return Rule


@pytest.mark.parametrize("way", [staticmethod, classmethod, property, "cached", "lazy"])
def test_local_classes_that_change_places_with_all_that_they_hold(way):
    def model(yes, no):
        Yes, No = held(yes, way), held(no, way)
        return lambda x: Yes.hit(x) and not No.hit(x)

    assert content_hash(model("a", "b")) == content_hash(model("a", "b")) is not None
    assert content_hash(model("a", "b")) != content_hash(model("b", "a"))


def test_marks_see_a_change_beside_what_cannot_be_hashed():
    import threading

    class Locked:
        def __init__(self):
            self.lock, self.word = threading.local(), "fine"

        def predict(self, X):
            return [self.word in x for x in X]

    model, other = Locked(), Locked()
    assert content_hash(model) is None
    before = mark(model)
    assert mark(model) == before != mark(other)
    model.word = "dull"
    assert mark(model) != before


class Slotted:
    __slots__ = ("local", "word")

    def __init__(self, word):
        self.word, self.local = word, threading.local()


def test_marks_see_a_change_inside_what_cannot_be_hashed():
    """In slots too; and the address of a part that is gone is not given again."""

    class Holds:
        def __init__(self):
            self.part = Slotted("fine")

        def predict(self, X):
            return [self.part.word in x for x in X]

    model, texts = Holds(), ["a fine film", "a dull film"]
    before = mark(model)
    model.part.word = "dull"
    assert mark(model) != before
    with pytest.warns(UnknownModelWarning):
        assert list(MTEWrapper(model).label(texts).y) == [False, True]
    for word in ("fine", "dull") * 10:
        model.part = Slotted(word)
        assert list(MTEWrapper(model).label(texts).y) == [word in x for x in texts]


class Drops:
    """Leaves out of its pickles what it answers by."""

    def __init__(self, word):
        self.word, self.lock = word, threading.Lock()

    def __getstate__(self):
        return {}

    def predict(self, X):
        return [self.word in x for x in X]


class Reduces(Drops):
    def __reduce__(self):
        return Reduces, ("fine",)


@pytest.mark.parametrize("kind", [Drops, Reduces])
def test_what_pickles_leave_out_counts(kind):
    assert content_hash(kind("fine")) == content_hash(kind("fine")) is not None
    assert content_hash(kind("fine")) != content_hash(kind("dull"))
    loop = kind("fine")
    loop.itself = [loop]
    assert content_hash(loop) is not None
    loop.handle = threading.local()  # of who knows what
    assert content_hash(loop) is None


def test_wrappers_in_wrappers_count_by_their_model(texts):
    found = [
        list(MTEWrapper(MTEWrapper(Drops(word))).label(texts).y)
        for word in ("fine", "dull")
    ]
    assert found[0] != found[1]
    assert content_hash(MTEWrapper(Drops("a"))) != content_hash(MTEWrapper(Drops("b")))


def test_local_classes_that_change_places():
    def make(answer):
        class Made:
            ANSWER = answer

        return Made

    one, two = make("a"), make("b")
    assert content_hash([one, two]) == content_hash([make("a"), make("b")])
    assert content_hash([one, two]) != content_hash([two, one])


def test_packages_of_another_environment_count_by_their_version(tmp_path, monkeypatch):
    """And those that were installed with a target, but not what lies beside them."""
    installed = tmp_path / "elsewhere" / "site-packages"
    target = tmp_path / "target"
    for folder in (installed, target):
        folder.mkdir(parents=True)
        for name in (f"lib_{folder.name[:4]}", f"own_{folder.name[:4]}"):
            (folder / f"{name}.py").write_text("class Model:\n    answer = 'a'\n")
        monkeypatch.syspath_prepend(str(folder))
    (target / "lib-1.dist-info").mkdir()
    (target / "lib-1.dist-info" / "RECORD").write_text("lib_targ.py,sha256=,1\n")
    by_version = {"lib_site": True, "lib_targ": True, "own_targ": False}
    for name, known in by_version.items():
        module = importlib.import_module(name)
        before = content_hash(module.Model())
        monkeypatch.setattr(module.Model, "answer", "b")
        assert (content_hash(module.Model()) == before) is known
        sys.modules.pop(name)


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="needs Linux's rusage")
def test_hashing_a_net_copies_no_weights():
    """A net of 400 MB is hashed without another 100 MB."""
    code = """
import resource, torch
from fute_sklearn.models._content_hash import content_hash
net = torch.nn.Sequential(*[torch.nn.Linear(5000, 5000) for _ in range(4)])
content_hash(torch.nn.Linear(2, 2))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert content_hash(net)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert int(found.stdout) < 100


def test_copies_have_the_hash_of_the_original(texts, labels):
    """Also where a copy has other strides, as another process would have it."""
    import pickle

    import numpy as np
    from sklearn.decomposition import TruncatedSVD
    from sklearn.ensemble import (
        HistGradientBoostingClassifier,
        StackingClassifier,
        VotingClassifier,
    )
    from sklearn.svm import LinearSVC

    X, y = list(texts) * 5, list(labels) * 5
    parts = [("svm", LinearSVC()), ("logistic", LogisticRegression())]
    for steps in (
        [LinearSVC()],
        [VotingClassifier(parts)],
        [StackingClassifier(parts, cv=2)],
        [LogisticRegression()],
        [TruncatedSVD(3, random_state=0), HistGradientBoostingClassifier(max_iter=3)],
    ):
        model = make_pipeline(TfidfVectorizer(), *steps).fit(X, y)
        copy = pickle.loads(pickle.dumps(model))
        assert content_hash(copy) == content_hash(model), steps
    turned = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    assert content_hash(turned) == content_hash(turned.copy(order="C"))
    assert content_hash(turned) != content_hash(turned.T)
    assert content_hash(turned) != content_hash(turned.astype(np.float32))


def test_functions_that_an_installed_factory_made_are_told_apart():
    def factory(limit):
        def model(texts):
            return [len(text) > limit for text in texts]

        model.__module__ = "sklearn.base"
        return model

    assert content_hash(factory(1)) == content_hash(factory(1))
    assert content_hash(factory(1)) != content_hash(factory(2))


def test_the_order_of_a_dict_counts():
    class Rules:
        def __init__(self, rules):
            self.rules = rules

        def predict(self, X):
            return [next(iter(self.rules.values())) for _ in X]

    first = content_hash(Rules({"fine": "good", "dull": "bad"}))
    assert content_hash(Rules({"dull": "bad", "fine": "good"})) != first
