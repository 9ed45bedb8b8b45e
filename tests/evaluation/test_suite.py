import pytest

from rdi_keras.attacks import APGD, PGD, Square
from rdi_keras.errors import InputError
from rdi_keras.evaluation import EVERYONE, STANDING, suite


def settings(name):
    return {
        entry.name: (type(entry.attack.solver), entry.attack.solver.num_steps, entry.attack.solver.restarts)
        for entry in suite(name, 0.1)
    }


def test_quick_is_what_the_contract_lists():
    names = {"exit_aware", "average", "max_average", "targeted_exit(2)"}
    assert settings("quick") == dict.fromkeys(names, (PGD, 20, 1))


def test_standard_is_what_the_contract_lists():
    found = settings("standard")
    every_objective = (
        "main", "average", "max_average", "exit_aware",
        "soft_exit", "forced_exit", "ensemble", "random_exit", "targeted",
    )  # fmt: skip
    expected = dict.fromkeys(every_objective, (PGD, 40, 2)) | {
        "apgd_ce": (APGD, 50, 1),
        "apgd_dlr": (APGD, 50, 1),
        "targeted_exit": (PGD, 20, 1),
        "multi_targeted(2)": (PGD, 20, 1),
        "square": (Square, 500, 1),
        "slowdown": (PGD, 40, 2),
    }
    assert found == expected
    everyone = {entry.name for entry in suite("standard", 0.1) if entry.on == EVERYONE}
    assert everyone == {"main", "average", "max_average", "exit_aware", "slowdown"}


def test_full_is_standard_and_more():
    standard, full = suite("standard", 0.1), suite("full", 0.1)
    assert full[: len(standard)] == standard
    assert len(full) >= len(standard) + 10
    assert max(entry.attack.solver.num_steps for entry in full) == 5000
    assert all(entry.on == STANDING for entry in full[len(standard) :] if "slowdown" not in entry.name)


@pytest.mark.parametrize("name", ["quick", "standard", "full"])
def test_every_attack_is_of_the_stated_ball_and_named_once(name):
    entries = suite(name, 0.1)
    assert len({entry.name for entry in entries}) == len(entries)
    assert {(entry.attack.solver.norm, entry.attack.solver.epsilon) for entry in entries} == {("linf", 0.1)}
    for entry in entries:
        if isinstance(entry.attack.solver, PGD) and entry.attack.solver.random_start:
            assert entry.attack.solver.step_size * entry.attack.solver.num_steps == pytest.approx(0.25)


def test_unknown_suite_is_refused():
    with pytest.raises(InputError, match="Unknown attack suite 'easy'. Allowed: quick, standard, full"):
        suite("easy", 0.1)
