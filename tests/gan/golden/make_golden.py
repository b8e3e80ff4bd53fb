"""Record what PyTorch computes, for tests/gan/test_parity.py.

    python tests/gan/golden/make_golden.py

Needs torch 2.13 (CPU), which is no dependency of the project; writes torch.npz beside itself. A small
DCGAN (32x32 RGB, width 4, latent 8) in PyTorch's own layouts takes ten steps as pytorch/examples
does: D on real and generated images, then G through the updated D, Adam(2e-4, 0.5, 0.999). The loss is
the chapter's, (real + fake) / 2.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn

SIZE, WIDTH, LATENT, BATCH, STEPS = 32, 4, 8, 4, 10
BLOCKS = (4 * WIDTH, 2 * WIDTH, WIDTH)

generator, discriminator, channels = [], [], LATENT
for i, out in enumerate(BLOCKS):
    geometry = (1, 0) if i == 0 else (2, 1)
    generator += [nn.ConvTranspose2d(channels, out, 4, *geometry, bias=False), nn.BatchNorm2d(out), nn.ReLU()]
    channels = out
G = nn.Sequential(*generator, nn.ConvTranspose2d(channels, 3, 4, 2, 1, bias=False), nn.Tanh())
channels = 3
for i, out in enumerate(reversed(BLOCKS)):
    discriminator += [nn.Conv2d(channels, out, 4, 2, 1, bias=False)]
    discriminator += [nn.BatchNorm2d(out)] if i else []
    discriminator += [nn.LeakyReLU(0.2)]
    channels = out
D = nn.Sequential(*discriminator, nn.Conv2d(channels, 1, 4, 1, 0, bias=False))

torch.manual_seed(0)
for module in (*G.modules(), *D.modules()):
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.1)  # wider than the recipe's: signals stay large in a net this thin
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)

images = torch.randint(0, 256, (STEPS, BATCH, 3, SIZE, SIZE), dtype=torch.uint8)
noise = torch.randn(STEPS, BATCH, LATENT)
golden = {"images": images.permute(0, 1, 3, 4, 2), "noise": noise}


def record(prefix):
    for name, net in (("G", G), ("D", D)):
        for key, value in net.state_dict().items():
            if not key.endswith("num_batches_tracked"):
                golden[f"{prefix}/{name}/{key}"] = value.clone()


record("before")
scaled = images.float() / 127.5 - 1
cross_entropy = nn.BCEWithLogitsLoss()
optimizers = [torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999)) for net in (G, D)]
trace = []
for step in range(STEPS):
    D.zero_grad()
    real_logits = D(scaled[step])
    fake = G(noise[step].view(BATCH, LATENT, 1, 1))
    fake_logits = D(fake.detach())
    loss_D = (
        cross_entropy(real_logits, torch.ones_like(real_logits))
        + cross_entropy(fake_logits, torch.zeros_like(fake_logits))
    ) / 2
    loss_D.backward()
    optimizers[1].step()
    G.zero_grad()
    logits = D(fake)
    loss_G = cross_entropy(logits, torch.ones_like(logits))
    gradients_D = {key: p.grad.clone() for key, p in D.named_parameters()}
    loss_G.backward()
    optimizers[0].step()
    trace.append((loss_D.item(), loss_G.item()))
    if step == 0:
        golden["train/fake"] = fake.detach().permute(0, 2, 3, 1)
        golden["train/real_logits"] = real_logits.detach().flatten()
        golden["train/fake_logits"] = fake_logits.detach().flatten()
        for key, gradient in gradients_D.items():
            golden[f"gradient/D/{key}"] = gradient
        for key, parameter in G.named_parameters():
            golden[f"gradient/G/{key}"] = parameter.grad.clone()
        for name, net in (("G", G), ("D", D)):
            for key, value in net.state_dict().items():
                if "running" in key:
                    golden[f"statistics/{name}/{key}"] = value.clone()
golden["trace"] = torch.tensor(trace, dtype=torch.float64)

record("after")
G.eval(), D.eval()
with torch.no_grad():
    golden["inference/fake"] = G(noise[0].view(BATCH, LATENT, 1, 1)).permute(0, 2, 3, 1)[:2]
    golden["inference/logits"] = D(scaled[0]).flatten()

path = Path(__file__).with_name("torch.npz")
np.savez_compressed(path, **{key: value.contiguous().numpy() for key, value in golden.items()})
print(f"{path}: {path.stat().st_size // 1024} KB, torch {torch.__version__}")
