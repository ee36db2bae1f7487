"""Proofs: what the blocks of the hardware compute, for all inputs; and mutants, what their stimuli
notice.

A block and its specification become one netlist (``netlist``), whose cells are evaluated over
bit-vector terms (``terms``, for proofs by ``induction``) or over arrays of integers (``vectors``,
for tests and ``mutants``). ``python -m proofs`` proves everything.
"""
