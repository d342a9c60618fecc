"""PyTorch with one thread: several tests run at once on few cores, and threads that wait for each other's core take minutes."""

import torch

torch.set_num_threads(1)
