"""What each measured process needs, done once in the one that they are copies of: the imports, and
a first export, which imports much more."""

import torch
from torch import nn

from benchmarks.zoo import libraries
from nupes.inputs import quiet_torch
from nupes.quantizer.frontend.inspection import inspect_module

libraries()
torch.set_num_threads(1)  # threads do not live on in a copy
with quiet_torch():
    inspect_module(nn.Conv2d(1, 1, 1), (1, 2, 2))
