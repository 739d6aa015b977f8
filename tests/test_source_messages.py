"""What a source says of rows that are not valid names the file they are in; rows are never overwritten."""

from __future__ import annotations

import numpy as np
import pytest

from fastgmm import GaussianMixture


@pytest.fixture
def shards(tmp_path):
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{i}.npy") for i in range(3)]
    for path in paths:
        np.save(path, rng.normal(size=(1000, 3)))
    return paths


@pytest.fixture
def mixture():
    return GaussianMixture.from_parameters([1.0], np.zeros((1, 3)), np.eye(3)[None])


def test_not_a_number_in_a_later_file(shards):
    rows = np.load(shards[2])
    rows[25, 1] = np.nan
    np.save(shards[2], rows)
    with pytest.raises(ValueError, match=r"nan in row 25 of .*2\.npy, column 1"):
        GaussianMixture(2).fit(shards)


@pytest.mark.parametrize("kind", ["file", "files", "mapped", "view of what is mapped"])
def test_outputs_do_not_replace_rows(shards, mixture, kind):
    X = {
        "file": shards[1],
        "files": shards,
        "mapped": np.load(shards[1], mmap_mode="r"),
        "view of what is mapped": np.asarray(np.load(shards[1], mmap_mode="r"))[10:],
    }[kind]
    before = np.load(shards[1])
    with pytest.raises(ValueError, match="is a file that X is read from"):
        mixture.predict(X, out=shards[1])
    np.testing.assert_array_equal(np.load(shards[1]), before)


def test_index_of_a_frame_is_no_feature(tmp_path):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    frame = pandas.DataFrame(np.random.default_rng(0).normal(size=(500, 2)), columns=["a", "b"])
    path = str(tmp_path / "filtered.parquet")
    frame[frame.a > 0].to_parquet(path)
    assert GaussianMixture(random_state=0).fit(path).feature_names_in_.tolist() == ["a", "b"]


def test_files_of_other_columns(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = []
    for names in ("ab", "ba", "abc"):
        paths.append(str(tmp_path / f"{names}.parquet"))
        columns = {name: np.cos(np.arange(50.0) * ord(name)) for name in names}
        parquet.write_table(pyarrow.table(columns), paths[-1])
    mixture = GaussianMixture(random_state=0)
    assert mixture.fit(paths[:2]).feature_names_in_.tolist() == ["a", "b"]
    for order in ([0, 2], [2, 0]):
        with pytest.raises(ValueError, match=r"not the same columns: \['c'\]"):
            mixture.fit([paths[i] for i in order])


def test_null_in_a_later_file(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    paths = [str(tmp_path / f"{i}.parquet") for i in range(2)]
    parquet.write_table(pyarrow.table({"a": np.arange(50.0)}), paths[0])
    parquet.write_table(pyarrow.table({"a": [1.0, 2.0, None]}), paths[1])
    with pytest.raises(ValueError, match=r"'a' has a null in row 2 of .*1\.parquet"):
        GaussianMixture().fit(paths)
