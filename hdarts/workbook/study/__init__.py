"""Studies: a YAML file of notebooks, named settings and seeds, expanded into runs before anything starts.

    study: quick
    title: DARTS and hyperDARTS on handwritten digits
    stages:
      search:
        notebook: 03_search
        parameters: {data: digits, channels: 4}          # for every run of the stage
        arms:                                            # named settings
          darts-first: {preset: search/darts-first}      # params/search/darts-first.yaml
          hyperdarts-1: {preset: search/hyperdarts-1, parameters: {noise: 0.1}}
          random: {preset: search/random}
        matrix: {search_seed: [2, 20]}                   # every combination
      select:
        notebook: 05_select
        each: {stage: search, by: arm, except: {arm: random}, as: searches}    # one run per arm, given a list of runs
      evaluate:
        notebook: 06_evaluate
        each:
          - {stage: select, as: genotype}                # one run for each selected run, given its name
          - {stage: search, where: {arm: random}, as: genotype}
        matrix: {evaluation_seed: [0, 1]}
      analysis: {notebook: 07_analysis, after: everything}

The matrix of an arm overrides that of its stage. `"learning_rate, alpha_learning_rate": [[0.025, 0.0003], [0.05,
0.0006]]` in it varies two parameters together. An entry of `each` can have `parameters` of its runs, and may leave no
run if it is `optional: true`. A study file can `include: [common.yaml]`; its entries override the included ones,
mapping by mapping. `--scale mini` overrides both by the entries of `scales: {mini: {about: ..., stages: ...}}`; the
study is then called `<study>-mini`. A stage or an arm that a scale sets to null is left out.

Later layers win: the notebook's parameters cell, preset of the stage, preset of the arm, parameters of the stage,
parameters of the arm, matrix, each. A stage refers only to earlier stages, so there are no circles. The labels of a run
(its arm, its matrix values, and those of the runs it was made for) are columns of `runs/<study>/runs.csv`.

An analysis shows the runs of the study that it is in, or of the one that `reads: other` in its stage names. If runs
have failed, it shows the others, and is made again when all are done.
"""

from hdarts.workbook.study.expand import PlannedRun
from hdarts.workbook.study.plan import Plan, changes, plan_study, read_runs, record_plan

__all__ = ["Plan", "PlannedRun", "changes", "plan_study", "read_runs", "record_plan"]
