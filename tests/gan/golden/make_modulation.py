"""Record what PyTorch computes of a generator with self-modulation, for tests/gan/test_modulation.py.

    python tests/gan/golden/make_modulation.py

Needs torch 2.15 (CPU), which is no dependency of the project; writes modulation.npz beside itself. 32x32 RGB, width 2,
latent 8, five hidden numbers, which all blocks but the last get: images in training, the running statistics after that,
images by these, and the gradient of a weighed sum of the images in training with respect to all weights and z.
"""

import itertools
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

WIDTHS, LATENT, HIDDEN, BATCH = (8, 4, 2), 8, 5, 4

torch.manual_seed(0)
weights = {"z": torch.randn(BATCH, LATENT), "hidden/weight": torch.randn(HIDDEN, LATENT) / 3}
weights["hidden/bias"] = torch.randn(HIDDEN) / 3
for i, (before, after) in enumerate(itertools.pairwise((LATENT, *WIDTHS))):
    weights[f"{i}/kernel"] = torch.randn(before, after, 4, 4) / 5
    for part in ("scale", "shift"):
        if i < len(WIDTHS) - 1:
            weights[f"{i}/{part}/weight"] = torch.randn(after, HIDDEN) / 3
        weights[f"{i}/{part}/bias"] = torch.randn(after) / 3
weights["kernel"] = torch.randn(WIDTHS[-1], 3, 4, 4) / 3
for value in weights.values():
    value.requires_grad_()
stats = {
    f"{i}/{kind}": value(width)
    for i, width in enumerate(WIDTHS)
    for kind, value in (("mean", torch.zeros), ("var", torch.ones))
}


def dense(x, name):
    bias = weights[f"{name}/bias"]
    return functional.linear(x, weights[f"{name}/weight"], bias) if f"{name}/weight" in weights else bias[None]


def images(train):
    hidden = functional.relu(dense(weights["z"], "hidden"))
    x = weights["z"][:, :, None, None]
    for i in range(len(WIDTHS)):
        x = functional.conv_transpose2d(x, weights[f"{i}/kernel"], stride=2 if i else 1, padding=1 if i else 0)
        x = functional.batch_norm(x, stats[f"{i}/mean"], stats[f"{i}/var"], training=train)
        scale, shift = (dense(hidden, f"{i}/{part}")[:, :, None, None] for part in ("scale", "shift"))
        x = functional.relu(x * (1 + scale) + shift)
    return torch.tanh(functional.conv_transpose2d(x, weights["kernel"], stride=2, padding=1)).permute(0, 2, 3, 1)


golden = {f"weights/{name}": value for name, value in weights.items()}
golden["training"] = images(train=True)
golden["weight"] = torch.randn(BATCH, 32, 32, 3)
(golden["training"] * golden["weight"]).sum().backward()
golden |= {f"gradients/{name}": value.grad for name, value in weights.items()}
golden |= {f"stats/{name}": value for name, value in stats.items()}
golden["inference"] = images(train=False)
np.savez_compressed(
    Path(__file__).with_name("modulation.npz"), **{name: value.detach().numpy() for name, value in golden.items()}
)
