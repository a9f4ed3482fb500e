"""Who of `inference.py` computes when, how often, and who is left out: the bounds that let the whole table end.

Methods take turns, so that what disturbs the machine disturbs all. A row (a method on one size, the network alone or
the whole process) has *patience*: seconds that its turns may take in all, the start of a process that is kept not
among them. The first does not count where a second follows; it always takes place, unless the method's own rate on a
smaller picture says that it would take more than `LIMIT` times the patience, or the method failed on a smaller picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from inference_processes import FailedError, Measurement, Worker
from inference_table import Row

LIMIT = 5
"""A row that is expected to take so many times the patience for one turn is left out."""

LEFT_OUT = "left out"
"""What the reason of such a row begins with."""

Turn = Callable[[], Measurement]


class Player:
    """A method's process, over several turns.

    It stays alive between them unless it keeps much memory: then it ends after each, for the sake of the others.

    Args:
        start: begins the process.
        result: where to put what it computed, when the process ends; None for nowhere.
        may_keep: bytes that it may hold between turns.
    """

    def __init__(self, start: Callable[[], Worker], *, result: Path | None, may_keep: float) -> None:
        self._start, self._result, self._may_keep = start, result, may_keep
        self._worker: Worker | None = None
        self._is_first = True

    def turn(self) -> Measurement:
        """Compute once. A process that begins anew has computed once before, as one that stayed alive has.

        Raises:
            FailedError: where the process did not do it; it is ended then.
        """
        try:
            measured = self._compute()
        except FailedError:
            self._end()
            raise
        if measured.held > self._may_keep:
            self.close()
        return measured

    def close(self) -> None:
        """Save the result and end the process, where one lives."""
        if self._worker is not None and self._result is not None:
            with suppress(FailedError):  # without a result there is no agreement, but the time holds
                self._worker.save(self._result)
        self._end()

    def _compute(self) -> Measurement:
        if self._worker is None:
            self._worker = self._start()
            if not self._is_first:
                self._worker.run()
        self._is_first = False
        return self._worker.run()

    def _end(self) -> None:
        if self._worker is not None:
            with closing(self._worker):
                self._worker = None


def take_turns(rows: Sequence[Row], turns: Sequence[Turn], *, repetitions: int, patience: float) -> None:
    """Fill the rows.

    Each has one turn that is not counted and up to ``repetitions`` that are; fewer where one more, taking as long as
    its last, would exceed its ``patience``. One that has but a single turn counts it, and says so in ``warmed_up``.
    One that fails is out.
    """
    for _ in range(1 + repetitions):
        for row, turn in zip(rows, turns, strict=True):
            if row.failure is None and sum(row.seconds) + sum(row.seconds[-1:]) <= patience:
                _fill(row, turn)
    for row in rows:
        row.warmed_up = len(row.seconds) > 1
        if row.warmed_up:
            del row.seconds[0]


def _fill(row: Row, turn: Turn) -> None:
    try:
        measured = turn()
    except FailedError as error:
        row.failure = str(error)
        return
    row.seconds.append(measured.seconds)
    row.memory = max(row.memory, measured.memory)


def leave_out(rows: Sequence[Row], earlier: Sequence[Row], *, patience: float) -> None:
    """Give a reason to those rows that are not to be tried, judging by what was measured ``earlier``."""
    for row in rows:
        expected = expected_seconds(row, earlier)
        if expected > LIMIT * patience:
            minutes = expected / 60
            row.failure = f"{LEFT_OUT}: about {minutes:.{int(minutes < 10)}f} min expected"
        row.failure = next((other.failure for other in earlier if _failed_smaller(other, row)), row.failure)


def expected_seconds(row: Row, earlier: Sequence[Row]) -> float:
    """What the network alone takes for a row's picture, at its rate on the largest one measured so far; 0 if none was.

    For a whole process that is a lower bound.
    """
    method = row.method.removesuffix("-first")
    known = [other for other in earlier if other.flop and other.method == method]
    known = [other for other in known if other.pixels <= row.pixels and not math.isnan(other.median)]
    if not known or not row.depends_on_picture:
        return 0.0
    nearest = max(known, key=lambda other: other.pixels)
    return nearest.median * row.pixels / nearest.pixels


def _failed_smaller(other: Row, row: Row) -> bool:
    """Whether a row is the same method's in the same scope, on a picture no larger, and was tried and failed."""
    same = (other.method, other.flop is None) == (row.method, row.flop is None)
    failed = other.failure is not None and not other.failure.startswith(LEFT_OUT)
    return same and failed and other.pixels <= row.pixels
