"""Settings. No logic: scripts and webapp/app.py read these and hand the values on.

The environment wins over this file where a name is given for it, so that no key needs to be written here; an empty variable
is as good as none.
"""

import os

# --- Hydrus -------------------------------------------------------------------------------------
# services -> manage services -> client api in Hydrus; then services -> review services -> add a key
# with "edit file tags", "search for and fetch files" and "manage pages".
API_URL = os.environ.get("HYDRUS_API_URL") or "http://localhost:45869"
API_KEY = os.environ.get("HYDRUS_API_KEY") or "your_api_key_here"

# The page (or page of pages) that holds the dataset; case does not matter.
ROOT_PAGE = "dataset"

# Tag services (names or keys) whose tags count. Empty: all local ones and repositories but the next line's.
TAG_SERVICES: list[str] = []

# Tag services (names or keys) whose tags a machine wrote: their tags do not count as the owner's.
MACHINE_TAG_SERVICES: list[str] = []

# The tag service that fixes are written to, by name or key. None: the first local one.
WRITE_TAG_SERVICE: str | None = None

# --- The library: "hydrus", or the path of a folder of pictures with sidecar tags ------------------
LIBRARY = os.environ.get("TAGCHECK_LIBRARY") or "hydrus"

# --- The tagger -----------------------------------------------------------------------------------
# A folder with model.safetensors, config.json and top_tags.txt. None: fetched once from the hub.
MODEL_DIR: str | None = os.environ.get("JOYTAG_MODEL_DIR") or None

# --- Tags -----------------------------------------------------------------------------------------
# The namespace of franchises.
SERIES_NAMESPACE = "series"

# Namespaces that cannot be seen in a picture: never reported as missing or wrong.
INVISIBLE_NAMESPACES = [
    "source",
    "filename",
    "date",
    "rating",
    "title",
    "meta",
    "page",
    "chapter",
    "volume",
    "url",
    "id",
]

# --- Detectors ------------------------------------------------------------------------------------
# Scripts that run beside the shipped detectors: docs/detectors.md. Three that are at hand: "find_unusual_images.py",
# "find_bad_sources.py" and "find_technical_faults.py".
OWN_DETECTORS: list[str] = []

# --- The page ---------------------------------------------------------------------------------------
HOST = "127.0.0.1"
PORT = 5000

if __name__ == "__main__":  # python config.py --check: is everything ready?
    import sys

    from tagcheck import interruption

    interruption.end_at_once()
    from tagcheck import doctor, script

    script.run(lambda: doctor.main(sys.modules[__name__]))
