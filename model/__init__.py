"""The integer network and its exact arithmetic: codes in, codes and int16 results out.

Everything the hardware must reproduce is defined here, in NumPy alone, and imported everywhere else
as the oracle.
"""
