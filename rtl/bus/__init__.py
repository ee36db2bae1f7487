"""The accelerator on a bus: registers, reads of the program, writes of the results, an interrupt.

``registers`` is the AXI4-Lite block of the map of ``arch/registers.py``; ``reader`` and ``writer``
are AXI4 masters; ``gearbox`` turns beats into words and results into beats; ``control`` says what
a run does; ``top`` wires them around the accelerator, which is the same as without a bus.
"""
