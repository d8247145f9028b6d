"""Fetching Pascal VOC by torchvision, which compares checksums."""

import logging
import shutil
import tarfile
from pathlib import Path

from mtvision.data.readers.voc_files import find_devkits
from mtvision.errors import DataError

logger = logging.getLogger(__name__)


def download_voc(root: Path, year: str) -> None:
    """Fetch a year of Pascal VOC into ``root`` unless it is there.

    It is unpacked beside its place and then moved, so a fetch that was cut off leaves nothing that looks like a devkit.
    Several processes may call it at once: one fetches, the others wait.

    Args:
        root: a folder, made where it is missing; the devkit becomes ``VOCdevkit/VOC2012`` in it.
        year: ``2007`` to ``2012``. 2007 comes with its test split, of the others it is not public.

    Raises:
        DataError: if it cannot be fetched, or its checksum is wrong.
    """
    from filelock import FileLock

    try:
        root.mkdir(parents=True, exist_ok=True)
        with FileLock(root / f".voc{year}.lock"):  # the system gives it up when its process dies
            if not find_devkits(root, year):
                logger.info("%s: fetching Pascal VOC %s", root, year)
                _fetch(root, year)
    except (OSError, RuntimeError, EOFError, tarfile.TarError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{root}: Pascal VOC {year} could not be downloaded ({reason})") from None


def _fetch(root: Path, year: str) -> None:
    from torchvision.datasets import VOCDetection

    place = root / f".voc{year}.download"
    shutil.rmtree(place, ignore_errors=True)
    try:
        for image_set in ("trainval", "test") if year == "2007" else ("trainval",):
            VOCDetection(str(place), year=year, image_set=image_set, download=True)
        found = find_devkits(place, year)
        if not found:
            raise RuntimeError(f"the archive has no folder VOC{year}")
        devkit = found[0]
        target = root / devkit.relative_to(place)
        target.parent.mkdir(parents=True, exist_ok=True)
        devkit.replace(target)
    finally:
        shutil.rmtree(place, ignore_errors=True)  # with the archive
