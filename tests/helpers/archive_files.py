"""Archives of every kind that is read, good ones and hostile ones."""

import io
import tarfile
import zipfile


def tar_info(name, kind=tarfile.REGTYPE, content=b"", link=""):
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, len(content), link
    return info, content


def make_tar(path, *members, mode="w:gz"):
    with tarfile.open(path, mode) as file:
        for info, content in members:
            file.addfile(info, io.BytesIO(content) if content else None)
    return path


def make_zip(path, *members):
    with zipfile.ZipFile(path, "w") as file:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            file.writestr(info, content)
    return path


def make_deb(path, *members):
    data = make_tar(path.with_suffix(".data"), *members, mode="w:xz").read_bytes()
    parts = {b"debian-binary": b"2.0\n", b"control.tar.xz": b"odd", b"data.tar.xz": data}
    content = b"!<arch>\n"
    for name, part in parts.items():
        content += name.ljust(16) + b"0".ljust(32) + str(len(part)).encode().ljust(10) + b"`\n"
        content += part + b"\n" * (len(part) % 2)
    path.write_bytes(content)
    return path


def packed(members: dict[str, bytes]) -> bytes:
    held = io.BytesIO()
    make_zip(held, *((name, content, 0) for name, content in members.items()))
    return held.getvalue()
