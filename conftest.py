"""The kernels that nbval starts in ``book/`` find ``lib`` here, as those that papermill starts do."""

import os
from pathlib import Path

os.environ["PYTHONPATH"] = str(Path(__file__).parent)
