"""Settings from YAML files and ``--set key=value``, checked field by field: what is wrong is said in a sentence that names the field."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from modelkit.errors import UserError
from trainers.recipe import Recipe

S = TypeVar("S", bound=BaseModel)


def load(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply ``key.sub=value`` overrides (values are YAML).

    :raises UserError: naming the file and the field when anything is missing, misspelt or of the wrong kind.
    """
    return _read(Recipe, path, overrides or [], {}, "recipe", "a mapping with name and a stage, such as sft, is needed")


def load_section(section: type[S], path: Path | None, overrides: list[str], given: dict[str, Any]) -> S:
    """The settings of one stage: a file that holds its fields (none for the defaults), then *overrides*; *given* where neither says.

    :raises UserError: as :func:`load` does.
    """
    return _read(section, path, overrides, given, "settings file", "a mapping such as `steps: 100` is needed")


def _read(schema: type[S], path: Path | None, overrides: list[str], given: dict[str, Any], what: str, wanted: str) -> S:
    content: Any = {}
    try:
        if path is not None:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no {what} at {path}: check the path.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict):
        raise UserError(f"{path} is no {what}: {wanted}.")
    for override in overrides:
        _apply(content, override)
    return checked(schema, {**given, **content}, str(path or "the settings"))


def checked(schema: type[S], content: dict[str, Any], where: str) -> S:
    """The settings that *content* holds.

    :raises UserError: beginning with *where*, as :func:`load` does.
    """
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{where}: {_first(error, schema)}") from None


def _first(error: ValidationError, schema: type[BaseModel]) -> str:
    """The first problem as half a sentence; an unknown key before others, which may follow from it, with the nearest name there is."""
    first = min(error.errors(), key=lambda one: one["type"] != "extra_forbidden")
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = list(_fields_beside(first["loc"], schema))
        near = difflib.get_close_matches(str(first["loc"][-1]), known, 1, 0.5)
        return f"{field} is no setting: {f'did you mean {near[0]}?' if near else 'there are ' + ', '.join(known) + '.'}"
    if first["type"] == "missing":
        return f"{field} is missing: set it in the file or with --set {field}=…."
    if first["type"] == "value_error":
        return f"{field + ': ' if field else ''}{first['msg'].removeprefix('Value error, ')}."
    return f"{field}: {first['msg'].lower()} (got {first['input']!r})."


def _fields_beside(place: tuple[int | str, ...], schema: type[BaseModel]) -> Iterable[str]:
    """The fields that the section around *place* has."""
    for part in place[:-1]:
        field = schema.model_fields.get(str(part))
        if field is not None:
            schema = next((kind for kind in _kinds(field.annotation) if issubclass(kind, BaseModel)), schema)
    return schema.model_fields


def _kinds(annotation: Any) -> Iterable[type]:
    """The classes that an annotation such as ``list[Mixture]`` or ``Lora | None`` mentions."""
    inner = get_args(annotation)
    return [kind for one in inner for kind in _kinds(one)] if inner else [annotation] if isinstance(annotation, type) else []


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise UserError(f"--set {override!r}: write it as key=value, for example --set ppo.steps=40.")
    *parents, last = key.split(".")
    for parent in parents:
        content = content.setdefault(parent, {})
        if not isinstance(content, dict):
            raise UserError(f"--set {override!r}: {parent} is not a section of the recipe.")
    try:
        content[last] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise UserError(f"--set {override!r}: the value is not valid YAML; quote it, or write lists as [a, b].") from None
