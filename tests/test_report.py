"""The report of a run: what it says, that it is safe to pass on, and how it behaves in a browser."""

import base64
import dataclasses
import io
import json
import re
import shutil
from html.parser import HTMLParser

import chromium
import numpy as np
import pytest
from helpers import python
from PIL import Image

from dcgan_jax import InputError, fit, report
from dcgan_jax.config import Config
from dcgan_jax.run import sections
from dcgan_jax.run.doctor import Finding
from dcgan_jax.views.grid import grid, save_png, tiles

HOSTILE = "<script>alert(1)<!-- body -->"
FIGURE = {"value": 0.25, "floor": 0.5, "low": 0.125, "high": 0.75, "n": 6}
CLASSES = {"step": 6, "n": 6, "junk": FIGURE, "classes": [], "finding": ""}


@pytest.fixture(scope="module")
def trained(photos, tmp_path_factory):
    """A run of six steps, and the report that it left."""
    workdir = tmp_path_factory.mktemp("reported") / "run"
    config = Config(data=str(photos), image_size=16, width=4, latent_dim=8, batch_size=4, steps=6)
    fit(dataclasses.replace(config, log_every=1, sample_every=2, checkpoint_every=3), workdir)
    return workdir, (workdir / "report.html").read_text()


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, with figures of which step 4 has the best: its coverage is that of step 6, but its KID lower."""
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for line, kid, coverage in zip(lines[1::2], (1.0, 2.5, 3.0), (0.25, 0.5, 0.5)):
        line.update(kid=kid, kid_floor=-0.125, coverage=coverage, coverage_floor=0.97)
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return workdir


class Tags(HTMLParser):
    """All tags of a page with their attributes, as a browser reads them."""

    def __init__(self, page):
        super().__init__()
        self.seen = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, attrs))


def text_of(page):
    """What a reader sees, without tags and pictures."""
    return re.sub(r"\s+", " ", re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL))


def pictures(page, alt):
    """The pictures whose alternative text matches, as arrays."""
    found = re.findall(rf'alt="{alt}" src="data:image/webp;base64,([^"]*)"', page)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data in found]


def test_training_ends_with_a_report(trained):
    workdir, page = trained
    text = text_of(page)
    assert "12 images of 16×16×3 from photos" in text and "6 of 6 steps" in text
    assert "has not been measured yet" in text and "<code>python -m dcgan_jax.evaluate</code>" in page
    assert str(workdir.parent) not in page  # it may be passed on
    assert f"--workdir {workdir.name}" not in text  # which would be right in one folder only
    assert "width 4 64" in text and "learning_rate" not in text  # only what differs, beside its default
    (timing,) = json.loads((workdir / "timing.json").read_text())
    assert (timing["start"], timing["step"]) == (0, 6) and timing["seconds"] > 0
    assert f"{timing['processor']}, {timing['cores']} cores" in text
    assert f"jax {timing['versions']['jax']}" in text and f"Python {timing['versions']['Python']}" in text
    assert len(re.findall("<img", page)) == len(re.findall(r"<img [^>]*alt=\"[^\"]+\"", page)) >= 7


def test_a_run_that_was_stopped_between_two_lines_of_its_log_says_how_far_it_is(run):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:5]))
    (run / "samples" / "step_000006.png").unlink()
    report(run)
    assert "6 of 6 steps" in text_of((run / "report.html").read_text())


def test_pictures_come_before_numbers(run):
    report(run)
    heads = re.findall("<h2>(.*?)</h2>", page := (run / "report.html").read_text())
    assert heads[:2] == ["Samples through training, from the same noise", "Real images beside samples"]
    assert heads.index("Verdict") < heads.index("Between two samples") < heads.index("Curves") < len(heads) - 1
    before = text_of(page.split("<h2>")[0])
    assert before.rstrip().endswith("On the way, but easy to tell from the real images")


def test_the_pictures_are_those_of_the_run(trained):
    workdir, page = trained
    steps = re.findall(r'data-step="(\d+)"', page)
    assert steps == ["0", "2", "4", "6"]
    for step, shown in zip(steps, pictures(page, r"64 samples after step \d+")):
        sheet = np.asarray(Image.open(workdir / "samples" / f"step_{int(step):06d}.png"))
        assert np.abs(shown.astype(int) - sheet).mean() < 8  # WebP is lossy
    (reals,) = pictures(page, "real images")
    assert (
        np.abs(reals.astype(int)[:, :, 2] - np.asarray(Image.open(workdir / "samples" / "reals.png"))[..., 2]).mean()
        < 8
    )
    (walk,) = pictures(page, r"6 rows of 8 images[^\"]*")
    assert walk.shape == (6 * 18 + 2, 8 * 18 + 2, 3) and len(np.unique(walk)) > 10


def test_the_verdict_comes_before_the_curves_and_names_the_best_step(run, monkeypatch):
    told = [Finding("fine", False, 2, "G is fine"), Finding("collapse", True, 5, "D won: try --width 8")]
    seen = {}
    monkeypatch.setattr(sections, "findings", lambda lines, images: seen.update(n=len(lines), images=images) or told)
    report(run)
    text = text_of((run / "report.html").read_text())
    assert seen == {"n": 6, "images": 12}
    wanted = [
        "Step 5: D won: try --width 8.",
        "On the way, but easy to tell from the real images: ",
        "50% of the real images have a sample like them, about half of what other real images reach (coverage 97%)",
        "step 4, CIFAR features, measured while training",
        "Step 2: G is fine.",
        "What to do next: ",
        "best step 4 by coverage",
        "coverage 0.5 real images 0.97",
        "KID (CIFAR features) 2.5 real images -0.125",
        "Losses",
    ]
    places = [text.index(part) for part in wanted]
    assert places == sorted(places) and "ood" not in text.split("Between two samples")[0].replace("How good", "")


def test_the_figures_of_a_page_are_from_one_source_and_say_which(run):
    """The tiles and the verdict are those of ``evaluate`` where it looked at the best step, and by the strictest ruler."""
    figure = {"value": 0.5, "floor": 0.5, "low": 0.5, "high": 0.5, "n": 6}
    near = {name: {**figure, "value": 0.9, "floor": 0.9} for name in ("precision", "recall", "coverage")}
    ours = {"step": 4, "n": 2000, "features": "CIFAR", "ema": True, "seed": 0, "metrics": {"fd": figure, **near}}
    far = {**figure, "value": 80.0, "floor": 4.0}
    theirs = {**ours, "features": "EfficientNet-Lite2", "metrics": {**near, "fd": far}}
    (run / "evaluation.json").write_text(json.dumps([ours, theirs]))
    report(run)
    text = text_of((run / "report.html").read_text())
    verdict, rest = text.split(
        "These figures: step 4, EfficientNet-Lite2 features, measured by evaluate on 2,000 samples."
    )
    assert "Far from the real images" in verdict and "20 times that of real images" in verdict
    assert (
        "FD (EfficientNet-Lite2 features) 80 real images 4" in verdict and "CIFAR" not in verdict.split("best step")[1]
    )
    assert "The curves below show CIFAR features of fewer samples" in rest
    tables = rest.split("By evaluate, in ")[1:]
    assert tables[0].startswith("CIFAR features") and "FD (CIFAR features) 0.5 (0.5 to 0.5)" in tables[0]
    assert (
        tables[1].startswith("EfficientNet-Lite2 features")
        and "FD (EfficientNet-Lite2 features) 80 (0.5 to 0.5) 4 6 lower" in tables[1]
    )
    assert "80 (" not in tables[0]


def test_a_comparison_says_in_a_sentence_which_run_is_better(run, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    def sentence(**changes):
        """Of the page of this run against one whose best step has these figures."""
        better = [{**line, **(changes if line["step"] == 4 else {})} for line in lines]
        (other / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in better))
        return text_of(report(run, against=other).read_text().split("<h2>")[0])

    how = "(steps 4 and 4, the best of each; CIFAR features, measured while training)"
    said = sentence(coverage=0.75)
    assert f"other is better: coverage 0.75 against 0.5 (real images 0.97, higher is better) {how}." in said
    assert f"Neither is better as far as these figures tell: coverage 0.5 and 0.51 {how}." in sentence(coverage=0.51)
    figure = {"value": 0.5, "floor": 0.9, "low": 0.45, "high": 0.55, "n": 6}
    mine = {
        "step": 4,
        "n": 2000,
        "features": "EfficientNet-Lite2",
        "ema": True,
        "seed": 0,
        "metrics": {"coverage": figure},
    }
    (run / "evaluation.json").write_text(json.dumps([{**mine, "metrics": {**mine["metrics"], "fd": figure}}]))
    assert "other is better" in sentence(coverage=0.75)  # which alone both have
    for value, wanted in (
        ({"fd": {**figure, "low": 0.3, "value": 0.35, "high": 0.4}}, "Neither is better in all: run has the higher coverage, 0.5 against 0.3 but other has the lower FD, 0.35 against 0.5"),
        ({"fd": {**figure, "low": 0.5, "value": 0.6, "high": 0.7}}, "run is better: coverage 0.5 against 0.3 (real images 0.9, higher is better); FD 0.5 against 0.6"),
    ):  # fmt: skip
        theirs = {**mine, "metrics": {**value, "coverage": {**figure, "low": 0.2, "value": 0.3, "high": 0.4}}}
        (other / "evaluation.json").write_text(json.dumps([theirs]))
        said = sentence(coverage=0.75)
        assert "EfficientNet-Lite2 features, by evaluate on 2,000 samples of seed 0" in said
        assert all(part in said for part in wanted.split(" but ")), said
    (other / "evaluation.json").write_text(json.dumps([{**mine, "metrics": {"fd": figure}}]))
    only = {**mine, "metrics": {"kid": figure}}  # neither coverage nor FD
    (run / "evaluation.json").write_text(json.dumps([only]))
    assert "CIFAR features, measured while training" in sentence()
    (other / "evaluation.json").write_text(json.dumps([only]))
    lines = [{name: value for name, value in line.items() if "kid" not in name} for line in lines]
    assert "is not known: other has not been measured" in sentence()
    images = json.loads((other / "images.json").read_text())
    (other / "images.json").write_text(json.dumps({**images, "sha256": "0" * 64}))
    assert "cannot be said: they were trained on different images" in sentence()


def test_evaluation_classes_and_several_starts_are_shown(run):
    figure = FIGURE
    (run / "evaluation.json").write_text(json.dumps([{"step": 6, "n": 6, "metrics": {"kid": figure}}]))
    (run / "classes.json").write_text(
        json.dumps({**CLASSES, "classes": [{"name": "odd", "share": {**figure, "n": 3}}], "finding": "Odd works best."})
    )
    pairs = np.random.default_rng(0).integers(0, 256, (32, 1, 1, 3), np.uint8).repeat(16, 1).repeat(16, 2)
    save_png(run / "pairs.png", grid(pairs, columns=8))
    once = json.loads((run / "timing.json").read_text())
    (run / "timing.json").write_text(json.dumps([{**once[0], "seconds": 3600}, {**once[0], "seconds": 125}]))
    report(run)
    page = (run / "report.html").read_text()
    text = text_of(page)
    assert (
        "step 6 floor n better KID (CIFAR features) 0.25 (0.125 to 0.75) 0.5 6 lower" in text
        and "odd 0.25 / 0.5" in text
    )
    assert "Note: Odd works best." in text and text.index("Odd works") < text.index("Losses")
    assert "1 h 2 min in 2 starts" in text
    (shown,) = pictures(page, '16 pairs[^"]*')
    assert shown.shape == (4 * 18 + 2, 8 * 18 + 2, 3)
    assert np.abs(shown.astype(int) - grid(pairs, columns=8)).mean() < 16


def test_chosen_samples_are_shown_beside_random_ones_and_it_says_which_are_which(run):
    report(run)
    assert "at random" not in text_of((run / "report.html").read_text())  # of a run that has not been evaluated
    random = np.random.default_rng(0)
    sheets = [random.integers(0, 256, (64, 1, 1, 3), np.uint8).repeat(16, 1).repeat(16, 2) for _ in range(2)]
    for name, images in zip(("best", "random"), sheets):
        save_png(run / f"{name}.png", grid(images, columns=8))
    report(run)
    page = (run / "report.html").read_text()
    for alt, images in zip(("the best 64 of 640", "64 at random"), sheets):
        (shown,) = pictures(page, alt)
        assert np.abs(shown.astype(int) - grid(images, columns=8)).mean() < 16
    text = text_of(page)
    assert "All figures of this page are of samples at random" in text and "generate --best 10%" in text


def test_a_resumed_run_adds_to_its_time(trained, photos, tmp_path):
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    config = Config.load(workdir / "config.json")
    fit(dataclasses.replace(config, steps=8), workdir)
    starts = json.loads((workdir / "timing.json").read_text())
    assert [(one["start"], one["step"]) for one in starts] == [(0, 6), (6, 8)]
    assert "in 2 starts" in text_of((workdir / "report.html").read_text())


def test_nothing_of_a_run_becomes_markup(run, tmp_path):
    hostile = run.rename(tmp_path / HOSTILE.replace("/", ""))
    (hostile / "classes.json").write_text(json.dumps({**CLASSES, "classes": [{"name": HOSTILE}], "finding": HOSTILE}))
    config = json.loads((hostile / "config.json").read_text())
    (hostile / "config.json").write_text(json.dumps({**config, "data": f"/x/{HOSTILE}", "background": "'\"><b>"}))
    timing = json.loads((hostile / "timing.json").read_text())
    (hostile / "timing.json").write_text(
        json.dumps([{**timing[0], "processor": HOSTILE, "versions": {HOSTILE: HOSTILE}}])
    )
    lines = (hostile / "metrics.jsonl").read_text().splitlines()
    lines[-1] = json.dumps({**json.loads(lines[-1]), f"{HOSTILE}'\"": 1.0, f"{HOSTILE}'\"_floor": 0.5})
    (hostile / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    report(hostile, out=tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert page.count("&lt;script&gt;alert(1)&lt;!-- body --&gt;") > 8
    seen = Tags(page).seen
    assert [tag for tag, _ in seen].count("script") == 1 and {"b", "figure", "input"} <= {tag for tag, _ in seen}
    for tag, attributes in seen:
        assert tag not in ("link", "base", "iframe", "object", "form", "a")
        for name, value in attributes:
            assert not name.startswith("on") and name not in ("href", "srcset", "action")
            assert name != "src" or value.startswith("data:image/webp;base64,")
    assert "default-src 'none'" in page and not re.findall(r"@import|url\(|fetch\(|import\(", page)


@pytest.mark.parametrize("gone", ["metrics.jsonl", "timing.json", "samples", "checkpoints", "images.json"])
def test_a_run_with_less_in_it_has_a_shorter_report(run, gone, tmp_path):
    path = run / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    report(run)
    page = (run / "report.html").read_text()
    assert "<h2>Verdict</h2>" in page
    assert ("has no checkpoint yet" in page) == (gone == "checkpoints")


def test_damaged_files_and_folders_that_are_no_run_are_refused(run, tmp_path):
    with pytest.raises(InputError, match="not the folder of a run"):
        report(tmp_path)
    for name, text in (
        ("timing.json", "{"),
        ("timing.json", "3"),
        ("evaluation.json", "[3]"),
        ("classes.json", "x"),
        ("classes.json", "[3]"),
        ("pairs.png", "x"),
    ):
        there = (run / name).read_text() if (run / name).exists() else None
        (run / name).write_text(text)
        with pytest.raises(InputError, match=f"{re.escape(name)} is damaged.*: delete it"):
            report(run)
        (run / name).write_text(there) if there else (run / name).unlink()


def test_training_ends_with_a_report_whatever_its_extras_hold(trained, photos, tmp_path, capsys):
    workdir = shutil.copytree(trained[0], tmp_path / "run")
    (workdir / "evaluation.json").write_text('[{"step": 6}]')
    (workdir / "classes.json").write_text("[3]")
    (workdir / "pairs.png").write_bytes(b"\x89PNG half")
    config = Config.load(workdir / "config.json")
    fit(dataclasses.replace(config, steps=8), workdir)
    text, printed = text_of((workdir / "report.html").read_text()), capsys.readouterr().err
    for name in ("evaluation.json", "classes.json", "pairs.png"):
        assert re.search(rf"Left out: /\S*{re.escape(name)} ", text), name
        assert re.search(rf"left out of report\.html: \S*{re.escape(name)} .*", printed), name
    assert "8 of 8 steps" in text


def test_noise_at_full_size_stays_under_five_megabytes(run):
    """Nothing compresses worse, and two runs share the room."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), np.uint8)
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "image_size": 64}))
    shutil.rmtree(run / "checkpoints")
    save_png(run / "samples" / "reals.png", grid(noise[:20], columns=5))
    save_png(run / "pairs.png", grid(noise, columns=8))
    for step in range(16):
        save_png(run / "samples" / f"step_{step:06d}.png", grid(noise, columns=8))
    report(run, against=run)
    page = (run / "comparison.html").read_bytes()
    assert 3_000_000 < len(page) < 5_000_000
    steps = [int(step) for step in re.findall(rb'data-step="(\d+)"', page)]
    assert (
        steps[: len(steps) // 2] == steps[len(steps) // 2 :] and len(steps) >= 6
    )  # what is left out is left out of both
    assert steps[0] == 0 and steps[-1] == 15


def test_sheets_are_cut_as_they_were_laid_out():
    images = np.random.default_rng(0).integers(0, 256, (10, 5, 5, 3), np.uint8)
    cut = tiles(grid(images, columns=4), 5, 5)
    assert cut.shape == (3, 4, 5, 5, 3)
    np.testing.assert_array_equal(cut.reshape(12, 5, 5, 3)[:10], images)
    assert tiles(grid(images[..., :1], columns=4)[..., 0], 5, 5).shape == (3, 4, 5, 5, 1)


PROBE = """
const fire = (where, type, more) => where.dispatchEvent(new PointerEvent(type, {bubbles: true, ...more}));
const plot = document.querySelector(".plot"), area = plot.querySelector(".area"), tip = plot.querySelector(".tip");
const box = area.getBoundingClientRect();
const hover = (share) => { fire(area, "pointermove", {clientX: box.left + share * box.width}); return tip.textContent; };
const result = {before: tip.hidden, left: hover(0), right: hover(1), shown: !tip.hidden};
plot.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowLeft"}));
result.key = tip.textContent;
fire(area, "pointerleave");
result.after = tip.hidden;
result.films = [...document.querySelectorAll(".film")].map(
  (film) => [...film.querySelectorAll("img:not([hidden])")].map((image) => image.dataset.step));
const slider = document.querySelector(".film input");
slider.value = 1;
slider.dispatchEvent(new Event("input"));
result.moved = [...document.querySelectorAll(".film")].map(
  (film) => [...film.querySelectorAll("img:not([hidden])")].map((image) => image.dataset.step));
result.label = [document.querySelector(".film output").textContent, slider.getAttribute("aria-valuetext")];
result.width = document.documentElement.clientWidth;
result.needed = document.documentElement.scrollWidth;
const cards = [...document.querySelectorAll("section")].map((card) => card.getBoundingClientRect());
result.gaps = cards.flatMap((a) => cards.filter((b) => b !== a && b.top >= a.bottom - 1 && b.left < a.right && a.left < b.right)
  .map((b) => b.top - a.bottom));
result.page = getComputedStyle(document.body).backgroundColor;
return result;
"""


@chromium.needed
def test_the_cards_of_one_run_do_not_touch(run, tmp_path):
    report(run, out=tmp_path / "page.html")
    browser = chromium.Browser(tmp_path / "profile")
    for width in (390, 1280):
        browser.emulate(width)
        browser.open(
            (tmp_path / "page.html").as_uri(), "document.readyState === 'complete' && document.querySelector('.plot')"
        )
        assert min(browser.run(f"(() => {{{PROBE}}})()")["gaps"]) == pytest.approx(16), width
    browser.close()


@chromium.needed
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_the_page_works_in_a_browser(run, tmp_path, width, dark):
    other = shutil.copytree(run, tmp_path / "other")
    (other / "samples" / "step_000002.png").unlink()
    report(run, against=other, out=tmp_path / "page.html")
    browser = chromium.Browser(tmp_path / "profile")
    browser.emulate(width, dark=dark)
    browser.open(
        (tmp_path / "page.html").as_uri(), "document.readyState === 'complete' && document.querySelector('.plot')"
    )
    result = browser.run(f"(() => {{{PROBE}}})()")
    browser.close()
    assert browser.errors == []
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for shown, line in ((result["left"], lines[0]), (result["right"], lines[-1]), (result["key"], lines[-2])):
        step, *values = shown.split("\n")
        assert step == f"step {line['step']}"
        for value, (name, metric) in zip(values, [(n, m) for n in ("run", "other") for m in "DG"], strict=True):
            label, number = value.rsplit(" ", 1)
            assert label == f"{name}: {metric}"
            assert float(number) == pytest.approx(line[f"loss_{metric}"], rel=1e-3)
    assert (result["before"], result["shown"], result["after"]) == (True, True, True)
    assert result["films"] == [["6"], ["6"]]
    assert result["moved"][0] == ["2"] and result["moved"][1] in (["0"], ["4"])  # the other follows
    assert result["label"] == ["step 2", "step 2"]
    assert min(result["gaps"]) == pytest.approx(16)  # cards do not touch
    assert result["width"] == width and result["needed"] <= width
    assert (sum(map(int, re.findall(r"\d+", result["page"])[:3])) < 200) == dark


def test_the_command_needs_no_tensorflow(run):
    code = f"""
import sys
sys.argv = ["report", "--workdir", {str(run)!r}]
from dcgan_jax.report import main
assert not {{"jax", "matplotlib", "PIL"}} & set(sys.modules)
main()
assert not {{"tensorflow", "matplotlib"}} & set(sys.modules)
"""
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r".*report\.html: 0\.\d MB; open it in a browser\n", done.stdout)
