"""How a design comes back after an upset: after how many inferences, or out of step with its input.

A design that lost or repeated a frame goes on with right results in the wrong places: from some
frame on each output equals the fault-free output of the frame after or before.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..quant.ir import IntArray
from .manifest import Words
from .outcomes import End, FrameFlag, Observed, Outcome

if TYPE_CHECKING:
    from .store import Table

__all__ = ["Disorder", "disorder", "report"]

Json = dict[str, Any]
Mask = np.ndarray[Any, np.dtype[np.bool_]]

_FLAGGED = (Outcome.DUE, Outcome.RECOVERED, Outcome.CORRECTED, Outcome.FALSE_ALARM)


class Disorder(enum.IntEnum):
    """How the sequence of outputs was broken; the worst that was seen of an experiment.

    A token is lost or inserted where a frame has another number of beats or other markers.
    """

    NONE = 0
    TOKEN = 1
    FRAME_REPEATED = 2
    FRAME_LOST = 3
    HANG = 4

    @property
    def label(self) -> str:
        """The name in reports."""
        return "lost_or_inserted_token" if self is Disorder.TOKEN else self.name.lower()


def disorder(observed: Observed, golden: Words, last: IntArray) -> Words:
    """`Disorder` [n] of each experiment; `golden` uint8 [frames, beats, word_bytes], `last` [n] the
    last frame that is watched.

    A frame was lost if, from some wrong frame on to the end of the watch, output f is the
    fault-free output f + 1, and f - 1 if one was repeated. Neighbours with equal outputs tell
    nothing: at least one must differ.
    """
    found = np.full(len(observed.ends), Disorder.NONE, np.uint8)
    wrong = (observed.flags & FrameFlag.WRONG) != 0
    malformed = (observed.flags & FrameFlag.MALFORMED) != 0
    found[observed.experiment[malformed]] = Disorder.TOKEN
    rows = np.flatnonzero(wrong)
    lasting = observed.ends == End.BOUND
    for shift, name in ((-1, Disorder.FRAME_REPEATED), (1, Disorder.FRAME_LOST)):
        slipped = _slipped(observed, golden, rows, shift, last)
        found[slipped & lasting] = name
    found[observed.ends == End.HANG] = Disorder.HANG
    return found


def _slipped(observed: Observed, golden: Words, rows: IntArray, shift: int, last: IntArray) -> Mask:
    """Does each experiment [n] end in outputs that are `shift` frames off? `rows` are the wrong
    frames, by experiment."""
    count, result = len(observed.ends), np.zeros(len(observed.ends), bool)
    if not len(rows):
        return result
    owner, frame = observed.experiment[rows], observed.frame[rows]
    source = np.clip(frame + shift, 0, len(golden) - 1)
    equal = (observed.words[rows] == golden[source]).all(axis=(1, 2)) & (source != frame)
    order = np.lexsort((frame, owner))
    owner, frame, equal = owner[order], frame[order], equal[order]
    # From the first wrong frame after the last one that is not equal.
    place = np.arange(len(owner))
    broken = np.full(count, -1)
    np.maximum.at(broken, owner[~equal], place[~equal])
    tail = place > broken[owner]
    first = np.full(count, len(golden))
    np.minimum.at(first, owner[tail], frame[tail])
    seen = np.bincount(owner[tail], minlength=count)
    # All frames of the tail whose fault-free neighbour differs must be among them.
    other = golden[np.clip(np.arange(len(golden)) + shift, 0, len(golden) - 1)]
    differs = np.concatenate(([0], np.cumsum((other != golden).any(axis=(1, 2)))))
    end = np.clip(last + 1, 0, len(golden))
    due = differs[np.maximum(end, first)] - differs[np.minimum(first, end)]
    result[:] = (seen > 0) & (seen == due)
    return result


def report(table: Table, roles: Sequence[str]) -> Json:
    """What a campaign says about recovery; `roles` are those of its sites.

    `largest` is the largest number of inferences until the state was golden again, `histogram` how
    many experiments took 0, 1, .. of them; `flagged` and `never` how many were not golden again in
    the watch, with and without an error flag. The same for each role, and the `disorder` counts.
    """
    labels, which = np.unique(np.array(roles), return_inverse=True)
    role = which.astype(np.int16)[table.site]
    struck = np.flatnonzero(np.bincount(role, minlength=len(labels)))
    names = np.bincount(table.disorder, minlength=len(Disorder))
    return {
        **_group(table, np.ones(len(role), bool)),
        "by_role": {str(labels[n]): _group(table, role == n) for n in struck},
        "disorder": {d.label: int(names[d]) for d in Disorder if d is not Disorder.NONE},
    }


def _group(table: Table, mask: Mask) -> Json:
    inferences, outcome = table.inferences[mask], table.outcome[mask]
    back = inferences[inferences >= 0]
    flagged = np.isin(outcome[inferences < 0], _FLAGGED)
    return {
        "largest": int(back.max()) if len(back) else None,
        "histogram": np.bincount(back).tolist() if len(back) else [],
        "flagged": int(flagged.sum()),
        "never": int((~flagged).sum()),
    }
