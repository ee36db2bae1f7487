"""Preparing data: archives become arrays, and what is another file is said to be one."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from benchmarks.prepare import IMAGE_BYTES, digest_of, prepare_cifar, state_of
from nupes.model.errors import InputError


def archive(path: Path, images: int) -> Path:
    """Write an archive in CIFAR-10's binary layout: image i has label i % 10 and red i % 256."""
    rows = np.zeros((images, IMAGE_BYTES), np.uint8)
    rows[:, 0] = np.arange(images) % 10
    rows[:, 1:1025] = (np.arange(images) % 256)[:, None]
    with tarfile.open(path, "w:gz") as tar:
        for name in ("test_batch", "data_batch_1"):
            item = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            item.size = rows.size
            tar.addfile(item, io.BytesIO(rows.tobytes()))
    return path


def test_the_binary_archive_becomes_arrays(tmp_path: Path) -> None:
    prepare_cifar(archive(tmp_path / "cifar.tar.gz", 2000), tmp_path)
    for name, count in (("test_first1000", 1000), ("train_first2000", 2000)):
        with np.load(tmp_path / "cifar10" / f"cifar10_{name}.npz") as data:
            assert data["x"].shape == (count, 32, 32, 3)
            assert data["y"].tolist() == [i % 10 for i in range(count)]
            assert (data["x"][300, :, :, 0] == 300 % 256).all()
            assert not data["x"][..., 1:].any()


def test_archives_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--cifar must be the archive of CIFAR-10's binary"):
        prepare_cifar(tmp_path / "none.tar.gz", tmp_path)
    with pytest.raises(InputError, match=r"must have at least 1000 images"):
        prepare_cifar(archive(tmp_path / "short.tar.gz", 999), tmp_path)
    (tmp_path / "text.tar.gz").write_text("no archive")
    with pytest.raises(InputError, match=r"must hold cifar-10-batches-bin/test_batch\.bin"):
        prepare_cifar(tmp_path / "text.tar.gz", tmp_path)


def test_another_file_is_said_to_be_one(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    assert state_of(path, "") == "missing"
    np.savez(path, x=np.arange(3))
    digest = digest_of(path)
    assert (state_of(path, digest), state_of(path, "")) == ("there", "there")
    np.savez_compressed(path, x=np.arange(3))  # other bytes, equal arrays
    assert state_of(path, digest) == "there"
    np.savez(path, x=np.arange(4))
    assert state_of(path, digest) == "another file"
