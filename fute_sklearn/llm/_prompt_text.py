"""Validate templates, the rows that fill them, and the answer strings of labels."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from typing import Any

from .._utils._columns import has
from ..tasks._validation import label_name, unreadable_at


def fields_of(template: str) -> list[str]:
    """Return the distinct field names of a template; raise if it is invalid."""
    check_readable(template, "template")
    braces = "Braces of the prompt's own, as in JSON, are written {{ and }}."
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"template={template!r}: {error}. {braces}") from error
    found = []
    for _, name, form, conversion in parts:
        if name is None:
            continue
        if not name.isidentifier():
            raise ValueError(
                f"template={template!r} has the field {{{name}}}; expected a name such "
                f"as {{text}}. {braces}"
            )
        if form or conversion:
            raise ValueError(
                f"template={template!r} formats the field {{{name}}} by "
                f"{'!' + conversion if conversion else ':' + str(form)!r}; texts are "
                f"put in as they are: write {{{name}}}. {braces}"
            )
        found.append(name)
    if not found:
        raise ValueError(
            f"template={template!r} has no field, so that all texts would look alike; "
            "say where the text goes: {text}."
        )
    if template != template.rstrip(" \t"):
        raise ValueError(
            f"template={template!r} ends with a blank. One is put before each label "
            "already, and language models take two for something else: remove it."
        )
    return list(dict.fromkeys(found))


def check_readable(text: str, name: str) -> None:
    """Raise ValueError if a text cannot be encoded as UTF-8."""
    if unreadable_at(text) is not None:
        raise ValueError(f"{name}={text!r} holds a lone surrogate, no character.")


def rows_of(X: Any, fields: list[str]) -> list[dict[str, str]]:
    """Return each row's values of the template's fields, in the row's key order."""
    if isinstance(X, (str, bytes, Mapping)):
        raise TypeError("X is one text or record, expected a sequence of them.")
    if has(X, "columns"):  # a table of pandas or polars
        X = X.to_dicts() if has(X, "to_dicts") else X.to_dict("records")
    out = []
    for i, row in enumerate(X):
        if isinstance(row, str) and fields == ["text"]:
            row = {"text": row}
        if not isinstance(row, Mapping) or not set(fields) <= set(row):
            raise ValueError(
                f"X[{i}] is {row!r}, which does not fit the template's fields "
                f"{fields}: give a text where the only field is {{text}}, else a "
                "record with these keys."
            )
        values = {name: row[name] for name in row if name in fields}
        if not all(isinstance(v, str) for v in values.values()):
            raise TypeError(f"X[{i}] is {row!r}, expected str in every field.")
        for name, value in values.items():
            if unreadable_at(value) is not None:
                raise ValueError(
                    f"X[{i}] holds a lone surrogate in the field {name!r}, which is no "
                    "character; decode the text anew or drop the row."
                )
        out.append(values)
    if not out:
        raise ValueError("X is empty.")
    return out


def strings_of(
    labels: Sequence[Any],
    names: list[str],
    verbalizer: Mapping[Any, str | Sequence[str]] | None,
) -> list[list[str]]:
    """Return the answer strings of each class, in the order of ``names``."""
    if len(names) < 2 or len(names) < len(labels) or not all(names):
        raise ValueError(
            f"labels={list(labels)!r}, expected two or more different names."
        )
    said: dict[str, str | Sequence[str]] = {name: name for name in names}
    if verbalizer is not None:
        said = {label_name(k): v for k, v in verbalizer.items()}
        if set(said) != set(names):
            raise ValueError(
                f"verbalizer has the labels {sorted(said)}, expected {names}."
            )
    words_of = [said[name] for name in names]
    out = [[words] if isinstance(words, str) else list(words) for words in words_of]
    flat = [word for words in out for word in words]
    if not all(out) or not all(isinstance(w, str) and w.strip() for w in flat):
        raise ValueError(f"verbalizer={said!r} has an empty string for a label.")
    for word in flat:
        check_readable(word, "verbalizer")
    out = [[word.strip() for word in words] for words in out]
    flat = [word for words in out for word in words]
    owners = [(word.casefold(), i) for i, words in enumerate(out) for word in words]
    shared = len({word for word, _ in owners}) < len(set(owners))
    if shared or len(set(flat)) < len(flat):
        raise ValueError(f"verbalizer={said!r} has one string for two labels.")
    return out
