import json
import re

import numpy as np
import pytest
from plotly.offline import get_plotlyjs

from rdi_keras.data import Split
from rdi_keras.errors import InputError
from rdi_keras.evaluation import Outcome
from rdi_keras.evaluation import curves as module
from rdi_keras.evaluation.cascade import Conditions
from rdi_keras.evaluation.curve_figures import CURVE_FILES, FRONT_FILE, PAGE_FILE, write_curve_figures
from rdi_keras.evaluation.curves import curve_attacks, measure_curves
from rdi_keras.evaluation.intervals import wilson
from rdi_keras.inference import CostTable, cost_table

N = 20
COST, ONE_EXIT_COST = CostTable((10, 20, 30), (1, 2, 4)), CostTable((60,), (4,))
DATA = Split(np.zeros([N, 1, 1, 1], np.float32), np.zeros(N, np.int64))


@pytest.fixture(scope="module")
def measured(digits):
    """Curves of a trained model with fewer points, since every one is an attack."""
    model, unseen = digits
    calls = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "EPSILON_MULTIPLES", (0.0, 0.5, 1.0, 4.0))
        patch.setattr(module, "STEP_COUNTS", (1, module.POINT_STEPS))
        patch.setattr(module, "THRESHOLD_SCALES", (0.0, 1.0))
        curves = measure_curves(
            model,
            model.thresholds.numpy(),
            unseen.first(N),
            cost_table(model),
            "1/10",
            on_point=lambda *call: calls.append(call),
        )
    return curves, cost_table(model), calls


class Network:
    """Nothing of it is run: `measured_by_formula` says what comes out."""

    num_classes = 10

    def __init__(self, num_exits):
        self.num_exits = num_exits


@pytest.fixture
def runs(monkeypatch):
    """Replaces the attacks: at ε a sample in (1 − 2.2 ε) survives; returns the (ε, steps, thresholds) run."""
    seen = []

    def run_suite(network, thresholds, data, suite, batch_size, seed, loops):
        epsilon = suite[0].attack.solver.epsilon if suite else 0.0
        seen.append((epsilon, suite[0].attack.solver.num_steps if suite else 0, tuple(thresholds)))
        right = np.arange(len(data)) < round(max(0, 1 - 2.2 * epsilon) * len(data))
        exits = np.full(len(data), network.num_exits, np.int32)
        every = np.ones(len(data), bool)
        outcomes = {
            name: Outcome(correct, exits, np.repeat(correct[:, None], network.num_exits, axis=1))
            for name, correct in (("clean", every), ("worst_case", right))
        }
        return Conditions(outcomes, {}, {})

    monkeypatch.setattr(module, "run_suite", run_suite)
    return seen


def lines_of(curves, curve):
    return curves["against"][curve]["clean"], curves["against"][curve]["worst_case"]


def all_points(curves):
    return [point for lines in curves["against"].values() for line in lines.values() for point in line]


def read_page(folder):
    """The page without its one copy of plotly's script; JSON's escapes are undone."""
    page = (folder / PAGE_FILE).read_text(encoding="utf-8")
    assert page.count(get_plotlyjs()) == 1
    page = page.replace(get_plotlyjs(), "")
    return re.sub(r"\\u([0-9a-f]{4})", lambda match: chr(int(match[1], 16)), page)


def test_every_point_is_what_the_report_may_hold(measured):
    curves, _, _ = measured
    assert json.loads(json.dumps(curves, allow_nan=False)) == curves
    assert curves["n"] == N
    assert curves["epsilon"] == 0.1
    assert list(curves["against"]) == ["epsilon", "num_steps", "threshold_scale"]
    for point in all_points(curves):
        assert set(point) == {"x", "accuracy", "interval", "saving", "n"}
        assert point["n"] == N
        assert point["interval"] == list(wilson(round(N * point["accuracy"]), N))
        assert point["saving"] < 1


def test_no_attack_is_clean_and_the_largest_budget_breaks_everything(measured):
    clean, attacked = lines_of(measured[0], "epsilon")
    assert [each["x"] for each in clean] == [each["x"] for each in attacked]
    assert clean[0] == attacked[0]
    assert clean[0]["x"] == 0
    assert clean[0]["accuracy"] > 0.8
    assert attacked[-1]["accuracy"] == 0
    # Half the budget again and again is too little a step for a law; eight times as much is not.
    assert attacked[1]["accuracy"] > attacked[-1]["accuracy"]


def test_an_attack_never_mends(measured):
    """A sample that is wrong clean stays wrong: this holds at every point, without noise."""
    for lines in measured[0]["against"].values():
        for clean, attacked in zip(lines["clean"], lines["worst_case"], strict=True):
            assert attacked["accuracy"] <= clean["accuracy"]


def test_the_ends_of_the_front_cost_what_their_exits_cost(measured):
    curves, cost, _ = measured
    for line in lines_of(curves, "threshold_scale"):
        assert [each["x"] for each in line] == [0, 1, None]
        assert line[0]["saving"] == pytest.approx(1 - cost.cumulative[-1] / cost.backbone, abs=1e-12)
        assert line[-1]["saving"] == pytest.approx(1 - cost.cumulative[0] / cost.backbone, abs=1e-12)


def test_the_curves_meet_in_one_point(measured):
    curves = measured[0]
    meeting = []
    for curve, x in (("epsilon", 0.1), ("num_steps", module.POINT_STEPS), ("threshold_scale", 1)):
        for line in lines_of(curves, curve):
            (point,) = (dict(each) for each in line if each["x"] == x)
            del point["x"]
            meeting.append(point)
    assert meeting[::2] == [meeting[0]] * 3
    assert meeting[1::2] == [meeting[1]] * 3


def test_progress_is_told_point_by_point(measured):
    _, _, calls = measured
    assert [done for _, done, _ in calls] == list(range(1, len(calls) + 1))
    assert calls[-1][1] == calls[-1][2]


def test_a_point_met_twice_is_measured_once(runs):
    curves = measure_curves(Network(3), [0.5, 0.0], DATA, COST, 0.2)
    assert len(runs) == len(set(runs))
    assert len(all_points(curves)) == 2 * (len(runs) + 2)
    assert (0.0, 0, (0.5, 0.0)) in runs
    # ln 10 is the largest entropy there is; a threshold of 0 lets nobody leave, whatever it is scaled by.
    assert min(runs[-1][2]) > np.log(10)


@pytest.mark.parametrize(
    ("epsilon", "expected"),
    [
        (0.2, [0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.8]),
        (0.5, [0, 0.125, 0.25, 0.5, 0.75, 1.0]),
        (8 / 255, [0, 2 / 255, 4 / 255, 8 / 255, 12 / 255, 16 / 255, 32 / 255, 64 / 255, 128 / 255]),
        (0.015, [0, 0.00375, 0.0075, 0.015, 0.0225, 0.03, 0.06, 0.12, 0.24, 0.48]),
    ],
)
def test_epsilon_goes_on_until_nothing_is_right(runs, epsilon, expected):
    clean, attacked = lines_of(measure_curves(Network(3), [0.5, 0.2], DATA, COST, epsilon), "epsilon")
    assert [each["x"] for each in attacked] == pytest.approx(expected)
    assert [each["x"] for each in clean] == pytest.approx(expected)
    assert attacked[-1]["accuracy"] == 0


def test_a_network_that_is_never_wrong_ends_the_curve_at_1(runs, monkeypatch):
    run = module.run_suite

    def unbreakable(*arguments, **options):
        conditions = run(*arguments, **options)
        return Conditions({**conditions.outcomes, "worst_case": conditions.outcomes["clean"]}, {}, {})

    monkeypatch.setattr(module, "run_suite", unbreakable)
    _, attacked = lines_of(measure_curves(Network(3), [0.5, 0.2], DATA, COST, 0.1), "epsilon")
    assert attacked[-1]["x"] == 1
    assert attacked[-1]["accuracy"] == 1


@pytest.mark.parametrize(
    ("thresholds", "data", "epsilon", "said"),
    [
        ([0.5, 0.5], DATA, 0, "epsilon above 0.*Received: epsilon=0.0"),
        ([0.5, 0.5], DATA, 1.5, "between 0 and 1"),
        ([0.5, 0.5], DATA.first(0), 0.1, "at least 1 sample.*0 samples"),
        ([0.5], DATA, 0.1, "3 exits and takes 2 thresholds"),
    ],
)
def test_what_gives_no_curve_is_refused(runs, thresholds, data, epsilon, said):
    with pytest.raises(InputError, match=said):
        measure_curves(Network(3), thresholds, data, COST, epsilon)
    assert runs == []


@pytest.mark.parametrize(("num_steps", "targeted"), [(1, 1), (2, 1), (5, 2), (100, 50)])
def test_attacks_can_cross_the_ball(num_steps, targeted):
    attacks = curve_attacks("8/255", num_steps)
    solvers = {name: attack.solver for name, attack in attacks.items()}
    counts = {name: solver.num_steps for name, solver in solvers.items()}
    assert counts == {"average": num_steps, "exit_aware": num_steps, "targeted_exit(1)": targeted}
    for solver in solvers.values():
        assert solver.epsilon == 8 / 255
        assert solver.num_steps * solver.step_size == pytest.approx(2.5 * 8 / 255)


def test_an_attack_takes_a_step():
    with pytest.raises(InputError, match="at least 1 step. Received: num_steps=0"):
        curve_attacks(0.1, 0)


def test_figures_and_page_are_written(measured, tmp_path):
    names = write_curve_figures(measured[0], "digits", tmp_path)
    assert names == [*CURVE_FILES.values(), FRONT_FILE, PAGE_FILE]
    assert {each.name for each in tmp_path.iterdir()} == set(names)
    for name in names[:-1]:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_the_page_says_every_value_and_asks_no_other_host(measured, tmp_path):
    curves = measured[0]
    write_curve_figures(curves, "<digits> & more", tmp_path)
    page = read_page(tmp_path)
    assert "http" not in page
    assert "src=" not in page
    assert "//" not in page
    assert page.count('"displaylogo": false, "showSendToCloud": false') == 4
    assert "<h1>&lt;digits&gt; &amp; more</h1>" in page
    for point in all_points(curves):
        low, high = point["interval"]
        assert f"accuracy {100 * point['accuracy']:.1f} % ({100 * low:.1f} – {100 * high:.1f} %)" in page
        assert f"saving {100 * point['saving']:.1f} % of" in page
    for text in ("ε = 0.1 = 25.5/255", "1 step", "20 steps", "thresholds × 0", "everybody leaves at exit 1"):
        assert text in page
    write_curve_figures(curves, "<digits> & more", tmp_path)
    assert read_page(tmp_path) == page


def test_with_one_exit_there_is_no_front(runs, tmp_path):
    curves = measure_curves(Network(1), [], DATA, ONE_EXIT_COST, 0.1)
    assert list(curves["against"]) == ["epsilon", "num_steps"]
    assert all(point["saving"] == 0 for point in all_points(curves))
    names = write_curve_figures(curves, "one exit", tmp_path)
    assert names == [CURVE_FILES["epsilon"], CURVE_FILES["num_steps"], PAGE_FILE]
    assert "thresholds ×" not in read_page(tmp_path)
