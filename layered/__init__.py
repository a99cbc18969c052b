"""`layered`: deep learning in a few lines, and every line can be taken apart.

The house, from the ground up; imports only look down:

    foundation                 tensors with a meaning, transforms, keyed randomness, safe files
    optim  nn  metrics  data   optimizers as statistics and steps; layers and losses; metrics; data blocks and loaders
    loop                       the training loop, its events and its state
    callback  integrations     what hooks into the loop; adapters to other libraries
    training                   the Learner: training verbs, inference, export, interpretation
    basics                     all of the above under one name
    vision                     images: blocks, augmentation, models, `vision_learner`
    tabular                    tables: procs, models, `tabular_learner`
    collab                     ratings: models, `collab_learner`, recommendations
    testing  compat  cli       contracts for extenders, habits of other libraries, the command line

Start with `from layered.vision.all import *`, or import the one module you need.
"""

__version__ = "0.1.0"
