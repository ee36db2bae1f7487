"""Random images for any integer network."""

import numpy as np

from nupes.model.network import IntegerNetwork

__all__ = ["all_images_of", "images_of"]


def images_of(network: IntegerNetwork, count: int, seed: int = 0) -> np.ndarray:
    """Return random images (b, c, h, w) that use every code of the only input."""
    (images,) = all_images_of(network, count, seed)
    return images


def all_images_of(network: IntegerNetwork, count: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Return random images (b, c, h, w) for each input that use every code; of a mask, every pixel
    has a key."""
    rng = np.random.default_rng(seed)
    shown = {mask.port.tensor: mask.hides.argmin(axis=0) for mask in network.input_masks}
    images = []
    for tensor in (item.tensor for item in network.inputs):
        height, width, channels = tensor.shape
        codes = rng.integers(0, len(tensor.codebook), (count, channels, height, width))
        if tensor.name in shown:
            key = rng.integers(channels)
            codes[:, key] = shown[tensor.name][key]
        images.append(codes.astype(np.float64))
    return tuple(images)
