"""bf16 by the matrix units of a CPU, against XLA's own convolutions of the same rounded numbers."""

import dataclasses
import re
import stat

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import on_devices, python

from dcgan_jax import fit
from dcgan_jax.gan import conv, conv_amx
from dcgan_jax.system import amx, native

needs_units = pytest.mark.skipif(
    not native.cpu_flags() >= amx.NEEDED, reason="a CPU without matrix units for bf16 (AMX)"
)
SHAPES = [(32, 4, 4, 32, 32), (32, 8, 6, 64, 32), (96, 2, 2, 32, 128), (64, 16, 16, 32, 64), (32, 4, 8, 128, 256)]
SHAPES += [(32, 4, 4, 96, 192), (32, 2, 4, 160, 32), (32, 4, 2, 32, 160), (32, 2, 2, 224, 448)]  # parts of unlike sizes


def operands(batch, height, width, inputs, outputs):
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (batch, height, width, inputs))
    kernel = jax.random.normal(keys[1], (4, 4, inputs, outputs))
    return x, kernel, jax.random.normal(keys[2], (batch, height // 2, width // 2, outputs))


def rounded(x):
    return x.astype(jnp.bfloat16).astype(jnp.float32)


def maps(x, kernel, g, dtype):
    """The convolution and its transpose, with all gradients: each map from each of the places that it is used in."""
    y, pull = jax.vjp(lambda x, kernel: conv.conv(x, kernel, dtype), x, kernel)
    z, pull_transpose = jax.vjp(lambda g, kernel: conv.conv_transpose(g, kernel, dtype), g, kernel)
    return [y, *pull(g), z, *pull_transpose(x)]


@needs_units
@pytest.mark.parametrize("shape", SHAPES)
def test_maps_are_those_of_xla(shape):
    given = operands(*shape)
    ours = jax.jit(lambda *given: maps(*given, jnp.bfloat16))
    assert ours.lower(*given).as_text().count("@conv_amx") == 6
    x, kernel, g = map(rounded, given)
    y, pull = jax.vjp(conv.conv_reference, x, kernel)
    dx, dkernel = pull(g)
    for a, b in zip(ours(*given), [y, dx, dkernel, dx, y, dkernel]):
        assert a.shape == b.shape and a.dtype == b.dtype
        assert jnp.abs(a - b).max() < 3e-6 * jnp.abs(b).max()


@needs_units
def test_the_gradient_of_a_squared_gradient():
    x, kernel, _ = operands(32, 8, 8, 32, 32)

    def penalty(kernel, dtype):
        return (jax.grad(lambda x: (conv.conv(x, kernel, dtype) ** 3).sum())(x) ** 2).sum()

    ours, exact = (jax.jit(jax.grad(penalty), static_argnums=1)(kernel, t) for t in (jnp.bfloat16, jnp.float32))
    assert jnp.abs(ours - exact).max() < 0.03 * jnp.abs(exact).max()


@needs_units
def test_many_at_once_and_several_of_them_under_vmap():
    """More calls at the same time than there are threads end, each with its own numbers."""
    x, kernel, _ = operands(32, 4, 4, 32, 32)
    xs = jnp.stack([x * n for n in range(1, 9)])
    one = conv.conv(x, kernel, jnp.bfloat16)

    @jax.jit
    def all_of_them(xs):
        return [conv.conv(x, kernel, jnp.bfloat16) for x in xs], jax.vmap(lambda x: conv.conv(x, kernel, jnp.bfloat16))(
            xs
        )

    for _ in range(20):
        singly, together = all_of_them(xs)
        assert np.array_equal(jnp.stack(singly), together)
        assert np.array_equal(singly[0], one) and np.array_equal(singly[3], 4 * one)


@needs_units
@pytest.mark.parametrize(
    "shape, dtype",
    [((31, 4, 4, 32, 32), jnp.bfloat16), ((32, 4, 4, 16, 32), jnp.bfloat16), ((32, 4, 4, 32, 32), jnp.float32)],
)
def test_what_does_not_fit_is_computed_without(shape, dtype):
    given = operands(*shape)
    ours = jax.jit(lambda *given: maps(*given, dtype))
    assert "@conv_amx" not in ours.lower(*given).as_text()
    y = conv.conv_reference(*given[:2])
    assert jnp.abs(ours(*given)[0] - y).max() < 0.03 * jnp.abs(y).max()


CODE = """
import jax, jax.numpy as jnp
from dcgan_jax.gan import conv
x, kernel = jnp.ones((32, 4, 4, 32)), jnp.ones((4, 4, 32, 32))
f = jax.jit(lambda x, kernel: conv.conv(x, kernel, jnp.bfloat16))
print(f(x, kernel)[0, 0, 0, 0], "@conv_amx" in f.lower(x, kernel).as_text())
"""


def run(folder, **variables):
    done = python("-c", CODE, variables={"DCGAN_JAX_CACHE": str(folder), **variables})
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if not re.match(r"[EIW]\d{4} ", line)]  # XLA's own log
    return done.stdout.split(), "\n".join(said).strip()


@needs_units
def test_it_is_compiled_once_and_anew_where_the_file_is_damaged(tmp_path):
    assert run(tmp_path) == (["288.0", "True"], "")
    assert run(tmp_path, CXX="/nonexistent/c++") == (["288.0", "True"], "")  # which nobody asks
    (kept,) = (path for path in (tmp_path / "native").iterdir() if path.is_file())
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    kept.write_bytes(kept.read_bytes()[:-1] + b"?")
    assert run(tmp_path) == (["288.0", "True"], "")
    kept.parent.chmod(0o777)
    answer, said = run(tmp_path, CXX="/nonexistent/c++")  # others could have put it there
    assert answer == ["288.0", "False"] and "no C++ compiler" in said
    assert f"not kept: {kept.parent} can be written by others (chmod go-w {kept.parent})" in said


@needs_units
def test_a_compiler_that_is_no_program_is_said(tmp_path):
    (tmp_path / "compiler").write_bytes(b"no program")
    (tmp_path / "compiler").chmod(0o755)
    answer, said = run(tmp_path / "cache", CXX=str(tmp_path / "compiler"))
    assert answer == ["288.0", "False"]
    assert "Exec format error" in said and len(said.splitlines()) == 1


@needs_units
def test_what_cannot_be_loaded_is_said_with_the_remedy(tmp_path):
    wrapper = tmp_path / "compiler"
    wrapper.write_text('#!/bin/sh\ncat > /dev/null\nfor to; do :; done\necho "no library" > "$to"\n')
    wrapper.chmod(0o755)
    answer, said = run(tmp_path / "cache", CXX=str(wrapper))
    assert answer == ["288.0", "False"]
    assert (
        "what was compiled cannot be loaded (" in said
        and f"delete {tmp_path / 'cache' / 'native'}, or set TMPDIR" in said
    )


@needs_units
@pytest.mark.parametrize(
    "compiler, message",
    [
        ("nonexistent-c++", "there is no C++ compiler nonexistent-c++; install g++, or set CXX to another"),
        (
            "c++ -Werror -include nonexistent.h",
            "nonexistent.h cannot compile a part of it (<command-line>: fatal error:",
        ),
        ("true", "true cannot compile a part of it (it does not say why)"),
        ("c++ '", "CXX is not a command (No closing quotation): set it to a C++ compiler"),
    ],
)
def test_without_a_compiler_it_is_slower_and_says_so(tmp_path, compiler, message):
    answer, said = run(tmp_path, CXX=compiler)
    assert answer == ["288.0", "False"]
    assert said.startswith("bf16 takes twice as long on this CPU as it could: ") and message in said
    assert len(said.splitlines()) == 1


@needs_units
def test_a_cache_that_cannot_be_written_is_compiled_in_each_process(tmp_path):
    (tmp_path / "file").write_text("")
    assert run(tmp_path / "file" / "cache") == (["288.0", "True"], "")


@needs_units
def test_several_devices_compute_without():
    code = CODE.replace("print(", "assert jax.device_count() == 4; print(")
    done = python("-c", code, variables=on_devices(4))
    assert (done.returncode, done.stdout.split()) == (0, ["288.0", "False"]), done.stderr


def test_other_cpus_compute_without(monkeypatch):
    monkeypatch.setattr(native, "cpu_flags", lambda: frozenset({"avx2"}))
    x, kernel, _ = operands(32, 4, 4, 32, 32)
    text = jax.jit(lambda x, kernel: conv.conv(x, kernel, jnp.bfloat16)).lower(x, kernel).as_text()
    assert "@conv_amx" not in text


def test_a_new_run_says_that_they_are_there(photos, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(amx, "here", lambda: True)
    monkeypatch.setattr(conv_amx, "usable", lambda: False)
    config = dataclasses.replace(tiny, data=str(photos), steps=1, evaluate_every=0)
    fitting = {"width": 32, "batch_size": 32}
    for number, (changes, said) in enumerate([({}, 0), (fitting, 1), ({**fitting, "precision": "bf16"}, 0)]):
        fit(dataclasses.replace(config, **changes), tmp_path / str(number))
        assert capsys.readouterr().out.count("--precision bf16 may take half the time on this CPU") == said
    fit(dataclasses.replace(config, **fitting, steps=2), tmp_path / "1")
    assert "bf16" not in capsys.readouterr().out
