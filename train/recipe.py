"""A recipe: everything that makes one training what it is, in one TOML file."""

from __future__ import annotations

import dataclasses
import difflib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from train.errors import RecipeError
from train.losses import Weights
from train.views.draw import Augment

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SHIPPED = Path(__file__).parent / "recipes"


def ratio(shape: str) -> float:
    """Width to height of a shape like "16:9"; 0 where it is none."""
    width, _, height = shape.partition(":")
    try:
        return float(width) / float(height)
    except (ValueError, ZeroDivisionError):
        return 0.0


def _side(pixels: int) -> int:
    if 0 < pixels < 32 or pixels < 0:
        raise ValueError("0 or 32 and more")
    return pixels


def _shapes(shapes: tuple[str, ...]) -> tuple[str, ...]:
    if not shapes or not all(0.2 <= ratio(shape) <= 5 for shape in shapes):
        raise ValueError('some like "16:9"')
    return shapes


Unit = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Side = Annotated[int, AfterValidator(_side)]
Shapes = Annotated[tuple[str, ...], AfterValidator(_shapes)]


@dataclass(frozen=True, slots=True)
class Network:
    """The network and its first weights."""

    width: Annotated[float, Field(ge=0.05, le=4)] = 0.375  # of the paper's channel counts
    blocks: Annotated[int, Field(ge=1, le=8)] = (
        2  # in each stage; a start with more loses the others
    )
    lean: bool = False  # without what hardly mattered: `segmentation.bisenet.BiSeNet`
    room: bool = False  # with inputs for what a fixed webcam knows of the room
    start: str = ""  # "imagenet", "prune", a path (.pt, .safetensors); or random
    wide: str = ""  # what is pruned, .pt or .safetensors; the teacher where it is not told
    imagenet: str = ""  # ResNet-18 trunk with BatchNorm folded, .safetensors


@dataclass(frozen=True, slots=True)
class Data:
    """Sets of pictures; paths are relative to `--data`.

    A set is a folder with img/ and mask/, a manifest of `train prepare`, or a pattern of .tar
    shards such as "shards/*.tar".
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    pseudo: tuple[str, ...] = ()  # sets whose mattes were made by other models
    pseudo_share: Unit = 0.35  # of the views
    rooms: str = ""  # a folder or a manifest of pictures without people
    licences: tuple[str, ...] = ()  # only what a manifest states to be under these; (): any
    walls: Count = 30  # artificial rooms beside those: cells, checkers, stripes, noise
    longest: int = 384  # longer sides are shrunk to this when read
    memory_gb: float = 4.0  # a set that needs more is read from disk again and again


@dataclass(frozen=True, slots=True)
class Fit:
    """Length, speed and precision of a training."""

    epochs: Count = 60  # 0: only what it starts from, pruned, say
    views: int = 2400  # in an epoch, all processes together
    batch: Annotated[int, Field(ge=2)] = 16  # all processes together
    side: Annotated[int, Field(ge=32)] = 224  # root of the pixels the network sees, roughly
    early_side: Side = 0  # the same in the first epochs: fewer pixels buy more views; 0: `side`
    early: Unit = 0.5  # part of the epochs that is
    low_side: Side = 0  # the same for a fifth of the batches, for quality "low"; 0: `side`
    # Width to height of the views; one is drawn for each batch. Upright ones take in the whole of
    # a selfie, of which a webcam's shape shows a strip.
    shapes: Shapes = ("16:9", "4:3", "1:1", "3:4", "3:4", "3:4")
    optimizer: Literal["adamw", "sgd"] = "adamw"
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    trunk: float = 1.0  # of the learning rate, for the trunk but its last stage; 0: it stays
    weight_decay: float = 0.02
    warmup: int = 200  # steps
    clip: float = 5.0  # greatest norm of the gradient
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.999  # decay of the weights that are kept
    amp: Literal["auto", "bf16", "off"] = "auto"  # auto takes bf16 only where it is faster
    mine: Count = 0  # every so many epochs: rooms taken for a person come more often; 0: never
    validate: Annotated[int, Field(ge=1)] = 4  # every so many epochs
    sheet: int = 12  # a sheet of the worst validation pictures every so many epochs
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Distil:
    """Further teachers: a full-width network's features and mattes, other models' mattes."""

    teacher: str = ""  # a path (.pt, .safetensors); without one, the ImageNet trunk: no mattes
    features: float = 0.0  # weight of the loss; falls to a fifth of this by the end
    alpha: float = 0.0  # weight of its mattes beside those of the data
    models: tuple[str, ...] = ()  # "FILE=WEIGHT": their mattes of every view are mixed into its own
    share: Unit = 0.5  # of the truth that those mattes then are


@dataclass(frozen=True, slots=True)
class Card:
    """Words of the model card beside the figures."""

    about: str = ""
    limits: str = ""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # of its tables, too

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
    return validate(told, origin=str(path))


def validate(told: Mapping[str, Any], *, origin: str) -> Recipe:
    """Turn plain values into a recipe.

    Raises:
        RecipeError: a sentence for each wrong key and value.
    """
    try:
        # As JSON, in which pydantic's strict tables are objects and tuples lists, as in TOML.
        recipe = TypeAdapter(Recipe).validate_json(json.dumps(told, default=str))
        problems = _missing(recipe)
    except ValidationError as error:
        problems = list(dict.fromkeys(_misfit(told, details) for details in error.errors()))
    if problems:
        raise RecipeError(
            "\n".join(f"{origin}: {problem}" for problem in problems), hint="Mend the recipe."
        )
    return recipe


def find_recipe(path: Path) -> Path:
    """Return `path`, or that of the shipped recipe it names."""
    shipped = SHIPPED / f"{path}.toml"
    return shipped if not path.exists() and shipped.exists() else path


def as_dict(recipe: Recipe) -> dict[str, Any]:
    """The recipe as plain values, for a checkpoint."""
    return dataclasses.asdict(recipe)


def _misfit(told: Mapping[str, Any], error: ErrorDetails) -> str:
    """One problem as `[section] key is value, expected …`, in the words of the settings."""
    where = [str(part) for part in error["loc"]]
    table: Any = Recipe if len(where) == 1 else getattr(Recipe(), where[0])
    name = f"[{where[0]}] {where[1]}" if len(where) > 1 else where[0]
    if error["type"] == "unexpected_keyword_argument":
        known = [field.name for field in dataclasses.fields(table)]
        name = f"[{name}]" if name == where[0] and isinstance(told[name], Mapping) else name
        near = difflib.get_close_matches(where[-1], known, n=1)
        guess = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
        return f"{name} is not a setting, {guess}"
    value = told[where[0]] if len(where) == 1 else told[where[0]][where[1]]
    context = error.get("ctx", {})
    if error["type"] == "literal_error":
        expected = f"one of {context['expected']}"
    elif error["type"] == "value_error":
        expected = str(context["error"])
    elif context.keys() & {"ge", "gt", "le", "lt"}:
        expected = f"a number{_range(table, where[1])}"
    elif len(where) > 2:
        expected = "a list of texts"
    else:
        expected = _EXPECTED.get(error["type"], error["msg"])
        if error["type"] in ("int_type", "float_type"):
            expected += _range(table, where[-1])
    return f"{name} is {value!r}, expected {expected}"


_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text in quotes",
    "bool_type": "true or false",
    "tuple_type": "a list of texts",
    "too_short": "at least one set",
    "dataclass_type": "a [section] of settings",
}


def _range(table: Any, key: str) -> str:
    """The bounds of a field: ` from 1 to 8`, ` of 2 or more`, ` above 0`; empty without any."""
    rules: dict[str, Any] = {}
    for rule in getattr(get_type_hints(type(table), include_extras=True)[key], "__metadata__", ()):
        for part in getattr(rule, "metadata", [rule]):
            rules |= {n: getattr(part, n) for n in ("ge", "gt", "le", "lt") if hasattr(part, n)}
    low = f"{rules['ge']}" if "ge" in rules else ""
    if "le" in rules:
        return f" from {low} to {rules['le']}"
    if "lt" in rules:
        return f" from {low} to below {rules['lt']}"
    return f" of {low} or more" if low else f" above {rules['gt']}" if rules else ""


def _missing(recipe: Recipe) -> list[str]:
    """Settings without which others make no sense."""
    fit, data, distil, network = recipe.fit, recipe.data, recipe.distil, recipe.network
    trunk = network.start == "imagenet" or (distil.features and not distil.teacher)
    prunes = network.start == "prune" and not distil.teacher
    checks = [
        (not data.train, "[data] train is missing, expected at least one set"),
        (not data.validation, "[data] validation is missing, expected at least one set"),
        (
            fit.views < fit.batch,
            f"[fit] views is {fit.views}, expected a batch, {fit.batch}, or more",
        ),
        (
            trunk and not network.imagenet,
            "[network] imagenet is missing, expected the path of the ImageNet trunk",
        ),
        (
            prunes and not network.wide,
            "[network] wide is missing, expected the path of the network to prune",
        ),
        (
            distil.alpha and not distil.teacher,
            "[distil] teacher is missing, expected the path of a wide checkpoint",
        ),
    ]
    return [problem for wrong, problem in checks if wrong]
