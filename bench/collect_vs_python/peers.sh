# Sourced: sets `peers` to the Python of a virtual environment with timm, torchvision, Pillow and h5py, which it makes.
venv=$root/build/peers-torch
if [[ ! -f $venv/ready ]]; then
  python3 -m venv "$venv" >&2
  "$venv/bin/pip" install -q -r "$root/bench/collect_vs_python/requirements.txt" >&2
  touch "$venv/ready"
fi
peers=$venv/bin/python
