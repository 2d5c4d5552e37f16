"""Where upsets still reach the answer: registers, and classes of them with the reason.

Every role has one key of the plan that protects it. A class (layer, role) whose key is "none" is
uncovered by choice; one that is covered and still lets upsets through names what its protection is
known to miss.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...quant.errors import InputError
from ...sim.manifest import Manifest
from ...sim.outcomes import Outcome
from ...sim.store import SiteRow, Table
from .measure import RESIDUAL, Measured

__all__ = ["classes", "registers"]

Json = dict[str, Any]

_KEYS = {
    "product": "checksum",
    "accumulator": "checksum",
    "weight": "weights",
    "activation": "stream",
    "window": "stream",
    "fifo": "stream",
    "control": "control",
    "requant": "post",
}
_LINEAR = ("Conv2d", "Dense")
_LIMITS = {
    "checksum": "an error that the modulus divides, or one that lanes and check lane share",
    "weights": "what the code cannot tell, and a weight that was read past its check",
    "stream": "what the code cannot tell, and a word that was changed past its last check",
    "control parity": "an upset that lost or repeated a frame: those after the alarm are displaced",
    "control tmr": "an upset behind the voter",
    "post": "an error that all copies share, or that came before them",
    "tmr": "an upset before the replicas part or behind the voter",
}
_OWN = ("checker", "voter")


def registers(measured: Measured, sites: list[SiteRow], table: Table) -> list[Json]:
    """Registers with upsets that changed a result and were not flagged in time, or hung it; the
    most critical first. `share` is of all critical upsets, `example` the first experiment of the
    worst outcome, as `tercet inject --replay` takes it."""
    size, name = len(sites), measured.campaign.name
    counts = {o: np.bincount(table.site[table.outcome == o], minlength=size) for o in RESIDUAL}
    struck, total = np.bincount(table.site, minlength=size), counts[Outcome.SDC_CRITICAL].sum()
    examples = {o: _first(table, o) for o in RESIDUAL}
    found = []
    for number in np.flatnonzero(sum(counts.values())):
        site = sites[number]
        worst = next(o for o in _WORST if counts[o][number])
        critical = int(counts[Outcome.SDC_CRITICAL][number])
        found.append(
            {
                "name": site.name,
                "layer": site.layer,
                "role": site.role,
                "bits": site.bits,
                "experiments": int(struck[number]),
                **{o.label: int(counts[o][number]) for o in _WORST},
                "share": critical / int(total) if total else 0.0,
                "example": f"{name}:{examples[worst][int(number)]}",
            }
        )
    return sorted(found, key=lambda row: ([-row[o.label] for o in _WORST], row["name"]))


_WORST = (Outcome.SDC_CRITICAL, Outcome.HANG, Outcome.SDC_TOLERABLE)


def _first(table: Table, outcome: Outcome) -> dict[int, int]:
    """Site -> its first experiment with this outcome."""
    rows = np.flatnonzero(table.outcome == outcome)
    sites, first = np.unique(table.site[rows], return_index=True)
    return dict(zip(sites.tolist(), rows[first].tolist(), strict=True))


def classes(measured: Measured, manifest: Manifest) -> list[Json]:
    """Every class (layer, role) of registers: bits, how many of them are covered and by what, the
    names of the registers `left_out`, the unflagged outcomes, and the `reason` why there are some,
    whose `kind` names no layer; the most critical first."""
    plan = _protection(manifest)
    operators = {layer.name: layer.op for layer in manifest.layers}
    tripled = Counter[tuple[str, str]]()
    single: dict[tuple[str, str], list[str]] = defaultdict(list)
    for register in manifest.registers:
        if register.replica is not None:
            tripled[register.layer, register.role] += register.width
        else:
            single[register.layer, register.role].append(register.name)
    rows = []
    of_class = measured.counts.sum(axis=(1, 3))
    total = int(of_class[:, Outcome.SDC_CRITICAL].sum())
    for (layer, role), bits, counts in zip(measured.classes, measured.bits, of_class, strict=True):
        home = _owner(layer, plan)
        key, value = _key(role, operators.get(home), plan.get(home))
        copies = min(tripled[layer, role], int(bits))
        covered = int(bits) if value is not None else copies
        critical = int(counts[Outcome.SDC_CRITICAL])
        rows.append(
            {
                "layer": layer,
                "role": role,
                "bits": int(bits),
                "covered_bits": covered,
                "left_out": [] if value is not None else single[layer, role],
                "covered_by": value or ("replicas" if copies else None),
                "experiments": int(counts.sum()),
                **{o.label: int(counts[o]) for o in _WORST},
                "share": critical / total if total else 0.0,
                "reason": _reason(key, value, home, role, copies, int(bits)),
                "kind": _reason(key, value, None, role, copies, int(bits)),
            }
        )
    return sorted(rows, key=lambda row: ([-row[o.label] for o in _WORST], row["layer"]))


def _protection(manifest: Manifest) -> dict[str, Mapping[str, Any]]:
    raw = manifest.raw.get("protection")
    if not isinstance(raw, dict) or not all(isinstance(guard, dict) for guard in raw.values()):
        path = manifest.directory / "manifest.json"
        raise InputError(f"{path}: protection is missing or wrong; build the directory again")
    return raw


def _owner(layer: str, plan: Mapping[str, Any]) -> str:
    """The layer whose entry protects the registers of `layer`: a converter's is its reader's."""
    return layer if layer in plan else layer.removeprefix("to_")


def _key(
    role: str, operator: str | None, guard: Mapping[str, Any] | None
) -> tuple[str, str | None]:
    """The key of the plan that protects a role, and its value, None where it is "none"."""
    if role in _OWN:
        return role, "itself"
    key = "" if guard is None else _KEYS.get(role, "")
    if guard is None or not key:
        return "", None
    if key == "checksum" and operator not in _LINEAR:
        key = "post"  # sums and maxima of pools, joins and arg-max
    if key == "checksum" or (key == "weights" and guard.get("weights", "none") == "none"):
        modulus = guard.get("modulus")
        value = "exact" if modulus == "exact" else f"modulo {modulus}"
        return ("checksum", f"checksum {value}") if modulus is not None else (key, None)
    value = str(guard.get(key, "none"))
    return key, None if value == "none" else f"{key} = {value}"


def _reason(
    key: str, value: str | None, layer: str | None, role: str, copies: int, bits: int
) -> str:
    """Why upsets of this class get through; without `layer`, the same for all alike."""
    if role in _OWN:
        return "part of the protection: its upsets alarm, or hide an error that comes with them"
    if value is None and bits and copies >= bits:
        return f"triplicated; left is {_LIMITS['tmr']}"
    if not key:
        where = "" if layer is None else f" in {layer}"
        return f"no key of the plan protects registers of role {role}{where}"
    if value is None:
        what = f"{key}{'' if layer is None else f' of layer {layer}'}: the plan says none"
        if not copies:
            return what
        some = "some lanes" if layer is None else f"{copies} of {bits} bits"
        return f"{some} triplicated; of the others {what}"
    limit = _LIMITS.get(value.replace(" = ", " ")) or _LIMITS[key]
    return f"{value}; left is {limit}"
