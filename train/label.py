"""Mattes from models that have learnt already: for pictures that have none, or beside their own."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np

from train.data.datasets import PICTURES, find_pairs, read_image, read_matte
from train.errors import DataError
from train.subjects import open_subject
from train.views.teachers import agree


def label(
    folder: Path,
    output: Path,
    models: list[tuple[Path, float]],
    *,
    truth: float = 0.0,
    stretch: float = 1.0,
) -> int:
    """Write `output`/img and `output`/mask for every picture of `folder`; return how many.

    `models` are files and weights, which add up to one: a matte is the weighted mean of what each
    model says of the picture and of its mirror image. With `truth`, `folder` is one of img/ and
    mask/, whose own mattes stay that part of the result, and all of it where the models see
    somebody else. The mean of models that disagree is grey; `stretch` times steeper about a half,
    it is as sharp as theirs.
    Pictures that have a matte already are left as they are, so that a stopped run can go on.

    Raises:
        DataError: there are no pictures, one cannot be read, or the disk is full.
        UsageError: a model cannot be used.
    """
    known = {pair.image: pair.matte for pair in find_pairs(folder)} if truth else {}
    paths = list(known) or [p for p in sorted(folder.glob("*")) if p.suffix.lower() in PICTURES]
    if not paths:
        raise DataError(f"{folder}: holds no pictures", hint="Give a folder of portraits.")
    subjects = [(open_subject(path, "network", quality="high"), weight) for path, weight in models]
    images, mattes = output / "img", output / "mask"
    try:
        images.mkdir(parents=True, exist_ok=True)
        mattes.mkdir(exist_ok=True)
        for path in paths:
            matte = mattes / f"{path.stem}.png"
            if matte.exists():
                continue
            image = read_image(path)
            mirrored = np.ascontiguousarray(image[:, ::-1])
            alpha = sum(
                0.5 * weight * (subject.alpha(image) + subject.alpha(mirrored)[:, ::-1])
                for subject, weight in subjects
            )
            alpha = np.clip((np.asarray(alpha, np.float32) - 0.5) * stretch + 0.5, 0, 1)
            if path in known:
                own, told = read_matte(known[path]), alpha
                alpha = own + (1 - truth) * (told - own) if agree(told, own) else own
            _, png = cv2.imencode(".png", np.asarray(alpha * 255, np.uint8))
            shutil.copyfile(path, images / path.name)
            matte.write_bytes(png.tobytes())
    except OSError as error:
        raise DataError(
            f"{output}: cannot be written: {error.strerror}", hint="Make room on that disk."
        ) from error
    for subject, _ in subjects:
        subject.close()
    return len(paths)
