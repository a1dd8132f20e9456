"""Settings: what they are, where they come from, and what is wrong with them.

Precedence: command line > `VCAM_SECTION_KEY` > the user's file > the shipped `config.toml`, which
is the only place where defaults are written.
"""

from __future__ import annotations

import difflib
import functools
import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo

from vcam.errors import ConfigError
from vcam.settings.choice import Choice, Look, Reveal, parse
from vcam.settings.language import user_path as user_path
from vcam.words import mark

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

log = logging.getLogger(__name__)

Changes = Mapping[str, Mapping[str, Any]]  # new values, by section and key

# Settings that a release renamed, old (section, key) to new; files with the old name are read, too.
RENAMED: Final[dict[tuple[str, str], tuple[str, str]]] = {}

# What people call a setting that they give a command.
TYPED: Final = {
    ("background", "use"): "background",
    ("camera", "source"): "camera source",
    ("output", "sink"): "sink",
    ("matte", "quality"): "quality",
}

TABLES: Final = ("controls", "programs")  # settings that are tables: replaced as a whole

Even = AfterValidator(lambda n: _even(n))
Width = Annotated[int, Field(ge=64, le=3840), Even]
Height = Annotated[int, Field(ge=64, le=2160), Even]
Fps = Annotated[float, Field(ge=1, le=120)]
Unit = Annotated[float, Field(ge=0, le=1)]
# Beside a type: a change of the setting is kept, and takes effect when the daemon starts again.
Restart: Final = Field(json_schema_extra={"restart": True})


def _even(n: int) -> int:
    if n % 2:
        raise ValueError("expected an even number of pixels")
    return n


def _background(value: str) -> str:
    if isinstance(parse(value), Look):
        raise ValueError("a background; `vcam background` chooses a look")
    return value


STRENGTHS: Final = {"off": 0, "mild": 40}  # words that stand for percent


def _strength(value: object) -> object:
    """Percent, of a word or of digits that an environment holds."""
    if isinstance(value, str):
        if value in STRENGTHS:
            return STRENGTHS[value]
        if not value.isdecimal():
            raise ValueError("'off', 'mild' or a whole number from 0 to 100")
        return int(value)
    return value


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @field_validator("*", mode="before")
    @classmethod
    def _whole(cls, value: object) -> object:
        """Refuse here, and not where it is used, what no file's name and no door can hold."""
        if isinstance(value, str) and any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value):
            raise ValueError("text that a file can hold")
        return value


class Camera(_Section):
    """Where pictures come from."""

    source: str = Field(min_length=1)
    width: Width
    height: Height
    fps: Fps
    format: Literal["auto", "mjpg", "yuyv"]
    mirror: bool
    fill: bool
    controls: dict[str, int | dict[str, int]]


class Output(_Section):
    """Where pictures go."""

    sink: str = Field(min_length=1)
    # A virtual camera keeps its size for life, or calls would break.
    width: Annotated[Width, Restart]
    height: Annotated[Height, Restart]
    fps: Fps
    format: Annotated[Literal["i420", "yuyv", "nv12"], Restart]
    on_demand: bool
    idle_after: Annotated[float, Field(ge=0, le=3600)]


class Background(_Section):
    """Settings of the background behind the person."""

    use: Annotated[str, AfterValidator(_background)]
    blur: Annotated[int, Field(ge=0, le=100)]
    light_wrap: Unit
    decontaminate: bool
    folder: str

    @functools.cached_property
    def choice(self) -> Choice:
        """The background that `use` writes."""
        return parse(self.use)


class LookSettings(_Section):
    """Settings of the person's picture."""

    light: Annotated[int, Field(ge=0, le=100), BeforeValidator(_strength)]
    sharp: bool
    framing: Literal["off", "head-and-shoulders", "close"]
    zoom: Annotated[float, Field(ge=1, le=2)]
    shift_x: Annotated[float, Field(ge=-1, le=1)]
    shift_y: Annotated[float, Field(ge=-1, le=1)]


Line = Annotated[str, Field(max_length=80)]


class OverlaySettings(_Section):
    """Texts and a logo over the picture."""

    show: bool
    name: Line
    title: Line
    pronouns: Line
    logo: str
    clock: bool
    corner: Literal["top-left", "top-right", "bottom-left", "bottom-right"]


class MatteSettings(_Section):
    """Settings of the matte."""

    model: str = Field(min_length=1)
    engine: Literal["auto", "cpu", "cuda"]
    threads: Annotated[int, Field(ge=1, le=16)]
    quality: Literal["auto", "low", "balanced", "high"]
    max_cpu_percent: Annotated[int, Field(ge=5, le=1600)]
    smoothing: Unit
    people: Literal["everyone", "only-me"]


class Privacy(_Section):
    """When the card is shown instead."""

    card: str
    card_reason: bool
    confident_frames: Annotated[int, Field(ge=1, le=120)]
    deadline: Annotated[float, Field(ge=0.05, le=10)]
    remember_room: bool


def _profile(value: str) -> str:
    if value and isinstance(parse(value), Reveal):
        raise ValueError("a background or a look; no program is shown your room by itself")
    return value


class Profiles(_Section):
    """Backgrounds of programs."""

    programs: dict[str, Annotated[str, AfterValidator(_profile)]]


class Control(_Section):
    """The doors to the daemon."""

    port: Annotated[int, Field(ge=0, le=65535), Restart]
    mirror_preview: bool
    welcome: bool
    room_offer: bool
    receipts: bool
    language: Literal["auto", "en", "de", "fr", "es", "pt", "ja", "zh"]
    log: Literal["debug", "info", "warning", "error"]


class Config(_Section):
    """Every setting, validated and immutable; the loop swaps whole objects, never fields."""

    camera: Camera
    output: Output
    background: Background
    look: LookSettings
    overlay: OverlaySettings
    matte: MatteSettings
    privacy: Privacy
    profiles: Profiles
    control: Control

    def with_changes(self, changes: Mapping[str, Mapping[str, Any]]) -> Config:
        """Return a copy with `{section: {key: value}}` applied.

        Raises:
            ConfigError: a key is unknown or a value is out of its range.
        """
        return validate(_merge(self.model_dump(), changes), origin="settings")


def awaiting_restart(running: Config, wanted: Config) -> list[str]:
    """Settings, as "section.key", that differ and take effect only when the daemon starts again."""
    return [
        f"{section}.{key}"
        for section in Config.model_fields
        for key, field in getattr(wanted, section).__class__.model_fields.items()
        if needs_restart(field)
        and getattr(getattr(running, section), key) != getattr(getattr(wanted, section), key)
    ]


def needs_restart(field: FieldInfo) -> bool:
    """True for a setting that is marked with `Restart`."""
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("restart") is True


def default_path() -> Path:
    """Where `config.toml` with the defaults lies: beside the packages, or inside the wheel."""
    here = Path(__file__).resolve().parent.parent
    inside = here / "config.toml"
    return inside if inside.exists() else here.parent / "config.toml"


def load(
    path: Path | None = None,
    *,
    flags: Mapping[str, Mapping[str, Any]] | None = None,
    environ: Mapping[str, str] | None = None,
    text: str | None = None,
) -> Config:
    """Read defaults, file, environment and flags, and validate the sum.

    `path` None means the user's file where there is one; a path that is given must exist, unless
    `text` is what it says.

    Raises:
        ConfigError: everything that is wrong, all at once.
    """
    defaults = _parse(default_path())
    file = path if path is not None else user_path()
    origin = str(file)
    layers: dict[str, Any] = defaults
    if path is not None or _exists(file):
        layers = _merge(defaults, _renamed(_parse(file, text), origin))
    else:
        origin = "settings"
    found, names = _from_environment(os.environ if environ is None else environ, defaults)
    given = ((section, key) for section, keys in (flags or {}).items() for key in keys)
    names |= {pair: TYPED.get(pair, ".".join(pair)) for pair in given}
    return validate(_merge(_merge(layers, found), flags or {}), origin=origin, names=names)


def validate(
    values: Mapping[str, Any], *, origin: str, names: Mapping[tuple[str, str], str] | None = None
) -> Config:
    """Turn plain values into a `Config`.

    What is wrong is said to be in `origin`, or by the name in `names` where it was typed elsewhere.

    Raises:
        ConfigError: `problems` has a sentence for each wrong key and value.
    """
    try:
        return Config.model_validate(_relaxed(values))
    except ValidationError as error:
        found: list[dict[str, Any]] = [dict(each) for each in error.errors()]
        problems = tuple(_sentence(origin, names or {}, each) for each in found)
        hint = mark("Run `vcam config show` for every setting with its meaning.")
        if all(tuple(each["loc"][:2]) == ("background", "use") for each in found):
            hint = mark("Run `vcam background` to list backgrounds.")
        raise ConfigError("\n".join(problems), hint=hint, problems=problems) from None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _parse(path: Path, text: str | None = None) -> dict[str, Any]:
    try:
        known = None if text is None else text.encode(errors="surrogateescape")
        raw = path.read_bytes() if known is None else known
        return tomllib.loads(raw.decode("utf-8-sig"))  # Windows' editors begin with a mark
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path}: not valid TOML: {error}", hint=f"Mend that line of {path}."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 text ({error.reason})", hint="Save the file as UTF-8."
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}, expected a settings file",
            hint="Run `vcam config path` to see where settings are looked for.",
        ) from error


def _renamed(values: dict[str, Any], origin: str) -> dict[str, Any]:
    """`values` under today's names; where a file has both, the new name counts."""
    values = {s: dict(keys) if isinstance(keys, Mapping) else keys for s, keys in values.items()}
    for (section, key), (to, new) in RENAMED.items():
        keys = values.get(section)
        if not isinstance(keys, dict) or key not in keys:
            continue
        old = keys.pop(key)
        log.warning("%s: [%s] %s is called [%s] %s now", origin, section, key, to, new)
        target = values.setdefault(to, {})
        if isinstance(target, dict):
            target.setdefault(new, old)
        if not keys and section not in Config.model_fields:
            del values[section]
    return values


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        nested = isinstance(old, Mapping) and isinstance(value, Mapping) and key not in TABLES
        merged[key] = _merge(old, value) if nested else value  # type: ignore[arg-type]
    return merged


def _from_environment(
    environ: Mapping[str, str], defaults: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, dict[str, Any]], dict[tuple[str, str], str]]:
    """Read VCAM_SECTION_KEY; a number or boolean is read as the default's type wants it.

    Returns the values, and the variable that each came from.
    """
    found: dict[str, dict[str, Any]] = {}
    names: dict[tuple[str, str], str] = {}
    for section, keys in defaults.items():
        for key, default in keys.items():
            known = [
                (section, key),
                *(old for old, new in RENAMED.items() if new == (section, key)),
            ]
            variables = ["_".join(("VCAM", *each)).upper() for each in known]
            text = next((environ[name] for name in variables if name in environ), None)
            if text == "none" and (section, key) == ("background", "use"):
                # A variable is inherited and forgotten: nobody's word to show the room right now.
                log.warning(
                    "VCAM_BACKGROUND_USE=none is left out: a variable does not show your room"
                )
            elif text is not None:
                found.setdefault(section, {})[key] = typed(text, default)
                names[section, key] = next(n for n in variables if n in environ)
    return found, names


def typed(text: str, like: Any) -> Any:
    """A value that was typed as text, of the kind that `like` has where it can be read as one."""
    if isinstance(like, bool):
        return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}.get(
            text.lower(), text
        )
    if isinstance(like, (int, float)):
        for kind in (int, float):
            try:
                return kind(text)
            except ValueError:
                continue
    return text


def _relaxed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Let 30 stand for 30.0, as people write it; everything else stays strict."""
    relaxed: dict[str, Any] = {}
    for section, keys in values.items():
        model = Config.model_fields.get(section)
        fields = getattr(model.annotation, "model_fields", {}) if model else {}
        if not isinstance(keys, Mapping):
            relaxed[section] = keys
            continue
        relaxed[section] = {
            key: float(value)
            if type(value) is int and key in fields and fields[key].annotation is float
            else value
            for key, value in keys.items()
        }
    return relaxed


_EXPECTED = {
    "string_too_short": mark("something"),
    "string_too_long": mark("a shorter text"),
    "int_type": mark("a whole number"),
    "float_type": mark("a number"),
    "string_type": mark("text in quotes"),
    "bool_type": mark("true or false"),
    "dict_type": mark("a table of names and numbers"),
    "model_type": mark("a [section] of settings"),
    "model_attributes_type": mark("a [section] of settings"),
    "int_from_float": mark("a whole number"),
    "missing": mark("a value"),
}


def _sentence(origin: str, names: Mapping[tuple[str, str], str], error: dict[str, Any]) -> str:
    """One problem as `file: [section] key is value, expected …`, or `NAME is value, expected …`."""
    where = [str(part) for part in error["loc"]]
    section = where[0] if where else "?"
    if error["type"] == "extra_forbidden":
        known = (
            list(Config.model_fields)
            if len(where) == 1
            else list(Config.model_fields[section].annotation.model_fields)  # type: ignore[union-attr]
        )
        near = difflib.get_close_matches(where[-1], known, n=1)
        guess = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
        if len(where) == 2 and (home := _section_of(where[1])):
            guess = f"{where[1]} belongs into [{home}]"
        name = f"[{section}]" if len(where) == 1 else f"[{section}] {where[1]}"
        return mark(f"{origin}: {name} is not a setting, {guess}")
    key = ".".join(where[1:])
    if error["type"] == "missing":
        return mark(f"{origin}: [{section}] {key} is missing, expected a value")
    context = error.get("ctx", {})
    if error["type"] == "literal_error":
        expected = f"one of {context['expected']}"
        near = difflib.get_close_matches(
            str(error["input"]), re.findall(r"'([^']+)'", context["expected"]), n=1
        )
        if near:
            expected += f"; did you mean {near[0]!r}?"
    elif error["type"] == "value_error":
        expected = str(context["error"]).removeprefix("expected ")
    elif "ge" in context or "le" in context:
        expected = _range(section, key)
    else:
        expected = _EXPECTED.get(error["type"], error["msg"])
        if error["type"] in ("int_type", "float_type"):
            expected += _range(section, key).removeprefix("a number")
    name = names.get((section, where[1] if len(where) > 1 else ""), f"{origin}: [{section}] {key}")
    return mark(f"{name} is {error['input']!r}, expected {expected}")


def _section_of(key: str) -> str | None:
    """The section that has a setting of this name, if there is just one."""
    homes = [
        name
        for name, field in Config.model_fields.items()
        if key in getattr(field.annotation, "model_fields", {})
    ]
    return homes[0] if len(homes) == 1 else None


def _range(section: str, key: str) -> str:
    """`a number from 1 to 120`, read from the field's own bounds."""
    fields = getattr(Config.model_fields[section].annotation, "model_fields", {})
    low = high = None
    for rule in getattr(fields.get(key), "metadata", ()):
        low = getattr(rule, "ge", low)
        high = getattr(rule, "le", high)
    return mark(
        f"a number from {low} to {high}" if low is not None and high is not None else "a number"
    )
