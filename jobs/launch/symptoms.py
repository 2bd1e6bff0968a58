"""What ranks left behind, out of what Ray and Ray Train wrap around it."""

from collections.abc import Iterator

from ray.train.v2.api.exceptions import WorkerGroupError

from jobs.failure import Symptom
from jobs.launch.member import RankFailedError

WRAPPED = ("health_check_failure", "controller_failure", "_base_exc", "cause")


def symptoms_of(error: BaseException) -> Iterator[tuple[Symptom, str]]:
    """One for each rank that failed, with its traceback; one without a rank where it was not a worker that failed."""
    failures: dict[int | None, BaseException] = {None: error}
    if isinstance(error, WorkerGroupError):
        failures = dict(sorted(error.worker_failures.items()))
    for rank, failure in failures.items():
        cause = _innermost(failure)
        if isinstance(cause, RankFailedError):
            yield Symptom(rank, cause.kind, cause.text, cause.bases), cause.trace
        else:
            bases = tuple(base.__name__ for base in type(cause).__mro__[1:])
            yield Symptom(rank, type(cause).__name__, str(cause), bases), str(cause)


def _innermost(error: BaseException) -> BaseException:
    for name in WRAPPED:
        inner = getattr(error, name, None)
        if isinstance(inner, BaseException):
            return _innermost(inner)
    return error
