"""Every picture that xpnet draws.

Each function takes plain data of the host (NumPy arrays, the records of a run, strings) and returns a matplotlib
`Figure`; `save` writes it. Three things hold for all of them:

- pyplot stays out: no window, no list of open figures, no current one. They work without a screen and in threads.
- matplotlib is imported by the functions, not by the module: a run that draws nothing does not wait for it.
- They look the same whatever style the user has set, in the colours of Okabe and Ito [1]_, which colour-blind people
  can tell apart, and in sizes that can be read on a phone.

References
----------
.. [1] M. Okabe and K. Ito, "Color Universal Design", 2008. https://jfly.uni-koeln.de/color/
"""

from xpnet.plots.answers import confusion_matrix, mistakes
from xpnet.plots.canvas import alt_text, save, style
from xpnet.plots.curves import curves_side_by_side, training_curves
from xpnet.plots.diagram import network_diagram
from xpnet.plots.film import Film
from xpnet.plots.inside import feature_maps, histograms, prediction, weights
from xpnet.plots.pictures import filters, image, image_row
from xpnet.plots.ranking import comparison, ladder

__all__ = [
    "Film",
    "alt_text",
    "comparison",
    "confusion_matrix",
    "curves_side_by_side",
    "feature_maps",
    "filters",
    "histograms",
    "image",
    "image_row",
    "ladder",
    "mistakes",
    "network_diagram",
    "prediction",
    "save",
    "style",
    "training_curves",
    "weights",
]
