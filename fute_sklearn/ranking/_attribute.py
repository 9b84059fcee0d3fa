"""Objects in the attributes of a table, which file formats write as JSON."""

from __future__ import annotations

from typing import Any


class TableAttribute(dict[str, Any]):
    """An object that is an empty dict to JSON, so that its table can be written.

    pandas writes the attributes of a table to parquet as JSON, and fails where they
    hold anything else; the object itself is not written.
    """

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return True
