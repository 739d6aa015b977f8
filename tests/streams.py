"""Sources of the same rows in every way there is, cut into parts so small that few rows make several."""

from __future__ import annotations

import importlib.util
import itertools

import numpy as np

from fastgmm import BlockRows, NpyRows, ParquetRows
from fastgmm.sources import base, mapped, parts, streamed
from fastgmm.sources.mapped import MappedRows

# Rows of a part while parts are as small as they come (base.rows_per_part), and bytes of the smallest one.
PART_ROWS, SMALLEST = 4096, 1 << 14
CUTS = (0, 10, 700, 700, 9000)  # of shards: tiny, small, none, several parts, the rest

WAYS = ["memmap", "npy", "shards", "fortran", "generator", "list", "weird blocks"]
if importlib.util.find_spec("pyarrow"):
    WAYS += ["parquet", "feather", "table"]


def make_parts_small(monkeypatch):
    """Parts of PART_ROWS rows, whatever their size."""
    monkeypatch.setattr(base, "PART_BYTES", 1)
    monkeypatch.setattr(mapped, "PART_BYTES", 1)
    for module in (base, parts, streamed):
        monkeypatch.setattr(module, "SMALLEST_PART", SMALLEST)


def source_of(way, X, weight, folder):
    """The rows as a source, of files in a folder where it takes any."""
    cuts = [*CUTS, len(X)]
    shards = [slice(first, last) for first, last in itertools.pairwise(cuts)]
    if way == "memmap":
        np.save(folder / "mapped.npy", X)
        return MappedRows(np.load(folder / "mapped.npy", mmap_mode="r"), weight)
    if way in ("npy", "fortran"):
        np.save(folder / f"{way}.npy", X if way == "npy" else np.asfortranarray(X))
        return NpyRows(folder / f"{way}.npy", weight)
    if way == "shards":
        paths = [folder / f"shard{i}.npy" for i in range(len(shards))]
        for path, shard in zip(paths, shards):
            np.save(path, X[shard])
        weights = None
        if weight is not None:
            np.save(folder / "w0.npy", weight[:5000])
            np.save(folder / "w1.npy", weight[5000:])
            weights = [folder / "w0.npy", folder / "w1.npy"]
        return NpyRows(paths, weights)
    if way in ("parquet", "feather", "table"):
        return arrow_source(way, X, weight, folder)
    if way == "weird blocks":  # one row at a time would do, too
        shards = [slice(first, first + 37) for first in range(0, 5000, 37)] + [slice(5032, len(X))]
        shards[-2] = slice(shards[-2].start, 5032)
    blocks = [X[shard] if weight is None else (X[shard], weight[shard]) for shard in shards]
    return BlockRows(blocks if way == "list" else lambda: iter(blocks), weighted=weight is not None)


def arrow_source(way, X, weight, folder):
    import pyarrow
    import pyarrow.feather
    import pyarrow.parquet

    columns = {f"feature {j}": X[:, j] for j in range(X.shape[1])}
    if weight is not None:
        columns["weight"] = weight
    table = pyarrow.table(columns)
    weights = None if weight is None else "weight"
    if way == "table":
        return ParquetRows(table, weights=weights)
    if way == "feather":
        pyarrow.feather.write_feather(table, str(folder / "rows.feather"), chunksize=3000)
        return ParquetRows(folder / "rows.feather", weights=weights)
    pyarrow.parquet.write_table(table, folder / "rows.parquet", row_group_size=2500)
    return ParquetRows(folder / "rows.parquet", weights=weights)
