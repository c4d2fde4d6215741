"""The idea of DiRL: a prior about cells, added to pretraining, spreads a vision transformer's attention.

A vision transformer that is pretrained on tissue tends to attend to few patch tokens. DiRL adds a *dense
loss* to a self-supervised objective (docs/method.md)::

    L = L_global + λ · L_dense

`L_global` is the vanilla objective: it matches the class tokens of two views of a tile. `L_dense` is the
same kind of objective for *region tokens*. A prior, the nuclei that a segmenter finds, divides a tile into
regions, for example nuclei and the rest of the tissue. Two views may show the same region. Then each view has
one token for this region, and the loss makes the two tokens similar. So the encoder has to represent every
region, and not only the most conspicuous one.

Controls replace the prior by something that is not cells. If DiRL beats vanilla but not its controls, the
cells are not the cause.

Read the files in this order. Each answers one question about the dense loss:

1. `regions`: which regions do nuclei make? (``dense.regions``)
2. `noise`: how are nuclei damaged, or moved for a control? (``dense.noise``, ``dense.control``)
3. `source`: where does a tile's map of region ids come from?
4. `coverage`, `matching`: which patch tokens belong to a region in a view, and which regions of two
   views correspond? (``dense.match``)
5. `tokens`: how does a region become one token (``dense.extract``), and which rows are compared
   (``dense.negatives``, in `merge_regions`)? The work of ``extract: cls`` is in
   `dirl.encoders.vit.block_with_regions`.
6. `metrics`: what is logged of the prior?
7. `dense_term`: the object `DenseTerm` holds the choices of all these steps for one run.

The dense loss itself is `dirl.objectives.base.Objective.dense_loss`, and its formulas are in
`dirl.objectives.losses`. The training step that uses both is `dirl.pretrain.module.PretrainModule`.
"""
