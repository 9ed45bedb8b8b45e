"""What a trial counts, and the table that is made of it."""

import threading
from collections import Counter, defaultdict
from collections.abc import Callable

from rdi_keras.errors import InputError

RIGHT, REFUSED, UNNOTICED, LOST = "right", "refused", "unnoticed", "lost"
OUTCOMES = (RIGHT, REFUSED, UNNOTICED, LOST)
SHOWN_LOSSES = 5


class Tally:
    """What came of everything that one trial tried. Threads may share it.

    Attributes:
        counts: by what was tried: how often each outcome.
        losses: by what was tried: what went wrong, in words.
        facts: sentences with figures that are no counts of outcomes.
    """

    def __init__(self):
        self.counts: dict[str, Counter] = {}
        self.losses: dict[str, list[str]] = defaultdict(list)
        self.facts: list[str] = []
        self._lock = threading.Lock()

    def note(self, tried: str, outcome: str, why: str = "", times: int = 1) -> None:
        """Counts; `why` is for what was lost."""
        with self._lock:
            self.counts.setdefault(tried, Counter())[outcome] += times
            if outcome == LOST:
                self.losses[tried].append(" ".join(why.split())[:500])

    def judge(
        self,
        tried: str,
        ask: Callable[[], object],
        wrong: Callable[[object], str | None],
        asked: Callable[[], str],
        refusal: bool | None = None,
    ) -> None:
        """Asks, and counts: a right answer, a refusal by `InputError` in one line, or a loss.

        Args:
            tried: what is counted.
            ask: may raise.
            wrong: what is wrong with an answer, or `None`.
            asked: the input in words, for what was lost.
            refusal: whether the input must be refused; `None` where either will do.
        """
        try:
            found = wrong(ask())
        except InputError as error:
            if refusal is False:
                self.note(tried, LOST, f"refused: {error}: {asked()}")
            elif not str(error).strip():
                self.note(tried, LOST, f"refused without a word: {asked()}")
            else:
                self.note(tried, REFUSED)
            return
        except Exception as error:
            self.note(tried, LOST, f"{type(error).__name__}: {error}: {asked()}")
            return
        if refusal:
            self.note(tried, LOST, f"answered, where it should have been refused: {asked()}")
        elif found:
            self.note(tried, LOST, f"{found}: {asked()}")
        else:
            self.note(tried, RIGHT)

    @property
    def lost(self) -> int:
        """How much was lost in all."""
        return sum(counts[LOST] for counts in self.counts.values())

    def lines(self) -> list[str]:
        """What was lost, the first few of each kind."""
        return [
            f"LOST: {tried}: {each}" for tried, found in self.losses.items() for each in found[:SHOWN_LOSSES]
        ]


def table(tallies: dict[str, Tally]) -> str:
    """A Markdown table with a row per kind and trial, and the facts below it."""
    rows = [
        "| trial | what was done | times | right | refused | unnoticed | lost |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for trial, tally in tallies.items():
        for tried, counts in sorted(tally.counts.items()):
            numbers = " | ".join(f"{counts[each]:,}" for each in OUTCOMES)
            rows.append(f"| {trial} | {tried} | {counts.total():,} | {numbers} |")
    facts = [f"* {trial}: {fact}" for trial, tally in tallies.items() for fact in tally.facts]
    return "\n".join(rows) + ("\n\n" + "\n".join(facts) if facts else "") + "\n"
