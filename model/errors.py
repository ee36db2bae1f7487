"""The errors of the flow: what must hold, what was found, where, and what to do about it."""

from nupes.model.error_catalogue import PAGE, find_anchor

__all__ = [
    "ArtifactError",
    "CapacityError",
    "InputError",
    "NupesError",
    "SimulationError",
    "UnsupportedError",
]


class NupesError(Exception):
    """Base of every error that this package raises on purpose.

    A traceback ends with the place in the documentation that explains the message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        if self.anchor is not None:
            self.add_note(f"explained in {PAGE}#{self.anchor}")

    @property
    def anchor(self) -> str | None:
        """The heading of docs/errors.md that explains the message."""
        return find_anchor(str(self))


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
