"""`python -m services.viewer`: Shows cameras and what they see to a person, on a page."""

from services.runtime.settings import read_settings
from services.viewer.server import run
from services.viewer.settings import ViewerSettings

if __name__ == "__main__":
    run(read_settings(ViewerSettings, "services.viewer", "Shows cameras and what they see to a person, on a page."))
