"""Pictures that `vcam personalise` takes of its user: where they lie, and how they end.

They lie in the runtime directory, which on most systems is memory and ends with the session, in a
folder that nobody else can open. What a process that was killed left there goes when the next take
begins or a daemon starts.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

import cv2
from filelock import FileLock, Timeout

from vcam.errors import UsageError, VcamError
from vcam.media.pictures import fit_planes, image_from_i420
from vcam.system import paths

if TYPE_CHECKING:
    from typing_extensions import Self

    from segmentation.planes import Planes

log = logging.getLogger(__name__)

LONGEST: Final = 512  # pixels of a picture's longer side: more than any network looks at
QUALITY: Final = 95  # of JPEG


class Take:
    """The folder of one take, deleted on exit. Made by one process at a time.

    Raises:
        UsageError: another process takes pictures.
    """

    def __init__(self) -> None:
        self._folder = _folder()
        self._lock = FileLock(f"{self._folder}.lock", timeout=0)

    @property
    def pictures(self) -> Path:
        """Folder of the pictures."""
        return self._folder / "pictures"

    @property
    def work(self) -> Path:
        """Folder that the process which learns from them makes and writes to."""
        return self._folder / "work"

    @property
    def log(self) -> Path:
        """File in which that process says what went wrong."""
        return self._folder / "log"

    def __enter__(self) -> Self:
        try:
            self._lock.acquire()
        except Timeout as error:
            raise UsageError(
                "another `vcam personalise` runs", hint="Wait until it has ended."
            ) from error
        _delete(self._folder)
        self._folder.mkdir(mode=0o700)
        self.pictures.mkdir(mode=0o700)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            _delete(self._folder)
        finally:
            self._lock.release()

    def add(self, planes: Planes, step: str, seconds: float) -> None:
        """Write a picture of a step, so many seconds after the first.

        Raises:
            VcamError: it cannot be written.
        """
        scale = min(1.0, LONGEST / max(planes.width, planes.height))
        width, height = (round(side * scale / 2) * 2 for side in (planes.width, planes.height))
        image = image_from_i420(fit_planes(planes, width, height))
        _, jpeg = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        path = self.pictures / f"{step}_{round(seconds * 1000):06d}.jpg"
        try:
            path.write_bytes(jpeg.tobytes())
        except OSError as error:
            raise VcamError(
                f"{path} cannot be written: {error.strerror}", hint="Make room on that disk."
            ) from error

    def keep(self, folder: Path) -> None:
        """Copy the pictures to `folder`, which is this user's alone.

        Raises:
            VcamError: they cannot be written.
        """
        try:
            folder.mkdir(mode=0o700, parents=True)
            for path in self.pictures.iterdir():
                shutil.copyfile(path, folder / path.name)
        except OSError as error:
            raise VcamError(
                f"{folder} cannot be written: {error.strerror}", hint="Make room on that disk."
            ) from error


def sweep() -> None:
    """Delete what a take that was killed left behind; one that runs is left alone."""
    folder = _folder()
    if not folder.exists():
        return
    with contextlib.suppress(Timeout), FileLock(f"{folder}.lock", timeout=0):
        _delete(folder)


def _folder() -> Path:
    return paths.runtime_dir() / "take"


def _delete(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    with contextlib.suppress(FileNotFoundError, OSError):
        shutil.rmtree(folder)
    if folder.exists():
        log.warning("The pictures in %s cannot be deleted", folder)
