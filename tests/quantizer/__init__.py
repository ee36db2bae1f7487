"""Tests of the quantizer: operators against the float module, integers against their formulas."""
