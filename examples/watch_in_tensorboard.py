"""Watch a run in TensorBoard: a callback writes the loss of every step and the measurements of every epoch.

    pip install tensorboard torch
    python examples/watch_in_tensorboard.py --logdir logs
    tensorboard --logdir logs

The loss of a step is that of one batch before the update. Reading it makes every step wait for the device.
"""

import argparse
import dataclasses
import tempfile

import xpnet

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError:
    print("this example needs TensorBoard: pip install tensorboard torch")
    raise SystemExit from None


class TensorBoard:
    """Writes the measurements of each step and each epoch to a folder."""

    def __init__(self, logdir):
        self.writer = SummaryWriter(logdir)

    def on_step(self, record):
        """Write the loss of one batch."""
        at = record.epoch * record.steps + record.step
        self.writer.add_scalar("step/loss", record.loss, at)
        self.writer.add_scalar("step/accuracy", record.accuracy, at)

    def on_epoch(self, record, network):
        """Write the measurements of an epoch, and histograms of the weights."""
        for name, value in dataclasses.asdict(record).items():
            if name != "epoch" and value is not None:
                self.writer.add_scalar(f"epoch/{name}", value, record.epoch)
        for name, array in network.named_arrays().items():
            self.writer.add_histogram(name, array, record.epoch)
        self.writer.flush()


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--logdir", default=None, help="where TensorBoard looks")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--quick", action="store_true", help="two epochs")
options = parser.parse_args()
logdir = options.logdir or tempfile.mkdtemp(prefix="xpnet-tensorboard-")
run = xpnet.train(
    "mlp", dataset="digits", epochs=2 if options.quick else options.epochs, callbacks=[TensorBoard(logdir)]
)
print(f"test accuracy {run.record.test_accuracy:.4f}; now: tensorboard --logdir {logdir}")
