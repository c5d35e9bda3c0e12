"""Settings shared by all tests."""

import matplotlib
from hypothesis import settings

matplotlib.use("agg")
settings.register_profile("project", deadline=None, derandomize=True)  # the same examples on every machine
settings.load_profile("project")
