"""ILSVRC-2013 DET as the studies read it: objects cropped into one folder.

    python data_prep/ilsvrc_det.py --root DIR [--download] [--help]

README.md says what it reads, what it takes and what is not known. Needs kpnb only.
"""

from __future__ import annotations

import sys

from kpnb.prepare import ilsvrc_det
from kpnb.prepare.command import main

if __name__ == "__main__":
    sys.exit(main(ilsvrc_det))
