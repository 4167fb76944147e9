"""Mistakes in a search, which tests/mutations.py makes one by one: each has to be caught by a plain search."""

NAMED = {  # mistake: file below hdarts/, text that occurs there once, its replacement
    "inner and outer batches swapped": (
        "search/loop.py", "for inner, outer, *more in progress(", "for outer, inner, *more in progress(",
    ),
    "weights step at the alpha before its step": (
        "search/steps.py", "        return state.alpha, epsilon\n", "        return state.alpha.clone(), epsilon\n",
    ),
    "last batch dropped": (
        "search/loop.py", "batches_left = pairs(params,",
        "batches_left = (lambda *given: list(pairs(*given))[:-1])(params,",
    ),
    "learning rate of the epoch before": (
        "search/loop.py", "rate = weight_rate(params, state.epoch,",
        "rate = weight_rate(params, max(state.epoch - 1, 0),",
    ),
    "cosine ends at 0": (
        "search/loop.py", "cosine(params.learning_rate, params.learning_rate_min,", "cosine(params.learning_rate, 0.0,",
    ),
    "no momentum in the look-ahead": ("search/setup.py", '"momentum": params.momentum,', '"momentum": 0.0,'),
    "difference divided by 2 and multiplied by eps": (
        "hypergradient/unrolling.py", "(plus - minus) / (2 * eps)", "(plus - minus) / 2 * eps",
    ),
    "alpha first where weights are": (
        "search/loop.py", 'step_on_batch() if params.order == "weights-first" and not together else None', "None",
    ),
    "rate of the epoch where the step's is": ("search/loop.py", "state.step / steps)", "0.0)"),
    "plain momentum where Nesterov's is": ("search/setup.py", "params.clip, params.nesterov)", "params.clip)"),
    "plain look-ahead of Nesterov's momentum": ("search/setup.py", ', "nesterov": params.nesterov}', "}"),
    "last short batch left out": ("data/batches.py", "int(not drop_last and rest >= 2 * processes)", "0"),
    "epoch ends with the shorter level": (
        "search/setup.py", "min(batches) if params.drop_last else max(batches)", "min(batches)",
    ),
    "no decay of alpha": (
        "search/alpha_step.py", "weight_decay=decay,\n        capturable", "weight_decay=0.0,\n        capturable",
    ),
    "Adam's default betas": ("search/alpha_step.py", "betas=(params.alpha_beta1, params.alpha_beta2),", ""),
    "no decay of the weights": ("kernels/output_layer.py", ".add_(value, alpha=decay)", ""),
    "clip without the rest": ("search/weights.py", " + [of_rest.square().sum()]", ""),
    "total instead of the part": ("search/loop.py", "part_of(hypergradient, params.part)", "hypergradient.total"),
    "augmented validation": (
        "search/validation.py", "    for batch in in_order(images, batch_size):",
        "    from hdarts.data import Augmentation, Batches\n"
        "    for batch in Batches(images, batch_size, Augmentation(1, True), drop_last=False).epoch(0, 'outer', 0):",
    ),
    "genotype of the epoch before": (
        "search/loop.py", "            return state.cell()\n",
        "            from hdarts.search.log import weights_at\n"
        "            return state.selection(weights_at(self.run, params.epochs - 1), state.space)\n",
    ),
    "noise left on": (
        "search/weights.py", "return self._at(self._input(alpha, alpha))",
        "return self._at(self._input(alpha, alpha + self.exploration.noise))",
    ),
    "noise in the weights alone": (
        "search/weights.py", "_inner_gradient(problem, self._at(z), a, batch)",
        "_inner_gradient(problem, self._at(z), alpha, batch)",
    ),
    "sum of the antithetic pair": ("search/weights.py", "g if len(signs) == 1 else g / len(signs)", "g"),
    "centred weights stay where they are": (
        "search/steps.py", "state.weights.follow(state.alpha - before)", "pass",
    ),
}  # fmt: skip
PARTS = {  # mistake: file below hdarts/, text that occurs there once, its replacement, the search that catches it
    "wrong sign of the scalars": (
        "search/parametrisation.py", "offsets=(h * (1 - one_hot)).sum(-1)", "offsets=(h * (one_hot - 1)).sum(-1)",
        "gdas, published",
    ),
    "temperature of the epoch before": (
        "search/relaxation.py", "value_at(stage.temperature, t, total)",
        "value_at(stage.temperature, max(0, t - 1), total)", "snas, bilevel",
    ),
    "Gumbel noise of the wrong sign": ("search/parametrisation.py", "alpha - draw.log()", "alpha + draw.log()", "snas"),
    "separate sample for alpha where there is one level": (
        "search/loop.py", '"inner" if stage.levels == "one" else "outer"', '"outer"', "snas",
    ),
    "alpha first where both step together": ("search/loop.py", "if together:", "if together and False:", "snas"),
    "alpha not clipped": (
        "search/steps.py", "gradient * clip_factor([gradient.square().sum()], clip)[1] if clip else gradient",
        "gradient", "snas",
    ),
    "term on the inner level": (
        "search/weights.py",
        """        return self.outcome(w, alpha, batch)[0]

    def outer(self, w: Tensor, alpha: Tensor, batch: Batch) -> Tensor:
        loss = self.outcome(w, alpha, batch)[0]
        return loss if self.outer_term is None else loss + self.outer_term(alpha)
""",
        """        loss = self.outcome(w, alpha, batch)[0]
        return loss if self.outer_term is None else loss + self.outer_term(alpha)

    def outer(self, w: Tensor, alpha: Tensor, batch: Batch) -> Tensor:
        return self.outcome(w, alpha, batch)[0]
""",
        "beta-darts, second order",
    ),
    "term of the epoch after": (
        "search/state.py", "value_at(params.outer_weight, *at)",
        "value_at(params.outer_weight, at[0] + 1, at[1])", "beta-darts in NAS-Bench-201",
    ),
    "term summed over edges": (
        "search/outer_term.py", "alpha.logsumexp(-1).mean(-1)", "alpha.logsumexp(-1).sum(-1)",
        "beta-darts in NAS-Bench-201",
    ),
    "term of the edge weights too": (
        "search/outer_term.py", "masked(alpha)[..., : len(model.space.operations)]", "masked(alpha)",
        "hyperdarts-centred with edge weights, partial channels and beta decay",
    ),
    "attack without projection": (
        "search/neighbourhood.py", "on_simplex(p + torch.maximum(torch.minimum(q - p, size), -size))", "on_simplex(q)",
        "sdarts-adv",
    ),
    "attack down the loss": ("search/neighbourhood.py", "q = q + 2 * size", "q = q - 2 * size", "sdarts-adv"),
    "perturbation not on the simplex": (
        "search/neighbourhood.py", "return on_simplex(p + size.to(p.dtype) * draw)",
        "return p + size.to(p.dtype) * draw", "sdarts-rs",
    ),
    "auxiliary skip of weight 0 in the last epoch": (
        "search/relaxation.py", "value_at(params.auxiliary_skip, t, total)",
        "value_at(params.auxiliary_skip, t, total - 1)", "darts-minus in NAS-Bench-201",
    ),
    "bypass not shuffled": (
        "supernet/mixture.py", "return joined(mixed, rest, weights, bypass[1:], compiled)",
        "return (all := torch.cat([mixed, rest[:, mixed.shape[1] :]], 1)), "
        "*split([all], self.groups, weights, bypass[1:], compiled, bool(following))", "pc-darts in NAS-Bench-201",
    ),
    "edge weights over all edges": (
        "search/parametrisation.py", "_per_node(alpha[..., -1:], space)", "alpha[..., -1:].softmax(1)",
        "pc-darts in NAS-Bench-201",
    ),
    "softmax of each edge where it is of a node": (
        "search/parametrisation.py", "rows.flatten(1).softmax(-1).view_as(rows)", "rows.softmax(-1)",
        "i-darts in NAS-Bench-201",
    ),
    "sum of the draw taken as constant": (
        "search/parametrisation.py", "Mixture(sample / sample.sum(-1, keepdim=True))",
        "Mixture(sample / draw.sum(-1, keepdim=True))", "drnas",
    ),
    "mean of the softmax where it is of the Dirichlet": (
        "search/parametrisation.py", "Parametrisation(dirichlet, dirichlet_mean,",
        "Parametrisation(dirichlet, _softmax_mean,", "drnas",
    ),
    "no smallest weight on the simplex": (
        "search/parametrisation.py", "theta.clamp_min(SMALLEST)", "theta", "gaea",
    ),
    "weights of edges that sum to 1 over the cell": (
        "search/parametrisation.py", "edges = [rows / rows.sum(1, keepdim=True) for rows in",
        "edges = [rows / theta[..., -1:].sum(1, keepdim=True) for rows in", "gaea in DARTS",
    ),
    "wrong sign of the zero-one term": (
        "search/outer_term.py", "return -(alpha.sigmoid()", "return (alpha.sigmoid()", "fairdarts",
    ),
    "the largest operations pruned": ("search/stages.py", "descending=True", "descending=False", "p_darts"),
    "dropout without its jump": (
        "search/stages.py", "math.exp(-0.2 * (t - self.warmup_epochs))", "(self.epochs - 1 - t) / self.epochs",
        "p_darts",
    ),
    "alpha frozen in the first stage only": (
        "search/loop.py", "state.epoch - stage.start < stage.warmup_epochs", "state.epoch < stage.warmup_epochs",
        "p_darts",
    ),
    "no cap on skip connections": (
        "search/selection.py", "return rule if params.max_skips is None else", "return rule if True else", "p_darts",
    ),
    "no threshold": ("search/selection.py", 'if params.selection == "threshold" else', "if False else", "fairdarts"),
    "DOTS's cell by its mixture weights": (
        "search/state.py", "self.relaxation.strength(", "self.relaxation.mean(", "dots",
    ),
}  # fmt: skip
