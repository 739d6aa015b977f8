"""Read ahead: the next item is fetched in a thread of its own while this one is worked on."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

T = TypeVar("T")

# How often a reader with nothing to do looks whether it is still wanted, in seconds, ...
POLL = 0.05
# ... and how long one that is no longer wanted may take to notice: a source may wait for a network.
PATIENCE = 2.0
_END = object()


def prefetched(items: Iterator[T]) -> Generator[T, None, None]:
    """The same items; one is ready and the next is being read while the consumer has another.

    What reading raises is raised here. The iterator runs, from first to last, in one thread of its own; close
    this generator to end it early.
    """
    ready: Queue[tuple[Any, BaseException | None]] = Queue(maxsize=1)
    unwanted = Event()

    def offer(item: Any, error: BaseException | None) -> bool:
        while not unwanted.is_set():
            with suppress(Full):
                ready.put((item, error), timeout=POLL)
                return True
        return False

    def read() -> None:
        try:
            for item in items:
                if not offer(item, None):
                    return
                del item  # it is the consumer's now
            offer(_END, None)
        except BaseException as error:  # Ctrl-C does not come here, but SystemExit may
            offer(_END, error)
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()

    reader = Thread(target=read, name="fastgmm-reader", daemon=True)
    reader.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
            del item
    finally:
        unwanted.set()
        with suppress(Empty):
            ready.get_nowait()
        reader.join(PATIENCE)
