"""Generator and discriminator of the DCGAN (Radford et al. 2015; d2l, section DCGAN), in Flax linen.

Images are NHWC. Widths double with every halving of the side: at ``image_size=64, width=64`` the
generator's maps are 4x4x512, 8x8x256, 16x16x128, 32x32x64 and the image, the discriminator's the
same in reverse. A field of a network with the name of a ``Config`` field takes its value.
"""

import dataclasses
import functools
import math
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dcgan_jax.config import OWN, Config, check_image_size
from dcgan_jax.gan import conv
from dcgan_jax.system.errors import InputError, first_line

BATCHNORM_EPSILON = 1e-5
Norm = Literal["batch", "spectral", "none"]


@dataclasses.dataclass(frozen=True)
class Latent:
    """The prior over z: ``dim`` independent draws of N(0, 1), or of the uniform distribution on [-1, 1]."""

    dim: int = 100
    distribution: Literal["normal", "uniform"] = "normal"

    def draw(self, key: jax.Array, num: int) -> jax.Array:
        """Draw ``num`` latent vectors: float32 (num, dim)."""
        if self.distribution == "uniform":
            return jax.random.uniform(key, (num, self.dim), jnp.float32, -1.0, 1.0)
        return jax.random.normal(key, (num, self.dim), jnp.float32)


def build(network: type[Any], config: Config, *, classes: int = 0) -> Any:
    """Make the network, such as ``Generator``, that ``config`` describes: fields of the same name get its values.

    The fields ``dtype`` and ``activations`` get the type of matrix products and that of feature maps, ``classes`` the
    number of classes of a conditional run.

    Raises:
      InputError: the network has other fields without a default.
    """
    fields = {field.name for field in dataclasses.fields(network)}
    names = {field.name for field in dataclasses.fields(config)} & fields - set(OWN)
    dtype = jnp.bfloat16 if config.precision == "bf16" else jnp.float32
    # Elementwise bf16 is slow on CPUs, and halves the memory traffic of everything else.
    activations = jnp.float32 if jax.default_backend() == "cpu" else dtype
    others = {"dtype": dtype, "activations": activations, **({"classes": classes} if classes else {})}
    others = {name: value for name, value in others.items() if name in fields}
    try:
        return network(**others, **{name: getattr(config, name) for name in names})
    except TypeError as error:
        raise InputError(
            f"{network.__name__} cannot be made from the settings of a run ({first_line(error)}): give its other "
            "fields defaults, or name a module that has been made"
        ) from error


def apply(
    network: nn.Module, params: Any, batch_stats: Any, x: jax.Array, *, train: bool, **arguments: Any
) -> tuple[Any, Any]:
    """The output of a network and its running statistics afterwards, which change with ``train`` only."""
    variables = {"params": params, "batch_stats": batch_stats}
    if not train:
        return network.apply(variables, x, train=False, **arguments), batch_stats
    output, changed = network.apply(variables, x, train=True, mutable=["batch_stats"], **arguments)
    return output, changed.get("batch_stats", {})


def _normal(key, shape, dtype=jnp.float32):
    """``jax.random.normal``: the same numbers drawn as a vector, for which XLA compiles a fifth as long."""
    return jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)


def _kernel_init(key, shape, dtype=jnp.float32):
    return _normal(key, shape, dtype) * jnp.array(0.02, dtype)


def _transposed_init(key, shape, dtype=jnp.float32):
    """``_kernel_init`` of a kernel (4, 4, out, in), with its numbers drawn in the order (4, 4, in, out)."""
    return _kernel_init(key, (*shape[:2], shape[3], shape[2]), dtype).swapaxes(2, 3)


def _batch_norm(train: bool, scale_mean: float, dtype):
    # Flax's momentum weighs the old value: 0.9 here is PyTorch's 0.1. Means and variances are float32 for any dtype.
    return nn.BatchNorm(
        dtype=dtype,
        use_running_average=not train,
        momentum=0.9,
        epsilon=BATCHNORM_EPSILON,
        scale_init=lambda key, shape, dtype: scale_mean + 0.02 * jax.random.normal(key, shape, dtype),
    )


class ConvTranspose(nn.Module):
    """4x4 transposed convolution without bias, with PyTorch's geometry. Its kernel is (4, 4, features, in).

    ``strides=2, padding=1`` doubles height and width; ``strides=1, padding=0`` adds 3 to them.
    """

    features: int
    strides: int = 2
    padding: int = 1
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x):  # (B, H, W, in) -> (B, H', W', features)
        kernel = self.param("kernel", _transposed_init, (4, 4, self.features, x.shape[-1]))
        if (self.strides, self.padding) == (2, 1):
            return conv.conv_transpose(x, kernel, self.dtype)
        if (self.strides, self.padding) != (1, 0):
            raise ValueError(f"strides={self.strides}, padding={self.padding}: only (2, 1) and (1, 0) are supported")
        if x.shape[1:3] == (1, 1):  # a plain matrix product
            return jnp.einsum("bi,hwoi->bhwo", x[:, 0, 0], kernel)
        return lax.conv_general_dilated(
            x, kernel[::-1, ::-1], (1, 1), ((3, 3), (3, 3)), dimension_numbers=("NHWC", "HWOI", "NHWC")
        )


def _spectral_norm(module: nn.Module, kernel, train: bool):
    """The largest singular value of a kernel, read as a matrix (-1, out) (Miyato et al. 2018).

    It is approximated by power iteration: each call with ``train`` adds one iteration. Its vector ``u`` is in
    ``batch_stats``.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])
    product = functools.partial(jnp.matmul, precision="highest")

    def iterated(u):
        left = product(lax.stop_gradient(matrix), u)
        left /= jnp.linalg.norm(left) + 1e-12
        right = product(left, lax.stop_gradient(matrix))
        return left, right / (jnp.linalg.norm(right) + 1e-12)

    def start():
        u = jax.random.normal(module.make_rng("params"), matrix.shape[1:])
        return lax.fori_loop(0, 15, lambda _, u: iterated(u)[1], u)

    u = module.variable("batch_stats", "u", start)
    left, right = iterated(u.value)
    if train:
        u.value = right
    return product(product(left, matrix), right)


def _kernel_and_bias(module: nn.Module, shape, norm: Norm, train: bool, gain: float = 2.0):
    """With BatchNorm the paper's kernel without bias; without it a bias, and a kernel that keeps signals' size.

    N(0, 0.02) makes them vanish there (He et al. 2015).
    """
    if norm == "batch":
        return module.param("kernel", _kernel_init, shape), None
    variance = jnp.float32(gain / math.prod(shape[:-1]))
    kernel = module.param("kernel", lambda key, shape: _normal(key, shape) * jnp.sqrt(variance), shape)
    bias = module.param("bias", nn.initializers.zeros, shape[-1:])
    return (kernel / _spectral_norm(module, kernel, train) if norm == "spectral" else kernel), bias


class Conv(nn.Module):
    """4x4 convolution of stride 2 and padding 1, which halves height and width; or 3x3 of stride 1, for ``size=3``.

    ``norm`` is that of the network: with BatchNorm it has no bias, with ``spectral`` it divides its kernel by the
    largest singular value.
    """

    features: int
    size: int = 4
    norm: Norm = "batch"
    leaky_slope: float = 0.2
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool = False, bias_scale=1.0):
        # (B, H, W, in) -> (B, H/2, W/2, features), or (B, H, W, features)
        shape = (self.size, self.size, x.shape[-1], self.features)
        kernel, bias = _kernel_and_bias(self, shape, self.norm, train, gain=2 / (1 + self.leaky_slope**2))
        if self.size == 4:
            y = conv.conv(x, kernel, self.dtype)
        else:
            operands = x.astype(self.dtype), kernel.astype(self.dtype)
            y = lax.conv_general_dilated(*operands, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
            y = y.astype(x.dtype)
        return y if bias is None else y + (bias_scale * bias[None, None, None, :]).astype(y.dtype)


class GeneratorBlock(nn.Module):
    """Transposed convolution, BatchNorm, ReLU: the chapter's ``G_block``.

    (B, H, W, in) -> (B, 2H, 2W, features), or (B, H + 3, W + 3, features) with ``strides=1, padding=0``.
    """

    features: int
    strides: int = 2
    padding: int = 1
    batchnorm_scale_mean: float = 1.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = ConvTranspose(self.features, self.strides, self.padding, self.dtype)(x)
        return nn.relu(_batch_norm(train, self.batchnorm_scale_mean, x.dtype)(x))


class DiscriminatorBlock(nn.Module):
    """Convolution, BatchNorm (unless ``batchnorm=False``), LeakyReLU: the chapter's ``D_block``.

    (B, H, W, in) -> (B, H/2, W/2, features). ``extra_convs`` adds as many 3x3 convolutions, each followed by the same.
    ``norm`` other than ``batch`` takes the place of BatchNorm: see ``Conv``.
    """

    features: int
    batchnorm: bool = True
    leaky_slope: float = 0.2
    batchnorm_scale_mean: float = 1.0
    norm: Norm = "batch"
    extra_convs: int = 0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x, *, train: bool, bias_scale=1.0):
        for size in (4, *[3] * self.extra_convs):
            x = Conv(self.features, size, self.norm, self.leaky_slope, self.dtype)(
                x, train=train, bias_scale=bias_scale
            )
            if self.batchnorm and self.norm == "batch":
                x = _batch_norm(train, self.batchnorm_scale_mean, x.dtype)(x)
            # One factor, not nn.leaky_relu's two branches: their gradients are computed twice and added.
            x = x * jnp.where(x >= 0, 1.0, self.leaky_slope)
        return x


def _widths(image_size: int, width: int) -> list[int]:
    """Channels of the maps of side image_size/2, image_size/4, ..., 4."""
    # 64, 64 -> [64, 128, 256, 512]
    return [width * image_size // side // 2 for side in (2**n for n in range(image_size.bit_length() - 2, 1, -1))]


class Generator(nn.Module):
    """z (B, latent_dim) or (B, 1, 1, latent_dim) -> images (B, image_size, image_size, channels) in [-1, 1].

    ``train=True`` normalises by the batch's statistics and updates the running ones (make the
    collection ``batch_stats`` mutable); ``train=False`` normalises by the running ones, so that no
    image depends on the others of its batch. Products are taken in ``dtype``; maps are kept in ``activations``.

    With ``classes`` z has as many numbers more, at its end: how much of each class, such as 1 for one and 0 for others.
    """

    latent_dim: int = 100
    width: int = 64
    image_size: int = 64
    channels: int = 3
    batchnorm_scale_mean: float = 1.0
    classes: int = 0
    dtype: Any = jnp.float32
    activations: Any = jnp.float32

    def __post_init__(self):
        check_image_size(self.image_size)
        super().__post_init__()

    def scales(self) -> np.ndarray:
        """What the numbers of z and those of the classes are multiplied by first: float32 (latent_dim + classes,).

        A class weighs as much as all of z, whose length is about this. It is learned several times sooner so.
        """
        ones = np.ones(self.latent_dim + self.classes, np.float32)
        ones[self.latent_dim :] = self.latent_dim**0.5
        return ones

    @nn.compact
    def __call__(self, z, *, train: bool):
        if z.shape[-1] != (numbers := self.latent_dim + self.classes):
            raise InputError(f"z must have {numbers} numbers for each image, not the shape {z.shape}")
        block = functools.partial(GeneratorBlock, batchnorm_scale_mean=self.batchnorm_scale_mean, dtype=self.dtype)
        first, *others = reversed(_widths(self.image_size, self.width))
        if self.classes:
            z = z * self.scales().reshape(*[1] * (z.ndim - 1), -1)
        x = z.reshape(-1, 1, 1, numbers)
        x = block(first, strides=1, padding=0)(x, train=train)  # (B, 4, 4, width · image_size / 8)
        x = x.astype(self.activations)
        for features in others:
            x = block(features)(x, train=train)
        x = ConvTranspose(self.channels, dtype=self.dtype)(x)
        return jnp.tanh(x.astype(jnp.promote_types(x.dtype, jnp.float32)))


class Discriminator(nn.Module):
    """Images (B, image_size, image_size, channels) in [-1, 1] -> logits (B, 1, 1, 1), positive for real.

    With ``classes`` logits (B, 1, 1, classes): those of a real image of each class (Mescheder et al. 2018).

    ``train``, ``dtype`` and ``activations`` as in ``Generator``. The logits are float32. ``bias_scale`` multiplies all
    biases: see ``squared_gradient``.
    """

    width: int = 64
    image_size: int = 64
    first_batchnorm: bool = False
    leaky_slope: float = 0.2
    batchnorm_scale_mean: float = 1.0
    discriminator_norm: Norm = "batch"
    extra_convs: int = 0
    classes: int = 0
    dtype: Any = jnp.float32
    activations: Any = jnp.float32

    def __post_init__(self):
        check_image_size(self.image_size)
        super().__post_init__()

    @property
    def homogeneous(self) -> bool:
        """Whether images and ``bias_scale`` times k > 0 give logits times k."""
        return self.discriminator_norm != "batch"

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of its blocks, from the image on."""
        return tuple(f"DiscriminatorBlock_{i}" for i in range(len(_widths(self.image_size, self.width))))

    @nn.compact
    def __call__(self, x, *, train: bool, bias_scale=1.0):
        block = functools.partial(
            DiscriminatorBlock,
            leaky_slope=self.leaky_slope,
            batchnorm_scale_mean=self.batchnorm_scale_mean,
            norm=self.discriminator_norm,
            extra_convs=self.extra_convs,
            dtype=self.dtype,
        )
        x = x.astype(self.activations)
        for i, features in enumerate(_widths(self.image_size, self.width)):
            x = block(features, batchnorm=i > 0 or self.first_batchnorm)(x, train=train, bias_scale=bias_scale)
        # The chapter's last layer, a 4x4 convolution without padding, sees exactly 4x4 positions.
        kernel, bias = _kernel_and_bias(
            self, (4, 4, x.shape[-1], max(self.classes, 1)), self.discriminator_norm, train, gain=1.0
        )
        logits = jnp.einsum("bhwi,hwio->bo", x, kernel)[:, None, None, :]
        return logits if bias is None else logits + bias_scale * bias[None, None, None, :]
