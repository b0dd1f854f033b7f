"""Every picture that xpnet draws.

Each function takes plain host data (NumPy arrays, the records of a run, strings) and returns a matplotlib `Figure`,
which `save` writes. Three rules hold for all of them:

- They do not use pyplot, so there is no window and no global list of figures. They work without a screen and in
  threads.
- The functions import matplotlib, not the modules, so a run that draws nothing does not wait for it.
- Figures look the same whatever style you have set. They use the colours of Okabe and Ito [1]_, which colour-blind
  people can tell apart, and sizes that are readable on a phone.

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
