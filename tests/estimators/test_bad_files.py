"""Files that load must refuse: whatever is in them, a valid mixture or a ValueError comes of it."""

from __future__ import annotations

import os
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from saved_files import assert_equal, changed_header, changed_parameters, members_of, rewritten

from fastgmm import GaussianMixture


@pytest.fixture
def saved(fitted, tmp_path):
    path = tmp_path / "mixture.npz"
    fitted.save(path)
    return path


# ---- files that are not valid ----------------------------------------------------------------------------


class Other(GaussianMixture):
    pass


def test_another_estimator(saved):
    with pytest.raises(ValueError, match="it holds a 'GaussianMixture', not a Other"):
        Other.load(saved)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a mixture", bytes(1000), b"PK\x05\x06" + bytes(18)])
def test_other_files(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"other is not a valid fastgmm file"):
        GaussianMixture.load(path)


def test_a_file_of_numpys(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(ValueError, match="unknown members"):
        GaussianMixture.load(tmp_path / "other.npz")
    np.save(tmp_path / "other.npy", np.zeros(3))
    with pytest.raises(ValueError, match="not a valid fastgmm file"):
        GaussianMixture.load(tmp_path / "other.npy")


@pytest.mark.parametrize("covariance_type", ["full"])
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_truncated(saved, kept):
    content = saved.read_bytes()
    saved.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match="not a valid fastgmm file"):
        GaussianMixture.load(saved)


class Bomb:
    """Pickled objects run code when they are loaded."""

    def __reduce__(self):
        return (os.abort, ())


CHANGES = {
    "no header": (lambda m: m.pop("header"), "header is missing"),
    "no means": (lambda m: m.pop("means_"), "means_ is missing"),
    "unknown member": (lambda m: m.update(colour=np.zeros(2)), r"unknown members \['colour.npy'\]"),
    "older version": (changed_header(version=0), "version is 0, and this fastgmm reads versions 1 to 2"),
    "newer version": (changed_header(version=3), "version is 3, and this fastgmm reads versions 1 to 2"),
    "version as text": (changed_header(version="1"), "version is '1'"),
    "version as truth": (changed_header(version=True), "version is True"),
    "other format": (changed_header(format="npz"), "of another program"),
    "header lacks": (changed_header(history=None), "its header has the entries"),
    "header is no text": (lambda m: m.update(header=np.zeros(3)), "the header is not text"),
    "header is no JSON": (lambda m: m.update(header=np.frombuffer(b"{", np.uint8)), "JSONDecodeError"),
    "header is a list": (lambda m: m.update(header=np.frombuffer(b"[]", np.uint8)), "of another program"),
    "header nests": (lambda m: m.update(header=np.frombuffer(b"[" * 200_000, np.uint8)), "Recursion|JSON"),
    "history is a list": (changed_header(history=[1]), "its history is not a table"),
    "history of text": (changed_header(history={"a": "text"}), r"history_\['a'\] is not a list"),
    "history of tables": (changed_header(history={"a": [{}]}), r"history_\['a'\] holds other things"),
    "parameters": (changed_header(parameters=[]), "its parameters are malformed"),
    "unknown parameter": (changed_parameters(colour=1), "unexpected keyword argument 'colour'"),
    "missing parameter": (changed_parameters(tol=None), r"missing: \['tol'\]"),
    "bad parameter": (changed_parameters(tol=-1), "The 'tol' parameter"),
    "bad seed": (changed_parameters(random_state="x"), "The 'random_state' parameter"),
    "short state": (changed_parameters(random_state=[[1, 2], 0, 0, 0.0]), "state of its random_state"),
    "bad position": (changed_parameters(random_state=[[1] * 624, 999, 0, 0.0]), "state of its random_state"),
    "state of text": (changed_parameters(random_state=["key", 0, 0, 0.0]), "ValueError"),
    "start in the header": (changed_parameters(means_init=[[1]]), "its parameters are malformed"),
    "no covariance type": (changed_parameters(covariance_type=None), r"missing: \['covariance_type'\]"),
    "wrong covariance type": (changed_parameters(covariance_type="round"), "The 'covariance_type' parameter"),
    "pickle": (lambda m: m.update(means_=np.array([Bomb()])), "'|O' |type"),
    "float32": (lambda m: m.update(means_=m["means_"].astype("f4")), "has the type '<f4'"),
    "big-endian": (lambda m: m.update(means_=m["means_"].astype(">f8")), "has the type '>f8'"),
    "integers": (lambda m: m.update(means_=m["means_"].astype("i8")), "means_ has the type int64"),
    "Fortran": (lambda m: m.update(means_=np.asfortranarray(m["means_"])), "means_.npy has the shape"),
    "fewer weights": (lambda m: m.update(weights_=m["weights_"][:2]), "weights_ should have the shape"),
    "fewer rows": (lambda m: m.update(means_=m["means_"][:2]), "should have the shape"),
    "more dimensions": (lambda m: m.update(means_=m["means_"][None]), "means_ should have the shape"),
    "no components": (lambda m: m.update(means_=np.zeros((0, 2))), "means_ should have the shape"),
    "weights": (lambda m: m.update(weights_=m["weights_"] / 2), "weights_ should be normalized"),
    "negative weight": (lambda m: m.update(weights_=np.array([1.5, -0.5, 0.0])), "non-negative"),
    "NaN": (lambda m: m["means_"].__setitem__((0, 0), np.nan), "means_ contains NaN"),
    "infinite covariance": (lambda m: m["covariances_"].fill(np.inf), "covariances_ contains NaN or inf"),
    "negative covariance": (lambda m: m["covariances_"].__imul__(-1), "covariances_ should be"),
    "no covariance": (lambda m: m["covariances_"].fill(0), "covariances_ should be"),
    "no precision": (lambda m: m["precisions_cholesky_"].fill(0), "precisions_cholesky_"),
    "converged": (lambda m: m.update(converged_=np.float64(1)), "converged_ has the type float64"),
    "iterations": (lambda m: m.update(n_iter_=np.int64(-1)), "n_iter_ is negative"),
    "bounds": (lambda m: m.update(lower_bounds_=np.float64(1)), "lower_bounds_ has 0 dimensions"),
    "bound": (lambda m: m.update(lower_bound_=np.float64(np.nan)), "lower_bound_ is not a number"),
    "names": (lambda m: m.update(feature_names_in_=np.array(["a"])), "feature_names_in_ does not name"),
    "names as numbers": (lambda m: m.update(feature_names_in_=np.array([1.0, 2.0])), "does not name"),
    "no array": (lambda m: m.update(means_=b"hello"), "means_.npy is not an array"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_files_with_something_wrong(saved, change):
    edit, message = CHANGES[change]
    with pytest.raises(ValueError, match=message):
        GaussianMixture.load(rewritten(saved, edit))


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag"])
def test_arrays_of_another_covariance_type(saved):
    path = rewritten(saved, changed_parameters(covariance_type="spherical"))
    with pytest.raises(ValueError, match=r"precisions_cholesky_ should have the shape \(n_components,\)"):
        GaussianMixture.load(path)


def with_header(text: str, data: bytes = bytes(48)) -> bytes:
    """An .npy member with a header of our own."""
    header = text.encode("latin1") + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


HEADERS = {
    "huge": "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1000000000000)}",
    "overflow": f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({2**61}, 8)}}",
    "negative": "{'descr': '<f8', 'fortran_order': False, 'shape': (-3, -2)}",
    "float": "{'descr': '<f8', 'fortran_order': False, 'shape': (3.0, 2)}",
    "truth": "{'descr': '<f8', 'fortran_order': False, 'shape': (True, 6)}",
    "one more": "{'descr': '<f8', 'fortran_order': False, 'shape': (3, 3)}",
    "scalar": "{'descr': '<f8', 'fortran_order': False, 'shape': 6}",
    "object": "{'descr': '|O', 'fortran_order': False, 'shape': (3, 2)}",
    "fields": "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': (3, 2)}",
    "huge text": f"{{'descr': '<U{10**12}', 'fortran_order': False, 'shape': (3, 2)}}",
    "no text": "{'descr': '<U', 'fortran_order': False, 'shape': (3, 2)}",
    "missing": "{'descr': '<f8', 'shape': (3, 2)}",
    "set": "{'descr', 'fortran_order', 'shape'}",
    "code": "__import__('os').abort()",
    "nested": "(" * 9000,
    "empty": "",
}


@pytest.mark.parametrize("covariance_type", ["full"])
@pytest.mark.parametrize("header", HEADERS)
def test_array_headers_with_something_wrong(saved, header):
    path = rewritten(saved, lambda members: members.update(means_=with_header(HEADERS[header])))
    with pytest.raises(ValueError, match="not a valid fastgmm file"):
        GaussianMixture.load(path)


@pytest.mark.parametrize("covariance_type", ["full"])
def test_compressed_members_are_refused(saved):
    """A few bytes could stand for gigabytes."""
    path = rewritten(
        saved, lambda members: members.update(means_=bytes(2**28)), compression=zipfile.ZIP_DEFLATED
    )
    assert path.stat().st_size < 2**20
    with pytest.raises(ValueError, match="it has compressed members"):
        GaussianMixture.load(path)


@pytest.mark.parametrize("covariance_type", ["full"])
def test_members_that_share_their_bytes_are_refused(saved):
    """So could entries of the directory that all mean the same member."""
    content = saved.read_bytes()
    directory = content.index(b"PK\x01\x02")
    name = content.index(b"weights_.npy", directory)
    saved.write_bytes(content[:name] + b"header.npy\x00\x00" + content[name + 12 :])
    with pytest.raises(ValueError, match="not a valid fastgmm file"):
        GaussianMixture.load(saved)


@pytest.mark.parametrize("covariance_type", ["full"])
def test_members_larger_than_the_file_are_refused(saved):
    """Before anything is allocated for them."""
    content = bytearray(saved.read_bytes())
    directory = content.index(b"PK\x01\x02")
    struct.pack_into("<II", content, directory + 20, 2**31, 2**31)  # compressed and plain size of one entry
    saved.write_bytes(content)
    with pytest.raises(ValueError, match="its members are larger than the file"):
        GaussianMixture.load(saved)


@pytest.mark.parametrize("covariance_type", ["full"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(saved):
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr("means_.npy", archive.read("means_.npy"))
    with pytest.raises(ValueError, match="two members of the same name"):
        GaussianMixture.load(saved)


# ---- fuzzing ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    """Two small mixtures and the bytes of their files."""
    pairs = []
    for covariance_type in ("full", "spherical"):
        rows = np.random.RandomState(0).standard_normal((40, 2))
        mixture = GaussianMixture(
            2, covariance_type=covariance_type, random_state=0, tol=1e-1, max_iter=500
        ).fit(rows)
        path = tmp_path_factory.mktemp("valid") / "mixture.npz"
        mixture.save(path)
        pairs.append((mixture, path.read_bytes(), path.with_name("fuzzed.npz")))
    return pairs


def loads_equal_or_refuses(mixture, content, path):
    path.write_bytes(content)
    try:
        loaded = GaussianMixture.load(path)
    except ValueError:
        return
    assert_equal(mixture, loaded)


FUZZ = settings(
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@FUZZ
@given(
    which=st.integers(0, 1),
    edits=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
@example(which=0, edits=[(0.0, 0)])
def test_fuzzed_bytes(valid, which, edits):
    mixture, content, path = valid[which]
    content = bytearray(content)
    for place, value in edits:
        content[int(place * len(content))] = value
    loads_equal_or_refuses(mixture, bytes(content), path)


@FUZZ
@given(data=st.data())
def test_fuzzed_directory(valid, data):
    """The same where it hurts: in the directory of the archive and the headers of its members."""
    mixture, content, path = valid[0]
    places = [at for at in range(len(content) - 4) if content[at : at + 2] == b"PK"]
    content = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.sampled_from(places)) + data.draw(st.integers(0, 60))
        if at < len(content):
            content[at] = data.draw(st.integers(0, 255))
    loads_equal_or_refuses(mixture, bytes(content), path)


@FUZZ
@given(start=st.floats(0, 1), stop=st.floats(0, 1), copies=st.integers(0, 3))
def test_fuzzed_lengths(valid, start, stop, copies):
    """Parts cut out or repeated."""
    mixture, content, path = valid[0]
    first, last = sorted((int(start * len(content)), int(stop * len(content))))
    loads_equal_or_refuses(mixture, content[:first] + copies * content[first:last] + content[last:], path)


NUMBERS = st.floats() | st.sampled_from([0.0, -1.0, 1e300, np.inf, np.nan])


@FUZZ
@given(
    which=st.integers(0, 1),
    name=st.sampled_from(["weights_", "means_", "covariances_", "precisions_cholesky_", "lower_bounds_"]),
    place=st.integers(0, 7),
    value=NUMBERS,
)
def test_fuzzed_numbers_with_right_checksums(valid, which, name, place, value):
    """Whatever is loaded is a mixture that scores rows."""
    _, content, path = valid[which]
    original = path.with_name("original.npz")
    original.write_bytes(content)

    def change(members):
        members[name] = members[name].copy()
        members[name].flat[place % members[name].size] = value

    changed = rewritten(original, change)
    try:
        loaded = GaussianMixture.load(changed)
    except ValueError:
        return
    np.testing.assert_array_equal(getattr(loaded, name), members_of(changed)[name])
    with np.errstate(all="ignore"):
        assert not np.isnan(loaded.score_samples(np.zeros((2, 2)))).any()
