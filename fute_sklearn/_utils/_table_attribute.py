"""Objects in the attributes of a table, which file formats write as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import pandas as pd


class TableAttribute(dict[str, Any]):
    """An object that is an empty dict to JSON, so that its table can be written.

    pandas writes the attributes of a table to parquet as JSON, and fails where they
    hold anything else; the object itself is not written.  Copies of a table, of which
    pandas makes many, share it, so that they can be joined again.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __bool__(self) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class FrameAttribute(TableAttribute):
    """A table among the attributes of another one.

    Parameters
    ----------
    frame : DataFrame
        The table.
    """

    frame: pd.DataFrame
