"""The ground floor: errors, tensors with a meaning, transforms and pipelines, keyed randomness, display."""

from typing import TYPE_CHECKING

from layered.foundation.dispatch import typedispatch as typedispatch
from layered.foundation.display import (
    get_grid as get_grid,
    show_image as show_image,
    show_image_batch as show_image_batch,
    show_images as show_images,
    show_title as show_title,
    show_titled_image as show_titled_image,
    subplots as subplots,
)
from layered.foundation.errors import LayeredError as LayeredError
from layered.foundation.faces import star as _star
from layered.foundation.generators import no_random as no_random, set_seed as set_seed
from layered.foundation.helpers import (
    GetAttr as GetAttr,
    Inf as Inf,
    defaults as defaults,
    delegates as delegates,
    explode_types as explode_types,
    fastuple as fastuple,
    first as first,
    ifnone as ifnone,
    listify as listify,
    noop as noop,
    range_of as range_of,
    store_attr as store_attr,
    true as true,
    using_attr as using_attr,
)
from layered.foundation.lists import L as L, coll_repr as coll_repr, mask2idxs as mask2idxs
from layered.foundation.parallel import num_cpus as num_cpus, parallel as parallel
from layered.foundation.patching import patch as patch, patch_to as patch_to
from layered.foundation.paths import Path as Path
from layered.foundation.pipeline import Pipeline as Pipeline
from layered.foundation.placeholders import Self as Self
from layered.foundation.registry import transforms as transforms
from layered.foundation.seeds import (
    current_tickets as current_tickets,
    draw as draw,
    draw_batch as draw_batch,
)
from layered.foundation.tensors import (
    ImageMethod as ImageMethod,
    TensorBase as TensorBase,
    TensorCategory as TensorCategory,
    TensorFlowField as TensorFlowField,
    TensorImage as TensorImage,
    TensorImageBase as TensorImageBase,
    TensorImageBW as TensorImageBW,
    TensorMask as TensorMask,
    TensorMultiCategory as TensorMultiCategory,
    TitledFloat as TitledFloat,
    TitledInt as TitledInt,
    TitledStr as TitledStr,
    TitledTensorScalar as TitledTensorScalar,
    pca as pca,
    tensor as tensor,
)
from layered.foundation.transform import (
    DisplayedTransform as DisplayedTransform,
    InplaceTransform as InplaceTransform,
    ItemTransform as ItemTransform,
    RandTransform as RandTransform,
    Transform as Transform,
)
from layered.foundation.tree import (
    default_device as default_device,
    to_cpu as to_cpu,
    to_detach as to_detach,
    to_device as to_device,
    to_np as to_np,
)

if not TYPE_CHECKING:
    __all__ = _star(globals())

# For the packages above; a star import leaves these out.
from layered.foundation.arguments import checked as checked, names_of as names_of, whole_number as whole_number
from layered.foundation.assignments import (
    assigned as assigned,
    assigned_by_all as assigned_by_all,
    is_constant as is_constant,
    is_place_or_text as is_place_or_text,
)
from layered.foundation.deprecation import (
    deprecated as deprecated,
    expired as expired,
    renamed_argument as renamed_argument,
)
from layered.foundation.dispatch import verb as verb
from layered.foundation.display import (
    aligned as aligned,
    fit_title as fit_title,
    in_notebook as in_notebook,
    is_interactive as is_interactive,
    is_quiet as is_quiet,
    is_watched as is_watched,
    short_bytes as short_bytes,
    short_count as short_count,
    text_table as text_table,
    without_axes as without_axes,
)
from layered.foundation.errors import (
    BadArgument as BadArgument,
    BadEvent as BadEvent,
    BadFile as BadFile,
    BadImage as BadImage,
    BadItem as BadItem,
    BadValue as BadValue,
    CannotRestore as CannotRestore,
    CannotSave as CannotSave,
    CannotTrain as CannotTrain,
    EmptySource as EmptySource,
    EmptySplit as EmptySplit,
    MissingDependency as MissingDependency,
    MixedSizes as MixedSizes,
    NewerFormat as NewerFormat,
    NoSuchAttribute as NoSuchAttribute,
    NotExportable as NotExportable,
    NotFoundPath as NotFoundPath,
    Offline as Offline,
    OutOfRange as OutOfRange,
    UnknownLabel as UnknownLabel,
    UnknownName as UnknownName,
    UnsafeFile as UnsafeFile,
    WorkerFailed as WorkerFailed,
    describe as describe,
    failed as failed,
    nearest as nearest,
    refuse_unknown as refuse_unknown,
    unknown_name as unknown_name,
    warn as warn,
)
from layered.foundation.faces import star as star
from layered.foundation.generators import (
    get_random_states as get_random_states,
    has_drawn as has_drawn,
    quiet_imports as quiet_imports,
    reseed as reseed,
    seeded as seeded,
    set_random_states as set_random_states,
)
from layered.foundation.held import (
    GENERATORS as GENERATORS,
    Held as Held,
    Slot as Slot,
    Stateful as Stateful,
    content as content,
    generator_state as generator_state,
    is_own_code as is_own_code,
    set_generator_state as set_generator_state,
)
from layered.foundation.helpers import OnAttribute as OnAttribute, own_vars as own_vars
from layered.foundation.launched import Launched as Launched, launched as launched
from layered.foundation.masking import (
    MASK as MASK,
    is_secret_name as is_secret_name,
    masked as masked,
    masked_command as masked_command,
    without_folders as without_folders,
)
from layered.foundation.names import function_name as function_name, innermost as innermost, snake_case as snake_case
from layered.foundation.optional import lazy as lazy, require as require
from layered.foundation.parallel import (
    Failure as Failure,
    process_context as process_context,
    rank_and_world as rank_and_world,
)
from layered.foundation.paths import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from layered.foundation.registry import (
    Recorded as Recorded,
    Registry as Registry,
    builders as builders,
    constructor_signature as constructor_signature,
    default_loss_for as default_loss_for,
    default_losses as default_losses,
    functions as functions,
    item_results as item_results,
    learner_kinds as learner_kinds,
    loader_kinds as loader_kinds,
    losses as losses,
    modules as modules,
)
from layered.foundation.report import (
    Finding as Finding,
    Report as Report,
    Table as Table,
    facts_html as facts_html,
    facts_text as facts_text,
    html_table as html_table,
)
from layered.foundation.seeds import (
    Tickets as Tickets,
    draw_generator as draw_generator,
    drawing as drawing,
    in_own_context as in_own_context,
    key_of as key_of,
    permutation as permutation,
    sample_keys as sample_keys,
)
from layered.foundation.shards import (
    full_tensor as full_tensor,
    has_sharded as has_sharded,
    is_sharded as is_sharded,
    local_part as local_part,
    shard_like as shard_like,
)
from layered.foundation.tensors import (
    grey_args as grey_args,
    image_methods as image_methods,
    mask_legend as mask_legend,
    plain as plain,
    plain_tree as plain_tree,
    retype as retype,
)
from layered.foundation.torch_losses import (
    TorchLoss as TorchLoss,
    as_torch_expects as as_torch_expects,
    default_of as default_of,
    ignored_target as ignored_target,
    in_two_columns as in_two_columns,
    is_single as is_single,
    takes_probabilities as takes_probabilities,
    torch_loss as torch_loss,
)
from layered.foundation.transform import is_foreign as is_foreign, made as made
from layered.foundation.tree import (
    available_device as available_device,
    find_bs as find_bs,
    find_device as find_device,
    leaves as leaves,
    map_tree as map_tree,
    output_scores as output_scores,
    tensors_of as tensors_of,
)
from layered.foundation.types import (
    Array as Array,
    Device as Device,
    Frame as Frame,
    StrPath as StrPath,
    is_frame as is_frame,
    is_named_tuple as is_named_tuple,
    with_elements as with_elements,
)
from layered.foundation.visible import one_line as one_line, plot_label as plot_label, visible as visible
