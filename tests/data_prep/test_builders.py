"""What builders share: packages are fetched and checked, and files say whether they differ."""

import gzip
import sys
from hashlib import sha256

from refusals import refuses

from data_prep.builders import EMBEDDED_DATA, Package, report, run_builder, write_gzip
from kpnb.errors import KpnbError

CONTENT = b"a package"


def package(program=f"open('p.deb', 'wb').write({CONTENT!r})"):
    """A package that this Python, with a program, puts into the current folder."""
    return Package("p.deb", sha256(CONTENT).hexdigest(), (sys.executable, "-c", program))


def test_a_missing_package_is_fetched_once_and_checked(tmp_path, capsys):
    made, root = package(), tmp_path / "root"
    made.fetch(root)
    made.check(root)
    (root / "p.deb").write_bytes(b"another version")
    made.fetch(root)  # it is there
    assert capsys.readouterr().out.count("fetching:") == 1
    refuses(made.check, "SHA-256.*fetch it there with", root)
    (root / "p.deb").unlink()
    refuses(made.check, "is missing: fetch it there with .*--download", root)
    refuses(package("1 / 0").fetch, "ZeroDivisionError.*put p.deb into", root)
    absent = Package("p.deb", "0", ("no-such-program", "x"))
    refuses(absent.fetch, "There is no no-such-program here: run .*put p.deb into", root)


def test_a_builder_runs_after_its_packages_are_checked(tmp_path, capsys):
    calls = []
    arguments = ["--root", str(tmp_path / "root"), "--out", str(tmp_path / "out")]

    def run(*more):
        def build(*folders):
            calls.append(folders)
            if len(calls) > 1:
                raise KpnbError("It cannot be built: do not.")

        return run_builder("What is built.", "text", [package()], build, [*arguments, *more])

    assert run() == 1 and calls == [] and not (tmp_path / "out").exists()
    assert capsys.readouterr().err.startswith("error: ")
    assert run("--download") == 0 and calls == [(tmp_path / "root", tmp_path / "out")]
    assert (tmp_path / "out").is_dir()
    assert run() == 1 and "cannot be built" in capsys.readouterr().err
    assert (EMBEDDED_DATA / "text" / "README.md").is_file()


def test_a_file_says_whether_it_is_the_one_that_is_packaged(tmp_path, capsys):
    content = "a line\n"
    path = write_gzip(tmp_path / "a.tsv.gz", content)
    assert path.read_bytes() == gzip.compress(content.encode(), 9, mtime=0)
    assert not list(tmp_path.glob("*.tmp"))
    digest = sha256(content.encode()).hexdigest()  # of the content, not of gzip's bytes
    for packaged, told in ((digest, "as packaged"), ("0" * 64, f"differs from {'0' * 64}")):
        report(path, packaged)
        line = capsys.readouterr().out
        assert line.startswith(digest) and line.endswith(f"{told}\n")
