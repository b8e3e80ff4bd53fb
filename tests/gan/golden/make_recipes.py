"""Record what PyTorch computes of the losses, the penalties and the robust recipe, for tests/gan/test_objectives.py.

    python tests/gan/golden/make_recipes.py

Needs torch 2.13 (CPU), which is no dependency of the project; writes recipes.npz beside itself. A DCGAN of 16x16 RGB,
width 4, latent 8, without BatchNorm and with biases in the discriminator, takes ten steps: D minimises
softplus(D(f) - D(r)) + γ/2 (|∇D(r)|² + |∇D(f)|²), then G softplus(D(r) - D(f)) through the updated D, with
Adam(1e-3, 0.5, 0.99) and γ 0.5 all the time.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

SIZE, WIDTH, LATENT, BATCH, STEPS, GAMMA = 16, 4, 8, 4, 10, 0.5

torch.manual_seed(0)
G = nn.Sequential(
    *(nn.ConvTranspose2d(LATENT, 2 * WIDTH, 4, 1, 0, bias=False), nn.BatchNorm2d(2 * WIDTH), nn.ReLU()),
    *(nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, 2, 1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()),
    *(nn.ConvTranspose2d(WIDTH, 3, 4, 2, 1, bias=False), nn.Tanh()),
)
D = nn.Sequential(
    *(nn.Conv2d(3, WIDTH, 4, 2, 1), nn.LeakyReLU(0.2)),
    *(nn.Conv2d(WIDTH, 2 * WIDTH, 4, 2, 1), nn.LeakyReLU(0.2)),
    nn.Conv2d(2 * WIDTH, 1, 4, 1, 0),
)
for module in (*G.modules(), *D.modules()):
    if isinstance(module, nn.ConvTranspose2d):
        nn.init.normal_(module.weight, 0.0, 0.1)
    elif isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, 0.2)
        nn.init.normal_(module.bias, 0.0, 0.1)

images = torch.randint(0, 256, (STEPS, BATCH, 3, SIZE, SIZE), dtype=torch.uint8)
noise = torch.randn(STEPS, BATCH, LATENT)
golden = {"images": images.permute(0, 1, 3, 4, 2), "noise": noise}


def record(prefix):
    for name, net in (("G", G), ("D", D)):
        for key, value in net.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                golden[f"{prefix}/{name}/{key}"] = value.clone()


# Each loss of logits, with its gradients.
bce, mse = nn.BCEWithLogitsLoss(), nn.MSELoss()
ones, zeros = torch.ones(6), torch.zeros(6)
LOSSES = {
    "bce": (lambda r, f: (bce(r, ones) + bce(f, zeros)) / 2, lambda r, f: bce(f, ones)),
    "hinge": (lambda r, f: functional.relu(1 - r).mean() + functional.relu(1 + f).mean(), lambda r, f: -f.mean()),
    "lsgan": (lambda r, f: (mse(r, ones) + mse(f, zeros)) / 2, lambda r, f: mse(f, ones) / 2),
    "relativistic": (lambda r, f: functional.softplus(f - r).mean(), lambda r, f: functional.softplus(r - f).mean()),
}
logits = torch.randn(2, 6) * 2
golden["logits"] = logits
for name, pair in LOSSES.items():
    for network, loss in zip("DG", pair, strict=True):
        real, fake = (x.clone().requires_grad_() for x in logits)
        value = loss(real, fake)
        gradients = torch.autograd.grad(value, (real, fake), allow_unused=True)
        golden[f"loss/{name}/{network}"] = value.detach()
        golden[f"loss/{name}/{network}/fake"] = gradients[1]


def penalty(x):
    x = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(D(x).sum(), x, create_graph=True)
    return gradient.square().sum(dim=(1, 2, 3)).mean()


record("before")
scaled = images.float() / 127.5 - 1
first = penalty(scaled[0])
first.backward()
golden["penalty"] = first.detach()
for key, parameter in D.named_parameters():
    golden[f"penalty/D/{key}"] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()

optimizers = [torch.optim.Adam(net.parameters(), lr=1e-3, betas=(0.5, 0.99)) for net in (G, D)]
trace = []
for step in range(STEPS):
    D.zero_grad()
    fake = G(noise[step].view(BATCH, LATENT, 1, 1))
    loss_D = functional.softplus(D(fake.detach()) - D(scaled[step])).mean()
    punished = GAMMA / 2 * (penalty(scaled[step]) + penalty(fake))
    (loss_D + punished).backward()
    optimizers[1].step()
    G.zero_grad()
    loss_G = functional.softplus(D(scaled[step]) - D(fake)).mean()
    loss_G.backward()
    optimizers[0].step()
    trace.append((loss_D.item(), loss_G.item(), punished.item()))
golden["trace"] = torch.tensor(trace, dtype=torch.float64)
record("after")

path = Path(__file__).with_name("recipes.npz")
np.savez_compressed(path, **{key: value.contiguous().numpy() for key, value in golden.items()})
print(f"{path}: {path.stat().st_size // 1024} KB, torch {torch.__version__}")
