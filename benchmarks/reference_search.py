"""Plain reference: searches by DARTS and hyperDARTS as explicit loops over torch.optim and autograd.

They follow algorithms 1 and 2 of the thesis and the code of DARTS. The tests compare `hdarts.search` with them.
"""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from benchmarks.reference import Named
from hdarts.data import Augmentation, Batches, Splits, in_order
from hdarts.params import SearchParams
from hdarts.runs.randomness import generator
from hdarts.supernet.layout import Layout

Batch = tuple[Tensor, Tensor, str]  # images, labels, level


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
        self.start, self.count = 0, params.epochs  # first epoch and number of epochs
        self.epoch = self.step = 0
        betas, decay = (params.alpha_beta1, params.alpha_beta2), params.alpha_weight_decay
        self.adam = torch.optim.Adam([self.alpha], params.alpha_learning_rate, betas, weight_decay=decay)
        rate, momentum, decay = params.learning_rate, params.momentum, params.weight_decay
        self.sgd = torch.optim.SGD(self.trained, rate, momentum, weight_decay=decay, nesterov=params.nesterov)

    def epochs(self, data: Splits) -> Iterator[dict[str, float]]:
        """Search; yield the learning rate, the training loss and the validation results of each epoch."""
        for epoch in range(self.start, self.start + self.count):
            self.epoch = epoch
            self.begin_epoch()
            rate, losses, images = 0.0, 0.0, 0
            batches = list(self.pairs(data, self.epoch))
            for step, (training, validation) in enumerate(batches):
                self.step = step
                done = self.step / len(batches) if self.params.schedule == "step" else 0.0  # as in NAS-Bench-201
                self.sgd.param_groups[0]["lr"] = self.rate(self.epoch + done)
                rate = rate or self.rate(self.epoch + done)  # of the first step
                losses += len(training[1]) * self.iterate(training, validation)
                images += len(training[1])
            yield {"learning_rate": rate, "train_loss": losses / images, **self.validated(data)}

    def begin_epoch(self) -> None:
        """Nothing changes by epoch but the learning rate."""

    def rate(self, epoch: float) -> float:
        """Return half a cosine, from the highest to the lowest learning rate, over its epochs or `schedule_epochs`."""
        high, low, whole = self.params.learning_rate, self.params.learning_rate_min, self.params.schedule_epochs
        done = epoch / whole if whole else (epoch - self.start) / self.count
        return low + (high - low) * (1 + math.cos(math.pi * done)) / 2

    def iterate(self, training: Batch, validation: Batch) -> float:
        """Step alpha and weights on a pair of batches; return the training loss."""
        order = self.params.order
        loss = self.step_weights(training) if order == "weights-first" else None
        gradient = self.hypergradient(training, validation)
        if order == "alpha-first":
            self.step_alpha(gradient)
        loss = self.step_weights(training) if loss is None else loss
        if order != "alpha-first":
            self.step_alpha(gradient)
        return loss

    def pairs(self, data: Splits, epoch: int) -> Iterator[tuple[Batch, Batch]]:
        """Yield a batch of each level until both have yielded all images, or one has, with `drop_last`."""
        params, part = self.params, {"inner": data.train, "outer": data.validation}
        augmentation = Augmentation(params.crop_padding, params.flip, params.cutout)
        passes: dict[str, list[Batch]] = {"inner": [], "outer": []}
        for name, batches in passes.items():
            loader = Batches(part[name], params.batch_size, augmentation, params.drop_last)  # type: ignore[arg-type]
            for number in range(4):
                batches += ((x, y, name) for x, y in loader.epoch(params.search_seed, name, epoch, number=number))
        counts = [len(images) / params.batch_size for images in part.values() if images is not None]
        steps = math.floor(min(counts)) if params.drop_last else math.ceil(max(counts))
        yield from zip(passes["inner"][:steps], passes["outer"][:steps], strict=True)

    def logits(self, w: Tensor, weights: Tensor, images: Tensor) -> Tensor:
        named = {self.names[name]: value for name, value in self.layout.unpack(w).items()}
        return torch.func.functional_call(self.net, named, (images.to(w), weights))

    def mixture(self, a: Tensor, level: str) -> Tensor:
        """Return the mixture weights of all operations; `level` is that of the batch, "" in validation."""
        return a.softmax(-1)

    def loss(self, w: Tensor, a: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(self.logits(w, self.mixture(a, batch[2]), batch[0]), batch[1])

    def weights(self, a: Tensor) -> Tensor:
        """Return w at `a`: learned, or generated from `a`, or from its distance to alpha where that is centred."""
        if not self.kinds:
            return self.trained[0]
        z = a - self.alpha.detach() if self.params.centred else a
        return torch.cat([generated(self.trained[:-1], z, self.kinds), self.trained[-1]])

    def step_alpha(self, gradient: Tensor) -> None:
        """Step alpha along a gradient; the weights of a centred hypernetwork follow: b += W da."""
        before = self.alpha.detach().clone()
        self.alpha.grad = gradient
        self.move_alpha()
        if self.params.centred:
            for matrix, b, change in zip(self.trained[:-1:2], self.trained[1::2], self.alpha - before, strict=True):
                b.data += (matrix @ change.flatten()).detach()

    def hypergradient(self, training: Batch, validation: Batch) -> Tensor:
        """Return the part of the hypergradient that steps alpha, on a validation batch, without noise."""
        part = self.params.part
        if self.params.method == "darts-second":
            direct, response = self.look_ahead(training, validation)
            return {"total": direct + response, "response": response, "direct": direct}[part]
        w, a = self.weights(self.alpha), self.alpha
        w, a = {"total": (w, a), "response": (w, a.detach()), "direct": (w.detach(), a)}[part]
        return torch.autograd.grad(self.loss(w, a, validation), self.alpha)[0]

    def move_alpha(self) -> None:
        """Step alpha along its gradient."""
        self.adam.step()

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

    def step_weights(self, batch: Batch) -> float:
        """Step the weights on a training batch at a = alpha + sigma noise, and return the loss; w at a enters it at a.

        An antithetic step takes the mean of the losses at both signs of the noise.
        """
        alpha, signs = self.alpha.detach(), (1, -1) if self.params.antithetic else (1,)
        draw = generator(self.params.search_seed, "noise", self.epoch, self.step)
        noise = self.params.noise * torch.randn(alpha.shape, generator=draw).to(alpha)
        at = [alpha + sign * noise for sign in signs]
        return self.descend(torch.stack([self.loss(self.weights(a), a, batch) for a in at]).mean())

    def descend(self, loss: Tensor) -> float:
        """Take a step of SGD down the loss, along its gradient clipped in norm; return the loss."""
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
            logits = self.logits(w, self.mixture(self.alpha, ""), x)
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
