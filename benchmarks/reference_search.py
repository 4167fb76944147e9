"""Plain reference: searches by DARTS and hyperDARTS as explicit loops over torch.optim and autograd.

They follow algorithms 1 and 2 of the thesis and the code of DARTS. The tests compare `hdarts.search` with them.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.optim.lr_scheduler import CosineAnnealingLR

from benchmarks.reference import Named
from hdarts.data import Augmentation, Batches, Splits, in_order
from hdarts.params import SearchParams
from hdarts.runs.randomness import generator
from hdarts.supernet.layout import Layout

Batch = tuple[Tensor, Tensor]


class PlainSearch:
    """A search whose state is `alpha` and `trained`: [w] in DARTS, [*matrices of hypernetworks, rest] in hyperDARTS.

    `kinds`: for hyperDARTS, the sizes of the convolutions of each kind of cell.
    """

    def __init__(
        self,
        params: SearchParams,
        net: Named,
        layout: Layout,
        alpha: Tensor,
        trained: Sequence[Tensor],
        kinds: Sequence[list[int]] = (),
    ):
        self.params, self.net, self.layout, self.names, self.kinds = params, net, layout, net.layout_names(), kinds
        self.alpha, *self.trained = (each.clone().requires_grad_() for each in (alpha, *trained))
        betas, decay = (params.alpha_beta1, params.alpha_beta2), params.alpha_weight_decay
        self.adam = torch.optim.Adam([self.alpha], params.alpha_learning_rate, betas, weight_decay=decay)
        rate, momentum, decay = params.learning_rate, params.momentum, params.weight_decay
        self.sgd = torch.optim.SGD(self.trained, rate, momentum, weight_decay=decay, nesterov=params.nesterov)

    def epochs(self, data: Splits) -> Iterator[dict[str, float]]:
        """Search; yield the learning rate, the training loss and the validation results of each epoch."""
        params, seed = self.params, self.params.search_seed
        schedule = CosineAnnealingLR(self.sgd, params.epochs, params.learning_rate_min)
        for epoch in range(params.epochs):
            rate, losses, images = 0.0, 0.0, 0
            batches = list(self.pairs(data, epoch))
            for step, (training, validation) in enumerate(batches):
                if params.schedule == "step":  # within the epoch, as in the code of NAS-Bench-201
                    high, low = params.learning_rate, params.learning_rate_min
                    turned = math.cos(math.pi * (epoch + step / len(batches)) / params.epochs)
                    self.sgd.param_groups[0]["lr"] = low + (high - low) * (1 + turned) / 2
                if params.order == "alpha-first":
                    self.step_alpha(training, validation)
                rate = rate or float(self.sgd.param_groups[0]["lr"])  # of the first step
                noise = torch.randn(self.alpha.shape, generator=generator(seed, "noise", epoch, step))
                losses += len(training[1]) * self.step_weights(training, noise.to(self.alpha))
                images += len(training[1])
                if params.order == "weights-first":
                    self.step_alpha(training, validation)
            if params.schedule == "epoch":
                schedule.step()
            yield {"learning_rate": rate, "train_loss": losses / images, **self.validated(data)}

    def pairs(self, data: Splits, epoch: int) -> Iterator[tuple[Batch, Batch]]:
        """Yield a batch of each level until both have yielded all images, or one has, with `drop_last`."""
        params, part = self.params, {"inner": data.train, "outer": data.validation}
        augmentation = Augmentation(params.crop_padding, params.flip, params.cutout)
        passes: dict[str, list[Batch]] = {"inner": [], "outer": []}
        for name, batches in passes.items():
            loader = Batches(part[name], params.batch_size, augmentation, params.drop_last)  # type: ignore[arg-type]
            for number in range(4):
                batches += loader.epoch(params.search_seed, name, epoch, number=number)
        counts = [len(images) / params.batch_size for images in part.values() if images is not None]
        steps = math.floor(min(counts)) if params.drop_last else math.ceil(max(counts))
        yield from zip(passes["inner"][:steps], passes["outer"][:steps], strict=True)

    def logits(self, w: Tensor, a: Tensor, images: Tensor) -> Tensor:
        named = {self.names[name]: value for name, value in self.layout.unpack(w).items()}
        return torch.func.functional_call(self.net, named, (images.to(w), a.softmax(-1)))

    def loss(self, w: Tensor, a: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(self.logits(w, a, batch[0]), batch[1])

    def weights(self, a: Tensor) -> Tensor:
        """Return w at `a`: learned, or generated from `a`, or from its distance to alpha where that is centred."""
        if not self.kinds:
            return self.trained[0]
        z = a - self.alpha.detach() if self.params.centred else a
        return torch.cat([generated(self.trained[:-1], z, self.kinds), self.trained[-1]])

    def step_alpha(self, training: Batch, validation: Batch) -> None:
        """Step alpha on a validation batch, without noise; the weights of a centred hypernetwork follow: b += W da."""
        before, part = self.alpha.detach().clone(), self.params.part
        if self.params.method == "darts-second":
            direct, response = self.look_ahead(training, validation)
            self.alpha.grad = {"total": direct + response, "response": response, "direct": direct}[part]
        else:
            w, a = self.weights(self.alpha), self.alpha
            w, a = {"total": (w, a), "response": (w, a.detach()), "direct": (w.detach(), a)}[part]
            (self.alpha.grad,) = torch.autograd.grad(self.loss(w, a, validation), self.alpha)
        self.adam.step()
        if self.params.centred:
            for matrix, b, change in zip(self.trained[:-1:2], self.trained[1::2], self.alpha - before, strict=True):
                b.data += (matrix @ change.flatten()).detach()

    def look_ahead(self, training: Batch, validation: Batch) -> tuple[Tensor, Tensor]:
        """Return direct and response part of second-order DARTS: a step of SGD, a central difference."""
        (w,), alpha, sgd = self.trained, self.alpha, self.sgd.param_groups[0]
        (slope,) = torch.autograd.grad(self.loss(w, alpha, training), w)
        velocity = self.sgd.state[w].get("momentum_buffer", torch.zeros_like(w))
        velocity = sgd["momentum"] * velocity + slope + sgd["weight_decay"] * w
        if nesterov := self.params.nesterov:
            velocity = slope + sgd["weight_decay"] * w + sgd["momentum"] * velocity
        ahead = (w - sgd["lr"] * velocity).detach().requires_grad_()
        v, direct = torch.autograd.grad(self.loss(ahead, alpha, validation), (ahead, alpha))
        eps = self.params.epsilon / v.norm()
        plus, minus = (
            torch.autograd.grad(self.loss(w.detach() + sign * eps * v, alpha, training), alpha)[0] for sign in (1, -1)
        )
        moved = sgd["lr"] * (1 + sgd["momentum"] if nesterov else 1)  # per unit of the slope
        return direct, -moved * (plus - minus) / (2 * eps)

    def step_weights(self, batch: Batch, noise: Tensor) -> float:
        """Step the weights on a training batch at a = alpha + sigma noise, and return the loss; w at a enters it at a.

        An antithetic step takes the mean of the losses at both signs of the noise.
        """
        alpha, signs = self.alpha.detach(), (1, -1) if self.params.antithetic else (1,)
        at = [alpha + sign * self.params.noise * noise for sign in signs]
        loss = torch.stack([self.loss(self.weights(a), a, batch) for a in at]).mean()
        self.sgd.zero_grad()
        loss.backward()
        clip_grad_norm_(self.trained, self.params.clip)
        self.sgd.step()
        return float(loss.detach())

    @torch.no_grad()
    def validated(self, data: Splits) -> dict[str, float]:
        """Return loss and accuracy (per cent) on the validation images as they are, without noise."""
        assert data.validation is not None
        w, losses, right = self.weights(self.alpha), 0.0, 0
        for x, y in in_order(data.validation, self.params.batch_size):
            logits = self.logits(w, self.alpha, x)
            losses += float(F.cross_entropy(logits, y, reduction="sum"))
            right += int((logits.argmax(1) == y).sum())
        count = len(data.validation)
        return {"validation_loss": losses / count, "validation_accuracy": 100 * right / count}


def generated(matrices: Sequence[Tensor], z: Tensor, kinds: Sequence[list[int]]) -> Tensor:
    """Return the cell weights of all kinds: W z + b, or for each convolution W2 sigmoid(W1 z + b1) + b2."""
    made, each = [], len(matrices) // len(kinds)
    for k, (row, sizes) in enumerate(zip(z.flatten(1), kinds, strict=True)):
        *hidden, matrix, b = matrices[each * k : each * (k + 1)]
        inputs = torch.sigmoid(hidden[0] @ row + hidden[1]).view(len(sizes), -1) if hidden else [row] * len(sizes)
        parts = zip(matrix.split(sizes), inputs, strict=True)
        made.append(torch.cat([part @ x for part, x in parts]) + b)
    return torch.cat(made)


def matrices(phi: Tensor, kinds: Sequence[list[int]], n_alpha: int, hidden: int) -> list[Tensor]:
    """Return phi as matrices: W and b of each kind or, with `hidden` units per convolution, W1, b1, W2 and b2."""
    shapes: list[tuple[int, ...]] = []
    for sizes in kinds:
        shapes += [(len(sizes) * hidden, n_alpha), (len(sizes) * hidden,)] if hidden else []
        shapes += [(sum(sizes), hidden or n_alpha), (sum(sizes),)]
    return [part.view(shape) for part, shape in zip(phi.split(list(map(math.prod, shapes))), shapes, strict=True)]
