"""Measures a search space in full: every network trained and struck, every circuit priced.

Each network of the space is trained and quantised, its error and its classification change rate
under bit errors are measured, and the objectives of each of its circuits are estimated. Rows are
kept in DIR/rows as they come: a run that was stopped goes on when it is started again. At the end
DIR/table.npz holds the table for `search_engines.py` and `asi.py`. Deterministic.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np

from tercet.flow.search.evaluate import Evaluator
from tercet.flow.search.space_file import load_space
from tercet.flow.search.tabular import Table, table_digest
from tercet.flow.search.tabular_rows import fill
from tercet.quant.errors import ClaimError, InputError

SPACE = Path(__file__).with_name("table_space.toml")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("space", type=Path, nargs="?", default=SPACE, help="a SPACE.toml")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder of rows and table")
    parser.add_argument(
        "--workers", type=int, default=2, help="processes, 0: this one (default: 2)"
    )
    parser.add_argument("--limit", type=int, help="only so many networks, spread over the space")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the workers: more threads only wait
    began = time.monotonic()

    def shown(done: int, total: int) -> None:
        print(f"\r{done} of {total} networks, {time.monotonic() - began:.0f} s", end="", flush=True)

    try:
        table = fill(
            load_space(options.space), options.out, Evaluator,
            workers=options.workers, limit=options.limit, progress=shown,
        )  # fmt: skip
    except (InputError, ClaimError) as error:
        print(f"search_table: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    path = options.out / "table.npz"
    table.save(path)
    print(f"\n{path.name}: {path.stat().st_size / 1024:.0f} KiB, {summary(table)}")
    return 0


def summary(table: Table) -> str:
    refused = int(np.isnan(table.values).any(axis=2).sum())
    best = table.columns["error"].min()
    near = int((table.columns["error"] <= best + 0.02).sum())
    return (
        f"space {table_digest(table.space)[:12]}, {len(table)} networks, "
        f"{table.values.shape[0] * table.values.shape[1]} circuits of which {refused} refused, "
        f"error {best:.3f} at best, {near} networks within 2 points of it"
    )


if __name__ == "__main__":
    sys.exit(main())
