"""Disk space of the program, part by part, from pip and after install/trim.py.

python -m tests.bench.footprint          makes a wheel and a clean environment; a minute or two
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
# Which distributions make up a line of the table; others are "everything else".
PARTS = {
    "openvino": ("openvino",),
    "opencv": ("opencv-python-headless",),
    "av": ("av",),
    "numpy": ("numpy",),
    "pillow": ("pillow",),
    "the camera with its weights": ("vbg-camera",),
    "pip, which every environment has": ("pip", "setuptools"),
}


def disk(paths: Iterable[Path]) -> float:
    """Megabytes (10^6 bytes) that files take on the disk."""
    files = (path for path in paths if path.is_file() and not path.is_symlink())
    return sum(file.stat().st_blocks * 512 for file in files) / 1e6


def measure(venv: Path) -> dict[str, float]:
    """Megabytes for each part of PARTS in an environment, the rest, and the whole."""
    names = {name: part for part, all_names in PARTS.items() for name in all_names}
    (packages,) = venv.glob("lib/*/site-packages")
    owner: dict[Path, str] = {}
    for record in packages.glob("*.dist-info/RECORD"):
        name = record.parent.name.split("-")[0].lower().replace("_", "-")
        for line in record.read_text().splitlines():
            owner[(packages / line.rsplit(",", 2)[0].strip('"')).resolve()] = name
    total: Counter[str] = Counter()
    for path in venv.rglob("*"):
        if path.is_file() and not path.is_symlink():
            part = names.get(owner.get(path.resolve(), ""), "everything else")
            total[part] += disk([path])
    return {part: total[part] for part in (*PARTS, "everything else")} | {"all": total.total()}


def install(wheel: Path, venv: Path) -> None:
    """Put a wheel with all it needs into a new environment."""
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True)
    subprocess.run([venv / "bin/python", "-m", "pip", "install", "--quiet", wheel], check=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, help="measure this one")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.wheel is None:
            pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder]
            subprocess.run([*pip, REPOSITORY], check=True)
        wheel = asked.wheel or next(folder.glob("*.whl"))
        install(wheel, folder / "venv")
        before = measure(folder / "venv")
        trim = [folder / "venv/bin/python", REPOSITORY / "install/trim.py"]
        subprocess.run(trim, check=True, stdout=subprocess.DEVNULL)
        after = measure(folder / "venv")
    print("| part | from pip | trimmed |\n|---|---|---|")
    for part, size in before.items():
        print(f"| {part} | {size:.0f} | {after[part]:.0f} |")


if __name__ == "__main__":
    main()
