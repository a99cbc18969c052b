"""`layered`: deep learning in a few lines, and every line can be taken apart.

The packages from the ground up; each imports only from those above it in this list:

    foundation                 errors, tensors with a meaning, transforms, keyed randomness, display
    files                      reading and writing files as data
    catalog  optim  nn         data sets by name; optimizers as statistics and steps; layers and losses
    metrics  data              metrics by state; data blocks, datasets and loaders
    loop                       the training loop, its events and its state, checkpoints
    callback  integrations     what acts during a fit; adapters to other libraries
    inference                  predictions
    insight                    what a model has learned, and how a run is doing
    training                   the Learner: training verbs, export, loading
    basics                     all of the above in one namespace
    vision                     images: blocks, augmentation, models, `vision_learner`
    tabular                    tables: procs, models, `tabular_learner`
    text                       texts: tokens, AWD-LSTM, `language_model_learner`, `text_classifier_learner`
    collab                     ratings: models, `collab_learner`, recommendations
    sklearn                    networks as scikit-learn's estimators
    testing  compat  cli       contracts for extenders, habits of other libraries, the command line

Start with `from layered.vision.all import *`, or import what you need from its package: `from layered.optim import Adam`.
`import layered` alone also offers the packages and the most common names, as `layered.vision` and `layered.Learner`; each
is imported when it is first used.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING

from layered.version import __version__ as __version__

# Editors and type checkers read these imports; at run time, `__getattr__` below imports on first use.
if TYPE_CHECKING:
    from layered import (
        basics as basics,
        callback as callback,
        catalog as catalog,
        collab as collab,
        compat as compat,
        data as data,
        files as files,
        foundation as foundation,
        inference as inference,
        insight as insight,
        integrations as integrations,
        loop as loop,
        metrics as metrics,
        nn as nn,
        optim as optim,
        sklearn as sklearn,
        tabular as tabular,
        testing as testing,
        text as text,
        training as training,
        vision as vision,
    )
    from layered.callback import (
        CSVLogger as CSVLogger,
        EarlyStoppingCallback as EarlyStoppingCallback,
        GradientAccumulation as GradientAccumulation,
        GradientClip as GradientClip,
        MixedPrecision as MixedPrecision,
        MixUp as MixUp,
        SaveModelCallback as SaveModelCallback,
    )
    from layered.catalog import URLs as URLs, untar_data as untar_data
    from layered.collab import CollabDataLoaders as CollabDataLoaders, collab_learner as collab_learner
    from layered.data import (
        CategoryBlock as CategoryBlock,
        DataBlock as DataBlock,
        DataLoader as DataLoader,
        DataLoaders as DataLoaders,
        Datasets as Datasets,
        Normalize as Normalize,
        RandomSplitter as RandomSplitter,
        RegressionBlock as RegressionBlock,
        TransformBlock as TransformBlock,
        get_image_files as get_image_files,
    )
    from layered.foundation import LayeredError as LayeredError, Transform as Transform, set_seed as set_seed
    from layered.insight import ClassificationInterpretation as ClassificationInterpretation
    from layered.loop import (
        Callback as Callback,
        Checkpoint as Checkpoint,
        Event as Event,
        Resume as Resume,
        resume_all as resume_all,
    )
    from layered.metrics import Metric as Metric, accuracy as accuracy, error_rate as error_rate
    from layered.optim import SGD as SGD, Adam as Adam, AdamW as AdamW, Optimizer as Optimizer
    from layered.tabular import TabularDataLoaders as TabularDataLoaders, tabular_learner as tabular_learner
    from layered.text import (
        TextBlock as TextBlock,
        TextDataLoaders as TextDataLoaders,
        language_model_learner as language_model_learner,
        text_classifier_learner as text_classifier_learner,
    )
    from layered.training import Learner as Learner, load_learner as load_learner
    from layered.vision import (
        ImageBlock as ImageBlock,
        ImageDataLoaders as ImageDataLoaders,
        MaskBlock as MaskBlock,
        Resize as Resize,
        aug_transforms as aug_transforms,
        cnn_learner as cnn_learner,
        vision_learner as vision_learner,
    )
else:
    _PACKAGES = {
        *("basics", "callback", "catalog", "collab", "compat", "data", "files", "foundation", "inference", "insight"),
        *(
            "integrations",
            "loop",
            "metrics",
            "nn",
            "optim",
            "sklearn",
            "tabular",
            "testing",
            "text",
            "training",
            "vision",
        ),
    }
    _NAMES = {  # by the package that each comes from
        "callback": "CSVLogger EarlyStoppingCallback GradientAccumulation GradientClip MixUp MixedPrecision SaveModelCallback",
        "catalog": "URLs untar_data",
        "collab": "CollabDataLoaders collab_learner",
        "data": "CategoryBlock DataBlock DataLoader DataLoaders Datasets Normalize RandomSplitter RegressionBlock "
        "TransformBlock get_image_files",
        "foundation": "LayeredError Transform set_seed",
        "insight": "ClassificationInterpretation",
        "loop": "Callback Checkpoint Event Resume resume_all",
        "metrics": "Metric accuracy error_rate",
        "optim": "Adam AdamW Optimizer SGD",
        "tabular": "TabularDataLoaders tabular_learner",
        "text": "TextBlock TextDataLoaders language_model_learner text_classifier_learner",
        "training": "Learner load_learner",
        "vision": "ImageBlock ImageDataLoaders MaskBlock Resize aug_transforms cnn_learner vision_learner",
    }
    _PACKAGE_OF = {name: package for package, names in _NAMES.items() for name in names.split()}

    def __getattr__(name):
        if name in _PACKAGES:
            return _import_module(f"layered.{name}")  # which also binds it here
        if name in _PACKAGE_OF:
            found = globals()[name] = getattr(_import_module(f"layered.{_PACKAGE_OF[name]}"), name)
            return found
        from sys import modules  # Python suggests the nearest name of `obj`, from its `dir`

        raise AttributeError(f"module 'layered' has no attribute '{name}'", name=name, obj=modules[__name__])

    def __dir__():
        return sorted({*globals(), *_PACKAGES, *_PACKAGE_OF})
