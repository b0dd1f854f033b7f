"""Per-sample stochastic gradient descent in exact blocks, several times faster than one sample at a time.

The NumPy tutorial takes a step after every image. Each step reads and writes the whole first weight matrix, and this
memory traffic takes most of the time, not the arithmetic. Blocks avoid it without changing the result. Let a block of
images ``x_0, x_1, ...`` start at weights ``W``. Each image changes the weights by the outer product of its pixels and
its gradient ``d_i``, so image ``k`` meets the weights ``W_k``::

    W_k = W - rate * sum_{i<k} x_i' d_i

    z_k = x_k W_k = x_k W - rate * sum_{i<k} (x_k . x_i) d_i

So a block needs one product ``X W``, one matrix of inner products ``X X'``, a few vector operations per image, and one
product ``X' D`` at its end. The sums are the same in another order, so results agree up to rounding.

Blocks need a dense first layer, plain SGD and batches of one sample. The plain loop is `Step.run_epoch` with batches of
one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from xpnet.nn.layers import Dense, Dropout
from xpnet.nn.network import Network
from xpnet.nn.optimizers import SGD
from xpnet.training.step import Batch, Progress, Samples, Step, count_correct, take_batch
from xpnet.typing import Array

BLOCK = 50
"""Images per block. In measurements, sizes from 32 to 100 take the same time."""


def works_in_blocks(step: Step, batch_size: int) -> bool:
    """Return whether blocks compute the same as a loop over single samples."""
    network, optimizer = step.network, step.optimizer
    return (
        batch_size == 1
        and type(network.layers[0]) is Dense
        # A later layer needs parameters too.
        and any(network.parameters[1:])
        # Subclasses may behave differently.
        and type(optimizer) is SGD
        and optimizer.plain
        and step.all_reduce is None
        # A layer with state uses statistics of the batch, which differ between a block and a single sample.
        and not any(network.statistics)
    )


@dataclass(frozen=True)
class BlockStep:
    """Takes the steps of a `Step` with batches of one, block by block.

    Attributes
    ----------
    step : Step
    tail : Network
        The layers after the first.
    """

    step: Step
    tail: Network

    @classmethod
    def of(cls, step: Step) -> BlockStep:
        """Split the first layer of a step's network from the rest."""
        return cls(step, Network(step.network.layers[1:], step.network.shapes[1]))

    @functools.cached_property
    def noises(self) -> list[str]:
        """The names of the random numbers of each layer of the tail."""
        return [f"noise.{i}" for i in range(1, len(self.step.network.layers))]

    def run_epoch(self, progress: Progress, blocks: Batch, samples: Samples) -> Progress:
        """Run all blocks of an epoch: arrays of shape (blocks, images per block, ...)."""

        def run(progress: Progress, block: Batch) -> tuple[Progress, None]:
            return self.run_block(progress, block, samples), None

        result: Progress = self.step.backend.scan(run, progress, blocks)[0]
        return result

    def run_block(self, progress: Progress, block: Batch, samples: Samples) -> Progress:
        """Take a step for each image of a block."""
        step, xp = self.step, self.step.backend.xp
        x, labels, targets = take_batch(step, block["index"], samples)
        first, *tail = progress.params
        inner = x @ x.T
        z = x @ first["weight"]
        if "bias" in first:
            # A bias is the weight of an additional pixel that is 1 in every image.
            inner += 1.0
            z += first["bias"]
        # Each image is a batch of one; this adds the batch axis to all of them at once.
        singles = {name: array[:, None, ...] for name, array in block.items() if name.startswith("noise.")}
        for i, layer in enumerate(self.tail.layers, start=1):
            if isinstance(layer, Dropout):  # Cast for all images at once.
                singles[f"noise.{i}"] = xp.astype(singles[f"noise.{i}"], getattr(xp, step.dtype))
        singles |= {
            "k": xp.arange(x.shape[0], device=step.backend.device)[:, None],
            "rate": block["rate"],
            "targets": targets[:, None, :],
            "inner": (inner * block["rate"][:, None])[:, :, None],
        }
        kept: Array
        if samples.weights is not None:
            singles["weights"] = xp.take(samples.weights, block["index"], axis=0)[:, None, :]
        (z, tail), kept = step.backend.scan(self._take, (z, tail), singles)
        units = z.shape[1]
        d, y = kept[:, 0, :units], kept[:, 0, units:]
        scaled = d * block["rate"][:, None]
        changes = {"weight": x.T @ scaled} | ({"bias": xp.sum(scaled, axis=0)} if "bias" in first else {})
        head = {name: first[name] - change for name, change in changes.items()}
        loss = progress.loss + step.loss.value(y, targets, xp=xp)
        return progress._replace(
            params=[head, *tail], loss=loss, correct=progress.correct + count_correct(y, labels, xp)
        )

    def _take(self, carry: Any, sample: Batch) -> tuple[Any, Array]:
        """Run one image through the tail, and apply its weight change to the pre-activations of all images."""
        z, params = carry
        step, xp = self.step, self.step.backend.xp
        ctx, noise = step.context, [sample.get(name) for name in self.noises]
        y, caches = self.tail.forward(params, [{}] * len(params), xp.take(z, sample["k"], axis=0), ctx, noise)
        dy = step.loss.gradient(y, sample["targets"], xp=xp)
        if "weights" in sample:
            dy = dy * sample["weights"]
        d, gradients = self.tail.backward(params, caches, dy, ctx, input_gradient=True)
        rate = sample["rate"]
        params = [{name: p[name] - rate * g[name] for name in p} for p, g in zip(params, gradients, strict=True)]
        z -= sample["inner"] * d  # In place, since the block allocated it.
        return (z, params), xp.concat([d, y], axis=1)
