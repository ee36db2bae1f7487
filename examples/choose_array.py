"""Choose an array: exact cycles of one network on many, and those that nothing beats.

``python -m examples.choose_array net.safetensors --cycles 200000``
"""

import argparse

import nupes
from nupes.explore.sweeps import grid, pareto, sweep


def main() -> None:
    """Print the arrays worth building, and the smallest that is fast enough."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", help="a .safetensors from nupes.quantize")
    parser.add_argument("--cycles", type=int, default=100_000, help="most cycles per image")
    parser.add_argument("--sizes", type=int, nargs="+", default=[4, 8, 16, 32])
    options = parser.parse_args()

    arrays = grid(options.sizes, options.sizes, [256], nupes.ArrayConfig())
    front = pareto(sweep(nupes.load(options.network), arrays))
    for point in front:
        print(f"{point.array!s:>6} {point.cycles:>12,} cycles {point.utilization:>7.1%}")
    enough = [point for point in front if point.cycles <= options.cycles]
    if enough:
        best = min(enough, key=lambda point: (point.cells, point.memory_bits))
        print(f"smallest within {options.cycles:,} cycles: {best.array}")
    else:
        print(f"no array is within {options.cycles:,} cycles")


if __name__ == "__main__":
    main()
