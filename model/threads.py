"""One thread for the process's BLAS while networks run.

Its products are small, and threads that wait for the next one would keep a core busy; networks run
parts of a batch on all cores instead. The number of threads is the process's, so it is counted who
runs, and a forked child starts anew.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from threadpoolctl import OpenBLASController, ThreadpoolController

__all__ = ["single_threaded_blas"]


class Holders:
    """How many hold the BLAS to one thread, and what takes it back."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.count = 0
        self.controller: ThreadpoolController | None = None
        self.threads: list[int] = []

    def enter(self) -> None:
        """Limit the BLAS, if nobody has."""
        with self.lock:
            if self.count == 0:
                if self.controller is None:
                    self.controller = ThreadpoolController().select(user_api="blas")
                libraries = self.controller.lib_controllers
                self.threads = [library.num_threads for library in libraries]
                self.set_threads([1] * len(libraries))
            self.count += 1

    def leave(self) -> None:
        """Restore the BLAS, if nobody else needs it limited."""
        with self.lock:
            if self.count == 1:
                self.set_threads(self.threads)
            self.count = max(0, self.count - 1)  # a child has nobody to leave

    def set_threads(self, threads: list[int]) -> None:
        """Set the threads of every library, whoever was the last to do so.

        ``threadpoolctl`` lets the thread alone that has set a number set another one, and ignores
        all others; here the last thread restores what the first one has set.
        """
        assert self.controller is not None
        OpenBLASController.clear_controlling_thread(force=True)
        for library, count in zip(self.controller.lib_controllers, threads, strict=True):
            library.set_num_threads(count)
        OpenBLASController.clear_controlling_thread(force=True)

    def begin_child(self) -> None:
        """Forget the threads of the parent: they do not run here, but the limit is inherited."""
        if self.count:
            self.set_threads(self.threads)
        self.count = 0
        self.lock.release()


HOLDERS = Holders()
# A fork waits until nobody is about to enter or leave, or the child would find the locks taken.
os.register_at_fork(
    before=HOLDERS.lock.acquire,
    after_in_parent=HOLDERS.lock.release,
    after_in_child=HOLDERS.begin_child,
)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold NumPy's BLAS to one thread; may be entered by several threads at a time."""
    HOLDERS.enter()
    try:
        yield
    finally:
        HOLDERS.leave()
