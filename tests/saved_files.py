"""Files of saved mixtures: comparing what comes back, and changing what is in them."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np


def assert_equal(first, second):
    """Equal in all that there is: parameters of the constructor, attributes and their types."""
    assert vars(first).keys() == vars(second).keys()
    for name, value in vars(first).items():
        other = getattr(second, name)
        assert type(value) is type(other), name
        if isinstance(value, np.ndarray):
            assert value.dtype == other.dtype, name
            np.testing.assert_array_equal(value, other)
        else:
            assert value == other, name


def members_of(path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as archive:
        return dict(archive)


def relist(members) -> None:
    """Let the header, where there is one, list the members that are there."""
    try:
        header = json.loads(members["header"].tobytes())
        assert header["members"]
    except Exception:  # whatever a test has made of it
        return
    header["members"] = [name for name in members if name != "header"]
    members["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)


def rewritten(path, change, *, compression=zipfile.ZIP_STORED, listed=True):
    """The file with its members changed by `change(members)`, checksums and list of members right."""
    members = members_of(path)
    change(members)
    if listed:
        relist(members)
    target = path.with_name("changed.npz")
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, values in members.items():
            content = values
            if not isinstance(values, bytes):
                stream = io.BytesIO()
                np.lib.format.write_array(stream, np.asarray(values))
                content = stream.getvalue()
            archive.writestr(f"{name}.npy", content)
    return target


def changed_header(**changes):
    """A change of entries of the header; None removes an entry."""

    def change(members):
        header = json.loads(members["header"].tobytes())
        for name, value in changes.items():
            header.pop(name)
            if value is not None:
                header[name] = value
        members["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)

    return change


def changed_parameters(**changes):
    def change(members):
        header = json.loads(members["header"].tobytes())
        for name, value in changes.items():
            header["parameters"].pop(name, None)
            if value is not None:
                header["parameters"][name] = value
        members["header"] = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)

    return change
