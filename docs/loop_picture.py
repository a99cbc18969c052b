"""The training loop as a picture: a row for each event, in the order of `Event`, in frames that are the phases.

It is drawn in the colours of the page, light or dark, and put where a page says `<!-- loop_picture -->`.
"""

from __future__ import annotations

from html import escape

from layered.loop import Event

ROW, INDENT, WIDTH = 25, 22, 760
DOES = {  # what the loop itself does after an event
    Event.before_batch: "pred = model(*xb)",
    Event.after_pred: "loss = loss_grad = loss_func(pred, *yb)",
    Event.before_backward: "loss_grad.backward()",
    Event.before_step: "opt.step()",
    Event.after_step: "opt.zero_grad()",
    Event.before_validate: "each batch likewise, up to its loss, without gradients",
}
EXAMPLES = {  # what callbacks do there
    Event.before_fit: "make schedules, read a checkpoint",
    Event.before_train: "model.train()",
    Event.before_batch: "change the inputs, set the rate",
    Event.after_pred: "change the predictions",
    Event.after_loss: "add a penalty to loss_grad, mix losses",
    Event.after_backward: "unscale, accumulate over batches",
    Event.before_step: "clip or log gradients",
    Event.after_step: "average the weights",
    Event.after_batch: "stop in time, write a checkpoint",
    Event.before_validate: "model.eval()",
    Event.after_epoch: "a row of the table, keep the best, stop early",
    Event.after_fit: "load the best",
    Event.on_end: "close files; always, however the fit ended",
}
STYLE = """<style>
.loop-picture {max-width: 100%; height: auto; font: 13px var(--md-code-font-family, monospace); color: var(--md-default-fg-color)}
.loop-picture rect {fill: var(--md-accent-fg-color); fill-opacity: .05; stroke: currentColor; stroke-opacity: .35}
.loop-picture text {fill: currentColor}
.loop-picture .event {fill: var(--md-typeset-a-color); font-weight: 600}
.loop-picture .does {font-weight: 700}
.loop-picture .note {opacity: .75; font-family: var(--md-text-font-family, sans-serif)}
</style>"""


def picture() -> str:
    """The picture as SVG, in one line for each element."""
    rows, frames, opened = [], [], []
    for event in Event:
        if event.startswith("after_cancel") or event in (Event.after_create, Event.on_error):
            continue
        edge, _, phase = event.partition("_")
        closes = edge == "after" and opened and opened[-1][0] == phase
        depth = len(opened) - closes
        y = ROW * (len(rows) + 1)
        rows.append(text(depth, y, event, "event") + text(0, y, EXAMPLES.get(event, ""), "note", x=430))
        if edge == "before":
            opened.append((phase, y, depth))
        elif closes:
            _, top, left = opened.pop()
            frames.append(frame(left, top, y))
        if event in DOES:
            rows.append(text(depth + (edge == "before"), y + ROW, DOES[event], "does"))
    height = ROW * (len(rows) + 1)
    return "\n".join(
        [
            STYLE,
            f'<svg class="loop-picture" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="The training loop">',
            *frames[::-1],
            *rows,
            "</svg>",
        ]
    )


def text(depth: int, y: int, words: str, kind: str, x: int = 16) -> str:
    return f'<text class="{kind}" x="{x + INDENT * depth}" y="{y}">{escape(words)}</text>' if words else ""


def frame(depth: int, top: int, bottom: int) -> str:
    x, inset = 6 + INDENT * depth, 8 * depth
    height = bottom - top + ROW - 2
    return f'<rect x="{x}" y="{top - 17}" width="{WIDTH - x - 6 - inset}" height="{height}" rx="6"/>'
