"""SQuAD v1.1 for the question notebooks: fetch, read, count, and name the folder for `data`.

    python data_prep/squad.py --root DIR [--download] [--partial]

Without --download the two JSON files must lie in DIR; PAPER_DATA.md has the addresses.
"""

import sys

from kpnb.prepare.squad import main

if __name__ == "__main__":
    sys.exit(main())
