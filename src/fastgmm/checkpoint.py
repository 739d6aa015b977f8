"""Fits that outlive their process: a file with all that a fit needs to go on (docs/long_fits.md).

The file is an archive like those of archive.py: stored members, no pickle, nothing in it is trusted.

    header      JSON as bytes: format, version, names of the other members; which fit it belongs to; the
                random state before the first draw and now; how far the runs have come (restarts.Standing)
    run3.*      result of run 3 so far: its parameters, lower_bounds and history
    loop.*      the run that is being made, at an iteration: the same, and what its loop remembers

A SHA-256 of all that is before it stands at the end, as the archive's comment: no damage goes unnoticed.

While a fit lasts it holds a lock of the operating system, so that a second fit cannot write to the same file.

What is not in the file has to be made anew by a fit that goes on from it. So has it by the fit that wrote
the file, each time: from then on both do the same, and a fit that was killed ends with the bits of one that
was not.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import numpy as np

from . import archive, identity, whole_files
from ._typing import FloatArray
from .archive import Refused, refuse_unless
from .blocks import ArrayData
from .file_lock import FileLock, Held
from .frame import Frame
from .loop_state import EMResult, LoopState
from .parameters import Parameters
from .persistence import random_state_from_json, random_state_to_json
from .restarts import Standing

# Version 1 listed neither its members nor the runs that had not begun; it is read, too.
FORMAT, VERSION = "fastgmm checkpoint", 2

_ENTRIES = {"identity", "random_state", "heat", "waiting", "done", "running", "results", "loop"}
_REMEDY = "Delete the file to start afresh, or choose another path."
_DIGEST = 64  # bytes of a SHA-256 in hexadecimal digits
_COUNTS = ("n_repairs", "single", "double_passes")


class Checkpoint:
    """The file of one fit: what was left in it, and what is written to it.

    Call `close` at the end of the fit: until then no other fit can use the file.

    Parameters
    ----------
    path : str or path-like
    every : int
        Iterations from one time that a run is kept to the next.
    estimator : estimator
        Whose fit it is.
    random_state : RandomState
        What the fit would draw from. It is the same as `self.random_state`, put where it was when the fit
        was begun first, unless the estimator's is None: then that is one of its own.

    Raises
    ------
    ValueError
        If there is a file that is damaged or of another fit.
    OSError
        If no file can be written there. BlockingIOError if another fit uses it.

    Warns
    -----
    RuntimeWarning
        If there are no locks: nothing then keeps another fit from using the file.
    """

    def __init__(
        self, path: str | os.PathLike[str], every: int, estimator: Any, random_state: np.random.RandomState
    ) -> None:
        self.path, self.every = os.fspath(path), every
        self.standing: Standing | None = None
        self.loop: LoopState | None = None  # of the run that is being made
        self.repaired_at_start: tuple[int, ...] = ()  # of that run
        self.random_state = random_state
        self._has_warned = False
        self._identity = identity.of_options(estimator)
        self._members: dict[str, np.ndarray] = {}
        self._header: dict[str, Any] = {}
        self._callers: Any = None  # where the caller's random state was
        random_state_to_json(random_state)  # ValueError where it cannot be kept
        self._whole = os.path.realpath(self.path)  # links are followed, as where it is written
        self.exists = os.path.isfile(self._whole)
        if not self.exists:
            self._try_to_write()
        self._lock = self._locked()
        try:
            self.exists = os.path.isfile(self._whole)  # a fit that had the lock until now may have made it
            if self.exists:
                self._read()
                self._compare(self._identity)
                self._callers = random_state.get_state()
                if estimator.random_state is None:
                    self.random_state = np.random.RandomState()
                self._draw_again("first")
            self._first = random_state_to_json(self.random_state)
            # Fits that were killed have left what is there, whatever its age, if this is the only one.
            age = whole_files.ABANDONED if self._lock is None else 0.0
            whole_files.remove_left_overs(self._whole, age)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let other fits use the file."""
        if self._lock is not None:
            self._lock.release()

    def _locked(self) -> FileLock | None:
        """A lock that keeps other fits away, None where there can be none."""
        try:
            return FileLock(self._whole)
        except Held as error:
            raise BlockingIOError(
                f"checkpoint={self.path!r} is in use by another fit, of this or another process. Wait until "
                "it has ended, or choose another path."
            ) from error
        except OSError as error:
            if os.access(os.path.dirname(self._whole), os.W_OK):  # else nothing can be written anyway
                warnings.warn(
                    f"checkpoint={self.path!r} cannot be locked ({error}). The fit goes on. Make sure that "
                    "no other fit uses this path at the same time.",
                    RuntimeWarning,
                    stacklevel=2,
                )
            return None

    # ---- what was left ---------------------------------------------------------------------------------

    def take_up(
        self,
        standing: Standing,
        data: Any,
        seeds: ArrayData,
        frame: Frame,
        started_from: tuple[Any, float] | None,
        heats: list[int],
        shapes: dict[str, tuple[int, ...]],
    ) -> Standing:
        """Where the fit of these data is to go on from: what was left, or `standing`, the beginning.

        Parameters
        ----------
        standing : of a fit that has not begun
        data, seeds, frame : the rows, those that starts are made from, and the frame of all
        started_from : parameters and bound that a warm start continues from
        heats : iterations after which runs are compared
        shapes : of the parameters, by name
        """
        self._identity |= identity.of_rows(data, seeds, frame)
        self._identity["iterations after which runs are compared (n_init, max_iter)"] = heats
        self._identity["what warm_start continues from"] = identity.of_start(started_from)
        self.standing = standing
        if not self.exists:
            return standing
        with self.until_accepted():
            self._compare(self._identity)
            self._parse(shapes)
        self._draw_again("now")
        self._members = {}
        return self.standing

    @contextmanager
    def until_accepted(self) -> Iterator[None]:
        """What is refused meanwhile, arguments or the file, leaves the caller's random state as it was."""
        try:
            yield
        except BaseException:
            if self._callers is not None:
                self.random_state.set_state(self._callers)
            raise

    def _read(self) -> None:
        try:
            with open(self.path, "rb") as file:
                content = file.read()
            body, digest = content[:-_DIGEST], content[-_DIGEST:]
            is_whole = digest == hashlib.sha256(body).hexdigest().encode()
            refuse_unless(is_whole, "it is damaged, or not a checkpoint")
            self._members = archive.read(BytesIO(content), None)
            self._header = archive.checked_header(self._members, FORMAT, VERSION, _ENTRIES, {"not_begun"})
            del self._members["header"]
            refuse_unless(isinstance(self._header["identity"], dict), "its header is malformed")
        except (OSError, MemoryError):
            raise
        except Exception as error:  # as in persistence.load: parsers fail in more ways than can be listed
            raise self._not_valid(error) from error

    def _not_valid(self, error: Exception) -> ValueError:
        why = str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"
        return ValueError(
            f"checkpoint={self.path!r} is not a valid checkpoint of fastgmm: {why}. It was left as it is. "
            f"{_REMEDY}"
        )

    def _compare(self, now: dict[str, Any]) -> None:
        before = self._header["identity"]
        differ = [name for name in now if name not in before or before[name] != now[name]]
        if differ:
            what = "; ".join(f"{name}: {before.get(name)!r} there, {now[name]!r} now" for name in differ[:3])
            raise ValueError(f"checkpoint={self.path!r} belongs to another fit ({what}). {_REMEDY}")

    def _draw_again(self, when: str) -> None:
        try:
            state = random_state_from_json(self._header["random_state"][when])
            self.random_state.set_state(state.get_state())
        except Exception as error:
            raise self._not_valid(error) from error

    def _parse(self, shapes: dict[str, tuple[int, ...]]) -> None:
        header = self._header
        try:
            results = {
                int(run): self._result(f"run{int(run)}.", entry, shapes)
                for run, entry in header["results"].items()
            }
            waiting, done, running = set(header["waiting"]), set(header["done"]), header["running"]
            not_begun = self._not_begun(waiting - set(results))
            assert self.standing is not None
            refuse_unless(
                type(header["heat"]) is int
                and set(results) >= done
                and not_begun.stop <= self.standing.not_begun.stop
                and (running is None or running in waiting or running in not_begun),
                "its runs are malformed",
            )
            self.standing = Standing(
                header["heat"],
                not_begun,
                {run: results[run] for run in sorted(waiting & set(results))},
                {run: results[run] for run in sorted(done)},
                running,
            )
            if header["loop"] is not None:
                refuse_unless(running is not None, "its runs are malformed")
                self.repaired_at_start = tuple(header["loop"]["repaired_at_start"])
                arrays = self._arrays(shapes)
                result = self._result("loop.result.", header["loop"]["result"], shapes)
                self.loop = LoopState(result, header["loop"]["of_two_kinds"] is True, arrays)
            refuse_unless(not self._members, f"it has unknown members {sorted(self._members)[:3]}")
        except Exception as error:
            raise self._not_valid(error) from error

    def _not_begun(self, without_result: set[int]) -> range:
        """Runs that are to be begun: [first, number of all], listed among those that wait in version 1."""
        if self._header["version"] == 1:
            first, stop = min(without_result, default=0), max(without_result, default=-1) + 1
            refuse_unless(without_result == set(range(first, stop)), "its runs are malformed")
        else:
            first, stop = self._header["not_begun"]
            are_numbers = type(first) is int and type(stop) is int and 0 <= first <= stop
            refuse_unless(are_numbers and not without_result, "its runs are malformed")
        return range(first, stop)

    def _result(self, prefix: str, entry: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> EMResult:
        parameters = self._parameters(prefix, shapes)
        n_iter, columns = entry["n_iter"], entry["columns"]
        bounds = self._array(f"{prefix}lower_bounds", "<f8", (n_iter,))
        table = self._array(f"{prefix}history", "<f8", (n_iter, len(columns)))
        history = {
            name: [int(value) for value in values] if is_int else values
            for (name, is_int), values in zip(columns, table.T.tolist(), strict=True)
        }
        return EMResult(
            parameters,
            converged=entry["converged"] is True,
            n_iter=n_iter,
            lower_bound=float(entry["lower_bound"]),
            lower_bounds=bounds.tolist(),
            history=history,
            n_repairs=int(entry["n_repairs"]),
            repaired=tuple(int(k) for k in entry["repaired"]),
        )

    def _parameters(self, prefix: str, shapes: dict[str, tuple[int, ...]]) -> Parameters:
        parameters = Parameters(
            **{name: self._array(prefix + name, "<f8", shape) for name, shape in shapes.items()}
        )
        finite = all(np.isfinite(values).all() for values in parameters)
        refuse_unless(finite and (parameters.weights >= 0).all(), "its parameters are not those of a mixture")
        return parameters

    def _arrays(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
        """What the loop remembers (Maximiser.state, Anderson.state)."""
        K, D = shapes["means"]
        arrays: dict[str, Any] = {}
        for name in ("hopeless", "floored", "repaired"):
            arrays[f"maximiser.{name}"] = self._array(f"loop.maximiser.{name}", "|b1", (K,))
        arrays["maximiser.n_reseeds"] = self._array("loop.maximiser.n_reseeds", "<i8", (K,))
        arrays["maximiser.counts"] = self._array("loop.maximiser.counts", "<i8", (len(_COUNTS),))
        if "loop.maximiser.shared_second" in self._members:
            arrays["maximiser.shared_second"] = self._array("loop.maximiser.shared_second", "<f8", (D, D))
        if "loop.anderson.fallback.weights" in self._members:
            fallback = self._parameters("loop.anderson.fallback.", shapes)
            arrays |= {f"anderson.fallback.{name}": values for name, values in fallback._asdict().items()}
        if "loop.anderson.residuals" in self._members:
            shape = self._members["loop.anderson.residuals"].shape
            refuse_unless(len(shape) == 2, "loop.anderson.residuals is malformed")
            for name in ("residuals", "images"):
                arrays[f"anderson.{name}"] = self._array(f"loop.anderson.{name}", "<f8", shape)
        return arrays

    def _array(self, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
        refuse_unless(name in self._members, f"{name} is missing")
        values = self._members.pop(name)
        fits = values.dtype == np.dtype(dtype) and values.shape == shape
        refuse_unless(fits, f"{name} has the type {values.dtype} and the shape {values.shape}")
        return np.array(values, order="C")

    # ---- what is written -------------------------------------------------------------------------------

    def found(self) -> LoopState | None:
        """The state that the run was left in."""
        return self.loop

    def is_due(self, iteration: int) -> bool:
        """After so many iterations, and before the first of a run whose start has just been drawn."""
        assert self.standing is not None
        assert self.standing.running is not None
        if iteration == 0:
            return self.standing.running not in self.standing.waiting
        return iteration % self.every == 0

    def keep(self, state: LoopState) -> LoopState:
        """Write down the state of the run that is being made; it comes back in the file's layout."""
        result, of_two_kinds, arrays = state
        result.parameters = _in_order(result.parameters)
        arrays = {name: np.array(values, order="C") for name, values in arrays.items()}
        self.loop = LoopState(result, of_two_kinds, arrays)
        self._write()
        return self.loop

    def keep_standing(self, standing: Standing) -> None:
        """Write down how far the runs have come, when one has ended."""
        for result in standing.known().values():
            result.parameters = _in_order(result.parameters)
        self.standing, self.loop, self.repaired_at_start = standing, None, ()
        self._write()

    def _to_members(self) -> dict[str, np.ndarray]:
        assert self.standing is not None
        members: dict[str, np.ndarray] = {}
        results = self.standing.known()
        loop = None
        if self.loop is not None:
            loop = {
                "repaired_at_start": list(self.repaired_at_start),
                "of_two_kinds": self.loop.of_two_kinds,
                "result": _add_result(members, "loop.result.", self.loop.result),
            }
            members |= {f"loop.{name}": values for name, values in self.loop.arrays.items()}
        header = {
            "format": FORMAT,
            "version": VERSION,
            "identity": self._identity,
            "random_state": {"first": self._first, "now": random_state_to_json(self.random_state)},
            "heat": self.standing.heat,
            "not_begun": [self.standing.not_begun.start, self.standing.not_begun.stop],
            "waiting": list(self.standing.waiting),
            "done": list(self.standing.done),
            "running": None if loop is None else self.standing.running,
            "results": {run: _add_result(members, f"run{run}.", result) for run, result in results.items()},
            "loop": loop,
        }
        return archive.with_header(header, members)

    def _write(self) -> None:
        stream = BytesIO()
        archive.write(stream, self._to_members())
        content = stream.getbuffer()
        # an archive ends with the length of its comment, which is 0 so far
        body = bytes(content[:-2]) + _DIGEST.to_bytes(2, "little")
        digest = hashlib.sha256(body).hexdigest().encode()
        try:
            whole_files.write_atomically(self.path, lambda file: file.writelines((body, digest)))
        except OSError as error:
            if not self.exists:
                raise
            if not self._has_warned:
                self._has_warned = True
                warnings.warn(
                    f"checkpoint={self.path!r} could not be written ({error}); the last one that could is "
                    "left there, and the fit goes on.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        else:
            self.exists = True

    def _try_to_write(self) -> None:
        try:
            kind = whole_files.there(self.path)[1]
            if kind == "a folder":
                raise IsADirectoryError("it is a folder")
            if kind:
                raise OSError(f"it is {kind}")
            whole_files.Replacement(self.path).discard()
        except OSError as error:
            raise type(error)(
                f"checkpoint={self.path!r} cannot be written: {error}. Choose a path in a folder that exists "
                "and can be written to."
            ) from error


# ---- results as members --------------------------------------------------------------------------------


def _in_order(parameters: Parameters) -> Parameters:
    return Parameters(*(np.array(values, dtype=np.float64, order="C") for values in parameters))


def _add_result(members: dict[str, np.ndarray], prefix: str, result: EMResult) -> dict[str, Any]:
    """Add the arrays of a result to members; the rest of it as JSON."""
    for name, values in result.parameters._asdict().items():
        members[prefix + name] = values
    members[f"{prefix}lower_bounds"] = np.array(result.lower_bounds, dtype=np.float64)
    table: FloatArray = np.array(list(result.history.values()), dtype=np.float64)
    members[f"{prefix}history"] = table.reshape(len(result.history), result.n_iter).T
    return {
        "converged": bool(result.converged),
        "n_iter": int(result.n_iter),
        "lower_bound": float(result.lower_bound),
        "n_repairs": int(result.n_repairs),
        "repaired": [int(k) for k in result.repaired],
        "columns": [[name, all(type(v) is int for v in vs)] for name, vs in result.history.items()],
    }
