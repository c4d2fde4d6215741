"""Self-supervised objectives: the same loss on class tokens and on region tokens.

`base` holds the kinds of objectives: without a teacher, with one, and with masking. Each objective has a
file of its own: `simclr` and `vicreg` without a teacher, `byol`, `moco`, `dino` and `dinov2` with one.
`losses` has the losses of region rows. The regions come from `dirl.prior`.
"""
