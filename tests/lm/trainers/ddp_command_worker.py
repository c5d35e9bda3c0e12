"""One of two processes that train by the command, once per list of arguments: `torchrun … ddp_command_worker.py JSON`.

One pair of processes serves several trainings: importing the libraries takes longer than they do.
"""

import json
import sys

from lm.train.__main__ import main

for arguments in json.loads(sys.argv[1]):
    sys.argv = ["train", *arguments]
    main()
