"""The discriminator by projection of Miyato & Koyama 2018, to compare with one logit for each class.

    PYTHONPATH=experiments/recipes python experiments/recipes/study.py --out runs/projection --data creatures=sprites:32 \\
        --recipes "robust --conditional" "robust --conditional --discriminator by_projection:ByProjection" --images 64000

Results: docs/results/conditional.md.
"""

import dataclasses

from flax import linen as nn

from dcgan_jax import Discriminator


class ByProjection(Discriminator):
    """The built-in discriminator, whose logit for a class is that of all images and what the class adds.

    With features f of the image, the last layer's input, it is ψ(f) + f·v of the class: both are linear in f here.
    """

    @property
    def blocks(self) -> tuple[str, ...]:
        """None by name: they lie one level deeper than the built-in discriminator's."""
        return ()

    @nn.compact
    def __call__(self, x, *, train: bool, bias_scale=1.0):
        names = [one.name for one in dataclasses.fields(Discriminator) if one.name not in ("parent", "name", "classes")]
        inner = Discriminator(**{name: getattr(self, name) for name in names}, classes=self.classes + 1)
        logits = inner(x, train=train, bias_scale=bias_scale)  # (B, 1, 1, 1 + classes)
        return logits[..., :1] + logits[..., 1:]
