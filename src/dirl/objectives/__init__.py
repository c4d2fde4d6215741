"""Self-supervised objectives: the same loss on class tokens and on region tokens.

`base` holds what all objectives share, `teacher` the kinds with a teacher and with masking. Each objective
has a file of its own: `simclr` and `vicreg` without a teacher, `byol`, `moco`, `dino` and `dinov2` with one.
The regions come from `dirl.prior`.
"""
