"""CUB-200-2011 as the studies read it: objects cropped into one folder.

    python data_prep/cub200.py --root DIR [--download] [--help]

README.md says what it reads, what it takes and what is not known. Needs kpnb only.
"""

from __future__ import annotations

import sys

from kpnb.prepare import cub200
from kpnb.prepare.command import main

if __name__ == "__main__":
    sys.exit(main(cub200))
