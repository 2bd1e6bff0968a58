"""Why a request was not answered: one exception, one JSON shape for every error of the HTTP interface."""

from typing import Any


class RejectedError(Exception):
    """A request, or one item of it, cannot be answered.

    `status` is the HTTP status, `code` a stable word for programs, `message` a sentence for people,
    `where` the place in the request body (`("structures", 2, "numbers")`).
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        where: tuple[str | int, ...] = (),
        retry_after_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.where, self.retry_after_s = where, retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.status, self.code, self.message, self.where, self.retry_after_s)

    def at(self, *prefix: str | int) -> "RejectedError":
        """The same rejection, seen from further out in the request body."""
        return RejectedError(
            self.status,
            self.code,
            self.message,
            where=(*prefix, *self.where),
            retry_after_s=self.retry_after_s,
        )

    def body(self) -> dict[str, Any]:
        """The JSON answer, `{"error": {"code", "message", "where"}}`."""
        return {"error": {"code": self.code, "message": self.message, "where": list(self.where)}}

    def headers(self) -> dict[str, str]:
        """Extra response headers."""
        headers = {}
        if self.retry_after_s is not None:
            headers["Retry-After"] = str(self.retry_after_s)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


def _rebuild(
    status: int, code: str, message: str, where: tuple[str | int, ...], retry_after_s: int | None
) -> RejectedError:
    return RejectedError(status, code, message, where=where, retry_after_s=retry_after_s)
