"""CIFAR-10 ResNet-20 from a published checkpoint to four bits.

``python -m examples.cifar_resnet20 --checkpoint resnet20-12fca82f.th --data cifar10.npz``; the data
hold images ``x`` (n, 3, 32, 32) in 0..1, classes ``y`` (n,) and images ``calibration``.
"""

import argparse

import nupes
from nupes.examples.pretrained.resnet20 import load_resnet20
from nupes.inputs import load_array, load_labels, run_model


def main() -> None:
    """Quantize, compare the accuracies and predict the cycles."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="resnet20-12fca82f.th")
    parser.add_argument("--data", required=True, help="an .npz file: x, y, calibration")
    parser.add_argument("--scheme", default="W4A4", help="bits of weights and activations")
    parser.add_argument("--method", help="search takes seconds; minutes unless given")
    parser.add_argument("-o", "--output", default="resnet20.safetensors")
    options = parser.parse_args()

    module = load_resnet20(options.checkpoint)
    images = load_array(options.data)
    labels = load_labels(options.data, "y", len(images))
    calibration = load_array(options.data, "calibration")
    network = nupes.quantize(module, options.scheme, calibration, method=options.method)
    network.save(options.output)
    real = (run_model(module, images).argmax(1) == labels).mean()
    integer = (network(images).argmax(1) == labels).mean()
    print(f"accuracy on {len(images)} images: float {real:.2%}, {options.scheme} {integer:.2%}")
    print(nupes.compile(network, nupes.ArrayConfig(16, 16)))


if __name__ == "__main__":
    main()
