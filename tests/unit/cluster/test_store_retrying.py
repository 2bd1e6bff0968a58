"""Trying again: how often, how long, and what for; on a clock of its own."""

from itertools import pairwise

import pytest

from cluster.store.retrying import Patience, persist


class Clock:
    """Time that passes only by sleeping, and by what a call takes."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def __call__(self) -> float:
        return self.now


class Fails:
    """Raises the errors one after the other, then returns the number of calls."""

    def __init__(self, *errors: Exception, clock: Clock | None = None, takes: float = 0.0) -> None:
        self.errors, self.calls, self.clock, self.takes = list(errors), 0, clock, takes

    def __call__(self) -> int:
        self.calls += 1
        if self.clock:
            self.clock.now += self.takes
        if self.errors:
            raise self.errors.pop(0)
        return self.calls


def passing(error: Exception) -> bool:
    return isinstance(error, TimeoutError)


def test_what_passes_by_itself_is_tried_again() -> None:
    clock = Clock()
    assert persist(Fails(TimeoutError(), TimeoutError()), passing, Patience(), sleep=clock.sleep, clock=clock) == 3
    assert len(clock.slept) == 2


def test_what_does_not_pass_is_raised_at_once() -> None:
    clock, call = Clock(), Fails(TimeoutError(), ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        persist(call, passing, Patience(), sleep=clock.sleep, clock=clock)
    assert (call.calls, len(clock.slept)) == (2, 1)


def test_the_attempts_are_bounded_and_the_last_error_is_raised() -> None:
    clock, call = Clock(), Fails(*(TimeoutError(str(number)) for number in range(99)))
    with pytest.raises(TimeoutError, match=r"^4$"):
        persist(call, passing, Patience(attempts=5), sleep=clock.sleep, clock=clock)
    assert call.calls == 5


def test_the_time_is_bounded_whatever_an_attempt_takes() -> None:
    clock = Clock()
    call = Fails(*(TimeoutError() for _ in range(99)), clock=clock, takes=3.0)
    with pytest.raises(TimeoutError):
        persist(call, passing, Patience(attempts=99, seconds=10.0), sleep=clock.sleep, clock=clock)
    assert 10 < clock.now < 10 + 3  # no attempt began after ten seconds, and the last one may end after them
    assert call.calls == 4


def test_pauses_double_with_jitter_up_to_the_longest() -> None:
    patience = Patience(attempts=99, seconds=1e9, first=0.1, longest=2.0)
    clock = Clock()
    with pytest.raises(TimeoutError):
        persist(Fails(*(TimeoutError() for _ in range(99))), passing, patience, sleep=clock.sleep, clock=clock)
    whole = [min(2.0, 0.1 * 2**number) for number in range(98)]
    assert all(one / 2 <= slept <= one for slept, one in zip(clock.slept, whole, strict=True))
    assert all(earlier < later for earlier, later in pairwise(whole[:5]))
    late = clock.slept[10:]
    assert max(late) - min(late) > 0.5  # two readers that failed together do not come back together
