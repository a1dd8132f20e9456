"""Pictures and their mattes on disk, in memory, and in shards."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from train.augment import Alpha, Augment, Image, view
from train.errors import DataError

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")


@dataclass(frozen=True, slots=True)
class Pair:
    """A picture and its matte."""

    image: Path
    matte: Path


def find_pairs(folder: Path) -> list[Pair]:
    """Every picture in `folder`/img that has a matte of the same name in `folder`/mask.

    Raises:
        DataError: there is not a single pair.
    """
    mattes = {path.stem: path for path in sorted((folder / "mask").glob("*.png"))}
    pictures = [p for p in sorted((folder / "img").glob("*")) if p.suffix.lower() in PICTURES]
    pairs = [Pair(p, mattes[p.stem]) for p in pictures if p.stem in mattes]
    if not pairs:
        raise DataError(
            f"{folder}: {len(pictures)} pictures in img/, {len(mattes)} mattes in mask/, "
            "expected at least one pair of the same name",
            hint="Give a folder with img/NAME.jpg and mask/NAME.png.",
        )
    return pairs


def read_image(path: Path) -> NDArray[np.uint8]:
    """Read a picture.

    Shapes:
        returns: (H, W, 3) uint8 RGB

    Raises:
        DataError: missing, corrupt, or not a picture.
    """
    image = _decode(path, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(image[..., ::-1])


def read_matte(path: Path) -> NDArray[np.float32]:
    """Read a matte: the alpha channel of a transparent picture, else its brightness.

    Shapes:
        returns: (H, W) float32 in 0..1

    Raises:
        DataError: missing, corrupt, or not a picture.
    """
    return read_matte_bytes(path).astype(np.float32) / np.float32(255)


def read_matte_bytes(path: Path) -> NDArray[np.uint8]:
    """Read a matte as `read_matte` does, as (H, W) uint8."""
    return _as_matte(_decode(path, cv2.IMREAD_UNCHANGED))


def _decode(path: Path, flags: int) -> NDArray[np.uint8]:
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}", hint="Run `train prepare` again."
        ) from error
    return _decoded(data, flags, str(path))


def _decoded(data: NDArray[np.uint8], flags: int, name: str) -> Image:
    picture = cv2.imdecode(data, flags) if data.size else None
    if picture is None:
        raise DataError(
            f"{name}: {data.size} bytes that are not a picture",
            hint="Run `train prepare` again; it leaves out what cannot be read.",
        )
    return np.asarray(picture)


def _as_matte(picture: NDArray[Any]) -> Image:
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    if picture.ndim == 3 and picture.shape[2] == 4:
        return np.ascontiguousarray(picture[..., 3])
    if picture.ndim == 3:
        return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)
    return np.asarray(picture, np.uint8)


def shards_of(entry: str, root: Path) -> list[Path]:
    """The .tar shards of one set of a recipe; none where it is a folder or a manifest.

    Raises:
        DataError: the pattern names shards and there are none.
    """
    if not entry.endswith(".tar"):
        return []
    found = sorted(root.glob(entry))
    if not found:
        raise DataError(
            f"{root / entry}: there are no such shards", hint="Pack some with `train prepare`."
        )
    return found


class Pictures:
    """Pictures and mattes by number, decoded once and kept where they fit in memory."""

    def __init__(self, pairs: list[Pair], *, longest: int, memory: float) -> None:
        self.pairs = pairs
        self._longest = longest
        self._kept: list[tuple[Image, Image]] | None = None
        sample = [self._read(pair) for pair in pairs[:16]]
        need = sum(a.nbytes + b.nbytes for a, b in sample) / max(len(sample), 1) * len(pairs)
        if need <= memory:
            self._kept = sample + [self._read(pair) for pair in pairs[16:]]

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def kept(self) -> bool:
        """Whether all of them are in memory."""
        return self._kept is not None

    def __getitem__(self, index: int) -> tuple[Image, Image]:
        return self._kept[index] if self._kept else self._read(self.pairs[index])

    def _read(self, pair: Pair) -> tuple[Image, Image]:
        return shrunk(read_image(pair.image), read_matte_bytes(pair.matte), self._longest, pair)


def shrunk(image: Image, matte: Image, longest: int, pair: Pair) -> tuple[Image, Image]:
    """Shrink a picture and its matte until the longer side is at most `longest`.

    Raises:
        DataError: they differ in size.
    """
    if image.shape[:2] != matte.shape:
        raise DataError(
            f"{pair.matte}: {matte.shape[1]}x{matte.shape[0]}, its picture is "
            f"{image.shape[1]}x{image.shape[0]}",
            hint="Run `train prepare`, which leaves such pairs out.",
        )
    scale = longest / max(matte.shape)
    if scale >= 1:
        return image, matte
    size = (max(1, round(matte.shape[1] * scale)), max(1, round(matte.shape[0] * scale)))
    return (
        np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8),
        np.asarray(cv2.resize(matte, size, interpolation=cv2.INTER_AREA), np.uint8),
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """Which views make an epoch: the same for the same seed, however many processes share it."""

    seed: int
    views: int  # in an epoch, all processes together
    batch: int  # all processes together
    sizes: tuple[tuple[int, int], ...]  # one is drawn for each batch
    rank: int = 0
    world: int = 1
    early_sizes: tuple[tuple[int, int], ...] = ()  # instead of `sizes`, in the first epochs
    early: int = 0  # how many those are

    @property
    def batches(self) -> int:
        """Steps in an epoch."""
        return self.views // self.batch

    def size(self, epoch: int, index: int) -> tuple[int, int]:
        """The size (h, w) of a batch, the same in every process."""
        rng = np.random.default_rng((self.seed, epoch, index))
        sizes = self.early_sizes if epoch < self.early else self.sizes
        return sizes[int(rng.integers(len(sizes)))]

    def members(self) -> range:
        """Which of a batch's views this process makes."""
        return range(self.rank, self.batch, self.world)

    def rng(self, epoch: int, index: int, member: int) -> np.random.Generator:
        """The random numbers of one view."""
        return np.random.default_rng((self.seed, epoch, index, member))


Batch = tuple[NDArray[np.uint8], NDArray[np.float32]]


class Views:
    """Batches of random views, by number, for one epoch from batch `start` on.

    A picture that cannot be read is returned as the error, so that it reaches the user whole.

    Shapes:
        a batch: (B, h, w, 3) uint8 RGB, (B, h, w) float32 alpha
    """

    def __init__(
        self,
        labelled: Pictures,
        pseudo: Pictures | None,
        rooms: list[Image],
        plan: Plan,
        options: Augment,
        *,
        pseudo_share: float,
        epoch: int,
        start: int = 0,
    ) -> None:
        self._sets = (labelled, pseudo)
        self._share = pseudo_share if pseudo else 0.0
        self._rooms = rooms
        self._plan = plan
        self._options = options
        self._epoch = epoch
        self._start = start

    def __len__(self) -> int:
        return self._plan.batches - self._start

    def __getitem__(self, number: int) -> Batch | DataError:
        cv2.setNumThreads(1)
        index = number + self._start
        size = self._plan.size(self._epoch, index)
        try:
            views = [self._view(index, member, size) for member in self._plan.members()]
        except DataError as error:
            return error
        return np.stack([v[0] for v in views]), np.stack([v[1] for v in views])

    def _view(self, index: int, member: int, size: tuple[int, int]) -> tuple[Image, Alpha]:
        rng = self._plan.rng(self._epoch, index, member)
        labelled, pseudo = self._sets
        pictures = pseudo if pseudo and rng.random() < self._share else labelled
        image, matte = pictures[int(rng.integers(len(pictures)))]
        return view(image, matte, self._rooms, size, rng, self._options)


class Shards:
    """Batches of random views of pairs streamed from .tar files, for sets larger than memory.

    A shard holds NAME.jpg (or .webp, .png) beside NAME.matte.png, in the order they are read; this
    is WebDataset's layout (https://github.com/webdataset/webdataset). Each process reads its own
    shards; pairs pass through a buffer that shuffles them.
    """

    def __init__(
        self,
        shards: list[Path],
        rooms: list[Image],
        plan: Plan,
        options: Augment,
        *,
        longest: int,
        epoch: int,
        start: int = 0,
        buffer: int = 512,
    ) -> None:
        if len(shards) < plan.world:
            raise DataError(
                f"{len(shards)} shards for {plan.world} processes, expected one each or more",
                hint="Pack smaller shards, or start fewer processes.",
            )
        self._shards = shards
        self._rooms = rooms
        self._plan = plan
        self._options = options
        self._longest = longest
        self._epoch = epoch
        self._start = start
        self._buffer = buffer

    def __iter__(self) -> Iterator[Batch | DataError]:
        cv2.setNumThreads(1)
        try:
            pairs = self._shuffled()
            for index in range(self._plan.batches):
                views = []
                for member in self._plan.members():
                    image, matte = next(pairs)
                    if index >= self._start:
                        rng = self._plan.rng(self._epoch, index, member)
                        size = self._plan.size(self._epoch, index)
                        views.append(view(image, matte, self._rooms, size, rng, self._options))
                if views:
                    yield np.stack([v[0] for v in views]), np.stack([v[1] for v in views])
        except DataError as error:
            yield error

    def _shuffled(self) -> Iterator[tuple[Image, Image]]:
        """Pairs for ever, each process its own shards, in an order the seed decides."""
        rng = np.random.default_rng((self._plan.seed, self._epoch, self._plan.rank))
        mine = self._shards[self._plan.rank :: self._plan.world]
        waiting: list[tuple[Image, Image]] = []
        while True:
            for shard in rng.permutation(len(mine)):
                for pair in read_shard(mine[int(shard)], self._longest):
                    waiting.append(pair)
                    if len(waiting) > self._buffer:
                        turn = int(rng.integers(len(waiting)))
                        waiting[turn], waiting[-1] = waiting[-1], waiting[turn]
                        yield waiting.pop()
            while len(waiting) > self._buffer // 2 or (waiting and len(mine) == 1):
                yield waiting.pop(int(rng.integers(len(waiting))))


def read_shard(path: Path, longest: int) -> Iterator[tuple[Image, Image]]:
    """Every pair of a .tar shard, in order.

    Raises:
        DataError: damaged, or a picture without a matte.
    """
    try:
        with tarfile.open(path, "r|") as archive:
            pending: dict[str, Image] = {}
            seen = 0
            for member in archive:
                stem, _, kind = member.name.partition(".")
                file = archive.extractfile(member)
                if file is None:
                    continue
                data = np.frombuffer(file.read(), np.uint8)
                flags = cv2.IMREAD_UNCHANGED if kind == "matte.png" else cv2.IMREAD_COLOR
                picture = _decoded(data, flags, f"{path}: {member.name}")
                if kind == "matte.png":
                    if stem not in pending:
                        continue
                    pair = Pair(path / f"{stem}", path / member.name)
                    seen += 1
                    yield shrunk(pending.pop(stem), _as_matte(picture), longest, pair)
                else:
                    pending[stem] = np.ascontiguousarray(picture[..., ::-1])
    except (OSError, tarfile.TarError) as error:
        raise DataError(
            f"{path}: damaged or not a shard: {error}", hint="Pack it again with `train prepare`."
        ) from error
    if seen == 0:
        raise DataError(
            f"{path}: holds no NAME.jpg followed by NAME.matte.png",
            hint="Pack it again with `train prepare`.",
        )


def write_shards(pairs: list[Pair], folder: Path, *, size: int = 1000) -> list[Path]:
    """Pack pairs into .tar files of `size` pairs each, each written whole or not at all.

    Raises:
        DataError: the disk is full or the folder cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for first in range(0, len(pairs), size):
            path = folder / f"{first // size:06d}.tar"
            temporary = path.with_suffix(".tar.tmp")
            with tarfile.open(temporary, "w") as archive:
                for number, pair in enumerate(pairs[first : first + size], first):
                    archive.add(pair.image, f"{number:08d}{pair.image.suffix.lower()}")
                    _, png = cv2.imencode(".png", read_matte_bytes(pair.matte))
                    info = tarfile.TarInfo(f"{number:08d}.matte.png")
                    info.size = len(png)
                    archive.addfile(info, io.BytesIO(png.tobytes()))
            temporary.replace(path)
            written.append(path)
    except OSError as error:
        raise DataError(
            f"{folder}: cannot be written: {error.strerror}", hint="Make room on that disk."
        ) from error
    return written
