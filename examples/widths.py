"""A plain loop over widths that pays for hardware and resilience: what a search does, in small.

    python examples/widths.py [--faults N] [--widths 4x8 8x16 ...]

Shows: accuracy, vulnerable bit-cycles, LUTs and cycles of each candidate, plain and checksummed,
and which candidates no other one beats in everything.
"""

import argparse

from tercet.flow import Objective
from tercet.flow.plan import Checksum, Plan, Settings
from tercet.quant.datasets import digits
from tercet.quant.models.digits import digits_network
from tercet.quant.quantize import quantize_input

PLANS = {"plain": Plan(), "checksum": Plan(Settings(Checksum(3)))}


def main() -> None:
    """Score each width with each plan; print a table and the front."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=2000, help="upsets a candidate")
    parser.add_argument("--widths", nargs="+", default=["4x8", "8x16"], help="channels, as 8x16")
    args = parser.parse_args()
    data, rows = digits(), []
    for text in args.widths:
        first, second = (int(part) for part in text.split("x"))
        graph = digits_network(widths=(first, second))
        x = quantize_input(graph, data.test_x)
        score = Objective(x, data.test_y, faults=args.faults)
        for name, plan in PLANS.items():
            rows.append((f"{text} {name}", score(graph, plan=plan)))
    print(f"{'candidate':16}{'accuracy':>10}{'bit-cycles':>12}{'LUTs':>8}{'cycles':>8}")
    for name, scores in rows:
        beaten = any(
            other is not scores
            and all(a <= b for a, b in zip(other.minimise(), scores.minimise(), strict=True))
            for _, other in rows
        )
        exposure = scores.vulnerable_bit_cycles
        print(
            f"{name:16}{scores.accuracy:>10.2%}"
            f"{'-' if exposure is None else f'{exposure:,.0f}':>12}"
            f"{scores.luts:>8,.0f}{scores.cycles:>8,}{'' if beaten else '  *'}"
        )
    print("* no other candidate is at least as good in everything")


if __name__ == "__main__":
    main()
