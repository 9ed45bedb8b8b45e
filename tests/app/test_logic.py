"""Decisions, drawings, samples and attacks of the app, on the tiny untrained model."""

import dataclasses

import numpy as np
import pytest

from app import attack, decision, samples, stages, thresholds
from rdi_keras.errors import InputError
from rdi_keras.serving import Predictor


@pytest.fixture(scope="module")
def predictor(model_folders):
    return Predictor(model_folders[1] / "bare")


@pytest.fixture(scope="module")
def image():
    return samples.load_samples("digits", (8, 8, 1), 10).images[0]


@pytest.fixture(scope="module")
def made(predictor, image):
    logits = decision.ask(predictor, image)
    return decision.decide(predictor.metadata, logits, predictor.thresholds)


def test_a_decision_agrees_with_the_predictor(predictor, image, made):
    prediction = predictor.predict(image[None])
    assert made.exit == prediction.exit[0] == 2
    assert made.macs == prediction.macs[0] == predictor.metadata.macs_per_exit[1]
    assert [each.state for each in made.exits] == ["passed", "answers", "not reached"]
    fired = made.exits[1]
    assert fired.answer == made.answer == predictor.metadata.class_names[prediction.label[0]]
    assert fired.confidence == pytest.approx(made.confidence, abs=1e-5)
    assert fired.entropy == pytest.approx(float(prediction.entropy[0]), abs=1e-5)
    assert [each.threshold for each in made.exits] == [1.0, pytest.approx(2.31), None]
    for view in made.exits:
        names, likelihoods = zip(*view.top, strict=True)
        assert names[0] == view.answer
        assert list(likelihoods) == sorted(likelihoods, reverse=True)
        assert len(set(names)) == decision.TOP


def test_other_thresholds_decide_anew_as_the_predictor_does(predictor, image):
    logits = decision.ask(predictor, image)
    for doublings in range(thresholds.LATEST, thresholds.SOONEST + 1, 2):
        limits = thresholds.scaled(predictor.metadata.thresholds, doublings, np.log(10))
        expected = predictor.predict(image[None], limits)
        found = decision.decide(predictor.metadata, logits, limits)
        assert (found.exit, found.label) == (expected.exit[0], expected.label[0])


def test_the_slider_goes_from_the_last_exit_to_the_first(predictor, image):
    logits, metadata = decision.ask(predictor, image), predictor.metadata
    exits = [
        decision.decide(metadata, logits, thresholds.scaled(metadata.thresholds, each, np.log(10))).exit
        for each in range(thresholds.LATEST, thresholds.SOONEST + 1)
    ]
    assert exits == sorted(exits, reverse=True)
    assert (exits[0], exits[-1]) == (3, 1)
    assert thresholds.scaled(metadata.thresholds, 0, np.log(10)) == metadata.thresholds
    unsure = decision.decide(metadata, np.zeros((3, 10), np.float32), [thresholds.above(np.log(10))] * 2)
    assert unsure.exit == 1


def test_spending_more_than_the_backbone_is_a_negative_saving(made):
    dear = dataclasses.replace(made, macs=114, macs_backbone=100)
    assert dear.saving == pytest.approx(-0.14)
    assert decision.saving_text(dear.saving) == "14 % more than the backbone"
    assert decision.saving_text(0.383) == "38 % saved"


@pytest.mark.parametrize(
    ("count", "text"),
    [(999, "999"), (146_960, "147 k"), (999_600, "1.00 M"), (1_807_920, "1.81 M"), (25e9, "25.0 G")],
)
def test_large_numbers_are_short(count, text):
    assert decision.compact(count) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0, "0 %"), (1, "100 %"), (0.999, "99.9 %"), (0.001, "0.1 %"), (0.4, "40 %")]
)
def test_percent_does_not_round_to_a_certainty(share, text):
    assert decision.percent(share) == text


def test_the_exit_that_answered_stands_out(made):
    page = stages.stages_html(made)
    assert page.count("<li") == 3
    assert page.count('class="answers"') == page.count("answers here") == 1
    assert "not reached" in page
    assert "always answers" in stages.entropy_text(made.exits[-1])
    assert "≥ 1" in stages.entropy_text(made.exits[0])


def test_entropies_next_to_their_threshold_stay_apart(made):
    view = dataclasses.replace(made.exits[1], entropy=2.30997, threshold=2.31)
    assert stages.entropy_text(view) == "entropy 2.30997 < 2.31"


def test_class_names_cannot_write_html(made):
    bad = "<script>alert(1)</script>"
    view = dataclasses.replace(made.exits[0], answer=bad, top=((bad, 1.0),))
    page = stages.stages_html(dataclasses.replace(made, exits=(view, *made.exits[1:])))
    assert "<script" not in page


OFFERED = [
    *((name, "PGD") for goal in attack.GOALS for name in attack.objectives(goal, 3, target=4)),
    *(("average", solver) for solver in attack.SOLVERS),
]


@pytest.mark.parametrize(("name", "solver"), OFFERED)
def test_every_attack_offered_stays_inside_its_ball(predictor, image, name, solver):
    settings = attack.Settings(name, solver, 0.1, 2)
    # Its own answer: an image that is answered wrongly as it stands is left alone.
    label = int(predictor.predict(image[None]).label[0])
    trace = attack.ready(predictor, settings, {}).trace(image, label, predictor.thresholds)
    for each in (trace.image, *trace.iterates):
        assert each.shape == image.shape
        assert np.abs(each - image).max() <= 0.1 + 1e-6
        assert 0 <= each.min() <= each.max() <= 1
    view = attack.perturbation(image, trace.iterates[-1], 0.1)
    assert -1e-5 <= view.min() < 0.5 < view.max() <= 1 + 1e-5
    assert 0 < trace.runs <= trace.planned


def test_compiled_loops_do_not_pile_up(predictor, image):
    loops = dict.fromkeys(range(attack.MAX_LOOPS + 1))
    ready = attack.ready(predictor, attack.Settings("main", "FGSM", 0.1, 1), loops)
    ready.trace(image, 3, predictor.thresholds)
    assert len(loops) < 5


def test_no_budget_is_no_change(image):
    assert (attack.perturbation(image, image, 0.0) == 0.5).all()


def test_an_exit_too_many_is_refused_in_words(predictor):
    settings, black = attack.Settings("single(4)", "PGD", 0.1, 2), np.zeros((8, 8, 1), np.float32)
    with pytest.raises(InputError, match="exits 1 to 3"):
        attack.ready(predictor, settings, {}).trace(black, 3, predictor.thresholds)


def test_an_unknown_solver_is_refused_in_words():
    with pytest.raises(InputError, match="'Newton'. Allowed: PGD, APGD"):
        attack.Settings("main", "Newton", 0.1, 2).attack()


@pytest.mark.parametrize("trained", [0.0, 8 / 255, 0.1, 0.3])
def test_the_choice_of_epsilon_holds_its_default(trained):
    default, largest = attack.epsilon_range(trained)
    assert 0 < default <= largest <= 255


@pytest.fixture(scope="module")
def cases(made):
    """Decisions by what they answer; all but `late` leave at exit 2."""
    right, wrong = (dataclasses.replace(made, label=label, answer=str(label)) for label in (3, 8))
    moved = [
        dataclasses.replace(each, state="answers" if each.number == 3 else "passed") for each in made.exits
    ]
    late = dataclasses.replace(right, exits=tuple(moved), macs=2 * right.macs)
    return {"right": right, "wrong": wrong, "late": late, "late_wrong": dataclasses.replace(late, label=8)}


@pytest.mark.parametrize(
    ("objective", "before", "after", "won", "said"),
    [
        ("main", "right", "wrong", True, "Fooled: 3 became 8. It leaves at exit 2 as before."),
        ("main", "right", "right", False, "The answer is still 3."),
        ("main", "wrong", "right", False, "wrong before"),
        ("targeted(8)", "right", "wrong", True, "Fooled: 3 became 8. It leaves"),
        ("targeted(5)", "right", "wrong", False, "The class chosen was 5."),
        ("targeted(8)", "wrong", "wrong", False, "wrong before"),
        ("slowdown", "right", "late", True, "exit 3 instead of 2: 2.0 ×"),
        ("slowdown", "right", "right", False, "as before"),
        ("slowdown", "right", "late_wrong", True, "Fooled"),
        ("slowdown_keeping_label", "right", "late_wrong", False, "Fooled"),
        ("slowdown_keeping_label", "right", "late", True, "still 3"),
    ],
)
def test_verdicts_are_by_the_goal(cases, objective, before, after, won, said):
    settings = attack.Settings(objective, "PGD", 0.1, 1)
    before, after = cases[before], cases[after]
    assert attack.succeeded(before, after, 3, settings) == won
    assert said in attack.verdict(before, after, 3, list("0123456789"), settings)


def test_samples_at_hand(predictor, monkeypatch, tmp_path):
    metadata = predictor.metadata
    monkeypatch.delenv(samples.TFDS_VARIABLE, raising=False)
    assert samples.sample_source(metadata) == "digits"
    other = dataclasses.replace(metadata, dataset="mnist")
    assert samples.sample_source(other) == "digits"  # Its input has the digits' shape.
    large = dataclasses.replace(other, input_shape=[28, 28, 1])
    assert samples.sample_source(large) is None
    monkeypatch.setenv(samples.TFDS_VARIABLE, str(tmp_path))
    assert samples.sample_source(large) is None
    (tmp_path / "mnist").mkdir()
    assert samples.sample_source(large) == "mnist"
    images = dataclasses.replace(large, dataset=f"folder:{tmp_path}")
    assert samples.sample_source(images) == f"folder:{tmp_path}"


def test_samples_are_of_the_test_part_and_fit(predictor):
    from rdi_keras.data import load

    test = samples.load_samples("digits", (8, 8, 1), 10)
    np.testing.assert_array_equal(test.images, load("digits").test.images[: samples.MAX_SAMPLES])
    with pytest.raises(InputError, match="do not fit"):
        samples.load_samples("digits", (28, 28, 1), 10)
    with pytest.raises(InputError, match="do not fit"):
        samples.load_samples("digits", (8, 8, 1), 5)
