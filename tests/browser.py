"""Chromium and a font for Chinese, for the browser tests: installed where missing, if root on a Debian-like system."""

import os
import shutil
import subprocess

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    """Path of the browser, or None."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def ensure() -> None:
    """Install what is missing where that is possible; otherwise say loudly what follows."""
    has_font = bool(shutil.which("fc-list")) and bool(subprocess.run(["fc-list", ":lang=zh"], capture_output=True).stdout.strip())
    if find() and has_font:
        return
    if os.name == "posix" and os.geteuid() == 0 and shutil.which("apt-get"):
        print("Installing Chromium and a Chinese font for the browser tests", flush=True)
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update", "-qq"], env=environment, check=False)
        done = subprocess.run(["apt-get", "install", "-y", "-qq", "chromium", "fonts-noto-cjk", "fontconfig"], env=environment,
                              stdout=subprocess.DEVNULL, check=False)
        if done.returncode == 0:
            return
    if not find():
        print("NO CHROMIUM: the browser tests will be SKIPPED; install Debian's `chromium` (and `fonts-noto-cjk`) to run them", flush=True)


if __name__ == "__main__":
    ensure()
