"""``nupes quantize``: a PyTorch model in, an integer network out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from nupes.commands.options import Json, Model
from nupes.console import Reporter, print_json, print_text
from nupes.inputs import (
    load_arrays,
    load_model,
    parse_bits,
    parse_ends,
    parse_overrides,
    parse_range,
    parse_shape,
    quiet_torch,
)
from nupes.model.files import check_output

__all__ = ["run"]


def one_or_all(values: Sequence[Any] | None) -> Any:
    """Return what is given once for the only input, or as a tuple for several; or ``None``."""
    return (values[0] if len(values) == 1 else tuple(values)) if values else None


def run(
    model: Model,
    scheme: Annotated[
        str,
        typer.Option(metavar="WxAy", help="Bits of weights and of activations, 2 to 8 each."),
    ] = "W4A4",
    calibration: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="FILE.npz[:KEY], images (b, c, h, w); a few hundred are enough. KEY,KEY for a "
            "model with several inputs.",
        ),
    ] = None,
    input_shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="C,H,W",
            help="Without data: shape of the input, e.g. 3,32,32; once for each of several.",
        ),
    ] = None,
    input_range: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LOW,HIGH",
            help="Without data: range of the input, e.g. -2.2,2.7; of several inputs one for all, "
            "or one for each.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to save the network.")
    ] = Path("net.safetensors"),
    ends: Annotated[
        str,
        typer.Option(
            metavar="BITS",
            help="Bits of the first and last layer and of the input; scheme: as the others.",
        ),
    ] = "8",
    codebook: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="power (exponents per layer) or uniform."),
    ] = None,
    cell: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Cells that must hold the codes: decode, uniform, square, pair."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="search (the default), nupes (learns as well), powerquant, rtn.",
        ),
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN=WxAy", help="Bits of the layers whose name matches; may be repeated."
        ),
    ] = None,
    bits: Annotated[
        str | None,
        typer.Option(
            metavar="KIND=BITS", help="Bits of tensors of attention, such as keys=8,values=8."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Keep finished layers here; the same command goes on from them."
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where to learn: cpu, cuda; cuda where there is one."),
    ] = None,
    json: Json = False,
) -> None:
    """Turn a PyTorch model into an integer network of a few bits.

    [bold]Examples[/]

    nupes quantize model.py:load --scheme W4A4 --calibration data.npz -o net.safetensors

    nupes quantize model.pt2 --scheme W8A8 --input-shape 3,32,32 --input-range=-2.2,2.7

    nupes quantize model.py:load --calibration data.npz:train --override "block1.*=W8A8"
    """
    check_output(output)
    shapes = [parse_shape(text) for text in input_shape or []]
    limits = [parse_range(text) for text in input_range or []]
    overrides = parse_overrides(override or [])
    kinds = None if bits is None else parse_bits(bits)
    end_bits = parse_ends(ends)
    data = None if calibration is None else load_arrays(calibration)
    with Reporter() as report:
        report("loading PyTorch and the model")
        from nupes.quantizer import quantize

        loaded = load_model(model)
        report(f"quantizing to {scheme}")
        with quiet_torch():
            network = quantize(
                loaded,
                scheme,
                one_or_all(data),
                input_shape=one_or_all(shapes),
                input_range=one_or_all(limits),
                ends=end_bits,
                method=method,
                codebook=codebook,  # pyright: ignore[reportArgumentType] - checked there
                cell=cell,
                overrides=overrides,
                bits=kinds,
                device=device,
                checkpoint=checkpoint,
                progress=lambda part, done, total: report.count(done, total, part),
            )
        path = network.save(output)
    size = path.stat().st_size
    if json:
        macs = sum(network.macs.values())
        print_json({"path": str(path), "bytes": size, "layers": len(network.layers), "macs": macs})
        return
    print_text(
        f"{path}: {len(network.layers)} layers, {sum(network.macs.values()):,} MACs per image, "
        f"{size:,} bytes"
    )
