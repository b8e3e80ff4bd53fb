"""What is no generator that export wrote is refused in one line, before it takes memory."""

import json
import os

import jax
import jax.numpy as jnp
import pytest
from helpers import equal, some_generator

from dcgan_jax import InputError, restore, sample
from dcgan_jax.generate import Arguments as Generate
from dcgan_jax.generate import run as generate
from dcgan_jax.share import portable

pytest.importorskip("safetensors")


@pytest.fixture(scope="module")
def good():
    """The content of a file."""
    return portable.to_safetensors(some_generator(image_size=16, width=4), {})


def parts(content):
    """The header of a file, what its metadata says, and its tensors."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    return header, json.loads(header["__metadata__"]["dcgan_jax"]), content[8 + size :]


def joined(header, about, tensors):
    header = {**header, "__metadata__": {"dcgan_jax": about if isinstance(about, str) else json.dumps(about)}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + tensors


def described(**changes):
    """A file whose metadata says something else."""

    def change(content):
        header, about, tensors = parts(content)
        for path, value in changes.items():
            *outer, name = path.split("__")
            inner = about
            for key in outer:
                inner = inner[key]
            inner[name] = value
        return joined(header, about, tensors)

    return change


def tensor(**changes):
    """A file whose header says something else of a tensor."""

    def change(content):
        header, about, tensors = parts(content)
        name = max(header, key=lambda name: header[name].get("data_offsets", [0])[0])
        return joined({**header, name: {**header[name], **changes}}, about, tensors)

    return change


def length(of):
    return lambda content: of(int.from_bytes(content[:8], "little")).to_bytes(8, "little") + content[8:]


def values(number):
    def change(content):
        header, about, tensors = parts(content)
        return joined(header, about, jnp.full(len(tensors) // 4, number, jnp.float32).tobytes())

    return change


NO_GENERATOR = {
    "I32": tensor(dtype="I32"),
    "F64": tensor(dtype="F64"),
    "no type": tensor(dtype=None),
    "odd type": tensor(dtype=["F32"]),
    "no shape": tensor(shape=None),
    "odd shape": tensor(shape=[-1]),
    "large shape": tensor(shape=[10**400]),
    "offsets that overlap": tensor(data_offsets=[0, 4]),
    "offsets beyond the end": tensor(data_offsets=[0, 2**62]),
    "latent evil": described(latent__distribution="evil"),
    "latent of another length": described(latent__dim=9),
    "image_size 16.0": described(generator__image_size=16.0),
    "image_size 17": described(generator__image_size=17),
    "image_size 2**40": described(generator__image_size=2**40),
    "channels 2": described(generator__channels=2),
    "step 10**400": described(step=10**400),
    "step -1": described(step=-1),
    "step True": described(step=True),
    "step 1.5": described(step=1.5),
    "step NaN": described(step=float("nan")),
    "width 5": described(generator__width=5),
    "width 0": described(generator__width=0),
    "width 65536": described(generator__width=65536),
    "width 10**12": described(generator__width=10**12),
    "latent_dim 10**12": described(generator__latent_dim=10**12, latent__dim=10**12),
    "scale NaN": described(generator__batchnorm_scale_mean=float("nan")),
    "dtype evil": described(generator__dtype="evil"),
    "generator a list": described(generator=[]),
    "latent null": described(latent=None),
    "about a list": lambda content: joined(parts(content)[0], [], b""),
    "about nested": lambda content: joined(parts(content)[0], "[" * 10**5, b""),
    "about no JSON": lambda content: joined(parts(content)[0], "{", b""),
    "no metadata": lambda content: content.replace(b"__metadata__", b"__metabata__"),
    "a longer header": length(lambda size: size + 8),
    "a shorter header": length(lambda size: size - 8),
    "a header beyond the end": length(lambda size: 10**6),
    "a header of 2**63": length(lambda size: 2**63),
    "no header": length(lambda size: 0),
    "empty": lambda content: b"",
    "7 bytes": lambda content: content[:7],
    "half a header": lambda content: content[:100],
    "half": lambda content: content[: len(content) // 2],
    "a byte less": lambda content: content[:-1],
    "a byte more": lambda content: content + b"\0",
    "a list": lambda content: (8).to_bytes(8, "little") + b"[1, 2]  ",
    "a ZIP file": lambda content: b"PK\3\4" + bytes(1000),
}


@pytest.mark.parametrize("kind", NO_GENERATOR)
def test_another_file_is_no_generator(good, tmp_path, kind):
    path = tmp_path / "a.safetensors"
    path.write_bytes(NO_GENERATOR[kind](good))
    for call in (lambda: restore(path), lambda: generate(Generate(path, tmp_path / "out", num=1))):
        with pytest.raises(InputError, match=r"a\.safetensors is not a generator that export wrote: .") as error:
            call()
        assert len(str(error.value)) < 1000 and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(good, tmp_path, number):
    (tmp_path / "a.safetensors").write_bytes(values(number)(good))
    with pytest.raises(InputError, match=r"holds weights that are not finite \(.*\): export the run again"):
        restore(tmp_path / "a.safetensors")


def test_the_helpers_above_change_what_they_say_alone(good, tmp_path):
    for change in (described(), tensor(), described(step=None), length(lambda size: size)):
        (tmp_path / "a.safetensors").write_bytes(change(good))
        (tmp_path / "b.safetensors").write_bytes(good)
        a, b = restore(tmp_path / "a.safetensors"), restore(tmp_path / "b.safetensors")
        assert equal(sample(a, jax.random.key(0), 1), sample(b, jax.random.key(0), 1))


def test_a_file_that_is_larger_than_memory_is_refused_before_it_is_read(good, tmp_path):
    """20 GB without a block on the disk: as they are, after a good header, and as tensors that fit their network."""
    (tmp_path / "a.safetensors").write_bytes(b"")
    (tmp_path / "b.safetensors").write_bytes(good)
    header, about, _ = parts(good)
    about["generator"].update(width=8192, latent_dim=8192)
    about["latent"]["dim"] = 8192
    network = some_shapes(about)
    start, tensors = 0, {}
    for name, shape in network.items():
        size = 4 * int(jnp.prod(jnp.array(shape, jnp.float32)))
        tensors[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, start + size]}
        start += size
    content = joined(tensors, about, b"")
    (tmp_path / "c.safetensors").write_bytes(content)
    assert start > 10**10
    for name, size in (("a", 20 * 10**9), ("b", 20 * 10**9), ("c", len(content) + start)):
        os.truncate(tmp_path / f"{name}.safetensors", size)
        with pytest.raises(InputError, match="is not a generator that export wrote"):
            restore(tmp_path / f"{name}.safetensors")


def some_shapes(about):
    """The shapes of the weights that a file with this metadata has."""
    from dcgan_jax.gan.networks import Generator

    options = {name: about["generator"][name] for name in ("width", "latent_dim", "image_size", "channels")}
    z = jnp.zeros((1, options["latent_dim"]))
    tree = jax.eval_shape(lambda: Generator(**options).init(jax.random.key(0), z, train=False))
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(dict(tree))
    }
