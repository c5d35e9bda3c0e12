"""What is run and judged; `figures` draws it."""

import common as _common  # noqa: F401  # it ends commands that are stopped while they are imported
