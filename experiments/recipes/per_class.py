"""A discriminator with one logit for each class (Mescheder et al. 2018), to compare with the built-in one, which projects.

    PYTHONPATH=experiments/recipes python experiments/recipes/study.py --out runs/per-class --data creatures=sprites:32 \\
        --recipes "robust --conditional" "robust --conditional --discriminator per_class:PerClass" --images 64000

Results: docs/results/conditional.md.
"""

import flax.linen as nn

from dcgan_jax import DiscriminatorBlock


class PerClass(nn.Module):
    """Images (B, H, W, C) -> logits (B, 1, 1, classes): the built-in blocks, and as many outputs as there are classes."""

    width: int = 64
    image_size: int = 64
    leaky_slope: float = 0.2
    classes: int = 1
    homogeneous = True

    @nn.compact
    def __call__(self, x, *, train: bool, bias_scale=1.0):
        width = self.width
        while min(x.shape[1:3]) > 4:
            block = DiscriminatorBlock(width, norm="none", leaky_slope=self.leaky_slope)
            x, width = block(x, train=train, bias_scale=bias_scale), 2 * width
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        kernel = self.param("kernel", init, (x[0].size, self.classes))
        bias = self.param("bias", nn.initializers.zeros, (self.classes,))
        return (x.reshape(len(x), -1) @ kernel)[:, None, None, :] + bias_scale * bias
