"""Settings for all tests: nothing is sent anywhere, and small networks run on one thread."""

import os

import torch

os.environ["WANDB_MODE"] = "disabled"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
torch.set_num_threads(1)
