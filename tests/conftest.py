"""Settings shared by all tests."""

import matplotlib
import torch
from hypothesis import settings

matplotlib.use("agg")
torch.set_num_threads(1)  # the workers of a parallel run share the cores
settings.register_profile("project", deadline=None, derandomize=True)  # the same examples on every machine
settings.load_profile("project")
