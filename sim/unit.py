"""The C++ of a whole Verilated model and its main loop as one file: ``python unit.py MAIN FILES``.

Most of what a compiler reads for a small model is headers, so that one file takes half the time of
two. It takes the place of Verilator's own includer, which the makefile calls with the files.
"""

import sys

__all__ = ["whole_model"]

SLOW = "__Slow."
"""In the name of a file whose code runs once: Verilator does not optimize it either."""


def whole_model(main: str, files: list[str]) -> str:
    """Return the text of one file that includes the files of a model and its main loop."""
    slow = [file for file in files if SLOW in file]
    lines = [f'#include "{file}"' for file in files if file not in slow]
    lines += ["#pragma GCC push_options", '#pragma GCC optimize ("O0")']
    # A function that is defined above may be declared here again; it stays optimized.
    lines += ['#pragma GCC diagnostic ignored "-Wattributes"']
    lines += [f'#include "{file}"' for file in slow]
    lines += ["#pragma GCC pop_options", f'#include "{main}"']
    return "\n".join(lines)


if __name__ == "__main__":
    main, _, *files = sys.argv[1:]
    print(whole_model(main, files))
