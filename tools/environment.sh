# Sourced by the other scripts: goes to the checkout's root, and makes and fills .venv unless it is up to date.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=.venv/installed-from
if ! cmp -s pyproject.toml "$stamp"; then
    echo "Installing into .venv (torch is about 4.6 GB with its CUDA libraries: some minutes) …"
    [ -x .venv/bin/python ] || "${PYTHON:-python3}" -m venv .venv
    quiet=--quiet
    if [ -t 1 ]; then quiet=; fi # a person sees the downloads go on
    .venv/bin/python -m pip install $quiet --editable '.[dev]'
    cp pyproject.toml "$stamp"
fi
export PATH="$PWD/.venv/bin:$PATH"
