"""Parts an ``nf4-embedded`` export into its base and its adapter, for engines that want them so."""

import os
import shutil
from contextlib import suppress
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from exporter.documents.model_card import CARD_FILE
from exporter.documents.read_manifest import read_manifest
from exporter.documents.write_documents import MEASURE_FILES, RETENTION_FILE, SUMS_FILE
from exporter.errors import OutputExistsError, RequestError, VerificationError, writing
from exporter.output.workspace import MANIFEST_FILE, write_whole
from exporter.provenance import sums_text
from exporter.safetensors.reader import file_sha256
from exporter.verification import PEFT_CHECK, verify
from tinylora.adapters.peft_directory import CONFIG_FILE, WEIGHTS_FILE
from tinylora.files.whole_file import sync

_ADAPTER = frozenset({CONFIG_FILE, WEIGHTS_FILE})
# They are about both together.
_OF_THE_WHOLE = frozenset({CARD_FILE, *MEASURE_FILES, MANIFEST_FILE, RETENTION_FILE, SUMS_FILE})


def split(directory: str | Path, out: str | Path) -> dict[str, list[str]]:
    """Write ``out/base`` and ``out/adapter``, each with its ``SHA256SUMS``; all of it or nothing.

    Files are hard links where the disk allows, so that nothing is written twice.

    Returns:
        Names of files by part.

    Raises:
        RequestError: The export has another format, or ``out`` lies in it.
        VerificationError: The export is damaged, or a copy is not equal to its original.
        OutputExistsError: There is something at ``out``.
        OutputWriteError: It cannot be written, or something else got its name meanwhile.
    """
    directory, out = Path(directory), Path(out)
    manifest = read_manifest(directory)
    if (found := manifest["options"]["format"]) != "nf4-embedded":
        raise RequestError(
            f"{directory}: is a {found} export, which is one model or one adapter already; only "
            "nf4-embedded has a base and an adapter in it"
        )
    if out.resolve().is_relative_to(directory.resolve()):
        raise RequestError(f"{out}: lies in the export itself; choose another --out")
    if out.exists() or out.is_symlink():
        raise OutputExistsError(f"{out}: is already there; choose another --out or remove it")
    checks = [check for check in verify(directory).checks if check.name != PEFT_CHECK]
    damage = [problem for check in checks for problem in check.problems]
    if damage:
        raise VerificationError(f"{directory}: is damaged: {damage[0]}; nothing was written")
    files: dict[str, str] = manifest["files"]
    parts = {
        "base": {n: d for n, d in files.items() if n not in _ADAPTER | _OF_THE_WHOLE},
        "adapter": {n: d for n, d in files.items() if n in _ADAPTER},
    }
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=out.parent, prefix=f"{out.name}.") as scratch:
            for part, digests in parts.items():
                _fill(Path(scratch, "parts", part), directory, digests)
            Path(scratch, "parts").rename(out)
    return {part: sorted(digests) for part, digests in parts.items()}


def _fill(folder: Path, source: Path, digests: dict[str, str]) -> None:
    """Put files into a new folder; each is read again."""
    for name, digest in digests.items():
        original, copy = source / PurePosixPath(name), folder / PurePosixPath(name)
        with writing(copy):
            copy.parent.mkdir(parents=True, exist_ok=True)
            with suppress(OSError):  # another disk, or one without links
                os.link(original.resolve(), copy)  # in a hub's cache it is a link itself
            if not copy.exists():
                shutil.copyfile(original, copy)
                sync(copy)
        if file_sha256(copy) != digest:
            raise VerificationError(f"{copy}: is not equal to {original}; nothing was written")
    write_whole(folder / SUMS_FILE, sums_text(digests).encode())
