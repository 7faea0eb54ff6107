"""Timing, on functions so short that their times mean nothing."""

import pytest


def timing(seconds):
    import harness

    return harness.Timing(seconds, seconds, seconds, 1)


def row(ours, peers, **fields):
    import harness

    fields = {"group": "class", "name": "f", "shape": "shape", "threads": 1, "bytes": 100, "flops": 30} | fields
    return harness.Row(**fields, ours=timing(ours), peers={name: timing(t) for name, t in peers.items()})


def test_samples_are_taken_in_turns():
    import harness

    order = []
    functions = {name: lambda name=name: order.append(name) for name in "ab"}
    timings = harness.interleave(functions, seconds=0.0, least=3)
    turns = [name for i, name in enumerate(order) if i == 0 or order[i - 1] != name]
    assert "".join(turns[-6:]) == "ababab"
    for measured in timings.values():
        assert measured.samples == 3
        assert 0 < measured.p20 <= measured.median <= measured.p80


def test_more_samples_until_the_time_is_up():
    import harness

    timings = harness.interleave({"a": lambda: None}, seconds=60.0, least=1, most=5)
    assert timings["a"].samples == 5


@pytest.mark.parametrize(("length", "runs"), [(0.01, 2 + 2 * 3), (1.0, 1 + 3)])
def test_only_short_functions_are_woken(monkeypatch, length, runs):
    import harness

    clock, calls = [0.0], []

    def function():
        clock[0] += length
        calls.append(1)

    monkeypatch.setattr(harness, "SHORTEST", 1e-9)
    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])
    harness.interleave({"a": function}, seconds=0.0, least=3)
    assert len(calls) == runs


def test_a_budget_shares_what_is_left(monkeypatch):
    import harness

    clock = [0.0]
    monkeypatch.setattr(harness.time, "perf_counter", lambda: clock[0])
    budget = harness.Budget(10.0, 4)
    assert budget.share() == 2.5
    clock[0] = 4.0  # longer than its share: the others have less
    assert budget.share() == 2.0
    clock[0] = 11.0
    assert budget.share() == 0.0


def test_ratio_is_to_the_best_of_a_library():
    measured = row(2.0, {"torch slow": 8.0, "torch fast": 4.0, "jax": 1.0})
    assert measured.best() == "torch fast"
    assert measured.ratio() == 0.5
    assert measured.ratio("jax") == 2.0
    assert row(2.0, {}).ratio() is None


def test_share_of_the_roofline():
    from roofline import Roofline

    assert row(2.0, {}).share(Roofline(bandwidth=100, peak=10)) == 1.5  # 3 s of arithmetic, 1 s of traffic


def test_roofline_is_positive():
    import roofline

    limits = roofline.measure(2, samples=1, floats=1 << 16, steps=1000)
    assert limits.bandwidth > 0
    assert limits.peak > 0
