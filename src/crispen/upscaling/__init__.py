"""From a picture to a larger one: tiles through a runtime, and everything beside the colours kept.

::

    upscaler = Upscaler(zoo.find("srresnet-x4"))
    upscaler("photo.jpg")                          # a path, a PIL image, an array, a Picture
    enlargement = upscaler.enlarge(picture)        # or tile by tile
    for step in enlargement:
        show(step.tile, of=len(enlargement))
    large = enlargement.result

A picture in a file never lies in memory as a whole: it is read downwards, enlarged band by band, and written while
the next band is computed.
"""

from crispen.upscaling.enlargement import Enlargement, Step
from crispen.upscaling.naming import default_output
from crispen.upscaling.upscaler import Upscaler, names_folder

__all__ = ["Enlargement", "Step", "Upscaler", "default_output", "names_folder"]
