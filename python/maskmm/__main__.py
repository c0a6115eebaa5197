"""``python -m maskmm`` is the command ``maskmm``."""

from maskmm.cli import main

main()
