"""From a source to batches: splitters, labellers, encodings, datasets, loaders and `DataBlock`."""

from typing import TYPE_CHECKING

from layered.data.block import (
    CategoryBlock as CategoryBlock,
    DataBlock as DataBlock,
    MultiCategoryBlock as MultiCategoryBlock,
    RegressionBlock as RegressionBlock,
    TransformBlock as TransformBlock,
)
from layered.data.collate import fa_collate as fa_collate, fa_convert as fa_convert
from layered.data.conversions import (
    IntToFloatTensor as IntToFloatTensor,
    Normalize as Normalize,
    ToTensor as ToTensor,
    broadcast_vec as broadcast_vec,
)
from layered.data.data_loaders import DataLoaders as DataLoaders
from layered.data.datasets import Datasets as Datasets, decode_at as decode_at, show_at as show_at
from layered.data.encodings import (
    Categorize as Categorize,
    Category as Category,
    CategoryMap as CategoryMap,
    EncodedMultiCategorize as EncodedMultiCategorize,
    MultiCategorize as MultiCategorize,
    MultiCategory as MultiCategory,
    OneHotEncode as OneHotEncode,
    RegressionSetup as RegressionSetup,
    get_c as get_c,
    one_hot as one_hot,
)
from layered.data.folds import (
    GroupKFoldSplitter as GroupKFoldSplitter,
    GroupSplitter as GroupSplitter,
    KFoldSplitter as KFoldSplitter,
    StratifiedKFoldSplitter as StratifiedKFoldSplitter,
    TimeFoldSplitter as TimeFoldSplitter,
    TimeSplitter as TimeSplitter,
)
from layered.data.labellers import ColReader as ColReader, RegexLabeller as RegexLabeller, parent_label as parent_label
from layered.data.loader import DataLoader as DataLoader, SkipItemException as SkipItemException
from layered.data.sources import (
    AttrGetter as AttrGetter,
    FileGetter as FileGetter,
    ImageGetter as ImageGetter,
    ItemGetter as ItemGetter,
    get_files as get_files,
    get_image_files as get_image_files,
    get_text_files as get_text_files,
    image_extensions as image_extensions,
)
from layered.data.splitters import (
    ColSplitter as ColSplitter,
    EndSplitter as EndSplitter,
    FileSplitter as FileSplitter,
    FuncSplitter as FuncSplitter,
    GrandparentSplitter as GrandparentSplitter,
    IndexSplitter as IndexSplitter,
    MaskSplitter as MaskSplitter,
    RandomSplitter as RandomSplitter,
    RandomSubsetSplitter as RandomSubsetSplitter,
    TrainTestSplitter as TrainTestSplitter,
)
from layered.data.tfmd_lists import TfmdLists as TfmdLists
from layered.data.tfmd_loader import PartialDL as PartialDL, TfmdDL as TfmdDL, WeightedDL as WeightedDL
from layered.foundation.faces import star as _star

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.data.adapters import (
    DatasetBase as DatasetBase,
    Loader as Loader,
    as_dataset as as_dataset,
    length_of as length_of,
)
from layered.data.block import own_copies as own_copies
from layered.data.conversions import (
    Tfms as Tfms,
    as_tfms as as_tfms,
    foreign_transforms as foreign_transforms,
)
from layered.data.csv_files import (
    column_position as column_position,
    csv_option_names as csv_option_names,
    csv_options as csv_options,
    read_csv as read_csv,
    read_labels as read_labels,
)
from layered.data.data_loaders import as_loaders as as_loaders
from layered.data.datasets import sample_rules as sample_rules
from layered.data.deferral import Deferral as Deferral, deferral as deferral, deferring as deferring
from layered.data.encodings import (
    class_vocab as class_vocab,
    is_missing as is_missing,
    list_some as list_some,
    outputs_for as outputs_for,
    target_vocabs as target_vocabs,
    unknown_labels as unknown_labels,
)
from layered.data.holding_out import HeldOut as HeldOut, divide_items as divide_items
from layered.data.item_cache import ItemCache as ItemCache, Keepable as Keepable
from layered.data.loader import arguments_of as arguments_of, as_loader as as_loader
from layered.data.recipes import (
    block_of_labels as block_of_labels,
    check_folders as check_folders,
    loader_arguments as loader_arguments,
    recipe as recipe,
)
from layered.data.samplers import EpochKey as EpochKey, TicketBatch as TicketBatch, Weights as Weights
from layered.data.show import (
    Panel as Panel,
    Together as Together,
    draw_panels as draw_panels,
    draws as draws,
    words as words,
)
from layered.data.splitters import (
    Indices as Indices,
    Split as Split,
    Splitter as Splitter,
    split_items as split_items,
    values_of as values_of,
)
from layered.data.subset import (
    Subset as Subset,
    as_splits as as_splits,
    labels_of as labels_of,
    pick as pick,
    values_by_label as values_by_label,
    walk as walk,
)
from layered.data.tfmd_lists import plain_function as plain_function
