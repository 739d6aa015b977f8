"""Measure fastgmm beside its peers and write the report.

    python benchmarks/run.py                          # everything; an hour or more
    python benchmarks/run.py --quick                  # everything on little data, to see that it runs
    python benchmarks/run.py --sections equal,rate --types full --problems tabular-d16 overlap-d16
    python benchmarks/run.py --sections none          # only the report of what is measured already

Results go to benchmarks/results/latest.{json,md,png} and scaling.png (quick.* with --quick). Rows measured
now replace the same rows of an earlier run, so that sections, types and problems can be measured one at a
time; every row is stored when it is done. Sections: equal (equal iterations), agreement (log-likelihood
beside scikit-learn's), rate (share of the FMA peak), end_to_end and quality (default arguments), seeding,
pruning, share (of work on parameters), memory, scaling (against N, D, K and threads), prediction, restarts,
acceleration, precision (float32), bayesian.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import harness
import machine
import plot
import plot_scaling
import problems
import report
from results import Results
from sections import SECTIONS

# Of every kind one, none slow: for the peers, 64 features and many components are slow at any number of rows.
QUICK_PROBLEMS = ("plane-1m", "pixels-k16", "tabular-d16", "separated-d32")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--sections", default=",".join(SECTIONS), help="comma-separated, or none; default: %(default)s")
    add("--problems", nargs="+", choices=problems.NAMES, default=None, metavar="NAME")
    add(
        "--types",
        nargs="+",
        choices=problems.COVARIANCE_TYPES,
        default=problems.COVARIANCE_TYPES,
        metavar="TYPE",
    )
    add("--peers", nargs="*", choices=("sklearn", "onedal", "numpy"), default=("sklearn", "onedal", "numpy"))
    add(
        "--threads",
        type=int,
        default=machine.usable_cores(),
        help="of every library; default: all usable cores",
    )
    add(
        "--repeats",
        type=int,
        default=3,
        help="timings of each, of which the median counts; default: %(default)s",
    )
    add("--seeds", type=int, default=None, help="default: 8 end to end, 20 for quality, 5 for seeding")
    add("--iterations", type=int, default=20, help="of ours in equal iterations; default: %(default)s")
    add(
        "--peer-seconds",
        type=float,
        default=6.0,
        help="peers do as many iterations as we, or as fit in this time, or 4; default: %(default)s",
    )
    add(
        "--default-seconds",
        type=float,
        default=300.0,
        help="end to end, a peer skips seeds after this time; default: %(default)s",
    )
    add("--quick", action="store_true", help="small data, few repeats: checks that everything runs")
    add("--scale", type=float, default=None, help="share of the rows to use; default: 1 (0.02 with --quick)")
    add("--output", type=Path, default=None, help="path of the results without its suffix")
    add(
        "--update-readme", type=Path, default=None, metavar="FILE", help="replace the benchmark table in FILE"
    )
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    chosen = [] if options.sections == "none" else options.sections.split(",")
    unknown = sorted(set(chosen) - set(SECTIONS))
    if unknown:
        print(f"unknown sections: {', '.join(unknown)}; choose from {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    quick = options.quick
    stem = options.output or harness.HERE / "results" / ("quick" if quick else "latest")
    stem.parent.mkdir(parents=True, exist_ok=True)
    stored = Results(stem.with_suffix(".json"))
    with tempfile.TemporaryDirectory(prefix="gmm-benchmark-") as folder:
        context = harness.Context(
            problems=tuple(options.problems or (QUICK_PROBLEMS if quick else problems.NAMES)),
            types=tuple(options.types),
            peers=tuple(options.peers),
            n_threads=options.threads,
            repeats=1 if quick else options.repeats,
            seeds=2 if quick and options.seeds is None else options.seeds,
            scale=options.scale if options.scale is not None else 0.02 if quick else 1.0,
            iterations=options.iterations,
            peer_seconds=0.2 if quick else options.peer_seconds,
            default_seconds=5.0 if quick else options.default_seconds,
            folder=Path(folder),
        )
        try:
            if chosen:
                stored.machine = machine.describe(context)
            for name in [each for each in SECTIONS if each in chosen]:
                for row in SECTIONS[name].run(context):
                    row.update(when=datetime.now(UTC).isoformat(timespec="seconds"), scale=context.scale)
                    stored.replace(name, SECTIONS[name].KEY, row)
        except KeyboardInterrupt:
            print("interrupted: reporting what is measured", file=sys.stderr)
        finally:
            context.close()
    text = report.full(stored)
    stem.with_suffix(".md").write_text(text)
    plot.write(stored, stem.with_suffix(".png"))
    plot_scaling.write(
        stored, stem.with_name("scaling.png" if stem.name == "latest" else f"{stem.name}.scaling.png")
    )
    if options.update_readme is not None:
        report.update_readme(options.update_readme, stored)
    print(text)
    print(f"written: {os.path.relpath(stem)}.json, .md, .png", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
