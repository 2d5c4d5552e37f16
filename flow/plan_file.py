"""The hardening plan as data: a TOML file, or the JSON of a manifest, in the same language."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from ..hw.config import MODULI
from ..quant.errors import InputError
from ..quant.names import printable
from .plan import NONE, SCORES, Bound, Checksum, Plan, Settings, Tmr

__all__ = ["load_plan", "parse_plan", "plan_json"]

CHOICES = {
    "control": ("none", "parity", "tmr"),
    "stream": ("none", "parity", "residue", "secded"),
    "post": ("none", "parity", "dup", "tmr"),
    "weights": ("none", "parity", "secded"),
}
"""Keys of a table whose value is one word."""

KEYS = ("checksum", "tmr", "bound", *CHOICES)
RETRIES = 3
FORMS, MODES, VOTERS = ("filter", "input"), ("spatial", "temporal"), (1, 3)


def load_plan(path: Path) -> Plan:
    """Read a plan. Raises InputError naming the file and the key."""
    where = printable(path.name)
    try:
        raw = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{where}: no such plan") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{where}: not a TOML file: {printable(str(error))}") from None
    return parse_plan(raw, where)


def parse_plan(raw: Any, where: str) -> Plan:
    """The plan of a TOML file or a manifest, read as data. Raises InputError naming the key."""
    raw = _table(where, "plan", raw)
    _known(where, raw, ("default", "layer"))
    default = dict(_table(where, "default", raw.get("default", {})))
    watchdog = default.pop("watchdog", False)
    if type(watchdog) is not bool:
        raise InputError(f"{where}: [default] watchdog must be true or false")
    tables = _table(where, "layer", raw.get("layer", {}))
    settings = _settings(f"{where}: [default]", default)
    if isinstance(settings.tmr, Tmr) and settings.tmr.share is None:
        raise InputError(f"{where}: [default] tmr takes a share; list neurons under [layer.NAME]")
    layers = {
        name: _settings(
            f"{where}: [layer.{printable(name)}]",
            _table(where, f"layer.{printable(name)}", value),
        )
        for name, value in tables.items()
    }
    return Plan(settings, layers, watchdog)


def _settings(where: str, entry: dict[str, Any]) -> Settings:
    if "watchdog" in entry:
        raise InputError(f"{where}: watchdog guards the whole network; write it under [default]")
    _known(where, entry, KEYS)
    for key, values in CHOICES.items():
        if key in entry and entry[key] not in values:
            raise InputError(
                f"{where}: {key} must be one of {', '.join(values)}, "
                f"not {printable(str(entry[key]))}"
            )
    readers: dict[str, Any] = {"checksum": _checksum, "tmr": _tmr, "bound": _bound}
    read: dict[str, Any] = {
        key: value if value == NONE else readers[key](where, value)
        for key, value in entry.items()
        if key in readers
    }
    words = {key: entry[key] for key in CHOICES if key in entry}
    return Settings(**read, **words)


def _checksum(where: str, value: Any) -> Checksum:
    if not isinstance(value, dict):
        raise InputError(f'{where}: checksum must be "none" or {{ modulus = 3 }}')
    _known(f"{where} checksum", value, ("modulus", "form", "retry"))
    modulus = value.get("modulus", 3)
    if modulus != "exact" and (type(modulus) is not int or modulus not in MODULI):
        even = type(modulus) is int and modulus in range(0, 1 << 16, 2)
        hint = "an even modulus misses flips" if even else "no such modulus"
        raise InputError(
            f"{where}: checksum modulus {printable(str(modulus))}: {hint}; choose one of "
            f"{', '.join(map(str, MODULI))}, exact"
        )
    form, retry = value.get("form", "auto"), value.get("retry", 0)
    if form not in ("auto", *FORMS):
        raise InputError(f'{where}: checksum form must be "auto", "filter" or "input"')
    if type(retry) is not int or not 0 <= retry <= RETRIES:
        raise InputError(f"{where}: checksum retry must be a number of 0..{RETRIES}")
    if retry and form == "input":
        raise InputError(
            f"{where}: checksum retry: the input form knows only at a frame's end; "
            'write form = "filter" or retry = 0'
        )
    return Checksum(modulus, form, retry)


def _tmr(where: str, value: Any) -> Tmr:
    if not isinstance(value, dict):
        raise InputError(f"{where}: tmr must be {{ neurons = [..] }} or {{ share = 0.2 }}")
    _known(f"{where} tmr", value, ("neurons", "share", "score", "mode", "voters"))
    if ("neurons" in value) == ("share" in value):
        raise InputError(f"{where}: tmr needs either neurons or share")
    mode, voters = value.get("mode", "spatial"), value.get("voters", 1)
    if mode not in MODES:
        raise InputError(f'{where}: tmr mode must be "spatial" or "temporal"')
    if voters not in VOTERS or type(voters) is not int:
        raise InputError(f"{where}: tmr voters must be 1 or 3")
    if "neurons" in value:
        neurons = value["neurons"]
        if not isinstance(neurons, list) or any(type(n) is not int for n in neurons) or not neurons:
            raise InputError(f"{where}: tmr neurons must be a list of integers")
        return Tmr(tuple(sorted(set(neurons))), mode=mode, voters=voters)
    share, score = value["share"], value.get("score", "injection")
    if type(share) not in (int, float) or not 0 < share <= 1:
        raise InputError(f"{where}: tmr share must lie in 0..1, not {share!r}")
    if score not in SCORES:
        raise InputError(f"{where}: tmr score must be one of {SCORES}, not {printable(str(score))}")
    return Tmr((), float(share), score, mode, voters)


def _bound(where: str, value: Any) -> Bound:
    if not isinstance(value, dict):
        raise InputError(f'{where}: bound must be "none" or {{ kind = "zero", per = "layer" }}')
    _known(f"{where} bound", value, ("kind", "per"))
    bound = Bound(**value)
    if bound.kind not in ("zero", "saturate"):
        raise InputError(f'{where}: bound kind must be "zero" or "saturate"')
    if bound.per not in ("layer", "neuron"):
        raise InputError(f'{where}: bound per must be "layer" or "neuron"')
    return bound


def _table(where: str, name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: {name} must be a table")
    return value


def _known(where: str, table: dict[str, Any], names: tuple[str, ...]) -> None:
    for key in table:
        if key not in names:
            raise InputError(f"{where}: unknown key {printable(key)!r}; known: {', '.join(names)}")


def plan_json(plan: Plan) -> dict[str, Any]:
    """The plan in the language of the TOML file."""
    default = _settings_json(plan.default)
    if plan.watchdog:
        default["watchdog"] = True
    layers = {name: _settings_json(plan.layers[name]) for name in sorted(plan.layers)}
    return {"default": default, "layer": layers}


def _settings_json(settings: Settings) -> dict[str, Any]:
    """What is stated; of protections in several words those that are not the default's."""
    found: dict[str, Any] = {}
    for key, value in vars(settings).items():
        if value is None:
            continue
        found[key] = value if isinstance(value, str) else _fields(value)
    return found


def _fields(value: Checksum | Tmr | Bound) -> dict[str, Any]:
    """Fields that differ from their defaults, and those that say what it is."""
    fields, plain = vars(value), vars(type(value)())
    if isinstance(value, Tmr) and value.share is None:
        fields = {**fields, "neurons": list(value.neurons)}
    said = {
        key: one
        for key, one in fields.items()
        if one != plain[key] or key in ("modulus", "kind", "per")
    }
    if isinstance(value, Tmr) and value.share is not None:
        said["score"] = value.score
    return said
