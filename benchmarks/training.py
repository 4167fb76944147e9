"""The training of a found network: its step and its batches, in the plain version and ours."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from benchmarks.reference_network import PlainNetwork
from benchmarks.setting import Setting, Step, plain_sgd
from hdarts.data import Augmentation, Batches, Images
from hdarts.network import EvaluationNetwork
from hdarts.runs.randomness import generator
from hdarts.space import Genotype

TRAINING_STEP = "training step of a found network"
BATCHES, BATCHES_BY_WORKERS = "batches of a pass, no worker", "batches of a pass, 2 workers"
IMAGES, PADDING, CUTOUT = 5_000, 4, 16

CELLS = Path(__file__).parent.parent / "params" / "genotypes" / "darts-v2.json"


def training_step(side: str, setting: Setting) -> Step:
    """Return a training step of the DARTS V2 network with auxiliary head: norm clip and SGD, no drop path."""
    _, (images, labels), _ = setting.data()
    torch.manual_seed(0)
    make = PlainNetwork if side == "plain" else EvaluationNetwork
    network = make(Genotype.from_json(CELLS.read_text()), setting.channels, setting.cells, 10, True)
    network.to(setting.device)
    optimiser = plain_sgd(list(network.parameters()))

    def step() -> None:
        optimiser.zero_grad()
        logits, auxiliary = network(images)
        (F.cross_entropy(logits, labels) + 0.4 * F.cross_entropy(auxiliary, labels)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()

    return step


class Cutout(nn.Module):
    """Set a square around a random pixel of a normalised image to zero (DeVries and Taylor 2017)."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        row, column = (int(torch.randint(size, ())) for size in image.shape[1:])
        top, left = max(0, row - CUTOUT // 2), max(0, column - CUTOUT // 2)
        image[:, top : row + CUTOUT // 2, left : column + CUTOUT // 2] = 0
        return image


class InMemory(Dataset):
    """Images as in torchvision's CIFAR-10: from an array in memory, through PIL, transformed one by one."""

    def __init__(self, pixels: torch.Tensor, labels: torch.Tensor, mean: list[float], std: list[float]):
        self.pixels, self.labels = pixels, labels.tolist()
        self.transform = v2.Compose(
            [
                v2.ToPILImage(),
                v2.RandomCrop(pixels.shape[-1], PADDING),
                v2.RandomHorizontalFlip(),
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(mean, std),
                Cutout(),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pixels[index]), self.labels[index]


def batches(side: str, setting: Setting, workers: int) -> Step:
    """Return a shuffled pass over 5,000 images of CIFAR-10's size, with DARTS's augmentation for final training."""
    draw = generator(0, "images")
    pixels = torch.randint(256, (IMAGES, 3, setting.size, setting.size), generator=draw).to(torch.uint8)
    labels = torch.randint(10, (IMAGES,), generator=draw)
    mean, std = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
    if side == "plain":
        data = InMemory(pixels, labels, mean, std)
        loader = DataLoader(data, setting.batch, True, num_workers=workers, persistent_workers=workers > 0)
        return lambda: [None for _ in loader]
    images = Images(pixels, labels, torch.tensor(mean), torch.tensor(std)).to(setting.device)
    ours = Batches(images, setting.batch, Augmentation(PADDING, True, CUTOUT), drop_last=False)
    return lambda: [None for _ in ours.epoch(0, "benchmark", 0)]
