"""The verdict on synthetic figures of each level, and on those of runs whose pictures somebody looked at (docs/results)."""

import re

import pytest

from dcgan_jax.config import Config
from dcgan_jax.metrics.evaluate import Figures
from dcgan_jax.recipes import recipe
from dcgan_jax.run.evaluation import Evaluation
from dcgan_jax.run.verdict import (
    Measured,
    advice,
    at_best,
    fraction,
    in_short,
    judge,
    level,
    of_evaluation,
    of_training,
    summary,
    unusual,
)

FLOORS = {"coverage": 0.9, "recall": 0.9, "precision": 0.9, "fd": 2.0}


def measured(coverage=1.0, recall=1.0, precision=1.0, times=1.0, features="EfficientNet-Lite2", n=5000, **more):
    """Figures as shares of their floors, FD as a multiple of its own."""
    shares = {"coverage": coverage, "recall": recall, "precision": precision, "fd": times}
    figures = {name: (share * FLOORS[name], FLOORS[name]) for name, share in shares.items()}
    return Measured(400, features, {**figures, **{name: (value, 1.0) for name, value in more.items()}}, n)


@pytest.mark.parametrize("name", ["coverage", "recall", "precision"])
@pytest.mark.parametrize(
    ("share", "wanted"),
    [(0.0, "far"), (0.49, "far"), (0.51, "on the way"), (0.79, "on the way"), (0.81, "close"), (0.94, "close"), (0.96, "good")],
)  # fmt: skip
def test_the_worst_share_decides(name, share, wanted):
    assert level(measured(**{name: share})) == wanted


@pytest.mark.parametrize(
    ("times", "wanted"), [(9, "far"), (7.9, "on the way"), (3.1, "on the way"), (2.9, "close"), (1.2, "good")]
)
def test_fd_in_multiples_of_its_floor_decides_too(times, wanted):
    assert level(measured(times=times)) == wanted


def test_nothing_is_good_by_the_features_that_chose_the_step_by_few_samples_or_with_copies():
    assert level(measured()) == "good" and level(measured(features="Inception")) == "good"
    for lacking in (
        {"features": "CIFAR"},
        {"features": "EfficientNet-Lite0"},  # by which a recipe learns
        {"n": 999},
        {"n": None, "features": "CIFAR"},
        {"c_t": -4.0},
        {"nearest": 0.7},
    ):
        assert level(measured(**lacking)) == "close", lacking
    assert level(Measured(4, "EfficientNet-Lite2", {"coverage": (0.9, 0.9)}, 5000)) == "good"
    assert (
        level(Measured(4, "EfficientNet-Lite2", {"coverage": (0.1, 0.0)}, 5000)) == "far"
    )  # what has no floor counts nothing


WORDS = {
    "far": (measured(coverage=0.2), "Far from the real images: 18% of the real images have a sample like them, about a "
            "fifth of what other real images reach (coverage 90%)"),
    "on the way": (measured(recall=2 / 3), "On the way, but easy to tell from the real images: 60% of the real images lie "
                   "among the samples, about two thirds of what other real images reach (recall 90%)"),
    "close": (measured(precision=0.9), "Close to the real images, but not the same: 81% of the samples are like real "
              "images, about nine tenths of what other real images reach (precision 90%)"),
    "good": (measured(), "Not to be told from the real images: "),
}  # fmt: skip


@pytest.mark.parametrize("name", WORDS)
def test_the_words_of_each_level_name_what_lacks_first_and_the_ruler(name):
    figures, text = WORDS[name]
    verdict = judge(figures)
    assert verdict.level == name and str(verdict).startswith(text)
    assert "(step 400, EfficientNet-Lite2 features, measured by evaluate on 5,000 samples)" in verdict.text
    assert "EfficientNet-Lite2 features had no part in training or in choosing the step." in verdict.text
    assert ("ood" in str(verdict)) is False  # the level stands in the colour of the page, not as praise


def test_the_features_that_a_recipe_learns_by_are_said_to_flatter_it():
    text = judge(measured(features="EfficientNet-Lite0")).text
    assert "had no part in training (but in that of --recipe projected) or in choosing the step." in text


def test_cifar_features_are_called_lenient_and_the_stricter_opinion_is_named():
    near = judge(measured(features="CIFAR"))
    assert near.head == "CIFAR features see hardly a difference from the real images"
    for some in (near, judge(measured(features="CIFAR", coverage=0.1)), judge(measured(features="CIFAR", n=None))):
        assert "CIFAR features are lenient, and they chose this step" in some.text
        assert "evaluate --features imagenet is a stricter second opinion." in some.text
    assert "measured while training" in judge(measured(features="CIFAR", n=None)).text
    assert "5,000 samples" in near.text and "few" in judge(measured(n=400)).text


def of_results(features, n, **pairs):
    return Measured(4000, features, pairs, n)


def test_runs_whose_pictures_nobody_recognises_are_far_or_on_the_way():
    """The sprites of docs/results/robust.md: "its shapes are no animals yet" after 256,000 images, and half of that."""
    later = {"coverage": (0.63, 0.86), "recall": (0.79, 0.94), "precision": (0.79, 0.94), "fd": (3.4, 0.34)}
    sooner = {"coverage": (0.56, 0.86), "recall": (0.74, 0.94), "precision": (0.77, 0.94), "fd": (4.0, 0.34)}
    strict = {"coverage": (0.55, 0.97), "recall": (0.29, 0.94), "precision": (0.82, 0.94), "fd": (59.0, 4.5)}
    assert [level(of_results("CIFAR", None, **of)) for of in (later, sooner)] == ["far", "far"]
    assert level(of_results("EfficientNet-Lite0", 2000, **strict)) == "far"
    seen = judge(Measured(4000, "CIFAR", {"coverage": (0.59, 0.85)}, None))
    assert seen.level == "on the way" and "59% of the real images" in seen.text and "two thirds" in seen.text


UNUSUAL = {
    "c_t above": ({"c_t": 16.2}, "C_T 16.2, far above 0: samples lie farther from the training images than"),
    "c_t below": ({"c_t": -5.0}, "C_T -5, far below 0: samples lie nearer to training images than"),
    "nearest above": ({"nearest": 1.73}, "a typical sample lies 1.73 times as far from all real images as"),
    "nearest below": ({"nearest": 0.6}, "samples lie nearer to real images than other real images do"),
    "alike": ({"diversity": 0.5}, "samples are more alike than real images are"),
    "unlike": ({"diversity": 1.4}, "samples differ more than real images do"),
    "dark": ({"mean": 0.8}, "the brightness of a colour is 0.8 times that of real images"),
    "contrast": ({"deviation": 1.2}, "the contrast of a colour is 1.2 times that of real images"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_what_is_unusual_is_said_and_what_it_means(name):
    figures, text = UNUSUAL[name]
    (said,) = unusual(measured(**figures))
    assert text in said


def test_usual_figures_are_not_remarked_on():
    assert unusual(measured()) == []
    assert unusual(measured(c_t=2.9, nearest=1.2, diversity=0.85, mean=0.95, deviation=1.08)) == []
    assert unusual(measured(c_t=-2.9, nearest=0.85, diversity=1.2, mean=1.05, deviation=0.92)) == []


@pytest.mark.parametrize(
    ("share", "words"),
    [(0.0, "next to nothing"), (0.1, "a tenth"), (0.2, "a fifth"), (0.26, "a quarter"), (0.33, "a third"), (0.4, "two fifths"),
     (0.5, "half"), (0.6, "three fifths"), (0.69, "two thirds"), (0.75, "three quarters"), (0.82, "four fifths"),
     (0.9, "nine tenths"), (0.96, "nearly all"), (1.0, "all of"), (1.2, "all of")],
)  # fmt: skip
def test_shares_have_words(share, words):
    assert words in fraction(share)


def lines(*coverages, step=100, **more):
    """Evaluations while training."""
    floors = {"coverage_floor": 0.8, "kid_floor": -0.01, "fd": 9.0, "fd_floor": 0.5}
    return [
        {"step": step * i, "kid": 1 - 0.05 * i, "coverage": coverage, **floors, **more}
        for i, coverage in enumerate(coverages, 1)
    ]


def evaluation(features, step, fd, **more):
    shares = {name: Figures(0.9, 0.9, 0.9, 0.9, 5000) for name in ("coverage", "recall", "precision")}
    return Evaluation(features, step, 5000, {"fd": Figures(fd, 1.0, fd, fd, 5000), **shares}, **more)


def test_the_strictest_judgement_of_the_best_step_counts():
    run = lines(0.2, 0.4, 0.3)
    assert [of.step for of in at_best(run, [])] == [200] and at_best([], []) == []
    other, ours = evaluation("EfficientNet-Lite2", 300, 90.0), evaluation("CIFAR", 200, 1.0)
    assert at_best(run, [other])[0] == of_training(run[1])  # that is another step
    assert at_best(run, [other, ours]) == [of_evaluation(ours)]
    theirs = evaluation("EfficientNet-Lite2", 200, 9.0)
    assert at_best(run, [ours, theirs]) == [of_evaluation(theirs), of_evaluation(ours)]
    kind = evaluation("EfficientNet-Lite2", 200, 1.2)
    assert [of.features for of in at_best(run, [ours, kind])] == ["CIFAR", "EfficientNet-Lite2"]  # close, good
    assert at_best(run, [evaluation("CIFAR", 200, 1.0, ema=False)]) == [of_training(run[1])]
    assert at_best([], [other, ours])[0].step == 300  # a run without evaluations of its own
    assert at_best([{"step": 1, "kid": 2.0}], []) == []  # nothing to compare with


def test_what_to_do_next_depends_on_what_the_run_lacks():
    config = Config(steps=300)

    def next_of(run, config=config, images=9000, evaluations=()):
        return advice(run, config, images=images, measured=at_best(run, evaluations))

    rising = lines(0.2, 0.3, 0.4)
    assert next_of(rising).startswith("go on with --steps 600, as the run was still getting better")
    assert "--recipe projected" in next_of(rising) and "add pictures" not in next_of(rising)
    fallen = next_of(lines(0.4, 0.3, 0.2))
    assert "--steps" not in fallen and "--recipe projected" in fallen
    assert "--recipe" not in next_of(rising, recipe("projected", steps=300))
    best = next_of(rising, recipe("projected", steps=300), images=3000)
    assert "--recipe" not in best and "add pictures, as a discriminator soon knows 3,000 by heart" in best
    assert "add pictures" not in next_of(rising, images=800)  # the doctor says that
    assert "another --seed" in next_of(lines(0.4, 0.3, 0.2), recipe("projected", steps=300))
    plateau = lines(*[0.4] * 12)
    for line in plateau:
        line["kid"] = 0.5
    assert "--steps" not in next_of(plateau)
    assert advice(rising, config, images=9000, measured=[measured()]) == "" == advice([], config, images=0, measured=[])


def test_the_last_lines_of_training_have_the_words_of_the_report():
    run = lines(0.2, 0.4, 0.3)
    said = summary(run, Config(steps=300), images=600, evaluations=3)
    words = f"coverage 0.40 of 0.80: about half of the kinds are drawn. {judge(at_best(run, [])[0]).head}"
    how = "at step 200, the best of 3 evaluations by coverage; CIFAR features, which are lenient"
    assert said[0] == f"how good: {words} ({how})"
    assert "600 images are few" in said[1] and said[-1].startswith("what to do next: ")
    assert summary([], Config(), images=600, evaluations=0) == []


def test_an_evaluation_in_short_says_in_words_what_is_drawn_and_names_its_features():
    text = in_short(lines(0.2)[0])
    assert text == (
        "coverage 0.20 of 0.80: about a quarter of the kinds are drawn. "
        "Far from the real images (KID 0.95, real images -0.01; CIFAR features)"
    )
    assert not re.search(r"[Gg]ood", text)
    assert in_short(lines(0.01)[0]).startswith("coverage 0.01 of 0.80: hardly any of the kinds are drawn. ")
    line = {"step": 3, "kid": 0.5, "kid_floor": 0.1}
    assert in_short(line) == "Far from the real images (KID 0.5, real images 0.1; CIFAR features)"
