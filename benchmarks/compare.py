"""Compare the speed of two commits: the same small problems, taking turns, on one machine at one time.

    python benchmarks/compare.py main                 # the working tree against main
    python benchmarks/compare.py v0.1.0 main          # two commits
    python benchmarks/compare.py main --rounds 31 --instructions

Each commit is checked out and built in a temporary folder and runs in a process of its own. A ratio is the
median over rounds of head's time by base's, each pair measured back to back; the range beside it is where
the middle half of the pairs lie: a ratio whose range holds 1 says nothing. With --instructions, and valgrind,
instructions are counted as well, which noise does not touch (on x86-64-v3: valgrind knows no AVX-512).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 15

# What a worker runs; it is given this text, so that both commits run the same.
WORKER = r"""
import json, sys, time, warnings
import numpy as np
from fastgmm import GaussianMixture
warnings.simplefilter("ignore")

def rows(n, d, k, apart):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, d)) + apart * rng.standard_normal((k, d))[rng.integers(0, k, n)]

def fit(n, d, k, kind="full", apart=1.0, iterations=5, **options):
    X = rows(n, d, k, apart)
    eye = {"full": np.stack([np.eye(d)] * k), "tied": np.eye(d), "diag": np.ones((k, d)),
           "spherical": np.ones(k)}[kind]
    model = GaussianMixture(k, covariance_type=kind, tol=0.0, max_iter=iterations, reg_covar=1e-3,
                            weights_init=np.full(k, 1 / k), means_init=X[:k].copy(), precisions_init=eye)
    return lambda: model.fit(X)

def start(n, d, k):
    X = rows(n, d, k, 3.0)
    return lambda: GaussianMixture(k, max_iter=0, random_state=0).fit(X)

def call(n, d, k, method):
    X = rows(n, d, k, 3.0)
    model = GaussianMixture(k, max_iter=2, tol=0.0, random_state=0).fit(rows(5000, d, k, 3.0))
    return lambda: getattr(model, method)(X)

PROBLEMS = {
    "full, 50,000 x 3, K = 16": lambda **o: fit(50_000, 3, 16, **o),
    "full, 20,000 x 16, K = 16": lambda **o: fit(20_000, 16, 16, **o),
    "full, 4,000 x 64, K = 16": lambda **o: fit(4_000, 64, 16, **o),
    "full, far apart, 20,000 x 16, K = 64": lambda **o: fit(20_000, 16, 64, apart=8.0, **o),
    "tied, 20,000 x 16, K = 32": lambda **o: fit(20_000, 16, 32, kind="tied", **o),
    "diag, 50,000 x 8, K = 16": lambda **o: fit(50_000, 8, 16, kind="diag", **o),
    "spherical, 50,000 x 8, K = 16": lambda **o: fit(50_000, 8, 16, kind="spherical", **o),
    "start, 50,000 x 8, K = 16": lambda **o: start(50_000, 8, 16),
    "predict_proba, 50,000 x 8, K = 16": lambda **o: call(50_000, 8, 16, "predict_proba"),
    "predict, 1 x 8, K = 16": lambda **o: call(1, 8, 16, "predict"),
}

if __name__ == "__main__":
    if len(sys.argv) > 1:  # for instruction counts: one problem, so many iterations
        PROBLEMS[sys.argv[1]](iterations=int(sys.argv[2]))()
        sys.exit()
    print(json.dumps(list(PROBLEMS)), flush=True)
    ready = {}
    for line in sys.stdin:
        name = json.loads(line)
        if name not in ready:
            ready.clear()
            ready[name] = PROBLEMS[name]()
            ready[name]()
        time.sleep(0.01)  # threads of the other process that spin after a parallel region go to sleep
        begin, n = time.perf_counter(), 0
        while n == 0 or time.perf_counter() - begin < 0.02:
            ready[name]()
            n += 1
        print((time.perf_counter() - begin) / n, flush=True)
"""


class Tree:
    """A commit, checked out and built."""

    def __init__(self, commit: str | None, folder: Path) -> None:
        self.name = commit or "working tree"
        self.folder = folder
        if commit is None:
            files = git("ls-files", "--cached", "--others", "--exclude-standard").splitlines()
            for file in files:
                if (ROOT / file).is_file():
                    (folder / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(ROOT / file, folder / file)
        else:
            archive = subprocess.run(["git", "archive", commit], cwd=ROOT, stdout=subprocess.PIPE, check=True)
            subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
        log(f"building {self.name}")
        subprocess.run(
            [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"], cwd=folder, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        (folder / "worker.py").write_text(WORKER, encoding="utf-8")
        self.command = [sys.executable, str(folder / "worker.py")]
        self.environment = {**os.environ, "PYTHONPATH": str(folder / "src")}

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            self.command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def instructions(self, problem: str) -> float:
        """Of one iteration on one thread: those of five iterations less those of one, by four."""
        counts = []
        environment = {**self.environment, "OMP_NUM_THREADS": "1", "FASTGMM_ISA": "x86-64-v3"}
        for iterations in (1, 5):
            done = subprocess.run(
                ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *self.command, problem,
                 str(iterations)],
                env=environment, capture_output=True, text=True, check=True,
            )  # fmt: skip
            line = next(text for text in done.stderr.splitlines() if "Collected" in text)
            counts.append(int(line.split(":")[1].split()[0]))
        return (counts[1] - counts[0]) / 4


def git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def ask(process: subprocess.Popen[str], problem: str) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(problem) + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def times(base: Tree, head: Tree, rounds: int) -> dict[str, np.ndarray]:
    """Seconds (rounds, 2) by problem: base and head, who take turns in going first."""
    found: dict[str, np.ndarray] = {}
    with base.worker() as first, head.worker() as second:
        assert first.stdout is not None
        assert second.stdout is not None
        problems: list[str] = json.loads(second.stdout.readline())
        first.stdout.readline()
        for problem in problems:
            log(problem)
            pairs = np.empty((rounds, 2))
            for i in range(rounds):
                for j in (0, 1) if i % 2 else (1, 0):
                    pairs[i, j] = ask((first, second)[j], problem)
            found[problem] = pairs
    return found


def report(base: Tree, head: Tree, found: dict[str, np.ndarray], counts: dict[str, Any]) -> str:
    lines = [
        f"{head.name} beside {base.name}: ratios of times, below 1 is faster.",
        "",
        "| problem | base ms | head / base | middle half |" + (" instructions |" if counts else ""),
        "|---|---:|---:|---:|" + ("---:|" if counts else ""),
    ]
    for problem, pairs in found.items():
        low, middle, high = np.quantile(pairs[:, 1] / pairs[:, 0], [0.25, 0.5, 0.75])
        line = f"| {problem} | {1e3 * np.median(pairs[:, 0]):.3g} | {middle:.3f} | {low:.3f} to {high:.3f} |"
        if counts:
            line += f" {counts[problem]:.4f} |" if problem in counts else " - |"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", help="commit to compare with")
    parser.add_argument("head", nargs="?", default=None, help="commit; default: the working tree")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help=f"pairs of each problem; default: {ROUNDS}"
    )
    parser.add_argument("--instructions", action="store_true", help="count instructions, too (valgrind)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        trees = []
        for name, commit in (("base", arguments.base), ("head", arguments.head)):
            (Path(folder) / name).mkdir()
            trees.append(Tree(commit, Path(folder) / name))
        base, head = trees
        found = times(base, head, arguments.rounds)
        counts: dict[str, Any] = {}
        if arguments.instructions and shutil.which("valgrind"):
            for problem in found:
                if problem.startswith(("full", "tied", "diag", "spherical")):
                    log(f"instructions: {problem}")
                    counts[problem] = head.instructions(problem) / base.instructions(problem)
        print(report(base, head, found, counts))


if __name__ == "__main__":
    main()
