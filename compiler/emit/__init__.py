"""Passes in, instructions in program order out: what they wait for, what is resident, what moves
ahead."""
