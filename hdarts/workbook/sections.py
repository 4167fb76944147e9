"""The sections of notebook 07: the tables and figures of one study, one method per section.

Each method reads the run folders, shows its figures with captions, and writes its tables into the run folder of the
analysis, from which the report page takes them. Where a study has nothing for a section, it says so.
"""

import json
import re
from functools import cached_property

import pandas as pd
from IPython.display import Markdown, display

from hdarts import plots
from hdarts.params import SearchParams
from hdarts.runs.run import Run
from hdarts.search import make_hypernetwork
from hdarts.space import SPACES, Genotype
from hdarts.supernet import Supernet
from hdarts.workbook import claims
from hdarts.workbook.analysis import (
    diagnostics,
    differences,
    fidelity,
    instrument,
    interference,
    runs,
    size,
    statistics,
    sweeps,
    tables,
    truth,
)
from hdarts.workbook.captions import CELLS, FIDELITY, FIGURE_35, SEARCHES, TITLES
from hdarts.workbook.claims import thesis
from hdarts.workbook.claims.evidence import Evidence


class Sections:
    """The sections of an analysis `run` of a study; the head of the page has `found`, `checks` and `note`."""

    def __init__(self, study: str, run: Run):
        self.study, self.run = study, run
        self.show = plots.Gallery(run, runs.scale_note(study))
        self.of_thesis = runs.is_about_thesis(study)
        self.found: list[str] = []
        self.checks: list[str] = []

    @cached_property
    def results(self) -> pd.DataFrame:
        return tables.by_arm(self.study)

    @cached_property
    def missing(self) -> list[str]:
        return runs.unfinished_runs(self.study)

    @cached_property
    def epochs(self) -> pd.DataFrame:
        return tables.epochs(self.study)

    @cached_property
    def families(self) -> dict[str, pd.DataFrame]:
        return sweeps.find_sweeps(self.study)

    @cached_property
    def decided(self) -> pd.DataFrame:
        return instrument.decided_by_arm(self.study)

    @cached_property
    def primary(self) -> pd.DataFrame:
        return truth.comparisons(self.study)

    @cached_property
    def evidence(self) -> Evidence:
        return claims.read_evidence(self.study)

    @cached_property
    def verdicts(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The verdicts on the claims of the thesis, if the study is about it, and all tests of the page."""
        names = "true accuracy of " + self.primary["arm"] + " and " + self.primary["against"]
        first = dict(zip(names, self.primary["p"], strict=True))
        unsure = [] if self.decided.empty else list(self.decided.loc[~self.decided["enough"], "arm"])
        return claims.verdicts(self.evidence, first, unsure, None if self.of_thesis else ())

    @property
    def note(self) -> str:
        return statistics.family(len(self.verdicts[1]))

    def _table(self, name: str, table: pd.DataFrame, digits: int = 2, otherwise: str = "") -> bool:
        """Write a table and show it, or say in a sentence that there is none; return whether there is one."""
        self.run.write_table(name, table)
        if len(table):
            display(table.round(digits))
        elif otherwise:
            print(otherwise)
        return len(table) > 0

    def which_runs(self) -> None:
        """Say which runs are missing, and how many tests the page makes."""
        if self.results.empty:
            print(f"study {self.study!r} has no results yet: hdarts run params/studies/{self.study}.yaml")
        elif self.missing:
            print(f"{len(self.missing)} runs are missing from everything below:", *self.missing, sep="\n  ")
        else:
            print("all runs of the study are done")
        self.run.write_table("tests", self.verdicts[1])
        print(self.note)

    def could_it_see(self) -> None:
        """Check the instrument: decided edges, the known difference, equal budgets; these sentences head the page."""
        self._table("decided", self.decided)
        self.checks = [instrument.decided_note(self.decided), instrument.positive_control(self.study)]
        noise = truth.noise_note() if len(self.primary) else ""
        self.checks += filter(None, [instrument.unequal_budgets(self.study), noise])
        print(*self.checks, sep="\n")

    def primary_comparisons(self) -> None:
        """Show the comparisons that the study file named before its first run."""
        self._table("primary", self.primary, 4, "this study names no primary comparison")

    def what_was_found(self) -> None:
        """Say what differs and how sure that is; show one row per arm, and each arm minus the first."""
        found = differences.differences(self.study)
        self.found = differences.conclusions(found)
        print(*self.found, sep="\n\n")
        self._table("results", self.results)
        if self._table("differences", found, 3, "no two arms have runs with the same search seeds"):
            first = found["against"].iloc[0]
            caption = (
                f"Each arm minus {first}. Dots: pairs with the same search seed; lines: 95 % t intervals of their "
                "mean; brackets, where they fit in: the smallest difference that so many pairs would show (80 % power)."
            )
            self.show(plots.differences(found, differences.pairs(self.study)), "differences", caption)

    def searches(self) -> None:
        """Show how each search went: accuracy, skip connections, entropy, and what else was measured."""
        plain = sweeps.outside_sweeps(self.epochs, self.families)
        if plain.empty:
            return
        for name, draw, column, caption in SEARCHES:
            if column in plain and bool(plain[column].notna().any()):
                self.show(draw(plain), name, caption)
        if len(plain[["epoch", "learning_rate"]].drop_duplicates()) > len(set(plain["epoch"])):
            caption = "Learning rates of the weights. At the same epoch, a longer schedule has a higher rate."
            self.show(plots.schedules(plain), "schedules", caption)

    def what_was_varied(self) -> None:
        """Show one figure per sweep: searches that differ only in the parameters that their labels name."""
        for name, family in self.families.items():
            caption = f"Searches of {name}: search-validation accuracy, one line per search; bold lines are means."
            drawn = self.epochs.merge(family[["run", "setting"]], on="run")
            self.show(plots.sweep_curves(drawn, sweeps.label_names(family)), f"settings_{name}", caption)
            best = drawn.sort_values("validation_accuracy").drop_duplicates("run", keep="last")
            best = best[["run", "validation_accuracy"]].merge(family, on="run")
            if len(varied := sweeps.numeric_labels(family)) == 2:
                caption = (
                    f"Searches of {name}: best epoch over two parameters, means over seeds; framed: best of a row."
                )
                self.show(plots.sweep_map(best, *varied), f"map_{name}", caption)
            if "embedding" in varied:
                memory = family.merge(tables.peak_memory(self.study), on="run")
                caption = "Peak memory of a search over the length of the embedding vectors z (thesis section 5.3.1.1)."
                self.show(plots.sweep_memory(memory, "embedding"), f"memory_{name}", caption)
        if not self.families:
            print("no searches of this study differ only in parameters named by their labels")

    def true_accuracies(self) -> None:
        """Show what the cells are worth by the table of NAS-Bench-201, over time, cost and error of hypergradients."""
        epochs, ends = tables.true_accuracies(self.study), truth.final_cells(self.study)
        if ends.empty:
            print("no search of this study has true accuracies: its space, or the missing table, has none")
            return
        known = truth.reference_accuracies()
        if bool((epochs["epoch"] > 1).any()):
            caption = "True accuracy and skip connections of the cell derived after each epoch, over search time."
            self.show(plots.truth_over_time(epochs, known), "truth_over_time", caption)
        caption = "True accuracy of the cell that each search ended with; ticks are means."
        self.show(plots.strip(ends, "arm", "cifar10_test", lines=known), "truth", caption)
        if len(costs := truth.over_flops(self.study)):
            caption = (
                "What a search costs and what its cell is worth: a ring for each search, a dot for each arm's mean."
            )
            self.show(plots.truth_over_flops(costs), "truth_over_flops", caption)
        sizes = ends.join(pd.DataFrame([size.of_benchmark(cell) for cell in ends["cell"]], ends.index))
        caption = "True accuracy and size, in the benchmark's network, of the cell that each search ended with."
        self.show(plots.accuracy_over_size(sizes, truth.ACCURACY), "truth_over_size", caption)
        self._table("truth", truth.by_arm(self.study))
        if len(errors := truth.hypergradient_errors(self.study)):
            pair, arms = (errors["relative_error"], errors["cifar10_test"]), list(errors["arm"])
            rho = statistics.rank_correlation(*pair, groups=arms)
            caption = f"Does a better hypergradient find a better cell? A point per search: its method's error; {rho}."
            self.show(plots.error_against_truth(errors), "error_against_truth", caption)
        self._table("rankings", truth.rankings(self.study))
        self._table("lookups", truth.table_searches())

    def fidelity(self) -> None:
        """Show how well cheap evaluations and supernets rank cells, by the table of NAS-Bench-201, and at what cost."""
        found = fidelity.rankings(self.study)
        if not bool((found["predictor"] == fidelity.TRAINED).any()):
            print("this study did not train several cells of NAS-Bench-201 on CIFAR-10, or the table is missing")
            return
        self.found.append(fidelity.conclusion(found))
        print(self.found[-1])
        if len(found.dropna(subset=["tau", "flops"])):
            self.show(plots.tau_over_flops(found), "tau_over_flops", FIDELITY)
        self.run.write_table("fidelity_epochs", found)
        self._table("fidelity", fidelity.summary(found))

    def hypergradients(self) -> None:
        """Show both parts of the hypergradient along the searches, and how exact each method is at their snapshots."""
        norms = sweeps.outside_sweeps(tables.hypergradient_norms(self.study), self.families)
        if len(norms):
            caption = "Norms of the direct and the response part of the hypergradient along every search."
            self.show(plots.hypergradient_parts(norms), "hypergradient_parts", caption)
            caption = (
                "Both parts for each arm, means over seeds. The thesis's figure 32 shows three steps of hyperDARTS."
            )
            self.show(plots.hypergradient_magnitudes(norms), "hypergradient_magnitudes", caption)
        agreement, means = tables.snapshot_agreement(self.study), tables.mean_agreement(self.study)
        self.run.write_table("agreement", means)
        if len(agreement):
            caption = "Every method compared with the reference: total above, response below, one mark per snapshot."
            self.show(plots.agreement_by_arm(agreement, grey=diagnostics.REFERENCES[1:]), "agreement", caption)
            display(means.pivot(index=["part", "method"], columns="arm", values="relative_error").round(2))

    def interference(self) -> None:
        """Show what notebook 10 measured, for all seeds."""
        excess, tau, capacity = (
            interference.of_all_seeds(self.study, name) for name in ("excess", "rankings", "capacity")
        )
        if excess.empty:
            print("this study did not run notebook 10")
            return
        caption = "Excess loss of cells over their own optima, over the steps of training each alone; mean over cells."
        levels = excess.assign(level=excess["level"] + " loss")
        self.show(plots.lines(levels, "steps", "excess", "source", facet="level", each="seed"), "excess", caption)
        caption = (
            "Kendall's tau of the rankings of cells, with 95 % intervals (Fisher's z), before any training of a cell."
        )
        self.show(plots.rank_intervals(tau.loc[tau["steps"] == 0]), "ranking", caption)
        caption = (
            "Excess inner loss of cells with generated weights over the memory of the hypernetwork; mean over cells."
        )
        drawn = plots.lines(capacity, "kilobytes", "excess", "form", log="x", each="seed")
        self.show(drawn, "capacity", caption)

    def networks(self) -> None:
        """Show the accuracies of the networks that were trained from scratch, and of their classes."""
        tested, cells = tables.evaluations(self.study), tables.tested_cells(self.study)
        for number, (name, rows) in enumerate(tested.groupby("test", sort=False) if len(tested) else ()):
            more = "_" + re.sub(r"\W+", "-", str(name)) if number else ""
            caption = f"Test accuracy on {name} of every evaluation after its last epoch; ticks: their means."
            self.show(plots.strip(rows, "arm", tables.LAST), f"test_accuracy{more}", caption)
            known = cells.loc[(cells["test"] == name) & cells["validation_accuracy"].notna()]
            if len(known):
                pair, arms = (known["validation_accuracy"], known[tables.LAST]), list(known["arm"])
                rho = statistics.rank_correlation(*pair, groups=arms)
                caption = (
                    f"Does search-validation accuracy predict the test accuracy on {name}? A point per cell; {rho}."
                )
                self.show(plots.validation_against_test(known), f"validation_against_test{more}", caption)
            sizes = tables.sizes_of_tested(self.study)
            if len(sized := sizes.loc[sizes["test"] == name]):
                caption = (
                    f"Test accuracy on {name} and size of each tested cell; none beats in both those on the steps."
                )
                self.show(plots.accuracy_over_size(sized, tables.LAST), f"accuracy_over_size{more}", caption)
        self._table("classes", tables.class_accuracies(self.study), otherwise="no evaluation counted its classes")

    def cost(self) -> None:
        """Show the time of all searches and, for a study of the thesis, its figure 35."""
        if len(times := tables.search_seconds(self.study)):
            caption = "Time of each search on this machine, where other runs may have run at the same time."
            self.show(plots.seconds_by_arm(times), "seconds", caption)
        if self.of_thesis:
            self.show(plots.accuracy_and_cost(claims.accuracy_and_cost(self.study)), "accuracy_and_cost", FIGURE_35)

    def methods(self) -> None:
        """Draw one step of each method, its hypernetworks, and the cells that the study selected."""
        for arm, (model, run) in tables.methods(self.study).items():
            supernet = _supernet(model, run)
            generates = model.method == "hypernetwork"
            hypernetwork = make_hypernetwork(model, supernet) if generates else None
            figure = f" (thesis figure {15 if generates else 14})" * self.of_thesis
            caption = f"One step of {arm}, and the paths of both parts of the hypergradient{figure}."
            self.show(
                plots.draw_method(model.method, supernet, hypernetwork, model.steps), f"one_step_of_{arm}", caption
            )
            if hypernetwork:
                figures = " (thesis figures 21 and 24)" * self.of_thesis
                caption = f"{arm}: which hypernetwork generates which weights{figures}."
                self.show(plots.draw_hypernetworks(hypernetwork, supernet), f"hypernetworks_of_{arm}", caption)
        for arm, genotype in tables.selected_genotypes(self.study).items():
            caption = f"Cells found by {arm}, selected by search-validation accuracy."
            if self.of_thesis and arm in CELLS:
                caption += f" The thesis shows its cells in figure {CELLS[arm]}."
            self.show(plots.draw_genotype(Genotype.model_validate(genotype)), f"genotype_{arm}", caption)

    def intervals(self) -> None:
        """Show everything that was run with its interval, and the best of n searches beside that of n random cells."""
        self._table("intervals", claims.intervals(self.evidence))
        self._table("best_of_n", claims.best_of_n(self.evidence))

    def thesis(self) -> None:
        """Show the thesis compared with itself, and the verdicts on its claims, in a study that is about it."""
        if not self.of_thesis:
            print("this study is not about the thesis: its study file has no line `thesis: true`")
            return
        display(Markdown(thesis.ABOUT))
        wrong, deviations, equations = thesis.disagreements(), thesis.deviations(), thesis.equations()
        equations = equations.loc[equations["verdict"] != "right"]
        overfitting, significance = thesis.overfitting(), thesis.significance()
        for name, table in {
            "disagreements": wrong, "deviations": deviations, "equations": equations, "overfitting": overfitting,
            "significance": significance,
        }.items():  # fmt: skip
            self.run.write_table(name, table)
        print(f"{len(wrong)} of the {len(thesis.STATED)} statements that can be recomputed disagree:")
        display(claims.text_table(wrong))
        print(", ".join(f"{fits}: {n}" for fits, n in deviations["fits"].value_counts().items()))
        display(deviations.round(3), claims.text_table(equations), overfitting.round(2), significance.round(4))
        verdicts = self.verdicts[0]
        self.run.write_table("claims", verdicts)
        display(Markdown(claims.ABOUT))
        print(", ".join(f"{verdict}: {n}" for verdict, n in verdicts["verdict"].value_counts().items()))
        display(claims.with_links(verdicts, self.run.folder))

    def finish(self) -> None:
        """Name the tables for the report page, print the results, and write the result of the run."""
        titles = TITLES | thesis.TABLES
        written = {name: title for name, title in titles.items() if len(self.run.table(name))}
        self.run.write_text("tables.json", json.dumps(written))
        for row in self.results.to_dict("records"):
            if row.get("evaluations", 0) > 0:
                accuracy, cells = row["last_test_accuracy_mean"], row["cells_tested"]
                print(f"{row['arm']}: test accuracy of the last epoch {accuracy:.2f} %, mean over {cells:.0f} cells")
        if most := max(self.results["searches"].tolist() if len(self.results) else [0]):
            print(statistics.what_n_can_show(most))
        self.run.write_provenance()
        counts = {"arms": len(self.results), "missing": len(self.missing), "figures": len(self.show.captions)}
        counts |= {"tests": len(self.verdicts[1])}
        self.run.finish({"study": self.study, "found": self.found, "checks": self.checks, "note": self.note, **counts})


def _supernet(params: SearchParams, run: str) -> Supernet:
    """Return the supernet of a search, for the images that its provenance names."""
    images = size.seen(run)
    shape = (images.classes, images.shape[0])
    return Supernet(SPACES[params.space], params.channels, params.layers, *shape, stem=params.stem)
