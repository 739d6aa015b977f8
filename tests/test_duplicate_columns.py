"""Two columns of one name, in whatever pyarrow reads: an error that says so."""

from __future__ import annotations

import numpy as np
import pytest

from fastgmm import GaussianMixture, ParquetRows

pyarrow = pytest.importorskip("pyarrow")
dataset = pytest.importorskip("pyarrow.dataset")
ipc = pytest.importorskip("pyarrow.ipc")
pq = pytest.importorskip("pyarrow.parquet")

X = np.random.default_rng(0).normal(size=(50, 4))


def table(names):
    return pyarrow.table([pyarrow.array(column) for column in X.T], names=names)


def sources(names, folder):
    made = table(names)
    pq.write_table(made, folder / "rows.parquet")
    pq.write_table(table(["a", "b", "c", "d"]), folder / "first.parquet")
    with ipc.new_file(str(folder / "rows.arrow"), made.schema) as file:
        file.write_table(made)
    return {
        "parquet": folder / "rows.parquet",
        "second file": [folder / "first.parquet", folder / "rows.parquet"],
        "arrow": folder / "rows.arrow",
        "table": made,
        "batch": made.to_batches()[0],
        "data set": dataset.dataset(made),
    }


@pytest.mark.parametrize("kind", ["parquet", "second file", "arrow", "table", "batch", "data set"])
@pytest.mark.parametrize(("names", "n"), [(["a", "b", "a", "c"], 2), (["a", "a", "b", "a"], 3)])
def test_two_columns_of_one_name_are_refused(tmp_path, kind, names, n):
    source = sources(names, tmp_path)[kind]
    message = rf"has {n} columns of the name 'a'.*rename_columns"
    for columns in (None, ["b"], ["a", "b"]):
        with pytest.raises(ValueError, match=message) as caught:
            ParquetRows(source, columns=columns)
        assert "damaged" not in str(caught.value)
    with pytest.raises(ValueError, match=message):
        GaussianMixture().fit(source)


@pytest.mark.parametrize("text", [b"[" * 10**5, b"[1]", b'{"index_columns": 3}', b"\xff", b"{}"])
def test_text_of_pandas_that_is_none_does_not_matter(tmp_path, text):
    path = tmp_path / "rows.parquet"
    pq.write_table(table(["a", "b", "c", "d"]).replace_schema_metadata({b"pandas": text}), path)
    assert ParquetRows(path).columns == ["a", "b", "c", "d"]
