"""Time of an EM iteration beside Spark MLlib's GaussianMixture, on one machine.

    python benchmarks/big_spark.py              # 1,000,000 x 8, K = 8; needs pyspark, pyarrow and Java
    python benchmarks/big_spark.py --quick      # little data: does it run?

Full covariance, equal iterations, as many threads for both (``local[2]``). A time is that of a fit of MANY
iterations less that of a fit of FEW, divided by the iterations between, so that neither Spark's start-up nor
anybody's seeding counts; libraries take turns, and the median over rounds is kept. Rows are in memory on both
sides before the clock starts: an array here, a cached frame of vectors there, in as many partitions as
threads. What is compared is ``GaussianMixture.fit`` on one machine, not fastgmm on Spark. MLlib computes on
the JVM, with the native BLAS it finds or, as here, its own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

import machine
import markdown
from fastgmm import GaussianMixture
from problems import start, synth

RESULTS = Path(__file__).parent / "results" / "spark.json"
N_THREADS = 2
FEW, MANY = 2, 12
ROUNDS = 3
SEPARATION = 1.0  # as tabular-d8: components overlap, and nothing can be pruned


def ours(X: np.ndarray, n_components: int) -> Callable[[int], int]:
    """A fit of so many iterations."""
    first = start(X, n_components, "full")

    def fit(max_iter: int) -> int:
        mixture = GaussianMixture(
            n_components,
            tol=0.0,
            max_iter=max_iter,
            reg_covar=first.reg_covar,
            weights_init=first.weights,
            means_init=first.means,
            precisions_init=first.precisions,
            n_jobs=N_THREADS,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return mixture.fit(X).n_iter_

    return fit


@contextmanager
def mllib(X: np.ndarray, n_components: int) -> Iterator[tuple[Callable[[int], int], str]]:
    """The same of Spark's, and Spark's version; its session ends with the context."""
    import pandas as pd
    from pyspark.ml.clustering import GaussianMixture as SparkMixture
    from pyspark.ml.feature import VectorAssembler
    from pyspark.sql import SparkSession

    names = [f"x{i}" for i in range(X.shape[1])]
    builder = SparkSession.builder.master(f"local[{N_THREADS}]").config("spark.driver.memory", "6g")
    spark = builder.config("spark.ui.enabled", "false").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    try:
        with tempfile.TemporaryDirectory() as folder:
            pd.DataFrame(X, columns=names).to_parquet(f"{folder}/rows.parquet")
            rows = spark.read.parquet(f"{folder}/rows.parquet").repartition(N_THREADS)
            vectors = VectorAssembler(inputCols=names, outputCol="features").transform(rows)
            vectors = vectors.select("features").cache()
            assert vectors.count() == len(X)

            def fit(max_iter: int) -> int:
                # tol = 0: MLlib goes on while the log-likelihood changes by more
                model = SparkMixture(k=n_components, maxIter=max_iter, tol=0.0, seed=0).fit(vectors)
                return int(model.summary.numIter)

            yield fit, spark.version
    finally:
        spark.stop()


def seconds_per_iteration(fit: Callable[[int], int]) -> float:
    """Difference of two fits; both do all their iterations."""
    took = {}
    for max_iter in (FEW, MANY):
        began = time.perf_counter()
        assert fit(max_iter) == max_iter
        took[max_iter] = time.perf_counter() - began
    return (took[MANY] - took[FEW]) / (MANY - FEW)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="little data, and nothing is written")
    quick = parser.parse_args().quick
    n_rows, n_features, n_components = (20_000 if quick else 1_000_000), 8, 8
    X = synth(n_rows, n_features, n_components, SEPARATION, seed=0)
    times: dict[str, list[float]] = {"fastgmm": [], "MLlib": []}
    with mllib(X, n_components) as (theirs, version):
        fits = {"fastgmm": ours(X, n_components), "MLlib": theirs}
        for fit in fits.values():  # compiled, cached, warm
            fit(FEW)
        for _ in range(ROUNDS):
            for name, fit in fits.items():
                times[name].append(seconds_per_iteration(fit))
    median = {name: statistics.median(values) for name, values in times.items()}
    ratios = [b / a for a, b in zip(times["fastgmm"], times["MLlib"], strict=True)]
    ratio = statistics.median(ratios)
    header = ("rows x features", "K", "fastgmm, ms", f"Spark {version} MLlib, ms", "ratio", "rounds")
    row = (
        f"{n_rows:,} x {n_features}",
        str(n_components),
        markdown.number(1e3 * median["fastgmm"]),
        markdown.number(1e3 * median["MLlib"]),
        markdown.ratio(ratio),
        f"{markdown.ratio(min(ratios))} to {markdown.ratio(max(ratios))}",
    )
    print(markdown.render(header, [row]))
    if quick:
        return
    record = {
        "processor": machine.processor(),
        "threads": N_THREADS,
        "spark": version,
        "rows": n_rows,
        "features": n_features,
        "components": n_components,
        "iterations": [FEW, MANY],
        "seconds_per_iteration": times,
        "median_seconds_per_iteration": median,
        "ratio": ratio,
    }
    RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
