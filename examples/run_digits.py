"""Handwritten digits from PyTorch to simulated hardware: ``python -m examples.run_digits``."""

import argparse

import nupes
from nupes.examples.digits.network import load_network, load_split
from nupes.inputs import parse_array


def main() -> None:
    """Quantize, evaluate, compile and simulate; stop if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scheme", default="W4A4", help="bits of weights and activations")
    parser.add_argument("--method", help="search takes seconds; a minute unless given")
    parser.add_argument("--array", default="16x16", help="rows x columns")
    parser.add_argument("--images", type=int, default=5, help="images to simulate")
    options = parser.parse_args()

    split = load_split()
    images, labels = split["test"]
    network = nupes.quantize(
        load_network(), options.scheme, split["calibration"][0], method=options.method
    )
    accuracy = (network(images).argmax(1) == labels).mean()
    print(f"{network}\ninteger accuracy {accuracy:.2%} of {len(images)} images")

    program = nupes.compile(network, parse_array(options.array))
    print(program)
    with nupes.Simulator(program.array) as hw:
        result = hw.run(program, images[: options.images])
    assert (result.outputs == network(images[: options.images])).all()
    assert result.cycles == [program.cycles] * options.images
    print(f"bit-exact {options.images}/{options.images} images, {program.cycles:,} cycles each")


if __name__ == "__main__":
    main()
