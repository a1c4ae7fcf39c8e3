"""SST-2 for the sentiment notebooks: fetch, read, count, and name the folder to give as `data`.

    python data_prep/sst2.py --root DIR [--download] [--layout treebank|glue] [--partial]

Without --download the archive, or what is in it, must lie in DIR; PAPER_DATA.md has the addresses.
"""

import sys

from kpnb.prepare.sst2 import main

if __name__ == "__main__":
    sys.exit(main())
