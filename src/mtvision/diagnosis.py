"""Whether mtvision can work here: packages, devices, folders."""

import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile

import torch

from mtvision.data.loading.workers import usable_cores
from mtvision.data.statistics_cache import cache_root
from mtvision.installation import Package, installed_packages, version_of
from mtvision.text_table import text_table

_GIB = 2**30
_LITTLE_DISK, _LITTLE_SHARED = 2.0, 0.5  # GiB: a few checkpoints; batches on their way from the loader's processes


@dataclass(frozen=True)
class Device:
    """What a network can run on.

    Attributes:
        name: as ``system.device`` takes it.
        description: of the hardware.
        memory: in GiB; NaN where it is not known.
        free: of it, now.
    """

    name: str
    description: str
    memory: float
    free: float


@dataclass(frozen=True)
class Place:
    """A folder that is written to.

    Attributes:
        use: what is written there.
        path: of the folder.
        free: GiB that are left; NaN where that is not known.
        problem: what is wrong with it; empty if nothing is.
    """

    use: str
    path: Path
    free: float
    problem: str


@dataclass(frozen=True)
class Diagnosis:
    """What `doctor` found; ``print`` shows tables.

    Attributes:
        version: of mtvision.
        python: its version.
        system: the operating system.
        threads: of torch, for one operation.
        packages: those that are needed, then those of the extras.
        devices: the CPU first.
        places: folders that are written to.
        problems: a sentence for each thing that keeps mtvision from working.
        warnings: a sentence for each thing that may do so later, or makes it slow.
    """

    version: str
    python: str
    system: str
    threads: int
    packages: tuple[Package, ...]
    devices: tuple[Device, ...]
    places: tuple[Place, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether nothing keeps mtvision from working."""
        return not self.problems

    def as_json(self) -> str:
        """Return all of it as JSON, NaN as null."""
        from mtvision.training.history import without_nan

        content = {**without_nan(asdict(self)), "usable": self.usable}
        return json.dumps(content, indent=2, default=str)

    def __str__(self) -> str:
        """Return a table for each kind, then the problems and warnings."""
        head = f"mtvision {self.version}, Python {self.python}, {self.system}, {self.threads} threads of torch"
        blocks = [
            head,
            text_table([("package", "installed", "needed", "of the extra"), *map(_package_row, self.packages)], left=4),
            text_table([("device", "", "GiB", "free"), *map(_device_row, self.devices)], left=2),
            text_table([("written there", "folder", "GiB free"), *map(_place_row, self.places)], left=2),
            *(f"error: {problem}" for problem in self.problems),
            *(f"warning: {warning}" for warning in self.warnings),
            "everything that is needed is there" if self.usable else "mtvision cannot work here as it is",
        ]
        return "\n\n".join(blocks)


def doctor() -> Diagnosis:
    """Look at what mtvision needs here: packages are imported, devices asked, folders written to.

    Example:
        >>> found = doctor()
        >>> found.devices[0].name
        'cpu'
    """
    packages = tuple(installed_packages())
    devices, places = (_cpu(), *_accelerators()), tuple(_places())
    needed = [package for package in packages if not package.extras]
    problems = [f"{package.name}: {package.problem}" for package in needed if package.problem]
    if not packages:
        problems.append("mtvision is run from its source tree: what it needs is not known. Try pip install -e .")
    extra = [f"{package.name}: {package.problem}" for package in packages if package.extras and package.problem]
    warnings = [*extra, *(f"{place.path}: {place.problem}" for place in places if place.problem), *_driver_warnings()]
    return Diagnosis(
        version=version_of("mtvision") or "unknown",
        python=platform.python_version(),
        system=platform.platform(),
        threads=torch.get_num_threads(),
        packages=packages,
        devices=devices,
        places=places,
        problems=tuple(problems),
        warnings=tuple(warnings),
    )


def _cpu() -> Device:
    kind = platform.processor() or platform.machine()
    return Device("cpu", f"{usable_cores()} cores ({kind})", _memory("SC_PHYS_PAGES"), _memory("SC_AVPHYS_PAGES"))


def _memory(pages: str) -> float:
    """Return GiB of the machine's memory by the name of a number of pages, NaN where the system does not tell it."""
    if pages not in getattr(os, "sysconf_names", {}):
        return float("nan")
    return os.sysconf(pages) * os.sysconf("SC_PAGE_SIZE") / _GIB


def _accelerators() -> Iterator[Device]:
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        description = f"{properties.name}, compute capability {properties.major}.{properties.minor}"
        yield Device(f"cuda:{index}", description, total / _GIB, free / _GIB)
    if torch.backends.mps.is_available():
        yield Device("mps", "Metal", float("nan"), float("nan"))


def _driver_warnings() -> Iterator[str]:
    if torch.version.cuda is None and torch.version.hip is None and shutil.which("nvidia-smi") is not None:
        yield "there is an NVIDIA driver, but this torch is built without CUDA: install another build of torch"
    elif torch.version.cuda is not None and shutil.which("nvidia-smi") is not None and not torch.cuda.is_available():
        yield f"torch is built for CUDA {torch.version.cuda}, but finds no device: the driver may be too old for it"


def _places() -> Iterator[Place]:
    yield _place("runs", Path.cwd(), _LITTLE_DISK)
    yield _place("statistics, sample cache", cache_root(), _LITTLE_DISK)
    shared = Path("/dev/shm")
    if sys.platform == "linux" and shared.is_dir():
        yield _place("batches of data.num_workers", shared, _LITTLE_SHARED)


def _place(use: str, path: Path, little: float) -> Place:
    """Try a folder, in place of one that does not exist yet the nearest that does."""
    existing = next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())
    try:
        with TemporaryFile(dir=existing):
            pass
        free = shutil.disk_usage(existing).free / _GIB
    except OSError as error:
        return Place(use, path, float("nan"), f"{use} cannot be written there ({error.strerror})")
    problem = f"{free:.1f} GiB are left for {use}" if free < little else ""
    return Place(use, path, free, problem)


def _package_row(package: Package) -> tuple[str, ...]:
    return package.name, package.version or "-", package.needed, ", ".join(package.extras)


def _device_row(device: Device) -> tuple[str, ...]:
    return device.name, device.description, _gib(device.memory), _gib(device.free)


def _place_row(place: Place) -> tuple[str, ...]:
    return place.use, str(place.path), _gib(place.free)


def _gib(value: float) -> str:
    return "-" if value != value else f"{value:.1f}"  # NaN is unlike itself
