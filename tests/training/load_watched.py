"""Loads all exports of a folder in little memory, and reports whatever went beyond reading them or ended in a strange error."""

import json
import re
import resource
import sys
import time
import warnings
from pathlib import Path

from layered.foundation import LayeredError
from layered.vision.all import create_vision_model, load_learner

good, folder = sys.argv[1:]
warnings.simplefilter("ignore")
load_learner(good)
create_vision_model("resnet18", 2, pretrained=False)  # so that timm has been imported
resource.setrlimit(resource.RLIMIT_AS, (10 * 2**30, 10 * 2**30))

OWN = re.compile(r"(torch|torchvision|timm|layered|numpy|PIL)(\.|$)")
FOUL = re.compile(
    r"socket|subprocess|os\.(system|exec|spawn|posix_spawn|fork|remove|rename|mkdir|rmdir)|shutil|urllib|ctypes|pickle"
)
foul, watching = [], []


def watch(event, args):
    if not watching:
        return
    imported = event == "import" and not OWN.match(args[0])
    opened = event == "open" and isinstance(args[0], str) and not args[0].endswith((".layered", ".py", ".pyc", ".so"))
    written = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
    if imported or opened or written or FOUL.match(event):
        foul.append(f"{watching[0]}: {event} {args!r:.200}")


sys.addaudithook(watch)
loaded = refused = 0
for file in sorted(Path(folder).glob("*.layered")):
    watching.append(file.name)
    began = time.perf_counter()
    try:
        load_learner(file)
        loaded += 1
    except LayeredError:
        refused += 1
    except BaseException as error:
        foul.append(f"{file.name}: {type(error).__name__} {error}")
    if time.perf_counter() - began > 20:
        foul.append(f"{file.name}: took too long")
    watching.clear()
print(json.dumps({"loaded": loaded, "refused": refused, "foul": foul}))
