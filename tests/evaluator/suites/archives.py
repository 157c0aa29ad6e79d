"""Luogu test data made for tests, as a zip or a folder."""

import zipfile

FILES = {"a1.in": b"1\n", "a1.out": b" 2\r\n", "a2.in": b"2\n", "a2.out": b"3\n"}
FILES |= {"a10.in": b"10\n", "a10.ans": b"\xff\x00\n"}


def make_zip(path, files, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def make_folder(path, files):
    path.mkdir(parents=True)
    for name, data in files.items():
        (path / name).write_bytes(data.encode() if isinstance(data, str) else data)
    return path
