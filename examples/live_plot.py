"""Watch a run in a window: a callback draws the accuracy after each epoch, and a key ends the run.

    python examples/live_plot.py

Press q in the window to end training after the current epoch. Without a screen, --output writes the final state of the
window to a file.
"""

import argparse

import matplotlib.pyplot as plt

import xpnet


class LivePlot:
    """A window with one curve, which grows by one point per epoch."""

    def __init__(self):
        self.figure, axes = plt.subplots()
        (self.line,) = axes.plot([], [], marker="o")
        axes.set(xlabel="epoch", ylabel="test accuracy", ylim=(0, 1), title="press q to end the run")
        self.axes, self.ended = axes, False
        self.figure.canvas.mpl_connect("key_press_event", self.on_key)

    def on_key(self, event):
        """Note that the user pressed q."""
        self.ended = self.ended or event.key == "q"

    def on_epoch(self, record):
        """Add a point."""
        self.line.set_data([*self.line.get_xdata(), record.epoch], [*self.line.get_ydata(), record.test_accuracy])
        self.axes.set_xlim(-0.5, record.epoch + 0.5)
        self.figure.canvas.draw_idle()
        self.figure.canvas.flush_events()  # gives the window time to draw and to receive keys
        if self.ended:
            raise xpnet.StopTraining


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--epochs", type=int, default=15)
parser.add_argument("--output", default=None, help="a picture of the last state")
parser.add_argument("--quick", action="store_true", help="three epochs")
options = parser.parse_args()
live = LivePlot()
plt.show(block=False)
run = xpnet.train("mlp", dataset="digits", epochs=3 if options.quick else options.epochs, callbacks=[live])
print(f"{len(run.history)} epochs, test accuracy {run.record.test_accuracy:.4f}")
if options.output:
    live.figure.savefig(options.output)
