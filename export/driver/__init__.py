"""A driver of the accelerator on a bus: C and Python, registers, tables, a test of all of it.

The runtime is the same for every network; what is made from the register map and from the program
stands beside it.
"""

from nupes.export.driver.folder import build_driver, export_driver

__all__ = ["build_driver", "export_driver"]
