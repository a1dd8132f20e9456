"""A recipe: everything that makes one training what it is, in one TOML file."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from train.errors import RecipeError
from train.losses import Weights
from train.views.draw import Augment

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class Network:
    """Which network, and where it starts."""

    width: float = 0.375  # of the paper's channel counts
    blocks: int = 2  # in each stage of the trunk; a start with more of them loses the others
    lean: bool = False  # without what hardly mattered: `segmentation.bisenet.BiSeNet`
    start: str = ""  # "imagenet", "prune", a path (.pt, .safetensors); or random
    wide: str = ""  # what is pruned, .pt or .safetensors; the teacher where it is not told
    imagenet: str = ""  # ResNet-18 trunk with BatchNorm folded, .safetensors


@dataclass(frozen=True, slots=True)
class Data:
    """Which pictures; paths are relative to `--data`.

    A set is a folder with img/ and mask/, a manifest of `train prepare`, or a pattern of .tar
    shards such as "shards/*.tar".
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    pseudo: tuple[str, ...] = ()  # sets whose mattes were made by other models
    pseudo_share: float = 0.35  # of the views
    rooms: str = ""  # a folder or a manifest of pictures without people
    licences: tuple[str, ...] = ()  # only what a manifest states to be under these; (): any
    walls: int = 30  # artificial rooms beside those: cells, checkers, stripes, noise
    longest: int = 384  # longer sides are shrunk to this when read
    memory_gb: float = 4.0  # a set that needs more is read from disk again and again


@dataclass(frozen=True, slots=True)
class Fit:
    """How long and how fast."""

    epochs: int = 60  # 0: only what it starts from, pruned, say
    views: int = 2400  # in an epoch, all processes together
    batch: int = 16  # all processes together
    side: int = 224  # square root of the number of pixels the network sees, roughly
    early_side: int = (
        0  # the same in the first epochs, where fewer pixels buy more views; 0: `side`
    )
    early: float = 0.5  # part of the epochs that is
    low_side: int = 0  # the same for a fifth of the batches, for quality "low"; 0: `side`
    # Width to height of the views; one is drawn for each batch. Upright ones take in the whole of
    # a selfie, of which a webcam's shape shows a strip.
    shapes: tuple[str, ...] = ("16:9", "4:3", "1:1", "3:4", "3:4", "3:4")
    optimizer: str = "adamw"  # "adamw", "sgd"
    learning_rate: float = 2e-3
    trunk: float = 1.0  # of the learning rate, for the pretrained trunk
    weight_decay: float = 0.02
    warmup: int = 200  # steps
    clip: float = 5.0  # greatest norm of the gradient
    ema: float = 0.999  # decay of the weights that are kept
    amp: str = "auto"  # "auto", "bf16", "off"; auto takes bf16 only where it is faster
    mine: int = 0  # every so many epochs: rooms taken for a person come more often; 0: never
    validate: int = 4  # every so many epochs
    sheet: int = 12  # a sheet of the worst validation pictures every so many epochs
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Distil:
    """What else to learn from: a full-width network's features and mattes, other models' mattes."""

    teacher: str = ""  # a path (.pt, .safetensors); without one, the ImageNet trunk: no mattes
    features: float = 0.0  # weight of the loss; falls to a fifth of this by the end
    alpha: float = 0.0  # weight of its mattes beside those of the data
    models: tuple[str, ...] = ()  # "FILE=WEIGHT": their mattes of every view are mixed into its own
    share: float = 0.5  # of the truth that those mattes then are


@dataclass(frozen=True, slots=True)
class Card:
    """What the model card says beside the figures."""

    about: str = ""
    limits: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training."""

    name: str = "bisenet"
    network: Network = field(default_factory=Network)
    data: Data = field(default_factory=Data)
    fit: Fit = field(default_factory=Fit)
    loss: Weights = field(default_factory=Weights)
    augment: Augment = field(default_factory=Augment)
    distil: Distil = field(default_factory=Distil)
    card: Card = field(default_factory=Card)


def load_recipe(path: Path) -> Recipe:
    """Read a recipe: a file, or the name of a shipped one.

    Raises:
        RecipeError: it cannot be read, or says what nobody understands; every problem is named.
    """
    path = find_recipe(path)
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in SHIPPED.glob("*.toml")))
        raise RecipeError(
            f"{path}: cannot be read: {error.strerror}",
            hint=f"Give a recipe's path, or one of {known}.",
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not TOML: {error}", hint="Mend that line.") from error
    problems: list[str] = []
    recipe: Recipe = _filled(Recipe, told, "", problems)
    problems += [] if problems else _wrong(recipe)
    if problems:
        raise RecipeError(f"{path}: " + "; ".join(problems), hint="Mend the recipe.")
    return recipe


def find_recipe(path: Path) -> Path:
    """Return `path`, or that of the shipped recipe it names."""
    shipped = SHIPPED / f"{path}.toml"
    return shipped if not path.exists() and shipped.exists() else path


def ratio(shape: str) -> float:
    """Width to height of a shape like "16:9"; 0 where it is none."""
    width, _, height = shape.partition(":")
    try:
        return float(width) / float(height)
    except (ValueError, ZeroDivisionError):
        return 0.0


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, for a checkpoint."""
    return dataclasses.asdict(recipe)


def _filled(kind: Any, told: dict[str, Any], where: str, problems: list[str]) -> Any:
    """Build `kind` from what a table says, adding every misfit to `problems`."""
    kinds = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in told.items():
        name = f"[{where}] {key}" if where else key
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, 1)
            problems.append(f"{name} is unknown" + (f", did you mean {near[0]!r}?" if near else ""))
        elif dataclasses.is_dataclass(kinds[key]):
            if isinstance(value, dict):
                values[key] = _filled(kinds[key], value, key, problems)
            else:
                problems.append(f"{name} is {value!r}, expected a table [{key}]")
        elif kinds[key] == tuple[str, ...]:
            if isinstance(value, list) and all(isinstance(v, str) for v in value):
                values[key] = tuple(value)
            else:
                problems.append(f"{name} is {value!r}, expected a list of texts")
        elif kinds[key] is float and type(value) is int:
            values[key] = float(value)
        elif type(value) is kinds[key]:
            values[key] = value
        else:
            problems.append(f"{name} is {value!r}, expected {_KINDS[kinds[key]]}")
    return kind(**values)


_KINDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _wrong(recipe: Recipe) -> list[str]:
    """Values of the right kind that cannot be meant."""
    fit, data = recipe.fit, recipe.data
    checks = [
        (0.05 <= recipe.network.width <= 4, "[network] width", recipe.network.width, "0.05 to 4"),
        (1 <= recipe.network.blocks <= 8, "[network] blocks", recipe.network.blocks, "1 to 8"),
        (bool(data.train), "[data] train", list(data.train), "at least one set"),
        (bool(data.validation), "[data] validation", list(data.validation), "at least one set"),
        (0 <= data.pseudo_share <= 1, "[data] pseudo_share", data.pseudo_share, "0 to 1"),
        (data.walls >= 0, "[data] walls", data.walls, "0 or more"),
        (fit.epochs >= 0, "[fit] epochs", fit.epochs, "0 or more"),
        (fit.batch >= 2, "[fit] batch", fit.batch, "2 or more"),
        (fit.views >= fit.batch, "[fit] views", fit.views, "a batch or more"),
        (fit.side >= 32, "[fit] side", fit.side, "32 or more"),
        (
            fit.early_side == 0 or fit.early_side >= 32,
            "[fit] early_side",
            fit.early_side,
            "0 or 32 and more",
        ),
        (0 <= fit.early <= 1, "[fit] early", fit.early, "0 to 1"),
        (
            fit.low_side == 0 or fit.low_side >= 32,
            "[fit] low_side",
            fit.low_side,
            "0 or 32 and more",
        ),
        (
            bool(fit.shapes) and all(0.2 <= ratio(shape) <= 5 for shape in fit.shapes),
            "[fit] shapes",
            list(fit.shapes),
            'some like "16:9"',
        ),
        (0 <= recipe.distil.share <= 1, "[distil] share", recipe.distil.share, "0 to 1"),
        (fit.optimizer in ("adamw", "sgd"), "[fit] optimizer", fit.optimizer, "adamw or sgd"),
        (fit.learning_rate > 0, "[fit] learning_rate", fit.learning_rate, "more than 0"),
        (0 <= fit.ema < 1, "[fit] ema", fit.ema, "0 up to 1"),
        (fit.amp in ("auto", "bf16", "off"), "[fit] amp", fit.amp, "auto, bf16 or off"),
        (fit.mine >= 0, "[fit] mine", fit.mine, "0 or more"),
        (fit.validate >= 1, "[fit] validate", fit.validate, "1 or more"),
    ]
    wrong = [
        f"{name} is {value!r}, expected {wanted}" for ok, name, value, wanted in checks if not ok
    ]
    distil, network = recipe.distil, recipe.network
    if (
        network.start == "imagenet" or (distil.features and not distil.teacher)
    ) and not network.imagenet:
        wrong.append("[network] imagenet is missing, expected the path of the ImageNet trunk")
    if network.start == "prune" and not (network.wide or distil.teacher):
        wrong.append("[network] wide is missing, expected the path of the network to prune")
    if distil.alpha and not distil.teacher:
        wrong.append("[distil] teacher is missing, expected the path of a wide checkpoint")
    return wrong
