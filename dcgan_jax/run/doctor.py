"""What the metrics of a run say about its health."""

from typing import NamedTuple

import numpy as np

LINES = 50
"""How many of the newest lines of metrics.jsonl are looked at for losses and gradients."""


class Finding(NamedTuple):
    """One thing that is wrong: its name, whether it needs action, the step, a sentence with what to try."""

    name: str
    alarm: bool
    step: int
    text: str


def findings(lines: list[dict], *, images: int) -> list[Finding]:
    """What is wrong with a run, the worst first; nothing for a healthy one.

    Args:
      lines: of metrics.jsonl, oldest first. Those of an evaluation also have ``kid``, ``diversity`` and so on.
      images: how many it is trained on.
    """
    evaluated = [line for line in lines if "kid" in line]
    recent = lines[-LINES:]
    everything = [_collapse(evaluated), _worse(evaluated), _won(recent, evaluated), _memory(evaluated)]
    everything += [_gradients(recent), _plateau(evaluated), _few(evaluated, images)]
    return sorted((finding for finding in everything if finding), key=lambda finding: not finding.alarm)


def score(line: dict) -> tuple[float, float]:
    """How good an evaluation is: the higher of two is the better one.

    Coverage (Naeem et al. 2020) counts, up to that of real images, then KID. Coverage sees variety as well as quality.
    KID looks at means, so that a small shift of all colours hides that shapes get better.
    """
    return min(line.get("coverage", 0.0), line.get("coverage_floor", 0.0)), -line["kid"]


def best(evaluated: list[dict]) -> dict:
    """The line of the best evaluation."""
    return max(evaluated, key=score)


def _median(lines, name):
    return float(np.median([line[name] for line in lines if name in line]))


def _collapse(evaluated):
    """Mean distance between samples over that between reals. It is low at first, and then rises, in a healthy run."""
    ratios = [line.get("diversity", 1.0) for line in evaluated]
    if len(ratios) >= 3 and (ratio := ratios[-1]) < min(0.5, 1.1 * max(ratios[:-1])):
        step = evaluated[-1]["step"]
        remedy = "Use the best checkpoint, or start again with --recipe projected if it is another"
        what = f"the samples of step {step} hardly differ: their diversity is {ratio:.2f} of the images'"
        return Finding("collapse", ratio < 0.2, step, f"{what}. {remedy}")
    return None


def _worse(evaluated):
    """Three evaluations in a row that got worse, by more than noise, than the best one.

    KID and FD count, unless coverage holds: a shift of colours alone is no reason to stop.
    """
    if not evaluated:
        return None
    top, now = best(evaluated), evaluated[-1]
    if score(now)[0] >= 0.95 * score(top)[0] and score(top)[0] < top.get("coverage_floor", 0.0):
        return None
    for name in ("kid", "fd"):
        values = [line.get(name, 0.0) for line in evaluated[-4:]]
        if len(values) < 4 or not values[0] < values[1] < values[2] < values[3]:
            continue
        if now[name] >= 1.2 * top[name] + now.get(f"{name}_floor", 0.0):
            what = f"the images get worse: {name.upper()} {now[name]:.3g} at step {now['step']}"
            best_was = f"the best was step {top['step']} with {top[name]:.3g}"
            return Finding(
                "worse", True, now["step"], f"{what}, {best_was}. Stop here: restore and generate take the best"
            )
    return None


def _won(recent, evaluated):
    """A low loss alone is no alarm: the generator may still learn."""
    losses = [_median(recent, name) for name in ("loss_D", "loss_D_heads") if recent and name in recent[-1]]
    if len(recent) < LINES or len(evaluated) < 3 or min(losses) > 0.05:
        return None
    newest = [line["kid"] for line in evaluated[-3:]]
    if min(newest[1:]) < 0.95 * newest[0]:
        return None
    what = f"the discriminator has won: its loss is {min(losses):.3f} and KID does not fall"
    remedy = "Start again with half the --learning-rate, or with --recipe projected if it is another"
    return Finding("won", True, recent[-1]["step"], f"{what}. {remedy}")


def _memory(evaluated):
    """The mean of three, because a few held-out images make each one rough."""
    newest = evaluated[-3:]
    names = [name for name in ("memory", "memory_heads") if len(newest) == 3 and all(name in line for line in newest)]
    share = max((float(np.mean([line[name] for line in newest])) for name in names), default=0.0)
    if share < 1 / 3:
        return None
    what = f"the discriminator knows its images by heart: others are {share:.0%} of the way to generated ones for it"
    remedy = "Use more images, --augment full if it is not on, or stop at the best step"
    return Finding("memory", False, evaluated[-1]["step"], f"{what}. {remedy}")


def _gradients(recent):
    names = [f"grad_norm_{network}" for network in ("D", "G", "D_heads")]
    worst = max(((_median(recent, name), name) for name in names if recent and name in recent[-1]), default=(0.0, ""))
    if worst[0] <= 100:
        return None
    what = f"the gradients are large: {worst[1]} is {worst[0]:.0f} in the middle of the last {len(recent)} lines"
    return Finding("gradients", False, recent[-1]["step"], f"{what}. Start again with a lower --learning-rate")


def _plateau(evaluated):
    """No evaluation of the newest six is better than the best before them, by a twentieth."""
    if len(evaluated) < 10 or _worse(evaluated):
        return None
    before, newest = best(evaluated[:-6]), best(evaluated[-6:])
    if newest["kid"] < 0.95 * before["kid"] or score(newest)[0] > 1.05 * score(before)[0]:
        return None
    what = f"nothing has improved since step {before['step']}"
    return Finding("plateau", False, evaluated[-1]["step"], f"{what}: more steps will not help")


def _few(evaluated, images):
    if images >= 1000 or not evaluated:
        return None
    what = f"{images} images are few: the discriminator soon knows them all"
    return Finding(
        "few", False, evaluated[-1]["step"], f"{what}. Use 1,000 or more with --augment auto, or stop at the best step"
    )
