"""No run is lost: resuming, signals, kills, full disks, damaged checkpoints, divergence."""

import contextlib
import dataclasses
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import equal, metrics_of

from dcgan_jax import restore, restore_state
from dcgan_jax.config import Config
from dcgan_jax.gan.average import generator_params
from dcgan_jax.gan.objectives import OBJECTIVES
from dcgan_jax.metrics import monitor
from dcgan_jax.run import checkpoints, loop, manifest, writer
from dcgan_jax.run import fit as fitting
from dcgan_jax.run.fit import fit
from dcgan_jax.run.schedule import steps_until_due
from dcgan_jax.system.errors import InputError, NonFiniteError, Stopped

SMALL = "--recipe classic --image-size 16 --width 4 --latent-dim 8 --batch-size 4 --log-every 2 --input numpy --sample-every 6 --checkpoint-every 3".split()


def logged(workdir):
    """Everything a run tells that two runs of one configuration must have in common.

    What a kill leaves of a single file, under a hidden name, is deleted an hour later.
    """
    samples = {path.name: path.read_bytes() for path in (workdir / "samples").glob("[!.]*")}
    return (workdir / "metrics.jsonl").read_bytes(), samples


class Held(fitting.HeldSignals):
    """Remembers the newest one, so that a test can wait until a signal has been taken by its thread."""

    def __enter__(self):
        Held.newest = self
        return super().__enter__()

    @staticmethod
    def take(number):
        """Send a signal to this process, and wait until it is taken."""
        os.kill(os.getpid(), number)
        end = time.monotonic() + 60
        while Held.newest.received is None:
            assert time.monotonic() < end
            time.sleep(0.001)


@pytest.fixture(autouse=True)
def held(monkeypatch):
    monkeypatch.setattr(fitting, "HeldSignals", Held)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what runs behind it
    yield
    signal.signal(signal.SIGINT, before)


def saved_steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit())


@contextlib.contextmanager
def steps_that(monkeypatch, do):
    """Inside the block, ``do(step, key, state, metrics)`` sees, and may replace, what each step returns."""
    real = loop.train_step

    def train_step(state, images, key, **options):
        state, metrics = real(state, images, key, **options)
        return do(int(state.step), key, state, metrics) or (state, metrics)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", train_step)
        yield


# --- exactness ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory):
    """An uninterrupted run of 7 steps over an epoch of 3: its configuration, folder and final state."""
    config = Config(
        data=str(photos), image_size=16, width=4, latent_dim=8, batch_size=4,
        steps=7, log_every=2, sample_every=3, checkpoint_every=3, evaluate_every=12,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("whole")
    return config, folder, fit(config, folder)


@pytest.mark.parametrize("cut", [1, 3, 4])  # within, at and after the end of an epoch; with and without a checkpoint
def test_an_interrupted_run_is_bit_identical_to_one_that_never_stopped(whole, tmp_path, monkeypatch, cut):
    config, folder, state = whole

    def interrupt(step, *_):
        if step == cut:
            Held.take(signal.SIGINT)  # SIGTERM ends a first step at once

    with steps_that(monkeypatch, interrupt), pytest.raises(Stopped, match=f"after step {cut}, which is saved"):
        fit(config, tmp_path)
    with open(tmp_path / "metrics.jsonl", "a") as metrics:  # as a killed run leaves it
        metrics.write('{"step": 12, "loss_D": 0.5, "loss_G": 0.7}\n{"step": 14, "lo')
    (tmp_path / "samples" / "step_000012.png").touch()
    unfinished = [
        tmp_path / "checkpoints" / name for name in ("5.orbax-checkpoint-tmp", "0.orbax-checkpoint-tmp-tried")
    ]
    for torn in unfinished:
        shutil.copytree(tmp_path / "checkpoints" / str(cut), torn)
    assert equal(fit(config, tmp_path), state)
    assert logged(tmp_path) == logged(folder) and not any(torn.exists() for torn in unfinished)


def test_a_run_that_is_extended_goes_on_as_if_it_had_been_longer(whole, tmp_path):
    config, folder, state = whole
    fit(dataclasses.replace(config, steps=5, checkpoint_every=2, keep_newest=1), tmp_path)
    assert equal(fit(config, tmp_path), state)
    steps = [line["step"] for line in metrics_of(tmp_path)]
    assert steps == [2, 3, 4, 5, 6, 7]  # and the last line of the shorter run
    assert [line for line in metrics_of(tmp_path) if line["step"] != 5] == metrics_of(folder)


@pytest.mark.slow
def test_how_steps_are_grouped_for_the_device_changes_nothing(whole, tmp_path, monkeypatch):
    config = dataclasses.replace(
        whole[0], dispatch="several", steps=23, log_every=5, sample_every=12, checkpoint_every=5, evaluate_every=28
    )
    real, taken, interrupt = loop.train_steps, [], {}

    def train_steps(state, batches, key, **options):
        taken.append((int(state.step), len(batches)))
        assert options["at_most"] == 5
        state, metrics = real(state, batches, key, **options)
        return interrupt.pop(taken[-1][0], lambda *both: both)(state, metrics)

    def stop(*both):
        Held.take(signal.SIGINT)  # SIGTERM ends a first step at once
        return both

    def diverge(state, metrics):
        return state, {**metrics, "loss_D": metrics["loss_D"].at[2].set(jnp.nan)}

    monkeypatch.setattr(loop, "train_steps", train_steps)
    state = fit(config, tmp_path / "whole")
    # Lines after each fifth step, a picture after 12; evaluated after 28, 56, 84 images.
    groups = [(0, 5), (5, 2), (7, 3), (10, 2), (12, 2), (14, 1), (15, 5), (20, 1), (21, 2)]
    assert taken == groups
    interrupt |= {0: stop, 15: diverge}
    with pytest.raises(Stopped, match="after step 5, which is saved"):
        fit(config, tmp_path / "cut")
    with pytest.raises(NonFiniteError, match="step 18"):  # of each step, not of the last alone
        fit(dataclasses.replace(config, retries=0), tmp_path / "cut")
    fit(dataclasses.replace(config, steps=17, sample_every=4), tmp_path / "cut")
    assert equal(fit(config, tmp_path / "cut"), state)
    assert [line for line in metrics_of(tmp_path / "cut") if line["step"] != 17] == metrics_of(tmp_path / "whole")
    assert (16, 1) in taken and (17, 3) in taken
    single = fit(dataclasses.replace(config, dispatch="single"), tmp_path / "single")
    for one, other in zip(jax.tree.leaves(single.ema), jax.tree.leaves(state.ema), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_what_is_sent_to_the_device_at_once_ends_where_something_is_due():
    """At most 25 steps, a number that divides ``log_every``; and each that is due is the last of its group."""
    for dispatch, log_every, most in (("single", 10, 1), ("auto", 10, 1), ("several", 10, 10), ("several", 60, 20)):
        assert loop.steps_per_dispatch(Config(dispatch=dispatch, log_every=log_every, sample_every=7)) == most
    config = Config(
        steps=240, batch_size=4, log_every=60, sample_every=33, checkpoint_every=70, keep_every=31, evaluate_every=400
    )
    step, ends = 0, []
    while step < config.steps:
        step += steps_until_due(step, config, 20)
        ends.append(step)
    due = {10, 25, 50, 100, 200, 60, 120, 180, 240, 33, 66, 99, 132, 165, 198, 231, 70, 140, 210, *range(31, 240, 31)}
    due |= {100, 200}  # evaluations
    assert due <= set(ends) and max(np.diff([0, *ends])) <= 20
    others = [end for end, before in zip(ends, [0, *ends]) if end not in due]
    assert all(end - before == 20 for end, before in zip(ends, [0, *ends]) if end in others)


def test_checkpoints_hold_everything(whole):
    config, folder, state = whole
    assert equal(restore_state(folder), state)
    assert equal(restore(folder, "newest"), generator_params(state))
    assert not equal(restore(folder, step=3), generator_params(state))
    assert equal(restore(folder, "newest", ema=False), generator_params(state, ema=False))


def test_the_newest_checkpoints_stay_and_one_every_so_often(whole, tmp_path):
    config = dataclasses.replace(whole[0], steps=13, checkpoint_every=2, keep_newest=2, keep_every=5)
    fit(config, tmp_path)
    assert saved_steps(tmp_path) == [5, 10, 12, 13]


# --- signals, kills and locks ---------------------------------------------------------------------


def start(workdir, photos, *arguments, patch=""):
    """A ``train`` command of its own, its step replaced by ``patch``, which may define ``train_step``."""
    code = f"""
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and this one where they run under nohup
from dcgan_jax.run import checkpoints, loop, writer
real = train_step = loop.train_step
{patch}
loop.train_step = train_step
from dcgan_jax.train import main
main()
"""
    flags = "--workdir", workdir, "--data", photos, *SMALL, *arguments
    return helpers.start("-c", code, *flags, variables={"GLIBC_TUNABLES": ""}, stderr=subprocess.STDOUT)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None or time.monotonic() > end:
            process.kill()  # else its output would never end
            pytest.fail(process.communicate()[0])
        time.sleep(0.05)


STUCK = """
def train_step(state, images, key, **options):
    if int(state.step) == 7:
        open(sys.argv[sys.argv.index("--workdir") + 1] + "/stuck", "w").close()
        time.sleep(600)
    return real(state, images, key, **options)
"""


@pytest.mark.slow
def test_signals_locks_and_a_second_ctrl_c(photos, tmp_path):
    workdir, other = tmp_path / "run", tmp_path / "other"
    stuck = start(workdir, photos, "--steps", 1000, patch=STUCK)
    wait_for((workdir / "stuck").exists, stuck)
    (workdir / "stuck").unlink()

    second = start(workdir, photos, "--steps", 1000)
    said = second.communicate()[0]
    assert second.returncode == 2 and said.splitlines()[-1].startswith(f"error: {workdir} is in use by another process")

    sent = 0
    while stuck.poll() is None and sent < 20:  # more than twice where a busy machine makes one of two
        stuck.send_signal(signal.SIGINT)
        sent += 1
        time.sleep(1)
    said = stuck.communicate(timeout=180)[0]
    assert (
        stuck.returncode == 130
        and sent > 1
        and "stopped at once: the same command resumes from the last checkpoint" in said
    )

    killed = start(workdir, photos, "--steps", 1000, patch=STUCK)
    wait_for((workdir / "stuck").exists, killed)  # the lock was free
    killed.kill()
    assert "resuming from step 6" in killed.communicate()[0]

    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        before = metrics_of(other)[-1]["step"] if other.exists() else 0
        running = start(other, photos, "--steps", 10**6)
        wait_for(lambda: len(lines := metrics_of(other)) and lines[-1]["step"] > before + 10, running)
        running.send_signal(number)
        said = running.communicate(timeout=180)[0]
        assert running.returncode == code, said
        step = int(re.search(r"stopped after step (\d+), which is saved: the same command resumes", said)[1])
        assert saved_steps(other)[-1] == step
    assert "resuming from step" in said
    finished = start(workdir, photos, "--steps", 8)
    assert "resuming from step 6" in finished.communicate()[0] and finished.returncode == 0


def test_ctrl_c_in_a_pipe_saves_though_the_reader_is_gone(photos, tmp_path):
    """The terminal sends it to all: ``tee`` ends at once."""
    patch = """
def train_step(state, images, key, **options):
    time.sleep(0.05)
    return real(state, images, key, **options)
"""
    run = start(tmp_path, photos, "--steps", 1000, "--log-every", 1, patch=patch)
    wait_for(lambda: len(metrics_of(tmp_path)) > 3, run)
    run.stdout.close()
    run.send_signal(signal.SIGINT)
    assert run.wait(timeout=180) == 130
    assert saved_steps(tmp_path)[-1] == metrics_of(tmp_path)[-1]["step"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_before_anything_is_trained_ends_at_once(photos, tmp_path, number, code):
    patch = """
def prepare(*_, **__):
    open(sys.argv[sys.argv.index("--workdir") + 1] + "/../preparing", "w").close()
    while True:  # a signal that comes just before a sleep is taken after it
        time.sleep(0.1)
from dcgan_jax.data import store
store.prepare = prepare
"""
    run = start(tmp_path / "run", photos, patch=patch)
    wait_for((tmp_path / "preparing").exists, run)
    run.send_signal(number)
    assert run.communicate(timeout=180)[0].splitlines()[-1] == "stopped: the same command starts again"
    assert run.returncode == code and not (tmp_path / "run").exists()


def test_a_signal_in_the_last_step_changes_nothing(whole, tmp_path, monkeypatch):
    config, folder, state = whole

    def interrupt(step, *_):
        if step == 7:
            Held.take(signal.SIGINT)

    with steps_that(monkeypatch, interrupt):
        assert equal(fit(config, tmp_path), state)
    assert logged(tmp_path) == logged(folder) and (tmp_path / "report.html").exists()


def test_signals_are_held_until_the_last_checkpoint_is_written(photos, tmp_path):
    patch = """
def train_step(state, images, key, **options):
    time.sleep(0.05)
    return real(state, images, key, **options)
def close(*_):
    for i in range(60_000):
        with open(sys.argv[sys.argv.index("--workdir") + 1] + "/closing", "w") as file:
            file.write("." * i)
        time.sleep(0.01)
checkpoints.Checkpoints.__exit__ = close
"""
    run = start(tmp_path, photos, "--steps", 1000, patch=patch)
    wait_for(lambda: metrics_of(tmp_path), run)
    run.send_signal(signal.SIGTERM)
    wait_for((tmp_path / "closing").exists, run)
    run.send_signal(signal.SIGTERM)  # some send it again and again
    before = (tmp_path / "closing").stat().st_size
    wait_for(lambda: (tmp_path / "closing").stat().st_size > before + 20, run)  # it goes on
    run.send_signal(signal.SIGINT)
    assert "stopped at once" in run.communicate(timeout=180)[0] and run.returncode == 130


@pytest.mark.parametrize("line", ["garbage", "5", '{"loss_D": 1}', "\xff"])
def test_a_damaged_line_of_metrics_is_named(whole, tmp_path, line):
    config, folder, _ = whole
    workdir = shutil.copytree(folder, tmp_path / "run")
    first, *rest = (workdir / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (workdir / "metrics.jsonl").write_bytes(first + line.encode("latin-1") + b"\n" + b"".join(rest))
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 2 is damaged .*: remove it"):
        fit(dataclasses.replace(config, steps=9), workdir)


@pytest.mark.slow
def test_a_closed_console_is_no_error(photos, tmp_path):
    train = f"{sys.executable} -m dcgan_jax.train --data {photos} {' '.join(SMALL)} --steps 2 --workdir {tmp_path}/run"
    assert subprocess.run(["bash", "-c", f"{train} >&- 2>&-"]).returncode == 0
    assert saved_steps(tmp_path / "run") == [2]
    assert subprocess.run(["bash", "-c", f"{train} --batch-size 100 >&- 2>&-"]).returncode == 2


def test_other_images_than_at_the_start_are_refused(photos, tmp_path):
    data, workdir = shutil.copytree(photos, tmp_path / "data"), tmp_path / "run"
    config = Config(data=str(data), image_size=16, width=4, latent_dim=8, batch_size=4, steps=2)
    fit(config, workdir)
    settings = (workdir / "config.json").read_bytes()
    longer = dataclasses.replace(config, steps=4)
    shutil.copy(data / "even" / "00.png", data / "one_more.png")
    with pytest.raises(
        InputError, match=r"has other images than when .* was started \(13 now, 12 then\): .* or delete .*images\.json"
    ):
        fit(longer, workdir)
    assert (workdir / "config.json").read_bytes() == settings
    (data / "one_more.png").unlink()
    assert fit(longer, workdir).step == 4
    shutil.copy(data / "even" / "00.png", data / "one_more.png")
    (workdir / "images.json").unlink()
    assert fit(dataclasses.replace(config, steps=5), workdir).step == 5


def test_a_run_does_not_learn_its_own_pictures(photos, tmp_path):
    data = shutil.copytree(photos, tmp_path / "data")
    with pytest.raises(
        InputError, match="run is inside the image folder .*data, and its pictures would be used for training"
    ):
        fit(Config(data=str(data), batch_size=4), data / "run")
    assert not (data / "run").exists()


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_where_an_undisturbed_one_does(tmp_path, monkeypatch):
    """kill -9 at 14 random moments: while the images are prepared, while the step is compiled for the
    first time, in steps, and in checkpoints, one of which is under way at nearly any time."""
    killed, cache, temporary = tmp_path / "killed", tmp_path / "cache", tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("DCGAN_JAX_CACHE", str(cache))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")  # what it compiles is kept in its own cache folder
    arguments = ["--checkpoint-every", 5, "--keep-newest", 2]
    chance, starts, leftovers = random.Random(0), [], {"stores": 0, "checkpoints": 0}

    def unfinished(kind):
        return list({"stores": cache / "stores", "checkpoints": killed / "checkpoints"}[kind].glob("*.*"))

    def stepped(before):
        return len(lines := metrics_of(killed)) and lines[-1]["step"] != before

    for life in range(14):
        before = lines[-1]["step"] if (lines := metrics_of(killed)) else 0
        process = start(killed, "sprites", *arguments, "--steps", 10**6)
        if life < 2:
            wait_for(lambda: unfinished("stores"), process)
            wait = chance.uniform(0, 0.5)
        elif life < 4:  # first compilation, which takes about 10 seconds
            wait_for((cache / "xla").exists, process)
            wait = chance.uniform(0, 8)
        else:
            wait_for(lambda: stepped(before), process)
            if life % 3 == 0:
                wait_for(lambda: unfinished("checkpoints"), process)
            wait = 0 if life % 3 == 0 else chance.uniform(0, 3)
        time.sleep(wait)
        process.kill()
        said = process.communicate()[0]
        assert process.returncode == -signal.SIGKILL, said
        starts += map(int, re.findall(r"resuming from step (\d+)", said))
        for kind in leftovers:
            leftovers[kind] += len(unfinished(kind))
    assert len(starts) > 6 and starts == sorted(starts)
    assert all(leftovers.values()), leftovers

    steps = max(saved_steps(killed)) + 7
    for workdir in (killed, tmp_path / "whole"):
        done = start(workdir, "sprites", *arguments, "--steps", steps)
        assert done.wait() == 0, done.communicate()[0]
        done.stdout.close()
    states = [restore_state(workdir) for workdir in (killed, tmp_path / "whole")]
    assert int(states[0].step) == steps and equal(*states)
    assert logged(killed) == logged(tmp_path / "whole")
    assert [*unfinished("stores"), *unfinished("checkpoints"), *temporary.iterdir()] == []


@pytest.fixture
def mount():
    """Mounts a tmpfs for the commands of one shell script, in a namespace of their own."""
    prefix = ["unshare", "--map-root-user", "--mount"]
    if (
        not shutil.which("unshare")
        or subprocess.run([*prefix, "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode
    ):
        pytest.skip("mounting is not permitted here")

    def run(script):
        return subprocess.run([*prefix, "bash", "-ec", script], capture_output=True, text=True)

    return run


@pytest.mark.slow
def test_a_full_disk_is_named_and_the_last_checkpoint_is_whole(photos, tmp_path, mount):
    """Each checkpoint of this network takes 40 KiB. What fills the disk comes between two of them."""
    train = f"{sys.executable} -m dcgan_jax.train --workdir {tmp_path}/run --data {photos} {' '.join(SMALL)} --sample-every 1000"
    done = mount(f"""
mount -t tmpfs -o size=2m none {tmp_path}
{train} --steps 6 >{tmp_path}/said
free=$(df --output=avail -B1 {tmp_path} | tail -1)
head -c $((free - 24000)) /dev/zero >{tmp_path}/filler
rc=0; {train} --steps 9 2>&1 || rc=$?; echo "rc $rc"
{sys.executable} -m dcgan_jax.generate --workdir {tmp_path}/run --num 1 --out {tmp_path}/pictures
rm {tmp_path}/filler
{train} --steps 9 2>&1
""")
    assert done.returncode == 0, done.stderr + done.stdout
    refused, _, rest = done.stdout.partition("rc 2\n")
    assert re.search(
        rf"error: {tmp_path}/run has [\d.]+ MiB free, but a checkpoint needs [\d.]+ MiB: make room or", refused
    ), refused
    assert "1 images and grid.png" in rest and "resuming from step 6" in rest and "examples/sec" in rest


@pytest.mark.slow
@pytest.mark.parametrize(("full", "steps"), [("tensorboard", 2000), ("samples", 12)])
def test_a_disk_full_of_something_else_is_named_with_the_room_that_is_left(photos, tmp_path, mount, full, steps):
    """The disk fills up between checkpoints: the log meets it first."""
    train = f"{sys.executable} -m dcgan_jax.train --workdir {tmp_path} --data {photos} {' '.join(SMALL)} --checkpoint-every 100000"
    done = mount(f"""
{train} --steps 1 >/dev/null
rm -r {tmp_path}/{full}; mkdir {tmp_path}/{full}
mount -t tmpfs -o size=100k none {tmp_path}/{full}
head -c 1000000 /dev/zero >{tmp_path}/{full}/filler || true
rc=0; {train} --steps {steps} --keep-every 100000 2>&1 || rc=$?; echo "rc $rc"
""")
    if full == "samples":  # which a run can be without
        assert done.stdout.endswith("rc 0\n") and "step_000012.png or progress.png could not be made" in done.stdout
        return
    *_, error, code = done.stdout.splitlines()
    assert code == "rc 2" and "Traceback" not in done.stdout, done.stdout + done.stderr
    said = rf"error: cannot write {tmp_path}/{full}.*: No space left on device \(0\.0 MiB free: make room, and run the same command again\)"
    assert re.fullmatch(said, error), error


@pytest.mark.slow
def test_a_write_that_fails_half_way_leaves_the_last_checkpoint(photos, tmp_path):
    """No file may grow any more, as on a full disk, from the first checkpoint on."""
    patch = """
def train_step(state, images, key, **options):
    if int(state.step) == 4:
        import resource
        while not os.path.exists(sys.argv[sys.argv.index("--workdir") + 1] + "/checkpoints/3"):
            time.sleep(0.05)
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, -1))
    return real(state, images, key, **options)
"""
    limited = start(tmp_path, photos, "--width", 8, "--steps", 20, "--sample-every", 1000, patch=patch)
    said = limited.communicate(timeout=120)[0]
    assert limited.returncode == 2, said
    assert re.fullmatch(
        rf"error: cannot write a checkpoint to {tmp_path}/checkpoints: .*File too large.*", said.splitlines()[-1]
    ), said
    whole = re.search(r"that of step (\d+) is complete. Fix this and run the same command to resume", said)
    again = start(tmp_path, photos, "--width", 8, "--steps", 20, "--sample-every", 1000)
    assert f"resuming from step {whole[1]} " in again.communicate()[0] and again.returncode == 0
    assert all(name.name.isdigit() for name in (tmp_path / "checkpoints").iterdir())


def test_a_folder_that_cannot_be_written_is_refused_by_name(photos, tmp_path, mount):
    done = mount(f"""
mount -t tmpfs none {tmp_path}; mount -o remount,ro {tmp_path}
rc=0; {sys.executable} -m dcgan_jax.train --workdir {tmp_path}/run --data {photos} {" ".join(SMALL)} 2>&1 || rc=$?; echo "rc $rc"
""")
    assert done.stdout.splitlines()[-2:] == [
        f"error: cannot write {tmp_path}/run: Read-only file system (nothing can be written there: give another folder)",
        "rc 2",
    ]


@pytest.mark.slow
def test_a_full_temporary_folder_is_named(whole, tmp_path, mount):
    """Whoever reads a run that goes on copies the checkpoint there first."""
    _, folder, _ = whole
    done = mount(f"""
mount -t tmpfs -o size=16k none {tmp_path}
rc=0; TMPDIR={tmp_path} {sys.executable} -m dcgan_jax.generate --workdir {folder} --num 1 --out {folder}/pictures 2>&1 || rc=$?
echo "rc $rc"
""")
    said = done.stdout.splitlines()
    assert said[-1] == "rc 2" and re.match(f"error: cannot write {tmp_path}/.*: No space left .* free", said[-2]), said


@pytest.mark.slow
def test_checkpoints_that_cannot_be_written_are_found_out_before_training(photos, tmp_path, mount):
    train = f"{sys.executable} -m dcgan_jax.train --workdir {tmp_path} --data {photos} {' '.join(SMALL)}"
    done = mount(f"""
{train} --steps 3 >/dev/null
mount --bind {tmp_path}/checkpoints {tmp_path}/checkpoints; mount -o remount,ro,bind {tmp_path}/checkpoints
rc=0; {train} --steps 6 2>&1 || rc=$?; echo "rc $rc"
""")
    *said, error, code = done.stdout.splitlines()
    assert code == "rc 2" and re.match(
        f"error: cannot write {tmp_path}/checkpoints/.*: Read-only file system", error
    ), done.stdout
    assert not any("img/s" in line for line in said)


def test_a_checkpoint_folder_that_is_gone_is_named_at_once(photos, tmp_path):
    patch = """
def train_step(state, images, key, **options):
    if int(state.step) == 4:
        folder = sys.argv[sys.argv.index("--workdir") + 1] + "/checkpoints"
        while not os.path.exists(folder + "/3"):
            time.sleep(0.05)
        os.rename(folder, folder + ".moved")
        open(folder, "w").close()
    return real(state, images, key, **options)
"""
    lost = start(tmp_path, photos, "--steps", 20, "--sample-every", 1000, patch=patch)
    said = lost.communicate(timeout=180)[0]
    assert lost.returncode == 2 and "Traceback" not in said, said
    assert re.match(f"error: cannot write .*{tmp_path}/checkpoints: ", said.splitlines()[-1]), said


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 10] ^= 0x40  # values come first; what nothing reads lies at the end
    path.write_bytes(content)


def data_files(folder):
    """The files with the values. Which holds what is another matter in each checkpoint."""
    return [path for path in folder.rglob("*") if path.is_file() and path.parent.name == "d"]


def biggest(folder):
    return max(data_files(folder), key=lambda path: path.stat().st_size)


DAMAGE = {
    "one bit flipped": lambda step: flip(biggest(step)),
    "truncated": lambda step: os.truncate(biggest(step), 100),
    "garbage": lambda step: biggest(step).write_bytes(random.Random(0).randbytes(5000)),
    "a file missing": lambda step: biggest(step).unlink(),
    "no manifest": lambda step: (step / "manifest.json").write_text('{"cust'),
    "empty": lambda step: [shutil.rmtree(path) for path in step.iterdir() if path.is_dir()],
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(whole, tmp_path, capfd, kind):
    config, folder, state = whole
    workdir = shutil.copytree(folder, tmp_path / "run")
    DAMAGE[kind](workdir / "checkpoints" / "7")
    generator = restore(workdir, "newest")
    if said := capfd.readouterr().err:
        assert re.fullmatch(r"the checkpoint of step 7 is damaged \(.+\); using another\n", said)
        assert equal(generator, restore(folder, step=6))
        with pytest.raises(InputError, match=r"can be read: step 7 \("):
            restore(workdir, step=7)
    else:  # the damage lies in what sampling does not read
        assert equal(generator, generator_params(state)) and kind not in ("no manifest", "empty")
    assert equal(fit(config, workdir), state)
    said = [line for line in capfd.readouterr().err.splitlines() if "the checkpoint" in line]
    assert len(said) == 1 and re.fullmatch(
        rf"the checkpoint of step 7 is damaged \(.+\) and was moved to {workdir}/damaged/7", said[0]
    )
    assert saved_steps(workdir) == [3, 6, 7] and (workdir / "damaged" / "7").is_dir()
    assert logged(workdir) == logged(folder)


def test_the_best_checkpoint_is_kept_and_restored(whole, tmp_path, monkeypatch, capfd):
    """Wherever a run is cut, the figures are those of the undisturbed one, and the best checkpoint stays on the disk."""
    config, folder, _ = whole
    scores = {
        line["step"]: (min(line["coverage"], line["coverage_floor"]), -line["kid"])
        for line in metrics_of(folder)
        if "kid" in line
    }
    assert list(scores) == [3, 6, 7]
    best = max(scores, key=scores.get)
    assert int(restore(folder).step) == best
    assert ("the newest is step 7" in capfd.readouterr().err) == (best != 7)
    invented = iter([0.9, 0.5, 0.3, 0.4])  # the floor, steps 3, 6 and 7
    prdc = monitor.prdc
    monkeypatch.setattr(monitor, "prdc", lambda *sets: prdc(*sets)._replace(coverage=next(invented)))
    fit(dataclasses.replace(config, keep_newest=1), tmp_path)
    assert saved_steps(tmp_path) == [3, 7] and int(restore(tmp_path).step) == 3
    assert "restoring step 3, the best; the newest is step 7" in capfd.readouterr().err
    assert int(restore(tmp_path, "newest").step) == int(restore_state(tmp_path).step) == 7


def test_only_damaged_checkpoints_are_an_error_not_a_new_start(whole, tmp_path):
    config, folder, _ = whole
    workdir = shutil.copytree(folder, tmp_path / "run")
    for step in (3, 6, 7):
        DAMAGE["no manifest"](workdir / "checkpoints" / str(step))
    for use in (lambda: fit(config, workdir), lambda: restore(workdir, "newest")):
        with pytest.raises(
            InputError, match=r"no requested checkpoint in .* can be read: step 7 .*; step 6 .*; step 3 "
        ):
            use()
    assert saved_steps(workdir) == [3, 6, 7]


@pytest.mark.parametrize("part", ["d", "7"])  # the arrays, the manifest
def test_a_file_that_cannot_be_read_is_no_damage(whole, tmp_path, monkeypatch, part):
    config, folder, _ = whole
    workdir = shutil.copytree(folder, tmp_path / "run")
    read = manifest.read_bytes

    def broken_disk(path, **options):
        if path.parent.name == part and "/7/" in str(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read(path, **options)

    monkeypatch.setattr(manifest, "read_bytes", broken_disk)
    for use in (lambda: fit(config, workdir), lambda: restore(workdir, step=7)):
        with pytest.raises(
            InputError, match=f"cannot read {workdir}/.*/{part}/.*: .*fix this and run the same command again"
        ):
            use()
    assert saved_steps(workdir) == [3, 6, 7]


def test_special_files_in_a_checkpoint_are_never_opened(whole, tmp_path, capfd):
    """A pipe would wait for ever, a link may lead anywhere."""
    config, folder, _ = whole
    for i, make in enumerate((os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.symlink_to("/"))):
        for name in ("manifest.json", "d/extra"):
            workdir = shutil.copytree(folder, tmp_path / f"{i}{name[0]}")
            place = workdir / "checkpoints" / "7" / name
            place.parent.mkdir(exist_ok=True)
            place.unlink(missing_ok=True)
            make(place)
            assert equal(restore(workdir, "newest"), restore(folder, step=6))
            assert re.search(rf"step 7 is damaged \({place.name} is no regular file\)", capfd.readouterr().err)


def test_the_checkpoint_of_another_run_or_step_is_not_taken(whole, tmp_path, capfd):
    config, folder, _ = whole
    other = dataclasses.replace(config, seed=1)
    fit(other, tmp_path / "other")
    workdir = shutil.copytree(folder, tmp_path / "run")
    shutil.rmtree(workdir / "checkpoints" / "7")
    shutil.copytree(tmp_path / "other" / "checkpoints" / "7", workdir / "checkpoints" / "7")
    assert (
        equal(restore(workdir, "newest"), restore(folder, step=6)) and "step 7 of another run" in capfd.readouterr().err
    )
    shutil.rmtree(workdir / "checkpoints" / "7")
    shutil.copytree(workdir / "checkpoints" / "6", workdir / "checkpoints" / "9")
    assert equal(restore(workdir, "newest"), restore(folder, step=6)) and "step 9 is damaged" in capfd.readouterr().err
    capfd.readouterr()
    fit(config, workdir)
    assert "was moved to" in capfd.readouterr().err and saved_steps(workdir) == [3, 6, 7]


def test_a_checkpoint_without_a_manifest_is_set_aside_not_deleted(whole, tmp_path, capfd):
    """It may be that of a killed process, or of an older version."""
    config, folder, state = whole
    workdir = shutil.copytree(folder, tmp_path / "run")
    (workdir / "checkpoints" / "7" / "manifest.json").unlink()
    assert equal(fit(config, workdir), state)
    assert "step 7 is damaged (it has no manifest)" in capfd.readouterr().err and (workdir / "damaged" / "7").is_dir()


def test_metrics_that_end_before_a_checkpoint_lead_back_to_where_both_are(whole, tmp_path, capfd):
    """As a power cut may leave them on a disk that orders writes as it likes."""
    config, folder, state = whole
    workdir = shutil.copytree(folder, tmp_path / "run")
    lines = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)
    (workdir / "metrics.jsonl").write_text("".join(lines[:3]))  # steps 2, 3 and 4: the checkpoints are of 3, 6 and 7
    assert equal(fit(config, workdir), state) and logged(workdir) == logged(folder)
    said = capfd.readouterr()
    assert (
        "step 7 is later than metrics.jsonl, which ends at step 4, and was moved" in said.err
        and "resuming from step 6" in said.out
    )


def test_metrics_that_end_before_all_checkpoints_move_none_of_them(whole, tmp_path):
    config, folder, state = whole
    workdir = shutil.copytree(folder, tmp_path / "run")
    before = {
        step: json.loads((workdir / f"checkpoints/{step}/manifest.json").read_text())["logged"] for step in (3, 6, 7)
    }
    assert before == {3: 2, 6: 4, 7: 6}
    shutil.rmtree(workdir / "checkpoints" / "3")
    text = (workdir / "metrics.jsonl").read_text().splitlines(keepends=True)[0]
    (workdir / "metrics.jsonl").write_text(text)
    with pytest.raises(
        InputError, match=r"ends at step 2, before all checkpoints \(6 to 7\): bring back .* or delete it"
    ):
        fit(config, workdir)
    assert saved_steps(workdir) == [6, 7] and not (workdir / "damaged").exists()
    (workdir / "metrics.jsonl").unlink()  # the remedy
    assert equal(fit(config, workdir), state)


def test_copies_that_a_user_makes_of_checkpoints_stay(whole, tmp_path):
    config, folder, _ = whole
    workdir = shutil.copytree(folder, tmp_path / "run")
    for name in ("7.copy", "6.partial", "6.partial.orbax-checkpoint-tmp", "3.deleted", "0.trial-a"):
        shutil.copytree(folder / "checkpoints" / "7", workdir / "checkpoints" / name)
    fit(config, workdir)
    assert {path.name for path in (workdir / "checkpoints").iterdir() if not path.name.isdigit()} == {"7.copy"}


def test_a_damaged_score_is_named_and_no_checkpoint_is_deleted_for_it(whole, tmp_path):
    config, folder, _ = whole
    workdir = shutil.copytree(folder, tmp_path / "run")
    score = next((workdir / "checkpoints").glob("*/score.json"))
    score.write_text("[0.5,")
    for use in (lambda: restore(workdir), lambda: fit(dataclasses.replace(config, steps=8), workdir)):
        with pytest.raises(InputError, match=f"{score} is damaged .*: bring a copy back, or delete it"):
            use()
    assert {3, 6, 7} <= set(saved_steps(workdir))
    score.unlink()  # the remedy
    assert int(restore(workdir).step) in (3, 6, 7)


@pytest.mark.slow
def test_losses_given_as_an_object_are_missed_when_they_are_left_out(photos, tmp_path):
    config = Config(data=str(photos), image_size=16, width=4, latent_dim=8, batch_size=4, steps=2, log_every=2)
    fit(config, tmp_path / "hinge", objective=OBJECTIVES["hinge"])
    fit(config, tmp_path / "bce")
    longer = dataclasses.replace(config, steps=3)
    for name, options in (("hinge", {}), ("bce", {"objective": OBJECTIVES["hinge"]})):
        with pytest.raises(InputError, match="objective=.*another --workdir"):
            fit(longer, tmp_path / name, **options)
    assert int(fit(longer, tmp_path / "hinge", objective=OBJECTIVES["hinge"]).step) == 3


@pytest.mark.slow
def test_checkpoints_and_grids_do_not_fill_the_disk_of_a_long_run(whole, tmp_path, monkeypatch):
    from dcgan_jax.run import log

    monkeypatch.setattr(checkpoints, "KEPT", 4)
    monkeypatch.setattr(log, "GRIDS", 8)
    config = dataclasses.replace(whole[0], steps=40, checkpoint_every=2, keep_newest=1, keep_every=2, sample_every=1)
    fit(config, tmp_path)
    assert saved_steps(tmp_path) == [16, 32, 40]
    grids = sorted(int(path.stem.removeprefix("step_")) for path in (tmp_path / "samples").glob("step_*"))
    assert len(grids) <= 9 and grids[0] == 0 and grids[-1] == 40


@pytest.mark.slow
def test_readers_find_whole_checkpoints_while_a_run_replaces_them(photos, tmp_path):
    run = start(
        tmp_path, photos, "--steps", 10**6, "--checkpoint-every", 1, "--keep-newest", 1, "--sample-every", 10**6
    )
    wait_for(lambda: saved_steps(tmp_path) if (tmp_path / "checkpoints").exists() else [], run)
    try:
        for _ in range(40):
            params = restore(tmp_path)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))
        assert run.poll() is None
    finally:
        run.kill()
        run.communicate()


@pytest.mark.slow
def test_a_closed_terminal_saves(photos, tmp_path):
    run = start(tmp_path, photos, "--steps", 10**6)
    wait_for(lambda: metrics_of(tmp_path), run)
    run.send_signal(signal.SIGHUP)
    said = run.communicate(timeout=180)[0]
    assert run.returncode == 129 and "stopped after step" in said
    patch = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"  # as nohup does
    before = metrics_of(tmp_path)[-1]["step"]
    run = start(tmp_path, photos, "--steps", 10**6, patch=patch)
    wait_for(lambda: metrics_of(tmp_path)[-1]["step"] > before + 10, run)
    run.send_signal(signal.SIGHUP)
    after = metrics_of(tmp_path)[-1]["step"]
    wait_for(lambda: metrics_of(tmp_path)[-1]["step"] > after + 10, run)
    run.kill()
    assert "stopped after step" not in run.communicate()[0]


# --- extras ---------------------------------------------------------------------------------------


class NoMemory:
    """In place of the monitor."""

    def __init__(self, *_, **__):
        raise MemoryError("no memory for features")


def test_a_run_survives_what_it_can_be_without(whole, tmp_path, monkeypatch, capfd):
    """Evaluations, the report and pictures: each failure is named, and the report is made at the next start."""
    config, folder, state = whole

    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(writer, "Monitor", NoMemory)
        patch.setattr("dcgan_jax.run.report.page", full)
        patch.setattr("dcgan_jax.run.log.save_progress", full)
        assert equal(fit(config, tmp_path), state)
    said = capfd.readouterr().err
    for what in ("the evaluation of step 6", "samples/step_000006.png or progress.png", "report.html"):
        assert re.search(rf"{what} could not be made, and the run goes on: .+$", said, re.MULTILINE), what
    assert saved_steps(tmp_path) == [3, 6, 7] and not (tmp_path / "report.html").exists()
    losses = [{name: value for name, value in line.items() if name in ours} for line, ours in
              zip(metrics_of(folder), metrics_of(tmp_path), strict=True)]  # fmt: skip
    assert losses == metrics_of(tmp_path) and not any("kid" in line for line in losses)
    assert int(restore(tmp_path).step) == 7  # the newest, for none was measured
    fit(config, tmp_path)
    assert (tmp_path / "report.html").exists() and (tmp_path / "progress.png").exists()


def ends_in(what, workdir, config, *, times=1):
    """Start a process that trains and ends, as by kill -9, in the evaluation of step 6 or in the report."""
    code = f"""
import os
from dcgan_jax import fit
from dcgan_jax.config import Config
from dcgan_jax.run import report, writer
class Monitor(writer.Monitor):
    def __call__(self, state):
        if int(state.step) == 6:
            os._exit(9)
        return super().__call__(state)
if {what!r} == "evaluation":
    writer.Monitor = Monitor
else:
    report.page = lambda *_, **__: os._exit(9)
fit({config!r}, {str(workdir)!r})
"""
    for _ in range(times):
        assert subprocess.run([sys.executable, "-c", code]).returncode == 9


@pytest.mark.slow
def test_a_run_killed_between_saving_and_measuring_measures_at_its_next_start(whole, tmp_path):
    config, folder, state = whole
    ends_in("evaluation", tmp_path, config)
    assert saved_steps(tmp_path) == [3, 6] and [line["step"] for line in metrics_of(tmp_path)] == [2, 3, 4]
    assert equal(fit(config, tmp_path), state)
    assert logged(tmp_path) == logged(folder)
    assert int(restore(tmp_path).step) == int(restore(folder).step)
    assert not (tmp_path / "measuring.json").exists()


@pytest.mark.slow
def test_an_evaluation_that_always_ends_the_process_is_left_out(whole, tmp_path, capfd):
    config, folder, state = whole
    ends_in("evaluation", tmp_path, config, times=3)
    assert equal(fit(config, tmp_path), state)
    assert "the evaluation of step 6 could not be made, and the run goes on: it has" in capfd.readouterr().err
    assert ["kid" in line for line in metrics_of(tmp_path) if line["step"] in (3, 6, 7)] == [True, False, True]


@pytest.mark.slow
def test_a_report_that_a_kill_prevented_is_written_at_the_next_start(whole, tmp_path):
    config, _, state = whole
    ends_in("report", tmp_path, config)
    assert saved_steps(tmp_path)[-1] == 7 and not (tmp_path / "report.html").exists()
    assert equal(fit(config, tmp_path), state) and (tmp_path / "report.html").exists()
    written = (tmp_path / "report.html").stat().st_mtime_ns
    fit(config, tmp_path)
    assert (tmp_path / "report.html").stat().st_mtime_ns == written


BLOCKED = """
def block(*_, **__):
    open(sys.argv[sys.argv.index("--workdir") + 1] + "/blocked", "w").close()
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["train_step", "writer.Monitor"])
def test_sigterm_ends_a_run_at_once_while_it_has_nothing_to_save(photos, tmp_path, where):
    """While the first step is compiled, and while what is saved is measured."""
    arguments = ["--steps", 12, "--evaluate-every", 24]
    run = start(tmp_path, photos, *arguments, patch=f"{BLOCKED}\n{where} = block")
    wait_for((tmp_path / "blocked").exists, run)
    run.send_signal(signal.SIGTERM)
    said = run.communicate(timeout=180)[0]
    assert run.returncode == 143 and "stopped: nothing is lost" in said, said
    assert saved_steps(tmp_path) == ([] if where == "train_step" else [3, 6])
    again = start(tmp_path, photos, *arguments)
    said = again.communicate(timeout=300)[0]
    assert again.returncode == 0 and ("resuming from step 6" in said) == (where == "writer.Monitor"), said
    assert ["kid" in line for line in metrics_of(tmp_path) if line["step"] in (6, 12)] == [True, True]


# --- divergence -----------------------------------------------------------------------------------


def test_a_run_that_diverges_goes_back_and_tries_other_noise(whole, tmp_path, monkeypatch, capfd):
    config, folder, _ = whole
    original, _ = jax.random.split(jax.random.key(config.seed))

    def diverge(step, key, state, metrics):
        if step == 5 and key == original:
            return state, {**metrics, "grad_norm_G": jnp.nan}

    config = dataclasses.replace(config, steps=10)
    with steps_that(monkeypatch, diverge):
        state = fit(config, tmp_path / "mended")
    assert (
        "step 5: grad_norm_G not finite: going back to step 3 to try other noise (retry 1 of 3)"
        in capfd.readouterr().err
    )
    lines = metrics_of(tmp_path / "mended")
    assert [line["step"] for line in lines] == [2, 3, 4, 6, 8, 9, 10]
    assert lines[:2] == metrics_of(folder)[:2] and lines[2] != metrics_of(folder)[2]  # back to step 3

    with steps_that(monkeypatch, diverge):
        fit(dataclasses.replace(config, steps=6), tmp_path / "parts")
    assert equal(fit(config, tmp_path / "parts"), state)  # the other noise is remembered


def test_noise_may_be_changed_so_often_in_each_stretch(whole, tmp_path, monkeypatch):
    """Divergence at step 5 and, with the noise that mends it, at step 8: one retry each."""
    config = dataclasses.replace(whole[0], steps=10, retries=1)
    original, _ = jax.random.split(jax.random.key(config.seed))
    streams = [original, jax.random.fold_in(original, 1)]

    def diverge(step, key, state, metrics):
        if step in (5, 8) and key == streams[step == 8]:
            return state, {**metrics, "loss_D": jnp.inf}

    with steps_that(monkeypatch, diverge):
        assert fit(config, tmp_path).step == 10
        with pytest.raises(NonFiniteError, match="step 5: loss_D not finite; gave up after 0 retries with other noise"):
            fit(dataclasses.replace(config, retries=0), tmp_path / "none")


def test_a_state_that_is_not_finite_is_never_saved(whole, tmp_path, monkeypatch):
    def poison(step, key, state, metrics):
        if step == 6:
            moments = jax.tree.map(lambda x: jnp.full_like(x, jnp.inf) if x.ndim else x, state.generator.opt_state)
            return state.replace(generator=state.generator.replace(opt_state=moments)), metrics

    config = dataclasses.replace(whole[0], retries=1)
    with (
        steps_that(monkeypatch, poison),
        pytest.raises(NonFiniteError, match="step 6: the state of the generator not finite"),
    ):
        fit(config, tmp_path)
    assert saved_steps(tmp_path) == [3]


def test_a_run_that_always_diverges_ends_with_the_evidence(photos, tmp_path):
    done = start(tmp_path, photos, "--steps", 20, "--learning-rate", 3e37, "--retries", 2)
    said = done.communicate()[0]
    assert done.returncode == 3
    error = said[said.index("error: ") :].splitlines()
    assert re.fullmatch(
        r"error: step \d+: .*(loss|grad_norm)_[DG].* not finite; gave up after 2 retries with other noise", error[0]
    )
    assert "learning rate 3e+37" in said and "try a lower --learning-rate in another --workdir" in error[-1]
    assert said.count("going back to step 0 to try other noise") == 2
    assert all(np.isfinite(list(line.values())).all() for line in metrics_of(tmp_path))
