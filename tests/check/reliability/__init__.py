"""The reliability campaign: see __main__.py. The helpers of the tests are found here too."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "helpers"))
