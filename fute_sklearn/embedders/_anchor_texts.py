"""Built-in reference sentences, used where a fit is given none."""

from __future__ import annotations

from functools import lru_cache

THINGS = (
    "the film", "this book", "the hotel room", "my new phone", "the last flight",
    "the soup", "her speech", "the second half", "our new kitchen", "the bank",
    "the update", "this song", "the city council", "the exam", "the garden",
    "the old bridge", "the match", "his answer", "the train", "the medicine",
)  # fmt: skip
QUALITIES = (
    "wonderful", "dreadful", "slow", "better than expected", "broken again",
    "not worth the money", "beautifully made", "too loud", "perfectly fine", "boring",
    "a pleasant surprise", "a complete waste of time", "smaller than it looks",
    "never on time", "hard to understand", "warm and friendly",
)  # fmt: skip
FRAMES = (
    "{thing} was {quality}",
    "i think {thing} is {quality}",
    "why is {thing} {quality} ?",
    "{thing} , which cost a lot , turned out {quality}",
    "nobody told us that {thing} would be {quality}",
    "@friend {thing} is {quality} today",
    "researchers report that {thing} can be {quality} in winter",
    "please change my booking , {thing} is {quality}",
    "how do i know whether {thing} is {quality} ?",
    "{thing} opened in 1987 and has been {quality} ever since",
    "if {thing} is {quality} , then something has to change",
    "{thing} is not {quality} at all",
)


@lru_cache(maxsize=1)
def anchor_texts() -> tuple[str, ...]:
    """Return 960 sentences: opinions, questions, reports, requests, in turn."""
    out = []
    for i, thing in enumerate(THINGS):
        for j, quality in enumerate(QUALITIES):
            for step in range(3):
                frame = FRAMES[(i + 5 * j + 4 * step) % len(FRAMES)]
                out.append(frame.format(thing=thing, quality=quality))
    return tuple(sorted(set(out)))
