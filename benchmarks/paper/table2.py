"""Table 2: rank fine-tuned language models for targets of medicine and finance.

    python benchmarks/paper/table2.py [--config offline] [--seeds 3] [--dry-run] ...

As table1.py, with targets whose domain none of the candidates' sources has; past tasks
are those of Table 1.
"""

from __future__ import annotations

from table1 import run

if __name__ == "__main__":
    run(__doc__, ("cross-domain",))
