"""Where the package meets the rest of the world: processes, signals, threads, memory and large arrays.

Scenarios that could hang or kill the interpreter run in a Python of their own, with a timeout.
"""

from __future__ import annotations

import concurrent.futures
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import datasets
import numpy as np
import pytest
import tolerances

from fastgmm import GaussianMixture
from fastgmm.kernels import _pass

SECONDS = 120  # for any of these scripts on a busy machine; each takes a few seconds
posix = pytest.mark.skipif(sys.platform == "win32", reason="fork and SIGINT are POSIX")
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def run_script(script: str, environment, tmp_path: Path, *arguments: str) -> str:
    """Output of a script in a Python of its own; fails with its output where it fails or hangs."""
    path = tmp_path / "script.py"
    path.write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(path), *arguments],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# -- processes ---------------------------------------------------------------------------------------

PROCESSES = """
import multiprocessing, sys, warnings
import numpy as np
from fastgmm import GaussianMixture

X = np.random.default_rng(0).standard_normal((50_000, 4))

def work(queue, model):
    labels = model.predict(X)
    refitted = GaussianMixture(3, max_iter=3, random_state=0, n_jobs=2, tol=0.0).fit(X)
    queue.put((labels.sum(), refitted.means_.tobytes()))

if __name__ == "__main__":
    warnings.simplefilter("ignore")
    model = GaussianMixture(3, max_iter=3, random_state=0, n_jobs=2, tol=0.0).fit(X)
    # The threads of OpenMP exist from here on.
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.Queue()
    process = context.Process(target=work, args=(queue, model))
    process.start()
    try:
        total, means = queue.get(timeout=40)
        process.join(20)
        assert process.exitcode == 0, process.exitcode
    finally:
        process.kill()
    assert total == model.predict(X).sum()
    assert means == model.means_.tobytes()  # the child computes serially: the same bits
    print("done")
"""


@posix
def test_fork_after_use(clean_environment, tmp_path):
    """libgomp's threads do not survive a fork: without the hook the child waits for them for ever."""
    assert "done" in run_script(PROCESSES, clean_environment, tmp_path, "fork")


def test_spawn(clean_environment, tmp_path):
    assert "done" in run_script(PROCESSES, clean_environment, tmp_path, "spawn")


ISA = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import fastgmm
from fastgmm.kernels import _pass
told = [w for w in caught if w.category is RuntimeWarning and "FASTGMM_ISA" in str(w.message)]
print(_pass.current_isa(), len(told))
"""


def test_instruction_set_from_the_environment(clean_environment, tmp_path):
    for name in _pass.available_isas():
        environment = {**clean_environment, "FASTGMM_ISA": name}
        assert run_script(ISA, environment, tmp_path).split() == [name, "0"]
    best = _pass.available_isas()[-1]
    environment = {**clean_environment, "FASTGMM_ISA": "pentium"}
    assert run_script(ISA, environment, tmp_path).split() == [best, "1"]


# -- Ctrl-C ------------------------------------------------------------------------------------------

# One pass takes several seconds (slowest instruction set, one thread or two), so checking for signals between
# passes would not do.
INTERRUPTED = """
import os, signal, sys, time
import numpy as np
from fastgmm import GaussianMixture

rng = np.random.default_rng(0)
n_features, n_components = 32, 400
X = rng.standard_normal((150_000, n_features))
start = dict(
    weights_init=np.full(n_components, 1 / n_components),
    means_init=X[:n_components].copy(),
    precisions_init=np.stack([np.eye(n_features)] * n_components),
)
model = GaussianMixture(n_components, max_iter=1000, tol=0.0, n_jobs=int(sys.argv[1]), **start)
small = GaussianMixture(2, random_state=0).fit(X[:500])
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
print("fitting", flush=True)
try:
    model.fit(X)
except KeyboardInterrupt:
    print("interrupted", time.time(), flush=True)
assert not hasattr(model, "means_")
# The estimator is usable, and so is the package.
model.set_params(n_components=2, weights_init=None, means_init=None, precisions_init=None, tol=10.0)
assert np.isfinite(model.fit(X[:1000]).score(X[:1000]))
assert np.isfinite(small.score(X[:500]))
print("done", flush=True)
"""


@posix
@pytest.mark.parametrize("n_jobs", ["1", "2"])
def test_interrupt(clean_environment, tmp_path, n_jobs):
    path = tmp_path / "script.py"
    path.write_text(INTERRUPTED, encoding="utf-8")
    environment = {**clean_environment, "FASTGMM_ISA": _pass.available_isas()[0]}
    with subprocess.Popen(
        [sys.executable, str(path), n_jobs], env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline().strip() == "fitting"
            time.sleep(1.5)
            sent = time.time()
            process.send_signal(signal.SIGINT)
            word, returned = process.stdout.readline().split()
            assert word == "interrupted"
            assert float(returned) - sent <= tolerances.INTERRUPT_SECONDS
            assert process.stdout.readline().strip() == "done"
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()


# -- threads of the caller ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_concurrent_calls(covariance_type, n_jobs):
    """The same model and its methods from many threads: every answer is that of a call on its own."""
    X, start = datasets.problem(9, 60_000, 4, 3, covariance_type)
    estimator = GaussianMixture(
        3, covariance_type=covariance_type, n_jobs=n_jobs, **datasets.init_arguments(covariance_type, start)
    ).fit(X)
    parts = [X[i : i + 20_000 + i % 7] for i in range(0, 40_000, 2_000)]
    alone = [(estimator.predict(p), estimator.score_samples(p), estimator.predict_proba(p)) for p in parts]

    def work(part):
        return estimator.predict(part), estimator.score_samples(part), estimator.predict_proba(part)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for expected, found in zip(alone, pool.map(work, parts), strict=True):
            for a, b in zip(expected, found, strict=True):
                np.testing.assert_array_equal(a, b)


def test_concurrent_fits():
    X, start = datasets.problem(9, 30_000, 4, 3, "full")

    def work(_):
        arguments = datasets.init_arguments("full", start)
        return GaussianMixture(3, n_jobs=2, **arguments).fit(X).means_

    expected = work(0)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found in pool.map(work, range(12)):
            np.testing.assert_array_equal(found, expected)


# -- memory ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("seeded", [False, True])
def test_input_is_not_copied(dtype, seeded):
    """Python-side allocations (NumPy's are traced) of a fit and of row outputs against the size of X."""
    X, start = datasets.problem(9, 2000, 16, 2, "full")
    X = np.ascontiguousarray(np.tile(X, (150, 1)), dtype=dtype)
    arguments = {"random_state": 0} if seeded else datasets.init_arguments("full", start)
    estimator = GaussianMixture(2, max_iter=2, tol=10.0, **arguments)
    estimator.fit(X[:100])  # imports and caches
    tracemalloc.start()
    try:
        estimator.fit(X)
        _, peak = tracemalloc.get_traced_memory()
        assert peak <= tolerances.COPY_FRACTION * X.nbytes, f"fit: {peak / X.nbytes:.2f} of the input"
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        estimator.score(X)
        estimator.score_samples(X)
        _, peak = tracemalloc.get_traced_memory()
        assert peak - before <= tolerances.COPY_FRACTION * X.nbytes, (
            f"score: {peak / X.nbytes:.2f} of the input"
        )
    finally:
        tracemalloc.stop()


ANONYMOUS = """
import sys, threading, time, warnings
import numpy as np
from fastgmm import GaussianMixture

def anonymous():
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

warnings.simplefilter("ignore")
X = np.load(sys.argv[1], mmap_mode="r")  # pages of the file are not anonymous
seeded = sys.argv[2] == "seeded"
rng = np.random.default_rng(1)
K, D = 16, X.shape[1]
start = {} if seeded else dict(
    weights_init=np.full(K, 1 / K), means_init=np.array(X[:K], dtype=float),
    precisions_init=np.stack([np.eye(D)] * K)
)
model = GaussianMixture(K, max_iter=4, tol=0.0, random_state=0, n_jobs=2, **start)
model.fit(X[:2000])
before, peak, running = anonymous(), 0, True

def watch():
    global peak
    while running:
        peak = max(peak, anonymous())
        time.sleep(0.002)

watcher = threading.Thread(target=watch)
watcher.start()
model.fit(X)
running = False
watcher.join()
print(peak - before)
"""


def grown(n_rows, start, environment, tmp_path):
    rows = np.random.default_rng(0).standard_normal((min(n_rows, 500_000), 8))
    target = np.lib.format.open_memmap(tmp_path / "rows.npy", "w+", np.float64, (n_rows, 8))
    for begin in range(0, n_rows, len(rows)):
        target[begin : begin + len(rows)] = rows[: n_rows - begin]
    del target
    return int(run_script(ANONYMOUS, environment, tmp_path, str(tmp_path / "rows.npy"), start))


@linux
@pytest.mark.parametrize("start", ["given", "seeded"])
def test_anonymous_memory(clean_environment, tmp_path, start):
    """N x K doubles would be 77 MB here, a copy of the rows 38 MB: neither fits into this limit."""
    assert grown(600_000, start, clean_environment, tmp_path) <= 0.35 * tolerances.ANONYMOUS_BYTES


@linux
@pytest.mark.slow
@pytest.mark.parametrize("start", ["given", "seeded"])
def test_anonymous_memory_of_four_million_rows(clean_environment, tmp_path, start):
    assert grown(4_000_000, start, clean_environment, tmp_path) <= tolerances.ANONYMOUS_BYTES
