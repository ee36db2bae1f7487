"""C firmware: the packed weight codes as a hex image, every table in a C file, and a small runtime.

The runtime (``runtime/nupes.c``) is the same for every network. It reads the packed codes where
they are; nothing is unpacked, and no number is recomputed from a scale.
"""

from nupes.export.firmware.folder import build_firmware, export_firmware
from nupes.export.firmware.image import intel_hex
from nupes.export.firmware.memory import MemoryMap, memory_map

__all__ = ["MemoryMap", "build_firmware", "export_firmware", "intel_hex", "memory_map"]
