"""Data that users name: what a file claims is checked before anything is allocated."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from numpy.lib.format import write_array_header_1_0, write_array_header_2_0

from nupes.inputs import has_labels, load_array, load_labels, parse_ends
from nupes.model.errors import InputError


def archive(path: Path, claim: tuple[int, ...], data: bytes, key: str = "x") -> None:
    """Write an archive with an array of doubles whose header claims a shape."""
    header = io.BytesIO()
    write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": claim})
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{key}.npy", header.getvalue() + data)


@pytest.mark.parametrize("claim", [(5_000_000_000,), (3, 10**12), (2,), (0,)])
def test_a_header_that_claims_what_is_not_there(tmp_path: Path, claim: tuple[int, ...]) -> None:
    path = tmp_path / "data.npz"
    archive(path, claim, bytes(8))
    with pytest.raises(InputError) as error:
        load_array(str(path))
    assert str(error.value) == (
        f"data {path}, key 'x' must hold the {8 * int(np.prod(claim, dtype=object))} bytes of its "
        f"shape {claim}, not 8"
    )


def test_a_single_array_that_claims_what_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    with path.open("wb") as file:
        write_array_header_1_0(
            file, {"descr": "<f8", "fortran_order": False, "shape": (5_000_000_000,)}
        )
    with pytest.raises(InputError, match=r"must be a complete \.npz file"):
        load_array(str(path))
    np.save(path.with_suffix(".npy"), np.zeros(3))
    with pytest.raises(InputError, match=r"must be an \.npz file .*, not a single array"):
        load_array(str(path.with_suffix(".npy")))


def test_an_array_that_does_not_fit_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.zeros(4))

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("numpy.lib.format.read_array", fail)
    with pytest.raises(InputError) as error:
        load_array(str(path))
    assert str(error.value) == f"data {path}, key 'x' must fit in memory, not have 160 bytes"


def test_arrays_of_every_layout_and_version(tmp_path: Path) -> None:
    path, rng = tmp_path / "data.npz", np.random.default_rng(0)
    arrays = {
        "x": rng.normal(size=(2, 3)),
        "y": np.arange(2),
        "fortran": np.asfortranarray(rng.normal(size=(4, 3))),
        "big": rng.normal(size=(2, 2)).astype(">f4"),
    }
    np.savez_compressed(path, **arrays)
    header = io.BytesIO()
    write_array_header_2_0(header, {"descr": "|u1", "fortran_order": False, "shape": (3,)})
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("second.npy", header.getvalue() + b"abc")
    for key, values in arrays.items():
        np.testing.assert_array_equal(load_array(f"{path}:{key}"), values)
    assert load_array(f"{path}:second").tolist() == [97, 98, 99]
    assert load_labels(str(path), "y", 2).tolist() == [0, 1]
    assert has_labels(f"{path}:x", "y")
    assert not has_labels(str(path), "z")


def test_pickles_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez(path, x=np.array([{}], object))
    with pytest.raises(InputError, match=r"must be a complete \.npz file .*allow_pickle"):
        load_array(str(path))


def test_bits_of_the_ends() -> None:
    assert parse_ends("8") == 8
    assert parse_ends("scheme") is None
    with pytest.raises(InputError, match=r"ends must be a number of bits or 'scheme', not '8\.5'"):
        parse_ends("8.5")
