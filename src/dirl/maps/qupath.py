"""`dirl map --to qupath`: a script and a page that make a map's folder one for QuPath."""

import json
from importlib.resources import files
from pathlib import Path
from string import Template

from dirl.core.card import note_change
from dirl.core.files import write_text
from dirl.core.owner import own, owning
from dirl.maps.summary import MapSummary

SCRIPT, PAGE = "show-in-qupath.groovy", "README.md"
_PAGE = """# Attention of {encoder} on {slide}

Copy this whole folder to the computer with QuPath (0.4 or newer). It holds:

| file | |
|---|---|
| `{overlay}` | the map, a pyramid of floats; {channels} |
| `{regions}` | {count} regions with the most attention, as annotations |
| `{script}` | shows both on the slide |

## With the script

1. Open QuPath, and open the slide {slide}.
2. Drag `{script}` onto QuPath's window. The script editor opens.
3. Choose *Run, Run* in the script editor.
4. The map lies on the slide, and the regions are annotations. Move the opacity slider of the toolbar to see
   the tissue below. The button *Show pixel classification* hides the map.

The colours run from black over red and yellow to white. White is {high:.3g} and more. The number is:
{unit}. Where there is no tissue, there is no colour. Run the script again after you open the slide again.

## Without the script

- **Regions**: drag `{regions}` onto the open slide.
- **Map**: add `{overlay}` to the project. Open the slide, and choose *Analyze, Interactive image alignment*.
  Choose the map there. One pixel of the map is {side:.6g} pixels of the slide wide. Both begin at the same
  corner.
"""


@owning
def write_for_qupath(out: Path, summary: MapSummary) -> None:
    """Add the script and the page to the folder of a finished map, unless they are there."""
    if all((out / name).is_file() for name in (SCRIPT, PAGE)):
        return
    own(out)
    mean, facts = summary.channels[0], summary.files
    script = Template(files("dirl.maps").joinpath("qupath.groovy").read_text("utf-8"))
    text = script.substitute(
        side=repr(summary.map.level0_px),
        high=repr(mean.range[1]),
        overlay=facts.float,
        regions=facts.regions,
        slide=json.dumps(summary.slide.slide_id).replace("$", "\\$"),
    )
    write_text(out / SCRIPT, text)
    page = _PAGE.format(
        encoder=summary.encoder.name,
        slide=summary.slide.slide_id,
        overlay=facts.float,
        channels=", ".join(channel.name for channel in summary.channels),
        regions=facts.regions,
        count=summary.regions.count,
        script=SCRIPT,
        high=mean.range[1],
        unit=summary.unit,
        side=summary.map.level0_px,
    )
    write_text(out / PAGE, page)
    note_change(out, SCRIPT, PAGE)
