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
`Trainer.run_epoch` with batches of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xpnet.nn.layers import Array, Dense
from xpnet.nn.network import Network
from xpnet.nn.optimizers import SGD
from xpnet.training.step import Batch, DeviceData, Progress, Trainer, count_correct, take_batch

BLOCK = 50
"""Images a block: measured, the time is flat from 32 to 100."""


def works_in_blocks(trainer: Trainer, batch_size: int) -> bool:
    """Say whether the blocks compute what a loop over single samples would."""
    layers = trainer.network.layers
    return (
        batch_size == 1
        and type(layers[0]) is Dense
        # Something has to learn behind it, too.
        and trainer.network.slots[-1].layer > 0
        # Subclasses may do other things.
        and type(trainer.optimizer) is SGD
        and trainer.optimizer.plain
        and trainer.all_reduce is None
        # A layer with state looks at the batch, so that one sample at a time is another thing than a block.
        and not any(trainer.network.init_state())
    )


@dataclass(frozen=True)
class BlockTrainer:
    """Takes the steps of a `Trainer` with batches of one, a block at a time.

    Attributes
    ----------
    trainer : Trainer
    tail : Network
        The layers after the first.
    """

    trainer: Trainer
    tail: Network

    @classmethod
    def of(cls, trainer: Trainer) -> BlockTrainer:
        """Split the first layer of a trainer's network from the rest."""
        network = trainer.network
        return cls(trainer, Network(network.layers[1:], network.shapes[1]))

    def run_epoch(self, progress: Progress, blocks: Batch, data: DeviceData) -> Progress:
        """Work through blocks: arrays of shape (blocks, images a block, ...)."""

        def step(progress: Progress, block: Batch) -> tuple[Progress, None]:
            return self.run_block(progress, block, data), None

        result: Progress = self.trainer.backend.scan(step, progress, blocks)[0]
        return result

    def run_block(self, progress: Progress, block: Batch, data: DeviceData) -> Progress:
        """Take a step for each image of a block."""
        trainer, xp = self.trainer, self.trainer.backend.xp
        x, labels, targets = take_batch(trainer, block["index"], data)
        size = trainer.network.size - self.tail.size
        head, tail = progress.theta[:size], progress.theta[size:]
        first = trainer.network.unflatten(progress.theta, xp)[0]
        inner = x @ x.T
        z = x @ first["weight"]
        if "bias" in first:
            # A bias is a weight of one more pixel, which is 1 in every image.
            inner += 1.0
            z += first["bias"]
        # Each image is a batch of one: the axis is given to all of them at once.
        samples = {name: array[:, None, ...] for name, array in block.items() if name.startswith("noise.")}
        samples |= {
            "k": xp.arange(x.shape[0], device=trainer.backend.device)[:, None],
            "rate": block["rate"],
            "targets": targets[:, None, :],
            "inner": (inner * block["rate"][:, None])[:, :, None],
        }
        kept: Array
        (z, params), kept = trainer.backend.scan(self._step, (z, self.tail.unflatten(tail, xp)), samples)
        tail = self.tail.flatten(params, xp)
        units = z.shape[1]
        d, y = kept[:, 0, :units], kept[:, 0, units:]
        scaled = d * block["rate"][:, None]
        change = [xp.reshape(x.T @ scaled, (-1,))]
        if "bias" in first:
            change.append(xp.sum(scaled, axis=0))
        head = head - (xp.concat(change) if len(change) > 1 else change[0])
        loss, _ = trainer.loss.forward(y, targets, xp=xp)
        return Progress(
            xp.concat([head, tail]),
            progress.moments,
            progress.state,
            progress.loss + loss,
            progress.correct + count_correct(y, labels, xp),
        )

    def _step(self, carry: Any, sample: Batch) -> tuple[Any, Array]:
        """Take one image through the tail, and tell the pre-activations of all images what it changed."""
        z, params = carry
        trainer, xp = self.trainer, self.trainer.backend.xp
        ctx = trainer.context(training=True)
        noise = [sample.get(f"noise.{i + 1}") for i in range(len(params))]
        y, caches = self.tail.forward(params, [{}] * len(params), xp.take(z, sample["k"], axis=0), ctx, noise)
        dy = trainer.loss.gradient(y, sample["targets"], xp=xp)
        gradients, d = self.tail.backward(params, caches, dy, ctx, input_gradient=True)
        rate = sample["rate"]
        params = [{name: p[name] - rate * g[name] for name in p} for p, g in zip(params, gradients, strict=True)]
        z -= sample["inner"] * d  # In place: the block made it for itself.
        return (z, params), xp.concat([d, y], axis=1)
