"""Super-resolution: PSNR that integer networks lose on Set5, and a whole image on the RTL.

    python -m benchmarks.super_resolution --data DIR [--simulate butterfly] [--array 16x16]

``DIR/super_resolution`` holds ``espcn_x2.npz``, ``fsrcnn_x2.npz`` and Set5's images,
``DIR/imagenet`` the images ``calibration_250.zip`` to calibrate with: their luma at half the size,
each stretched to all of its range, as few images have no pixel as bright as the brightest one.
Luma is that of BT.601 in 16..235, halved by a bicubic filter as MATLAB's is; PSNR is that of luma
rounded to 8 bits, without a border of 2 pixels.

An integer network has one size: images are cut into tiles that overlap by more than any pixel of
the result looks around, so that nothing changes.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from torch import nn

import nupes
from benchmarks.fitting import compile_fitting
from benchmarks.pretrained import need, pictures
from nupes.examples.pretrained.super_resolution import load_espcn, load_fsrcnn
from nupes.inputs import parse_array, quiet_torch
from nupes.verify import check_outputs

NETWORKS = {"espcn": load_espcn, "fsrcnn": load_fsrcnn}

IMAGES = ("baby", "bird", "butterfly", "head", "woman")

SCHEMES = ("W8A8", "W4A8")

CALIBRATION = 12
"""Images to calibrate with, a tile of each."""

TILE, MARGIN, BORDER = 80, 8, 2
"""Height and width of a tile; pixels around a result that it may depend on; pixels that PSNR leaves
out."""

LUMA = np.array([65.481, 128.553, 24.966])

Infer = Callable[[np.ndarray], np.ndarray]
"""Images (n, 1, h, w) to images of twice the size, float32."""


def luma(image: np.ndarray) -> np.ndarray:
    """Return the luma (h, w) of an image (h, w, 3) in 0..1."""
    return (16 + image @ LUMA) / 255


def resize(values: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return values (h, w) at another size, bicubic and without aliases."""
    image = Image.fromarray(values.astype(np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC), np.float64)


def halve(values: np.ndarray) -> np.ndarray:
    """Return values (h, w) at half the size."""
    return resize(values, values.shape[0] // 2, values.shape[1] // 2)


def calibration(data: Path) -> np.ndarray:
    """Return the small images (n, 1, h, w) to calibrate with."""
    images, _ = pictures(data / "imagenet" / "calibration_250.zip")
    small = [halve(luma(image.transpose(1, 2, 0))) for image in images[:CALIBRATION]]
    return np.stack([stretch(y[:TILE, :TILE]) for y in small])[:, None].astype(np.float32)


def stretch(values: np.ndarray) -> np.ndarray:
    """Return values that reach from black to white."""
    black, white = luma(np.array([[0.0] * 3, [1] * 3]))
    low, high = values.min(), values.max()
    return black + (values - low) * ((white - black) / (high - low))


def starts(size: int) -> Iterator[int]:
    """Yield where the tiles of an axis begin."""
    yield from range(0, size - TILE, TILE - 2 * MARGIN)
    yield size - TILE


def enlarge(small: np.ndarray, infer: Infer) -> np.ndarray:
    """Return an image (h, w) at twice the size, tile by tile."""
    height, width = small.shape
    large = np.empty((2 * height, 2 * width))
    corners = [(y, x) for y in starts(height) for x in starts(width)]
    tiles = np.stack([small[y : y + TILE, x : x + TILE] for y, x in corners])
    for (y, x), tile in zip(corners, infer(tiles[:, None].astype(np.float32)), strict=True):
        top, left = (MARGIN * 2 * (corner > 0) for corner in (y, x))
        large[2 * y + top : 2 * (y + TILE), 2 * x + left : 2 * (x + TILE)] = tile[0, top:, left:]
    return large


def psnr(found: np.ndarray, wanted: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of luma in 0..1, in dB."""
    error = np.round(np.clip(found, 0, 1) * 255) - wanted * 255
    inside = error[BORDER:-BORDER, BORDER:-BORDER]
    return 10 * math.log10(255**2 / float(np.square(inside).mean()))


def infer_with(module: nn.Module) -> Infer:
    """Return the module as a function of arrays."""

    def infer(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(images)).numpy()

    return infer


def simulate(network: nupes.IntegerNetwork, image: np.ndarray, array: str) -> str:
    """Return what the RTL gives for all tiles of an image, against the model, in words."""
    program = compile_fitting(network, parse_array(array))
    exact, count = [], 0
    with nupes.Simulator(program.array) as hw:

        def infer(tiles: np.ndarray) -> np.ndarray:
            nonlocal count
            exact.append(check_outputs(hw, program, tiles).exact)
            count = len(tiles)
            return network(tiles)

        enlarge(halve(image), infer)
    state = "every output and cycle equal" if all(exact) else "NOT equal"
    cycles = f"{program.cycles:,} cycles each"
    return f"{count} tiles of {TILE}x{TILE} on {program.array}, {cycles}: {state}"


def main(
    data: Annotated[Path, typer.Option(help="Directory with super_resolution/ and imagenet/.")],
    networks: Annotated[str, typer.Option(help="Networks to measure.")] = ",".join(NETWORKS),
    schemes: Annotated[str, typer.Option(help="Schemes to measure.")] = ",".join(SCHEMES),
    method: Annotated[str, typer.Option(help="Method of quantization.")] = "search",
    images: Annotated[str, typer.Option(help="Images to enlarge.")] = ",".join(IMAGES),
    simulate_image: Annotated[
        str, typer.Option("--simulate", help="An image that the RTL enlarges.")
    ] = "",
    array: Annotated[str, typer.Option(help="The array that enlarges it.")] = "16x16",
) -> None:
    """Print the PSNR of the float networks, and what integer ones lose of it."""
    folder = data / "super_resolution"
    pixels = {
        name: luma(np.asarray(Image.open(need(folder / f"{name}.png")).convert("RGB")) / 255)
        for name in images.split(",")
    }
    bicubic = [psnr(resize(halve(y), *y.shape), y) for y in pixels.values()]
    print(f"bicubic: {np.mean(bicubic):.2f} dB", flush=True)
    samples = calibration(data)
    for name in networks.split(","):
        module = NETWORKS[name](need(folder / f"{name}_x2.npz"))
        whole = [psnr(infer_with(module)(halve(y)[None, None].astype(np.float32))[0, 0], y)
                 for y in pixels.values()]  # fmt: skip
        print(f"{name}, float: {np.mean(whole):.2f} dB", flush=True)
        for scheme in schemes.split(","):
            with quiet_torch():
                network = nupes.quantize(module, scheme, calibration=samples, method=method)
            found = [psnr(enlarge(halve(y), network), y) for y in pixels.values()]
            losses = np.array(whole) - found
            worst = f"{losses.max():.3f} ({list(pixels)[int(losses.argmax())]})"
            print(f"{name}, {scheme} {method}: {np.mean(found):.2f} dB, lost {losses.mean():.3f}, "
                  f"at most {worst}", flush=True)  # fmt: skip
            if simulate_image:
                print(f"  {simulate_image}: {simulate(network, pixels[simulate_image], array)}",
                      flush=True)  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
