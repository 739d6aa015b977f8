"""What is said where memory does not suffice."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from types import TracebackType


class explained_memory_error:
    """Say what was asked for, and what to do, when memory does not suffice.

    Parameters
    ----------
    request : str, or a function that makes it: it is put into words only where it is needed
    remedy : str
    """

    __slots__ = ("_remedy", "_request")

    def __init__(self, request: str | Callable[[], str], remedy: str) -> None:
        self._request, self._remedy = request, remedy

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, MemoryError):
            request = self._request if isinstance(self._request, str) else self._request()
            detail = f" ({error})" if str(error) else ""
            raise MemoryError(f"Not enough memory for {request}{detail}. {self._remedy}") from error


def array_request(shape: tuple[int, ...], name: str) -> Callable[[], str]:
    """What an output array of float64 asks for; a function that puts it into words."""

    def words() -> str:
        size = 8.0 * prod(shape)
        for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
            if size < 1024 or unit == "TiB":
                break
            size /= 1024
        return f"{name}, an array of shape {shape} and {size:.3g} {unit}"

    return words
