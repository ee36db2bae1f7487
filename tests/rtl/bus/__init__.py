"""Tests of ``rtl/bus``: its blocks in Amaranth's simulator, the whole with ``cocotbext-axi``."""
