"""Many devices and many processes compute what one does."""

import dataclasses
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import helpers
import jax
import numpy as np
import pytest
import yaml
from helpers import equal, metrics_of, on_devices
from PIL import Image

from dcgan_jax import recipe, restore, restore_state
from dcgan_jax.config import Config
from dcgan_jax.gan.average import generator_params
from dcgan_jax.run.fit import fit
from dcgan_jax.system.cluster import HEARTBEAT_SECONDS, Cluster
from dcgan_jax.system.errors import InputError


def python(code, *arguments, devices=1, **variables):
    variables = {**on_devices(devices), "GLIBC_TUNABLES": "", **variables}
    return helpers.start("-c", code, *arguments, variables=variables, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module")
def config(photos):
    return Config(
        data=str(photos), image_size="16x20", width=16, latent_dim=8, batch_size=8,
        steps=3, log_every=1, sample_every=3, checkpoint_every=1, keep_newest=9,
    )  # fmt: skip


@pytest.fixture(scope="module")
def alone(config, tmp_path_factory):
    """The run on one device: its folder and final state."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, fit(config, folder)


def same_but_for_rounding(workdir, config, alone):
    """The run in ``workdir`` did what the run on one device did. Restores its checkpoint on one device."""
    folder, whole = alone
    for ours, theirs in zip(metrics_of(workdir), metrics_of(folder), strict=True):
        assert ours.keys() == theirs.keys()
        np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=2e-4)
    state = restore_state(workdir)
    assert state.step == whole.step
    for network in ("generator", "discriminator"):
        a, b = getattr(state, network), getattr(whole, network)
        for x, y in zip(
            jax.tree.leaves((a.batch_stats, a.opt_state)), jax.tree.leaves((b.batch_stats, b.opt_state)), strict=True
        ):
            np.testing.assert_allclose(x, y, atol=1e-3 * np.abs(y).max())
        for x, y in zip(jax.tree.leaves(a.params), jax.tree.leaves(b.params), strict=True):
            # Adam divides small gradients by themselves, rounding and all: a few weights move by its step size.
            assert np.abs(x - y).max() < 3 * config.steps * config.learning_rate
            assert np.abs(x - y).mean() < 1e-2 * config.learning_rate
    return True


MAIN = "from dcgan_jax.train import main; main()"
ON_DEVICES = """
import sys
from pathlib import Path
import jax, jax.numpy as jnp
from dcgan_jax.system import cluster
from dcgan_jax.run.fit import fit
from dcgan_jax.config import Config
from dcgan_jax.gan.state import create_state
from dcgan_jax.gan.step import compiled_step
from dcgan_jax.system.xla import compiler_options

config, workdir = Config.load(Path(sys.argv[1])), sys.argv[2]
step = compiled_step(**compiler_options("cpu"))
compiled = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **about: compiled.append(about["fun_name"]) if event.endswith("/backend_compile_duration") else None
)
state = fit(config, workdir)
assert compiled.count("jit(step)") == 1, compiled
for leaf in jax.tree.leaves(state):
    assert leaf.sharding.is_fully_replicated and len(leaf.devices()) == jax.device_count()
if len(sys.argv) == 3:
    print("good")
    sys.exit()
images = jnp.zeros((config.batch_size, *config.image_shape), jnp.uint8)
one = step.lower(create_state(config), images, jax.random.key(0)).compile()
many = step.lower(state, jax.device_put(images, cluster.shardings()[1]), jax.random.key(0)).compile()
share = many.cost_analysis()["flops"] / one.cost_analysis()["flops"]
assert 1 <= share * jax.device_count() < 1.35, share  # the optimizer's part is not shared
program = many.as_text()
assert " all-reduce(" in program
for costly in ("all-gather", "all-to-all", "collective-permute", "reduce-scatter"):
    assert f" {costly}(" not in program, costly
print("good")
"""


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 8])
def test_many_devices_compute_what_one_does(config, alone, tmp_path, devices):
    (tmp_path / "config.json").write_text(config.to_json())
    look = ["and at the program"] if devices == 4 else []
    done = python(ON_DEVICES, tmp_path / "config.json", tmp_path / "run", *look, devices=devices)
    said = done.communicate()[0]
    assert done.returncode == 0 and said.splitlines()[-1] == "good", said
    assert f"on cpu:0 and {devices - 1} more" in said
    assert same_but_for_rounding(tmp_path / "run", config, alone)
    assert restore(tmp_path / "run").params.keys() == generator_params(alone[1]).params.keys()


@pytest.mark.slow
def test_a_checkpoint_of_one_device_goes_on_on_four(config, alone, tmp_path):
    shutil.copytree(alone[0], tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "3")
    (tmp_path / "config.json").write_text(dataclasses.replace(config, device_data=True).to_json())
    done = python(ON_DEVICES, tmp_path / "config.json", tmp_path / "run", devices=4)
    said = done.communicate()[0]
    assert done.returncode == 0 and "resuming from step 2" in said, said
    assert same_but_for_rounding(tmp_path / "run", config, alone)


def test_a_batch_that_devices_cannot_share_is_refused(config, tmp_path):
    done = python(MAIN, "--workdir", tmp_path / "run", "--data", config.data, "--batch-size", 8, devices=3)
    assert done.communicate()[0].splitlines()[1:] == [  # after "starting: ..."
        "error: batch_size 8 cannot be shared equally by 3 devices: use a multiple of 3, or fewer devices"
    ]
    assert done.returncode == 2 and not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"coordinator": "host:1"}, "belong together: give all three"),
        ({"process_id": 0, "num_processes": 1}, "belong together: give all three"),
        ({"coordinator": "host", "process_id": 0, "num_processes": 1}, "is not of the form HOST:PORT"),
        (
            {"coordinator": "host:1", "process_id": 2, "num_processes": 2},
            r"process_id 2 must lie in \[0, num_processes\), which is 2",
        ),
        (
            {"coordinator": "host:1", "process_id": 0, "num_processes": 1, "distributed": True},
            "--distributed finds the coordinator itself: leave it out, or --coordinator",
        ),
    ],
)
def test_bad_cluster_flags_are_refused(flags, message):
    with pytest.raises(InputError, match=message):
        Cluster(**flags)


def test_no_cluster_to_be_found_is_said():
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI", "KUBERNETES", "TPU"))
    }
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "--workdir", "run", "--distributed"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert (
        "error: --distributed: neither SLURM, Open MPI, Kubernetes nor a TPU pod was found"
        in done.stderr.splitlines()[-1]
    )


# --- processes --------------------------------------------------------------------------------------


JOINED = """
import sys
import numpy as np
from dcgan_jax.system import cluster
from dcgan_jax.system.errors import InputError

process = int(sys.argv[2])
cluster.Cluster(coordinator=sys.argv[1], num_processes=2, process_id=process).join()
import jax

assert (jax.process_index(), jax.process_count(), jax.device_count()) == (process, 2, 2)
assert cluster.from_first(np.array([5 + process, 7])).tolist() == [5, 7]
everywhere, split = cluster.shardings()
factor = cluster.replicated({"a": np.arange(3.0)})
part = jax.make_array_from_process_local_data(split, np.array([1.0 + process]))  # 1 here, 2 there
total = jax.jit(lambda factor, part: factor * part.sum(), out_shardings=everywhere)(factor["a"], part)
assert cluster.local(total).tolist() == [0, 3, 6]
cluster.meet()
cluster.agree({"seed": 3, "range": (0.0, 4095.0), "width": 4})  # JSON has no tuples
try:
    cluster.agree({"seed": process, "width": 4})
except InputError as error:
    print(error)
"""


def test_two_processes_join_add_up_and_find_out_that_they_differ():
    address = f"127.0.0.1:{free_port()}"
    for text in finish([python(JOINED, address, process) for process in (0, 1)]):
        assert text.splitlines()[-1] == "the processes of the run differ in seed: 0 in process 0, 1 in process 1"


ONE_OF_MANY = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
from dcgan_jax.run import loop
real = train_step = loop.train_step
process = int(sys.argv[sys.argv.index("--process-id") + 1])
{patch}
loop.train_step = train_step
from dcgan_jax.train import main
main()
"""


def flags(workdir, config):
    knobs = {name: value for name, value in dataclasses.asdict(config).items() if not isinstance(value, bool)}
    return ["--workdir", workdir, *(x for name, value in knobs.items() for x in (f"--{name.replace('_', '-')}", value))]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def start(workdir, config, *, patch=""):
    """The two processes of one run, over loopback."""
    coordinator = f"127.0.0.1:{free_port()}"
    return [
        python(
            ONE_OF_MANY.format(patch=patch), *flags(workdir, config),
            "--coordinator", coordinator, "--num-processes", 2, "--process-id", process,
        )
        for process in (0, 1)
    ]  # fmt: skip


def finish(processes, timeout=200):
    said = [process.communicate(timeout=timeout)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), "\n".join(said)
    return said


LATE = """
if process == 1:
    from dcgan_jax.data import store
    prepare = store.prepare
    store.prepare = lambda *a, **k: time.sleep(32) or prepare(*a, **k)  # collectives give up after 30 seconds
"""


@pytest.mark.slow
def test_two_processes_compute_what_one_does_and_one_goes_on_from_them(config, alone, tmp_path):
    said = finish(start(tmp_path / "run", dataclasses.replace(config, image_size="auto"), patch=LATE))
    assert all("image_size auto: 16x20" in text for text in said)
    assert "on cpu:0 and 1 more" in said[0] and "examples/sec" in said[0] and "parameters" not in said[1]
    assert same_but_for_rounding(tmp_path / "run", config, alone)
    assert sorted(p.name for p in (tmp_path / "run" / "samples").iterdir()) == sorted(
        p.name for p in (alone[0] / "samples").iterdir()
    )

    shutil.rmtree(tmp_path / "run" / "checkpoints" / "3")  # two made it, one goes on
    fit(config, tmp_path / "run")
    assert same_but_for_rounding(tmp_path / "run", config, alone)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "3")  # and the other way round
    finish(start(tmp_path / "run", config))
    assert same_but_for_rounding(tmp_path / "run", config, alone)


ALONE = """
if process == 1:
    fitting = __import__("dcgan_jax.run.fit", fromlist=["fit"])
    fitting.start_from = None  # only the first process reads the model
"""


@pytest.mark.slow
def test_two_processes_start_from_the_same_model(config, alone, tmp_path):
    config = dataclasses.replace(config, init=str(alone[0]), steps=2, evaluate_every=0)
    whole = fit(config, tmp_path / "one")
    said = finish(start(tmp_path / "two", config, patch=ALONE))
    assert f"starting from {alone[0]}, step 3: generator and discriminator" in said[0]
    assert equal(restore_state(tmp_path / "two", 0), restore_state(tmp_path / "one", 0))
    assert same_but_for_rounding(tmp_path / "two", config, (tmp_path / "one", whole))


@pytest.mark.slow
def test_two_processes_see_features_as_the_model_does(tmp_path):
    (tmp_path / "squares").mkdir()
    values = np.random.RandomState(0).randint(0, 256, (8, 32, 32)).astype(np.uint8)
    for i, image in enumerate(values.repeat(2, 1).repeat(2, 2)):  # by itself a run would see them at 32
        Image.fromarray(image).save(tmp_path / "squares" / f"{i}.png")
    small = {"width": 4, "latent_dim": 4, "batch_size": 4, "steps": 1, "evaluate_every": 0}
    config = recipe("projected", data=str(tmp_path / "squares"), **small)
    fit(dataclasses.replace(config, features_size=64), tmp_path / "model")
    said = finish(start(tmp_path / "new", dataclasses.replace(config, init=str(tmp_path / "model")), patch=ALONE))
    assert "generator and discriminator and heads" in said[0] and "features_size auto" not in "".join(said)
    assert json.loads((tmp_path / "new" / "config.json").read_text())["features_size"] == 64
    said = finish(start(tmp_path / "other", config))
    assert all("features_size auto: 32" in text for text in said)


def wait_until_step(step, workdir, processes):
    end = time.monotonic() + 120
    while not any(line["step"] >= step for line in metrics_of(workdir)):
        assert time.monotonic() < end and all(process.poll() is None for process in processes), [
            p.communicate()[0] for p in processes
        ]
        time.sleep(0.1)


SLOWLY = """
def train_step(state, images, key, **options):
    time.sleep(0.1)
    return real(state, images, key, **options)
"""


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_one_process_dies_the_other_ends_and_the_pair_resumes_exactly(config, tmp_path, victim):
    """The bound on how long it takes is that of the heartbeat, which decides where no connection breaks."""
    config = dataclasses.replace(config, steps=1000, checkpoint_every=5)
    pair = start(tmp_path / "run", config, patch=SLOWLY)
    wait_until_step(12, tmp_path / "run", pair)
    pair[victim].kill()
    killed = time.monotonic()
    said = pair[1 - victim].communicate(timeout=3 * HEARTBEAT_SECONDS)[0]
    assert time.monotonic() - killed < 2 * HEARTBEAT_SECONDS
    if pair[1 - victim].returncode == -signal.SIGABRT:  # JAX was quicker, and allows no word of ours
        assert "Terminating process because the JAX distributed service detected fatal errors" in said
    else:
        assert pair[1 - victim].returncode == 75, said
        error = [line for line in said.splitlines() if line.startswith("error: ")]
        assert len(error) == 1 and re.match(
            "error: the processes cannot continue together .* start all of them again", error[0]
        ), said
    pair[victim].communicate()
    if victim == 0:
        return  # what follows is the same

    steps = max(int(p.name) for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdigit()) + 4
    config = dataclasses.replace(config, steps=steps)
    assert "resuming from step" in finish(start(tmp_path / "run", config))[0]
    finish(start(tmp_path / "whole", config))
    assert equal(*(restore_state(tmp_path / name) for name in ("run", "whole")))
    assert metrics_of(tmp_path / "run") == metrics_of(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_to_one_process_stops_both_at_the_same_step(config, tmp_path, number, code):
    pair = start(tmp_path, dataclasses.replace(config, steps=1000, checkpoint_every=500), patch=SLOWLY)
    wait_until_step(3, tmp_path, pair)
    pair[1].send_signal(number)
    said = [process.communicate(timeout=100)[0] for process in pair]
    assert [process.returncode for process in pair] == [143, code], said
    steps = {re.search(r"stopped after step (\d+), which is saved", text)[1] for text in said}
    assert {p.name for p in (tmp_path / "checkpoints").iterdir()} == steps and len(steps) == 1


FIRST_STEP = """
def train_step(state, images, key, **options):
    first = sys.argv[sys.argv.index("--workdir") + 1] + "/first"
    if process == 0 and not os.path.exists(first):
        open(first, "w").close()
        time.sleep(3)
    time.sleep(0.1)
    return real(state, images, key, **options)
"""


@pytest.mark.slow
def test_a_signal_before_the_first_step_of_a_resumed_pair_is_not_lost(config, alone, tmp_path):
    shutil.copytree(alone[0], tmp_path / "run")
    pair = start(tmp_path / "run", dataclasses.replace(config, steps=1000), patch=FIRST_STEP)
    end = time.monotonic() + 120
    while not (tmp_path / "run" / "first").exists():
        assert time.monotonic() < end and all(process.poll() is None for process in pair)
        time.sleep(0.05)
    pair[0].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=100)[0] for process in pair]
    assert [process.returncode for process in pair] == [143, 143], said


DIVERGING = """
import jax.numpy as jnp
tried = []
def train_step(state, images, key, **options):
    step = int(state.step.addressable_data(0)) + 1
    state, metrics = real(state, images, key, **options)
    time.sleep(0.4)  # JAX needs a moment to tell
    tried.append(step)
    if process == 1 and tried.count(5) == 1 and step == 5:
        os.kill(os.getpid(), signal.SIGTERM)
    if step > 5 and tried.count(5) == 1:
        metrics = {**metrics, "loss_D": jnp.inf}
    return state, metrics
"""


@pytest.mark.slow
def test_a_signal_is_not_lost_when_the_run_diverges_in_the_step_that_it_stops_after(config, tmp_path):
    """The step is found out when it is to be saved."""
    config = dataclasses.replace(config, steps=1000, checkpoint_every=4, log_every=1000, sample_every=1000)
    pair = start(tmp_path, config, patch=DIVERGING)
    said = [process.communicate(timeout=100)[0] for process in pair]
    assert [process.returncode for process in pair] == [143, 143], said
    for text in said:
        assert "step 6: loss_D not finite: going back to step 4" in text and "stopped after step 5" in text, text


@pytest.mark.slow
def test_slurm_is_recognised(config, alone, tmp_path):
    """The variables that srun sets for two tasks on this machine; the job's number gives the port."""
    job = {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    finish([
        python(MAIN, *flags(tmp_path, config), "--distributed", **job, SLURM_PROCID=task, SLURM_LOCALID=task)
        for task in ("0", "1")
    ])  # fmt: skip
    assert same_but_for_rounding(tmp_path, config, alone)


def test_the_cluster_files_are_well_formed():
    folder = Path(__file__).parents[2] / "experiments" / "cluster"
    subprocess.run(["bash", "-n", folder / "slurm.sbatch"], check=True)
    *rights, jobs = yaml.safe_load_all((folder / "jobset.yaml").read_text())
    account = rights[0]["metadata"]["name"]
    assert [kind["kind"] for kind in rights] == ["ServiceAccount", "Role", "RoleBinding"]
    assert rights[2]["roleRef"]["name"] == rights[1]["metadata"]["name"] and rights[2]["subjects"][0]["name"] == account
    [job] = jobs["spec"]["replicatedJobs"]
    assert job["template"]["spec"]["completionMode"] == "Indexed"
    pod = job["template"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["serviceAccountName"] == account and container["command"][1:3] == ["-m", "dcgan_jax.train"]
    done = subprocess.run(
        [sys.executable, *container["command"][1:], *container["args"], "--help"], capture_output=True
    )
    assert done.returncode == 0


SET = "if process == {process}: sys.argv[sys.argv.index({flag!r}) + 1] = {value!r}\n"
DIFFERENCES = {
    "another number": (
        SET.format(process=1, flag="--num-processes", value="3"),
        "differ in num_processes: 2 in process 0, 3 in process 1",
    ),
    "other flags": (SET.format(process=1, flag="--seed", value="1"), "differ in seed: 0 in process 0, 1 in process 1"),
    "other images": (
        "import dcgan_jax.data.store as s\nif process == 1: s.prepare = lambda *a: type('S', (), {'digest': 'x', 'copies': 0, '__len__': lambda s: 12, 'close': lambda s: None})()\n",
        "differ in images: '[0-9a-f]{64}' in process 0, 'x' in process 1",
    ),
    "other devices": (
        "if process == 0: os.environ['XLA_FLAGS'] = '--xla_force_host_platform_device_count=3'\n"
        + "".join(SET.format(process=i, flag="--batch-size", value="12") for i in (0, 1)),
        "differ in number of devices: 3 in process 0, 1 in process 1",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", DIFFERENCES)
def test_processes_that_differ_are_refused_and_the_difference_named(config, tmp_path, kind):
    patch, message = DIFFERENCES[kind]
    pair = start(tmp_path / "run", config, patch=patch)
    said = [process.communicate(timeout=100)[0] for process in pair]
    assert [process.returncode for process in pair] == [2, 2], said
    assert all(re.search(f"error: the processes of the run {message}\n", text) for text in said), said
    assert not (tmp_path / "run").exists()


MISTAKE = """
def train_step(state, images, key, **options):
    if process == 0:
        raise KeyError("boom")
    return real(state, images, key, **options)
"""
ENDINGS = {
    "bad data": (SET.format(process=1, flag="--data", value="nosuch"), 1, 2, "--data nosuch: no such folder or file"),
    "a mistake": (MISTAKE, 0, 1, "KeyError: 'boom'"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ENDINGS)
def test_what_ends_one_process_ends_the_other_within_a_minute(config, tmp_path, kind):
    patch, process, code, message = ENDINGS[kind]
    pair = start(tmp_path / "run", dataclasses.replace(config, steps=1000), patch=patch)
    said = pair[process].communicate(timeout=100)[0]
    assert pair[process].returncode == code and re.search(message, said), said
    said = pair[1 - process].communicate(timeout=2 * HEARTBEAT_SECONDS)[0]
    assert pair[1 - process].returncode in (75, -signal.SIGABRT), said
