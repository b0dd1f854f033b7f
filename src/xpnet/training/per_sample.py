"""Per-sample stochastic gradient descent in exact blocks, several times faster than one sample at a time.

The NumPy tutorial takes a step after every image. Each step reads and writes the whole first weight matrix, and
that traffic, not arithmetic, is what its time goes into. It can be spared without changing a single result. Let a
block of images ``x_0, x_1, ...`` start at weights ``W``. Image ``k`` meets the weights that the images before it
have left, each by the outer product of its pixels and its gradient ``d_i``::

    W_k = W - rate * sum_{i<k} x_i' d_i

    z_k = x_k W_k = x_k W - rate * sum_{i<k} (x_k . x_i) d_i

So the block needs one product ``X W``, one matrix of inner products ``X X'``, small work on vectors for each image,
and one product ``X' D`` at its end. The same sums are added in another order: results agree to rounding.

It holds wherever the first layer is dense, the optimizer plain SGD and the batch a single sample. The plain loop is
`Step.run_epoch` with batches of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xpnet.nn.layers import Dense, Dropout
from xpnet.nn.network import Network
from xpnet.nn.optimizers import SGD
from xpnet.training.step import Batch, Progress, Samples, Step, count_correct, take_batch
from xpnet.typing import Array

BLOCK = 50
"""Images a block: measured, the time is flat from 32 to 100."""


def works_in_blocks(step: Step, batch_size: int) -> bool:
    """Say whether the blocks compute what a loop over single samples would."""
    network, optimizer = step.network, step.optimizer
    return (
        batch_size == 1
        and type(network.layers[0]) is Dense
        # Something has to learn behind it, too.
        and any(network.parameters[1:])
        # Subclasses may do other things.
        and type(optimizer) is SGD
        and optimizer.plain
        and step.all_reduce is None
        # A layer with state looks at the batch, so that one sample at a time is another thing than a block.
        and not any(network.statistics)
    )


@dataclass(frozen=True)
class BlockStep:
    """Takes the steps of a `Step` with batches of one, a block at a time.

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

    def run_epoch(self, progress: Progress, blocks: Batch, samples: Samples) -> Progress:
        """Work through blocks: arrays of shape (blocks, images a block, ...)."""

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
            # A bias is a weight of one more pixel, which is 1 in every image.
            inner += 1.0
            z += first["bias"]
        # Each image is a batch of one: the axis is given to all of them at once.
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
        """Take one image through the tail, and tell the pre-activations of all images what it changed."""
        z, params = carry
        step, xp = self.step, self.step.backend.xp
        ctx = step.context(training=True)
        noise = [sample.get(f"noise.{i + 1}") for i in range(len(params))]
        y, caches = self.tail.forward(params, [{}] * len(params), xp.take(z, sample["k"], axis=0), ctx, noise)
        dy = step.loss.gradient(y, sample["targets"], xp=xp)
        d, gradients = self.tail.backward(params, caches, dy, ctx, input_gradient=True)
        rate = sample["rate"]
        params = [{name: p[name] - rate * g[name] for name in p} for p, g in zip(params, gradients, strict=True)]
        z -= sample["inner"] * d  # In place: the block made it for itself.
        return (z, params), xp.concat([d, y], axis=1)
