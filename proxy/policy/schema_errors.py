"""Turns pydantic's errors into problems in plain words.

Theory of operation
-------------------
Nearly all errors carry a `Mistake`. The rest are of four kinds: an unknown key, a missing key, and something that is
not a mapping or not a list where one belongs. For those, the model that stands at the error's loc is looked up, so that
the remedy can name its keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.policy.document import Document, Loc
from proxy.policy.findings import Findings
from proxy.policy.problem import Mistake
from proxy.policy.schema import PolicySpec, RouteSpec, Spec
from proxy.policy.variables import shown
from proxy.policy.words import did_you_mean

_KINDS = {"dict_type": "a mapping", "model_type": "a mapping", "list_type": "a list"}
_WHEN_BROKEN: dict[str, Any] = {"version": 1, "targets": {}, "models": {}}


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be read. `routes` keep their place in the file; `broken` are the items left out, as locs."""

    spec: PolicySpec
    routes: tuple[tuple[int, RouteSpec], ...]
    broken: frozenset[Loc] = frozenset()


def read_spec(document: Document, findings: Findings) -> Reading:
    """Validate the document, note what is wrong, and keep every item (a target, a route ...) that is sound."""
    try:
        spec = PolicySpec.model_validate(document.root)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    else:
        return Reading(spec, tuple(enumerate(spec.routes or ())))
    for detail in errors:
        _note(detail, findings)
    broken = frozenset(detail["loc"][:2] for detail in errors)
    document.broken |= broken
    spec = PolicySpec.model_validate(_without(document.root, broken))
    written = document.root.get("routes")
    indices = range(len(written)) if isinstance(written, list) else ()
    sound = [index for index in indices if ("routes", index) not in broken]
    return Reading(spec, tuple(zip(sound, spec.routes or (), strict=False)), broken)


def _without(root: dict[str, Any], broken: frozenset[Loc]) -> dict[str, Any]:
    """`root` less its broken items; a broken section is emptied."""
    kept: dict[str, Any] = {}
    for name, section in root.items():
        if (name,) in broken:
            continue
        if isinstance(section, dict):
            kept[name] = {key: value for key, value in section.items() if (name, key) not in broken}
        elif isinstance(section, list):
            kept[name] = [value for index, value in enumerate(section) if (name, index) not in broken]
        else:
            kept[name] = section
    return _WHEN_BROKEN | kept


def _note(detail: ErrorDetails, findings: Findings) -> None:
    loc, kind = detail["loc"], detail["type"]
    if loc and loc[-1] == "[key]":
        findings.mistake(loc[:-1], _mistake(detail), key=True)
    elif kind == "extra_forbidden":
        findings.mistake(loc, _unknown_key(loc), key=True)
    elif kind == "missing":
        model = _model_at(loc[:-1])
        hint = model.needs.get(str(loc[-1]), "") if model else ""
        findings.problem(loc, f"`{loc[-1]}` is missing{_inside(loc[:-1])}", hint, key=True)
    elif kind in _KINDS:
        findings.problem(loc, f"expected {_KINDS[kind]}, got {shown(detail['input'])}", _shape_hint(loc, kind))
    else:
        findings.mistake(loc, _mistake(detail))


def _mistake(detail: ErrorDetails) -> Mistake:
    error = detail.get("ctx", {}).get("error")
    return error if isinstance(error, Mistake) else Mistake(f"not valid: {detail['type'].replace('_', ' ')}")


def _unknown_key(loc: Loc) -> Mistake:
    key, model = str(loc[-1]), _model_at(loc[:-1])
    if model is None:
        return Mistake(f"unknown key {shown(key)}")
    if key in model.later:
        return Mistake(f"`{key}` is not supported yet", model.later[key])
    return Mistake(f"unknown key {shown(key)}{_inside(loc[:-1])}", did_you_mean(key, model.model_fields))


def _inside(loc: Loc) -> str:
    named = [str(part) for part in loc if isinstance(part, str)]
    return f" in `{'.'.join(named)}`" if named else ""


def _shape_hint(loc: Loc, kind: str) -> str:
    model = _model_at(loc)
    if kind == "list_type":
        return "write `[one, two]`, or one `- item` a line"
    if model is not None:
        return f"it takes {', '.join(f'`{key}:`' for key in model.model_fields)}"
    return "write `name: ...`, one a line"


def _model_at(loc: Loc) -> type[Spec] | None:
    """The model whose keys stand at `loc`, by walking the annotations of `PolicySpec`."""
    here: Any = PolicySpec
    for part in loc:
        if isinstance(here, type) and issubclass(here, Spec):
            field = here.model_fields.get(str(part))
            here = _bare(field.annotation) if field else None
        elif get_origin(here) in (dict, list):
            here = _bare(get_args(here)[-1])
        else:
            return None
    return here if isinstance(here, type) and issubclass(here, Spec) else None


def _bare(annotation: Any) -> Any:
    """The annotation without `Annotated` and `| None`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif type(None) in get_args(annotation):
            annotation = next(one for one in get_args(annotation) if one is not type(None))
        else:
            return annotation
