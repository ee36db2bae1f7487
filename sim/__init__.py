"""Program image and generated RTL in, outputs, cycles and waveforms out."""
