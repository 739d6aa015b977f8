"""Rows of Parquet and Arrow files, tables and data sets."""

from __future__ import annotations

import decimal
import doctest
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from streams import PART_ROWS, make_parts_small

from fastgmm import GaussianMixture, ParquetRows
from fastgmm.sources import StreamedData, as_source
from fastgmm.sources import parquet as module

pyarrow = pytest.importorskip("pyarrow")
dataset = pytest.importorskip("pyarrow.dataset")
feather = pytest.importorskip("pyarrow.feather")
pq = pytest.importorskip("pyarrow.parquet")

X = np.random.default_rng(0).normal(size=(PART_ROWS + 500, 3))
W = np.random.default_rng(1).uniform(size=len(X))


def table(rows=slice(None)):
    return pyarrow.table({"a": X[rows, 0], "w": W[rows], "b": X[rows, 1], "c": X[rows, 2]})


@pytest.fixture
def path(tmp_path):
    pq.write_table(table(), tmp_path / "rows.parquet", row_group_size=700)
    return tmp_path / "rows.parquet"


def read(source):
    parts = [(part.X, part.sample_weight) for part in StreamedData(source, 1).parts()]
    weights = [weight for _, weight in parts if weight is not None]
    return np.concatenate([rows for rows, _ in parts]), np.concatenate(weights) if weights else None


# ---- what is read ----------------------------------------------------------------------------------------


def test_columns_weights_and_their_order(path):
    source = ParquetRows(path, columns=["c", "a"], weights="w")
    rows, weight = read(source)
    assert np.array_equal(rows, X[:, [2, 0]])
    assert np.array_equal(weight, W)
    assert source.feature_names.tolist() == ["c", "a"]
    assert source.n_rows == len(X)
    assert ParquetRows(path, weights="w").feature_names.tolist() == ["a", "b", "c"]
    assert ParquetRows(path).feature_names.tolist() == ["a", "w", "b", "c"]


def test_every_kind_of_source_gives_the_same_rows(tmp_path, path, monkeypatch):
    make_parts_small(monkeypatch)
    (tmp_path / "folder" / "below").mkdir(parents=True)
    cuts = [0, 100, 2000, len(X)]
    names = ["1.parquet", "below/0.pq", "z.parquet"]
    for name, first, last in zip(names, cuts, cuts[1:]):
        pq.write_table(table(slice(first, last)), tmp_path / "folder" / name)
    (tmp_path / "folder" / "_SUCCESS").touch()
    (tmp_path / "folder" / ".hidden.parquet").write_bytes(b"no rows")
    feather.write_feather(table(), str(tmp_path / "rows.feather"), chunksize=300)
    feather.write_feather(table(), str(tmp_path / "rows.arrow"), compression="uncompressed")
    data = dataset.dataset(path)
    sources = [
        path, str(path), [path], tmp_path / "folder", [tmp_path / "folder" / name for name in names],
        tmp_path / "rows.feather", tmp_path / "rows.arrow", table(), table().combine_chunks(), data,
        data.filter(dataset.field("w") >= 0), dataset.dataset(table()),
    ]  # fmt: skip
    for each in sources:
        for _ in range(2):  # in the same order each time
            rows, weight = read(ParquetRows(each, columns=["a", "b", "c"], weights="w"))
            assert np.array_equal(rows, X), each
            assert np.array_equal(weight, W), each
        assert isinstance(as_source(each), ParquetRows)
    batch = table().combine_chunks().to_batches()[0]
    assert np.array_equal(read(ParquetRows(batch, columns=["b"]))[0], X[:, [1]])


def test_a_filtered_data_set_is_filtered(path):
    data = dataset.dataset(path).filter(dataset.field("a") > 0)
    rows, _ = read(ParquetRows(data, columns=["a", "b", "c"]))
    assert np.array_equal(rows, X[X[:, 0] > 0])


def test_types_become_floats():
    kinds = {
        "i": pyarrow.array([1, -2, 3], pyarrow.int8()),
        "u": pyarrow.array([1, 2, 2**63], pyarrow.uint64()),
        "bool": pyarrow.array([True, False, True]),
        "half": pyarrow.array(np.array([0.5, 1.5, 2.5], np.float16)),
        "single": pyarrow.array([0.1, 0.2, 0.3], pyarrow.float32()),
        "decimal": pyarrow.array([decimal.Decimal("1.25"), decimal.Decimal("-2.5"), decimal.Decimal("3")]),
        "chunks": pyarrow.chunked_array([[1.0], [2.0, 3.0]]),
    }
    rows, _ = read(ParquetRows(pyarrow.table(kinds)))
    assert rows.dtype == np.float64
    expected = [[1, -2, 3], [1, 2, 2.0**63], [1, 0, 1], [0.5, 1.5, 2.5], np.float32([0.1, 0.2, 0.3]),
                [1.25, -2.5, 3], [1, 2, 3]]  # fmt: skip
    assert np.array_equal(rows, np.array(expected, dtype=float).T)
    assert read(ParquetRows(pyarrow.table(kinds), columns=["single"]))[0].dtype == np.float32


def test_names_go_with_a_fit(path):
    mixture = GaussianMixture(2, random_state=0).fit(ParquetRows(path, columns=["b", "a"]))
    assert mixture.feature_names_in_.tolist() == ["b", "a"]
    assert mixture.feature_names_in_.dtype == object
    labels = mixture.predict(ParquetRows(path, columns=["b", "a"]))
    with pytest.warns(UserWarning, match=r"valid feature names"):
        assert np.array_equal(labels, mixture.predict(X[:, [1, 0]]))
    with pytest.raises(ValueError, match=r"feature names should match.*\['b', 'a'\] then, \['a', 'b'\] now"):
        mixture.predict(ParquetRows(path, columns=["a", "b"]))


def test_memory_is_bounded_by_parts_not_by_files(tmp_path, monkeypatch):
    """Arrow's own memory, while parts of 0.5 MB are read from files of 40 MB, of one row group or many."""
    make_parts_small(monkeypatch)
    monkeypatch.setattr(module, "STREAM_BYTES", 1 << 16)
    rows = np.random.default_rng(0).normal(size=(300_000, 16))
    whole = pyarrow.table({f"x{j}": rows[:, j] for j in range(16)})
    pq.write_table(whole, tmp_path / "rows.parquet", row_group_size=8192)
    # decoders keep a page of each column, and its dictionary
    pages = {"use_dictionary": False, "data_page_size": 1 << 16}
    pq.write_table(whole, tmp_path / "one group.parquet", row_group_size=len(rows), **pages)
    feather.write_feather(whole, str(tmp_path / "rows.feather"), chunksize=8192)
    del whole
    names = {"rows.parquet": 8, "one group.parquet": 24, "rows.feather": 8}  # most MiB
    for given, limit in [
        *((tmp_path / name, limit) for name, limit in names.items()),
        (dataset.dataset(tmp_path / "rows.parquet"), 16),
    ]:
        before, most = pyarrow.total_allocated_bytes(), 0
        for _ in ParquetRows(given).blocks():
            most = max(most, pyarrow.total_allocated_bytes() - before)
        assert most < limit * 2**20, given


# ---- what is refused -------------------------------------------------------------------------------------


def test_nulls_are_named():
    column = pyarrow.chunked_array([[1.0, 2.0], [3.0, None, None]])
    with pytest.raises(ValueError, match=r"Column 'b' has a null in row 3 of the table"):
        GaussianMixture().fit(pyarrow.table({"a": X[:5, 0], "b": column}))


def test_nulls_of_files_and_weights(tmp_path):
    weight = [1.0] * 4999 + [None]
    pq.write_table(
        pyarrow.table({"a": np.arange(5000.0), "w": weight}), tmp_path / "r.parquet", row_group_size=900
    )
    with pytest.raises(ValueError, match=r"Column 'w' has a null in row 4999 of .*r\.parquet"):
        GaussianMixture().fit(ParquetRows(tmp_path / "r.parquet", weights="w"))


@pytest.mark.parametrize(
    ("columns", "weights", "kind", "message"),
    [
        (
            ["a", "nothing"],
            None,
            ValueError,
            r"one column 'nothing' of .*, but the columns are \['a', 'w', 'b', 'c'\]",
        ),
        (["a"], "nothing", ValueError, "one column 'nothing'"),
        (["a", "a"], None, ValueError, "named twice"),
        (["a", "w"], "w", ValueError, "named twice"),
        ([], None, ValueError, "must name one feature"),
        ("a", None, TypeError, "must be a list of names"),
        ([0], None, TypeError, "names of columns, got 0"),
    ],
)
def test_bad_columns(path, columns, weights, kind, message):
    with pytest.raises(kind, match=message):
        ParquetRows(path, columns, weights)


@pytest.mark.parametrize(
    "values", [["x", "y"], [[1.0], [2.0]], pyarrow.array([0, 1]).cast(pyarrow.timestamp("s")),
               pyarrow.array(["x", "y"]).dictionary_encode()]
)  # fmt: skip
def test_columns_that_are_no_numbers(values):
    with pytest.raises(ValueError, match=r"Column 'b' holds .*, not numbers. Choose others by columns"):
        ParquetRows(pyarrow.table({"a": [1.0, 2.0], "b": values}))


def test_files_of_other_columns(tmp_path, path):
    pq.write_table(table().drop_columns(["b"]), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"not the same columns: \['b'\]"):
        ParquetRows([path, tmp_path / "other.parquet"])
    feather.write_feather(table(), str(tmp_path / "rows.feather"))
    with pytest.raises(ValueError, match=r"of one format, got ipc and parquet"):
        ParquetRows([path, tmp_path / "rows.feather"])


def test_other_sources(tmp_path, path):
    with pytest.raises(ValueError, match=r"none\.parquet cannot be read: No such file"):
        ParquetRows([path, tmp_path / "none.parquet"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty has no files that end in"):
        ParquetRows(tmp_path / "empty")
    (tmp_path / "rows.csv").touch()
    with pytest.raises(ValueError, match=r"rows\.csv should end in one of \.parquet"):
        ParquetRows(tmp_path / "rows.csv")
    for wrong in (3, X, None):
        with pytest.raises(TypeError, match=r"source must be a path, a list of paths"):
            ParquetRows(wrong)
    with pytest.raises(ValueError, match=r"empty list"):
        ParquetRows([])
    with pytest.raises(TypeError, match=r"weights are a column: pass X = ParquetRows\(files, weights="):
        GaussianMixture().fit(path, sample_weight=W)


@pytest.mark.parametrize("ending", ["parquet", "feather"])
@pytest.mark.parametrize("harm", ["cut off", "header", "empty", "text"])
def test_damaged_files(tmp_path, ending, harm):
    path = tmp_path / f"rows.{ending}"
    pq.write_table(table(), path) if ending == "parquet" else feather.write_feather(table(), str(path))
    content = path.read_bytes()
    path.write_bytes(
        {
            "cut off": content[:-100],
            "header": b"x" * 64 + content[64:-64] + b"x" * 64,
            "empty": b"",
            "text": b"a,b\n1,2",
        }[harm]
    )
    with pytest.raises(ValueError, match=rf"rows\.{ending} cannot be read; it may be damaged"):
        ParquetRows(path)


def test_damage_that_shows_late(path):
    content = bytearray(path.read_bytes())
    content[20_000:60_000] = bytes(40_000)
    path.write_bytes(content)
    mixture = GaussianMixture(2)
    with pytest.raises(ValueError, match=r"rows\.parquet cannot be read; it may be damaged"):
        mixture.fit(path)
    assert not hasattr(mixture, "means_")


def test_files_that_change_are_refused(path):
    source = ParquetRows(path, columns=["a"])
    pq.write_table(table(slice(0, 100)), path)
    with pytest.raises(ValueError, match=r"rows\.parquet has changed since it was looked at first"):
        GaussianMixture().fit(source)


def test_an_infinite_number_is_found(path):
    with pytest.raises(ValueError, match=r"the first is inf in row 1"):
        GaussianMixture().fit(pyarrow.table({"a": [1.0, np.inf, 2.0]}))


# ---- pyarrow is optional ---------------------------------------------------------------------------------


def test_without_pyarrow(monkeypatch, path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"ParquetRows needs pyarrow: pip install pyarrow"):
        GaussianMixture().fit(path)
    assert as_source(X) is None
    assert not module.is_arrow(X)


IMPORTED = """
import sys
sys.modules["pandas"] = None  # scikit-learn imports it, and it pyarrow
sys.modules["polars"] = None
import fastgmm
import numpy as np
fastgmm.GaussianMixture().fit(np.random.default_rng(0).normal(size=(20, 2))).predict([[0.0, 0.0]])
assert not [name for name in sys.modules if name.split(".")[0] == "pyarrow"]
"""


def test_importing_and_fitting_do_not_import_pyarrow(clean_environment):
    subprocess.run([sys.executable, "-c", IMPORTED], check=True, env=clean_environment)


# ---- the documentation -----------------------------------------------------------------------------------


def test_examples():
    assert doctest.testmod(module).failed == 0


def programs():
    """Python programs of docs/big_data.md; none where the tests are run without a checkout."""
    page = Path(__file__).parents[1] / "docs" / "big_data.md"
    return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) if page.exists() else []


@pytest.mark.parametrize("program", programs())
def test_programs_of_the_documentation(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "mkdtemp", lambda: str(tmp_path))
    exec(compile(program, "big_data.md", "exec"), {"__name__": "program"})
