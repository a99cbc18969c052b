"""A page of Gradio for a model of images: python gradio_app.py model.layered"""

import sys

import gradio as gr

from layered.vision.all import load_learner

learn = load_learner(sys.argv[1])


def classify(file: str) -> dict[str, float]:
    """The probability of each class."""
    _, _, probabilities = learn.predict(file)
    return dict(zip(map(str, learn.dls.vocab), probabilities.tolist(), strict=True))


page = gr.Interface(classify, gr.Image(type="filepath"), gr.Label(num_top_classes=5), title=sys.argv[1])

if __name__ == "__main__":
    page.launch()
