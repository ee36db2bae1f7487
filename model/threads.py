"""One thread for the process's BLAS while networks run.

Its products are small, and threads that wait for the next one would keep a core busy; networks run
parts of a batch on all cores instead. The number of threads is the process's, so it is counted who
runs, and a forked child starts anew.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock

from threadpoolctl import ThreadpoolController

__all__ = ["single_threaded_blas"]


class Holders:
    """How many hold the BLAS to one thread, and what takes it back."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.count = 0
        self.limit: AbstractContextManager | None = None
        self.controller: ThreadpoolController | None = None

    def enter(self) -> None:
        """Limit the BLAS, if nobody has."""
        with self.lock:
            if self.count == 0:
                if self.controller is None:
                    self.controller = ThreadpoolController().select(user_api="blas")
                self.limit = self.controller.limit(limits=1)
                self.limit.__enter__()
            self.count += 1

    def leave(self) -> None:
        """Restore the BLAS, if nobody else needs it limited."""
        with self.lock:
            self.count -= 1
            if self.count == 0 and self.limit is not None:
                self.limit.__exit__(None, None, None)
                self.limit = None

    def begin_child(self) -> None:
        """Forget the threads of the parent: they do not run here, but the limit is inherited."""
        self.lock, self.count = Lock(), 0
        if self.limit is not None:
            self.limit.__exit__(None, None, None)
            self.limit = None


HOLDERS = Holders()
os.register_at_fork(after_in_child=HOLDERS.begin_child)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold NumPy's BLAS to one thread; may be entered by several threads at a time."""
    HOLDERS.enter()
    try:
        yield
    finally:
        HOLDERS.leave()
