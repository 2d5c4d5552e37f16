"""The table of proofs, printed behind `pytest tests/formal`."""

import json

import pytest
from rich.console import Console
from rich.table import Table

KEY = "formal"
COLUMNS = ("unit", "struck", "bits", "claim", "method", "seconds", "result", "broken on purpose")


@pytest.fixture
def report(record_property):
    """report(proof, answer, bits) of a proof, report(proof, cycles) of its counterexample."""

    def record(proof, outcome, bits=None):
        row = {"unit": proof.unit, "struck": proof.struck, "claim": proof.text}
        if bits is None:
            row["broken"] = f"{proof.breakage}: wrong, unflagged in cycle {outcome - 1}, replayed"
        else:
            row |= {"bits": bits, "method": outcome.method, "seconds": f"{outcome.seconds:.1f}"}
            row["result"] = "proved" if outcome.proved else "FAILED"
        record_property(KEY, json.dumps(row))

    return record


def pytest_terminal_summary(terminalreporter, config):
    if not any("formal" in str(arg) for arg in config.args):
        return
    rows = {}
    for reports in terminalreporter.stats.values():
        for one in reports:
            for key, value in getattr(one, "user_properties", ()):
                if key == KEY:
                    row = json.loads(value)
                    rows.setdefault(row["unit"], {}).update(row)
    if rows:
        table = Table(*COLUMNS, title="Proofs", show_lines=True)
        for row in rows.values():
            fields = ("unit", "struck", "bits", "claim", "method", "seconds", "result", "broken")
            table.add_row(*(str(row.get(name, "-")) for name in fields))
        terminalreporter.ensure_newline()
        Console(width=160).print(table)
