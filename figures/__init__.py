"""The paper's figures, drawn from saved results: `python -m figures frozen-lake`."""

import common as _common  # noqa: F401  # it ends commands that are stopped while they are imported
