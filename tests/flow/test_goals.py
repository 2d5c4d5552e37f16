"""Frame rates and shares of a device: reached, checked, or refused in one line."""

import dataclasses
import itertools

import numpy as np
import pytest

from tercet.flow import cli, targets
from tercet.flow.builder import build
from tercet.flow.estimator import estimate_command, estimate_design
from tercet.flow.folding import Goal, Solver, fold_for_interval, fold_to_fit
from tercet.flow.folding.knapsack import descend, excess
from tercet.flow.folding.solve import RESOURCES
from tercet.flow.goals import folded_design
from tercet.flow.plan import Plan
from tercet.flow.plan_file import parse_plan
from tercet.hw.configure import Fold, configure
from tercet.hw.timing import initiation_interval
from tercet.quant.errors import InputError

WEIGHTED = ("conv", "hidden", "logits")
ECP5, XC7, UP5K = (targets.find(name) for name in ("ecp5-25k", "xc7a35t", "ice40-up5k"))


def reach(graph, goal, target=ECP5, plan=None):
    design = folded_design(graph, target, goal, plan or Plan(), None)
    return design, estimate_design(design, target)


@pytest.mark.parametrize("target", [ECP5, XC7, UP5K], ids=lambda target: target.name)
@pytest.mark.parametrize("interval", [200, 75, 40])
def test_a_frame_rate_is_reached(small, target, interval):
    goal = Goal(fps=target.clock_mhz * 1e6 / interval)
    _, cost = reach(small.graph(), goal, target)

    assert goal.interval(target) in (interval - 1, interval)
    assert cost["initiation_interval"] <= interval
    assert not target.excess(cost)


def test_more_frames_need_more_and_fewer_need_less(small):
    costs = [reach(small.graph(), Goal(fps=75e6 / n))[1] for n in (300, 100, 40)]
    luts = [cost["luts"] for cost in costs]

    assert luts == sorted(luts)
    assert luts[0] < luts[-1]


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_a_share_is_kept(small, share):
    _, cost = reach(small.graph(), Goal(fit=share))

    for key in RESOURCES:
        assert cost[key] <= share * ECP5.capacity[key]


def test_a_larger_share_is_never_slower(small):
    intervals = [
        reach(small.graph(), Goal(fit=share), UP5K)[1]["initiation_interval"]
        for share in (0.5, 0.7, 1.0)
    ]

    assert intervals == sorted(intervals, reverse=True)
    assert intervals[0] > intervals[-1]


def test_the_next_faster_interval_does_not_fit(small):
    solver = Solver(small.graph(), UP5K)
    folding = fold_to_fit(solver, 0.6)
    reached = initiation_interval(configure(small.graph(), folding))
    faster = [interval for interval in solver.intervals if interval < reached]

    assert solver.solve(reached, 0.6).fullest <= 1
    assert faster
    assert solver.solve(faster[-1], 0.6).fullest > 1


def test_multipliers_come_from_what_is_left(small):
    plenty = Solver(small.graph(), dataclasses.replace(ECP5, dsps=10)).solve(24)
    luts = plenty.used[0] * ECP5.luts
    scarce = dataclasses.replace(ECP5, dsps=200, luts=int(0.9 * luts))
    folding = fold_for_interval(Solver(small.graph(), scarce), 24)

    assert {plenty.chosen[name].fold.multiplier for name in WEIGHTED} == {"lut"}
    assert {folding[name].multiplier for name in WEIGHTED} & {"dsp", "dsp2"}


def test_a_small_unrolled_layer_may_be_shift_adds(small):
    folding = fold_for_interval(Solver(small.graph(), XC7), 12)

    assert folding["conv"] == Fold(6, 12, "shift")


def test_weights_leave_block_ram_where_it_runs_out(random_network):
    for seed in range(8):
        graph, _, _ = random_network(np.random.default_rng(seed))
        solver = Solver(graph, dataclasses.replace(ECP5, brams=1))
        folding = fold_for_interval(solver, solver.intervals[-1])

        assert all(fold.weights != "block" for fold in folding.values())


def test_protection_takes_room(small):
    plan = parse_plan({"default": {"checksum": {"modulus": 3}}}, "plan")
    plain = reach(small.graph(), Goal(fps=1e5))[1]
    guarded = reach(small.graph(), Goal(fps=1e5), plan=plan)[1]

    assert guarded["initiation_interval"] <= 750
    assert guarded["luts"] > plain["luts"]


def test_random_networks_reach_what_is_asked(random_dag):
    for seed in range(12):
        graph, _, _ = random_dag(np.random.default_rng(seed))
        fastest, _ = Solver(graph, targets.find("xc7a100t")).bottleneck
        goal = Goal(fps=100e6 / (3 * fastest))
        _, cost = reach(graph, goal, targets.find("xc7a100t"))

        assert cost["initiation_interval"] <= 3 * fastest


def test_no_other_choice_of_options_is_better():
    """Small knapsacks by exhaustion: the descent fits whenever something does."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        groups = [rng.random((4, 2)) for _ in range(3)]
        found = descend(groups, [0, 0, 0], np.ones(2), lambda *_: True)
        least = min(
            float(excess(sum(g[i] for g, i in zip(groups, chosen, strict=True))))
            for chosen in itertools.product(range(4), repeat=3)
        )
        reached = float(excess(sum(g[i] for g, i in zip(groups, found, strict=True))))

        assert reached <= least + 0.25
        assert (reached == 0) or least > 0


def test_what_is_not_allowed_is_not_chosen():
    groups = [np.array([[2.0], [0.1]]), np.array([[0.5], [0.2]])]

    assert descend(groups, [0, 0], np.ones(1), lambda state, group, option: group == 1) == [0, 1]


REFUSED = [
    (Goal(fps=1e9, clock_mhz=75), r"^--fps 1e\+09: more frames than cycles at 75 MHz$"),
    (Goal(fps=4e7), r"^--fps 4e\+07 at 75 MHz: layer pool: takes 3 cycles a frame when fully"),
]


@pytest.mark.parametrize(("goal", "text"), REFUSED, ids=lambda value: str(value)[:20])
def test_a_rate_out_of_reach_names_the_layer(small, goal, text):
    with pytest.raises(InputError, match=text) as error:
        reach(small.graph(), goal)
    assert "\n" not in str(error.value)


def test_a_network_too_large_names_resource_figure_and_layer(small):
    tiny = dataclasses.replace(ECP5, luts=300)

    with pytest.raises(
        InputError,
        match=r"^--fit 0.5: the smallest folding needs \d+ luts of the 150 \(50%\) of ecp5-25k, "
        r"\d+ too many; the largest layer is conv with \d+: choose a larger",
    ) as error:
        reach(small.graph(), Goal(fit=0.5), tiny)
    assert "\n" not in str(error.value)


def test_a_rate_that_does_not_fit_names_resource_figure_and_layer(small):
    tiny = dataclasses.replace(ECP5, luts=300)

    with pytest.raises(InputError, match=r"an interval of 750 cycles needs \d+ luts of the 300 of"):
        reach(small.graph(), Goal(fps=1e5), tiny)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--fps", "100", "--fit", "0.5"], "--fps and --fit exclude each other"),
        (["--fps", "100", "--fold", "f.toml"], "--fold and --fps exclude each other"),
        (["--fit", "1.5"], "--fit: must be above 0 and at most 1, not 1.5"),
        (["--fit", "0"], "argument --fit: must be a number above 0, not '0'"),
        (["--fps", "many"], "argument --fps: must be a number above 0, not 'many'"),
        (["--clock", "-5"], "--clock"),
    ],
)
def test_wrong_options_are_one_line(model, tmp_path, capsys, options, text):
    out = tmp_path / "design"
    try:
        status = cli.main(["build", model, "-o", str(out), *options])
    except SystemExit as stop:
        status = stop.code

    shown = capsys.readouterr().err
    assert status == 2
    assert text in shown
    assert shown.count("\n") == 1
    assert not out.exists()


def test_a_network_that_cannot_fit_leaves_nothing_behind(model, tmp_path, capsys):
    out = tmp_path / "design"

    assert cli.main(["build", model, "-o", str(out), "--fit", "0.001"]) == 2
    assert capsys.readouterr().err.startswith("tercet: error: --fit 0.001: the smallest folding")
    assert list(tmp_path.iterdir()) == []


def test_a_build_states_goal_clock_and_rate(model, tmp_path):
    result = build(model, tmp_path / "design", fps=1e5, clock_mhz=50, explain=True)

    assert result["goal"] == {"fps": 1e5, "interval": 500}
    assert result["clock_mhz"] == 50
    assert result["fps"] == pytest.approx(50e6 / result["initiation_interval"], abs=1e-3)
    assert result["initiation_interval"] <= 500
    assert result["folding"] == {
        layer["layer"]: {
            key: (layer if layer["weights"] else result["folding"][layer["layer"]])[key]
            for key in ("pe", "simd", "multiplier", "weights", "pixels")
        }
        for layer in result["explain"]
    }


def test_explain_adds_up(model):
    result = estimate_command(model, fit=0.5, target="ecp5-25k", explain=True)

    for key in RESOURCES:
        assert sum(layer[key] for layer in result["explain"]) == result[key]
        assert result["device"][key]["used"] == result[key]
    assert result["device"]["luts"]["share"] == pytest.approx(result["luts"] / 24288, abs=1e-4)
    slowest = max(result["explain"], key=lambda layer: layer["cycles_per_frame"])
    assert result["bottleneck"] == slowest["layer"]


def test_utilisation_is_work_by_capacity(model, small):
    result = estimate_command(model, explain=True)
    macs = {"conv": 12 * 6 * 12, "hidden": 6 * 12, "logits": 4 * 6}

    for layer in result["explain"]:
        if layer["layer"] in macs:
            work = layer["multipliers"] * result["initiation_interval"]
            assert layer["utilisation"] == pytest.approx(macs[layer["layer"]] / work, abs=1e-4)
        else:
            assert layer["utilisation"] is None


def test_explain_prints_folding_shares_and_bottleneck(model, capsys):
    assert cli.main(["estimate", model, "--explain", "--fit", "0.3"]) == 0

    shown = capsys.readouterr().out
    assert "bottleneck: " in shown
    assert "frames a second at 75 MHz" in shown
    assert "share" in shown
