"""Made-up ratings of people whose taste is known."""

import numpy as np
import pandas as pd


def films(users=30, items=20, seed=0):
    """Two thirds of all pairs, rated 0.5 to 5: liked films, generous people, and one taste that all share to some degree."""
    draw = np.random.default_rng(seed)
    taste, kind = draw.normal(size=users), draw.normal(size=items)
    mean = 3 + 0.5 * draw.normal(size=users)[:, None] + 0.5 * draw.normal(size=items) + np.outer(taste, kind)
    user, item = np.nonzero(draw.random((users, items)) < 0.67)
    rating = np.clip((2 * mean[user, item]).round() / 2, 0.5, 5)
    order = draw.permutation(len(user))
    df = pd.DataFrame({"user": user + 100, "title": [f"film {i:02}" for i in item], "rating": rating})
    return df.iloc[order].reset_index(drop=True).assign(when=np.arange(len(user)))
