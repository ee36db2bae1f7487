"""The program in the external memory, which STOREs change."""

from collections.abc import Iterator, Sequence

__all__ = ["Outside"]


class Outside:
    """The words of a program, each read as early as a fetch buffer of ``depth`` words has room;
    what is stored may come as late as the next fence."""

    def __init__(self, words: Sequence[int] = (), depth: int = 0) -> None:
        self.words, self.depth = list(words), depth
        self.stored: list[tuple[int, int]] = []

    def fetched(self) -> Iterator[int]:
        """Yield the words in order."""
        buffer: list[int] = []
        for position in range(len(self.words)):
            read = position + len(buffer)
            buffer += self.words[read : position + self.depth + 1]
            yield buffer.pop(0)

    def settle(self) -> None:
        """Let all that was stored be in memory."""
        for place, word in self.stored:
            self.words[place] = word
        self.stored.clear()
