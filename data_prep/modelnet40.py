"""ModelNet40 for the point cloud notebooks: fetch, read, count, and name the folder for `data`.

    python data_prep/modelnet40.py --root DIR [--download] [--layout hdf5|off] [--partial]

Without --download the archive, or what is in it, must lie in DIR; PAPER_DATA.md has the addresses.
The HDF5 files need the package h5py (`pip install kpnb[modelnet]`).
"""

import sys

from kpnb.prepare.modelnet40 import main

if __name__ == "__main__":
    sys.exit(main())
