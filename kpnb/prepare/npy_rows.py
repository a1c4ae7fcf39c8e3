"""A .npy file written row by row, never the whole array in memory."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.lib import format as npy


class NpyRows:
    """A uint8 array (rows, *shape) on disk, C order, as `numpy.save` writes it.

    Rows are appended, and the number of rows is put into the header at the end: `most` of them at
    most. A memory map would do, but a disk that fills up kills a process that writes to one.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], most: int) -> None:
        self._shape, self._most, self._rows = shape, most, 0
        self._file = path.open("wb")
        self._write_header(most)

    def add(self, row: np.ndarray) -> None:
        """Append a row; ValueError for another shape or type, or one row too many."""
        if row.shape != self._shape or row.dtype != np.uint8 or self._rows == self._most:
            raise ValueError(f"row {self._rows} is {row.dtype} {row.shape}, not {self._shape}")
        self._file.write(np.ascontiguousarray(row).tobytes())
        self._rows += 1

    def __enter__(self) -> NpyRows:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._finish()

    def _finish(self) -> None:
        begin = self._file.tell() - self._rows * int(np.prod(self._shape))
        self._file.seek(0)
        self._write_header(self._rows)
        # NumPy leaves room for the first axis, so that both headers have the same length.
        if self._file.tell() != begin:
            raise ValueError("the header of the .npy file changed its length")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _write_header(self, rows: int) -> None:
        described = {"descr": "|u1", "fortran_order": False, "shape": (rows, *self._shape)}
        npy.write_array_header_1_0(self._file, described)
