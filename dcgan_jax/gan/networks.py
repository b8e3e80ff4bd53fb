"""Generator and discriminator of the DCGAN (Radford et al. 2015; d2l, section DCGAN), in Flax linen.

Images are NHWC. Widths double with every halving of the sides: at ``image_size=64, width=64`` the
generator's maps are 4x4x512, 8x8x256, 16x16x128, 32x32x64 and the image, the discriminator's the
same in reverse. Other sizes start from another map: 96x64 from 6x4 (see ``sizes.layout``). A field of a network with
the name of a ``Config`` field takes its value.
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

from dcgan_jax import sizes
from dcgan_jax.config import OWN, Config
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

    ``image_shape`` gets the height, width and channels, whatever the shape is. The fields ``dtype`` and ``activations``
    get the type of matrix products and that of feature maps, ``classes`` the number of classes of a conditional run.

    Raises:
      InputError: the network has other fields without a default.
    """
    fields = {field.name for field in dataclasses.fields(network)}
    names = ({field.name for field in dataclasses.fields(config)} | {"image_shape"}) & fields - set(OWN)
    dtype = jnp.bfloat16 if config.precision == "bf16" else jnp.float32
    # Elementwise bf16 is slow on CPUs, and halves the memory traffic of everything else.
    activations = jnp.float32 if jax.default_backend() == "cpu" else dtype
    others = {"dtype": dtype, "activations": activations, **({"classes": classes} if classes else {})}
    others = {name: value for name, value in others.items() if name in fields}
    try:
        values = {name: getattr(config, "outer_width" if name == "width" else name) for name in names}
        return network(**others, **values)
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
    """``_kernel_init`` of a kernel (h, w, out, in), with its numbers drawn in the order (h, w, in, out)."""
    return _kernel_init(key, (*shape[:2], shape[3], shape[2]), dtype).swapaxes(2, 3)


def _batch_norm(train: bool, scale_mean: float, dtype, *, affine: bool = True):
    # Flax's momentum weighs the old value: 0.9 here is PyTorch's 0.1. Means and variances are float32 for any dtype.
    return nn.BatchNorm(
        dtype=dtype,
        use_running_average=not train,
        momentum=0.9,
        epsilon=BATCHNORM_EPSILON,
        use_scale=affine,
        use_bias=affine,
        scale_init=lambda key, shape, dtype: scale_mean + 0.02 * jax.random.normal(key, shape, dtype),
    )


class ConvTranspose(nn.Module):
    """Transposed convolution without bias, with PyTorch's geometry. Its kernel is (*size, features, in).

    ``strides=2, padding=1`` and the size 4x4 double height and width; ``strides=1, padding=0`` adds ``size`` - 1 to
    them.
    """

    features: int
    strides: int = 2
    padding: int = 1
    dtype: Any = jnp.float32
    size: tuple[int, int] = (4, 4)

    @nn.compact
    def __call__(self, x):  # (B, H, W, in) -> (B, H', W', features)
        kernel = self.param("kernel", _transposed_init, (*self.size, self.features, x.shape[-1]))
        if (self.strides, self.padding, self.size) == (2, 1, (4, 4)):
            return conv.conv_transpose(x, kernel, self.dtype)
        if (self.strides, self.padding) != (1, 0):
            geometry = f"strides={self.strides}, padding={self.padding}, size={self.size}"
            raise ValueError(f"{geometry}: only (2, 1, (4, 4)), and (1, 0) with any size, are supported")
        if x.shape[1:3] == (1, 1):  # a plain matrix product
            return jnp.einsum("bi,hwoi->bhwo", x[:, 0, 0], kernel)
        return lax.conv_general_dilated(
            x,
            kernel[::-1, ::-1],
            (1, 1),
            [(side - 1, side - 1) for side in self.size],
            dimension_numbers=("NHWC", "HWOI", "NHWC"),
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


class Hidden(nn.Module):
    """A dense layer and a ReLU, for self-modulation: (B, in) -> (B, features). Its kernel is (features, in)."""

    features: int = 128

    @nn.compact
    def __call__(self, z):
        init = nn.initializers.variance_scaling(2.0, "fan_in", "normal", in_axis=1, out_axis=0)
        kernel = self.param("kernel", init, (self.features, z.shape[1]))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return nn.relu(z @ kernel.T + bias[None])


class GeneratorBlock(nn.Module):
    """Transposed convolution, BatchNorm, ReLU: the chapter's ``G_block``.

    (B, H, W, in) -> (B, 2H, 2W, features), or (B, H + 3, W + 3, features) with ``strides=1, padding=0``; other sizes
    of the kernel than 4x4 add as many pixels less 1.
    """

    features: int
    strides: int = 2
    padding: int = 1
    batchnorm_scale_mean: float = 1.0
    dtype: Any = jnp.float32
    size: tuple[int, int] = (4, 4)

    @nn.compact
    def __call__(self, x, *, train: bool):
        x = ConvTranspose(self.features, self.strides, self.padding, self.dtype, self.size)(x)
        return nn.relu(_batch_norm(train, self.batchnorm_scale_mean, x.dtype)(x))


class ModulatedBlock(GeneratorBlock):
    """A ``GeneratorBlock`` with self-modulation (Chen et al. 2019, arXiv:1810.01365).

    A dense layer makes of ``hidden``, (B, numbers), scales and shifts for each image, in place of those of BatchNorm.
    """

    @nn.compact
    def __call__(self, x, hidden, *, train: bool):
        x = ConvTranspose(self.features, self.strides, self.padding, self.dtype, self.size)(x)
        of_image = nn.Dense(2 * self.features, kernel_init=nn.initializers.normal(0.02))(hidden)
        scale, shift = jnp.split(of_image[:, None, None], 2, axis=3)
        y = _batch_norm(train, self.batchnorm_scale_mean, jnp.float32, affine=False)(x)
        return nn.relu(y * (self.batchnorm_scale_mean + scale) + shift).astype(x.dtype)


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


def _sizes(image_size: sizes.ImageSize, width: int) -> tuple[tuple[int, int], list[int]]:
    """Height and width of the smallest map, and the channels of all, from those next to the image on."""
    # 64, 64 -> (4, 4), [64, 128, 256, 512]
    layout = sizes.layout(*sizes.sides(image_size))
    return (layout.height, layout.width), [width * 2**n for n in range(layout.doublings)]


class Generator(nn.Module):
    """z (B, latent_dim) or (B, 1, 1, latent_dim) -> images (B, H, W, channels) in [-1, 1], of ``image_size``.

    ``train=True`` normalises by the batch's statistics and updates the running ones (make the
    collection ``batch_stats`` mutable); ``train=False`` normalises by the running ones, so that no
    image depends on the others of its batch. Products are taken in ``dtype``; maps are kept in ``activations``.

    With ``classes`` z has as many numbers more, at its end: how much of each class, such as 1 for one and 0 for others.

    With ``self_modulation`` z also says, by way of one ``Hidden`` layer, the scales and shifts of all blocks but the
    last. With that too, game sprites and photographs were less precise (docs/results/projected.md).
    """

    latent_dim: int = 100
    width: int = 64
    image_size: sizes.ImageSize = 64
    channels: int = 3
    batchnorm_scale_mean: float = 1.0
    self_modulation: bool = False
    classes: int = 0
    dtype: Any = jnp.float32
    activations: Any = jnp.float32

    def __post_init__(self):
        self.image_size = sizes.checked(self.image_size)
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
        size, widths = _sizes(self.image_size, self.width)
        if self.classes:
            z = z * self.scales().reshape(*[1] * (z.ndim - 1), -1)
        x = z.reshape(-1, 1, 1, numbers)
        hidden = Hidden()(x[:, 0, 0]) if self.self_modulation else None
        for i, features in enumerate(reversed(widths)):
            settings = {"batchnorm_scale_mean": self.batchnorm_scale_mean, "dtype": self.dtype}
            if i == 0:
                settings |= {"strides": 1, "padding": 0, "size": size}  # (B, 4, 4, 8 · width) at 64x64
            settings["name"] = f"GeneratorBlock_{i}"
            if self.self_modulation and i < len(widths) - 1:
                x = ModulatedBlock(features, **settings)(x, hidden, train=train)
            else:
                x = GeneratorBlock(features, **settings)(x, train=train)
            x = x.astype(self.activations)
        x = ConvTranspose(self.channels, dtype=self.dtype)(x)
        return jnp.tanh(x.astype(jnp.promote_types(x.dtype, jnp.float32)))


def by_class(outputs: jax.Array) -> jax.Array:
    """Outputs (..., 1 + classes) of a last layer -> the logit of a real image of each class, (..., classes).

    It is the first output, which all classes share, and one of the class's own. With features f of the image, which the
    last layer multiplies, that is ψ·f + v·f for the vector v of the class: the projection discriminator of Miyato &
    Koyama 2018. Without classes the first output is the logit.
    """
    return outputs if outputs.shape[-1] == 1 else outputs[..., :1] + outputs[..., 1:]


class Discriminator(nn.Module):
    """Images (B, H, W, channels) in [-1, 1], of ``image_size`` -> logits (B, 1, 1, 1), positive for real.

    With ``classes`` logits (B, 1, 1, classes): see ``by_class``.

    ``train``, ``dtype`` and ``activations`` as in ``Generator``. The logits are float32. ``bias_scale`` multiplies all
    biases: see ``squared_gradient``.
    """

    width: int = 64
    image_size: sizes.ImageSize = 64
    first_batchnorm: bool = False
    leaky_slope: float = 0.2
    batchnorm_scale_mean: float = 1.0
    discriminator_norm: Norm = "batch"
    extra_convs: int = 0
    classes: int = 0
    dtype: Any = jnp.float32
    activations: Any = jnp.float32

    def __post_init__(self):
        self.image_size = sizes.checked(self.image_size)
        super().__post_init__()

    @property
    def homogeneous(self) -> bool:
        """Whether images and ``bias_scale`` times k > 0 give logits times k."""
        return self.discriminator_norm != "batch"

    @property
    def blocks(self) -> tuple[str, ...]:
        """The names of its blocks, from the image on."""
        return tuple(f"DiscriminatorBlock_{i}" for i in range(len(_sizes(self.image_size, self.width)[1])))

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
        size, widths = _sizes(self.image_size, self.width)
        for i, features in enumerate(widths):
            x = block(features, batchnorm=i > 0 or self.first_batchnorm)(x, train=train, bias_scale=bias_scale)
        # The chapter's last layer, a convolution without padding, has as many positions as the map: 4x4 at 64x64.
        shape = (*size, x.shape[-1], 1 + self.classes)
        kernel, bias = _kernel_and_bias(self, shape, self.discriminator_norm, train, gain=1.0)
        logits = jnp.einsum("bhwi,hwio->bo", x, kernel)[:, None, None, :]
        return by_class(logits if bias is None else logits + bias_scale * bias[None, None, None, :])
