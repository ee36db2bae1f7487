"""The errors of the flow: what must hold, what was found, where, and what to do about it."""

__all__ = [
    "ArtifactError",
    "CapacityError",
    "InputError",
    "NupesError",
    "SimulationError",
    "UnsupportedError",
]


class NupesError(Exception):
    """Base of every error that this package raises on purpose."""


class InputError(NupesError, ValueError):
    """A value given by the user breaks a stated rule (shape, range, dtype, scheme)."""


class UnsupportedError(NupesError, NotImplementedError):
    """An operator, or a combination of parameters, that the flow refuses by name."""


class ArtifactError(NupesError):
    """A file is truncated, corrupted, foreign, or cannot be written."""


class CapacityError(NupesError):
    """A network does not fit an array's memories, or an accumulator could overflow."""


class SimulationError(NupesError):
    """A simulator is missing, failed to build, or the hardware ended with an error status."""
