"""What earlier calls of a client have shown of its server."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field


@dataclass
class History:
    """What the calls of a client have shown.

    Of prompts with a name, ``answered`` are the families of which a request was
    answered, and ``alike`` the faults of the requests of each prompt and place in a row
    since the last answer, by the requests' keys.  ``kinds`` are the faults since the
    last answer of any, by call and row; ``n_calls`` is the number of calls.
    """

    n_calls: int = 0
    kinds: dict[tuple[int, int], str] = field(default_factory=dict)
    answered: set[str] = field(default_factory=set)
    alike: dict[tuple[str, int], dict[str, str]] = field(
        default_factory=lambda: defaultdict(dict)
    )
