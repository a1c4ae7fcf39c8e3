"""What builders share: packages are fetched and checked, and files say whether they differ."""

import gzip
import hashlib
import sys

import pytest

from data_prep.builders import EMBEDDED_DATA, Package, report, run_builder, write_gzip
from kpnb.errors import KpnbError

CONTENT = b"a package"


def package(program=f"open('p.deb', 'wb').write({CONTENT!r})"):
    """A package that this Python, with a program, puts into the current folder."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    return Package("p.deb", digest, (sys.executable, "-c", program))


def test_a_missing_package_is_fetched_once_and_checked(tmp_path, capsys):
    made, root = package(), tmp_path / "root"
    made.fetch(root)
    made.check(root)
    (root / "p.deb").write_bytes(b"another version")
    made.fetch(root)  # it is there
    assert capsys.readouterr().out.count("fetching:") == 1
    with pytest.raises(KpnbError, match="SHA-256.*fetch it there with"):
        made.check(root)
    (root / "p.deb").unlink()
    with pytest.raises(KpnbError, match="is missing: fetch it there with .*--download"):
        made.check(root)
    with pytest.raises(KpnbError, match="ZeroDivisionError.*put p.deb into"):
        package("1 / 0").fetch(root)
    with pytest.raises(KpnbError, match="There is no no-such-program here: run .*put p.deb into"):
        Package("p.deb", "0", ("no-such-program", "x")).fetch(root)


def test_a_builder_runs_after_its_packages_are_checked(tmp_path, capsys):
    calls = []
    arguments = ["--root", str(tmp_path / "root"), "--out", str(tmp_path / "out")]

    def run(*more, build=lambda *folders: calls.append(folders)):
        return run_builder("What is built.", "text", [package()], build, [*arguments, *more])

    assert run() == 1 and calls == [] and not (tmp_path / "out").exists()
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert run("--download") == 0 and calls == [(tmp_path / "root", tmp_path / "out")]
    assert (tmp_path / "out").is_dir()

    def broken(root, out):
        raise KpnbError("It cannot be built: do not.")

    assert run(build=broken) == 1 and "cannot be built" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("--help")
    assert "What is built." in capsys.readouterr().out
    assert (EMBEDDED_DATA / "text" / "README.md").is_file()


def test_a_file_says_whether_it_is_the_one_that_is_packaged(tmp_path, capsys):
    content = "a line\n"
    path = write_gzip(tmp_path / "a.tsv.gz", content)
    assert path.read_bytes() == gzip.compress(content.encode(), 9, mtime=0)
    assert not list(tmp_path.glob("*.tmp"))
    digest = hashlib.sha256(content.encode()).hexdigest()  # of the content, not of gzip's bytes
    report(path, digest)
    report(path, "0" * 64)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(digest) and first.endswith("as packaged")
    assert second.startswith(digest) and second.endswith(f"differs from {'0' * 64}")
