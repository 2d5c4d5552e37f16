"""What a bench gets follows from the design's cycles a frame."""

from dataclasses import replace
from pathlib import Path

from tercet.sim import budget, manifest
from tercet.sim.manifest import Manifest


def large(directory: Path, interval: int, latency: int) -> Manifest:
    found = manifest.load(directory)
    return replace(found, initiation_interval=interval, latency_cycles=latency)


def test_small_design_stays_on_cocotb_in_full(small_dir: Path) -> None:
    found = budget.budget(manifest.load(small_dir), 500)

    assert not found.clocked
    assert (found.three_frames, found.resets, found.fault_frames) == (3, 6, 2)
    assert (found.flips, found.registers, found.control_tries) == (2, 4, 200)


def test_more_frames_move_a_design_to_the_clocked_harness(small_dir: Path) -> None:
    found = large(small_dir, 10_000, 10_000)

    assert not budget.budget(found, 24).clocked
    assert budget.budget(found, 25).clocked
    assert budget.budget(large(small_dir, 36_864, 60_037), 1).clocked


def test_nothing_falls_below_its_least(small_dir: Path) -> None:
    found = budget.budget(large(small_dir, 590_000, 880_000), 1)

    assert found.clocked
    assert found.frames == 6
    assert (found.three_frames, found.resets, found.reset_frames) == (1, 1, 1)
    assert (found.flips, found.registers, found.fault_frames) == (1, 1, 1)
    assert found.control_tries == 30


def test_sizes_between_follow_the_cycles(small_dir: Path) -> None:
    design = large(small_dir, 15_000, 100_000)
    found = budget.budget(design, 100)
    runs = budget.FAULT_CYCLES // 100_000
    roles = len({register.role for register in design.registers})

    assert (found.three_frames, found.resets) == (3, 2)
    assert found.flips == 2
    assert found.registers == runs // (2 * roles) < budget.REGISTERS


def test_long_stall_fills_the_pipeline(small_dir: Path) -> None:
    found = large(small_dir, 9_000, 20_000)

    assert budget.long_stall(manifest.load(small_dir)) == (34, 10_000)
    assert budget.long_stall(found) == (24_500, 47_000)
    assert budget.stalled_frames(found) == 7
