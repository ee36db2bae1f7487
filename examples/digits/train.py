"""Train the digits network and write its checkpoint: ``python -m nupes.examples.digits.train``,
under a minute on two cores."""

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from nupes.examples.digits.network import CHECKPOINT, DigitsNet, load_split

EPOCHS = 40
BATCH = 64
RATE = 4e-3


def shift(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Move each image by up to one pixel in each direction; borders fill with zero."""
    padded = F.pad(images, (1, 1, 1, 1))
    dy, dx = torch.randint(0, 3, (2, len(images)), generator=generator).tolist()
    moved = [
        padded[i, :, y : y + 8, x : x + 8] for i, (y, x) in enumerate(zip(dy, dx, strict=True))
    ]
    return torch.stack(moved)


def accuracy(network: DigitsNet, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the fraction of images that the network labels correctly."""
    network.eval()
    with torch.no_grad():
        guess = network(torch.from_numpy(images)).argmax(1).numpy()
    return float((guess == labels).mean())


def main() -> None:
    """Train from a fixed seed, report the test accuracy and write the checkpoint."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    split = load_split()
    images, labels = (torch.from_numpy(array) for array in split["train"])
    network = DigitsNet()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=1e-2)
    steps = EPOCHS * -(-len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for epoch in range(EPOCHS):
        network.train()
        for batch in torch.randperm(len(images), generator=generator).split(BATCH):
            loss = F.cross_entropy(network(shift(images[batch], generator)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: test accuracy {accuracy(network, *split['test']):.4f}")
    parameters = {name: value.contiguous() for name, value in network.state_dict().items()}
    save_file(parameters, CHECKPOINT)
    print(f"wrote {CHECKPOINT} ({CHECKPOINT.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
