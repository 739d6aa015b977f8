"""What is said where memory does not suffice."""

from __future__ import annotations

from math import prod
from types import TracebackType


def not_enough_memory(error: MemoryError, request: str, remedy: str) -> MemoryError:
    """The error that says what was asked for, and what to do."""
    detail = f" ({error})" if str(error) else ""
    return MemoryError(f"Not enough memory for {request}{detail}. {remedy}")


class explained_memory_error:
    """Say what was asked for, and what to do, when memory does not suffice."""

    __slots__ = ("_remedy", "_request")

    def __init__(self, request: str, remedy: str) -> None:
        self._request, self._remedy = request, remedy

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if isinstance(error, MemoryError):
            raise not_enough_memory(error, self._request, self._remedy) from error


def array_request(shape: tuple[int, ...], name: str) -> str:
    """What an output array of float64 asks for, in words."""
    size = 8.0 * prod(shape)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{name}, an array of shape {shape} and {size:.3g} {unit}"
